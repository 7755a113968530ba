"""What --pairs takes: a local file or folder, a data set on the hub, or a declared mixture of those."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Protocol

from qwen25.runtime.display import working
from qwen25.runtime.errors import InputError
from qwen25.runtime.log import logger
from qwen25.training.hub_pairs import HubSet, read_hub
from qwen25.training.keep_out import keep_out, texts_to_keep_out
from qwen25.training.mixtures import MIXTURES, Entry, read_mixture
from qwen25.training.pairs import MAX_ROWS, MIN_PAIRS, Columns, PairSet, read_path

HUB = "hub:"
ANY = Columns()


class Source(Protocol):
    """One --pairs, understood but not yet read."""

    @property
    def path(self) -> Path | None:
        """The file or folder that it is, or nothing."""

    def read(self, rows: int, seed: int, offline: bool) -> list[PairSet]:
        """Read its pairs; of each set, at most so many rows.

        :raises InputError: if it cannot be read.
        :raises PipelineError: if the hub or the package index cannot be reached.
        """

    def most_pairs(self) -> int:
        """Return the most pairs that it can give; a file is read for it, nothing is downloaded.

        :raises InputError: if a file cannot be read.
        """


@dataclass(frozen=True)
class Files:
    """A file of pairs, or a folder of them."""

    path: Path
    columns: Columns = ANY

    def read(self, rows: int, seed: int, offline: bool) -> list[PairSet]:
        """Read its pairs, as :class:`Source` says."""
        return read_path(self.path, self.columns, rows, seed)

    def most_pairs(self) -> int:
        """Return how many it has."""
        return sum(len(pairs.pairs) for pairs in read_path(self.path, self.columns))


@dataclass(frozen=True)
class OnHub:
    """A data set of the hub."""

    hub: HubSet
    path = None

    def read(self, rows: int, seed: int, offline: bool) -> list[PairSet]:
        """Read its pairs, as :class:`Source` says."""
        return read_hub(self.hub, rows, seed, offline)

    def most_pairs(self) -> int:
        """Return the row limit."""
        return MAX_ROWS


@dataclass(frozen=True)
class Mixture:
    """A declared mixture, whose entries say their own number of rows."""

    entries: tuple[Entry, ...]
    path = None

    def read(self, rows: int, seed: int, offline: bool) -> list[PairSet]:
        """Read its pairs, as :class:`Source` says."""
        return [pairs for entry in self.entries for pairs in entry.read(seed, offline)]

    def most_pairs(self) -> int:
        """Return what its entries declare."""
        return sum(entry.most_rows for entry in self.entries)


def parse_source(text: str) -> Source:
    """Understand one value of --pairs, without reading anything but a mixture's declaration.

    ``FILE[:LEFT,RIGHT]``, ``FOLDER``, ``hub:OWNER/NAME[@REVISION][:SUBSET][:LEFT,RIGHT]``, the name of a mixture
    of :data:`qwen25.training.mixtures.MIXTURES`, or a ``.json`` file that declares one.

    :raises InputError: if it is none of these.
    """
    if text.startswith(HUB):
        return OnHub(_parse_hub(text.removeprefix(HUB)))
    if text in MIXTURES:
        return Mixture(read_mixture(MIXTURES[text]))
    if not text:
        raise InputError("--pairs is empty; give a file, a folder, hub:OWNER/NAME or a mixture")
    path = Path(text).expanduser()
    if path.suffix == ".json" and path.is_file():
        return Mixture(read_mixture(path))
    before, colon, behind = text.rpartition(":")
    if colon and not path.exists() and "," in behind:
        return Files(Path(before).expanduser(), _columns(behind))
    if not path.exists():
        known = ", ".join(MIXTURES)
        raise InputError(f"--pairs {text}: no such file; give a file, a folder, hub:OWNER/NAME or a mixture ({known})")
    return Files(path)


def _parse_hub(text: str) -> HubSet:
    name, *more = text.split(":")
    repo, _, revision = name.partition("@")
    columns = Columns()
    if more and "," in more[-1]:
        columns = _columns(more.pop())
    if len(more) > 1 or not repo:
        raise InputError(f"--pairs hub:{text}: give hub:OWNER/NAME[@REVISION][:SUBSET][:LEFT,RIGHT]")
    return HubSet(repo, more[0] if more and more[0] else None, columns, revision=revision or None)


def _columns(text: str) -> Columns:
    names = [name.strip() for name in text.split(",")]
    if len(names) != 2 or not all(names):
        raise InputError(f"--pairs: {text!r} names no two columns: give LEFT,RIGHT")
    return Columns(*names)


def read_sources(
    sources: Iterable[Source],
    keep_out_folders: Iterable[Path] = (),
    *,
    rows: int = MAX_ROWS,
    seed: int = 0,
    offline: bool = False,
) -> list[PairSet]:
    """Read all sources' pairs, without those that occur in the folders' items.

    :param rows: of each set, at most so many; a mixture's entries say their own number.
    :raises InputError: if a source cannot be read, or all together hold fewer than ``MIN_PAIRS`` pairs.
    :raises PipelineError: if the hub cannot be reached.
    """
    sets: list[PairSet] = []
    with working("reading pairs"):
        held_out = texts_to_keep_out(keep_out_folders)
        for source in sources:
            sets += source.read(rows, seed, offline)
        keep_out(sets, held_out)
    for pairs in sets:
        dropped = ", ".join(f"{count:,} {reason}" for reason, count in pairs.dropped.items() if count)
        left_out = f" (left out: {dropped})" if dropped else ""
        logger.info("    %s: %s pairs%s", pairs.name, f"{len(pairs.pairs):,}", left_out)
    sets = [pairs for pairs in sets if pairs.pairs]
    _tell_apart(sets)
    total = sum(len(pairs.pairs) for pairs in sets)
    if total < MIN_PAIRS:
        raise InputError(f"--pairs: {total:,} pairs are too few to learn from; give at least {MIN_PAIRS:,}")
    return sets


def _tell_apart(sets: Iterable[PairSet]) -> None:
    """Number the sets whose name another one has, too: what is held out and what reports say go by it."""
    taken: set[str] = set()
    for pairs in sets:
        name = pairs.name
        number = next(n for n in count(1) if (name if n == 1 else f"{name} ({n})") not in taken)
        pairs.name = name if number == 1 else f"{name} ({number})"
        taken.add(pairs.name)
