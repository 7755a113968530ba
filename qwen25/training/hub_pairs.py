"""Pairs of a data set on the hub: as many row groups of its Parquet files as they take, never its code."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple, TypeVar

from qwen25.runtime.errors import InputError, PipelineError
from qwen25.runtime.files import write_files
from qwen25.store.hub import ask, check_id
from qwen25.store.packaged import cache_folder
from qwen25.store.pairs import LABELS, PARQUET_ROWS, Columns, Pair, PairSet, Row, collect, find_columns

T = TypeVar("T")
#: Where the hub keeps a Parquet copy of data sets that are stored otherwise.
CONVERTED = "refs/convert/parquet"
#: Rows are drawn from about this many files of a set, and in about this many places of a file: each costs a request.
SPREAD, PLACES = 8, 64


class HubSet(NamedTuple):
    """A data set on the hub.

    :ivar repo: owner/name.
    :ivar subset: a configuration's name, which its files' folder has; None: the only one, or the default.
    :ivar split: which part is read.
    :ivar revision: a branch, tag or commit; None: the main branch.
    :ivar language: the column that says a row's language; None: the usual names are looked for; empty: none.
    :ivar where: columns and the values that they must have, such as ``(("label", 1),)``.
    """

    repo: str
    subset: str | None = None
    columns: Columns = None
    split: str = "train"
    revision: str | None = None
    language: str | None = None
    where: tuple[tuple[str, Any], ...] = ()


def read_hub(wanted: HubSet, rows: int, seed: int, offline: bool = False) -> PairSet:
    """Draw ``rows`` pairs of a data set, or take those that an earlier run with the same ``seed`` has drawn.

    :param offline: use only what earlier runs have drawn.
    :raises InputError: if there is no such data set, subset or column.
    :raises PipelineError: if the hub cannot be reached.
    """
    from huggingface_hub import constants

    check_id(wanted.repo)
    digest = hashlib.sha256(repr((*wanted, rows, seed)).encode()).hexdigest()[:16]
    cache = cache_folder() / "pairs" / f"{wanted.repo.replace('/', '--')}-{digest}"
    if offline or constants.HF_HUB_OFFLINE:
        drawn = sorted(cache.glob("*.json.gz"), key=lambda path: path.stat().st_mtime)
        if not drawn:
            raise PipelineError(f"data set {wanted.repo} is not in {cache.parent}: run once without --offline")
        path = drawn[-1]
    else:
        commit, files = _find_files(wanted)
        path = cache / f"{commit}.json.gz"
        if not path.is_file():
            write_files({path: _drawn(wanted, commit, files, rows, seed)})
    name, pairs, facts, dropped = json.loads(gzip.decompress(path.read_bytes()))
    return PairSet(name, [Pair(*pair) for pair in pairs], facts, dropped)


def _drawn(wanted: HubSet, commit: str, files: list[str], rows: int, seed: int) -> bytes:
    """Draw the pairs, and return them as the cache keeps them."""
    facts = {"source": f"hub:{wanted.repo}", "subset": wanted.subset, "revision": commit}
    name = "/".join(filter(None, (wanted.repo, wanted.subset)))
    draw = random.Random(f"{seed}/{name}")  # noqa: S311, no secret is made
    pairs = collect(_rows(wanted, commit, files, rows, draw), ("left", "right"), rows, seed, name, facts)
    content = json.dumps([pairs.name, pairs.pairs, pairs.facts, pairs.dropped])
    return gzip.compress(content.encode(), compresslevel=1, mtime=0)


def _ask(wanted: HubSet, call: Callable[[], T]) -> T:
    return ask(f"--pairs: data set {wanted.repo}", wanted.revision, call)


def _find_files(wanted: HubSet) -> tuple[str, list[str]]:
    """Return a commit and its Parquet files of the wanted subset and split."""
    from huggingface_hub import HfApi, constants

    names: list[str] = []
    for revision in [wanted.revision] if wanted.revision else ["main", CONVERTED]:
        ask = partial(HfApi().dataset_info, wanted.repo, revision=revision, timeout=constants.HF_HUB_ETAG_TIMEOUT)
        try:
            info = _ask(wanted, ask)
        except InputError:
            if revision != CONVERTED:
                raise
            break
        listed = [file.rfilename for file in info.siblings or []]
        if files := choose_files(listed, wanted):
            return re.sub(r"\W", "", str(info.sha)), files  # it names a file
        names += listed
    have = ", ".join(sorted({name.split("/")[0] for name in names if name.endswith(".parquet")})[:20]) or "none"
    what = f"subset {wanted.subset or 'default'!r}, split {wanted.split}"
    raise InputError(f"--pairs: data set {wanted.repo} has no Parquet files of {what}; it has {have}")


def choose_files(names: list[str], wanted: HubSet) -> list[str]:
    """Return the Parquet files of a subset and split, in order, by the ways in which data sets are laid out.

    ``subset/split-00000-of-00003.parquet``, ``data/split-...``, ``subset/split/0000.parquet``, ``split.parquet``,
    ``name_split.parquet``, and ``subset/partial-split/0000.parquet``, which is what the hub converts of a large set.
    Without a subset the files at the top or in ``data`` and ``default`` are taken, or those of the only folder.
    """
    split = re.compile(rf"(?:^|[/_]|/partial-){re.escape(wanted.split)}(?:[-_./]|$)")
    files = sorted(name for name in names if name.endswith(".parquet") and split.search(name))
    if wanted.subset is not None:
        return [name for name in files if f"/{wanted.subset}/" in f"/{name}"]
    plain = [name for name in files if name.rpartition("/")[0].split("/")[0] in {"", "data", "default", wanted.split}]
    return plain if plain or len({name.split("/")[0] for name in files}) > 1 else files


def _rows(wanted: HubSet, commit: str, files: list[str], rows: int, draw: random.Random) -> Iterator[Row]:
    """Yield the rows of row groups that are drawn at random, spread over the files, until there are enough.

    Of each row only ``left``, ``right`` and ``lang``; a group is yielded to its end, as it was fetched whole.
    """
    from huggingface_hub import HfFileSystem, constants
    from pyarrow import parquet

    system, source = HfFileSystem(endpoint=constants.ENDPOINT, skip_instance_cache=True), f"hub:{wanted.repo}"

    def opened(name: str) -> Any:  # without the client's own cache, which would fetch megabytes ahead
        path = f"datasets/{wanted.repo}@{commit}/{name}"
        return parquet.ParquetFile(system.open(path, "rb", cache_type="none"), pre_buffer=True)

    lacking = rows
    for number, file_name in enumerate(draw.sample(files, len(files))):
        share = -(-lacking // max(1, min(SPREAD, len(files)) - number))  # of this file; later ones make up for it
        file = _ask(wanted, partial(opened, file_name))
        names, groups = file.schema_arrow.names, file.num_row_groups
        sides = find_columns(names, wanted.columns, source)
        label = next((name for name in LABELS if name in names), "") if wanted.language is None else wanted.language
        columns = list(dict.fromkeys(filter(None, (*sides, label, *dict(wanted.where)))))
        for column in columns:
            find_columns(names, (column, column), source)
        step = max(1, share * groups // (PLACES * max(1, file.metadata.num_rows)))
        for start in draw.sample(range(0, groups, step), len(range(0, groups, step))):
            if share <= 0:
                break
            chosen = range(start, min(start + step, groups))
            table = _ask(wanted, partial(file.read_row_groups, chosen, columns))
            for batch in table.to_batches(max_chunksize=PARQUET_ROWS):
                for row in batch.to_pylist():
                    if all(row[column] == value for column, value in wanted.where):
                        share, lacking = share - 1, lacking - 1
                        yield {"left": row[sides[0]], "right": row[sides[1]], "lang": row.get(label)}
        if lacking <= 0:
            return
