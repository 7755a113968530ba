"""The result of the benchmark of recipes -> docs/RECIPES.md."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarks.recipes.measure import Row
from benchmarks.recipes.sizes import FORMS, SHOWN_MB
from benchmarks.recipes.variants import share_text
from qwen25.distillation.frequencies import ZIPF_SHARE
from qwen25.evaluation.categories.all import WEIGHTS
from qwen25.runtime.markdown import table as markdown_table
from qwen25.runtime.wording import difference_text, size_text, with_interval

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "docs" / "recipes.json"
#: Beside the result.
DOCUMENT, PLOT = "RECIPES.md", "size_frontier.svg"


def document(result: Row) -> str:
    """Render docs/RECIPES.md; every number in it is one of the result's."""
    lines = [
        "# Which recipe, and which form in how many bytes?",
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
        "## Equal bytes",
        "",
        *_size_lines(result),
        "",
        "## Speed",
        "",
        *_speed_lines(result),
        "",
        f"Measured {result['created'][:10]} on {result['hardware']['processor']}, {result['hardware']['cores']} cores, "
        f"in {result['wall_seconds'] / 60:.0f} minutes: `{result['command']}`.",
        "",
    ]
    return "\n".join(lines)


def _what_lines(result: Row) -> list[str]:
    teacher = result["teacher"]
    quick = ["", "**A quick run on a cut vocabulary: its numbers only show that the benchmark runs.**"]
    return [
        f"The teacher is {teacher['name']} ({teacher['layers']} layers x {teacher['hidden_size']}, weights "
        f"`{teacher['weights_sha256'][:12]}`), {result['tokens']:,} tokens. All tables are made from one pass",
        "of its token states and one set of texts that it wrote.",
        "",
        f"- *ours*: the overall score on the {sum(result['items'].values()):,} items of `calibration_data/`, "
        "with its 95 % interval.",
        "- *difference*: from the default recipe's whole float32 table, on the same resamples of the items, so its",
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
        f"*teacher* is what the teacher uses in texts that it writes, mixed with {ZIPF_SHARE:.0%} of Zipf's "
        "law; *teacher alone* is not mixed.",
        f"{_category_note(result)}",
        "",
        *markdown_table(header, rows),
        "",
        *_best_lines(result, result["recipes"], lambda row: f"*{row['name']}*", "Of these recipes"),
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


def _size_lines(result: Row) -> list[str]:
    header = ["up to", "form", "tokens", "dims", "size", *_score_header(result, False)]
    rows = []
    for row in result["sizes"]:
        limit = "no limit" if row["budget_mb"] is None else f"{row['budget_mb']:g} MB"
        tokens = f"{row['tokens']:,}" + (" (whole)" if row["whole"] else "")
        if "centroids" in row:
            tokens += f" on {row['centroids']:,} centroids"
        cells = [limit, FORMS[row["form"]], tokens, str(row["dims"]), size_text(row["bytes"])]
        rows.append([*cells, *_score_cells(row, False)])
    best = []
    for budget in dict.fromkeys(row["budget_mb"] for row in result["sizes"] if row["budget_mb"] is not None):
        there = [row for row in result["sizes"] if row["budget_mb"] == budget]
        best += _best_lines(result, there, lambda row: f"*{FORMS[row['form']]}*", f"Up to {budget:g} MB")
    return [
        "Which form of the default recipe keeps most in how many bytes (10^6 bytes to the MB; the tensors alone)?",
        "A cut vocabulary keeps the first merges of the tokenizer, and is distilled anew for what is left.",
        "*Clustered* gives each token the nearest of a number of k-means centroids, scaled by the token's own weight.",
        "*int8* has one scale for the whole table; model2vec loads it, sentence-transformers cannot.",
        "Where a form's whole table fits, its row is the whole table's.",
        "",
        f"![Score against size, one line a form]({PLOT})",
        "",
        *markdown_table(header, rows),
        "",
        *_loss_lines(result),
        *best,
    ]


def _loss_lines(result: Row) -> list[str]:
    """Set the shown size beside the whole table."""
    sizes = result["sizes"]
    whole = next(row for row in sizes if row["form"] == "float32" and row["budget_mb"] is None)
    cut = next((row for row in sizes if row["form"] == "float16" and row["budget_mb"] == SHOWN_MB), None)
    if cut is None:
        return []
    text = (
        f"- {FORMS['float16']} at {SHOWN_MB:g} MB ({cut['tokens']:,} of {whole['tokens']:,} tokens, "
        f"{cut['bytes'] / whole['bytes']:.0%} of the bytes) beside the whole float32 table: ours "
        f"{cut['overall']['score']:.3f} against {whole['overall']['score']:.3f}, {difference_text(cut['difference'])}"
    )
    if has_public(result):
        mine, theirs = cut["public"]["overall"], whole["public"]["overall"]
        text += f"; public {mine:.3f} against {theirs:.3f}, {mine - theirs:+.3f}"
    return [f"{text}."]


def _speed_lines(result: Row) -> list[str]:
    measured = [row for row in result["speed"] if row["unavailable"] is None]
    rows = [
        [
            r["name"],
            str(r["dims"]),
            f"{r['rate']:,.0f}",
            f"{min(r['rates']):,.0f} to {max(r['rates']):,.0f}",
            f"{r['ratio_to_float32']:.2f}",
        ]
        for r in measured
    ]
    return [
        f"`encode` of the same {measured[0]['sentences']:,} sentences, the texts of `eval_data/` repeated, in one "
        f"process, the models in turn, {len(measured[0]['rates'])} times; the median.",
        "",
        *markdown_table(["model", "dims", "sentences/s", "least to most", "of the first"], rows),
        *[f"\n{row['name']}: not measured ({row['unavailable']})." for row in result["speed"] if row["unavailable"]],
    ]
