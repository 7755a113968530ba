"""The result of the benchmark of recipes -> docs/RECIPES.md."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarks.recipes.measure import Row
from benchmarks.recipes.variants import TEXTS, TEXTS_ALONE, share_text
from qwen25.distillation.frequencies import ZIPF_SHARE
from qwen25.evaluation.categories.all import WEIGHTS
from qwen25.runtime.markdown import table as markdown_table
from qwen25.runtime.wording import difference_text, size_text, with_interval

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "docs" / "recipes.json"
#: Beside the result.
DOCUMENT = "RECIPES.md"


def document(result: Row) -> str:
    """Render docs/RECIPES.md; every number in it is one of the result's."""
    lines = [
        "# Which recipe?",
        "",
        f"Rendered by `python -m benchmarks.recipes --render` from [`{RESULT.name}`]({RESULT.name}): do not edit.",
        "",
        *_what_lines(result),
        "",
        "## Recipes",
        "",
        *_recipe_lines(result),
        "",
        "## Fewer dimensions",
        "",
        "The default table's first principal directions.",
        "",
        *_dims_lines(result),
        "",
        f"Measured {result['created'][:10]} on {result['hardware']['processor']}, {result['hardware']['cores']} cores, "
        f"in {result['wall_seconds'] / 60:.0f} minutes: `{result['command']}`.",
        "",
    ]
    return "\n".join(lines)


def _what_lines(result: Row) -> list[str]:
    teacher = result["teacher"]
    quick = ["", "**A quick run on a cut vocabulary: its numbers only show that the benchmark runs.**"]
    size = result.get("max_size_mb")
    kept = f", those that phase 1 keeps at {size:g} MB" if size else ""
    return [
        f"The teacher is {teacher['name']} ({teacher['layers']} layers x {teacher['hidden_size']}, weights "
        f"`{teacher['weights_sha256'][:12]}`), {result['tokens']:,} tokens{kept}. All tables are made from one pass",
        "of its token states, and are float32: what int8 and a size cost is measured in [SIZES.md](SIZES.md).",
        "",
        f"- *ours*: the overall score on the {sum(result['items'].values()):,} items of `calibration_data/`, "
        "with its 95 % interval.",
        "- *difference*: from the default recipe, on the same resamples of the items, so its",
        "  interval is narrower than those of the two scores. An interval that holds 0 shows no difference.",
        *(
            ["- *public*: the overall score on public data that nobody on this project wrote."]
            if has_public(result)
            else []
        ),
        *(quick if result["quick"] else []),
    ]


def has_public(result: Row) -> bool:
    """Say whether the models were scored on public data."""
    return result["recipes"][0]["public"] is not None


def _score_header(result: Row, categories: bool) -> list[str]:
    names = [name.split("_")[0] for name in WEIGHTS] if categories else []
    return ["ours [95 % interval]", "difference", *(["public"] if has_public(result) else []), *names]


def _score_cells(row: Row, categories: bool) -> list[str]:
    """Return the cells of a row's scores; the categories are the public data's where there is any."""
    public = row["public"]
    found = (public or row)["categories"]
    values = [f"{found[name]:.3f}" if name in found else "-" for name in WEIGHTS] if categories else []
    overall = [f"{public['overall']:.3f}"] if public else []
    return [with_interval(row["overall"]), difference_text(row["difference"]), *overall, *values]


def _category_note(result: Row) -> str:
    return f"The six categories are those of {'the public data' if has_public(result) else 'our items'}."


def _recipe_lines(result: Row) -> list[str]:
    header = ["recipe", "layers", "frequencies", "SIF", "whitening", "dims", *_score_header(result, True)]
    rows = []
    for row in result["recipes"]:
        layers = " + ".join(share_text(share) for share in row["layers"])
        cells = [row["name"], layers, _frequency_text(row), f"{row['sif']:g}", f"{row['whitening']:g}"]
        rows.append([*cells, str(row["dims"]), *_score_cells(row, True)])
    return [
        "Layers are shares of the teacher's depth. *plain* takes each token alone, all others take it after a newline.",
        "*random directions* has the default's tokenizer and row norms and random vectors: it can only match words.",
        *_texts_lines(result),
        f"{_category_note(result)}",
        "",
        *markdown_table(header, rows),
        "",
        *_best_lines(result, result["recipes"], lambda row: f"*{row['name']}*", "Of these recipes"),
    ]


def _texts_lines(result: Row) -> list[str]:
    if not any(row["frequencies"] in (TEXTS, TEXTS_ALONE) for row in result["recipes"]):
        return ["No texts were written for token frequencies: what that brought is in [LOG.md](LOG.md)."]
    return [
        f"*{TEXTS}* is what the teacher uses in texts that it writes, mixed with {ZIPF_SHARE:.0%} of Zipf's "
        f"law; *{TEXTS_ALONE}* is not mixed.",
    ]


def _frequency_text(row: Row) -> str:
    return "Zipf" if row["frequencies"] == "zipf" else f"{row['frequencies']}, {row['texts']:,} texts"


def _best_lines(result: Row, rows: list[Row], name: Callable[[Row], str], where: str) -> list[str]:
    """Say which row is highest, on our items and on the public data."""
    best = max(rows, key=lambda row: row["overall"]["score"])
    text = f"- {where}, {name(best)} is highest on our items ({best['overall']['score']:.3f})"
    if has_public(result):
        outside = max(rows, key=lambda row: row["public"]["overall"])
        text += f", {name(outside)} on the public data ({outside['public']['overall']:.3f})"
    return [f"{text}."]


def _dims_lines(result: Row) -> list[str]:
    rows = [[str(r["dims"]), size_text(r["bytes"]), *_score_cells(r, True)] for r in result["dims"]]
    header = ["dims", "size, float32", *_score_header(result, True)]
    return markdown_table(header, rows)
