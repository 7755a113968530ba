"""A part of a report, and how reports show it: on a terminal and as an HTML page; Markdown's is ``sections.md``."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from markupsafe import Markup

from qwen25.reports import plots
from qwen25.runtime.display import print_lines, print_table
from qwen25.runtime.text import render_template


@dataclass(frozen=True)
class Section:
    """A titled part of a report: a note, sentences, a figure, a table; not all need be there.

    :ivar ours: the table's row of ours.
    :ivar best: the cells, as (row, column), that hold the best value of their kind, or one tied with it.
    :ivar texts: whether the table holds texts, which a terminal has no room for; ``code``: whether they are code.
    :ivar folded: whether a page shows it only when asked.
    :ivar figure: draws its figure in the colours given; ``shows`` says in words what is in it.
    """

    title: str
    lines: Sequence[str] = ()
    header: Sequence[str] = ()
    rows: Sequence[list[str]] = ()
    note: str = ""
    ours: int | None = None
    best: Collection[tuple[int, int]] = ()
    texts: bool = False
    code: bool = False
    folded: bool = False
    figure: Callable[[plots.Colours], Any] | None = None
    shows: str = ""


def print_sections(sections: Sequence[Section]) -> None:
    """Print tables and sentences on standard output."""
    for section in sections:
        if section.rows and not section.texts:
            print_table(section.title, section.header, section.rows)
        print_lines(section.lines, None if section.rows else section.title)


def html_page(title: str, sections: Sequence[Section], footer: str) -> str:
    """Render sections as one self-contained page; every text in it is escaped, and only its own script may run."""
    script = (files("qwen25") / "templates" / "sort.js").read_text(encoding="utf-8")
    figures = {
        section.title: {name: in_base64(plots.png(section.figure(colours))) for name, colours in plots.COLOURS.items()}
        for section in sections
        if section.figure
    }
    return render_template(
        "report.html",
        title=title,
        sections=sections,
        figures=figures,
        footer=footer,
        script=Markup(script),  # noqa: S704
        script_hash=in_base64(hashlib.sha256(script.encode()).digest()),
    )


def in_base64(content: bytes) -> str:
    """Return bytes as they stand in an HTML file."""
    return base64.b64encode(content).decode()
