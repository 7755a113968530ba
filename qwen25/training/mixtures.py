"""Declared mixtures: which data sets of the hub, of each how many pairs, under which licence, and why."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwen25.runtime.errors import InputError
from qwen25.runtime.files import read_json
from qwen25.training.hub_pairs import HubSet, read_hub
from qwen25.training.pairs import Columns, PairSet

#: name -> the file that declares it.
MIXTURES = {"recommended": Path(__file__).with_name("recommended.json")}
#: What an entry may say.
FIELDS = frozenset(["repo", "subset", "columns", "split", "revision", "rows", "languages", "licence", "enabled", "why"])


@dataclass(frozen=True)
class Entry:
    """One data set of a mixture.

    :ivar rows: how many pairs are taken of it.
    :ivar language: of its texts, where it is one.
    :ivar licence: as its page states it.
    :ivar why: what it is to teach.
    """

    hub: HubSet
    rows: int
    languages: tuple[str, ...]
    licence: str
    why: str

    @property
    def name(self) -> str:
        """Return what reports call it."""
        return self.hub.repo + (f"/{self.hub.subset}" if self.hub.subset else "")

    def read(self, seed: int, offline: bool) -> list[PairSet]:
        """Download it and read its pairs.

        :raises InputError: if there is no such data set, subset or column.
        :raises PipelineError: if the hub cannot be reached.
        """
        sets = read_hub(self.hub, self.rows, seed, offline, self.name)
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


def _entry(value: Any, where: str) -> tuple[Entry, bool]:
    if not isinstance(value, dict):
        raise InputError(f"{where}: not an object")
    if unknown := sorted(set(value) - FIELDS):
        raise InputError(f"{where}: unknown field {unknown[0]!r}; known are {', '.join(sorted(FIELDS))}")
    rows, languages = value.get("rows"), value.get("languages")
    columns = value.get("columns", [None, None])
    if not isinstance(rows, int) or isinstance(rows, bool) or rows < 1:
        raise InputError(f"{where}: 'rows' must be a number of at least 1")
    if not isinstance(languages, list) or not all(isinstance(language, str) for language in languages):
        raise InputError(f"{where}: 'languages' must be a list of texts")
    if not isinstance(columns, list) or len(columns) != 2:
        raise InputError(f"{where}: 'columns' must be a list of two names")
    for name in ("repo", "licence", "why"):
        if not isinstance(value.get(name), str) or not value[name]:
            raise InputError(f"{where}: {name!r} is missing or no text")
    for name in ("subset", "split", "revision"):
        if value.get(name) is not None and not isinstance(value[name], str):
            raise InputError(f"{where}: {name!r} must be a text")
    split = value.get("split") or "train"
    hub = HubSet(value["repo"], value.get("subset"), Columns(*columns), split, value.get("revision"))
    entry = Entry(hub, rows, tuple(languages), value["licence"], value["why"])
    return entry, bool(value.get("enabled", True))
