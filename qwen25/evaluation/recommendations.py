"""What a comparison says: who is ranked, what lies on the frontier, and which model serves which need."""

from __future__ import annotations

from typing import TypedDict, cast

import numpy as np

from qwen25.evaluation.categories.all import CATEGORIES
from qwen25.evaluation.results import SAME, Comparison, ComparisonFile, Row, ScoreAndControl
from qwen25.evaluation.verdict import MAX_UNRELATED_COSINE
from qwen25.runtime.wording import rate_text, size_text, with_interval

#: Speeds that differ by less than this share are alike.
SPEED_NOISE = 0.1


class Recommendation(TypedDict):
    """The model for a need, those that the numbers do not tell from it, and the numbers."""

    need: str
    model: str
    tied: list[str]
    because: str


def is_complete(row: Row, ours: Row) -> bool:
    """Whether a row was measured on every category that ours was, so that their overalls compare."""
    return "result" in row and set(row["result"]["categories"]) == set(ours["result"]["categories"])


def ours_of(comparison: Comparison) -> Row:
    """Return the row that the others are compared with."""
    return next(row for row in comparison["models"] if row["name"] == comparison["ours"])


def with_our_name(comparison: ComparisonFile, name: str) -> ComparisonFile:
    """Return a comparison in which ours is called ``name``, unless another row is."""
    ours, rows = comparison["ours"], comparison["models"]
    if any(row["name"] == name != ours for row in rows):
        return comparison
    renamed = [cast(Row, {**row, "name": name}) if row["name"] == ours else row for row in rows]
    return cast(ComparisonFile, {**comparison, "ours": name, "models": renamed})


def ranked(comparison: Comparison) -> list[Row]:
    """Return the rows measured on every category, best first."""
    rows = [row for row in comparison["models"] if is_complete(row, ours_of(comparison))]
    return sorted(rows, key=lambda row: -row["result"]["overall"]["score"])


def frontier(comparison: Comparison) -> list[Row]:
    """Return the useful rows of known size that no smaller (or equally small) one beats, smallest first (Pareto)."""
    best = -np.inf
    found: list[Row] = []
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


def recommendations(comparison: Comparison) -> list[Recommendation]:
    """Return, for each need, the model whose numbers serve it best, and those numbers.

    Only models that do more than match words are recommended as a whole; for a single category
    anything measured may win, BM25 too.
    """
    useful = [row for row in ranked(comparison) if is_useful(row)]
    found = [_best_quality(useful), _smallest(useful), _fastest(useful)]
    found += [_best_at(category.need, category.name, comparison) for category in CATEGORIES.values() if category.need]
    return [recommendation for recommendation in found if recommendation]


def _best_quality(rows: list[Row]) -> Recommendation | None:
    """Return the first of the ranked rows."""
    return _best("best quality", rows, None)


def _best_at(need: str, category: str, comparison: Comparison) -> Recommendation | None:
    """Return the model that scores best in one category, whether or not it has an overall score."""
    rows = [row for row in comparison["models"] if "result" in row and row["kind"] != "control"]
    rows = [row for row in rows if category in row["result"]["categories"]]
    return _best(need, sorted(rows, key=lambda row: -score_of(row, category)["score"]), category)


def _best(need: str, rows: list[Row], category: str | None) -> Recommendation | None:
    """Return the first of the sorted rows, those tied with it (else the next one), and their scores."""
    if not rows:
        return None
    first, *others = rows
    tied = [row for row in others if are_tied(first, row, category)]
    because = with_interval(score_of(first, category))
    beside = [f"{row['name']} {with_interval(score_of(row, category))}" for row in tied or others[:1]]
    if beside:
        because += f"; {'tied with' if tied else 'next'} {', '.join(beside)}"
    return {"need": need, "model": first["name"], "tied": [row["name"] for row in tied], "because": because}


def score_of(row: Row, category: str | None) -> ScoreAndControl:
    """Return a measured row's score in a category; None: overall."""
    return row["result"]["overall"] if category is None else row["result"]["categories"][category]


def are_tied(first: Row, row: Row, category: str | None) -> bool:
    """Whether the numbers do not tell two models apart.

    Where one of them is ours the paired interval of their difference decides, else whether their own overlap.
    """
    paired = [r["difference_to_ours"] for r in (first, row) if "difference_to_ours" in r]
    if len(paired) == 1:
        found = paired[0]["overall"] if category is None else paired[0]["categories"].get(category)
        if found:
            return found["word"] == SAME
    return score_of(row, category)["interval"][1] >= score_of(first, category)["interval"][0]


def _smallest(rows: list[Row]) -> Recommendation | None:
    """Return the smallest of the rows that take room on disk."""
    sized = [row for row in rows if row["result"]["health"]["size_bytes"]]
    if not sized:
        return None
    first, *others = sorted(sized, key=lambda row: row["result"]["health"]["size_bytes"])
    because = f"{_size(first)}; overall {with_interval(first['result']['overall'])}"
    if others:
        because += f"; next {others[0]['name']}, {_size(others[0])}"
    return {"need": "smallest", "model": first["name"], "tied": [], "because": because}


def _fastest(rows: list[Row]) -> Recommendation | None:
    """Return the best of the rows that are as fast as the fastest one, within what runs differ by."""
    if not rows:
        return None
    limit = (1 - SPEED_NOISE) * max(map(_speed, rows))
    first, *tied = [row for row in rows if _speed(row) >= limit]  # ranked: the best one is first
    because = f"{rate_text(_speed(first))}; overall {with_interval(first['result']['overall'])}"
    if tied:
        because += "; tied within a tenth with "
        because += ", ".join(f"{row['name']}, {rate_text(_speed(row))}" for row in tied)
    return {"need": "fastest", "model": first["name"], "tied": [row["name"] for row in tied], "because": because}


def _size(row: Row) -> str:
    return size_text(row["result"]["health"]["size_bytes"])


def _speed(row: Row) -> float:
    return float(row["result"]["health"]["sentences_per_second"])
