"""Tokenizers out of GGUF files equal the ones that the models were released with."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from conftest import REAL_TOKENIZER, SPECIAL_TOKENS
from tokenizers import Tokenizer

from qwen25.distillation.static_tokenizer import static_tokenizer
from qwen25.store.packaged import PACKAGED, cache_folder, packaged_path
from qwen25.store.wheels import is_complete
from qwen25.teacher.gguf_tokenizer import gguf_tokenizer

#: First and last character of the blocks that texts are made of: Latin, digits, Greek, Cyrillic, Armenian, Hebrew,
#: Arabic, Devanagari, Bengali, Tamil, Thai, Lao, Burmese, Georgian, Ethiopic, Khmer, conjoining Jamo, Ogham, more Latin
#: and Greek, small digits, arrows, mathematics, circled digits, Hiragana, Katakana, Han, Hangul, combining marks,
#: compatibility forms, full width, mathematical letters, pictures and emoji.
BLOCKS = [
    (0x61, 0x7A), (0x41, 0x5A), (0x30, 0x39), (0x21, 0x2F), (0xC0, 0x17F), (0x370, 0x3FF), (0x400, 0x4FF),
    (0x531, 0x586), (0x5D0, 0x5EA), (0x621, 0x669), (0x901, 0x97F), (0x981, 0x9FE), (0xB82, 0xBFA), (0xE01, 0xE5B),
    (0xE81, 0xEDF), (0x1000, 0x109F), (0x10A0, 0x10FF), (0x1200, 0x135A), (0x1780, 0x17F9), (0x1100, 0x11FF),
    (0x1680, 0x169C), (0x1E00, 0x1EFF), (0x1F00, 0x1FFE), (0x2070, 0x209C), (0x2190, 0x21FF), (0x2200, 0x22FF),
    (0x2460, 0x24FF), (0x3041, 0x3096), (0x30A1, 0x30FA), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0x300, 0x36F),
    (0xF900, 0xFA6D), (0xFF21, 0xFF5A), (0x1D400, 0x1D433), (0x1F300, 0x1F5FF), (0x1F600, 0x1F64F),
]  # fmt: skip
CODE = [
    "def f(x):\n    return x ** 2", "for (i=0; i<10; i++) {", "\t\tif a == b && c:", "# don't, we'LL, they'RE",
    "x_1 = 0x1F",
]  # fmt: skip
SPACES = [
    " ", " ", " ", "  ", "   ", "\n", "\r\n", "\n\n\n", "\t", "\u00a0", "\u2003", "\u3000", " \n ", "\u200b", "\u200d",
    "\ufe0f",
]  # fmt: skip


def varied_strings(count: int) -> list[str]:
    """Return strings of all scripts, composed and decomposed, with code, emoji, digits and white space.

    They are the same at every call.
    """
    chance = np.random.default_rng(7)

    def one_of(choices: list[str]) -> str:
        return choices[chance.integers(len(choices))]

    strings = []
    for _ in range(count):
        text = ""
        for _ in range(chance.integers(1, 7)):
            low, high = BLOCKS[chance.integers(len(BLOCKS))]
            word = "".join(map(chr, chance.integers(low, high + 1, size=chance.integers(1, 8))))
            text += one_of([word, word, word.title(), one_of(CODE)]) + one_of(SPACES)
        strings.append(one_of([text, text.strip(), unicodedata.normalize("NFD", text)]))
    return strings


def write_tokenizer(path: Path, tokenizer: Tokenizer, pre: str, padding: int = 3) -> Path:
    """Write a GGUF file of a byte-level BPE tokenizer, its special tokens and ``padding`` unused ones."""
    from gguf import GGUFWriter

    spec = json.loads(tokenizer.to_str())
    size = tokenizer.get_vocab_size()
    names = {i: token for token, i in tokenizer.get_vocab(with_added_tokens=True).items()}
    control = {token["id"]: 3 if token["special"] else 4 for token in spec["added_tokens"]}
    writer = GGUFWriter(path, "qwen2")
    writer.add_block_count(1)
    writer.add_string("tokenizer.ggml.model", "gpt2")
    writer.add_string("tokenizer.ggml.pre", pre)
    tokens = [names[i] for i in range(size)] + [f"[PAD{size + i}]" for i in range(padding)]
    writer.add_array("tokenizer.ggml.tokens", tokens)
    writer.add_array("tokenizer.ggml.token_type", [control.get(i, 1) for i in range(size)] + [5] * padding)
    writer.add_array("tokenizer.ggml.merges", [" ".join(merge) for merge in spec["model"]["merges"]])
    writer.add_tensor("blk.0.attn_norm.weight", np.ones(8, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def assert_equal(static: Tokenizer, teacher: Tokenizer, strings: list[str]) -> None:
    expected = teacher.encode_batch([" " + text for text in strings], add_special_tokens=False)
    found = static.encode_batch(strings)
    different = [text for text, e, f in zip(strings, expected, found, strict=True) if e.tokens != f.tokens]
    assert not different, f"{len(different)} of {len(strings)}, such as {different[:3]!r}"


def test_a_tiny_qwen_tokenizer(tmp_path: Path, tiny_tokenizer: Tokenizer) -> None:
    """Composed form, control tokens and unused ones: all that the header does not say in so many words."""
    static = static_tokenizer(gguf_tokenizer(write_tokenizer(tmp_path / "tiny.gguf", tiny_tokenizer, "qwen2")))
    assert_equal(static.tokenizer, tiny_tokenizer, varied_strings(1000))
    assert len(static.teacher_ids) == tiny_tokenizer.get_vocab_size() - len(SPECIAL_TOKENS)
    assert static.added == {}


def test_words_that_are_tokens_are_taken_whole_by_llama(tmp_path: Path, tiny_tokenizer: Tokenizer) -> None:
    """Llama 3 has tokens to which no merges lead; other tokenizers split them."""
    spec = json.loads(tiny_tokenizer.to_str())
    spec["model"]["vocab"]["Ġzzyzzy"] = len(spec["model"]["vocab"])
    spec["added_tokens"] = []
    orphan = Tokenizer.from_str(json.dumps(spec))
    tokens = {
        pre: gguf_tokenizer(write_tokenizer(tmp_path / f"{pre}.gguf", orphan, pre)).encode("a zzyzzy").tokens
        for pre in ("llama-bpe", "qwen2")
    }
    assert tokens["llama-bpe"] == ["a", "Ġzzyzzy"]
    assert len(tokens["qwen2"]) > 2


def test_user_defined_tokens_are_added_words(tmp_path: Path, tiny_tokenizer: Tokenizer) -> None:
    more = Tokenizer.from_str(tiny_tokenizer.to_str())
    more.add_tokens(["kubernetes", "<tool_call>"])
    teacher = gguf_tokenizer(write_tokenizer(tmp_path / "tiny.gguf", more, "qwen2"))
    assert teacher.encode("a kubernetes<tool_call>").tokens[-2:] == ["kubernetes", "<tool_call>"]
    static = static_tokenizer(teacher)
    assert static.added == {"kubernetes": more.token_to_id("kubernetes")}
    assert len(static.teacher_ids) == tiny_tokenizer.get_vocab_size() - len(SPECIAL_TOKENS)


@pytest.mark.slow
@pytest.mark.skipif(not REAL_TOKENIZER.exists(), reason="the real tokenizer lies in a folder beside the checkout")
@pytest.mark.parametrize("name", ["qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b"])
def test_the_real_qwen_tokenizer(name: str) -> None:
    if not is_complete(cache_folder() / name, PACKAGED[name].files):
        pytest.skip(f"{name} is not in the cache, and is large: a run with --teacher {name} fetches it")
    static = static_tokenizer(gguf_tokenizer(packaged_path(name)))
    assert len(static.teacher_ids) == 151_643
    assert static.added == {}
    assert_equal(static.tokenizer, Tokenizer.from_file(str(REAL_TOKENIZER)), varied_strings(6000))
