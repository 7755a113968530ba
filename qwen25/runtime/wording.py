"""How scores, differences and sizes are written, in every table and sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qwen25.runtime.errors import InputError

#: Of a model's name, which tables and plots repeat.
LONGEST_NAME = 100


def is_name(text: str) -> bool:
    """Whether a text can stand for a model in tables and plots."""
    return bool(text.strip()) and len(text) <= LONGEST_NAME and text.isprintable()


def require_name(flag: str, text: str | None) -> None:
    """Refuse what a flag gives as a name if it is none; None: it was not given.

    :raises InputError: if it is none.
    """
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


def count_text(count: float) -> str:
    """Render a count in which ties count in part: 17, or 13.8."""
    return f"{count:.1f}".removesuffix(".0")


def rate_text(sentences_per_second: float) -> str:
    """Render a speed with the two digits that hold from run to run."""
    rounded = float(f"{sentences_per_second:.2g}")
    return f"{rounded:,.0f} sentences/s" if rounded >= 10 else f"{rounded:g} sentences/s"
