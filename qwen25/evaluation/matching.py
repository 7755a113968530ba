"""How well texts fit each other, for models with one vector a text, with one vector a token, or with words only.

Scores ask nothing else of a model, so that a static table, a transformer, late interaction and BM25 can stand in one
comparison.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np

from qwen25.runtime.errors import InputError
from qwen25.store.static_model import Encode

#: Texts, and whether they are queries -> one array of vectors of length 1 a text, each of shape (tokens, dims).
EncodeTokens = Callable[[Sequence[str], bool], list[np.ndarray]]
#: Queries -> how well each document of a collection fits each; shape (queries, documents).
Search = Callable[[Sequence[str]], np.ndarray]
#: Texts of a collection that are encoded at once.
BATCH = 8192


class Matcher(ABC):
    """Compares queries with documents.

    :ivar has_vectors: whether each text has a vector of its own, and similarities are cosines.
    """

    has_vectors = True

    @abstractmethod
    def similarity(self, queries: Sequence[str], documents: Sequence[str]) -> np.ndarray:
        """Return how well each document fits each query; shape (queries, documents).

        :raises InputError: if the model gives NaN or infinity.
        """

    def pairwise(self, queries: Sequence[str], documents: Sequence[str]) -> np.ndarray:
        """Return how well each query's own document fits it; shape (queries,)."""
        return (self.vectors(queries) * self.vectors(documents)).sum(axis=1)

    def index(self, documents: Sequence[str], advance: Callable[[int], None]) -> Search:
        """Prepare a search in many documents.

        :param advance: is told of documents that are done.
        """
        advance(len(documents))
        return lambda queries: self.similarity(queries, documents)

    @abstractmethod
    def vectors(self, texts: Sequence[str]) -> np.ndarray:
        """Return one vector of length 1 a text (a zero vector stays zero); float32, shape (texts, dims)."""

    @abstractmethod
    def prepare(self, texts: Sequence[str], is_query: bool = False) -> None:
        """Do what a search does with documents, or with a query, before it compares them; for timing."""


class Cosine(Matcher):
    """One vector a text, compared by cosine; each text is encoded once."""

    def __init__(self, encode: Encode) -> None:
        """Wrap a function that encodes texts."""
        self.encode = encode
        self._known: dict[str, np.ndarray] = {}

    def vectors(self, texts: Sequence[str]) -> np.ndarray:
        """Return the vectors, from memory where a text was encoded before."""
        if new := [text for text in dict.fromkeys(texts) if text not in self._known]:
            self._known.update(zip(new, self._fresh(new), strict=True))
        return np.stack([self._known[text] for text in texts])

    def _fresh(self, texts: Sequence[str]) -> np.ndarray:
        return _units(_finite(self.encode(texts)))

    def index(self, documents: Sequence[str], advance: Callable[[int], None]) -> Search:
        """Encode the documents into one table, the only copy of their vectors."""
        table = np.empty((0, 0), dtype=np.float32)
        for start in range(0, len(documents), BATCH):
            part = self._fresh(documents[start : start + BATCH])
            if not start:
                table = np.empty((len(documents), part.shape[1]), dtype=np.float32)
            table[start : start + len(part)] = part
            advance(len(part))
        return lambda queries: self._fresh(queries) @ table.T

    def similarity(self, queries: Sequence[str], documents: Sequence[str]) -> np.ndarray:
        """Return the cosines."""
        return self.vectors(queries) @ self.vectors(documents).T

    def prepare(self, texts: Sequence[str], is_query: bool = False) -> None:
        """Encode the texts."""
        self.encode(texts)


class LateInteraction(Matcher):
    """One vector a token, compared by MaxSim (Khattab and Zaharia 2020, ColBERT, arXiv:2004.12832).

    MaxSim is the sum over a query's tokens of the best cosine among the document's; here it is divided by the query's
    tokens, so that it lies between -1 and 1. Clustering takes the mean of a text's token vectors.
    """

    def __init__(self, encode: EncodeTokens) -> None:
        """Wrap a function that encodes the tokens of texts."""
        self._encode = encode
        self._known: dict[tuple[str, bool], np.ndarray] = {}

    def _tokens(self, texts: Sequence[str], is_query: bool = False) -> list[np.ndarray]:
        if new := [text for text in dict.fromkeys(texts) if (text, is_query) not in self._known]:
            found = map(_finite, self._encode(new, is_query))
            self._known.update(zip(((text, is_query) for text in new), found, strict=True))
        return [self._known[text, is_query] for text in texts]

    def similarity(self, queries: Sequence[str], documents: Sequence[str]) -> np.ndarray:
        """Return the mean MaxSim."""
        tokens = self._tokens(documents)
        starts = np.cumsum([0, *(len(t) for t in tokens[:-1])])
        stacked = np.concatenate(tokens).T
        best = [np.maximum.reduceat(query @ stacked, starts, axis=1) for query in self._tokens(queries, True)]
        return np.stack([cosines.mean(axis=0) for cosines in best])

    def pairwise(self, queries: Sequence[str], documents: Sequence[str]) -> np.ndarray:
        """Return the mean MaxSim of each query with its own document."""
        pairs = zip(self._tokens(queries, True), self._tokens(documents), strict=True)
        return np.array([(q @ d.T).max(axis=1).mean() for q, d in pairs])

    def vectors(self, texts: Sequence[str]) -> np.ndarray:
        """Return the mean of each text's token vectors, scaled to length 1."""
        return _units(np.stack([tokens.mean(axis=0) for tokens in self._tokens(texts)]))

    def prepare(self, texts: Sequence[str], is_query: bool = False) -> None:
        """Encode the texts."""
        self._encode(texts, is_query)


class Bm25(Matcher):
    """Words only (Robertson and Zaragoza 2009, "The probabilistic relevance framework: BM25 and beyond").

    The documents of one comparison are the collection from which the word weights are computed.
    """

    has_vectors = False

    def prepare(self, texts: Sequence[str], is_query: bool = False) -> None:
        """Index documents; or score those indexed last for a query, as a search by words has no step before that."""
        if is_query:
            self._search(texts)
        else:
            self.index(texts, lambda done: None)

    def similarity(self, queries: Sequence[str], documents: Sequence[str]) -> np.ndarray:
        """Return the BM25 scores, at least 0."""
        return self.index(documents, lambda done: None)(queries)

    def index(self, documents: Sequence[str], advance: Callable[[int], None]) -> Search:
        """Index the documents."""
        import bm25s

        words, found, nothing = _words(documents), bm25s.BM25(), np.zeros(len(documents), np.float32)
        is_empty = not any(words)  # which bm25s takes for an error, as it does a query without words
        if not is_empty:
            found.index(words, show_progress=False)
        advance(len(documents))
        self._search: Search = lambda queries: np.stack(
            [found.get_scores(asked) if asked and not is_empty else nothing for asked in _words(queries)]
        )
        return self._search

    def vectors(self, texts: Sequence[str]) -> np.ndarray:
        """Raise: a text has no vector."""
        raise InputError("BM25 compares words: it has no vectors to cluster")


def _words(texts: Sequence[str]) -> list[list[str]]:
    """Return each text's words in lower case, single characters too: an idiom or a snippet may depend on one."""
    import bm25s

    pattern = r"(?u)\b\w+\b"
    return bm25s.tokenize(list(texts), token_pattern=pattern, stopwords=None, return_ids=False, show_progress=False)


def _finite(vectors: np.ndarray) -> np.ndarray:
    vectors = np.asarray(vectors, dtype=np.float32)
    if not np.isfinite(vectors).all():
        raise InputError("the model gives NaN or infinite vectors for some items: it cannot be scored")
    return vectors


def _units(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
