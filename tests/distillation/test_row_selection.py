"""Which tokens become rows: those that text needs, and a tokenizer of them that stays the full one's."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from conftest import REAL_TOKENIZER
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from qwen25.distillation.row_selection import first_merges, most_used_rows
from qwen25.distillation.token_use import LANGUAGES, check_languages, text_use, token_use
from qwen25.distillation.vocabulary import Vocabulary, static_vocabulary
from qwen25.runtime.errors import InputError
from qwen25.store.quantisation import quantise, rows_within
from qwen25.store.static_model import load_model, write_model

SENTENCES = {
    "en": "The weather will be fine tomorrow, so we could go to the park together.",
    "de": "Das Wetter wird morgen schön, deshalb könnten wir zusammen in den Park gehen.",
    "ru": "Завтра будет хорошая погода, поэтому мы могли бы вместе пойти в парк.",
    "zh": "明天天气会很好,我们可以一起去公园。",
    "ar": "سيكون الطقس جميلا غدا لذلك يمكننا الذهاب إلى الحديقة معا",
    "code": "def mean(values: list[float]) -> float:\n    return sum(values) / len(values)\n",
}


@pytest.fixture(scope="module")
def tiny_small(tiny_tokenizer: Tokenizer) -> Tokenizer:
    return first_merges(static_vocabulary(tiny_tokenizer), 300).tokenizer


@pytest.fixture(scope="module")
def used(tiny_tokenizer: Tokenizer) -> tuple[Vocabulary, Vocabulary]:
    """A vocabulary, and a part of it chosen by what a few languages need."""
    whole = static_vocabulary(tiny_tokenizer)
    return whole, most_used_rows(whole, token_use(whole.tokenizer, ("en", "fr")), 700)


@pytest.fixture(scope="module")
def real() -> Vocabulary:
    if not REAL_TOKENIZER.exists():
        pytest.skip("the real Qwen2.5 tokenizer is not here")
    return static_vocabulary(Tokenizer.from_file(str(REAL_TOKENIZER)))


def check_same_where_all_are_kept(whole: Vocabulary, part: Vocabulary, text: str) -> bool:
    """Check that a text gets the full tokenizer's tokens where all of them are kept; return whether they are."""
    expected = whole.teacher_ids[whole.tokenizer.encode(text).ids].tolist()
    found = part.teacher_ids[part.tokenizer.encode(text).ids].tolist()
    kept = set(expected) <= set(part.teacher_ids.tolist())
    assert not kept or found == expected
    return kept


class TestFewerRows:
    SCRIPTS = "Ascii é ß Ωμέγα Привет 你好 こんにちは 한국어 नमस्ते العربية עברית ไทย 🙂 \u0301 \x00\t\n"

    @pytest.mark.parametrize("rows", [257, 300, 1000])
    def test_no_text_is_lost(self, tiny_tokenizer: Tokenizer, rows: int) -> None:
        small = first_merges(static_vocabulary(tiny_tokenizer), rows)
        assert len(small) == small.tokenizer.get_vocab_size() == rows
        assert small.tokenizer.decode(small.tokenizer.encode(self.SCRIPTS).ids) == " " + self.SCRIPTS

    @given(text=st.text(min_size=1, max_size=40))
    @settings(max_examples=200, deadline=None)
    def test_any_text_still_encodes(self, tiny_small: Tokenizer, text: str) -> None:
        ids = tiny_small.encode(text).ids
        assert tiny_small.decode(ids) == " " + unicodedata.normalize("NFC", text)

    def test_rows_keep_their_meaning(self, tiny_tokenizer: Tokenizer) -> None:
        """A row of the small vocabulary stands for the same teacher token as before."""
        small = first_merges(static_vocabulary(tiny_tokenizer), 700)
        names = {i: token for token, i in tiny_tokenizer.get_vocab().items()}
        rows = {i: token for token, i in small.tokenizer.get_vocab().items()}
        assert [names[i] for i in small.teacher_ids] == [rows[i] for i in range(len(small))]

    def test_enough_room_changes_nothing(self, tiny_tokenizer: Tokenizer) -> None:
        whole = static_vocabulary(tiny_tokenizer)
        assert first_merges(whole, 10**6) is whole

    def test_too_little_room_is_refused(self, tiny_tokenizer: Tokenizer) -> None:
        with pytest.raises(InputError, match="256 single characters"):
            first_merges(static_vocabulary(tiny_tokenizer), 256)


class TestUse:
    @given(text=st.text(min_size=1, max_size=40))
    @settings(max_examples=200, deadline=None)
    def test_any_text_keeps_the_full_tokenizers_tokens(self, used: tuple[Vocabulary, Vocabulary], text: str) -> None:
        whole, part = used
        check_same_where_all_are_kept(whole, part, text)
        assert part.tokenizer.decode(part.tokenizer.encode(text).ids) == " " + unicodedata.normalize("NFC", text)

    def test_words_of_the_languages_are_kept_before_others(self, tiny_tokenizer: Tokenizer) -> None:
        whole = static_vocabulary(tiny_tokenizer)
        use = np.zeros(len(whole))
        rare = max(whole.tokenizer.encode("The function returns the value").ids)
        use[rare] = 1.0
        part = most_used_rows(whole, use, 300)
        assert whole.teacher_ids[rare] in part.teacher_ids
        assert whole.teacher_ids[rare] not in first_merges(whole, 300).teacher_ids

    def test_a_users_own_texts_decide(self, tiny_tokenizer: Tokenizer) -> None:
        whole = static_vocabulary(tiny_tokenizer)
        text = "a kernel regression estimates the conditional expectation of a random variable"
        use = text_use(whole.tokenizer, [text] * 3)
        part = most_used_rows(whole, use, 300)
        assert check_same_where_all_are_kept(whole, part, text)

    def test_languages_without_a_word_list_are_named(self) -> None:
        check_languages(LANGUAGES)
        with pytest.raises(InputError, match="no word list for xx; there are ar"):
            check_languages(["en", "xx"])
        with pytest.raises(InputError, match="--languages names none; there are"):
            check_languages(())


class TestRealVocabulary:
    """The promise of the default: 65 MB at 1024 dimensions, with a tokenizer that loses no text."""

    @pytest.fixture(scope="class")
    def part(self, real: Vocabulary) -> Vocabulary:
        return most_used_rows(real, token_use(real.tokenizer), rows_within(65, 1024, "int8"))

    def test_the_file_has_65_mb(self, part: Vocabulary, tmp_path: Path) -> None:
        vectors = np.random.default_rng(0).standard_normal((len(part), 1024), dtype=np.float32)
        metadata = {
            "name": "random",
            "dims": 1024,
            "layers": [0],
            "vocabulary": {"tokens": len(part)},
            "teacher": {"name": "random", "origin": "folder", "layers": 1},
            "recipe": {"name": "default", "sif": 5e-4, "whitening": 0.5},
        }
        folder = tmp_path / "model"
        folder.mkdir()
        write_model(folder, quantise(vectors, "int8"), part.tokenizer, metadata)
        assert 64.9e6 < (folder / "model.safetensors").stat().st_size <= 65e6
        assert load_model(folder).dim == 1024

    @pytest.fixture(scope="class")
    def merges(self, real: Vocabulary, part: Vocabulary) -> Vocabulary:
        return first_merges(real, len(part) // 2)

    @pytest.mark.parametrize("language", list(SENTENCES))
    def test_everyday_text_keeps_most_of_its_tokens(
        self, real: Vocabulary, part: Vocabulary, merges: Vocabulary, language: str
    ) -> None:
        text = SENTENCES[language]
        check_same_where_all_are_kept(real, part, text)
        whole, small = len(real.tokenizer.encode(text).ids), len(part.tokenizer.encode(text).ids)
        assert small <= 1.35 * whole
        assert small < len(merges.tokenizer.encode(text).ids) or language in ("en", "code")

    def test_long_white_space_has_no_row_of_its_own(self, part: Vocabulary) -> None:
        assert max(len(token) for token in part.tokenizer.get_vocab() if not token.strip("Ġ")) <= 16
