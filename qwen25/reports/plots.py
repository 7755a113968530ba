"""Results -> figures."""

from __future__ import annotations

import io
import logging
from typing import TYPE_CHECKING, Any

from qwen25.evaluation.categories.all import WEIGHTS
from qwen25.evaluation.recommendations import frontier, ours_of, ranked
from qwen25.evaluation.results import Comparison, EvaluationResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OURS, OTHERS, CONTROL = "#dd8452", "#4c72b0", "#777777"


def png(figure: Figure) -> bytes:
    """Return a figure as a PNG file; the same result gives the same bytes."""
    buffer = io.BytesIO()
    # No creation date or software version in the file.
    figure.savefig(buffer, format="png", dpi=120, bbox_inches="tight", metadata={"Software": None})
    return buffer.getvalue()


def _figure(**options: Any) -> Figure:
    """Return an empty figure."""
    # Where it may not write its cache it says so in two lines, and does without.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    from matplotlib.figure import Figure

    return Figure(**options)


def category_bars(result: EvaluationResult) -> Figure:
    """Draw one model's categories with their intervals, beside its control."""
    names = [*result["categories"], "overall"]
    scores = [*result["categories"].values(), result["overall"]]
    figure = _figure(figsize=(8, 0.6 * len(names) + 1))
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


def comparison(result: Comparison) -> Figure:
    """Draw quality against size with the Pareto frontier, and below it the categories by model."""
    rows = [row for row in result["models"] if "result" in row]
    figure = _figure(figsize=(9, 5.5 + 0.4 * len(rows)), layout="constrained")
    above, below = figure.subplots(2, 1, height_ratios=[5, 1 + 0.4 * len(rows)])
    _quality_against_size(above, result)
    _categories_by_model(below, result)
    return figure


def _quality_against_size(axes: Any, result: Comparison) -> None:
    ours = ours_of(result)["name"]
    points = [(row["result"]["health"]["size_bytes"], row["result"]["overall"]["score"]) for row in ranked(result)]
    for row in ranked(result):
        overall, size = row["result"]["overall"], row["result"]["health"]["size_bytes"]
        name = _literal(row["name"])
        if row["kind"] == "control":
            axes.axhline(overall["score"], color=CONTROL, linestyle=":", label=name)
        if not size:
            continue
        low, high = overall["interval"]
        errors = [[max(0.0, overall["score"] - low)], [max(0.0, high - overall["score"])]]
        color = OURS if row["name"] == ours else OTHERS
        axes.errorbar(size / 1e6, overall["score"], yerr=errors, fmt="o", color=color, ecolor=color, capsize=3)
        near = [score for other, score in points if other and 0.5 < other / size < 2]
        beside = (6, 6 if overall["score"] >= max(near) else -12)  # of neighbours in size, the best one's name is above
        axes.annotate(name, (size / 1e6, overall["score"]), beside, textcoords="offset points", fontsize=8)
    edge = frontier(result)
    if edge:
        sizes = [row["result"]["health"]["size_bytes"] / 1e6 for row in edge]
        scores = [row["result"]["overall"]["score"] for row in edge]
        axes.step([*sizes, sizes[-1] * 3], [*scores, scores[-1]], where="post", color="#222222", linewidth=0.8,
                  label="Pareto frontier")  # fmt: skip
    axes.set_xscale("log")
    axes.margins(x=0.2)
    axes.set_xlabel("size on disk (MB, log scale)")
    axes.set_ylabel("overall (0 chance, 1 perfect), 95 % interval")
    axes.legend(loc="lower right", fontsize=8)


def _categories_by_model(axes: Any, result: Comparison) -> None:
    rows = ranked(result)
    rows += [row for row in result["models"] if "result" in row and row not in rows]
    categories = [row["result"]["categories"] for row in rows]
    found = [[scores[c]["score"] if c in scores else None for c in WEIGHTS] for scores in categories]
    axes.imshow([[0.0 if v is None else max(0.0, v) for v in line] for line in found], cmap="Blues", vmin=0, vmax=1,
                aspect="auto")  # fmt: skip
    for y, line in enumerate(found):
        for x, value in enumerate(line):
            text, color = ("-", "black") if value is None else (f"{value:.2f}", "white" if value > 0.6 else "black")
            axes.text(x, y, text, ha="center", va="center", color=color, fontsize=8)
    axes.set_xticks(range(len(WEIGHTS)), [c.replace("_", "\n") for c in WEIGHTS], fontsize=8)
    axes.set_yticks(range(len(rows)), [_literal(row["name"]) for row in rows], fontsize=8)
    axes.xaxis.tick_top()


def _literal(name: str) -> str:
    """Return a name as matplotlib draws it: what stands between two dollar signs would be a formula."""
    return name.replace("$", r"\$")
