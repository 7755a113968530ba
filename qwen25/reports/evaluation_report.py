"""An evaluation as a table on a terminal and as HTML; what is said of it is ``evaluation/judgement.py``'s."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from importlib.resources import files
from typing import Any

from markupsafe import Markup

from qwen25.evaluation import judgement
from qwen25.evaluation.judgement import REFERENCE, Result
from qwen25.reports import plots
from qwen25.reports.own_data import meaning_of, own_parts, print_own_data
from qwen25.runtime.display import print_lines, print_table
from qwen25.runtime.text import render_template, size_text, with_interval


def scores_table(result: Result) -> tuple[list[str], list[list[str]], set[tuple[int, int]]]:
    """Return a model's scores beside those of its control and of the reference models, as a table.

    :param result: an evaluation or a comparison.
    :return: header, rows, and the cells with a row's best score or one tied with it, the control's apart.
    """
    ours, *others = judgement.standing(result)
    names = [model["name"] for model in judgement.references(result["items_sha256"])]
    rows = [ours, *sorted((row for row in others if row["name"] in names), key=lambda row: names.index(row["name"]))]
    marks = [f"{row['name']} (reference)" if row.get("obtained") == REFERENCE else row["name"] for row in rows[1:]]
    cells, best, own = [], set(), ours["result"]
    for y, (name, score) in enumerate([*own["categories"].items(), (None, own["overall"])]):
        scored = [
            row for row in rows if (name in row["result"]["categories"] if name else judgement.is_complete(row, ours))
        ]
        scores = [f"{judgement.score_of(row, name)['score']:.3f}" if row in scored else "-" for row in rows[1:]]
        control = f"{score['control']['score']:.3f}" if score["control"] else "-"
        weight = f"{score['weight']:.0%}" if "weight" in score else ""
        cells.append([(name or "overall").replace("_", " "), with_interval(score), control, *scores, weight])
        first = judgement.best_rows(scored, name)
        best |= {(y, x + 1 + (x > 0)) for x, row in enumerate(rows) if row in first}
    return ["category", "score [95 % interval]", "random directions", *marks, "weight"], cells, best


def print_evaluation(result: Result) -> None:
    """Print the table of scores, and what they say, on standard output."""
    header, rows, _ = scores_table(result)
    print_table(result["model"]["name"], header, rows)
    print_lines(judgement.summary(result), "In short")
    print_own_data(result)


def evaluation_html(result: Result) -> str:
    """Render one model's result as one self-contained page; every text in it is escaped."""
    return render_template(
        "evaluation.html",
        result=result,
        table=scores_table(result),
        remarks=judgement.summary(result),
        health=[_health_row(*fact) for fact in result["health"].items()],
        plot=picture(plots.category_bars, result),
        own=own_parts(result),
        meaning=_meaning(result),
        **page_script(),
    )


def _meaning(result: Result) -> Result | None:
    """Return what the page says of cosines, with their picture."""
    found = meaning_of(result)
    return found and {**found, "plot": picture(plots.score_distributions, found["measured"])}


def _health_row(key: str, value: Any) -> list[str]:
    """Return a fact's name and its value as people read them."""
    written = "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
    if key.endswith("_bytes"):
        key, written = key.removesuffix("_bytes"), size_text(value)
    return [key.replace("_", " "), written]


def picture(draw: Callable[[Result, plots.Colours], Any], result: Result) -> dict[str, str]:
    """Return a figure for light and for dark pages, as base64 to be put into one."""
    return {name: _base64(plots.png(draw(result, colours))) for name, colours in plots.COLOURS.items()}


def page_script() -> dict[str, Any]:
    """Return the script that sorts the tables of a page, and the hash by which the page allows it and no other."""
    script = (files("qwen25") / "templates" / "sort.js").read_text(encoding="utf-8")
    return {"script": Markup(script), "script_hash": _base64(hashlib.sha256(script.encode()).digest())}  # noqa: S704


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
