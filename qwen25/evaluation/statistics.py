"""Bootstrap intervals, ranks and credits against chance."""

from __future__ import annotations

from typing import Any

import numpy as np

BOOTSTRAP_RESAMPLES = 1000
Interval = tuple[float, float]


def interval(replicates: np.ndarray) -> Interval:
    """Return the 2.5th and 97.5th percentile."""
    low, high = np.percentile(replicates, [2.5, 97.5])
    return float(low), float(high)


def resample(size: int, seed: int) -> np.ndarray:
    """Return the bootstrap's indices; shape (resamples, size)."""
    return np.random.default_rng(seed).integers(0, size, (BOOTSTRAP_RESAMPLES, size))


def half_samples(size: int, seed: int) -> np.ndarray:
    """Return random halves of the items, without repeats; shape (resamples, size // 2).

    For a score that is no mean of items: a repeated item would agree with itself and raise mutual
    information, while halves spread as the bootstrap does (delete-half jackknife, Shao and Wu 1989).
    """
    generator = np.random.default_rng(seed)
    return np.stack([generator.permutation(size)[: size // 2] for _ in range(BOOTSTRAP_RESAMPLES)])


def against_chance(value: np.ndarray | float, chance: float) -> Any:
    """Rescale so that chance is 0 and perfect 1: (value - chance) / (1 - chance)."""
    return (value - chance) / (1 - chance)


def mid_rank(candidates: np.ndarray, right: float) -> float:
    """Return the rank of the right one among the other candidates' cosines; ties share their places."""
    return 1 + float((candidates > right).sum()) + 0.5 * float((candidates == right).sum())


def top_credit(cosines: np.ndarray, right: int) -> float:
    """Return 1 if the right one is nearest; tied with others, its share of the first place."""
    best = cosines == cosines.max()
    return float(best[right]) / float(best.sum())


def mean_of(values: Any) -> float:
    """Return the mean, or 0 of nothing."""
    return float(np.mean(values)) if np.size(values) else 0.0
