"""The measured frontier -> score against size, one line a form, one panel a model."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from benchmarks.sizes.forms import FORMS
from benchmarks.sizes.measure import Row

#: What the panels of a row show: title, and a row's score or None.
SCORES: tuple[tuple[str, Callable[[Row], float | None]], ...] = (
    ("our items", lambda row: row["evaluation"]["score"]),
    ("public data", lambda row: row["public"]["overall"] if row["public"] else None),
)


def plot(result: Row) -> str:
    """Draw score against size as an SVG of small multiples. Its bytes depend on result and matplotlib version."""
    import matplotlib
    from matplotlib.figure import Figure

    models = result["models"]
    shown = [(title, score) for title, score in SCORES if any(score(model["rows"][0]) for model in models)]
    with matplotlib.rc_context({"svg.hashsalt": "sizes", "svg.fonttype": "none", "font.size": 8}):
        ncols = min(4, 1 + len(models))  # as many as the panels are wide
        figure = Figure(figsize=(2 + 2.9 * len(models), 1.5 + 2.5 * len(shown)), layout="constrained")
        axes = figure.subplots(len(shown), len(models), squeeze=False, sharex=True, sharey="row")
        for line, (title, score) in zip(axes, shown, strict=True):
            line[0].set_ylabel(f"overall, {title}")
            for panel, model in zip(line, models, strict=True):
                _panel(panel, model["rows"], score)
        for panel, model in zip(axes[0], models, strict=True):
            panel.set_title(model["name"], fontsize=9)
        for panel in axes[-1]:
            panel.set_xlabel("size (MB)")
        figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=ncols, fontsize=7)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"


def _panel(axes: Any, rows: list[Row], score: Callable[[Row], float | None]) -> None:
    from matplotlib.ticker import NullFormatter, StrMethodFormatter

    whole, others = rows[0], rows[1:]
    if (level := score(whole)) is not None:
        axes.axhline(level, color="grey", linewidth=0.8, linestyle="--", label="whole table, float32")
    for (form, spec), marker in zip(FORMS.items(), "os^Dvxp*", strict=True):
        # A form that fits whole is drawn once: of the rows that repeat it, only that of its size.
        found = {(row["bytes"] / 1e6, score(row)) for row in others if row["form"] == form}
        points = sorted((size, value) for size, value in found if value is not None)
        sizes, values = [size for size, _ in points], [value for _, value in points]
        axes.plot(sizes, values, marker=marker, markersize=3.5, linewidth=1, label=spec.label)
    axes.set_xscale("log")
    axes.set_xticks(sorted({row["budget_mb"] for row in others}))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:.3g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3)
