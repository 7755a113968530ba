"""How often tokens occur, and which of them keep a row where a size has room for fewer rows than tokens.

Those that running text needs most keep theirs: a merge order is an order of frequency in the texts that the tokenizer
was trained on, mostly English and code, so word lists say what other languages need. Every other token takes the
direction of the most similar token that has a row, and keeps its own length. Taking it out of the tokenizer loses twice
as much or more: its text falls into shorter tokens of other meanings (docs/LOG.md).
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tokenizers import Tokenizer, decoders, normalizers

from qwen25.distillation.vocabulary import is_byte_level
from qwen25.runtime.display import progress
from qwen25.runtime.errors import InputError, logger
from qwen25.runtime.files import read_lines
from qwen25.store.quantisation import Sharing, rows_within

#: The share of Zipf's law that is mixed into counted frequencies, so that no token that is absent by chance gets none.
ZIPF_SHARE = 0.1
#: The six official languages of the United Nations, and six more that the teachers and their users speak.
LANGUAGES = ("en", "zh", "es", "fr", "de", "pt", "it", "ru", "ja", "ko", "ar", "hi")
#: English is written and asked in more than any other; measured against once, six and twelve times in docs/LOG.md.
ENGLISH_TIMES = 3
#: Languages that write no space between words.
UNSPACED = ("zh", "ja")
#: The share of Zipf's law over the merge order in what text needs.
MERGE_ORDER_SHARE = 0.3
#: How often a word is written with a capital letter, of 1.
CAPITALISED = 0.1
#: The most frequent words of a list; its small form, down to one in a million, is read in a tenth of the time.
WORDS = 50_000
#: Texts that are encoded at a time.
BATCH = 10_000
#: Longer white space is hardly met in text.
LONGEST_SPACE = 16
#: The dimensions that candidates are found by: a table's first ones say most. They are compared in all.
SHORTLIST_DIMS = 256
CANDIDATES = 16
_CHUNK_ROWS = 512


class Corpus(NamedTuple):
    """A user's own texts, and the hash of their file."""

    texts: list[str]
    sha256: str


def read_corpus(path: Path | None) -> Corpus | None:
    """Read a user's own texts, one a line, or JSON Lines with a field ``text``; gzip is inflated. No path: no corpus.

    :raises InputError: if the file cannot be read, is not UTF-8 or holds no text.
    """
    if path is None:
        return None
    file = read_lines(path, "corpus")
    texts = [line.strip() for line in file.lines if line.strip()]
    if texts and re.match(r'{\s*"', texts[0]):
        try:
            texts = [" ".join(json.loads(line)["text"].split()) for line in texts]
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(f'the corpus {path} is JSON Lines, and not every line has a string "text"') from error
    texts = [text for text in texts if text]
    if not texts:
        raise InputError(f"the corpus {path} holds no text: it needs one a line")
    # A file of another kind is noticed so.
    logger.info("    corpus: %s texts; the first: %.60s", f"{len(texts):,}", texts[0])
    return Corpus(texts, file.sha256)


def zipf_frequencies(rows: int) -> np.ndarray:
    """Return the token probabilities that Zipf's law gives to ranks in row order; shape (rows,).

    A BPE's merge order is an order of frequency; p(r) is proportional to 1 / (r + 2), r from 0, as in model2vec.
    """
    inverse = 1.0 / np.arange(2, rows + 2)
    return inverse / inverse.sum()


def rank_frequencies(tokenizer: Tokenizer) -> np.ndarray:
    """Return Zipf's probabilities of a static tokenizer's tokens, by their order; shape (tokens,).

    A WordPiece vocabulary begins with special and unused tokens, which text never has: they come last.
    """
    tokens = tokenizer.get_vocab(with_added_tokens=True)
    special = {i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    unused = re.compile(r"[\[<]unused\d+[\]>]")
    never = {row for token, row in tokens.items() if row in special or unused.fullmatch(token)}
    order = sorted(range(len(tokens)), key=lambda row: row in never)
    frequencies = np.empty(len(tokens))
    frequencies[order] = zipf_frequencies(len(tokens))
    return frequencies


def frequencies_of(tokenizer: Tokenizer, corpus: Corpus | None) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the tokens' probabilities in a corpus, with a tenth of Zipf's law, or by Zipf's law alone.

    :return: probabilities of shape (tokens,); and where they are from, for the metadata.
    """
    by_rank = rank_frequencies(tokenizer)
    if corpus is None:
        return by_rank, {"from": "zipf"}
    counts = _counts(tokenizer, corpus.texts)
    counted = (1 - ZIPF_SHARE) * counts / counts.sum() + ZIPF_SHARE * by_rank
    return counted, {"from": "corpus", "texts": len(corpus.texts), "sha256": corpus.sha256}


def check_languages(languages: Sequence[str]) -> None:
    """Raise InputError unless there is a word list for each language, and at least one is given."""
    from wordfreq import available_languages

    known = available_languages("small")
    if not languages or not known.keys() >= set(languages):
        raise InputError(f"--languages {','.join(languages)}: there are word lists for {', '.join(sorted(known))}")


def token_use(tokenizer: Tokenizer, corpus: Corpus | None, languages: Sequence[str] = LANGUAGES) -> np.ndarray:
    """Return how much running text needs each token; shape (tokens,), 0 for tokens that no text has.

    :param tokenizer: a static model's, a byte-level BPE, whose ids are row numbers in merge order.
    :param corpus: a user's own texts; None: the words of the languages (ISO 639-1 codes) decide.
    """
    if corpus:
        counts = _counts(tokenizer, corpus.texts)
        use = counts / counts.sum()
    else:
        bare = Tokenizer.from_str(tokenizer.to_str())
        bare.normalizer = normalizers.Sequence([])  # words inside a text have no space of the model's own before them
        times = [ENGLISH_TIMES if language == "en" else 1 for language in languages]
        use = np.average([_in_language(bare, one) for one in languages], axis=0, weights=times)
    # The merge order stands for code, and all else that word lists and texts do not hold.
    use = (1 - MERGE_ORDER_SHARE) * use + MERGE_ORDER_SHARE * zipf_frequencies(len(use))
    use[never_in_text(tokenizer)] = 0
    return use


def _in_language(tokenizer: Tokenizer, language: str) -> np.ndarray:
    """Return each token's share of a language's words, by wordfreq's frequencies (doi:10.5281/zenodo.7199437)."""
    from wordfreq import get_frequency_dict

    found = get_frequency_dict(language, "small")
    words = sorted(found, key=lambda word: (-found[word], word))[:WORDS]
    space = "" if language in UNSPACED else " "
    use = np.zeros(tokenizer.get_vocab_size())
    for spelt, share in ((str, 1 - CAPITALISED), (str.capitalize, CAPITALISED)):
        weights = share * np.array([found[word] for word in words])
        use += _counts(tokenizer, [space + spelt(word) for word in words], weights)
    return use / use.sum()


def _counts(tokenizer: Tokenizer, texts: Sequence[str], weights: np.ndarray | None = None) -> np.ndarray:
    """Return how often each token occurs in the texts, each text counted ``weights`` times, or once."""
    counts = np.zeros(tokenizer.get_vocab_size())
    for start in range(0, len(texts), BATCH):
        part = slice(start, start + BATCH)
        encoded = [one.ids for one in tokenizer.encode_batch(list(texts[part]), add_special_tokens=False)]
        ids = np.fromiter(itertools.chain.from_iterable(encoded), dtype=np.int64)
        np.add.at(counts, ids, 1 if weights is None else np.repeat(weights[part], [len(one) for one in encoded]))
    return counts


def never_in_text(tokenizer: Tokenizer) -> list[int]:
    """Return the tokens of a byte-level BPE that no text has, by its own normaliser, pre-tokenizer or merges.

    Qwen's has two thousand, such as Thai words that its pre-tokenizer takes apart. Long white space counts, too.
    """
    normalizer, pre_tokenizer, model = tokenizer.normalizer, tokenizer.pre_tokenizer, tokenizer.model
    decoder = decoders.ByteLevel()
    absent = []
    for token, i in tokenizer.get_vocab(with_added_tokens=False).items():
        text = decoder.decode([token])
        if text.isspace():
            if len(text) > LONGEST_SPACE:
                absent.append(i)
        elif len(token) > 1 and "\ufffd" not in text:  # part of a character stands inside others
            apart = pre_tokenizer is not None and len(pre_tokenizer.pre_tokenize_str(text)) > 1
            # A static model's normaliser also puts a space before the text.
            changed = normalizer is not None and normalizer.normalize_str(text).lstrip(" ") != text.lstrip(" ")
            if apart or changed or [piece.value for piece in model.tokenize(token)] != [token]:
                absent.append(i)
    return absent


@dataclass(frozen=True)
class Budget:
    """The most that a model's file may take.

    :ivar size_mb: in 10^6 bytes; infinity: every token has a row.
    :ivar storage: the number format of the rows.
    :ivar use: how much running text needs each token, where they cannot all have a row; shape (tokens,).
    """

    size_mb: float
    storage: str
    use: np.ndarray | None = None

    def rows(self, tokens: int, dims: int) -> int:
        """Return how many of the tokens have a row of their own."""
        if math.isinf(self.size_mb) or rows_within(self.size_mb, dims, self.storage) >= tokens:
            return tokens
        return rows_within(self.size_mb, dims, self.storage, shared_by=tokens)

    def checked_rows(self, tokenizer: Tokenizer, tokens: int, dims: int) -> int:
        """Return the rows, and check, before hours of work, that the tokens can share them.

        :raises InputError: if the tokenizer is no byte-level BPE, or has as many single characters.
        """
        rows = self.rows(tokens, dims)
        if rows < tokens and not is_byte_level(tokenizer):
            raise InputError("only a byte-level BPE vocabulary can be cut to a size: use --max-size-mb none")
        characters = sum(len(token) == 1 for token in tokenizer.get_vocab(with_added_tokens=False))
        if rows <= characters and rows < tokens:
            raise InputError(f"the size allows {rows} rows, but {characters} single characters come first: allow more")
        return rows

    def with_use(self, use: np.ndarray, needed: np.ndarray) -> Budget:
        """Return the budget with how much text needs each token, and each row ``needed`` behind them."""
        return replace(self, use=np.append(use, needed))

    def shared(self, table: np.ndarray) -> Sharing | None:
        """Return which tokens share a row so that the file keeps to its size; None: none do.

        :param table: float32, shape (tokens, dims).
        """
        tokens, dims = table.shape
        rows = self.rows(tokens, dims)
        if rows == tokens or self.use is None:
            return None
        with progress("shared rows"):
            return share_rows(table, self.use, rows)


def share_rows(vectors: np.ndarray, use: np.ndarray, rows: int) -> Sharing:
    """Give the ``rows`` most used tokens a row of their own, and every other token the most similar one of these.

    :param vectors: of all tokens; float32, shape (tokens, dims).
    :param use: how much text needs each token; shape (tokens,).
    """
    tokens = len(vectors)
    # The number decides between tokens that are used alike: merge order is an order of frequency.
    order = np.lexsort((np.arange(tokens), -use))
    kept = np.sort(order[:rows])
    row_of = np.zeros(tokens, dtype=np.int32)
    row_of[kept] = np.arange(len(kept))
    rest = np.setdiff1d(np.arange(tokens), kept)
    row_of[rest] = nearest(vectors[rest], _unit(vectors[kept]))
    return Sharing(kept, row_of)


def nearest(queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the number of the row with the largest cosine for each query; rows of length 1, shape (queries,)."""
    import torch

    from qwen25.teacher.states import fast_dtype

    dims, dtype = min(SHORTLIST_DIMS, rows.shape[1]), fast_dtype("cpu")
    count = min(CANDIDATES, len(rows))
    first = torch.from_numpy(np.ascontiguousarray(_unit(rows[:, :dims]).T)).to(dtype)
    found = np.empty(len(queries), dtype=np.int64)
    for start in range(0, len(queries), _CHUNK_ROWS):
        chunk = _unit(queries[start : start + _CHUNK_ROWS])
        similar = torch.from_numpy(_unit(chunk[:, :dims])).to(dtype) @ first
        # torch finds the largest of a row ten times as fast as numpy.
        candidates = similar.topk(count, dim=1, sorted=False).indices.sort(dim=1).values.numpy()
        exact = np.einsum("qd,qcd->qc", chunk, rows[candidates])
        best = exact.argmax(axis=1)  # the first of equals
        found[start : start + len(chunk)] = candidates[np.arange(len(chunk)), best]
    return found


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
