"""Pairs inside wheels: every reader on tiny wheels."""

from __future__ import annotations

import json
import sqlite3
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest

from qwen25.runtime.errors import InputError
from qwen25.runtime.files import sha256
from qwen25.store.pairs import Pair
from qwen25.training.sources import parse_source, read_pairs

CATALOGUE = {
    "": "Content-Type: text/plain; charset=UTF-8\n",
    "The page was <b>not</b> found.": "Die Seite wurde <b>nicht</b> gefunden.",
    "menu\x04Close all open windows": "Alle Fenster schließen",
    "One file was moved\0%d files were moved": "Eine Datei wurde verschoben\0%d Dateien wurden verschoben",
    "Hello to you, %(name)s": "Hallo, %(name)s",
    "Home": "Start",
}
MODULE = '''
def total(prices):
    """Return the sum of all prices.

    Nothing is rounded.
    """
    return sum(prices)

class Basket:
    def empty(self):
        """Too short."""
        return not self.items
'''
EXAMPLES = """**Example 1: To make a new bucket**

The following ``make`` example makes a bucket that is named red. ::

    cloud make \\
        --name red

Output::

    {}

**To delete it again**

Command::

  cloud delete --name red
"""


def compiled(messages: dict[str, str]) -> bytes:
    """Return a compiled catalogue, as msgfmt writes it."""
    texts = [text.encode() for pair in (messages.keys(), messages.values()) for text in pair]
    start = 28 + 8 * len(texts)
    table, content = b"", b""
    for text in texts:
        table += struct.pack("<2I", len(text), start + len(content))
        content += text + b"\0"
    return struct.pack("<7I", 0x950412DE, 0, len(messages), 28, 28 + 4 * len(texts), 0, 0) + table + content


def dictionary(folder: Path, rows: list[tuple[str, str]]) -> bytes:
    path = folder / "dictionary.db"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE entries (word TEXT, wordtype TEXT, definition TEXT)")
        database.executemany("INSERT INTO entries (word, definition) VALUES (?, ?)", rows)
    database.close()
    return path.read_bytes()


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where the cache has version 1.0 of the package ``texts``."""
    monkeypatch.setenv("QWEN25_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "cache" / "wheels" / "texts-1.0.whl"
    path.parent.mkdir(parents=True)
    return path


def mixture(wheel: Path, members: dict[str, Any], reader: str, pattern: str, rows: int = 2000) -> Path:
    """Write a wheel with these members, and a mixture of it alone."""
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    entry: dict[str, Any] = {"package": "texts", "version": "1.0", "sha256": sha256([wheel]), "bytes": 1}
    entry |= {"reader": reader, "members": pattern, "rows": rows, "licence": "MIT", "why": "test"}
    entry["languages"] = ["de", "fr", "python", "command", "en"]
    path = wheel.with_name("mixture.json")
    path.write_text(json.dumps({"sets": [entry]}))
    return path


def read(wheel: Path, members: dict[str, Any], reader: str, pattern: str) -> list[Pair]:
    (found,) = parse_source(str(mixture(wheel, members, reader, pattern))).read(0, True)
    return found.pairs


def test_gettext_catalogues_give_sentences_without_markup_and_patterns(wheel: Path) -> None:
    members = {"texts/locale/de_AT/LC_MESSAGES/a.mo": compiled(CATALOGUE), "texts/locale/de/a.mo": b"other"}
    assert read(wheel, members, "gettext", "texts/locale/{lang}/LC_MESSAGES/*.mo") == [
        Pair("The page was not found.", "Die Seite wurde nicht gefunden.", "en-de"),
        Pair("Close all open windows", "Alle Fenster schließen", "en-de"),
        Pair("One file was moved", "Eine Datei wurde verschoben", "en-de"),
    ]


def test_json_files_are_matched_by_place(wheel: Path) -> None:
    texts = {
        "en": {"a": {"title": "Try it [again](there)", "b": "The lamp is on"}, "c": "Enter {code} here now"},
        "fr": {"a": {"b": "La lampe est allumée", "title": "Essayez encore"}, "c": "Tapez {code} ici", "d": "Rien"},
        "xx": {"a": {"b": "ist nicht gefragt"}},
    }
    members = {f"texts/lamp/{lang}.json": json.dumps(content) for lang, content in texts.items()}
    assert sorted(read(wheel, members, "json", "texts/*/{lang}.json")) == [
        Pair("The lamp is on", "La lampe est allumée", "en-fr"),
        Pair("Try it again", "Essayez encore", "en-fr"),
    ]


def test_functions_are_parsed_and_never_run(wheel: Path) -> None:
    others = {"texts/newer.py": "def f(:", "texts/tests/t.py": MODULE, "texts/run.py": "raise SystemExit('run!')"}
    assert read(wheel, {"texts/shop.py": MODULE, **others}, "code", "texts/*.py") == [
        Pair("Return the sum of all prices.", "def total(prices):\n    return sum(prices)", "en-python"),
    ]


def test_examples_give_commands_and_explanations(wheel: Path) -> None:
    assert sorted(read(wheel, {"texts/examples/make.rst": EXAMPLES}, "commands", "texts/examples/*.rst")) == [
        Pair("To delete it again", "cloud delete --name red", "en-command"),
        Pair("To make a new bucket", "The following make example makes a bucket that is named red.", "en"),
        Pair("To make a new bucket", "cloud make --name red", "en-command"),
    ]


def test_a_dictionary_gives_words_and_what_they_mean(wheel: Path, tmp_path: Path) -> None:
    rows = [("lamp", "A thing\n   that gives light."), ("lamps", "Plural of lamp"), ("", "A word without a word")]
    members = {"texts/data/d.db": dictionary(tmp_path, rows)}
    assert read(wheel, members, "definitions", "texts/*.db") == [Pair("lamp", "A thing that gives light.", "en")]


def test_of_each_language_a_sample_is_taken_and_metadata_says_from_where(wheel: Path) -> None:
    french = {f"The lamp number {i} is on": f"La lampe {i} brille" for i in range(1500)}
    german = dict.fromkeys(list(french)[:700], "Die Lampe brennt")
    members = {"texts/locale/fr/a.mo": compiled(french), "texts/locale/de/a.mo": compiled(german)}
    path = mixture(wheel, members, "gettext", "texts/locale/{lang}/*.mo", rows=800)
    ((found,), _), ((again,), _) = (read_pairs([str(path)], offline=True) for _ in range(2))
    assert [pair.language for pair in found.pairs] == ["en-de"] * 700 + ["en-fr"] * 800
    summary = found.summary()
    assert summary["source"] == "texts==1.0" and summary["licence"] == "MIT" and summary["rows"] == 1500
    assert found.pairs == again.pairs


@pytest.mark.parametrize(
    ("reader", "pattern"), [("gettext", "a/{lang}.x"), ("json", "a/{lang}.x"), ("definitions", "a/*.x")]
)
def test_files_of_another_kind_end_in_one_line(wheel: Path, reader: str, pattern: str) -> None:
    with pytest.raises(InputError, match=f"is not what its reader '{reader}' reads"):
        read(wheel, {"a/de.x": b"neither", "a/en.x": b"nor"}, reader, pattern)
