"""An evaluation as a table on a terminal and as HTML; what is said of it is ``evaluation/judgement.py``'s."""

from __future__ import annotations

from functools import partial
from typing import Any

from qwen25.evaluation import judgement
from qwen25.evaluation.judgement import REFERENCE, Result
from qwen25.reports import plots
from qwen25.reports.own_data import meaning_sections, own_sections
from qwen25.reports.sections import Section, html_page, print_sections
from qwen25.runtime.text import size_text, with_interval


def scores_section(result: Result) -> Section:
    """Return a model's scores beside those of its control and of the reference models; a row's best are marked.

    :param result: an evaluation or a comparison.
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
    header = ["category", "score [95 % interval]", "random directions", *marks, "weight"]
    return Section(
        f"Scores of {ours['name']}",
        header=header,
        rows=cells,
        best=best,
        figure=partial(plots.category_bars, own),
        shows="Score of each category with its interval, beside the random-direction control",
    )


def print_evaluation(result: Result) -> None:
    """Print the table of scores, and what they say, on standard output."""
    print_sections([scores_section(result), _in_short(result), *own_sections(result)])


def evaluation_html(result: Result) -> str:
    """Render one model's result as one self-contained page; every text in it is escaped."""
    health = [_health_row(*fact) for fact in result["health"].items()]
    header = ["asked", "right", "chosen instead"]
    worst = [
        Section(
            f"What went worst: {name.replace('_', ' ')}",
            header=header,
            rows=[[item["asked"], item["right"], item["chosen"]] for item in category["worst_items"]],
            texts=True,
            code=name == "code_understanding",
        )
        for name, category in result["categories"].items()
    ]
    sections = [_in_short(result), scores_section(result), *meaning_sections(result), *own_sections(result)]
    sections += [Section("Health", header=["what", "measured"], rows=health), *worst]
    about = f"{result['command']} · {result['created']} · seed {result['seed']} · model {result['model']['sha256']}"
    return html_page(f"Evaluation of {result['model']['name']}", sections, about)


def _in_short(result: Result) -> Section:
    return Section("In short", judgement.summary(result))


def _health_row(key: str, value: Any) -> list[str]:
    """Return a fact's name and its value as people read them."""
    written = "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
    if key.endswith("_bytes"):
        key, written = key.removesuffix("_bytes"), size_text(value)
    return [key.replace("_", " "), written]
