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
    :ivar place: of the first right answer, from 1; shape (queries,).
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

    A right answer stands behind the right ones and the wrong documents that score higher, and behind half of the wrong
    ones tied with it. Of a query with n right answers, recall at k is their share among the first k, of the k or n that
    can be there (capped recall, Thakur et al. 2021, BEIR, arXiv:2104.08663).
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
        right, chosen = scores[rows, columns], scores.argmax(axis=1)
        scores[rows, columns] = -np.inf  # only wrong documents are left
        order = np.lexsort((-right, rows))
        first = np.searchsorted(rows, np.arange(len(queries)))
        slack = TIE * np.maximum(1, np.abs(right))
        above, least = (
            np.array([np.count_nonzero(scores[row] > bound) for row, bound in zip(rows, bounds, strict=True)])
            for bounds in (right + slack, right - slack)
        )
        places = np.empty(len(rows))
        places[order] = np.arange(len(rows)) - first[rows] + 1
        places += (above + least) / 2
        best = order[first]
        answers = np.bincount(rows)
        recalls = [np.bincount(rows, places <= k) / np.minimum(k, answers) for k in (1, DEPTH)]
        values = np.stack([*recalls, np.where(places[best] <= DEPTH, 1 / places[best], 0)], axis=1)
        drawn = np.tile(np.arange(size), (len(queries), 1))
        if count < size:
            drawn = generator.integers(0, size, (len(queries), count))
        others = np.take_along_axis(scores, drawn, axis=1)
        kept = np.isfinite(others)
        both = (np.array([len(query) for query in queries])[:, None] + lengths[drawn]) / 2
        shown = np.stack([columns[best], chosen], axis=1)
        parts.append((values, places[best], shown, right, others[kept], both[kept]))
        advance(len(queries))
    values, place, shown, right, unrelated, both = map(np.concatenate, zip(*parts, strict=True))
    return Found(values, place, shown, right, (unrelated, both))
