"""A search of every query among all documents, in blocks that fit into memory: ranks, and what is made of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from qwen25.evaluation.matching import Matcher
from qwen25.evaluation.own_pairs import Direction

METRICS = ("recall@1", "recall@10", "mrr@10")
DEPTH = 10
#: Scores in memory at once: 64 MB.
BLOCK = 1 << 24
#: Scores that differ by less, as a share, are ties: the order of a sum depends on the machine.
TIE = 1e-6
#: Scores of unrelated texts that are kept.
UNRELATED = 100_000


class Found(NamedTuple):
    """What one model found for the queries of a direction.

    :ivar values: shape (queries, metrics).
    :ivar place: of the first right answer; shape (queries,).
    :ivar shown: the right answer that came first, and the document that did; shape (queries, 2).
    :ivar right: the score of each right answer.
    :ivar unrelated: the scores of documents drawn at random that are no answers, and the mean length of both texts.
    """

    values: np.ndarray
    place: np.ndarray
    shown: np.ndarray
    right: np.ndarray
    unrelated: tuple[np.ndarray, np.ndarray]


def find(matcher: Matcher, way: Direction, advance: Callable[[int], None]) -> Found:
    """Search every query's right answers among all documents; a document that is the query itself is left out.

    Tied documents share their places: a metric is its mean over their orders. Of a query with n right answers,
    recall at k is their share among the first k, of the k or n that can be there (capped recall, Thakur et al. 2021,
    BEIR, arXiv:2104.08663).
    """
    search = matcher.index(way.documents, advance)
    place_of = {text: i for i, text in enumerate(way.documents)}
    lengths = np.array([len(text) for text in way.documents])
    generator, size = np.random.default_rng(0), len(way.documents)
    count, parts = -(-UNRELATED // len(way.queries)), []
    step = max(1, min(4096, BLOCK // size))
    for start in range(0, len(way.queries), step):
        queries = way.queries[start : start + step]
        scores = search(queries)
        itself = [(i, place_of[query]) for i, query in enumerate(queries) if query in place_of]
        scores[tuple(np.array(itself, dtype=int).reshape(-1, 2).T)] = -np.inf
        mine = slice(*np.searchsorted(way.asked, [start, start + step]))
        rows, columns = way.asked[mine] - start, way.right[mine]
        right = scores[rows, columns]
        above, tied = _ranks(scores, rows, right)
        drawn = np.tile(np.arange(size), (len(queries), 1))
        if count < size:
            drawn = generator.integers(0, size, (len(queries), count))
        codes = np.arange(len(queries))[:, None] * size + drawn
        others = np.take_along_axis(scores, drawn, axis=1)
        kept = ~np.isin(codes, rows * size + columns) & np.isfinite(others)
        both = (np.array([len(query) for query in queries])[:, None] + lengths[drawn]) / 2
        first = np.lexsort((above, rows))[np.searchsorted(rows, np.arange(len(queries)))]
        shown = np.stack([columns[first], scores.argmax(axis=1)], axis=1)
        values = _metrics(rows, above, tied)
        parts.append((values, above[first] + 1, shown, right, others[kept], both[kept]))
        advance(len(queries))
    values, place, shown, right, unrelated, both = map(np.concatenate, zip(*parts, strict=True))
    return Found(values, place, shown, right, (unrelated, both))


def _ranks(scores: np.ndarray, rows: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how many documents of its row are above each right answer, and how many tie with it, itself included."""
    above, least = np.empty(len(rows), dtype=int), np.empty(len(rows), dtype=int)
    slack = TIE * np.maximum(1, np.abs(right))
    step = max(1, BLOCK // scores.shape[1])
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        own = scores if len(rows) == len(scores) and np.array_equal(rows, np.arange(len(rows))) else scores[rows[part]]
        above[part] = np.count_nonzero(own > (right + slack)[part, None], axis=1)
        least[part] = np.count_nonzero(own >= (right - slack)[part, None], axis=1)
    return above, least - above


def _metrics(rows: np.ndarray, above: np.ndarray, tied: np.ndarray) -> np.ndarray:
    """Return each query's metrics; shape (queries, metrics)."""
    answers = np.bincount(rows)
    recalls = [np.bincount(rows, np.clip((k - above) / tied, 0, 1)) / np.minimum(k, answers) for k in (1, DEPTH)]
    order = np.lexsort((above, rows))
    first = order[np.searchsorted(rows, np.arange(len(answers)))]
    best, ties = above[first], tied[first]
    among = np.bincount(rows, above == best[rows])  # right answers that share the first one's place
    reciprocal, missed = np.zeros(len(answers)), np.ones(len(answers))
    for place in range(1, DEPTH + 1):
        left = ties - (place - best) + 1  # tied documents from this place on
        chance = np.where((place > best) & (left >= among), among / np.maximum(left, 1), 0)
        reciprocal += missed * chance / place
        missed *= 1 - chance
    return np.stack([*recalls, reciprocal], axis=1)
