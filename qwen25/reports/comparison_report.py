"""A comparison as tables on a terminal, Markdown and HTML; what is said of it is ``evaluation/judgement.py``'s."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from qwen25.evaluation import judgement
from qwen25.evaluation.categories import WEIGHTS
from qwen25.evaluation.judgement import REFERENCE, SAME, Result, is_complete, ours_of, ranked
from qwen25.reports import plots
from qwen25.reports.own_data import own_sections
from qwen25.reports.sections import Section, html_page, print_sections
from qwen25.runtime.text import rate_text, render_template, size_text, with_interval

COST_NOTE = """Sizes in megabytes (1,000,000 bytes). A speed is the median of up to five runs of this machine; \
speeds within a tenth of each other are tied."""
PUBLISHED_NOTE = """What others published of these models: measured on other texts, as mean cosines of pairs that \
belong together, without a control. They are no scores of the tables above and do not compare with them. Source: {}."""


class Column(NamedTuple):
    """A column of a table.

    :ivar cell: the text of a row of the comparison.
    :ivar best: takes all rows and returns those with the best value, and those tied with them.
    :ivar whole: only for rows that were measured on every category that ours was.
    """

    header: str
    cell: Callable[[Result], str]
    best: Callable[[list[Result]], list[Result]] | None = None
    whole: bool = False


def _at(written: Callable[[Any], str], *path: str) -> Callable[[Result], str]:
    """Return the cell that writes what a row holds at a path of keys, or a dash where nothing is."""

    def cell(row: Result) -> str:
        found: Any = row
        for key in path:
            found = found.get(key) if found else None
        return "-" if found is None else written(found)

    return cell


def _health(header: str, written: Callable[[Any], str], key: str, **more: Any) -> Column:
    return Column(header, _at(written, "result", "health", key), **more)


def _categories(written: Callable[[Any], str], *path: str) -> list[Column]:
    """Return a column for each category of the mapping at a path."""
    best = {name: partial(judgement.best_rows, category=name) for name in WEIGHTS if path[0] == "result"}
    return [Column(name.split("_")[0], _at(written, *path, name), best.get(name)) for name in WEIGHTS]


def _least(rows: list[Result], key: str) -> list[Result]:
    """Return the rows with the smallest value of a fact of health."""
    found = {row["name"]: row["result"]["health"].get(key) for row in rows if row["kind"] != "control"}
    least = min(filter(None, found.values()), default=-1)
    return [row for row in rows if found.get(row["name"]) == least]


def _name(row: Result) -> str:
    """Return a row's name and, on a line of its own, whether it is a reference."""
    return f"{row['name']}\n{REFERENCE}" if row["obtained"] == REFERENCE else str(row["name"])


def _against(row: Result) -> str:
    if "difference_to_ours" not in row:
        return "ours"
    against = row["difference_to_ours"]["overall"]
    return f"{against['value']:+.3f} {'undecided' if against['word'] == SAME else against['word']}" if against else "-"


_digits = "{:.3f}".format
#: The most important columns are first: a narrow terminal leaves out the last ones.
QUALITY = [
    Column("model", _name),
    Column(
        "overall [95 % interval]",
        _at(with_interval, "result", "overall"),
        partial(judgement.best_rows, category=None),
        whole=True,
    ),
    Column("against ours", _against),
    *_categories(with_interval, "result", "categories"),
    Column("control", _at(_digits, "result", "overall", "control", "score"), whole=True),
]
COST = [
    Column("model", _name),
    _health("on disk", size_text, "size_bytes", best=partial(_least, key="size_bytes")),
    _health("speed", rate_text, "sentences_per_second", best=judgement.fastest_rows),
    _health("query p50", "{:.2f} ms".format, "latency_p50_ms", best=partial(_least, key="latency_p50_ms")),
    _health("dims", str, "dims"),
    _health("in memory", size_text, "memory_bytes", best=partial(_least, key="memory_bytes")),
    _health("unrelated cosine", _digits, "unrelated_cosine"),
    Column("kind", _at(str, "kind")),
    _health("load", "{:.2f} s".format, "load_seconds"),
]
PUBLISHED = [
    Column("model", _name),
    Column("overall", _at(_digits, "published", "overall")),
    *_categories(_digits, "published", "categories"),
    Column("size", _at("{:.0f} MB".format, "published", "size_mb")),
    Column("query", _at("{:.2f} ms".format, "published", "latency_ms")),
]


def _section(title: str, columns: Sequence[Column], comparison: Result, rows: list[Result], note: str = "") -> Section:
    """Return a section with a table; its rows are ranked, then come those that lack a category."""
    ours = ours_of(comparison)
    whole = [row for row in ranked(comparison) if row in rows]
    rows = whole + [row for row in rows if row not in whole]
    names, best = [row["name"] for row in rows], set()
    for x, column in enumerate(columns):
        found = column.best(whole if column.whole else rows) if column.best else []
        best |= {(names.index(row["name"]), x) for row in found}
    return Section(
        title,
        header=[column.header for column in columns],
        rows=[["-" if c.whole and not is_complete(row, ours) else c.cell(row) for c in columns] for row in rows],
        note=note,
        ours=names.index(ours["name"]),
        best=best,
    )


def quality_section(comparison: Result) -> Section:
    """Return the scores of each model, by falling overall score."""
    return _section("Quality", QUALITY, comparison, judgement.standing(comparison))


def cost_section(comparison: Result) -> Section:
    """Return what each measured model costs: sizes read from files and arrays, times of this run."""
    measured = [row for row in judgement.standing(comparison) if row["obtained"] != REFERENCE]
    return _section("Cost", COST, comparison, measured, COST_NOTE)


def comparison_sections(comparison: Result) -> list[Section]:
    """Return the comparison in the order in which it is read; one's own texts are apart, as they are not published."""
    missing = missing_section(comparison)
    sections = [_in_short(comparison), quality_section(comparison), cost_section(comparison)]
    sections += [missing] if missing.lines else []
    if published := [row for row in comparison["models"] if row["published"]]:
        note = PUBLISHED_NOTE.format(published[0]["published"]["source"])
        rows = [[column.cell(row) for column in PUBLISHED] for row in published]
        header = [column.header for column in PUBLISHED]
        sections.append(Section("Published figures", header=header, rows=rows, note=note, folded=True))
    return sections


def _in_short(comparison: Result) -> Section:
    shows = "Quality against size in MB, with the Pareto frontier"
    figure = partial(plots.quality_against_size, comparison)
    return Section("In short", judgement.summary(comparison), figure=figure, shows=shows)


def missing_section(comparison: Result) -> Section:
    """Return how to measure each system that was not measured; the reasons are in the result."""
    lines = [f"{row['name']}: {row['how']}" for row in comparison["models"] if "reason" in row]
    return Section("Not measured, and how to", lines)


def print_comparison(comparison: Result) -> None:
    """Print the tables of quality and cost, and what they say, on standard output."""
    sections = [quality_section(comparison), cost_section(comparison), _in_short(comparison)]
    print_sections([*sections, missing_section(comparison), *own_sections(comparison)])


def comparison_markdown(comparison: Result) -> str:
    """Render the comparison as Markdown; its plot is comparison.png beside it."""
    return render_template("comparison.md", **_content(comparison))


def comparison_html(comparison: Result) -> str:
    """Render the comparison as one self-contained page; every text in it is escaped."""
    return html_page(**_content(comparison))


def _content(comparison: Result) -> Result:
    """Return what Markdown and HTML show alike."""
    run = f"{comparison['command']} · {comparison['created']} · seed {comparison['seed']}"
    hardware = f"{comparison['hardware']['processor']}, {comparison['hardware']['cores']} cores"
    sections = [*comparison_sections(comparison), *own_sections(comparison)]
    return {"title": f"{comparison['ours']} beside others", "sections": sections, "footer": f"{run} · {hardware}"}


def comparison_png(comparison: Result) -> bytes:
    """Draw quality against size."""
    return plots.png(plots.quality_against_size(comparison))
