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
    from transformers import PretrainedConfig

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


class GgufWeights:
    """Reads a GGUF file's tensors; packed ones are unpacked to float32, embedding tables by the row.

    The file is mapped only while it is read: pages of a mapping that stays open count as this process's memory.
    """

    def __init__(self, path: Path, config: PretrainedConfig) -> None:
        """Find the tensors; none of another architecture."""
        from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

        self._path = path
        self._heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
        self._is_llama = config.model_type == "llama"
        self._tensors, kind = _read(path)[1], config.model_type
        architectures = [one for one, name in MODEL_ARCH_NAMES.items() if name == kind and kind in ARCHITECTURES]
        self._names: Any = get_tensor_name_map(architectures[0], config.num_hidden_layers) if architectures else None

    def __contains__(self, name: str) -> bool:
        """Whether a tensor is there, by transformers' name of it."""
        return self._names is not None and self._name(name) in self._tensors

    def _name(self, name: str) -> str:
        """Return GGUF's name of a tensor."""
        return self._names.get_name(f"model.{name}", (".weight", ".bias"))

    def length(self, name: str) -> int:
        """Return the number of a tensor's rows."""
        return self._tensors[self._name(name)].shape[0]

    def read(self, name: str) -> torch.Tensor:
        """Return a tensor; float32."""
        import torch

        values = self._unpacked(name, slice(None))
        module = name.split(".")[-2]
        if self._is_llama and module in self._heads:
            values = unpaired(values, self._heads[module])
        return torch.from_numpy(values)

    def rows(self, name: str, ids: torch.Tensor) -> torch.Tensor:
        """Return some rows of a matrix; float32."""
        import torch

        return torch.from_numpy(self._unpacked(name, ids.numpy()))

    def _unpacked(self, name: str, rows: np.ndarray | slice) -> np.ndarray:
        from gguf.quants import dequantize

        tensor = self._tensors[self._name(name)]
        stored = np.memmap(self._path, tensor.dtype, "r", tensor.offset, tensor.shape)
        values = dequantize(np.asarray(stored)[rows], tensor.packing)
        # What was stored in float32 is still the mapping itself.
        return values if values.flags.writeable else np.array(values, dtype=np.float32)


def unpaired(values: np.ndarray, heads: int) -> np.ndarray:
    """Put a head's rows back in order: GGUF's llama pairs row i with row i + head_dim / 2 for its rotation."""
    paired: Any = values.reshape(heads, -1, 2, *values.shape[1:])
    return np.ascontiguousarray(paired.swapaxes(1, 2).reshape(values.shape))
