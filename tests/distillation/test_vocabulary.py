"""A model's rows: it segments text as its teacher does, save for one space before the first word; and custom words."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pytest
from conftest import REAL_TOKENIZER, SPECIAL_TOKENS
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from qwen25.distillation.vocabulary import (
    PRESETS,
    Vocabulary,
    read_words,
    static_vocabulary,
    vocabulary_files,
    with_added,
    with_words,
)
from qwen25.runtime.errors import InputError
from qwen25.runtime.files import resource

SENTENCE = "It's 2024, hello world (yes)"


@pytest.fixture(scope="module")
def real() -> Tokenizer:
    if not REAL_TOKENIZER.exists():
        pytest.skip("the real Qwen2.5 tokenizer is not beside this checkout")
    return Tokenizer.from_file(str(REAL_TOKENIZER))


@pytest.fixture(scope="module")
def real_static(real: Tokenizer) -> Vocabulary:
    return static_vocabulary(real)


def test_rows_point_at_the_teachers_ids(tiny_tokenizer: Tokenizer) -> None:
    static = static_vocabulary(tiny_tokenizer)
    rows = static.tokenizer.encode(SENTENCE).ids
    assert static.teacher_ids[rows].tolist() == tiny_tokenizer.encode(" " + SENTENCE).ids


def test_control_tokens_are_text_to_a_static_model(tiny_tokenizer: Tokenizer) -> None:
    static = static_vocabulary(tiny_tokenizer)
    assert len(static) == tiny_tokenizer.get_vocab_size() - len(SPECIAL_TOKENS)
    assert not set(static.tokenizer.encode("a <|im_start|> b").tokens) & set(SPECIAL_TOKENS)


@given(text=st.text(max_size=60).filter(lambda t: t and not any(s in t for s in SPECIAL_TOKENS)))
@settings(max_examples=300, deadline=None)
def test_real_qwen_any_text(real: Tokenizer, real_static: Vocabulary, text: str) -> None:
    assert real_static.tokenizer.encode(text).tokens == real.encode(" " + text).tokens


@pytest.fixture(scope="module")
def plain(tiny_tokenizer: Tokenizer) -> Vocabulary:
    return static_vocabulary(tiny_tokenizer)


def rows_of(vocabulary: Vocabulary, text: str, plain: Vocabulary) -> list[int]:
    """Return which of the words, by their numbers, a text holds."""
    return [row - len(plain) for row in vocabulary.tokenizer.encode(text).ids if row >= len(plain)]


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("kubernetes", "We like kubernetes a lot"),
        ("kubernetes", "(kubernetes)"),
        ("machine learning", "We use machine learning."),
        ("café", "the cafe\u0301 is open"),
        ("cafe\u0301", "the café is open"),
        ("机器学习", "我喜欢机器学习和编程"),
        ("機械学習", "これは機械学習です"),
        ("การเรียนรู้", "ฉันชอบการเรียนรู้ของเครื่อง"),
        ("C++", "in C++ it is"),
    ],
)
def test_a_word_is_found(plain: Vocabulary, word: str, text: str) -> None:
    assert rows_of(with_words(plain, [word], {}), text, plain) == [0]


@pytest.fixture(scope="module")
def one_phrase(plain: Vocabulary) -> Vocabulary:
    return with_words(plain, ["qz word"], {})


@given(before=st.text(max_size=12), behind=st.text(max_size=12))
@settings(max_examples=150, deadline=None)
def test_the_rest_of_the_text_stays_as_it_was(
    plain: Vocabulary, one_phrase: Vocabulary, before: str, behind: str
) -> None:
    """Whatever stands before and behind a phrase in brackets, its tokens are those that it has without the phrase."""
    before, behind = (unicodedata.normalize("NFC", part) for part in (before + "(", ")" + behind))
    expected = [*plain.tokenizer.encode(before).ids, len(plain)]
    found = one_phrase.tokenizer.encode(f"{before}qz word{behind}").ids
    assert found[: len(expected)] == expected
    # Behind it there is no space that the text does not have.
    assert one_phrase.tokenizer.decode(found[len(expected) :]) == behind


def test_an_uncased_teacher_finds_any_case() -> None:
    letters = "abcdefghijklmnopqrstuvwxyz"
    tokens = ["[UNK]", "we", "run", "and", *letters, *(f"##{letter}" for letter in letters)]
    tokenizer = Tokenizer(models.WordPiece({t: i for i, t in enumerate(tokens)}, unk_token="[UNK]"))  # noqa: S106
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    plain = static_vocabulary(tokenizer)
    vocabulary = with_words(plain, ["Kubernetes", "数学", "kubernetes", "Éclair"], {})  # one is unknown to it
    assert len(vocabulary) == vocabulary.tokenizer.get_vocab_size() == len(plain) + 2
    assert rows_of(vocabulary, "we run KUBERNETES and eclair", plain) == [0, 1]


class TestGlossary:
    def test_the_files(self, tmp_path: Path) -> None:
        first, second = tmp_path / "first.tsv", tmp_path / "second.tsv"
        first.write_bytes("\ufeffSS \t stainless  steel\r\nbolt\r\n\r\n\tnut\nwear out\tfail\nscrew\t\n".encode())
        second.write_text("SS\tsteamship\nbolt\tmetal pin\nnut\nmachine\u00a0learning\na\u2028b\n")
        meanings = {"SS": "steamship", "wear out": "fail", "bolt": "metal pin", "Wear out": "fail"}
        assert read_words([first, second]) == (["nut", "screw", "machine learning", "a b"], meanings)
        first.write_text(" \n")
        assert read_words(first) == ([], {})
        first.write_bytes("café".encode("latin-1"))
        with pytest.raises(InputError, match="save it as UTF-8"):
            read_words(first)

    def test_names(self, tmp_path: Path) -> None:
        path = tmp_path / "idioms"
        path.write_text("x")
        assert [found.name for found in vocabulary_files(("idioms", "abbreviations", path))] == [
            "idioms.tsv",
            "abbreviations.tsv",
            "idioms",
        ]
        assert vocabulary_files(path) == [path]
        with pytest.raises(InputError, match=r"no vocabulary 'idiom': give a file, or idioms or abbreviations$"):
            vocabulary_files(["idiom"])

    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("SS bolts, (SS) and SSH", ["SS", "SS"]),
            ("SS", ["SS"]),
            ("an SS hex bolt", ["SS hex bolt"]),
            ("two SS hex bolts", []),  # each form needs a line
            ("sweetheart attack", []),
            ("a heart attack, a big heart attack", ["heart attack", "big heart"]),
            ("heart, attack\nheart  attack", ["heart", "heart"]),  # one space, nothing else
            ("the the_", ["the"]),  # one token of the teacher's, whose row stays as it is
        ],
    )
    def test_found_as_whole_words_the_longest_first(self, plain: Vocabulary, text: str, found: list[str]) -> None:
        words, meanings = ["heart", "heart attack", "big heart"], {"SS": "steel", "SS hex bolt": "screw", "the": "this"}
        vocabulary = with_words(plain, words, meanings)
        assert len(vocabulary) == len(plain) + len(words)
        tokenizer = with_added(plain.tokenizer, vocabulary.added_tokens)
        rows = [row - len(plain) for row in tokenizer.encode(text).ids]
        assert [[*words, *meanings][row] for row in rows if row >= 0] == found

    def test_packaged_lists_are_found_in_every_line(self, plain: Vocabulary) -> None:
        words, meanings = read_words(PRESETS)
        vocabulary = with_words(plain, words, meanings)
        assert not words
        assert list(vocabulary.meanings) == list(meanings)
        assert all(len(meaning.split()) <= 8 for meaning in meanings.values())

    def test_packaged_lists_teach_no_item(self) -> None:
        def words_of(text: str) -> list[str]:
            return re.findall(r"[\w']+", text.lower().replace("\u2019", "'"))

        data = resource("data/vocabulary").parent
        files = [path for kind in ("evaluation", "calibration") for path in (data / kind).glob("*.jsonl")]
        assert len(files) == 12
        items = [word for path in files for word in words_of(path.read_text(encoding="utf-8").replace("\\n", " "))]
        phrases = {tuple(words_of(phrase)) for phrase in read_words(PRESETS)[1] if " " in phrase}
        lengths = {len(phrase) for phrase in phrases}
        runs = {tuple(items[i : i + length]) for length in lengths for i in range(len(items))}
        assert len(phrases) > 3000
        assert not phrases & runs

    def test_their_licence_is_said(self) -> None:
        assert "Licence: Apache-2.0" in (resource("data/vocabulary") / "README.md").read_text(encoding="utf-8")


def test_a_words_state_comes_from_its_pieces(plain: Vocabulary, tiny_tokenizer: Tokenizer) -> None:
    words = with_words(plain, ["kubernetes"], {})
    assert words.sequences[-1] == tiny_tokenizer.encode(" kubernetes").ids
    assert len(words.sequences) == len(words)
