"""Retrieval among all items, as several categories score it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from qwen25.evaluation.category import WORST_ITEMS, mean_cosine_of_neighbours
from qwen25.evaluation.fields import Item
from qwen25.evaluation.matching import Matcher
from qwen25.evaluation.statistics import against_chance, mean_of, mid_rank


@dataclass(frozen=True)
class _Retrieval:
    """The ranks of a retrieval with hard negatives; ``units`` are reciprocal ranks against chance."""

    units: np.ndarray
    right: np.ndarray
    unrelated: float
    hard: list[np.ndarray]
    cosines: np.ndarray
    reciprocal: np.ndarray
    without_hard: np.ndarray

    def sub_scores(self) -> dict[str, Any]:
        """Return MRR as it is, with and without the hard negatives, and the share found first."""
        return {
            "mrr": mean_of(self.reciprocal),
            "mrr_without_hard_negatives": mean_of(self.without_hard),
            "found_first": mean_of(self.reciprocal == 1),
        }

    def worst(
        self, items: list[Item], asked: list[str], right: list[str], hard: list[list[str]]
    ) -> list[dict[str, Any]]:
        """Return the items with the lowest rank, each with what the model chose instead."""
        rows = []
        for i in np.argsort(self.units, kind="stable")[:WORST_ITEMS]:
            candidates = np.concatenate([self.cosines[i], self.hard[i]])
            chosen = [*right, *hard[i]][int(candidates.argmax())]
            rows.append({"id": items[i]["id"], "asked": asked[i], "right": right[i], "chosen": chosen})
        return rows


def retrieval(matcher: Matcher, queries: list[str], targets: list[str], hard: list[list[str]]) -> _Retrieval:
    """Rank each query's target among all targets and the query's own hard negatives.

    Mean reciprocal rank; by chance a pool of n gives H(n) / n, the n-th harmonic number over n.
    """
    everything = matcher.similarity(queries, [*targets, *(text for texts in hard for text in texts)])
    cosines, flat = everything[:, : len(targets)], everything[:, len(targets) :]
    ends = np.cumsum([0] + [len(texts) for texts in hard])
    own = [row[a:b] for row, (a, b) in zip(flat, itertools.pairwise(ends), strict=True)]
    here = np.arange(len(queries))
    right = cosines[here, here]
    reciprocal, without, units = np.empty(len(queries)), np.empty(len(queries)), np.empty(len(queries))
    for i in here:
        others = np.delete(cosines[i], i)
        without[i] = 1 / mid_rank(others, right[i])
        reciprocal[i] = 1 / mid_rank(np.concatenate([others, own[i]]), right[i])
        pool = len(targets) + len(own[i])
        units[i] = against_chance(reciprocal[i], float((1 / np.arange(1, pool + 1)).sum()) / pool)
    return _Retrieval(units, right, mean_cosine_of_neighbours(cosines), own, cosines, reciprocal, without)
