"""Results of phases 2 and 3 as tables on a terminal, Markdown and HTML; the sentences are those of ``judgement``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from qwen25.evaluation import judgement
from qwen25.evaluation.categories import WEIGHTS
from qwen25.evaluation.judgement import REFERENCE, SAME, Result, ranked, scores_of
from qwen25.reports import plots
from qwen25.reports.own_data import meaning_sections, own_sections
from qwen25.reports.sections import Section, html_page, print_sections
from qwen25.runtime.text import rate_text, render_template, size_text, with_interval

COST_NOTE = """Sizes in megabytes (1,000,000 bytes). A speed is the median of up to five runs of this machine; \
speeds within a tenth of each other are tied."""
PUBLISHED_NOTE = """What others published of these models: measured on other texts, as mean cosines of pairs that \
belong together, without a control. They are no scores of the tables above and do not compare with them. Source: {}."""


class Column(NamedTuple):
    """A column of a table of models.

    :ivar cell: the text of a row of the comparison.
    :ivar best: takes all rows and returns those with the best value, and those tied with them.
    """

    header: str
    cell: Callable[[Result], str]
    best: Callable[[list[Result]], list[Result]] = lambda rows: []


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
_scored = {name: partial(judgement.best_rows, category=name) for name in (*WEIGHTS, "overall")}
#: The most important columns are first: a narrow terminal leaves out the last ones.
QUALITY = [
    Column("model", _name),
    Column("overall [95 % interval]", _at(with_interval, "result", "overall"), _scored["overall"]),
    Column("against ours", _against),
    *(Column(n.split("_")[0], _at(with_interval, "result", "categories", n), _scored[n]) for n in WEIGHTS),
    Column("control", _at(_digits, "result", "overall", "control", "score")),
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
    *(Column(n.split("_")[0], _at(_digits, "published", "categories", n)) for n in WEIGHTS),
    Column("size", _at("{:.0f} MB".format, "published", "size_mb")),
    Column("query", _at("{:.2f} ms".format, "published", "latency_ms")),
]


def _section(title: str, columns: Sequence[Column], rows: list[Result], ours: str = "", **more: Any) -> Section:
    """Return a section with a table of models; ``more`` are further fields of ``Section``."""
    names = [row["name"] for row in rows]
    return Section(
        title,
        header=[column.header for column in columns],
        rows=[[column.cell(row) for column in columns] for row in rows],
        ours=names.index(ours) if ours else None,
        best={(names.index(row["name"]), x) for x, column in enumerate(columns) for row in column.best(rows)},
        **more,
    )


def _all_ranked(comparison: Result) -> list[Result]:
    """Return the rows that a model stands among, best first, then those that lack a category."""
    return [*ranked(comparison), *(row for row in judgement.standing(comparison) if not row["result"]["overall"])]


def quality_section(comparison: Result) -> Section:
    """Return the scores of each model, by falling overall score."""
    return _section("Quality", QUALITY, _all_ranked(comparison), comparison["ours"])


def cost_section(comparison: Result) -> Section:
    """Return what each measured model costs: sizes read from files and arrays, times of this run."""
    measured = [row for row in _all_ranked(comparison) if row["obtained"] != REFERENCE]
    return _section("Cost", COST, measured, comparison["ours"], note=COST_NOTE)


def scores_section(result: Result) -> Section:
    """Return a model's scores beside those of its control and of the reference models; a row's best are marked.

    :param result: an evaluation or a comparison.
    """
    ours, *others = judgement.standing(result)
    names = [model["name"] for model in judgement.references(result["items_sha256"])]
    rows = [ours, *sorted((row for row in others if row["name"] in names), key=lambda row: names.index(row["name"]))]
    marks = [f"{row['name']} (reference)" if row.get("obtained") == REFERENCE else row["name"] for row in rows[1:]]
    cells, best = [], set()
    for y, (name, score) in enumerate(scores_of(ours["result"]).items()):
        scores = [_digits(found["score"]) if (found := scores_of(row["result"]).get(name)) else "-" for row in rows[1:]]
        control = _digits(score["control"]["score"]) if score["control"] else "-"
        weight = f"{score['weight']:.0%}" if "weight" in score else ""
        cells.append([name.replace("_", " "), with_interval(score), control, *scores, weight])
        first = judgement.best_rows(rows, name)
        best |= {(y, x + 1 + (x > 0)) for x, row in enumerate(rows) if row in first}
    return Section(
        f"Scores of {ours['name']}",
        header=["category", "score [95 % interval]", "random directions", *marks, "weight"],
        rows=cells,
        best=best,
        figure=partial(plots.category_bars, ours["result"]),
        shows="Score of each category with its interval, beside the random-direction control",
    )


def missing_section(comparison: Result) -> Section:
    """Return how to measure each system that was not measured; the reasons are in the result."""
    lines = [f"{row['name']}: {row['how']}" for row in comparison["models"] if "reason" in row]
    return Section("Not measured, and how to", lines)


def _in_short(result: Result) -> Section:
    """Return all that is said of a model in short, with a comparison's figure."""
    lines = judgement.summary(result)
    if "models" not in result:
        return Section("In short", lines)
    shows = "Quality against size in MB, with the Pareto frontier"
    return Section("In short", lines, figure=partial(plots.quality_against_size, result), shows=shows)


def print_evaluation(result: Result) -> None:
    """Print the table of scores, and what they say, on standard output."""
    print_sections([scores_section(result), _in_short(result), *own_sections(result)])


def evaluation_html(result: Result) -> str:
    """Render one model's result as one self-contained page; every text in it is escaped."""
    health = [_health_row(*fact) for fact in result["health"].items()]
    worst = [
        Section(
            f"What went worst: {name.replace('_', ' ')}",
            header=["asked", "right", "chosen instead"],
            rows=[[item["asked"], item["right"], item["chosen"]] for item in category["worst_items"]],
            texts=True,
            code=name == "code_understanding",
        )
        for name, category in result["categories"].items()
    ]
    sections = [_in_short(result), scores_section(result), *meaning_sections(result), *own_sections(result)]
    sections += [Section("Health", header=["what", "measured"], rows=health), *worst]
    about = f"{result['command']} · {result['created']} · seed {result['seed']} · model {result['model']['sha256']}"
    return html_page(f"Evaluation of {result['model']['name']}", sections, about)


def _health_row(key: str, value: Any) -> list[str]:
    """Return a fact's name and its value as people read them."""
    written = "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
    if key.endswith("_bytes"):
        key, written = key.removesuffix("_bytes"), size_text(value)
    return [key.replace("_", " "), written]


def print_comparison(comparison: Result) -> None:
    """Print the tables of quality and cost, and what they say, on standard output."""
    sections = [quality_section(comparison), cost_section(comparison), _in_short(comparison)]
    print_sections([*sections, missing_section(comparison), *own_sections(comparison)])


def comparison_sections(comparison: Result) -> list[Section]:
    """Return the comparison in the order in which it is read; one's own texts are apart, as they are not published."""
    missing = missing_section(comparison)
    sections = [_in_short(comparison), quality_section(comparison), cost_section(comparison)]
    sections += [missing] if missing.lines else []
    if published := [row for row in comparison["models"] if row["published"]]:
        note = PUBLISHED_NOTE.format(published[0]["published"]["source"])
        sections.append(_section("Published figures", PUBLISHED, published, note=note, folded=True))
    return sections


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
