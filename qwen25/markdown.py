"""Text -> Markdown that shows it as it is: names, items and messages cannot bring markup of their own."""

from __future__ import annotations

import re

#: What Markdown, or HTML in it, takes for markup: the last character of a match is what makes it so. Lone
#: brackets (of intervals) and underscores inside a word (of file names) are none.
_MARKUP = re.compile(
    r"[\\`*<~]|(?<![^\W_])_|_(?![^\W_])|\](?=[(\[:])|&(?=#?\w+;)"
    r"|^[>#\[]|^-(?=[ -])|^\+(?= |$)|^\d+[.)](?= |$)"
)


class Markdown(str):
    """A string that is Markdown already."""

    __slots__ = ()


def text(value: str) -> str:
    """Return ``value`` on one line, with its markup escaped."""
    return _MARKUP.sub(lambda match: f"{match[0][:-1]}\\{match[0][-1]}", " ".join(value.split()))


def code(value: str) -> Markdown:
    """Return ``value`` on one line, to stand inside a code span or block that it cannot end."""
    return Markdown(" ".join(str(value).split()).replace("`", "'"))


def table(header: list[str], rows: list[list[str]]) -> list[str]:
    """Return the lines of a table; its cells are texts, its header is Markdown of our own."""

    def line(cells: list[str]) -> str:
        return "| " + " | ".join(cells) + " |"

    escaped = [[text(cell).replace("|", "\\|") for cell in row] for row in rows]
    return [line(header), "|" + " --- |" * len(header), *map(line, escaped)]
