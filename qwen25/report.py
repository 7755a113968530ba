"""Results -> what a person reads: terminal rows, Markdown, and a self-contained HTML page with plots.

Everything is drawn from the result as its JSON file holds it, so a report can be made again from the file.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from typing import Any

from jinja2 import Environment, PackageLoader, select_autoescape

from qwen25.items import WEIGHTS

Result = dict[str, Any]


def with_interval(score: dict[str, Any]) -> str:
    """Render a score and its 95 % interval."""
    low, high = score["interval"]
    return f"{score['score']:.3f} [{low:.3f}, {high:.3f}]"


def size_text(size_bytes: int | None) -> str:
    """Render a size in megabytes (10^6 bytes)."""
    return "-" if size_bytes is None else f"{size_bytes / 1e6:.1f} MB"


def evaluation_rows(result: Result) -> list[list[str]]:
    """Return one row a category and one for the overall score: name, weight, score, control."""
    rows = []
    for name, category in result["categories"].items():
        control = category["control"]
        rows.append([name, f"{category['weight']:.0%}", with_interval(category), _score_or_dash(control)])
    rows.append(["overall", "", with_interval(result["overall"]), _score_or_dash(result["overall"]["control"])])
    return rows


EVALUATION_HEADER = ["category", "weight", "score [95 % interval]", "random directions"]


def evaluation_remarks(result: Result) -> list[str]:
    """Return what has to be said beside the scores, in plain sentences."""
    health, instruction = result["health"], result["categories"].get("instruction_awareness")
    remarks = []
    if instruction:
        gain = instruction["sub_scores"]["non_lexical_gain_over_shuffled"]
        low, high = gain["interval"]
        numbers = f"gain over shuffled instructions {gain['value']:+.3f} [{low:+.3f}, {high:+.3f}]"
        if instruction["sub_scores"]["follows_instructions"]:
            remarks.append(
                f"Instruction-awareness confirmed on requests that share no word with their answer: {numbers}."
            )
        else:
            remarks.append(f"The model matches words, not instructions: {numbers} on requests without shared words.")
    remarks.append(
        f"Unrelated texts: cosine {health['unrelated_cosine']:.3f}; "
        f"{health['sentences_per_second']:,.0f} sentences/s, {health['latency_p50_ms']:.2f} ms a query, "
        f"{size_text(health['size_bytes'])} on disk."
    )
    verdict = result["verdict"]
    if verdict["verdict"] is None:
        remarks.append(f"Verdict: none ({'; '.join(verdict['reasons'])}).")
    else:
        remarks.append(f"Verdict: {verdict['verdict']} ({'; '.join(verdict['reasons'])}).")
    return remarks


def evaluation_html(result: Result) -> str:
    """Render one model's result as one self-contained page; every text in it is escaped."""
    return _page(
        "evaluation.html",
        result=result,
        header=EVALUATION_HEADER,
        rows=evaluation_rows(result),
        remarks=evaluation_remarks(result),
        plot=_png(_category_bars(result)),
    )


COMPARISON_HEADER = [
    "model",
    "obtained",
    "overall [95 % interval]",
    "control",
    *(name.split("_")[0] for name in WEIGHTS),
]


def comparison_rows(comparison: Result) -> list[list[str]]:
    """Return one row a model: measured ones by falling overall score, then those that could not be had."""
    rows = []
    for row in _best_first(comparison["models"]):
        result = row.get("result")
        if result is None:
            rows.append([row["name"], "unavailable", *["-"] * (len(COMPARISON_HEADER) - 2)])
            continue
        scores = [f"{result['categories'][c]['score']:.3f}" if c in result["categories"] else "-" for c in WEIGHTS]
        overall = result["overall"]
        rows.append([row["name"], "measured", with_interval(overall), _score_or_dash(overall["control"]), *scores])
    return rows


def comparison_remarks(comparison: Result) -> list[str]:
    """Return what the numbers say, worst news first."""
    remarks = []
    rows = {row["name"]: row for row in comparison["models"]}
    ours = rows[comparison["ours"]]
    for row in _best_first(comparison["models"]):
        against = row.get("difference_to_ours")
        if against and against["word"] == "better":
            remarks.append(f"{row['name']} is better than {ours['name']}: overall {_difference(against)}.")
    for row in _best_first(comparison["models"]):
        against = row.get("difference_to_ours")
        if against and against["word"] != "better":
            how = "worse than" if against["word"] == "worse" else "not shown to differ from"
            remarks.append(f"{row['name']} is {how} {ours['name']}: overall {_difference(against)}.")
    remarks += [f"{row['name']} is unavailable: {row['reason']}." for row in rows.values() if row.get("reason")]
    return remarks


def comparison_markdown(comparison: Result) -> str:
    """Render the comparison as Markdown."""
    return "\n".join(["# Comparison", "", *_comparison_lines(comparison), ""])


def demo_markdown(metadata: Result, evaluation: Result, comparison: Result, heading: int = 2) -> str:
    """Render what the demo made, what it scores and what it is set beside.

    :param heading: the level of its headings.
    """
    teacher, sizes = metadata["teacher"], metadata["sizes_bytes"]
    marks = "#" * heading
    facts = [
        ["teacher", f"{teacher['name']}: {teacher['layers']} layers x {teacher['hidden_size']}"],
        ["model", f"{metadata['vocabulary']['tokens']:,} tokens x {metadata['dims']} dimensions"],
        [
            "size",
            f"{size_text(sizes['model.safetensors'])} of vectors, {size_text(sizes['tokenizer.json'])} of tokenizer",
        ],
        ["distilled in", f"{metadata['wall_seconds']:.0f} s on {metadata['hardware']['device']}"],
        ["computed on", f"{metadata['hardware']['processor']}, {metadata['hardware']['cores']} cores"],
        ["created", metadata["created"]],
    ]
    lines = [f"{marks} The demo's model", "", *markdown_table(["what", "measured"], facts), ""]
    lines += [f"{marks} Its scores", "", *markdown_table(EVALUATION_HEADER, evaluation_rows(evaluation)), ""]
    lines += [f"- {remark}" for remark in evaluation_remarks(evaluation)]
    lines += ["", f"{marks} Beside others", "", *_comparison_lines(comparison), ""]
    return "\n".join(lines)


def _comparison_lines(comparison: Result) -> list[str]:
    lines = [*markdown_table(COMPARISON_HEADER, comparison_rows(comparison)), ""]
    return lines + [f"- {remark}" for remark in comparison_remarks(comparison)]


def _best_first(models: Iterable[Result]) -> list[Result]:
    return sorted(models, key=lambda row: -row["result"]["overall"]["score"] if row.get("result") else 9.0)


def _difference(against: dict[str, Any]) -> str:
    low, high = against["interval"]
    return f"{against['value']:+.3f} [{low:+.3f}, {high:+.3f}]"


def _score_or_dash(score: dict[str, Any] | None) -> str:
    return "-" if score is None else f"{score['score']:.3f}"


def markdown_table(header: list[str], rows: list[list[str]]) -> list[str]:
    """Return the lines of a Markdown table."""

    def line(cells: list[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return [line(header), "|" + " --- |" * len(header), *map(line, rows)]


def _page(template: str, **values: Any) -> str:
    environment = Environment(
        loader=PackageLoader("qwen25", "templates"),
        autoescape=select_autoescape(),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


def _png(figure: Any) -> str:
    """Return a figure as base64 of a PNG, and close it."""
    buffer = io.BytesIO()
    # No creation date or software version in the file: the same result gives the same page.
    figure.savefig(buffer, format="png", dpi=120, bbox_inches="tight", metadata={"Software": None})
    return base64.b64encode(buffer.getvalue()).decode()


def _category_bars(result: Result) -> Any:
    from matplotlib.figure import Figure

    names = [*result["categories"], "overall"]
    scores = [*result["categories"].values(), result["overall"]]
    figure = Figure(figsize=(8, 0.6 * len(names) + 1))
    axes = figure.subplots()
    places = range(len(names))
    values = [s["score"] for s in scores]
    errors = [
        [max(0.0, v - s["interval"][0]) for v, s in zip(values, scores, strict=True)],
        [max(0.0, s["interval"][1] - v) for v, s in zip(values, scores, strict=True)],
    ]
    axes.barh(places, values, xerr=errors, color="#4c72b0", ecolor="#222222", capsize=3, label="model, 95 % interval")
    controls = [(p, s["control"]["score"]) for p, s in zip(places, scores, strict=True) if s["control"]]
    if controls:
        axes.scatter([c for _, c in controls], [p for p, _ in controls], marker="D", color="#dd8452", zorder=3,
                     label="random directions")  # fmt: skip
    axes.set_yticks(list(places), [n.replace("_", " ") for n in names])
    axes.invert_yaxis()
    axes.set_xlim(min(0.0, *values) - 0.02, 1)
    axes.set_xlabel("score (0 chance, 1 perfect)")
    axes.axvline(0, color="#222222", linewidth=0.8)
    axes.legend(loc="lower right")
    return figure
