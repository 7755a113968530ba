"""How numbers and names are written, and templates rendered so that no value brings markup of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from qwen25.runtime.errors import InputError

#: Of a model's name, which tables and plots repeat.
LONGEST_NAME = 100


def is_name(text: str) -> bool:
    """Whether a text can stand for a model in tables and plots."""
    return bool(text.strip()) and len(text) <= LONGEST_NAME and text.isprintable()


def require_name(flag: str, text: str | None) -> None:
    """Raise InputError if what a flag gives is no name; None: it was not given."""
    if text is not None and not is_name(text):
        raise InputError(f"{flag} must have 1 to {LONGEST_NAME} characters, all of them printable")


def with_interval(score: Mapping[str, Any]) -> str:
    """Render a score and its 95 % interval."""
    low, high = score["interval"]
    return f"{score['score']:.3f} [{low:.3f}, {high:.3f}]"


def difference_text(difference: Mapping[str, Any]) -> str:
    """Render a difference of scores and its 95 % interval, all with their signs."""
    low, high = difference["interval"]
    return f"{difference['value']:+.3f} [{low:+.3f}, {high:+.3f}]"


def size_text(size_bytes: int | None) -> str:
    """Render a size in megabytes (10^6 bytes)."""
    return "-" if size_bytes is None else f"{size_bytes / 1e6:.1f} MB"


def rate_text(sentences_per_second: float) -> str:
    """Render a speed with the two digits that hold from run to run."""
    rounded = float(f"{sentences_per_second:.2g}")
    return f"{rounded:,.0f} sentences/s" if rounded >= 10 else f"{rounded:g} sentences/s"


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
    escaped = [[text(cell).replace("|", "\\|") for cell in row] for row in rows]
    return [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *escaped)]


def render_template(template: str, **values: Any) -> str:
    """Render a template with every value escaped, as Markdown or HTML; raises TemplateError if one is missing."""
    environment = Environment(
        loader=PackageLoader("qwen25", "templates"),
        autoescape=select_autoescape(),
        finalize=_as_markdown if template.endswith(".md") else None,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"code": code, "bibtex": bibtex, "with_interval": with_interval}
    environment.filters["table"] = lambda rows, header: Markdown("\n".join(table(header, rows)))
    return environment.get_template(template).render(**values)


def _as_markdown(value: Any) -> Any:
    return value if isinstance(value, (Markdown, int, float)) else text(str(value))
