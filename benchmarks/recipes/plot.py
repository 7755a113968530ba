"""The result of the benchmark of recipes -> score against size, one line a form."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from benchmarks.recipes.document import has_public
from benchmarks.recipes.measure import Row
from benchmarks.recipes.sizes import FORMS


def plot(result: Row) -> str:
    """Draw score against size, one line a form, as an SVG whose bytes depend on the result alone."""
    import matplotlib
    from matplotlib.figure import Figure

    panels: dict[str, Callable[[Row], float]] = {"our calibration items": lambda row: row["overall"]["score"]}
    if has_public(result):
        panels["public data"] = lambda row: row["public"]["overall"]
    with matplotlib.rc_context({"svg.hashsalt": "recipes", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(5.2 * len(panels), 4.4), layout="constrained")
        for axes, (title, score) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
            _panel(axes, result["sizes"], title, score)
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"


def _panel(axes: Any, sizes: list[Row], title: str, score: Callable[[Row], float]) -> None:
    from matplotlib.ticker import NullFormatter, StrMethodFormatter

    for (form, label), marker in zip(FORMS.items(), "os^Dvx", strict=True):
        # A whole table is drawn once: of the rows that repeat it, only that of its size.
        points = sorted({(row["bytes"] / 1e6, score(row)) for row in sizes if row["form"] == form})
        axes.plot(
            [x for x, _ in points], [y for _, y in points], marker=marker, markersize=5, linewidth=1.2, label=label
        )
    axes.set_xscale("log")
    ticks = sorted({row["budget_mb"] for row in sizes if row["budget_mb"] is not None})
    largest = max(row["bytes"] for row in sizes) / 1e6
    axes.set_xticks([*ticks, *([largest] if largest > 1.1 * ticks[-1] else [])])
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:.3g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("size of the tensors (MB)")
    axes.set_ylabel("overall score")
    axes.set_title(title)
    axes.grid(alpha=0.3)
