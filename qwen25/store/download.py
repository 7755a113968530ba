"""A model repository downloaded once, and read from the hub's cache ever after.

Only safetensors weights are fetched: a pickle can run code when it is opened.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from qwen25.runtime.errors import InputError, PipelineError, first_line
from qwen25.runtime.log import logger
from qwen25.store.hub import (
    cause_of,
    fault_of_id,
    is_network_error,
    status_of,
    warnings_in_our_log,
    with_retries,
    without_keys,
)
from qwen25.store.model_files import no_weights

FILES = [
    "config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "tokenizer*",
    "vocab*",
    "merges.txt",
    "modules.json",
    "[0-9]*/config.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "special_tokens_map.json",
]
#: Never fetched: other formats of the same weights (but the numbered folders are the steps behind a
#: sentence-transformers model: pooling, dense layers), Mistral's second copy, and what could run as code
#: though it is named like a tokenizer.
IGNORED = ["[!0-9]*/*", "consolidated*", "*.py", "*.pkl", "*.pickle", "*.bin", "*.pt", "*.pth"]


def snapshot(repo: str, revision: str | None = None, offline: bool = False, subfolder: str | None = None) -> Path:
    """Return the folder of a model repository's files, downloading what the cache lacks.

    :param revision: a branch, tag or commit (None: the main branch).
    :param offline: use only what the cache holds.
    :param subfolder: fetched too, if the repository has it.
    :return: a folder in the cache, named after the commit.
    :raises InputError: if there is no such repository, or no model in it that may be read.
    :raises PipelineError: if the hub cannot be reached, or offline if the cache lacks it.
    """
    from huggingface_hub import constants

    if fault := fault_of_id(repo):
        raise InputError(f"there is no folder {repo}, and it cannot be a hub id: {fault}")
    if not (offline or constants.HF_HUB_OFFLINE):
        return _downloaded(repo, revision, subfolder)
    if (cached := _cached(repo, revision)) is not None:
        return cached
    wanted = repo if revision is None else f"{repo} at {revision}"
    raise PipelineError(
        f"{wanted} is not in the hub's cache, or only a part of it: "
        "run once without --offline and HF_HUB_OFFLINE, or give a local folder instead"
    )


def _downloaded(repo: str, revision: str | None, subfolder: str | None) -> Path:
    """Download what is missing in the cache; if the hub cannot be reached at all, make do with the cache."""
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

    if not sys.stderr.isatty():
        disable_progress_bars()
    with warnings_in_our_log():
        try:
            files = with_retries(lambda: _listed(repo, revision))
        except Exception as error:
            failure = failure_of(repo, revision, error)
            cached = None if isinstance(failure, InputError) else _cached(repo, revision)
            if cached is None:
                raise failure from error
            logger.warning("%s; going on with the cache's commit %s", failure, cached.name)
            return cached
        # Said before gigabytes are downloaded, and pickles never are.
        if "config.json" not in files:
            raise InputError(f"{repo} is no model that transformers can load: it has no config.json")
        if not any("/" not in file and file.endswith(".safetensors") for file in files):
            raise no_weights(repo, files)
        try:
            if subfolder and any(file.startswith(f"{subfolder}/") for file in files):
                patterns = [f"{subfolder}/*.safetensors", f"{subfolder}/*.json"]
                with_retries(lambda: _fetch(repo, revision, patterns, ignored=[]))
            return with_retries(lambda: _fetch(repo, revision))
        except Exception as error:
            raise failure_of(repo, revision, error) from error


def _cached(repo: str, revision: str | None) -> Path | None:
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = _fetch(repo, revision, local_files_only=True)
    except LocalEntryNotFoundError:
        return None
    # Another program may have fetched just the tokenizer.
    whole = (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))
    return folder if whole else None


def _fetch(
    repo: str,
    revision: str | None,
    patterns: list[str] = FILES,
    ignored: list[str] = IGNORED,
    local_files_only: bool = False,
) -> Path:
    from huggingface_hub import snapshot_download

    return Path(
        snapshot_download(
            repo,
            revision=revision,
            allow_patterns=patterns,
            ignore_patterns=ignored,
            local_files_only=local_files_only,
        )
    )


def _listed(repo: str, revision: str | None) -> list[str]:
    """Return the names of the repository's files; ``snapshot_download`` asks the same but waits for ever."""
    from huggingface_hub import HfApi, constants

    info = HfApi().model_info(repo, revision=revision, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    return [file.rfilename for file in info.siblings or []]


def failure_of(repo: str, revision: str | None, error: Exception) -> PipelineError:
    """Return what to tell the user of an error of the hub client."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    error = cause_of(error)
    status = status_of(error)
    if isinstance(error, GatedRepoError):
        return InputError(f"{repo} is gated: accept its terms on its page, then set HF_TOKEN")
    if isinstance(error, RepositoryNotFoundError):
        what = f"there is no folder {repo}, and the hub has no such model or keeps it private"
        return InputError(f"{what}: check the name, or set HF_TOKEN")
    if isinstance(error, RevisionNotFoundError):
        return InputError(f"{repo} has no revision {revision}: give a branch, tag or commit of it")
    if status in (401, 403):
        return InputError(f"the hub refuses access to {repo} (status {status}): check the token in HF_TOKEN")
    if status is not None:
        how = "wait and run again, or give a local folder instead"
        return PipelineError(f"the hub answered {status} for {repo}: {how}")
    if isinstance(error, json.JSONDecodeError):
        return PipelineError(f"what answered for {repo} is not the hub: check HF_ENDPOINT, the proxy and the network")
    if is_network_error(error):
        how = "check the connection and run again, or give a local folder instead"
        return PipelineError(f"{repo} could not be downloaded ({without_keys(first_line(error))}): {how}")
    if isinstance(error, OSError):
        how = "free some space, or set HF_HOME to another folder"
        return PipelineError(f"cannot write {repo} to the hub's cache ({error.strerror}): {how}")
    what = f"{type(error).__name__}: {without_keys(first_line(error))}"
    return PipelineError(f"{repo} could not be downloaded ({what}): run again with --debug for the traceback")
