"""An evaluation as table rows, sentences and HTML; the sentences are those of terminal, HTML, demo and card alike."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from importlib.resources import files
from typing import Any

from markupsafe import Markup

from qwen25.evaluation import judgement
from qwen25.evaluation.judgement import DECISIVE, SAME, Result, compared
from qwen25.reports import plots
from qwen25.reports.own_data import meaning_of, own_parts, print_own_data
from qwen25.runtime.display import print_lines, print_table
from qwen25.runtime.text import difference_text, rate_text, render_template, size_text, with_interval

#: Kinds of sentences that share nearly all words with another and say something else -> what differs.
NEAR_COPIES = {"number": "another number", "negation": "a negation", "role_swap": "swapped roles"}


def scores_table(result: Result) -> tuple[list[str], list[list[str]], set[tuple[int, int]]]:
    """Return the scores beside those of the model's control and of the reference models, as a table.

    :return: header, rows, and the cells with a row's best score or one tied with it, the control's apart.
    """
    beside = _references(result)
    header, rows = (
        ["category", "score [95 % interval]", "random directions", *(r["name"] for r in beside), "weight"],
        [],
    )
    best = set()
    for y, (name, score) in enumerate([*result["categories"].items(), ("overall", result["overall"])]):
        others = [reference["categories"].get(name) for reference in beside]
        if name == "overall":  # that of a part of the categories does not compare
            others = [reference["overall"] if result["verdict"]["verdict"] else None for reference in beside]
        cells = [with_interval(score), *map(_score_or_dash, [score["control"], *others])]
        rows.append([name.replace("_", " "), *cells, f"{score['weight']:.0%}" if "weight" in score else ""])
        found = {x: s for x, s in {1: score, **dict(enumerate(others, 3))}.items() if s}
        first = max(found.values(), key=lambda s: s["score"])
        best |= {(y, x) for x, s in found.items() if s is first or compared(first, s) == SAME}
    return header, rows, best


def _references(result: Result) -> list[Result]:
    """Return the reference models that stand beside an evaluation: the model's own control is there already."""
    return [model for model in judgement.standing(result["items_sha256"]) if model["kind"] != "control"]


def _score_or_dash(score: Result | None) -> str:
    return "-" if score is None else f"{score['score']:.3f}"


def evaluation_remarks(result: Result) -> list[str]:
    """Return what has to be said beside the scores, in plain sentences."""
    instruction = [instruction_line(result)] if DECISIVE in result["categories"] else []
    return [verdict_line(result), *judgement.evaluation_advice(result).lines, *instruction, health_line(result)]


def verdict_line(result: Result) -> str:
    """Return the verdict, its reasons, and what the reference models score on the same scale."""
    found, overall = result["verdict"], result["overall"]
    line = f"Verdict: {found['verdict'] or 'none'} ({'; '.join(found['reasons'])})."
    places = [(f"{r['name']} ({r['what']})", r["overall"]) for r in _references(result) if r["overall"]]
    if found["verdict"] is None or not places:
        return line
    places += [("this model", overall), ("random directions", overall["control"])]
    measured = sorted(((score["score"], name) for name, score in places if score), reverse=True)
    return f"{line} On the same items: {'; '.join(f'{name} {score:.3f}' for score, name in measured)}."


def instruction_line(result: Result) -> str:
    """Return whether the model follows instructions or matches words, with the numbers that say so."""
    found = result["categories"][DECISIVE]["sub_scores"]
    gain = difference_text(found["non_lexical_gain_over_shuffled"])
    numbers = f"{found['intent_non_lexical_requests']:.3f}, {gain} over the same with the instructions shuffled"
    if judgement.follows_instructions(result):
        return f"Instruction-awareness confirmed on requests that share no word with their answer: {numbers}."
    return f"The model matches words, not instructions: {numbers} on requests without shared words."


def duplicates_line(result: Result) -> str:
    """Return how often a paraphrase is told from a near copy that says something else."""
    found = result["categories"]["semantic_similarity"]["sub_scores"]["preferred_to_negative"]
    told = ", ".join(f"{found[kind]:.0%} ({what})" for kind, what in NEAR_COPIES.items() if kind in found)
    return (
        f"A paraphrase is nearer than a near copy that says something else in {told} of the cases: where that matters, "
        "check duplicates by other means."
    )


def health_line(result: Result) -> str:
    """Return what a model looks like and costs, in a sentence."""
    health = result["health"]
    facts = f"{rate_text(health['sentences_per_second'])}, {health['latency_p50_ms']:.2f} ms a query"
    # BM25 has no cosines, and takes nothing on disk.
    if health["unrelated_cosine"] is not None:
        facts = f"Unrelated texts: cosine {health['unrelated_cosine']:.3f}; {facts}"
    if health["size_bytes"] is not None:
        facts += f", {size_text(health['size_bytes'])} on disk"
    return f"{facts}."


def print_evaluation(result: Result) -> None:
    """Print the table of scores, and what they say, on standard output."""
    header, rows, _ = scores_table(result)
    print_table(result["model"]["name"], header, rows)
    print_lines(evaluation_remarks(result))
    print_own_data(result)


def evaluation_html(result: Result) -> str:
    """Render one model's result as one self-contained page; every text in it is escaped."""
    return render_template(
        "evaluation.html",
        result=result,
        table=scores_table(result),
        remarks=evaluation_remarks(result),
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
