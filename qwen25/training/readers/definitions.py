"""A dictionary in an SQLite file: words and what they mean."""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
import zipfile
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from qwen25.training.readers.wording import MAX_LENGTH, Row

#: A shorter definition is a synonym, a spelling or a grammatical form.
MIN_WORDS = 4


def read_definitions(wheel: zipfile.ZipFile, members: str) -> Iterator[Row]:
    """Yield the words of a table ``entries`` with their definitions."""
    for name in sorted(wheel.namelist()):
        if not fnmatchcase(name, members):
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "dictionary.db")
            path.write_bytes(wheel.read(name))
            with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
                for word, definition in database.execute("SELECT word, definition FROM entries ORDER BY rowid"):
                    text = " ".join(str(definition or "").split())
                    if word and len(text.split()) >= MIN_WORDS:
                        yield {"a": str(word), "b": text[:MAX_LENGTH], "lang": "en"}
