"""What a category of the evaluation is: its items and its score; bootstrap intervals, ranks and credits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from qwen25.evaluation.matching import Matcher

BOOTSTRAP_RESAMPLES = 1000
#: How many items a result shows of those that went worst, and of those that went right.
WORST_ITEMS, PASSED_ITEMS = 6, 3
#: One line of an items file.
Item = dict[str, Any]


@dataclass(frozen=True)
class CategoryScore:
    """One category's outcome for one model.

    :ivar score: the headline: 0 is chance, 1 is perfect.
    :ivar replicates: the headline on each bootstrap resample; shape (resamples,).
    :ivar sub_scores: parts of the headline, and controls.
    :ivar worst: the items that went worst, each with the query, the right answer and the answer chosen.
    :ivar passed: items that went right, spread evenly over all of them: the best ones are not picked.
    """

    score: float
    replicates: np.ndarray
    sub_scores: dict[str, Any]
    worst: list[dict[str, Any]]
    passed: list[dict[str, Any]]


@dataclass(frozen=True)
class Category:
    """Everything that the pipeline knows about one category.

    :ivar name: the name of its items file and of its entry in results.
    :ivar weight: its share of the overall score.
    :ivar text_fields: the fields of an item that hold its main texts, without hard negatives.
    :ivar score: scores a model on the items with a seed.
    :ivar good_for: completes the sentence "use it for ...".
    :ivar needs_vectors: whether it can only score models that give each text a vector.
    """

    name: str
    weight: float
    text_fields: tuple[str, ...]
    score: Callable[[Matcher, list[Item], int], CategoryScore]
    good_for: str
    needs_vectors: bool = False


def interval(replicates: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval: the 2.5th and 97.5th percentile."""
    low, high = np.percentile(replicates, [2.5, 97.5])
    return float(low), float(high)


def resampled_means(values: np.ndarray, seed: int) -> np.ndarray:
    """Return the mean over the items on each bootstrap resample, of which one is in memory at a time.

    :param values: shape (items, ...).
    :return: shape (resamples, ...).
    """
    generator, size = np.random.default_rng(seed), len(values)
    return np.stack([values[generator.integers(0, size, size)].mean(axis=0) for _ in range(BOOTSTRAP_RESAMPLES)])


def half_samples(size: int, seed: int) -> np.ndarray:
    """Return random halves of the items, without repeats; shape (resamples, size // 2).

    For a score that is no mean of items: a repeated item would agree with itself and raise mutual
    information, while halves spread as the bootstrap does (delete-half jackknife, Shao and Wu 1989).
    """
    generator = np.random.default_rng(seed)
    return np.stack([generator.permutation(size)[: size // 2] for _ in range(BOOTSTRAP_RESAMPLES)])


def against_chance(value: np.ndarray | float, chance: float) -> Any:
    """Rescale so that chance is 0 and perfect 1."""
    return (value - chance) / (1 - chance)


def mid_rank(candidates: np.ndarray, right: float) -> float:
    """Return the rank of the right one among the other candidates' cosines; ties share their places."""
    return 1 + float((candidates > right).sum()) + 0.5 * float((candidates == right).sum())


def mean_of(values: Any) -> float:
    """Return the mean, or 0 of nothing."""
    return float(np.mean(values)) if np.size(values) else 0.0


def shown_item(item: Item, asked: str, right: str, chosen: str) -> dict[str, Any]:
    """Return an item as a result shows it: the query, the right answer and the one that a model chose."""
    return {"id": item["id"], "asked": asked, "right": right, "chosen": chosen}


def passed_items(items: list[Item], right: np.ndarray, asked: list[str], answers: list[str]) -> list[dict[str, Any]]:
    """Return a few of the items that went right, spread evenly over all of them."""
    found = np.flatnonzero(right)
    places = np.linspace(0, len(found) - 1, min(PASSED_ITEMS, len(found))).round().astype(int)
    return [{"id": items[i]["id"], "asked": asked[i], "right": answers[i]} for i in found[places]]
