"""The measured frontier -> docs/SIZES.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.sizes.forms import DEFAULT, FORMS, TINY
from benchmarks.sizes.measure import SHOWN_MB, TINY_MB, WHOLE, Row
from qwen25.evaluation.categories.all import WEIGHTS
from qwen25.runtime.markdown import table as markdown_table
from qwen25.runtime.wording import difference_text, size_text, with_interval

DOCS = Path(__file__).resolve().parents[2] / "docs"
RESULT, DOCUMENT, PLOT = DOCS / "results" / "size_frontier.json", DOCS / "SIZES.md", DOCS / "size_frontier.svg"
_TITLE = [
    "# Which form keeps most in how many bytes?",
    "",
    f"Rendered by `python -m benchmarks.sizes --render` from [`{RESULT.name}`](results/{RESULT.name}): do not edit.",
    "",
]
_COMMANDS = [
    "bash run_qwen25.sh distill --teacher TEACHER --max-size-mb none --storage float16 --output FOLDER",
    "python -m benchmarks.sizes --model NAME=FOLDER --public-eval PUBLIC",
    "python -m benchmarks.sizes --model NAME=FOLDER --speed --render",
]
_SHORT = [name.split("_")[0] for name in WEIGHTS]


def document(result: dict[str, Any]) -> str:
    """Render docs/SIZES.md; every number in it is one of the result's."""
    models = result["models"]
    if not models:
        return "\n".join([*_TITLE, "Nothing is measured yet. To measure it:", "", "```bash", *_COMMANDS, "```", ""])
    quick = ["**A quick run: it only shows that the benchmark runs.**", ""] if any(m["quick"] for m in models) else []
    lines = [
        *_TITLE,
        *quick,
        "Every form is derived from a saved model with all of its tokens, trained or not. 1 MB is 10^6 bytes, all",
        "tensors of the file counted.",
        "",
        "- *first merges*: the tokenizer's first tokens; *by use*: those that text needs most, with all merges that",
        "  lead to them (`--rare-tokens pieces`). The text of the others falls into shorter tokens.",
        "- *shared rows*: all tokens stay, the rarer ones take the most similar row (what `--max-size-mb` does).",
        "- *dims*: the first dimensions, which say most.",
        "- *int8*: whole numbers and a scale a token.",
        "",
        f"![Score against size, one line a form]({PLOT.name})",
        "",
        *_model_lines(models),
        "## What the size costs",
        "",
        f"The loss in % of the whole table's score, of each form at {SHOWN_MB:g} MB and of *tiny* (`--preset tiny`,",
        f"{FORMS[TINY].label}) at {TINY_MB:g} MB. Negative: it scores higher.",
        "",
        "On the items of `eval_data/` (overall with its 95 % interval, on the same resamples as the whole table):",
        "",
        *_loss_lines(models, "evaluation"),
        "",
    ]
    if any(_has_public(model) for model in models):
        lines += ["On public data that nobody on this project wrote:", "", *_public_loss_lines(models), ""]
    lines += [
        "## Every form and size",
        "",
        "*ours*: overall on `eval_data/`; *calibration*: on `calibration_data/`; *difference*: from the whole table,",
        "*beside shared rows, int8*: from that form at the same size; all on the same resamples.",
        "",
    ]
    for model in models:
        lines += [f"### {model['name']}", "", *_size_lines(model), ""]
    if result.get("speed"):
        lines += ["## Speed", "", *_speed_lines(result["speed"]), ""]
    return "\n".join([*lines, *_measured_lines(result), ""])


def _model_lines(models: list[Row]) -> list[str]:
    rows = []
    for model in models:
        whole = model["rows"][0]
        training = f"{model['pairs']:,} pairs, {model['sentence_vectors']:,} sentence vectors"
        trained = training if model["pairs"] or model["sentence_vectors"] else "none"
        public = f"{whole['public']['overall']:.3f}" if whole["public"] else "-"
        scores = [with_interval(whole["evaluation"]), public]
        rows.append([model["name"], model["teacher"], trained, f"{model['tokens']:,}", str(model["dims"]), *scores])
    header = ["model", "teacher", "training", "tokens", "dims", "ours, whole table [95 % interval]", "public"]
    return [*markdown_table(header, rows), ""]


def _shown(model: Row) -> list[tuple[str, Row]]:
    """Return the rows of the summary with their names: every form at one size, and the tiny one."""
    found = [(FORMS[r["form"]].label, r) for r in model["rows"] if r["budget_mb"] == SHOWN_MB and r["form"] != TINY]
    found += [("tiny", r) for r in model["rows"] if r["budget_mb"] == TINY_MB and r["form"] == TINY]
    return found


def _loss_lines(models: list[Row], kind: str) -> list[str]:
    rows = []
    for model in models:
        whole = model["rows"][0][kind]
        for name, row in _shown(model):
            overall = row[kind]["difference"]
            bounds = sorted(-100 * bound / whole["score"] for bound in overall["interval"])
            total = f"{-100 * overall['value'] / whole['score']:.1f} [{bounds[0]:.1f}, {bounds[1]:.1f}]"
            each = [_loss(row[kind]["categories"][c]["score"], whole["categories"][c]["score"]) for c in WEIGHTS]
            rows.append([model["name"], name, total, *each])
    return markdown_table(["model", "form", "overall", *_SHORT], rows)


def _public_loss_lines(models: list[Row]) -> list[str]:
    rows = []
    for model in filter(_has_public, models):
        whole = model["rows"][0]["public"]
        for name, row in _shown(model):
            found = row["public"]
            each = [_loss(found["categories"][c], whole["categories"][c]) for c in WEIGHTS if c in whole["categories"]]
            score = f"{found['overall']:.3f} of {whole['overall']:.3f}"
            rows.append([model["name"], name, score, _loss(found["overall"], whole["overall"]), *each])
    return markdown_table(["model", "form", "score", "overall", *_SHORT], rows)


def _loss(score: float, whole: float) -> str:
    """Return what is lost in %; of a whole that is near 0 no share can be told."""
    return f"{100 * (whole - score) / whole:.1f}" if whole >= 0.1 else "-"


def _has_public(model: Row) -> bool:
    return model["rows"][0]["public"] is not None


def _size_lines(model: Row) -> list[str]:
    header = ["up to", "form", "tokens", "rows", "dims", "size", "ours [95 % interval]", "difference"]
    header += [f"beside {FORMS[DEFAULT].label}", "calibration", "difference", "public"]
    rows = []
    for row in model["rows"]:
        ours, calibration = row["evaluation"], row["calibration"]
        is_whole = row["form"] == WHOLE
        facts = [
            "-" if is_whole else f"{row['budget_mb']:g} MB",
            "whole, float32" if is_whole else FORMS[row["form"]].label,
        ]
        facts += [f"{row['tokens']:,}", f"{row['rows']:,}", str(row["dims"]), size_text(row["bytes"])]
        beside = "-" if is_whole or row["form"] == DEFAULT else difference_text(ours["beside_default"])
        difference = "-" if is_whole else difference_text(ours["difference"])
        theirs = "-" if is_whole else difference_text(calibration["difference"])
        public = f"{row['public']['overall']:.3f}" if row["public"] else "-"
        rows.append([*facts, with_interval(ours), difference, beside, f"{calibration['score']:.3f}", theirs, public])
    return markdown_table(header, rows)


def _speed_lines(speed: Row) -> list[str]:
    measured = [row for row in speed["rows"] if row["unavailable"] is None]
    rows = [
        [
            row["name"],
            str(row["dims"]),
            size_text(row["memory_bytes"]),
            f"{row['rate']:,.0f}",
            f"{min(row['rates']):,.0f} to {max(row['rates']):,.0f}",
            f"{row['ratio_to_float32']:.2f}",
        ]
        for row in measured
    ]
    return [
        f"`encode` of the same {measured[0]['sentences']:,} sentences, the texts of `eval_data/` repeated, in one",
        f"process, the forms of {speed['model']} in turn, {len(measured[0]['rates'])} times; the median. All are",
        "loaded as stored, unless it says otherwise.",
        "",
        *markdown_table(["model", "dims", "in memory", "sentences/s", "least to most", "of the first"], rows),
        *[f"\n{row['name']}: not measured ({row['unavailable']})." for row in speed["rows"] if row["unavailable"]],
    ]


def _measured_lines(result: Row) -> list[str]:
    parts = [(model["name"], model) for model in result["models"]]
    parts += [("speed", result["speed"])] if result.get("speed") else []
    rows = [
        [
            name,
            part["created"][:10],
            f"{part['hardware']['processor']}, {part['hardware']['cores']} cores",
            f"{part['wall_seconds'] / 60:.0f} min",
            part.get("model_sha256", "-")[:12],
            part["command"].partition(" ")[2],
        ]
        for name, part in parts
    ]
    return ["## Measured", "", *markdown_table(["what", "day", "on", "in", "file", "arguments"], rows)]
