"""How well texts fit each other, whatever a model is: one vector a text, one a token, or only words.

The scores ask nothing else of a model, so a static table, a transformer, late interaction and BM25
stand in one comparison.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np

from qwen25.runtime.errors import InputError
from qwen25.store.static_model import Encode

#: Texts -> one array of vectors a text, each of shape (tokens, dims).
EncodeTokens = Callable[[Sequence[str]], list[np.ndarray]]


class Matcher(ABC):
    """Compares queries with documents.

    :ivar has_vectors: whether a text has a vector of its own, which clustering needs.
    :ivar has_cosines: whether what it returns lies between -1 and 1 as cosines do.
    """

    has_vectors = True
    has_cosines = True

    @abstractmethod
    def similarity(self, queries: Sequence[str], documents: Sequence[str]) -> np.ndarray:
        """Return how well each document fits each query; shape (queries, documents).

        :raises InputError: if the model gives NaN or infinity.
        """

    @abstractmethod
    def vectors(self, texts: Sequence[str]) -> np.ndarray:
        """Return one vector of length 1 a text (a zero vector stays zero); float32, shape (texts, dims)."""

    @abstractmethod
    def index(self, texts: Sequence[str]) -> None:
        """Do the work that documents cost before they can be searched, for a measurement of its time."""

    @abstractmethod
    def encode_query(self, query: str) -> None:
        """Do the work that one query costs before it is compared with the documents, for a measurement of its time."""

    def pairwise(self, queries: Sequence[str], documents: Sequence[str]) -> np.ndarray:
        """Return how well each query's own document fits it; shape (queries,)."""
        return np.diag(self.similarity(queries, documents)).copy()


class Cosine(Matcher):
    """One vector a text, compared by cosine. A text that was met before is not encoded again."""

    def __init__(self, encode: Encode) -> None:
        """Wrap a function that encodes texts."""
        self.encode = encode
        self._known: dict[str, np.ndarray] = {}

    def vectors(self, texts: Sequence[str]) -> np.ndarray:
        """Return one vector of length 1 a text (a zero vector stays zero); float32, shape (texts, dims)."""
        if new := [text for text in dict.fromkeys(texts) if text not in self._known]:
            self._known.update(zip(new, _units(_finite(self.encode(new))), strict=True))
        return np.stack([self._known[text] for text in texts])

    def similarity(self, queries: Sequence[str], documents: Sequence[str]) -> np.ndarray:
        """Return the cosines; shape (queries, documents)."""
        return self.vectors(queries) @ self.vectors(documents).T

    def pairwise(self, queries: Sequence[str], documents: Sequence[str]) -> np.ndarray:
        """Return the cosine of each query with its own document; shape (queries,)."""
        return (self.vectors(queries) * self.vectors(documents)).sum(axis=1)

    def index(self, texts: Sequence[str]) -> None:
        """Encode the texts."""
        self.encode(texts)

    def encode_query(self, query: str) -> None:
        """Encode the query."""
        self.encode([query])


class LateInteraction(Matcher):
    """One vector a token, compared by MaxSim (Khattab and Zaharia 2020, ColBERT, arXiv:2004.12832).

    The sum over a query's tokens of the best cosine among the document's, divided by the query's
    tokens so that it lies between -1 and 1. Clustering takes the mean of a text's token vectors.
    """

    def __init__(self, encode_queries: EncodeTokens, encode_documents: EncodeTokens) -> None:
        """Wrap functions that give token vectors of length 1."""
        self._encode = {"query": encode_queries, "document": encode_documents}
        self._known: dict[tuple[str, str], np.ndarray] = {}

    def _tokens(self, texts: Sequence[str], role: str) -> list[np.ndarray]:
        if new := [text for text in dict.fromkeys(texts) if (role, text) not in self._known]:
            found = [_finite(tokens) for tokens in self._encode[role](new)]
            self._known.update(zip(((role, text) for text in new), found, strict=True))
        return [self._known[role, text] for text in texts]

    def similarity(self, queries: Sequence[str], documents: Sequence[str]) -> np.ndarray:
        """Return the mean MaxSim; shape (queries, documents)."""
        tokens = self._tokens(documents, "document")
        starts = np.cumsum([0, *(len(t) for t in tokens[:-1])])
        stacked = np.concatenate(tokens).T
        return np.stack(
            [np.maximum.reduceat(q @ stacked, starts, axis=1).mean(axis=0) for q in self._tokens(queries, "query")]
        )

    def pairwise(self, queries: Sequence[str], documents: Sequence[str]) -> np.ndarray:
        """Return the mean MaxSim of each query with its own document; shape (queries,)."""
        pairs = zip(self._tokens(queries, "query"), self._tokens(documents, "document"), strict=True)
        return np.array([(q @ d.T).max(axis=1).mean() for q, d in pairs])

    def vectors(self, texts: Sequence[str]) -> np.ndarray:
        """Return the mean of each text's token vectors, scaled to length 1; float32, shape (texts, dims)."""
        return _units(np.stack([tokens.mean(axis=0) for tokens in self._tokens(texts, "document")]))

    def index(self, texts: Sequence[str]) -> None:
        """Encode the texts as documents."""
        self._encode["document"](texts)

    def encode_query(self, query: str) -> None:
        """Encode the query."""
        self._encode["query"]([query])


class Bm25(Matcher):
    """Words alone (Robertson and Zaragoza 2009, "The probabilistic relevance framework: BM25 and beyond").

    The documents of one comparison are its collection: their counts are where the word weights come from.
    """

    has_vectors = False
    has_cosines = False

    def __init__(self) -> None:
        """Start with no collection."""
        self.index([""])

    def index(self, texts: Sequence[str]) -> None:
        """Index the texts: they are the collection that ``encode_query`` searches."""
        self._collection = _Bm25Index(texts)

    def encode_query(self, query: str) -> None:
        """Score all indexed documents: a search by words has no step before that."""
        self._collection.scores(query)

    def similarity(self, queries: Sequence[str], documents: Sequence[str]) -> np.ndarray:
        """Return the BM25 scores, at least 0; shape (queries, documents)."""
        index = _Bm25Index(documents)
        return np.stack([index.scores(query) for query in queries])

    def vectors(self, texts: Sequence[str]) -> np.ndarray:
        """Refuse: a text has no vector.

        :raises InputError: always.
        """
        raise InputError("BM25 compares words: it has no vectors to cluster")


class _Bm25Index:
    def __init__(self, documents: Sequence[str]) -> None:
        import bm25s

        self._size = len(documents)
        self._index = None
        words = _words(documents)
        if any(words):
            self._index = bm25s.BM25(backend="numpy")
            self._index.index(words, show_progress=False)

    def scores(self, query: str) -> np.ndarray:
        """Return one score a document."""
        words = _words([query])[0]
        known = [] if self._index is None else [word for word in words if word in self._index.vocab_dict]
        if self._index is None or not known:
            return np.zeros(self._size, dtype=np.float32)
        return np.asarray(self._index.get_scores(known), dtype=np.float32)


def _words(texts: Sequence[str]) -> list[list[str]]:
    """Return each text's words in lower case, single characters too: an idiom or a snippet may hang on one."""
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
