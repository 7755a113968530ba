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
BLOCKS = """
61-7A 41-5A 30-39 21-2F C0-17F 370-3FF 400-4FF 531-586 5D0-5EA 621-669 901-97F 981-9FE B82-BFA E01-E5B E81-EDF
1000-109F 10A0-10FF 1200-135A 1780-17F9 1100-11FF 1680-169C 1E00-1EFF 1F00-1FFE 2070-209C 2190-21FF 2200-22FF
2460-24FF 3041-3096 30A1-30FA 4E00-9FFF AC00-D7A3 300-36F F900-FA6D FF21-FF5A 1D400-1D433 1F300-1F5FF 1F600-1F64F
"""
CODE = [
    "def f(x):\n    return x ** 2",
    "for (i=0; i<10; i++) {",
    "\t\tif a == b && c:",
    "# don't, we'LL, they'RE",
    "x_1 = 0x1F",
]
SPACES = [
    " ",
    " ",
    " ",
    "  ",
    "   ",
    "\n",
    "\r\n",
    "\n\n\n",
    "\t",
    "\u00a0",
    "\u2003",
    "\u3000",
    " \n ",
    "\u200b",
    "\u200d",
    "\ufe0f",
]


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
            low, high = (int(end, 16) for end in chance.choice(BLOCKS.split()).split("-"))
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
