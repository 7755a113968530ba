"""A saved model segments text as its teacher does, save for one space before the first word."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import REAL_TOKENIZER, SPECIAL_TOKENS
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from qwen25.distillation.custom_words import read_words, with_words
from qwen25.distillation.frequencies import rank_frequencies, zipf_frequencies
from qwen25.distillation.vocabulary import (
    Vocabulary,
    static_vocabulary,
)
from qwen25.runtime.errors import InputError

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
    teacher = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))  # noqa: S106
    teacher.normalizer = normalizers.BertNormalizer()
    teacher.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    teacher.add_special_tokens(["[UNK]", "[CLS]", "[SEP]"])
    static = static_vocabulary(teacher)
    assert static.teacher_ids.tolist() == list(range(6))
    assert static.tokenizer.encode("Hello worlds").tokens == ["hello", "world", "##s"]


class TestCustomWords:
    @pytest.mark.parametrize("text", ["kubernetes", "We like kubernetes a lot", "(kubernetes)"])
    def test_a_word_gets_its_own_row(self, tiny_tokenizer: Tokenizer, text: str) -> None:
        plain = static_vocabulary(tiny_tokenizer)
        static = with_words(plain, ["kubernetes", "machine learning"])
        assert len(plain) in static.tokenizer.encode(text).ids

    def test_the_rest_of_the_text_is_as_before(self, tiny_tokenizer: Tokenizer) -> None:
        plain = static_vocabulary(tiny_tokenizer)
        static = with_words(plain, ["machine learning"])
        ids = static.tokenizer.encode("We use machine learning for code").ids
        at = ids.index(len(plain))
        assert ids[:at] == plain.tokenizer.encode("We use").ids
        assert ids[at + 1 :] == plain.tokenizer.encode("for code").ids

    def test_part_of_another_word_is_no_match(self, tiny_tokenizer: Tokenizer) -> None:
        plain = static_vocabulary(tiny_tokenizer)
        static = with_words(plain, ["cat"])
        assert max(static.tokenizer.encode("concatenate").ids) < len(plain)

    def test_its_state_comes_from_its_pieces(self, tiny_tokenizer: Tokenizer) -> None:
        static = with_words(static_vocabulary(tiny_tokenizer), ["kubernetes"])
        assert static.sequences[-1] == tiny_tokenizer.encode(" kubernetes").ids
        assert len(static.sequences) == len(static)

    def test_reading_the_file(self, tmp_path: Path) -> None:
        path = tmp_path / "words.txt"
        path.write_text("kubernetes\n\n machine   learning \nkubernetes\n", encoding="utf-8")
        assert read_words(path) == ["kubernetes", "machine learning"]
        path.write_text("\n")
        with pytest.raises(InputError):
            read_words(path)
        with pytest.raises(InputError):
            read_words(tmp_path / "absent.txt")


def test_zipf_frequencies() -> None:
    frequencies = zipf_frequencies(1000)
    assert frequencies.sum() == pytest.approx(1)
    assert (np.diff(frequencies) < 0).all()
    assert frequencies[0] / frequencies[8] == pytest.approx(5)


def test_unused_and_special_tokens_have_the_last_ranks() -> None:
    words = ["[PAD]", "[unused0]", "[unused1]", "[UNK]", "the", "of", "word"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=words[3]))
    tokenizer.add_special_tokens(["[PAD]", "[UNK]"])
    frequencies = rank_frequencies(Vocabulary(tokenizer, np.arange(len(words))))
    assert [words[i] for i in np.argsort(-frequencies)][:3] == ["the", "of", "word"]
    assert frequencies.sum() == pytest.approx(1)
