"""What a teacher's folder holds that cannot be distilled, said before anything large is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import safe_open

from qwen25.runtime.errors import InputError
from qwen25.runtime.files import read_json

#: What quantised weights bring beside them, or are called instead.
_QUANTISED = (
    ".weight_scale",
    ".weight_scale_inv",
    ".input_scale",
    ".qweight",
    ".qzeros",
    ".scales",
    ".g_idx",
    ".absmax",
    ".weight_packed",
    ".quant_map",
)
_UNQUANTISED = "take the unquantised model, which it was made from"


def check_folder(folder: Path, name: str) -> None:
    """Refuse a folder whose weights are not those of a plain decoder or encoder.

    :raises InputError: if it holds an adapter, quantised weights or an encoder-decoder, or no configuration.
    """
    if (folder / "adapter_config.json").is_file():
        raise InputError(
            f"teacher {name} holds an adapter that is not merged into its weights: merge it first "
            "(peft: merge_and_unload, then save_pretrained), and give the merged folder"
        )
    if not (folder / "config.json").is_file():
        files = sorted(path.name for path in folder.iterdir() if path.suffix.lower() == ".gguf")
        advice = f"; give one of its GGUF files, such as {files[0]}" if files else ""
        raise InputError(f"{name} is no model folder: it has no config.json{advice}")
    config = read_json(folder / "config.json")
    if not isinstance(config, dict):
        return  # transformers says what is wrong
    if _has_two_sides(config):
        raise InputError(
            f"teacher {name} is an encoder-decoder ({config.get('model_type')}), whose tokens have two sets of states: "
            "take a decoder or an encoder"
        )
    if isinstance(found := config.get("quantization_config") or config.get("compression_config"), dict):
        raise InputError(f"teacher {name} is quantised ({found.get('quant_method', 'unknown method')}): {_UNQUANTISED}")
    for path in sorted(folder.glob("*.safetensors")):
        _check_weights(path, name)


def _has_two_sides(config: dict[str, Any]) -> bool:
    """Whether a model has an encoder and a decoder, or is one half of such a model, whose classes load the whole."""
    from transformers.models.auto import modeling_auto

    if config.get("is_encoder_decoder") is True:
        return True
    kind = config.get("model_type")
    halves = set(modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES)
    halves -= set(modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    # One with a text model in it reads sounds or pictures, and its text model may be a decoder.
    return isinstance(kind, str) and kind in halves and "text_config" not in config


def _check_weights(path: Path, name: str) -> None:
    """Refuse quantised weights whose configuration does not say that they are."""
    try:
        with safe_open(path, framework="pt") as file:
            for tensor in file.keys():  # noqa: SIM118, an open file is no dictionary
                if tensor.endswith(_QUANTISED) or file.get_slice(tensor).get_dtype().startswith(("F8", "F4", "F6")):
                    raise InputError(f"teacher {name} is quantised ({path.name} holds {tensor}): {_UNQUANTISED}")
    except InputError:
        raise
    except Exception:  # noqa: S110, a damaged file is for its reader to name, with the tensor that was wanted
        pass


def check_heads(name: str, config: Any) -> None:
    """Refuse a text model's configuration whose attention heads cannot share its key-value heads.

    :raises InputError: if they cannot.
    """
    heads = getattr(config, "num_attention_heads", None)
    shared = getattr(config, "num_key_value_heads", None)
    if isinstance(heads, int) and isinstance(shared, int) and (shared < 1 or heads % shared):
        raise InputError(
            f"teacher {name}: its configuration contradicts itself ({heads} attention heads cannot share {shared} "
            "key-value heads); download it again, or correct its config.json"
        )


def sees_only_before(config: Any, architectures: Any) -> bool | None:
    """Whether a model's tokens see only those before them; by its type and configuration, not by its head's name.

    :param config: of the text model.
    :param architectures: of the whole model, for types that transformers has no language models of.
    :return: None if nothing says so.
    """
    from transformers.models.auto import modeling_auto

    if getattr(config, "use_bidirectional_attention", None) or getattr(config, "is_causal", None) is False:
        return False
    kind = config.model_type
    if kind in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES:  # many of them can be decoders, too
        return getattr(config, "is_decoder", False) is True
    if kind in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return True
    if not isinstance(architectures, list) or not architectures or not all(isinstance(a, str) for a in architectures):
        return None
    return any(name.endswith(("ForCausalLM", "ForConditionalGeneration")) for name in architectures)
