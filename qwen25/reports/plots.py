"""Results -> figures of matplotlib, for light and for dark pages."""

from __future__ import annotations

import io
import logging
import math
from dataclasses import dataclass
from typing import Any

from qwen25.evaluation.judgement import REFERENCE, Result, frontier, ranked, scores_of


@dataclass(frozen=True)
class Colours:
    """The colours of a figure. Each has a contrast of at least 4.5 to the background, text to ``others`` of 3."""

    background: str
    text: str
    ours: str
    others: str
    control: str


LIGHT = Colours("#ffffff", "#1c1c1c", "#9a3c00", "#3f6fc0", "#595959")
DARK = Colours("#16181d", "#e8e8e8", "#ffb27a", "#5283e0", "#b4b4b4")
COLOURS = {"light": LIGHT, "dark": DARK}
SMALL = 8  # points: of names and ticks
DPI = 180  # sharp where a screen has two pixels for each of a page's
WIDTH = 6.0  # inches; a figure no wider is readable on a phone, which shows it at half that


def png(figure: Any) -> bytes:
    """Return a figure as a PNG file; the same result gives the same bytes."""
    buffer = io.BytesIO()
    # No creation date or software version in the file.
    figure.savefig(buffer, format="png", dpi=DPI, bbox_inches="tight", metadata={"Software": None})
    return buffer.getvalue()


def _axes(colours: Colours, height: float, layout: str | None = None) -> Any:
    """Return the axes of a new figure, ``height`` in inches."""
    # Where it may not write its cache it says so in two lines, and does without.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    from matplotlib.figure import Figure

    axes = Figure((WIDTH, height), facecolor=colours.background, layout=layout).subplots()  # type: ignore[arg-type]
    axes.set_facecolor(colours.background)
    axes.tick_params(which="both", colors=colours.text)
    for part in (axes.xaxis.label, axes.yaxis.label, axes.title):
        part.set_color(colours.text)
    for spine in axes.spines.values():
        spine.set_color(colours.control)
    return axes


def _legend(axes: Any, colours: Colours, place: str) -> None:
    style = {"facecolor": colours.background, "edgecolor": colours.control, "labelcolor": colours.text}
    axes.legend(loc=place, fontsize=SMALL, **style)


def category_bars(result: Result, colours: Colours = LIGHT) -> Any:
    """Draw one model's categories with their intervals, beside its control."""
    scores = scores_of(result)
    axes = _axes(colours, 0.5 * len(scores) + 1)
    values = [score["score"] for score in scores.values()]
    errors = list(zip(*map(_error, scores.values()), strict=True))
    style = {"color": colours.others, "ecolor": colours.text, "capsize": 3}
    axes.barh(range(len(values)), values, xerr=errors, label="model, 95 % interval", **style)
    controls = [(s["control"]["score"], place) for place, s in enumerate(scores.values()) if s["control"]]
    if controls:
        style = {"marker": "D", "color": colours.ours, "edgecolors": colours.background, "zorder": 3}
        axes.scatter(*zip(*controls, strict=True), label="random directions", **style)
    axes.set_yticks(range(len(values)), [name.replace("_", "\n") for name in scores])
    axes.invert_yaxis()
    axes.set_xlim(min(0.0, *values) - 0.02, 1)
    axes.set_xlabel("score (0 chance, 1 perfect)")
    axes.axvline(0, color=colours.text, linewidth=0.8)
    _legend(axes, colours, "lower right")
    return axes.figure


def _error(score: Result) -> tuple[float, float]:
    """Return how far a score's interval reaches below and above it."""
    low, high = score["interval"]
    return max(0.0, score["score"] - low), max(0.0, high - score["score"])


def quality_against_size(result: Result, colours: Colours = LIGHT) -> Any:
    """Draw quality against size with the Pareto frontier."""
    axes = _axes(colours, 4.2, "constrained")
    rows = ranked(result)
    sizes = [(row["result"]["health"]["size_bytes"] or 0) / 1e6 for row in rows]
    points = [(size, row["result"]["overall"]["score"]) for size, row in zip(sizes, rows, strict=True) if size]
    least, most = min(filter(None, sizes), default=1.0), max(sizes, default=0.0) or 1.0
    middle, margin = math.sqrt(least * most), max(1.5, (most / least) ** 0.2)
    axes.set_xscale("log")
    axes.margins(y=0.1)
    axes.set_xlim(least / margin, most * margin)
    for x, row in zip(sizes, rows, strict=True):
        overall, y = row["result"]["overall"], row["result"]["overall"]["score"]
        # A name may hold what would be a formula between two dollar signs.
        style = {"textcoords": "offset points", "fontsize": SMALL, "parse_math": False}
        if row["kind"] == "control":
            axes.axhline(y, color=colours.control, linestyle=":")
            style |= {"color": colours.control, "ha": "right", "xycoords": ("axes fraction", "data")}
            axes.annotate(row["name"], (1, y), (-6, 4), **style)
        if not x:
            continue
        color = colours.ours if row["name"] == result["ours"] else colours.others
        axes.errorbar(x, y, yerr=[[e] for e in _error(overall)], fmt="o", color=color, ecolor=color, capsize=3)
        # Names stand on the side of the middle, where there is room; of neighbours in size, the best one's is above.
        is_best = y >= max(score for other, score in points if 0.5 < other / x < 2)
        beside = (6 if x <= middle else -6, 6 if is_best else -12)
        style |= {"color": color, "ha": "left" if x <= middle else "right"}
        mark = " (reference)" if row["obtained"] == REFERENCE else ""
        axes.annotate(row["name"] + mark, (x, y), beside, **style)
    if edge := frontier(result):
        scores = [row["result"]["overall"]["score"] for row in edge]
        places = [*(row["result"]["health"]["size_bytes"] / 1e6 for row in edge), most * margin]
        style = {"where": "post", "color": colours.text, "linewidth": 0.8, "label": "Pareto frontier"}
        axes.step(places, [*scores, scores[-1]], **style)
        _legend(axes, colours, "upper left")  # the one corner that no frontier reaches
    axes.set_title("Quality against size in MB", fontsize=10)
    axes.xaxis.set_major_formatter(_megabytes)
    axes.xaxis.set_minor_formatter(_megabytes)
    axes.tick_params(which="both", labelsize=SMALL, length=3.5, pad=3.5)  # alike, so that all labels stand on one line
    axes.set_xlabel("size on disk (MB, log scale)", fontsize=9)
    axes.set_ylabel("overall (0 chance, 1 perfect), 95 % interval", fontsize=9)
    return axes.figure


def _megabytes(value: float, _: Any = None) -> str:
    """Return a tick's text: 1, 2 and 5 times each power of ten have one."""
    return f"{value:,g} MB" if f"{value:.0e}"[0] in "125" else ""
