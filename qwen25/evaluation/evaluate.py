"""One model's whole result: category scores beside its control's, the overall score, health; what training changed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from model2vec import StaticModel
from tokenizers import Tokenizer

from qwen25.evaluation.categories import CATEGORIES, WEIGHTS, calibration_folder, load_categories
from qwen25.evaluation.category import CategoryScore, Item, interval
from qwen25.evaluation.models import Encoder, random_control, static_encoder
from qwen25.runtime.display import progress
from qwen25.runtime.errors import logger

SEED = 42
LATENCY_QUERIES = 200
#: Speed is the median of this many runs, or of as many as end within the budget: a slow model is timed less often.
SPEED_RUNS, SPEED_SECONDS = 5, 5.0


@dataclass(frozen=True)
class Evaluation:
    """What one model scored: its numbers, without the model, so that one is in memory at a time.

    :ivar model: its name, kind, dims and sha256.
    :ivar categories: category -> its score.
    :ivar overall: the weighted mean of the categories scored.
    :ivar replicates: the overall score on each bootstrap resample.
    :ivar control: the same for the model's random-direction control, or None.
    :ivar health: facts of the space and the speed; empty if they were not measured.
    """

    model: dict[str, Any]
    categories: dict[str, CategoryScore]
    overall: float
    replicates: np.ndarray
    control: Evaluation | None
    health: dict[str, Any]


def score_model(
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

    :param items: category -> items; the overall score is over the categories scored, with rescaled weights.
    :param with_control: also score the control, where the model has a table.
    :param with_health: also measure the space and the speed.
    :param control_health: also those of the control, for a comparison that gives it a row of its own.
    """
    scores = {}
    with progress(encoder.name, sum(map(len, items.values()))) as advance:
        for category, rows in items.items():
            if encoder.matcher.has_vectors or not CATEGORIES[category].needs_vectors:
                scores[category] = CATEGORIES[category].score(encoder.matcher, rows, seed)
            advance(len(rows))
    total = sum(WEIGHTS[category] for category in scores)
    overall = sum(WEIGHTS[c] / total * s.score for c, s in scores.items())
    control = random_control(encoder, seed) if with_control else None
    return Evaluation(
        model={"name": encoder.name, "kind": encoder.kind, "dims": encoder.dims, "sha256": encoder.sha256},
        categories=scores,
        overall=float(overall),
        replicates=np.sum([WEIGHTS[c] / total * s.replicates for c, s in scores.items()], axis=0),
        control=score_model(control, items, seed, with_control=False, with_health=control_health) if control else None,
        health=health(encoder, items) if with_health else {},
    )


def health(encoder: Encoder, items: dict[str, list[Item]]) -> dict[str, Any]:
    """Measure the space (has it collapsed?), the speed and the size."""
    matcher = encoder.matcher
    texts = sorted(
        {item[field] for category, rows in items.items() for item in rows for field in CATEGORIES[category].text_fields}
    )
    speeds = _seconds(partial(matcher.prepare, texts))
    order = np.random.default_rng(0).permutation(len(texts))
    shuffled = [texts[i] for i in order]
    facts: dict[str, Any] = {
        "unrelated_cosine": None,
        "sentences_per_second": round(len(texts) / float(np.median(speeds)), 1),
        "load_seconds": round(encoder.load_seconds, 3),
        "size_bytes": encoder.size_bytes,
        "memory_bytes": encoder.memory_bytes,
        "dims": encoder.dims,
    }
    if matcher.has_vectors:
        facts["unrelated_cosine"] = float(matcher.pairwise(shuffled, [*shuffled[-1:], *shuffled[:-1]]).mean())
    queries = shuffled[:LATENCY_QUERIES]
    warm_up = queries[:5]
    times = [_seconds(partial(matcher.prepare, [q], True), 1)[0] for q in [*warm_up, *queries]][len(warm_up) :]
    p50, p95 = 1000 * np.percentile(times, [50, 95])
    return facts | {"latency_p50_ms": round(float(p50), 4), "latency_p95_ms": round(float(p95), 4)}


def _seconds(run: Callable[[], None], runs: int = SPEED_RUNS) -> list[float]:
    """Return the seconds of up to ``runs`` runs; none begins after ``SPEED_SECONDS``."""
    seconds: list[float] = []
    while not seconds or (len(seconds) < runs and sum(seconds) < SPEED_SECONDS):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return seconds


def training_effect(before: np.ndarray, after: np.ndarray, tokenizer: Tokenizer) -> dict[str, Any]:
    """Return each category's score before and after training, on the calibration items.

    A category that falls beyond its interval is logged as a warning.

    :param before: the untrained table; float32, shape (tokens, dims).
    :param after: the trained one.
    :return: category -> ``untrained``, ``trained`` and the 95 % ``interval`` of their paired difference.
    """
    items = load_categories(calibration_folder())

    def scored(table: np.ndarray) -> Evaluation:
        encoder = static_encoder("calibration", StaticModel(table, tokenizer, normalize=True, max_length=None))
        return score_model(encoder, items, SEED, with_control=False, with_health=False)

    old, new = scored(before), scored(after)
    effect = {}
    for name in CATEGORIES:
        untrained, trained = old.categories[name], new.categories[name]
        low, high = interval(trained.replicates - untrained.replicates)
        effect[name] = {
            "untrained": round(untrained.score, 4),
            "trained": round(trained.score, 4),
            "interval": [round(low, 4), round(high, 4)],
        }
        if high < 0:
            logger.warning(
                "    training lowers %s on the calibration items: %.3f -> %.3f [%+.3f, %+.3f]; other pairs, or fewer "
                "of a kind, would keep it",
                *(name.replace("_", " "), untrained.score, trained.score, low, high),
            )
    logger.info("    calibration items: %+.3f overall by training", new.overall - old.overall)
    return effect
