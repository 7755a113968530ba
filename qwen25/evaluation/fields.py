"""Checks of an item's fields that several categories share."""

from __future__ import annotations

from typing import Any

from qwen25.runtime.errors import InputError

#: Adversarial items share words with what is wrong; everyday items are as users meet them.
TIERS = ("everyday", "adversarial")
MAX_WRONG = 10
#: Longer texts are no sentences or snippets: they are a mistake in the file.
MAX_CHARACTERS = 100_000
MAX_NAME = 200  # of ids, topics and languages, which results repeat
Item = dict[str, Any]


def check_text(item: Item, field: str, where: str) -> None:
    """Check that a field holds a text.

    :raises InputError: if it is not.
    """
    check_is_text(item.get(field), f"{where}: {field!r}")


def check_name(item: Item, field: str, where: str) -> None:
    """Check that a field holds a short text: an id, a topic or a language.

    :raises InputError: if it is not.
    """
    check_is_text(item.get(field), f"{where}: {field!r}", MAX_NAME)


def check_is_text(value: Any, where: str, longest: int = MAX_CHARACTERS) -> None:
    """Check that a value is a text of at most ``longest`` characters.

    :raises InputError: if it is not.
    """
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{where} is missing or no text")
    if len(value) > longest:
        raise InputError(f"{where} has {len(value)} characters (at most {longest})")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(f"{where} holds half a surrogate pair, which is no character") from error


def check_list(item: Item, field: str, where: str, least: int, most: int) -> list[Any]:
    """Return a field that must be a list of ``least`` to ``most`` entries.

    :raises InputError: if it is not.
    """
    value = item.get(field)
    if not isinstance(value, list) or not least <= len(value) <= most:
        how_many = least if least == most else f"{least} to {most}"
        raise InputError(f"{where}: {field!r} must be a list of {how_many}")
    return value
