"""Translated interface texts: gettext's catalogues, and JSON files of one structure a language."""

from __future__ import annotations

import json
import re
import struct
import zipfile
from collections.abc import Iterable, Iterator
from typing import Any

from qwen25.training.readers.wording import Row, is_sentence, plain

ENGLISH = "en"


def read_gettext(wheel: zipfile.ZipFile, members: str) -> Iterator[Row]:
    """Yield each English text of a wheel's compiled catalogues with its translation.

    :param members: the catalogues' paths, as :func:`read_json` has them.
    """
    pattern = _pattern(members)
    for name in sorted(wheel.namelist()):
        if found := pattern.fullmatch(name):
            yield from _rows(found["lang"], compiled_messages(wheel.read(name)))


def compiled_messages(content: bytes) -> Iterator[tuple[str, str]]:
    """Yield the texts of a compiled catalogue and their translations (gettext's manual, "The Format of GNU MO Files").

    Of a plural the singular is taken; a catalogue in another encoding than UTF-8 yields what is readable.
    """
    order = "<" if content[:4] == b"\xde\x12\x04\x95" else ">"
    count, sources, targets = struct.unpack_from(f"{order}3I", content, 8)
    for number in range(count):
        texts = []
        for table in (sources, targets):
            length, start = struct.unpack_from(f"{order}2I", content, table + 8 * number)
            texts.append(content[start : start + length].split(b"\0")[0].decode(errors="ignore"))
        if texts[0]:  # the empty one is the header
            yield texts[0].rpartition("\4")[2], texts[1]


def read_json(wheel: zipfile.ZipFile, members: str) -> Iterator[Row]:
    """Yield each English text of a wheel's JSON files with the text at the same place of another language's file.

    :param members: the files' paths, in which ``{lang}`` stands for a language and ``*`` for anything.
    """
    pattern = _pattern(members)
    english: dict[str, dict[str, str]] = {}
    others: list[tuple[str, str, str]] = []
    for name in sorted(wheel.namelist()):
        if found := pattern.fullmatch(name):
            start, end = found.span("lang")
            place = f"{name[:start]}{{lang}}{name[end:]}"
            if found["lang"] == ENGLISH:
                english[place] = dict(_leaves(json.loads(wheel.read(name))))
            else:
                others.append((found["lang"], place, name))
    for language, place, name in sorted(others):
        if texts := english.get(place):
            translated = dict(_leaves(json.loads(wheel.read(name))))
            yield from _rows(language, ((texts[key], text) for key, text in translated.items() if key in texts))


def _pattern(members: str) -> re.Pattern[str]:
    return re.compile(re.escape(members).replace(r"\*", ".*").replace(r"\{lang\}", "(?P<lang>[^/.]+)"))


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}/{key}")


def _rows(locale: str, texts: Iterable[tuple[str, str]]) -> Iterator[Row]:
    """Yield the sentences among the texts, as rows of pairs."""
    language = re.split("[-_]", locale)[0].lower()
    if language == ENGLISH:
        return
    for source, target in texts:
        left, right = plain(source), plain(target)
        if is_sentence(left) and right:
            yield {"a": left, "b": right, "lang": f"{ENGLISH}-{language}"}
