"""A GGUF file: its header checked, its tokenizer built, its tensors unpacked one at a time."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from qwen25.runtime.errors import InputError, as_input_error

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2_PATTERN = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")


class _Implied(NamedTuple):
    """What the name of a pre-tokenizer stands for.

    :ivar pattern: of the Split step; None: digits one by one.
    :ivar nfc: whether text is brought to Unicode's composed form first.
    :ivar ignore_merges: whether a word that is a token is taken whole, even if merges would not lead to it.
    """

    pattern: str | None
    nfc: bool = False
    ignore_merges: bool = False


#: GGUF's name of a pre-tokenizer -> what it implies.
GGUF_PRE_TOKENIZERS = {
    "smollm": _Implied(None),
    "qwen2": _Implied(QWEN2_PATTERN, nfc=True),
    "llama-bpe": _Implied(_LLAMA3, ignore_merges=True),
    "gpt-2": _Implied(_GPT2),
    "default": _Implied(_GPT2),
}
#: GGUF's types of tokens.
_CONTROL, _USER_DEFINED, _UNUSED = 3, 4, 5

#: The architectures whose tensors are read one by one: what a file packs differently is known of them.
ARCHITECTURES = ("llama", "qwen2", "qwen3")
#: How many rows of a tensor are unpacked at a time.
_ROWS = 1024


class _PackedTensor(NamedTuple):
    """Where a tensor lies in a GGUF file, and how it is packed; each row is packed on its own."""

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype
    packing: Any


def check_gguf(path: Path) -> None:
    """Check that a GGUF file is whole; raises InputError if it is damaged, or a part of a split one."""
    if (parts := _read(path)[0].get("split.count", 1)) > 1:
        raise InputError(
            f"{path.name} is one of the {parts} parts of a split file: join them with llama.cpp's "
            "llama-gguf-split --merge FIRST-PART JOINED.gguf, and give the joined file"
        )


@lru_cache(maxsize=2)
def _read(path: Path) -> tuple[dict[str, Any], dict[str, _PackedTensor]]:
    """Return the header's values, and the tensors by GGUF's names; once: its vocabulary takes seconds."""
    from gguf import GGUFReader

    with as_input_error(f"{path.name} is damaged", "fetch it again"):
        reader = GGUFReader(path)
        if path.stat().st_size < max((t.data_offset + t.n_bytes for t in reader.tensors), default=0):
            raise EOFError("it ends before what its header announces")
        values = {key: field.contents() for key, field in reader.fields.items()}
        tensors = {
            t.name: _PackedTensor(int(t.data_offset), tuple(t.data.shape), t.data.dtype, t.tensor_type)
            for t in reader.tensors
        }
    return values, tensors


def gguf_tokenizer(path: Path) -> Tokenizer:
    """Build the byte-level BPE tokenizer that a GGUF file describes.

    The file names the pre-tokenizer, and leaves to the reader what goes with it: Qwen2's normalisation, Llama 3's
    whole words before merges. Its tokens have types: ordinary, control, user-defined (text that is never split) and
    unused. transformers' own conversion does not survive a save and reload for every model, so tokens and merges are
    taken from the file as they stand.

    :raises InputError: if it describes another kind of tokenizer.
    """
    values, _ = _read(path)
    kind, pre = values.get("tokenizer.ggml.model", "gpt2"), values.get("tokenizer.ggml.pre", "default")
    if kind != "gpt2" or pre not in GGUF_PRE_TOKENIZERS:
        known = ", ".join(GGUF_PRE_TOKENIZERS)
        raise InputError(
            f"{path.name}: tokenizer {kind}/{pre} is not supported (byte-level BPE, gpt2, with {known} is): take the "
            "same model's folder with safetensors weights"
        )
    implied = GGUF_PRE_TOKENIZERS[pre]
    tokens, merges = values["tokenizer.ggml.tokens"], values["tokenizer.ggml.merges"]
    types = values.get("tokenizer.ggml.token_type", [1] * len(tokens))
    vocabulary = {t: i for i, (t, kind) in enumerate(zip(tokens, types, strict=True)) if kind != _UNUSED}
    pairs = [tuple(merge.split(" ")) for merge in merges]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs, ignore_merges=implied.ignore_merges))
    if implied.nfc:
        tokenizer.normalizer = normalizers.NFC()
    if implied.pattern is None:
        split: Any = pre_tokenizers.Digits(individual_digits=True)
    else:
        split = pre_tokenizers.Split(Regex(implied.pattern), behavior="isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=implied.pattern is None)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    for token, kind in zip(tokens, types, strict=True):
        if kind == _CONTROL:
            tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False)])
        elif kind == _USER_DEFINED:
            tokenizer.add_tokens([AddedToken(token, normalized=False)])
    return tokenizer


def fill_from_gguf(model: PreTrainedModel, path: Path) -> None:
    """Give a model without memory its weights, each in the number format that the model has it in.

    They are unpacked to float32 a few rows at a time, so that only what the model keeps takes memory.

    :raises KeyError: if the file lacks a tensor.
    :raises ValueError: if one has another number of rows than the model's.
    """
    import torch
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map
    from gguf.quants import dequantize

    config, tensors, filled = model.config, _read(path)[1], {}
    architecture = next(one for one, name in MODEL_ARCH_NAMES.items() if name == config.model_type)
    names: Any = get_tensor_name_map(architecture, config.num_hidden_layers)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, empty in model.named_parameters():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        known = name if name.startswith(("model.", "lm_head.")) else f"model.{name}"
        tensor = tensors[names.get_name(known, (".weight", ".bias"))]
        if tensor.shape[0] != len(empty):
            raise ValueError(f"{name} has {tensor.shape[0]} rows, not {len(empty)} as its configuration says")
        filled[name] = values = torch.empty(empty.shape, dtype=empty.dtype)
        for start in range(0, len(values), _ROWS):
            # Mapped anew for each part: pages of a mapping that stays open count as this process's memory.
            stored = np.memmap(path, tensor.dtype, "r", tensor.offset, tensor.shape)[start : start + _ROWS]
            values[start : start + _ROWS] = torch.from_numpy(dequantize(np.array(stored), tensor.packing))
        if config.model_type == "llama" and (module := name.split(".")[-2]) in heads:
            values.copy_(unpaired(values, heads[module]))
    model.load_state_dict(filled, strict=False, assign=True)
    model.tie_weights()


def unpaired(values: torch.Tensor, heads: int) -> torch.Tensor:
    """Put a head's rows back in order: GGUF's llama pairs row i with row i + head_dim / 2 for its rotation."""
    paired = values.view(heads, -1, 2, *values.shape[1:])
    return paired.transpose(1, 2).reshape(values.shape)
