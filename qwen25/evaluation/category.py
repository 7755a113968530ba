"""What a category of the evaluation is, and what its score is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from qwen25.evaluation.example import Example
from qwen25.evaluation.fields import TIERS, Item
from qwen25.evaluation.matching import Matcher
from qwen25.evaluation.statistics import Interval, interval, mean_of, resample

WORST_ITEMS = 6
PASSED_ITEMS = 3


@dataclass(frozen=True)
class CategoryScore:
    """One category's outcome for one model.

    :ivar score: the headline, 0 chance, 1 perfect.
    :ivar replicates: the headline on each bootstrap resample; shape (resamples,).
    :ivar sub_scores: the parts and controls it rests on.
    :ivar cosine_protocol: the old mean-cosine figure beside the cosine of unrelated pairs; never decides.
    :ivar worst: the items that went worst, each with what was asked, right and chosen.
    :ivar passed: some items that went right, spread evenly over all of them: no pick of the best.
    """

    score: float
    replicates: np.ndarray
    sub_scores: dict[str, Any]
    cosine_protocol: dict[str, Any]
    worst: list[dict[str, Any]] = field(default_factory=list)
    passed: list[dict[str, Any]] = field(default_factory=list)

    @property
    def interval(self) -> Interval:
        """The 95 % interval of the headline."""
        return interval(self.replicates)


def accept_any_file(items: list[Item], path: Path) -> None:
    """Ask nothing of a file as a whole."""


@dataclass(frozen=True)
class Category:
    """One category: everything that the pipeline knows about it.

    :ivar name: as files, flags and results call it.
    :ivar weight: its share of the overall score; the weights of all categories add up to 1.
    :ivar text_fields: the fields of an item that hold its texts, hard negatives apart.
    :ivar check_item: refuses an item that lacks what the score needs; takes the item and where it stands.
    :ivar score: scores a model on the items with a seed.
    :ivar asks: what is looked for, as a heading of its example.
    :ivar question: what its example asks of a reader, and what makes it hard.
    :ivar fill_example: fills its example from its items.
    :ivar good_for: what a model that is good at it can be used for; ends the sentence "use it for ...".
    :ivar check_file: refuses items that are no whole together; takes all items and their file.
    :ivar has_tiers: whether its items are marked as everyday or adversarial.
    :ivar needs_vectors: whether it can score only models that give each text a vector.
    :ivar languages: the text fields that hold one sentence in several languages, English first; or none.
    :ivar is_code: whether its documents are code, and shown as such.
    :ivar need: the need for which a comparison names the best model at this category alone; or none.
    """

    name: str
    weight: float
    text_fields: tuple[str, ...]
    check_item: Callable[[Item, str], None]
    score: Callable[[Matcher, list[Item], int], CategoryScore]
    good_for: str
    asks: str
    question: str
    fill_example: Callable[[Example, list[Item]], None]
    check_file: Callable[[list[Item], Path], None] = accept_any_file
    has_tiers: bool = True
    needs_vectors: bool = False
    languages: tuple[str, ...] = ()
    is_code: bool = False
    need: str | None = None

    @property
    def title(self) -> str:
        """The name as people read it."""
        return self.name.replace("_", " ")


def passed_items(items: list[Item], right: np.ndarray, asked: list[str], answers: list[str]) -> list[dict[str, Any]]:
    """Return a few of the items that went right, spread evenly over all of them."""
    found = np.flatnonzero(right)
    places = np.linspace(0, len(found) - 1, min(PASSED_ITEMS, len(found))).round().astype(int)
    return [{"id": items[i]["id"], "asked": asked[i], "right": answers[i]} for i in found[places]]


def rows_of_tier(items: list[Item], tier: str) -> np.ndarray:
    """Return the positions of the items of a tier."""
    return np.flatnonzero([item["tier"] == tier for item in items])


def scores_by_tier(units: np.ndarray, items: list[Item]) -> dict[str, float]:
    """Return the mean of the units over the items of each tier that has any."""
    return {tier: mean_of(units[rows]) for tier in TIERS if len(rows := rows_of_tier(items, tier))}


def mean_score(
    units: np.ndarray,
    seed: int,
    sub_scores: dict[str, Any],
    protocol: dict[str, Any],
    worst: list[dict[str, Any]],
    passed: list[dict[str, Any]],
) -> CategoryScore:
    """Return the outcome of a category whose headline is the mean of its units."""
    replicates = units[resample(len(units), seed)].mean(axis=1)
    return CategoryScore(float(units.mean()), replicates, sub_scores, protocol, worst, passed)


def cosine_protocol(formula: str, value: float, unrelated: float) -> dict[str, Any]:
    """Return one entry of the cosine protocol: a formula, its value, and the same of unrelated pairs."""
    return {"formula": formula, "value": value, "cosine_of_unrelated_pairs": unrelated}


def mean_cosine_of_neighbours(cosines: np.ndarray) -> float:
    """Return the mean cosine of each text with the counterpart of the text before it: of pairs that are unrelated.

    :param cosines: of each text with each counterpart; shape (texts, texts).
    """
    return float(np.diag(np.roll(cosines, 1, axis=1)).mean())
