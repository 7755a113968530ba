"""An evaluation as table rows, remarks and HTML."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from importlib.resources import files
from typing import Any

from markupsafe import Markup

from qwen25.evaluation.results import EvaluationFile, EvaluationResult, Score
from qwen25.evaluation.standing import Reference, references
from qwen25.evaluation.verdict import DECISIVE
from qwen25.reports import plots
from qwen25.reports.advice import evaluation_advice
from qwen25.reports.plots import category_bars
from qwen25.runtime.markdown import render_template
from qwen25.runtime.wording import difference_text, rate_text, size_text, with_interval

EVALUATION_HEADER = ["category", "weight", "score [95 % interval]", "random directions"]


def evaluation_rows(result: EvaluationResult) -> list[list[str]]:
    """Return one row a category and one for the overall score: name, weight, score, control."""
    rows = []
    for name, category in result["categories"].items():
        control = category["control"]
        rows.append([name, f"{category['weight']:.0%}", with_interval(category), score_or_dash(control)])
    rows.append(["overall", "", with_interval(result["overall"]), score_or_dash(result["overall"]["control"])])
    return rows


def standing_header(result: EvaluationFile) -> list[str]:
    """Return the header of ``standing_rows``."""
    return [*EVALUATION_HEADER, *(reference["name"] for reference in _shown(result))]


def standing_rows(result: EvaluationFile) -> list[list[str]]:
    """Return the evaluation's rows, each with the reference models' scores on the same items beside it."""
    beside = _shown(result)
    is_whole = result["verdict"]["verdict"] is not None  # the overall score of a part does not compare
    parts = [[reference["categories"].get(name) for reference in beside] for name in result["categories"]]
    parts.append([reference["overall"] if is_whole else None for reference in beside])
    return [
        [row[0].replace("_", " "), *row[1:], *(score_or_dash(score) for score in part)]
        for row, part in zip(evaluation_rows(result), parts, strict=True)
    ]


def standing_importance(result: EvaluationFile) -> list[int]:
    """Return the columns of ``standing_rows``, the most important first: the weights are the least."""
    return [0, 2, 3, *range(len(EVALUATION_HEADER), len(standing_header(result))), 1]


def has_standing(result: EvaluationFile) -> bool:
    """Whether reference models were measured on the items of this result."""
    return bool(_shown(result))


def _shown(result: EvaluationFile) -> list[Reference]:
    """Return the references that get a column: the model's own control has one already."""
    return [reference for reference in references(result["items_sha256"]) if reference["kind"] != "control"]


def standing_best(result: EvaluationFile) -> set[tuple[int, int]]:
    """Return the cells of ``standing_rows`` that hold a row's best score, or one tied with it; the control's apart.

    Scores are tied where their intervals overlap.
    """
    beside, is_whole = _shown(result), result["verdict"]["verdict"] is not None
    rows: list[list[Score | None]] = [
        [found, *(reference["categories"].get(name) for reference in beside)]
        for name, found in result["categories"].items()
    ]
    if is_whole:
        rows.append([result["overall"], *(reference["overall"] for reference in beside)])
    columns = [2, *range(len(EVALUATION_HEADER), len(standing_header(result)))]
    best = set()
    for y, row in enumerate(rows):
        first = max((score for score in row if score), key=lambda score: score["score"])
        tied = (x for x, s in zip(columns, row, strict=True) if s and s["interval"][1] >= first["interval"][0])
        best |= {(y, x) for x in tied}
    return best


def verdict_line(result: EvaluationFile) -> str:
    """Return the verdict, its reasons, and what the reference models score on the same scale."""
    verdict, overall = result["verdict"], result["overall"]
    line = f"Verdict: {verdict['verdict'] or 'none'} ({'; '.join(verdict['reasons'])})."
    beside = [(f"{r['name']} ({r['what']})", r["overall"]) for r in _shown(result) if r["overall"]]
    if verdict["verdict"] is None or not beside:
        return line
    places = [*beside, ("this model", overall), ("random directions", overall["control"])]
    measured = sorted(((score["score"], name) for name, score in places if score), reverse=True)
    return f"{line} On the same items: {'; '.join(f'{name} {score:.3f}' for score, name in measured)}."


def evaluation_remarks(result: EvaluationFile) -> list[str]:
    """Return what has to be said beside the scores, in plain sentences."""
    remarks = [verdict_line(result), *evaluation_advice(result)]
    if instruction := result["categories"].get(DECISIVE):
        numbers = instruction_gain(result)
        if instruction["sub_scores"]["follows_instructions"]:
            remarks.append(
                f"Instruction-awareness confirmed on requests that share no word with their answer: {numbers}."
            )
        else:
            remarks.append(f"The model matches words, not instructions: {numbers} on requests without shared words.")
    return [*remarks, health_line(result)]


def instruction_gain(result: EvaluationResult) -> str:
    """Return what the right instruction is worth on requests that share no word with their answer."""
    gain = result["categories"][DECISIVE]["sub_scores"]["non_lexical_gain_over_shuffled"]
    return f"gain over shuffled instructions {difference_text(gain)}"


def health_line(result: EvaluationResult) -> str:
    """Return the space, the speed and the size in a sentence."""
    health = result["health"]
    facts = f"{rate_text(health['sentences_per_second'])}, {health['latency_p50_ms']:.2f} ms a query"
    # BM25 has no cosines, and takes nothing on disk.
    if health["unrelated_cosine"] is not None:
        facts = f"Unrelated texts: cosine {health['unrelated_cosine']:.3f}; {facts}"
    if health["size_bytes"] is not None:
        facts += f", {size_text(health['size_bytes'])} on disk"
    return f"{facts}."


#: What people call the facts of ``health``, and how each is written; a fact that is not here stays as it is.
_HEALTH: dict[str, tuple[str, Callable[[Any], str]]] = {
    "unrelated_cosine": ("cosine of unrelated texts", "{:.3f}".format),
    "unrelated_cosine_across_languages": ("the same, across languages", "{:.3f}".format),
    "isotropy": ("isotropy (1: no direction is special)", "{:.3f}".format),
    "variance_of_top_direction": ("variance in the strongest direction", "{:.1%}".format),
    "tokens_never_reached": ("tokens never reached", "{:.1%}".format),
    "sentences_per_second": ("speed", rate_text),
    "speed_runs": ("runs, of which speed is the median", str),
    "load_seconds": ("loads in", "{:.2f} s".format),
    "size_bytes": ("on disk", size_text),
    "memory_bytes": ("in memory", size_text),
    "dims": ("dimensions", str),
    "latency_p50_ms": ("a query, median", "{:.2f} ms".format),
    "latency_p95_ms": ("a query, 95th percentile", "{:.2f} ms".format),
}


def health_rows(result: EvaluationResult) -> list[list[str]]:
    """Return what the space, the size and the speed look like: names and values as people read them."""
    rows = []
    for key, value in result["health"].items():
        name, written = _HEALTH.get(key, (key, str))
        rows.append([name, "-" if value is None else written(value)])
    return rows


def evaluation_html(result: EvaluationFile) -> str:
    """Render one model's result as one self-contained page; every text in it is escaped."""
    return render_template(
        "evaluation.html",
        result=result,
        header=standing_header(result),
        rows=standing_rows(result),
        best=standing_best(result),
        remarks=evaluation_remarks(result),
        health=health_rows(result),
        plot=picture(lambda: category_bars(result)),
        **page_script(),
    )


def score_or_dash(score: Score | None) -> str:
    """Return a score with three digits, or a dash where there is none."""
    return "-" if score is None else f"{score['score']:.3f}"


def picture(draw: Callable[[], Any]) -> dict[str, str]:
    """Return a figure for light and for dark pages, as base64 to be put into one."""
    with plots.dark_colours():
        dark = plots.png(draw())
    return {"light": _base64(plots.png(draw())), "dark": _base64(dark)}


def page_script() -> dict[str, Any]:
    """Return the script that sorts the tables of a page, and the hash by which the page allows it and no other."""
    script = (files("qwen25") / "templates" / "sort.js").read_text(encoding="utf-8")
    return {"script": Markup(script), "script_hash": _base64(hashlib.sha256(script.encode()).digest())}  # noqa: S704


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
