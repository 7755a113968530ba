"""A saved model segments text as its teacher does, save for one space before the first word."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import REAL_TOKENIZER, SPECIAL_TOKENS
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from qwen25.vocabulary import static_vocabulary, zipf_frequencies

SENTENCE = "It's 2024, hello world (yes)"


@pytest.fixture(scope="module")
def real() -> Tokenizer:
    if not REAL_TOKENIZER.exists():
        pytest.skip("the real Qwen2.5 tokenizer is not beside this checkout")
    return Tokenizer.from_file(str(REAL_TOKENIZER))


@pytest.fixture(scope="module")
def real_static(real: Tokenizer) -> Tokenizer:
    return static_vocabulary(real).tokenizer


@pytest.fixture(scope="module")
def tiny_static(tiny_tokenizer: Tokenizer) -> Tokenizer:
    return static_vocabulary(tiny_tokenizer).tokenizer


@given(text=st.text(max_size=60).filter(lambda t: t and not any(s in t for s in SPECIAL_TOKENS)))
@settings(max_examples=300, deadline=None)
def test_any_text_is_segmented_as_by_the_teacher_after_a_space(
    tiny_tokenizer: Tokenizer, tiny_static: Tokenizer, text: str
) -> None:
    assert tiny_static.encode(text).tokens == tiny_tokenizer.encode(" " + text).tokens


def test_rows_point_at_the_teachers_ids(tiny_tokenizer: Tokenizer) -> None:
    static = static_vocabulary(tiny_tokenizer)
    rows = static.tokenizer.encode(SENTENCE).ids
    assert static.teacher_ids[rows].tolist() == tiny_tokenizer.encode(" " + SENTENCE).ids


def test_control_tokens_are_text_to_a_static_model(tiny_tokenizer: Tokenizer) -> None:
    static = static_vocabulary(tiny_tokenizer)
    assert len(static) == tiny_tokenizer.get_vocab_size() - len(SPECIAL_TOKENS)
    assert not set(static.tokenizer.encode("a <|im_start|> b").tokens) & set(SPECIAL_TOKENS)


def test_nothing_in_gives_nothing_out(tiny_tokenizer: Tokenizer) -> None:
    assert static_vocabulary(tiny_tokenizer).tokenizer.encode("").ids == []


def test_real_qwen_sentence(real_static: Tokenizer) -> None:
    tokens = real_static.encode(SENTENCE).tokens
    assert tokens == ["ĠIt", "'s", "Ġ", "2", "0", "2", "4", ",", "Ġhello", "Ġworld", "Ġ(", "yes", ")"]


@given(text=st.text(max_size=60).filter(lambda t: t and not any(s in t for s in SPECIAL_TOKENS)))
@settings(max_examples=300, deadline=None)
def test_real_qwen_any_text(real: Tokenizer, real_static: Tokenizer, text: str) -> None:
    assert real_static.encode(text).tokens == real.encode(" " + text).tokens


def test_real_qwen_size(real: Tokenizer) -> None:
    assert len(static_vocabulary(real)) == 151_643


def test_wordpiece_keeps_its_vocabulary() -> None:
    vocabulary = {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "hello": 3, "world": 4, "##s": 5}
    teacher = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    teacher.normalizer = normalizers.BertNormalizer()
    teacher.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    teacher.add_special_tokens(["[UNK]", "[CLS]", "[SEP]"])
    static = static_vocabulary(teacher)
    assert static.teacher_ids.tolist() == list(range(6))
    assert static.tokenizer.encode("Hello worlds").tokens == ["hello", "world", "##s"]


def test_zipf_frequencies() -> None:
    frequencies = zipf_frequencies(1000)
    assert frequencies.sum() == pytest.approx(1)
    assert (np.diff(frequencies) < 0).all()
    assert frequencies[0] / frequencies[8] == pytest.approx(5)
