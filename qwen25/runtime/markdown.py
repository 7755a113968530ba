"""Text -> Markdown that shows it as it is: names, items and messages cannot bring markup of their own."""

from __future__ import annotations

import re
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from qwen25.runtime.wording import count_text, with_interval

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


def bibtex(value: str) -> Markdown:
    """Return ``value`` to stand in braces that it cannot end, in a code block that it cannot end."""
    return code(re.sub(r"[{}\\]", "", str(value)))


def table(header: list[str], rows: list[list[str]]) -> list[str]:
    """Return the lines of a table; its cells are texts, its header is Markdown of our own."""

    def line(cells: list[str]) -> str:
        return "| " + " | ".join(cells) + " |"

    escaped = [[text(cell).replace("|", "\\|") for cell in row] for row in rows]
    return [line(header), "|" + " --- |" * len(header), *map(line, escaped)]


def render_template(template: str, **values: Any) -> str:
    """Render a template with every value escaped: as Markdown where it is one, else as HTML.

    :raises jinja2.TemplateError: if a value that it needs is missing.
    """
    is_markdown = template.endswith(".md")
    environment = Environment(
        loader=PackageLoader("qwen25", "templates"),
        autoescape=select_autoescape(),
        finalize=_as_markdown if is_markdown else None,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["code"] = code
    environment.filters["bibtex"] = bibtex
    environment.filters["with_interval"] = with_interval
    environment.filters["count_text"] = count_text
    environment.filters["table"] = lambda rows, header: Markdown("\n".join(table(header, rows)))
    return environment.get_template(template).render(**values)


def _as_markdown(value: Any) -> Any:
    """Return what a Markdown template shows of a value."""
    return value if isinstance(value, (Markdown, int, float)) else text(str(value))
