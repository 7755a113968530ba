"""A comparison as tables and sentences on a terminal, Markdown and HTML."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from qwen25.evaluation import judgement
from qwen25.evaluation.categories import CATEGORIES, WEIGHTS
from qwen25.evaluation.judgement import BETTER, SAME, WORSE, Result, is_complete, ours_of, ranked
from qwen25.reports import plots
from qwen25.reports.evaluation_report import page_script, picture
from qwen25.reports.own_data import own_parts, print_own_data
from qwen25.runtime.display import print_lines, print_table
from qwen25.runtime.text import difference_text, rate_text, render_template, size_text, with_interval

COST_NOTE = """Sizes in megabytes (1,000,000 bytes). A speed is the median of up to five runs of this machine; \
speeds within a tenth of each other are tied."""
PUBLISHED_NOTE = """Published by others, not measured here, and under another protocol: not comparable with the \
tables above. Source: {}."""
NEEDS_NOTE = "Drawn from this run's numbers, among what was measured; only for models that do more than match words."


@dataclass(frozen=True)
class Section:
    """A titled part of the report: a note, a list of lines, a table; not all need be there.

    :ivar ours: the table's row of ours.
    :ivar best: the cells that hold a column's best value, or one tied with it.
    """

    title: str
    note: str = ""
    lines: Sequence[str] = ()
    header: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    ours: int | None = None
    best: frozenset[tuple[int, int]] = frozenset()


@dataclass(frozen=True)
class Column:
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
    found = {row["name"]: row["result"]["health"][key] for row in rows if row["kind"] != "control"}
    least = min(filter(None, found.values()), default=-1)
    return [row for row in rows if found.get(row["name"]) == least]


def _against(row: Result) -> str:
    if "difference_to_ours" not in row:
        return "ours"
    against = row["difference_to_ours"]["overall"]
    return f"{against['value']:+.3f} {'tied' if against['word'] == SAME else against['word']}" if against else "-"


_digits = "{:.3f}".format
_name = Column("model", _at(str, "name"))
_overall = _at(with_interval, "result", "overall")
#: The most important columns are first: a narrow terminal leaves out the last ones.
QUALITY = [
    _name,
    Column("overall [95 % interval]", _overall, partial(judgement.best_rows, category=None), whole=True),
    Column("against ours", _against),
    Column("control", _at(_digits, "result", "overall", "control", "score"), whole=True),
    *_categories(lambda found: _digits(found["score"]), "result", "categories"),
]
CATEGORY = [_name, *_categories(with_interval, "result", "categories")]
COST = [
    _name,
    _health("on disk", size_text, "size_bytes", best=partial(_least, key="size_bytes")),
    _health("speed", rate_text, "sentences_per_second", best=judgement.fastest_rows),
    _health("query p50", "{:.2f} ms".format, "latency_p50_ms", best=partial(_least, key="latency_p50_ms")),
    _health("dims", str, "dims"),
    _health("in memory", size_text, "memory_bytes", best=partial(_least, key="memory_bytes")),
    _health("unrelated cosine", _digits, "unrelated_cosine"),
    Column("kind", _at(str, "kind")),
    Column("overall per MB", _at("{:.4f}".format, "quality_per_mb"), whole=True),
    _health("load", "{:.2f} s".format, "load_seconds"),
]
PUBLISHED = [
    _name,
    Column("overall", _at(_digits, "published", "overall")),
    *_categories(_digits, "published", "categories"),
    Column("size", _at("{:.0f} MB".format, "published", "size_mb")),
    Column("query", _at("{:.2f} ms".format, "published", "latency_ms")),
]


def _section(
    title: str, columns: Sequence[Column], comparison: Result, rows: list[Result] | None = None, note: str = ""
) -> Section:
    """Return a section with a table; its rows are those measured: ranked, then those that lack a category."""
    first, ours = ranked(comparison), ours_of(comparison)
    if rows is None:
        rows = first + [row for row in comparison["models"] if "result" in row and row not in first]
    names, best = [row["name"] for row in rows], set()
    for x, column in enumerate(columns):
        found = column.best(first if column.whole else rows) if column.best else []
        best |= {(names.index(row["name"]), x) for row in found}
    return Section(
        title,
        note,
        header=[column.header for column in columns],
        rows=[["-" if c.whole and not is_complete(row, ours) else c.cell(row) for c in columns] for row in rows],
        ours=names.index(ours["name"]) if ours["name"] in names else None,
        best=frozenset(best),
    )


def quality_section(comparison: Result) -> Section:
    """Return the scores of each measured model, by falling overall score."""
    return _section("Quality", QUALITY, comparison)


def cost_section(comparison: Result) -> Section:
    """Return what each measured model costs: sizes read from files and arrays, times of this run."""
    return _section("Cost", COST, comparison, note=COST_NOTE)


def comparison_sections(comparison: Result) -> list[Section]:
    """Return the comparison as titled lists and tables, in the order in which they are read."""
    sections = [
        Section("In short", lines=comparison_remarks(comparison)),
        Section("Which model for which need", NEEDS_NOTE, recommendation_lines(comparison)),
        quality_section(comparison),
        _section("Categories", CATEGORY, comparison),
        cost_section(comparison),
    ]
    if published := [row for row in comparison["models"] if row["published"]]:
        note = PUBLISHED_NOTE.format(published[0]["published"]["source"])
        sections.append(_section("Published figures", PUBLISHED, comparison, published, note))
    if missing := missing_lines(comparison):
        sections.append(Section("Not measured", lines=missing))
    return sections


def comparison_remarks(comparison: Result) -> list[str]:
    """Return who is better than ours overall, then at what a baseline is, then who is not."""
    ours = comparison["ours"]
    lines: dict[str, list[str]] = {BETTER: [], SAME: [], WORSE: []}
    baselines = []
    others = [row for row in comparison["models"] if "difference_to_ours" in row]
    for row in sorted(others, key=lambda row: -row["result"]["overall"]["score"]):
        if against := row["difference_to_ours"]["overall"]:
            how = {BETTER: "better than", SAME: "not shown to differ from", WORSE: "worse than"}[against["word"]]
            lines[against["word"]].append(f"{row['name']} is {how} {ours}: overall {difference_text(against)}.")
        found = row["difference_to_ours"]["categories"]
        wins = [f"{CATEGORIES[c].title} {difference_text(d)}" for c, d in found.items() if d["word"] == BETTER]
        if wins and judgement.is_baseline(row["kind"], row["name"]):
            baselines.append(f"{row['name']}, a baseline, is better than {ours} at {', '.join(wins)}.")
    rest = [*lines[SAME], *lines[WORSE]]
    first = lines[BETTER] or ([f"No model measured here is better than {ours}."] if rest else [])
    return [*first, *baselines, *rest]


def missing_lines(comparison: Result) -> list[str]:
    """Return which systems were not measured, why not, and how to measure them."""
    return [
        f"{row['name']} was not measured: {row['reason']}. To measure it: {row['how']}."
        for row in comparison["models"]
        if "reason" in row
    ]


def recommendation_lines(comparison: Result) -> list[str]:
    """Return what ours is for, which model serves which need, and what is left for ours."""
    chosen, ours = judgement.recommendations(comparison), comparison["ours"]
    lines = [f"{found['need']}: {found['model']} ({found['because']})" for found in chosen]
    needs = [found["need"] for found in chosen if ours in (found["model"], *found["tied"])]
    lines.append(f"{ours} is the first choice, alone or tied, for {', '.join(needs) if needs else 'none of these'}")
    if edge := [row["name"] for row in judgement.frontier(comparison)]:
        where = "is on" if ours in edge else "is not on"
        lines.append(f"quality for its size: {ours} {where} the frontier, which is {', '.join(edge)}")
    return [*judgement.comparison_advice(comparison).lines, *lines]


def print_comparison(comparison: Result) -> None:
    """Print the tables of quality and cost, and what they say, on standard output."""
    for section in (quality_section(comparison), cost_section(comparison)):
        print_table(section.title, section.header, section.rows)
    print_lines(comparison_remarks(comparison), "In short")
    print_lines(recommendation_lines(comparison), "Which model for which need")
    print_lines(missing_lines(comparison), "Not measured")
    print_own_data(comparison)


def comparison_markdown(comparison: Result) -> str:
    """Render the comparison as Markdown; its plot is comparison.png beside it."""
    return render_template("comparison.md", **_content(comparison))


def comparison_html(comparison: Result) -> str:
    """Render the comparison as one self-contained page; every text in it is escaped."""
    frontier = picture(plots.quality_against_size, comparison)
    return render_template("comparison.html", frontier=frontier, **page_script(), **_content(comparison))


def _content(comparison: Result) -> Result:
    """Return what Markdown and HTML show alike."""
    run = f"{comparison['command']} · {comparison['created']} · seed {comparison['seed']}"
    hardware = f"{comparison['hardware']['processor']}, {comparison['hardware']['cores']} cores"
    title = f"{comparison['ours']} beside others"
    # Apart from the sections, which are published: one's own texts are not.
    own = own_parts(comparison)
    return {"title": title, "sections": comparison_sections(comparison), "own": own, "footer": f"{run} · {hardware}"}


def comparison_png(comparison: Result) -> bytes:
    """Draw quality against size."""
    return plots.png(plots.quality_against_size(comparison))
