"""How often tokens occur, and which keep a row; rare tokens take the direction of the most similar token that has."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from qwen25.distillation.rows import (
    LANGUAGES,
    Budget,
    Corpus,
    check_languages,
    frequencies_of,
    nearest,
    rank_frequencies,
    read_corpus,
    share_rows,
    token_use,
)
from qwen25.distillation.vocabulary import Vocabulary, static_vocabulary
from qwen25.runtime.errors import InputError
from qwen25.store.quantisation import STORAGES, quantise


@pytest.fixture(scope="module")
def plain(tiny_tokenizer: Tokenizer) -> Vocabulary:
    return static_vocabulary(tiny_tokenizer)


class TestCorpus:
    def test_lines_and_json_lines(self, tmp_path: Path) -> None:
        path = tmp_path / "texts"
        path.write_bytes(b"\xef\xbb\xbfthe first line\r\n\r\n  {another}  \r\n")
        corpus = read_corpus(path)
        assert corpus is not None and corpus.texts == ["the first line", "{another}"]
        path.write_text("\n".join(json.dumps({"id": i, "text": t}) for i, t in enumerate(["one\ntext", "", "café"])))
        corpus = read_corpus(path)
        assert corpus is not None and corpus.texts == ["one text", "café"]

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            ('{"body": "one"}\n{"body": "two"}', 'has a string "text"'),
            ('{"text": "one"}\n{"text": 2}', 'has a string "text"'),
            ('{"text": " "}\n', "holds no text"),
            (" \n\n", "holds no text"),
        ],
    )
    def test_a_file_without_texts_is_refused(self, tmp_path: Path, content: str, reason: str) -> None:
        path = tmp_path / "texts.jsonl"
        path.write_text(content)
        with pytest.raises(InputError, match=reason):
            read_corpus(path)


class TestFrequencies:
    def test_unused_and_special_tokens_have_the_last_ranks(self) -> None:
        words = ["[PAD]", "[unused0]", "[unused1]", "[UNK]", "the", "of", "word"]
        tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=words[3]))
        tokenizer.add_special_tokens(["[PAD]", "[UNK]"])
        frequencies = rank_frequencies(tokenizer)
        assert [words[i] for i in np.argsort(-frequencies)][:3] == ["the", "of", "word"]

    def test_a_corpus_counts_nine_tenths(self, plain: Vocabulary) -> None:
        found, source = frequencies_of(plain.tokenizer, Corpus(["the the the"], "abc"))
        zipf, _ = frequencies_of(plain.tokenizer, None)
        (row,) = set(plain.tokenizer.encode("the the").ids)
        expected = 0.1 * zipf
        expected[row] += 0.9
        np.testing.assert_allclose(found, expected)
        assert source == {"from": "corpus", "texts": 1, "sha256": "abc"}

    def test_languages_without_a_word_list_are_named(self) -> None:
        check_languages(LANGUAGES)
        for languages in (["en", "xx"], ()):
            with pytest.raises(InputError, match="there are word lists for ar"):
                check_languages(languages)

    def test_words_of_the_languages_and_of_the_corpus_are_used_most(self, plain: Vocabulary) -> None:
        by_words, by_corpus = (
            token_use(plain.tokenizer, corpus, ("en",)) for corpus in (None, Corpus(["password kernel"] * 9, ""))
        )
        rank = {name: np.argsort(np.argsort(-use)) for name, use in (("words", by_words), ("corpus", by_corpus))}
        (the,) = plain.tokenizer.encode("the").ids
        rows = plain.tokenizer.encode("password kernel").ids
        assert rank["words"][the] < 5
        assert max(rank["corpus"][rows]) <= 10 < max(rank["words"][rows])

    def test_what_no_text_has_is_used_last(self, tiny_tokenizer: Tokenizer) -> None:
        spec = json.loads(static_vocabulary(tiny_tokenizer).tokenizer.to_str())
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        merges = [("a", "1"), ("a", "b"), *(("Ġ" * n, "Ġ" * n) for n in (1, 2, 4, 8, 16))]  # the pattern parts a from 1
        tokens = [*sorted(alphabet), *("".join(merge) for merge in merges)]
        spec["model"] |= {"vocab": {token: i for i, token in enumerate(tokens)}, "merges": [list(m) for m in merges]}
        tokenizer = Tokenizer.from_str(json.dumps(spec))
        use = token_use(tokenizer, Corpus(["text"], ""))
        assert [tokens[i] for i in np.flatnonzero(use == 0)] == ["a1", "Ġ" * 32]


class TestBudget:
    def test_all_tokens_keep_a_row_where_they_fit(self) -> None:
        assert Budget(math.inf, "float32").rows(151_643, 1024) == 151_643
        assert Budget(2, "int8").rows(1000, 1024) == 1000
        assert Budget(65, "int8").rows(151_643, 1024) == 62_290

    def test_what_cannot_be_shared_is_refused_at_once(self, plain: Vocabulary) -> None:
        with pytest.raises(InputError, match="256 single characters"):
            Budget(0.02, "int8").checked_rows(plain.tokenizer, len(plain), 64)
        words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(999)}, unk_token="w0"))  # noqa: S106
        assert Budget(9, "int8").checked_rows(words, 999, 64) == 999
        with pytest.raises(InputError, match="--max-size-mb none"):
            Budget(0.05, "int8").checked_rows(words, 999, 64)

    def test_custom_words_keep_their_rows(self) -> None:
        table = np.random.default_rng(0).standard_normal((400, 64), dtype=np.float32)
        sharing = Budget(0.02, "int8", use=np.r_[np.linspace(1, 0, 397), np.full(3, np.inf)]).shared(table)
        assert sharing is not None and set(sharing.kept) >= {397, 398, 399}
        stored = quantise(table, "int8", sharing)
        assert stored.table.nbytes + 8 * 400 + 1024 <= 20_000 < stored.table.nbytes + 64 + 8 * 400 + 1024


def cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return (left * right).sum(axis=1) / (np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1))


class TestSharing:
    @pytest.fixture
    def vectors(self) -> np.ndarray:
        """Pairs of similar vectors, the second of each pair longer."""
        generator = np.random.default_rng(0)
        first = generator.standard_normal((200, 64), dtype=np.float32)
        second = 3 * (first + 0.1 * generator.standard_normal(first.shape, dtype=np.float32))
        return np.stack([first, second], axis=1).reshape(400, 64)

    @pytest.mark.parametrize("storage", STORAGES)
    def test_a_token_without_a_row_takes_its_likes_direction_at_its_own_length(
        self, vectors: np.ndarray, storage: str
    ) -> None:
        sharing = share_rows(vectors, np.tile([1.0, 0.0], 200), 200)
        found = quantise(vectors, storage, sharing)
        assert found.table.shape == (200, 64) and (sharing.kept == np.arange(0, 400, 2)).all()
        assert cosines(found.vectors()[1::2], vectors[::2]).min() > 0.9995
        assert np.linalg.norm(found.vectors(), axis=1) == pytest.approx(np.linalg.norm(vectors, axis=1), rel=0.01)

    def test_the_shortlist_finds_what_a_full_search_finds(self) -> None:
        generator = np.random.default_rng(1)
        rows = generator.standard_normal((500, 512), dtype=np.float32)
        queries = rows[generator.integers(0, 500, 300)] + generator.standard_normal((300, 512), dtype=np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        queries /= np.linalg.norm(queries, axis=1, keepdims=True)
        assert (nearest(queries, rows) == (queries @ rows.T).argmax(axis=1)).all()
