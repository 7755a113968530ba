"""Results -> what a person reads: terminal rows, Markdown, and a self-contained HTML page with plots.

Everything is drawn from the result as its JSON file holds it, so a report can be made again from the file.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from qwen25 import plots
from qwen25.evaluation.categories.all import WEIGHTS
from qwen25.evaluation.comparison import BETTER, SAME, frontier, is_complete, ours_of, ranked, recommendations
from qwen25.evaluation.comparison import SCHEMA_VERSION as COMPARISON_VERSION
from qwen25.evaluation.peers import PLAIN
from qwen25.evaluation.results import SCHEMA_VERSION as EVALUATION_VERSION
from qwen25.runtime.errors import InputError
from qwen25.runtime.files import read_json
from qwen25.runtime.markdown import render_template, table, text
from qwen25.runtime.wording import difference_text, size_text, with_interval
from qwen25.store.static_model import SCHEMA_VERSION as METADATA_VERSION

Result = dict[str, Any]


def read_results(model: Path, evaluation: Path, comparison: Path) -> tuple[Result, Result, Result]:
    """Read what phases 1 to 3 say: a model folder's metadata, its evaluation and its comparison.

    :raises InputError: if one is missing, broken or of another version.
    """
    metadata = model / "metadata.json"
    versions = {metadata: METADATA_VERSION, evaluation: EVALUATION_VERSION, comparison: COMPARISON_VERSION}
    results = {path: read_json(path) for path in versions}
    for path, version in versions.items():
        found = results[path].get("schema_version") if isinstance(results[path], dict) else None
        if type(found) is not int or found != version:  # True == 1
            raise InputError(f"{path} is not of this version: run phases 1 to 3 again")
    return results[metadata], results[evaluation], results[comparison]


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
        numbers = f"gain over shuffled instructions {difference_text(gain)}"
        if instruction["sub_scores"]["follows_instructions"]:
            remarks.append(
                f"Instruction-awareness confirmed on requests that share no word with their answer: {numbers}."
            )
        else:
            remarks.append(f"The model matches words, not instructions: {numbers} on requests without shared words.")
    facts = f"{health['sentences_per_second']:,.0f} sentences/s, {health['latency_p50_ms']:.2f} ms a query"
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


def evaluation_html(result: Result) -> str:
    """Render one model's result as one self-contained page; every text in it is escaped."""
    return render_template(
        "evaluation.html",
        result=result,
        header=EVALUATION_HEADER,
        rows=evaluation_rows(result),
        remarks=evaluation_remarks(result),
        plot=_inline(plots.category_bars(result)),
    )


SHORT = {name: name.split("_")[0] for name in WEIGHTS}
QUALITY_HEADER = ["model", "obtained", "overall [95 % interval]", "against ours", "control", *SHORT.values()]


def quality_rows(comparison: Result) -> list[list[str]]:
    """Return one row a model: measured ones by falling overall score, then those that could not be had."""
    rows = []
    for row in _in_order(comparison):
        result = row.get("result")
        if result is None:
            rows.append([row["name"], row["obtained"], *["-"] * (len(QUALITY_HEADER) - 2)])
            continue
        complete = is_complete(row, ours_of(comparison))
        rows.append(
            [
                row["name"],
                row["obtained"],
                with_interval(result["overall"]) if complete else "-",
                _against(row),
                _score_or_dash(result["overall"]["control"]) if complete else "-",
                *(f"{result['categories'][c]['score']:.3f}" if c in result["categories"] else "-" for c in WEIGHTS),
            ]
        )
    return rows


CATEGORY_HEADER = ["model", *(name.replace("_", " ") for name in WEIGHTS)]


def category_rows(comparison: Result) -> list[list[str]]:
    """Return the six categories of each measured model, with their intervals."""
    return [
        [row["name"], *(with_interval(found[c]) if c in found else "-" for c in WEIGHTS)]
        for row in _in_order(comparison)
        if "result" in row and (found := row["result"]["categories"])
    ]


COST_HEADER = [
    "model", "kind", "dims", "on disk", "in memory", "overall per MB", "sentences/s", "query p50", "load",
    "unrelated cosine",
]  # fmt: skip


def cost_rows(comparison: Result) -> list[list[str]]:
    """Return what each measured model costs: sizes read from files and arrays, times of this run."""
    rows = []
    for row in _in_order(comparison):
        if "result" not in row:
            continue
        health = row["result"]["health"]
        worth, cosine = row["quality_per_mb"], health["unrelated_cosine"]
        rows.append(
            [
                row["name"],
                row["kind"],
                str(health["dims"] or "-"),
                size_text(health["size_bytes"]),
                size_text(health["memory_bytes"]),
                f"{worth:.4f}" if worth is not None and is_complete(row, ours_of(comparison)) else "-",
                f"{health['sentences_per_second']:,.0f}",
                f"{health['latency_p50_ms']:.2f} ms",
                f"{health['load_seconds']:.2f} s",
                "-" if cosine is None else f"{cosine:.3f}",
            ]
        )
    return rows


PUBLISHED_HEADER = ["model", "overall", *SHORT.values(), "size", "query"]


def published_rows(comparison: Result) -> list[list[str]]:
    """Return the figures that others published; they are not comparable with the measured ones."""
    return [
        [
            row["name"],
            f"{figures['overall']:.3f}",
            *(f"{figures['categories'][c]:.3f}" if c in figures["categories"] else "-" for c in WEIGHTS),
            "-" if figures["size_mb"] is None else f"{figures['size_mb']:.0f} MB",
            "-" if figures["latency_ms"] is None else f"{figures['latency_ms']:.2f} ms",
        ]
        for row in comparison["models"]
        if (figures := row["published"])
    ]


PROTOCOL_HEADER = ["model", "overall", *SHORT.values(), "unrelated pairs"]


def protocol_rows(comparison: Result) -> list[list[str]]:
    """Return what the cosine protocol gives for the measured models, beside the cosine of unrelated pairs."""
    rows = []
    for row in _in_order(comparison):
        found = row.get("result", {}).get("cosine_protocol")
        if found and set(found) == set(WEIGHTS):
            overall = sum(WEIGHTS[c] * found[c]["value"] for c in WEIGHTS)
            unrelated = sum(WEIGHTS[c] * found[c]["cosine_of_unrelated_pairs"] for c in WEIGHTS)
            values = [overall, *(found[c]["value"] for c in WEIGHTS), unrelated]
            rows.append([row["name"], *(f"{value:.3f}" for value in values)])
    return rows


def comparison_remarks(comparison: Result) -> list[str]:
    """Return what the numbers say, bad news first: who is better, where plain words are, who is not."""
    ours = ours_of(comparison)
    others = [row for row in _in_order(comparison) if "difference_to_ours" in row]
    better: list[str] = []
    rest: list[str] = []
    for row in others:
        if against := row["difference_to_ours"]["overall"]:
            how = {BETTER: "better than", SAME: "not shown to differ from"}.get(against["word"], "worse than")
            line = f"{row['name']} is {how} {ours['name']}: overall {difference_text(against)}."
            (better if against["word"] == BETTER else rest).append(line)
    if not better and rest:
        better = [f"No model measured here is better than {ours['name']}."]
    for row in others:
        if row["kind"] in ("control", "bm25") or row["name"] == PLAIN:
            found = row["difference_to_ours"]["categories"]
            wins = [f"{c.replace('_', ' ')} {difference_text(d)}" for c, d in found.items() if d["word"] == BETTER]
            better += (
                [f"{row['name']}, a baseline, is better than {ours['name']} at {', '.join(wins)}."] if wins else []
            )
    missing = [
        f"{row['name']} was not measured: {row['reason']}. To measure it: {row['how']}."
        for row in comparison["models"]
        if "reason" in row
    ]
    return [*better, *rest, *missing]


def recommendation_lines(comparison: Result) -> list[str]:
    """Return which model serves which need, and what is left for ours."""
    chosen, ours = recommendations(comparison), comparison["ours"]
    lines = [f"{found['need']}: {found['model']} ({found['because']})" for found in chosen]
    needs = [found["need"] for found in chosen if found["model"] == ours]
    lines.append(f"{ours} is the first choice for {', '.join(needs) if needs else 'none of these'}")
    if edge := [row["name"] for row in frontier(comparison)]:
        where = "is on" if ours in edge else "is not on"
        lines.append(f"quality for its size: {ours} {where} the frontier, which is {', '.join(edge)}")
    return lines


RECOMMENDATION_NOTE = (
    "Drawn from this run's numbers, among what was measured; only for models that do more than match words."
)
PUBLISHED_NOTE = (
    "Published by others, not measured here, and under another protocol: not comparable with the tables above."
)
PROTOCOL_NOTE = (
    "The same protocol measured here. A mean cosine says nothing unless unrelated pairs have a much lower one."
)


def comparison_sections(comparison: Result) -> list[Result]:
    """Return the comparison as titled lists and tables, in the order in which they are read."""
    published = published_rows(comparison)
    sections: list[Result] = [
        {"title": "In short", "lines": comparison_remarks(comparison)},
        {"title": "Which model for which need", "note": RECOMMENDATION_NOTE, "lines": recommendation_lines(comparison)},
        {"title": "Quality", "header": QUALITY_HEADER, "rows": quality_rows(comparison)},
        {"title": "Categories", "header": CATEGORY_HEADER, "rows": category_rows(comparison)},
        {"title": "Cost", "header": COST_HEADER, "rows": cost_rows(comparison)},
    ]
    if published:
        source = next(row["published"]["source"] for row in comparison["models"] if row["published"])
        note = f"{PUBLISHED_NOTE} Source: {source}."
        sections.append({"title": "Published figures", "note": note, "header": PUBLISHED_HEADER, "rows": published})
        rows = protocol_rows(comparison)
        sections.append(
            {"title": "The protocol of those figures", "note": PROTOCOL_NOTE, "header": PROTOCOL_HEADER, "rows": rows}
        )
    return sections


def difference_rows(row: Result) -> list[list[str]]:
    """Return a peer's difference to ours, overall and in each category."""
    found = row["difference_to_ours"]
    parts = {"overall": found["overall"], **found["categories"]}
    return [[name.replace("_", " "), difference_text(d), d["word"]] for name, d in parts.items() if d]


def example_rows(items: list[Result], fields: list[str]) -> list[list[str]]:
    """Return items as rows of a table."""
    return [[item[name] for name in fields] for item in items]


def comparison_markdown(comparison: Result) -> str:
    """Render the comparison as Markdown; its plot is comparison.png beside it."""
    title = f"# {text(comparison['ours'])} beside others"
    lines = [title, "", "![quality against size](comparison.png)", ""]
    for section in comparison_sections(comparison):
        lines += [f"## {section['title']}", ""]
        lines += [text(section["note"]), ""] if "note" in section else []
        lines += [f"- {text(line)}" for line in section.get("lines", [])]
        lines += table(section["header"], section["rows"]) if "rows" in section else []
        lines.append("")
    return "\n".join([*lines, text(_footer(comparison)), ""])


def comparison_html(comparison: Result) -> str:
    """Render the comparison as one self-contained page; every text in it is escaped."""
    return render_template(
        "comparison.html",
        title=f"{comparison['ours']} beside others",
        sections=comparison_sections(comparison),
        plot=_inline(plots.comparison(comparison)),
        footer=_footer(comparison),
    )


def comparison_png(comparison: Result) -> bytes:
    """Draw quality against size, and the categories by model."""
    return plots.png(plots.comparison(comparison))


def _footer(comparison: Result) -> str:
    hardware = comparison["hardware"]
    return (
        f"{comparison['command']} · {comparison['created']} · seed {comparison['seed']} · "
        f"{hardware['processor']}, {hardware['cores']} cores"
    )


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
    lines = [f"{marks} The demo's model", "", *table(["what", "measured"], facts), ""]
    lines += [f"{marks} Its scores", "", *table(EVALUATION_HEADER, evaluation_rows(evaluation)), ""]
    lines += [f"- {text(remark)}" for remark in evaluation_remarks(evaluation)]
    lines += ["", f"{marks} Beside others", "", *_comparison_lines(comparison), ""]
    return "\n".join(lines)


def _comparison_lines(comparison: Result) -> list[str]:
    lines = [*table(QUALITY_HEADER, quality_rows(comparison)), ""]
    lines += [*table(COST_HEADER, cost_rows(comparison)), ""]
    remarks = [*comparison_remarks(comparison), *recommendation_lines(comparison)]
    return lines + [f"- {text(remark)}" for remark in remarks]


def _in_order(comparison: Result) -> list[Result]:
    """Return all rows: ranked, then measured in part, then not measured."""
    first = ranked(comparison)
    return first + sorted(
        (row for row in comparison["models"] if row not in first), key=lambda row: "result" not in row
    )


def _against(row: Result) -> str:
    if "difference_to_ours" not in row:
        return "ours"
    against = row["difference_to_ours"]["overall"]
    return "-" if against is None else f"{against['value']:+.3f} {against['word']}"


def _score_or_dash(score: dict[str, Any] | None) -> str:
    return "-" if score is None else f"{score['score']:.3f}"


markdown_table = table


def _inline(figure: Any) -> str:
    return base64.b64encode(plots.png(figure)).decode()
