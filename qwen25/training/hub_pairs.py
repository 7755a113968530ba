"""Pairs of a data set on the hub: its Parquet files alone, never its code."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from qwen25.runtime.errors import InputError, PipelineError
from qwen25.store.download import failure_of
from qwen25.store.hub import check_id, warnings_in_our_log, with_retries
from qwen25.training.pairs import Columns, PairSet, collect, parquet_records

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
    columns: Columns = Columns()
    split: str = "train"
    revision: str | None = None


def read_hub(wanted: HubSet, rows: int, seed: int, offline: bool = False, name: str | None = None) -> list[PairSet]:
    """Download a data set's Parquet files, as many as ``rows`` take, and read their pairs.

    :param offline: use only what the hub's cache holds.
    :param name: what reports call it; None: its hub id and subset.
    :raises InputError: if there is no such data set, subset or column.
    :raises PipelineError: if the hub cannot be reached.
    """
    check_id(wanted.repo)
    if wanted.revision and not REVISION.fullmatch(wanted.revision):
        raise InputError(f"--pairs: data set {wanted.repo}: {wanted.revision!r} is no branch, tag or commit")
    where = wanted.repo + (f" ({wanted.subset})" if wanted.subset else "")
    found = _list_files(wanted, offline)
    facts = {"source": f"hub:{wanted.repo}", "subset": wanted.subset, "revision": found.commit}
    # The first rows are enough to take a sample of: a large set is never fetched as a whole.
    chosen = islice(_rows(wanted, found, offline), min(4 * rows, sys.maxsize))
    return collect(chosen, wanted.columns, rows, seed, name or where, where, facts)


class _Found(NamedTuple):
    """Where the Parquet files of a subset and split are."""

    revision: str
    commit: str
    files: list[str]


def _list_files(wanted: HubSet, offline: bool) -> _Found:
    """Return the Parquet files of the subset and split: the data set's own, or the hub's copy."""
    from huggingface_hub import HfApi, constants

    if offline or constants.HF_HUB_OFFLINE:
        return _cached_files(wanted)
    revisions = [wanted.revision or "main"] + ([] if wanted.revision else [CONVERTED])
    found: list[str] = []
    for revision in revisions:
        with warnings_in_our_log():
            try:
                info = with_retries(
                    lambda r=revision: HfApi().dataset_info(  # type: ignore[misc]
                        wanted.repo, revision=r, timeout=constants.HF_HUB_ETAG_TIMEOUT
                    )
                )
            except Exception as error:
                if revision == CONVERTED:
                    break
                raise _failure(wanted, error) from error
        names = [file.rfilename for file in info.siblings or []]
        found += names
        if files := choose_files(names, wanted):
            return _Found(revision, str(info.sha), files)
    raise _nothing(wanted, found)


def _cached_files(wanted: HubSet) -> _Found:
    """Return the same of what the hub's cache holds."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE) / f"datasets--{wanted.repo.replace('/', '--')}"
    for revision in (wanted.revision or "main", CONVERTED):
        reference = folder / "refs" / revision
        commit = reference.read_text().strip() if reference.is_file() else revision
        snapshot = folder / "snapshots" / commit
        names = [path.relative_to(snapshot).as_posix() for path in sorted(snapshot.rglob("*.parquet"))]
        if files := choose_files(names, wanted):
            return _Found(revision, commit, files)
    raise PipelineError(
        f"data set {wanted.repo} is not in the hub's cache: run once without --offline and HF_HUB_OFFLINE, "
        "or give a local file instead"
    )


def choose_files(names: list[str], wanted: HubSet) -> list[str]:
    """Return the Parquet files of a subset and split, in order, by the ways in which data sets are laid out.

    ``subset/split-00000-of-00003.parquet``, ``data/split-...``, ``subset/split/0000.parquet``, ``split.parquet``.
    Without a subset the files at the top or in ``data`` and ``default`` are taken, or those of the only folder.
    """
    files = sorted(name for name in names if name.endswith(".parquet"))
    split = re.compile(rf"(?:^|/){re.escape(wanted.split)}(?:[-_./]|$)")
    files = [name for name in files if split.search(name)]
    if wanted.subset is not None:
        return [name for name in files if f"/{name}".find(f"/{wanted.subset}/") >= 0]
    plain = [name for name in files if name.rpartition("/")[0].split("/")[0] in {"", "data", "default", wanted.split}]
    if plain or len({name.split("/")[0] for name in files}) > 1:
        return plain
    return files


def _rows(wanted: HubSet, found: _Found, offline: bool) -> Iterator[dict[str, Any]]:
    """Yield the rows of one file after another, each downloaded when its turn comes."""
    from huggingface_hub import hf_hub_download

    for file in found.files:
        with warnings_in_our_log():
            try:
                path = with_retries(
                    lambda f=file: hf_hub_download(  # type: ignore[misc]
                        # By the revision's name: the cache then knows which commit that was.
                        wanted.repo,
                        f,
                        repo_type="dataset",
                        revision=found.revision,
                        local_files_only=offline,
                    )
                )
            except Exception as error:
                raise _failure(wanted, error) from error
        yield from parquet_records(Path(path))


def _failure(wanted: HubSet, error: Exception) -> PipelineError:
    failure = failure_of(wanted.repo, wanted.revision, error)
    without_hub = "; --pairs packaged needs no hub" if not isinstance(failure, InputError) else ""
    return type(failure)(f"--pairs: data set {failure}{without_hub}")


def _nothing(wanted: HubSet, names: list[str]) -> InputError:
    """Return the refusal of a data set without the files wanted, with the subsets that it has."""
    folders = sorted({name.split("/")[0] for name in names if name.endswith(".parquet") and "/" in name} - {"data"})
    what = f"subset {wanted.subset!r}" if wanted.subset else "one set"
    have = f"; its folders: {', '.join(folders[:20])}" if folders else "; it has no Parquet files"
    return InputError(f"--pairs: data set {wanted.repo} has no Parquet files of {what}, split {wanted.split}{have}")
