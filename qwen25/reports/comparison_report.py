"""A comparison as tables, Markdown and HTML."""

from __future__ import annotations

from typing import TypedDict

from qwen25.evaluation.categories.all import WEIGHTS
from qwen25.evaluation.peers import PLAIN
from qwen25.evaluation.recommendations import (
    SPEED_NOISE,
    are_tied,
    frontier,
    is_complete,
    ours_of,
    ranked,
    recommendations,
    score_of,
)
from qwen25.evaluation.results import BETTER, SAME, Comparison, ComparisonFile, Row
from qwen25.reports import plots
from qwen25.reports.advice import comparison_advice
from qwen25.reports.evaluation_report import page_script, picture, score_or_dash
from qwen25.runtime.markdown import render_template, table, text
from qwen25.runtime.wording import difference_text, rate_text, size_text, with_interval

SHORT = {name: name.split("_")[0] for name in WEIGHTS}
QUALITY_HEADER = ["model", "overall [95 % interval]", "against ours", "control", *SHORT.values(), "obtained"]
#: The columns as a terminal has room for them: model, overall, against ours, control, the categories by weight.
QUALITY_IMPORTANCE = (*range(4), *sorted(range(4, 4 + len(WEIGHTS)), key=lambda i: -list(WEIGHTS.values())[i - 4]), 10)
NOT_MEASURED = "not measured"


def quality_rows(comparison: Comparison) -> list[list[str]]:
    """Return one row a model: measured ones by falling overall score, then those that could not be had."""
    rows = []
    for row in _in_order(comparison):
        result = row.get("result")
        if result is None:
            rows.append([row["name"], NOT_MEASURED, *["-"] * (len(QUALITY_HEADER) - 3), row["obtained"]])
            continue
        complete = is_complete(row, ours_of(comparison))
        rows.append(
            [
                row["name"],
                with_interval(result["overall"]) if complete else "-",
                _against(row),
                score_or_dash(result["overall"]["control"]) if complete else "-",
                *(f"{result['categories'][c]['score']:.3f}" if c in result["categories"] else "-" for c in WEIGHTS),
                row["obtained"],
            ]
        )
    return rows


CATEGORY_HEADER = ["model", *(name.replace("_", " ") for name in WEIGHTS)]


def category_rows(comparison: Comparison) -> list[list[str]]:
    """Return the six categories of each measured model, with their intervals."""
    return [
        [row["name"], *(with_interval(found[c]) if c in found else "-" for c in WEIGHTS)]
        for row in _in_order(comparison)
        if "result" in row and (found := row["result"]["categories"])
    ]


COST_HEADER = [
    "model",
    "kind",
    "dims",
    "on disk",
    "in memory",
    "overall per MB",
    "speed",
    "query p50",
    "load",
    "unrelated cosine",
]
COST_IMPORTANCE = (0, 3, 6, 7, 2, 4, 9, 1, 5, 8)


def cost_rows(comparison: Comparison) -> list[list[str]]:
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
                rate_text(health["sentences_per_second"]),
                f"{health['latency_p50_ms']:.2f} ms",
                f"{health['load_seconds']:.2f} s",
                "-" if cosine is None else f"{cosine:.3f}",
            ]
        )
    return rows


PUBLISHED_HEADER = ["model", "overall", *SHORT.values(), "size", "query"]


def published_rows(comparison: Comparison) -> list[list[str]]:
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


def protocol_rows(comparison: Comparison) -> list[list[str]]:
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


def comparison_remarks(comparison: Comparison) -> list[str]:
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
    return [*better, *rest]


def missing_lines(comparison: Comparison) -> list[str]:
    """Return which systems were not measured, why not, and how to measure them."""
    return [
        f"{row['name']} was not measured: {row['reason']}. To measure it: {row['how']}."
        for row in comparison["models"]
        if "reason" in row
    ]


def recommendation_lines(comparison: Comparison) -> list[str]:
    """Return which model serves which need, and what is left for ours."""
    chosen, ours = recommendations(comparison), comparison["ours"]
    lines = [f"{found['need']}: {found['model']} ({found['because']})" for found in chosen]
    needs = [found["need"] for found in chosen if ours in (found["model"], *found["tied"])]
    lines.append(f"{ours} is the first choice, alone or tied, for {', '.join(needs) if needs else 'none of these'}")
    if edge := [row["name"] for row in frontier(comparison)]:
        where = "is on" if ours in edge else "is not on"
        lines.append(f"quality for its size: {ours} {where} the frontier, which is {', '.join(edge)}")
    return [*comparison_advice(comparison), *lines]


class Section(TypedDict, total=False):
    """A titled part of the report: a note, a list of lines, a table; not all need be there.

    ``ours`` is the table's row of ours; ``best`` the cells that hold a column's best value, or one tied with it.
    """

    title: str
    note: str
    lines: list[str]
    header: list[str]
    rows: list[list[str]]
    ours: int | None
    best: set[tuple[int, int]]


RECOMMENDATION_NOTE = (
    "Drawn from this run's numbers, among what was measured; only for models that do more than match words."
)
COST_NOTE = (
    "Sizes in megabytes (1,000,000 bytes). A speed is the median of up to five runs of this machine; speeds within a "
    "tenth of each other are tied."
)
PUBLISHED_NOTE = (
    "Published by others, not measured here, and under another protocol: not comparable with the tables above."
)
PROTOCOL_NOTE = (
    "The same protocol measured here. A mean cosine says nothing unless unrelated pairs have a much lower one."
)


def comparison_sections(comparison: Comparison) -> list[Section]:
    """Return the comparison as titled lists and tables, in the order in which they are read."""
    published = published_rows(comparison)
    sections: list[Section] = [
        {"title": "In short", "lines": comparison_remarks(comparison)},
        {"title": "Which model for which need", "note": RECOMMENDATION_NOTE, "lines": recommendation_lines(comparison)},
        _quality_section(comparison),
        _category_section(comparison),
        _cost_section(comparison),
    ]
    if published:
        source = next(row["published"]["source"] for row in comparison["models"] if row["published"])
        note = f"{PUBLISHED_NOTE} Source: {source}."
        sections.append({"title": "Published figures", "note": note, "header": PUBLISHED_HEADER, "rows": published})
        rows = protocol_rows(comparison)
        protocol: Section = {"title": "The protocol of those figures", "note": PROTOCOL_NOTE, "header": PROTOCOL_HEADER}
        sections.append({**protocol, "rows": rows, "ours": _place_of_ours(rows, comparison)})
    if missing := missing_lines(comparison):
        sections.append({"title": "Not measured", "lines": missing})
    return sections


def _quality_section(comparison: Comparison) -> Section:
    rows = _in_order(comparison)
    best = _best_scores(ranked(comparison), rows, None, QUALITY_HEADER.index("overall [95 % interval]"))
    for category, name in SHORT.items():
        best |= _best_scores(rows, rows, category, QUALITY_HEADER.index(name))
    section: Section = {"title": "Quality", "header": QUALITY_HEADER, "rows": quality_rows(comparison), "best": best}
    return {**section, "ours": _place_of_ours(section["rows"], comparison)}


def _category_section(comparison: Comparison) -> Section:
    rows = [row for row in _in_order(comparison) if "result" in row]
    best: set[tuple[int, int]] = set()
    for i, category in enumerate(WEIGHTS):
        best |= _best_scores(rows, rows, category, 1 + i)
    section: Section = {"title": "Categories", "header": CATEGORY_HEADER, "rows": category_rows(comparison)}
    return {**section, "best": best, "ours": _place_of_ours(section["rows"], comparison)}


def _cost_section(comparison: Comparison) -> Section:
    rows = [row for row in _in_order(comparison) if "result" in row]
    best: set[tuple[int, int]] = set()
    for key, column in (("size_bytes", "on disk"), ("memory_bytes", "in memory"), ("latency_p50_ms", "query p50")):
        found = {i: row["result"]["health"][key] for i, row in enumerate(rows) if row["kind"] != "control"}
        found = {i: value for i, value in found.items() if value}
        best |= {(i, COST_HEADER.index(column)) for i, value in found.items() if value == min(found.values())}
    speeds = {i: r["result"]["health"]["sentences_per_second"] for i, r in enumerate(rows) if r["kind"] != "control"}
    limit = (1 - SPEED_NOISE) * max(speeds.values())
    best |= {(i, COST_HEADER.index("speed")) for i, speed in speeds.items() if speed >= limit}
    section: Section = {"title": "Cost", "note": COST_NOTE, "header": COST_HEADER, "rows": cost_rows(comparison)}
    return {**section, "best": best, "ours": _place_of_ours(section["rows"], comparison)}


def _best_scores(candidates: list[Row], rows: list[Row], category: str | None, column: int) -> set[tuple[int, int]]:
    """Return the cells of the best score in a column and of those tied with it; ``category`` None: overall."""
    scored = [row for row in candidates if "result" in row and row["kind"] != "control"]
    scored = [row for row in scored if category is None or category in row["result"]["categories"]]
    if not scored:
        return set()
    first = max(scored, key=lambda row: score_of(row, category)["score"])
    names = {row["name"] for row in scored if row is first or are_tied(first, row, category)}
    return {(i, column) for i, row in enumerate(rows) if row["name"] in names}


def _place_of_ours(rows: list[list[str]], comparison: Comparison) -> int | None:
    return next((i for i, row in enumerate(rows) if row[0] == comparison["ours"]), None)


def difference_rows(row: Row) -> list[list[str]]:
    """Return a peer's difference to ours, overall and in each category."""
    found = row["difference_to_ours"]
    parts = {"overall": found["overall"], **found["categories"]}
    return [[name.replace("_", " "), difference_text(d), d["word"]] for name, d in parts.items() if d]


def example_rows(items: list[dict[str, str]], fields: list[str]) -> list[list[str]]:
    """Return items as rows of a table."""
    return [[item[name] for name in fields] for item in items]


def comparison_markdown(comparison: ComparisonFile) -> str:
    """Render the comparison as Markdown; its plot is comparison.png beside it."""
    title = f"# {text(comparison['ours'])} beside others"
    lines = [title, "", "![quality against size in MB](comparison.png)", ""]
    for section in comparison_sections(comparison):
        lines += [f"## {section['title']}", ""]
        lines += [text(section["note"]), ""] if "note" in section else []
        lines += [f"- {text(line)}" for line in section.get("lines", [])]
        lines += table(section["header"], section["rows"]) if "rows" in section else []
        lines.append("")
    return "\n".join([*lines, text(_footer(comparison)), ""])


def comparison_html(comparison: ComparisonFile) -> str:
    """Render the comparison as one self-contained page; every text in it is escaped."""
    return render_template(
        "comparison.html",
        title=f"{comparison['ours']} beside others",
        sections=comparison_sections(comparison),
        frontier=picture(lambda: plots.quality_against_size(comparison)),
        categories=picture(lambda: plots.categories_by_model(comparison)),
        **page_script(),
        footer=_footer(comparison),
    )


def comparison_png(comparison: Comparison) -> bytes:
    """Draw quality against size, and the categories by model."""
    return plots.png(plots.comparison(comparison))


def _footer(comparison: ComparisonFile) -> str:
    hardware = comparison["hardware"]
    return (
        f"{comparison['command']} · {comparison['created']} · seed {comparison['seed']} · "
        f"{hardware['processor']}, {hardware['cores']} cores"
    )


def _in_order(comparison: Comparison) -> list[Row]:
    """Return all rows: ranked, then measured in part, then not measured."""
    first = ranked(comparison)
    return first + sorted(
        (row for row in comparison["models"] if row not in first), key=lambda row: "result" not in row
    )


def _against(row: Row) -> str:
    if "difference_to_ours" not in row:
        return "ours"
    against = row["difference_to_ours"]["overall"]
    return (
        "-" if against is None else f"{against['value']:+.3f} {'tied' if against['word'] == SAME else against['word']}"
    )
