"""Evaluations -> one comparison: differences, what lies on the frontier, and which model for which need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from qwen25.evaluation.evaluate import Evaluation
from qwen25.evaluation.results import as_json
from qwen25.evaluation.statistics import interval
from qwen25.evaluation.verdict import MAX_UNRELATED_COSINE
from qwen25.runtime.wording import size_text, with_interval

Row = dict[str, Any]
#: Of phase 3's result file.
SCHEMA_VERSION = 2
#: Speeds of one run that differ by less than this share are alike.
SPEED_NOISE = 0.1
BETTER, WORSE, SAME = "better", "worse", "no difference shown"


@dataclass(frozen=True)
class Measured:
    """What is kept of a model once it was scored and let go.

    :ivar result: the evaluation as the result files hold it.
    :ivar overall: the overall score on each bootstrap resample.
    :ivar categories: category -> its score on each resample.
    :ivar control: the same of its random-direction control, or None.
    """

    result: dict[str, Any]
    overall: np.ndarray
    categories: dict[str, np.ndarray]
    control: Measured | None

    @classmethod
    def of(cls, evaluation: Evaluation) -> Measured:
        """Return what is kept of ``evaluation``: its numbers, not its model."""
        return cls(
            as_json(evaluation),
            evaluation.replicates,
            {name: score.replicates for name, score in evaluation.categories.items()},
            cls.of(evaluation.control) if evaluation.control else None,
        )


def difference(peer: Measured, ours: Measured) -> dict[str, Any]:
    """Return the peer's scores minus ours, each with its paired bootstrap interval and a plain word.

    The overall difference is None where the peer was not scored on every category.
    """
    theirs, mine = peer.result["categories"], ours.result["categories"]
    categories = {
        name: _difference(theirs[name]["score"] - mine[name]["score"], peer.categories[name] - ours.categories[name])
        for name in mine
        if name in theirs
    }
    overall = None
    if set(theirs) == set(mine):
        value = peer.result["overall"]["score"] - ours.result["overall"]["score"]
        overall = _difference(value, peer.overall - ours.overall)
    return {"overall": overall, "categories": categories}


def _difference(value: float, replicates: np.ndarray) -> dict[str, Any]:
    low, high = interval(replicates)
    word = BETTER if low > 0 else WORSE if high < 0 else SAME
    return {"value": round(value, 6), "interval": [round(low, 6), round(high, 6)], "word": word}


def quality_per_mb(result: dict[str, Any]) -> float | None:
    """Return the overall score for each megabyte (10^6 bytes) on disk."""
    size = result["health"]["size_bytes"]
    return round(result["overall"]["score"] / (size / 1e6), 6) if size else None


def is_complete(row: Row, ours: Row) -> bool:
    """Whether a row was measured on every category that ours was, so that their overalls compare."""
    return "result" in row and set(row["result"]["categories"]) == set(ours["result"]["categories"])


def ours_of(comparison: dict[str, Any]) -> Row:
    """Return the row that the others are compared with."""
    return next(row for row in comparison["models"] if row["name"] == comparison["ours"])


def ranked(comparison: dict[str, Any]) -> list[Row]:
    """Return the rows measured on every category, best first."""
    rows = [row for row in comparison["models"] if is_complete(row, ours_of(comparison))]
    return sorted(rows, key=lambda row: -row["result"]["overall"]["score"])


def frontier(comparison: dict[str, Any]) -> list[Row]:
    """Return the useful rows of known size that no smaller (or equally small) one beats, smallest first (Pareto)."""
    best, found = -np.inf, []
    sized = [row for row in ranked(comparison) if row["result"]["health"]["size_bytes"] and is_useful(row)]
    for row in sorted(sized, key=lambda row: row["result"]["health"]["size_bytes"]):
        if row["result"]["overall"]["score"] > best:
            best = row["result"]["overall"]["score"]
            found.append(row)
    return found


def is_useful(row: Row) -> bool:
    """Whether a measured model does more than match words: it beats its control, if it has one, and has not collapsed.

    Judged by the intervals of the two scores apart, which asks for more than that of their difference.
    """
    result = row["result"]
    control, cosine = result["overall"]["control"], result["health"]["unrelated_cosine"]
    beats = control is None or result["overall"]["interval"][0] > control["interval"][1]
    return row["kind"] != "control" and beats and (cosine is None or cosine < MAX_UNRELATED_COSINE)


def recommendations(comparison: dict[str, Any]) -> list[dict[str, str]]:
    """Return, for each need, the model whose numbers serve it best, and those numbers.

    Only models that do more than match words are recommended as a whole; for a single category
    anything measured may win, BM25 too.
    """
    useful = [row for row in ranked(comparison) if is_useful(row)]
    sized = [row for row in useful if row["result"]["health"]["size_bytes"]]
    found = [
        _best("best quality", useful, lambda row: row["result"]["overall"]["score"], _overall),
        _best("smallest", sized, lambda row: -row["result"]["health"]["size_bytes"], _size),
        _fastest(useful),
        _best_at("multilingual", "multilingual_alignment", comparison),
        _best_at("code", "code_understanding", comparison),
    ]
    return [recommendation for recommendation in found if recommendation]


def _best(
    need: str, rows: list[Row], key: Callable[[Row], float], numbers: Callable[[Row], str]
) -> dict[str, str] | None:
    """Return the row with the highest key and its numbers, beside those of the next one."""
    if not rows:
        return None
    first, *others = sorted(rows, key=key, reverse=True)
    because = [numbers(first)] if numbers is _overall else [numbers(first), _overall(first)]
    if others:
        because.append(f"next {others[0]['name']}, {numbers(others[0])}")
    return {"need": need, "model": first["name"], "because": "; ".join(because)}


def _fastest(rows: list[Row]) -> dict[str, str] | None:
    """Return the best of the rows that are as fast as the fastest one, as far as one run can tell."""
    if not rows:
        return None

    def speed(row: Row) -> float:
        return float(row["result"]["health"]["sentences_per_second"])

    alike = [row for row in rows if speed(row) >= (1 - SPEED_NOISE) * max(map(speed, rows))]
    first, *others = sorted(alike, key=lambda row: -row["result"]["overall"]["score"])
    because = [_speed(first), _overall(first)]
    if others:
        because.append("as fast within a tenth: " + ", ".join(f"{row['name']}, {_speed(row)}" for row in others))
    return {"need": "fastest", "model": first["name"], "because": "; ".join(because)}


def _best_at(need: str, category: str, comparison: dict[str, Any]) -> dict[str, str] | None:
    """Return the model that scores best in one category, whether or not it has an overall score."""

    def scores(row: Row) -> dict[str, Any]:
        return row["result"]["categories"][category]

    rows = [row for row in comparison["models"] if row.get("kind", "control") != "control"]
    rows = sorted((row for row in rows if category in row["result"]["categories"]), key=lambda r: -scores(r)["score"])
    if not rows:
        return None
    first, *others = rows
    because = [with_interval(scores(first))]
    if others:
        because.append(f"next {others[0]['name']}, {with_interval(scores(others[0]))}")
    return {"need": need, "model": first["name"], "because": "; ".join(because)}


def _overall(row: Row) -> str:
    return f"overall {with_interval(row['result']['overall'])}"


def _size(row: Row) -> str:
    return size_text(row["result"]["health"]["size_bytes"])


def _speed(row: Row) -> str:
    return f"{row['result']['health']['sentences_per_second']:,.0f} sentences/s"
