"""One model's whole result: category scores beside its control's, the overall score, health and verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from qwen25.evaluation.categories.all import CATEGORIES, WEIGHTS
from qwen25.evaluation.category import CategoryScore
from qwen25.evaluation.encoder import Encoder, random_control
from qwen25.evaluation.fields import Item
from qwen25.evaluation.health import health
from qwen25.evaluation.statistics import Interval, interval
from qwen25.runtime.display import progress


@dataclass(frozen=True)
class Evaluation:
    """What one model scored.

    :ivar encoder: the model.
    :ivar categories: category -> its score.
    :ivar overall: the weighted mean of the categories evaluated.
    :ivar replicates: the overall on each bootstrap resample.
    :ivar control: the same for the model's random-direction control, or None.
    :ivar health: what the space and the speed look like; empty if it was not measured.
    """

    encoder: Encoder
    categories: dict[str, CategoryScore]
    overall: float
    replicates: np.ndarray
    control: Evaluation | None
    health: dict[str, Any]

    @property
    def interval(self) -> Interval:
        """The 95 % interval of the overall score."""
        return interval(self.replicates)


def evaluate(
    encoder: Encoder,
    items: dict[str, list[Item]],
    seed: int,
    *,
    with_control: bool = True,
    with_health: bool = True,
    control_health: bool = False,
) -> Evaluation:
    """Score a model on the items, and its random-direction control on the same ones.

    Categories that cluster vectors are left out for a model that gives none.

    :param items: category -> items; the overall score is over the categories scored, weights rescaled.
    :param with_control: also score the control, where the model has a table to shuffle.
    :param with_health: also measure the space and the speed.
    :param control_health: the control's, too: only a comparison that gives it a row of its own shows them.
    """
    scores = {}
    with progress(encoder.name, sum(map(len, items.values()))) as advance:
        for category, rows in items.items():
            if encoder.matcher.has_vectors or not CATEGORIES[category].needs_vectors:
                scores[category] = CATEGORIES[category].score(encoder.matcher, rows, seed)
            advance(len(rows))
    total = sum(WEIGHTS[category] for category in scores)
    overall = sum(WEIGHTS[c] / total * s.score for c, s in scores.items())
    replicates = np.sum([WEIGHTS[c] / total * s.replicates for c, s in scores.items()], axis=0)
    control = random_control(encoder, seed) if with_control else None
    return Evaluation(
        encoder=encoder,
        categories=scores,
        overall=float(overall),
        replicates=replicates,
        control=evaluate(control, items, seed, with_control=False, with_health=control_health) if control else None,
        health=health(encoder, items) if with_health else {},
    )
