"""The byte-level BPE tokenizer that a GGUF file describes.

The file names the pre-tokenizer, and leaves to the reader what goes with it: Qwen2's normalisation, Llama 3's whole
words before merges. Its tokens have types: ordinary, control, user-defined (text that is never split) and unused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from qwen25.runtime.errors import InputError

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


def gguf_tokenizer(path: Path) -> Tokenizer:
    """Build the byte-level BPE tokenizer that a GGUF file describes.

    transformers' own conversion of GGUF tokenizers does not survive a save and reload for every
    model, so the tokens and merges are taken from the file as they stand.

    :raises InputError: if it describes another kind of tokenizer.
    """
    from gguf import GGUFReader

    fields = GGUFReader(path).fields

    def value(key: str) -> Any:
        return fields[key].contents() if key in fields else None

    kind, pre = value("tokenizer.ggml.model"), value("tokenizer.ggml.pre") or "default"
    if kind != "gpt2" or pre not in GGUF_PRE_TOKENIZERS:
        known = ", ".join(GGUF_PRE_TOKENIZERS)
        raise InputError(f"{path.name}: tokenizer {kind}/{pre} is not supported (byte-level BPE with {known} is)")
    implied = GGUF_PRE_TOKENIZERS[pre]
    tokens, merges = value("tokenizer.ggml.tokens"), value("tokenizer.ggml.merges")
    types = value("tokenizer.ggml.token_type") or [1] * len(tokens)
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
