"""Results -> figures, for light pages and, inside ``dark_colours()``, for dark ones."""

from __future__ import annotations

import io
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qwen25.evaluation.categories.all import CATEGORIES, WEIGHTS
from qwen25.evaluation.recommendations import frontier, ours_of, ranked
from qwen25.evaluation.results import Comparison, EvaluationResult, ScoreAndControl

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Colours:
    """The colours of a figure; each has a contrast of at least 4.5 to the background (WCAG 2.2, 1.4.3).

    Error bars are drawn in the colour of the text across bars in that of the others: at least 3 between them.
    """

    background: str
    text: str
    ours: str
    others: str
    control: str


#: Points: of names and ticks.
SMALL = 8
#: Pixels an inch: sharp where a screen has two for each of a page's.
DPI = 180
#: Inches; a figure no wider is readable on a phone, which shows it at half that.
WIDTH = 6.0
LIGHT = Colours("#ffffff", "#1c1c1c", "#9a3c00", "#3f6fc0", "#595959")
DARK = Colours("#16181d", "#e8e8e8", "#ffb27a", "#5283e0", "#b4b4b4")
_colours: ContextVar[Colours] = ContextVar("colours", default=LIGHT)


@contextmanager
def dark_colours() -> Iterator[None]:
    """Draw for a dark page."""
    token = _colours.set(DARK)
    try:
        yield
    finally:
        _colours.reset(token)


def luminance(red: float, green: float, blue: float) -> float:
    """Return the relative luminance of a colour whose parts lie in 0..1 (WCAG 2.2)."""
    parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (red, green, blue)]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Return the contrast of two colours whose parts lie in 0..1: from 1, none, to 21, black on white (WCAG 2.2)."""
    dark, light = sorted((luminance(*one[:3]), luminance(*other[:3])))
    return (light + 0.05) / (dark + 0.05)


def on_shade(shade: tuple[float, ...]) -> str:
    """Return black or white, whichever has the higher contrast to a shade: at least 4.5 on any."""
    return max(("black", (0.0, 0.0, 0.0)), ("white", (1.0, 1.0, 1.0)), key=lambda text: contrast(text[1], shade))[0]


def png(figure: Figure) -> bytes:
    """Return a figure as a PNG file; the same result gives the same bytes."""
    buffer = io.BytesIO()
    # No creation date or software version in the file.
    figure.savefig(buffer, format="png", dpi=DPI, bbox_inches="tight", metadata={"Software": None})
    return buffer.getvalue()


def _figure(**options: Any) -> Figure:
    """Return an empty figure."""
    # Where it may not write its cache it says so in two lines, and does without.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    from matplotlib.figure import Figure

    return Figure(**options, facecolor=_colours.get().background)


def _coloured(axes: Any) -> Any:
    """Give axes the colours of the page."""
    colours = _colours.get()
    axes.set_facecolor(colours.background)
    axes.tick_params(which="both", colors=colours.text)
    for part in (axes.xaxis.label, axes.yaxis.label, axes.title):
        part.set_color(colours.text)
    for spine in axes.spines.values():
        spine.set_color(colours.control)
    return axes


def _legend(axes: Any, **options: Any) -> None:
    colours = _colours.get()
    legend = axes.legend(**options, facecolor=colours.background, edgecolor=colours.control)
    for entry in legend.get_texts():
        entry.set_color(colours.text)


def category_bars(result: EvaluationResult) -> Figure:
    """Draw one model's categories with their intervals, beside its control."""
    colours = _colours.get()
    names = [*result["categories"], "overall"]
    scores = [*result["categories"].values(), result["overall"]]
    figure = _figure(figsize=(WIDTH, 0.5 * len(names) + 1))
    axes = _coloured(figure.subplots())
    places = range(len(names))
    values = [score["score"] for score in scores]
    errors = [_error(score) for score in scores]
    sides = [[low for low, _ in errors], [high for _, high in errors]]
    label = "model, 95 % interval"
    axes.barh(places, values, xerr=sides, color=colours.others, ecolor=colours.text, capsize=3, label=label)
    controls = [(p, s["control"]["score"]) for p, s in zip(places, scores, strict=True) if s["control"]]
    if controls:
        x, y = [score for _, score in controls], [place for place, _ in controls]
        style = {"marker": "D", "color": colours.ours, "edgecolors": colours.background}
        axes.scatter(x, y, **style, zorder=3, label="random directions")
    axes.set_yticks(list(places), [name.replace("_", "\n") for name in names])
    axes.invert_yaxis()
    axes.set_xlim(min(0.0, *values) - 0.02, 1)
    axes.set_xlabel("score (0 chance, 1 perfect)")
    axes.axvline(0, color=colours.text, linewidth=0.8)
    _legend(axes, loc="lower right", fontsize=9)
    return figure


def _error(score: ScoreAndControl) -> tuple[float, float]:
    """Return how far a score's interval reaches below and above it."""
    low, high = score["interval"]
    return max(0.0, score["score"] - low), max(0.0, high - score["score"])


def comparison(result: Comparison) -> Figure:
    """Draw quality against size with the Pareto frontier, and below it the categories by model."""
    rows = [row for row in result["models"] if "result" in row]
    figure = _figure(figsize=(9, 5.5 + 0.4 * len(rows)), layout="constrained")
    above, below = figure.subplots(2, 1, height_ratios=[5, 1 + 0.4 * len(rows)])
    _quality_against_size(_coloured(above), result)
    _categories_by_model(_coloured(below), result)
    return figure


def quality_against_size(result: Comparison) -> Figure:
    """Draw quality against size with the Pareto frontier."""
    figure = _figure(figsize=(WIDTH, 4.2), layout="constrained")
    _quality_against_size(_coloured(figure.subplots()), result)
    return figure


def categories_by_model(result: Comparison) -> Figure:
    """Draw the categories by model, each score a shade."""
    figure = _figure(figsize=(8, 1 + 0.4 * sum("result" in row for row in result["models"])), layout="constrained")
    _categories_by_model(_coloured(figure.subplots()), result)
    return figure


def _quality_against_size(axes: Any, result: Comparison) -> None:
    colours = _colours.get()
    ours = ours_of(result)["name"]
    points = [(row["result"]["health"]["size_bytes"], row["result"]["overall"]["score"]) for row in ranked(result)]
    axes.set_xscale("log")
    axes.margins(y=0.1)
    sizes = [size for size, _ in points if size] or [1]
    least, most = min(sizes), max(sizes)
    middle, margin = math.sqrt(least * most), max(1.5, (most / least) ** 0.2)
    limits = (least / margin / 1e6, most * margin / 1e6)
    axes.set_xlim(limits)
    for row in ranked(result):
        overall, size = row["result"]["overall"], row["result"]["health"]["size_bytes"]
        name = _literal(row["name"])
        if row["kind"] == "control":
            axes.axhline(overall["score"], color=colours.control, linestyle=":")
            style = {"textcoords": "offset points", "fontsize": SMALL, "color": colours.control, "ha": "right"}
            axes.annotate(name, (1, overall["score"]), (-6, 4), xycoords=("axes fraction", "data"), **style)
        if not size:
            continue
        errors = [[side] for side in _error(overall)]
        color = colours.ours if row["name"] == ours else colours.others
        axes.errorbar(size / 1e6, overall["score"], yerr=errors, fmt="o", color=color, ecolor=color, capsize=3)
        near = [score for other, score in points if other and 0.5 < other / size < 2]
        is_left = size <= middle
        # Names stand on the side of the middle, where there is room; of neighbours in size, the best one's is above.
        beside = (6 if is_left else -6, 6 if overall["score"] >= max(near) else -12)
        style = {"textcoords": "offset points", "fontsize": SMALL, "color": color, "ha": "left" if is_left else "right"}
        axes.annotate(name, (size / 1e6, overall["score"]), beside, **style)
    if edge := frontier(result):
        scores = [row["result"]["overall"]["score"] for row in edge]
        x = [*(row["result"]["health"]["size_bytes"] / 1e6 for row in edge), limits[1]]
        y = [*scores, scores[-1]]
        axes.step(x, y, where="post", color=colours.text, linewidth=0.8, label="Pareto frontier")
        _legend(axes, loc="upper left", fontsize=SMALL)  # the one corner that no frontier reaches
    axes.set_title("Quality against size in MB", fontsize=10)
    for axis in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        axis(_megabytes)
    axes.tick_params(which="both", labelsize=SMALL, length=3.5, pad=3.5)  # alike, so that all labels stand on one line
    axes.set_xlabel("size on disk (MB, log scale)", fontsize=9)
    axes.set_ylabel("overall (0 chance, 1 perfect), 95 % interval", fontsize=9)


def _megabytes(value: float, _: Any = None) -> str:
    """Return a tick's text: 1, 2 and 5 times each power of ten have one."""
    return f"{value:,g} MB" if f"{value:.0e}"[0] in "125" else ""


def _categories_by_model(axes: Any, result: Comparison) -> None:
    from matplotlib import colormaps

    colours, ours = _colours.get(), ours_of(result)["name"]
    rows = ranked(result)
    rows += [row for row in result["models"] if "result" in row and row not in rows]
    categories = [row["result"]["categories"] for row in rows]
    found = [[scores[c]["score"] if c in scores else None for c in WEIGHTS] for scores in categories]
    shades = colormaps["Blues"]
    values = [[0.0 if v is None else min(1.0, max(0.0, v)) for v in line] for line in found]
    axes.imshow(values, cmap=shades, vmin=0, vmax=1, aspect="auto")
    for y, line in enumerate(found):
        for x, value in enumerate(line):
            color = on_shade(shades(values[y][x]))
            text = "-" if value is None else f"{value:.2f}"
            axes.text(x, y, text, ha="center", va="center", color=color, fontsize=SMALL)
    axes.set_xticks(range(len(WEIGHTS)), [c.title.replace(" ", "\n") for c in CATEGORIES.values()], fontsize=SMALL)
    labels = axes.set_yticks(range(len(rows)), [_literal(row["name"]) for row in rows], fontsize=SMALL)
    for label, row in zip(labels, rows, strict=True):
        label.label1.set_color(colours.ours if row["name"] == ours else colours.text)
    axes.xaxis.tick_top()


def _literal(name: str) -> str:
    """Return a name as matplotlib draws it: what stands between two dollar signs would be a formula."""
    return name.replace("$", r"\$")
