"""Declared mixtures: which data sets of the hub or of wheels, of each how many pairs, under which licence, and why."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwen25.runtime.errors import InputError
from qwen25.runtime.files import read_json
from qwen25.store.data_wheels import DataWheel
from qwen25.training.hub_pairs import HubSet, read_hub
from qwen25.training.packaged_pairs import READERS, WheelSet, read_wheel
from qwen25.training.pairs import Columns, PairSet

#: name -> the file that declares it.
MIXTURES = {name: Path(__file__).with_name(f"{name}.json") for name in ("recommended", "packaged")}
#: What every entry may say, and beside it one of the hub, and one of a wheel.
FIELDS = frozenset(["rows", "languages", "licence", "enabled", "why"])
HUB_FIELDS = frozenset(["repo", "subset", "columns", "split", "revision"])
WHEEL_TEXTS = frozenset(["package", "version", "sha256", "reader", "members"])
WHEEL_FIELDS = WHEEL_TEXTS | {"bytes"}
#: What pip and the cache's file names are made of: nothing that leads elsewhere.
PATTERNS = {
    "package": re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?"),
    "version": re.compile(r"[0-9][A-Za-z0-9.!+_-]*"),
    "sha256": re.compile(r"[0-9a-f]{64}"),
}


@dataclass(frozen=True)
class Entry:
    """One data set of a mixture.

    :ivar origin: where it is.
    :ivar rows: how many pairs are taken of it; of a wheel, how many of each language.
    :ivar licence: as its page states it.
    :ivar why: what it is to teach.
    """

    origin: HubSet | WheelSet
    rows: int
    languages: tuple[str, ...]
    licence: str
    why: str

    @property
    def name(self) -> str:
        """Return what reports call it."""
        if isinstance(self.origin, WheelSet):
            return self.origin.name
        return self.origin.repo + (f"/{self.origin.subset}" if self.origin.subset else "")

    @property
    def most_rows(self) -> int:
        """Return the most pairs that it can give."""
        return self.rows * (len(self.languages) if isinstance(self.origin, WheelSet) else 1)

    def read(self, seed: int, offline: bool) -> list[PairSet]:
        """Download it and read its pairs.

        :raises InputError: if there is no such data set, subset, column or file.
        :raises PipelineError: if the hub or the package index cannot be reached, or the wheel is another one.
        """
        if isinstance(self.origin, WheelSet):
            sets = read_wheel(self.origin, self.rows, self.languages, seed, offline)
        else:
            sets = read_hub(self.origin, self.rows, seed, offline, self.name)
        language = "-".join(self.languages)
        for pairs in sets:
            pairs.facts |= {"licence": self.licence, "why": self.why}
            pairs.pairs = [pair if pair.language else pair._replace(language=language) for pair in pairs.pairs]
        return sets


def read_mixture(path: Path) -> tuple[Entry, ...]:
    """Read the enabled entries of a mixture's declaration.

    :raises InputError: if a field is missing, unknown or of the wrong kind.
    """
    content = read_json(path)
    entries = content.get("sets") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not entries:
        raise InputError(f'{path} declares no mixture: it needs a list "sets"')
    parsed = [_entry(entry, f"{path.name}, set {number}") for number, entry in enumerate(entries, 1)]
    enabled = tuple(entry for entry, on in parsed if on)
    if not enabled:
        raise InputError(f"{path}: none of its sets is enabled")
    return enabled


def wheel_bytes(mixture: Iterable[Entry]) -> int:
    """Return how much a mixture's wheels take to download, each counted once."""
    return sum(wheel.bytes for wheel in {one.origin.wheel for one in mixture if isinstance(one.origin, WheelSet)})


def _entry(value: Any, where: str) -> tuple[Entry, bool]:
    if not isinstance(value, dict):
        raise InputError(f"{where}: not an object")
    known = FIELDS | (WHEEL_FIELDS if "package" in value else HUB_FIELDS)
    if unknown := sorted(set(value) - known):
        raise InputError(f"{where}: unknown field {unknown[0]!r}; known are {', '.join(sorted(known))}")
    rows, languages = _count(value, "rows", where), value.get("languages")
    if not isinstance(languages, list) or not all(isinstance(language, str) for language in languages):
        raise InputError(f"{where}: 'languages' must be a list of texts")
    enabled = value.get("enabled", True)
    if not isinstance(enabled, bool):
        raise InputError(f"{where}: 'enabled' must be true or false")
    _require_texts(value, ("licence", "why"), where)
    origin = _wheel(value, where) if "package" in value else _hub(value, where)
    return Entry(origin, rows, tuple(languages), value["licence"], value["why"]), enabled


def _hub(value: dict[str, Any], where: str) -> HubSet:
    columns = value.get("columns")
    two_names = isinstance(columns, list) and len(columns) == 2 and all(isinstance(n, str) and n for n in columns)
    if columns is not None and not two_names:
        raise InputError(f"{where}: 'columns' must be a list of two names")
    _require_texts(value, ("repo",), where)
    for name in ("subset", "split", "revision"):
        if value.get(name) is not None and not isinstance(value[name], str):
            raise InputError(f"{where}: {name!r} must be a text")
    split = value.get("split") or "train"
    return HubSet(value["repo"], value.get("subset"), Columns(*(columns or ())), split, value.get("revision"))


def _wheel(value: dict[str, Any], where: str) -> WheelSet:
    _require_texts(value, sorted(WHEEL_TEXTS), where)
    size = _count(value, "bytes", where)
    for name, form in PATTERNS.items():
        if not form.fullmatch(value[name]):
            raise InputError(f"{where}: {name!r} is none: {value[name][:60]!r}")
    if value["reader"] not in READERS:
        raise InputError(f"{where}: unknown 'reader' {value['reader'][:60]!r}; known are {', '.join(READERS)}")
    wheel = DataWheel(value["package"], value["version"], value["sha256"], size)
    return WheelSet(wheel, value["reader"], value["members"])


def _count(value: dict[str, Any], name: str, where: str) -> int:
    found = value.get(name)
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise InputError(f"{where}: {name!r} must be a number of at least 1")
    return found


def _require_texts(value: dict[str, Any], names: Iterable[str], where: str) -> None:
    for name in names:
        if not isinstance(value.get(name), str) or not value[name]:
            raise InputError(f"{where}: {name!r} is missing or no text")
