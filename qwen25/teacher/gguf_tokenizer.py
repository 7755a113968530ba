"""The byte-level BPE tokenizer that a GGUF file describes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

from qwen25.runtime.errors import InputError

#: GGUF's name of a pre-tokenizer -> the pattern of its Split step (None: digits one by one).
_GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2_PATTERN = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
GGUF_PRE_TOKENIZERS = {"smollm": None, "qwen2": QWEN2_PATTERN, "llama-bpe": _LLAMA3, "gpt-2": _GPT2, "default": _GPT2}


def gguf_tokenizer(path: Path) -> Tokenizer:
    """Build the byte-level BPE tokenizer that a GGUF file describes.

    transformers' own conversion of GGUF tokenizers does not survive a save and reload for every
    model, so the tokens and merges are taken from the file as they stand.
    """
    from gguf import GGUFReader

    fields = GGUFReader(path).fields

    def value(key: str) -> Any:
        return fields[key].contents() if key in fields else None

    kind, pre = value("tokenizer.ggml.model"), value("tokenizer.ggml.pre") or "default"
    if kind != "gpt2" or pre not in GGUF_PRE_TOKENIZERS:
        known = ", ".join(GGUF_PRE_TOKENIZERS)
        raise InputError(f"{path.name}: tokenizer {kind}/{pre} is not supported (byte-level BPE with {known} is)")
    tokens, merges = value("tokenizer.ggml.tokens"), value("tokenizer.ggml.merges")
    tokenizer = Tokenizer(
        models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=[tuple(m.split(" ")) for m in merges])
    )
    pattern = GGUF_PRE_TOKENIZERS[pre]
    if pattern is None:
        split: Any = pre_tokenizers.Digits(individual_digits=True)
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    else:
        split = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    control = 3  # GGUF's token type of special tokens
    types = value("tokenizer.ggml.token_type") or []
    special = [t for t, kind in zip(tokens, types, strict=False) if kind == control]
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    return tokenizer
