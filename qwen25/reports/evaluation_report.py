"""An evaluation as table rows, remarks and HTML."""

from __future__ import annotations

import base64
from typing import Any

from qwen25.evaluation.results import EvaluationFile, EvaluationResult, Score
from qwen25.evaluation.verdict import DECISIVE
from qwen25.reports import plots
from qwen25.reports.plots import category_bars
from qwen25.runtime.markdown import render_template
from qwen25.runtime.wording import difference_text, rate_text, size_text, with_interval


def evaluation_rows(result: EvaluationResult) -> list[list[str]]:
    """Return one row a category and one for the overall score: name, weight, score, control."""
    rows = []
    for name, category in result["categories"].items():
        control = category["control"]
        rows.append([name, f"{category['weight']:.0%}", with_interval(category), score_or_dash(control)])
    rows.append(["overall", "", with_interval(result["overall"]), score_or_dash(result["overall"]["control"])])
    return rows


EVALUATION_HEADER = ["category", "weight", "score [95 % interval]", "random directions"]


def evaluation_remarks(result: EvaluationResult) -> list[str]:
    """Return what has to be said beside the scores, in plain sentences."""
    health, instruction = result["health"], result["categories"].get(DECISIVE)
    remarks = []
    if instruction:
        gain = instruction["sub_scores"]["non_lexical_gain_over_shuffled"]
        numbers = f"gain over shuffled instructions {difference_text(gain)}"
        if instruction["sub_scores"]["follows_instructions"]:
            remarks.append(
                f"Instruction-awareness confirmed on requests that share no word with their answer: {numbers}."
            )
        else:
            remarks.append(f"The model matches words, not instructions: {numbers} on requests without shared words.")
    facts = f"{rate_text(health['sentences_per_second'])}, {health['latency_p50_ms']:.2f} ms a query"
    # BM25 has no cosines, and takes nothing on disk.
    if health["unrelated_cosine"] is not None:
        facts = f"Unrelated texts: cosine {health['unrelated_cosine']:.3f}; {facts}"
    if health["size_bytes"] is not None:
        facts += f", {size_text(health['size_bytes'])} on disk"
    remarks.append(f"{facts}.")
    verdict = result["verdict"]
    if verdict["verdict"] is None:
        remarks.append(f"Verdict: none ({'; '.join(verdict['reasons'])}).")
    else:
        remarks.append(f"Verdict: {verdict['verdict']} ({'; '.join(verdict['reasons'])}).")
    return remarks


def evaluation_html(result: EvaluationFile) -> str:
    """Render one model's result as one self-contained page; every text in it is escaped."""
    return render_template(
        "evaluation.html",
        result=result,
        header=EVALUATION_HEADER,
        rows=evaluation_rows(result),
        remarks=evaluation_remarks(result),
        plot=inline(category_bars(result)),
    )


def score_or_dash(score: Score | None) -> str:
    """Return a score with three digits, or a dash where there is none."""
    return "-" if score is None else f"{score['score']:.3f}"


def inline(figure: Any) -> str:
    """Return a figure as base64, to be put into a page."""
    return base64.b64encode(plots.png(figure)).decode()
