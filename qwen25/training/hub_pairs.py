"""Pairs of a data set on the hub: its Parquet files alone, never its code."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from qwen25.runtime.errors import InputError, PipelineError
from qwen25.store.hub import check_id, failure_of, with_retries
from qwen25.store.pairs import Columns, PairSet, Row, collect, read_rows

#: Where the hub keeps a Parquet copy of data sets that are stored otherwise.
CONVERTED = "refs/convert/parquet"
#: What a branch, tag or commit looks like; it leads to no other folder of the cache.
REVISION = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)*")


class HubSet(NamedTuple):
    """A data set on the hub.

    :ivar repo: owner/name.
    :ivar subset: a configuration's name, which its files' folder has; None: the only one, or the default.
    :ivar split: which part is read.
    :ivar revision: a branch, tag or commit; None: the main branch.
    """

    repo: str
    subset: str | None = None
    columns: Columns = None
    split: str = "train"
    revision: str | None = None


def read_hub(wanted: HubSet, rows: int, seed: int, offline: bool = False) -> PairSet:
    """Download a data set's Parquet files, as many as ``rows`` take, and read their pairs.

    :param offline: use only what the hub's cache holds.
    :raises InputError: if there is no such data set, subset or column.
    :raises PipelineError: if the hub cannot be reached.
    """
    from huggingface_hub import constants

    check_id(wanted.repo)
    if wanted.revision and not REVISION.fullmatch(wanted.revision):
        raise InputError(f"--pairs: data set {wanted.repo}: {wanted.revision!r} is no branch, tag or commit")
    offline = offline or constants.HF_HUB_OFFLINE
    names: list[str] = []
    for revision in [wanted.revision] if wanted.revision else ["main", CONVERTED]:
        try:
            commit, listed = _list_files(wanted, revision, offline)
        except InputError:
            if revision != CONVERTED:
                raise
            break
        if files := choose_files(listed, wanted):
            facts = {"source": f"hub:{wanted.repo}", "subset": wanted.subset, "revision": commit}
            # The first rows are enough to take a sample of: a large set is never fetched as a whole.
            chosen = islice(_rows(wanted, revision, files, offline), min(4 * rows, sys.maxsize))
            name = "/".join(filter(None, (wanted.repo, wanted.subset)))
            return collect(chosen, wanted.columns, rows, seed, name, facts)
        names += listed
    if offline:
        raise PipelineError(f"data set {wanted.repo} is not in the hub's cache: run once without --offline")
    have = ", ".join(sorted({name.split("/")[0] for name in names if name.endswith(".parquet")})[:20]) or "none"
    what = f"subset {wanted.subset or 'default'!r}, split {wanted.split}"
    raise InputError(f"--pairs: data set {wanted.repo} has no Parquet files of {what}; it has {have}")


def _ask(wanted: HubSet, call: Callable[[], Any]) -> Any:
    """Call the hub's client; what it raises becomes one line."""
    try:
        return with_retries(call)
    except Exception as error:
        failure = failure_of(wanted.repo, wanted.revision, error)
        raise type(failure)(f"--pairs: data set {failure}") from error


def _list_files(wanted: HubSet, revision: str, offline: bool) -> tuple[str, list[str]]:
    """Return the commit of a revision and its files; offline, those that the hub's cache has."""
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    if offline:
        try:
            folder = Path(snapshot_download(wanted.repo, repo_type="dataset", revision=revision, local_files_only=True))
        except LocalEntryNotFoundError:
            return "", []
        return folder.name, [path.relative_to(folder).as_posix() for path in folder.rglob("*.parquet")]
    ask = partial(HfApi().dataset_info, wanted.repo, revision=revision, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    info = _ask(wanted, ask)
    return str(info.sha), [file.rfilename for file in info.siblings or []]


def choose_files(names: list[str], wanted: HubSet) -> list[str]:
    """Return the Parquet files of a subset and split, in order, by the ways in which data sets are laid out.

    ``subset/split-00000-of-00003.parquet``, ``data/split-...``, ``subset/split/0000.parquet``, ``split.parquet``.
    Without a subset the files at the top or in ``data`` and ``default`` are taken, or those of the only folder.
    """
    split = re.compile(rf"(?:^|/){re.escape(wanted.split)}(?:[-_./]|$)")
    files = sorted(name for name in names if name.endswith(".parquet") and split.search(name))
    if wanted.subset is not None:
        return [name for name in files if f"/{wanted.subset}/" in f"/{name}"]
    plain = [name for name in files if name.rpartition("/")[0].split("/")[0] in {"", "data", "default", wanted.split}]
    return plain if plain or len({name.split("/")[0] for name in files}) > 1 else files


def _rows(wanted: HubSet, revision: str, files: list[str], offline: bool) -> Iterator[Row]:
    """Yield the rows of one file after another, each downloaded when its turn comes."""
    from huggingface_hub import hf_hub_download

    # By the revision's name: the cache then knows which commit that was.
    fetch = partial(hf_hub_download, wanted.repo, repo_type="dataset", revision=revision, local_files_only=offline)
    for file in files:
        yield from read_rows(Path(_ask(wanted, partial(fetch, file))))
