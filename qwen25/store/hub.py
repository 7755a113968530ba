"""Model repositories of the hub: downloaded once, never a pickle or code; failures as one line without secrets."""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from qwen25.runtime.errors import InputError, PipelineError, first_line, logger
from qwen25.store.static_model import no_weights

T = TypeVar("T")
ATTEMPTS, WAIT_SECONDS = 3, 1.0  # before the second attempt; twice as long before each further one

#: The files that are fetched: nothing that could be code or a pickle.
FILES = ["*.json", "*.safetensors", "tokenizer.model", "vocab.txt", "merges.txt"]
#: Other formats of the same weights (but the numbered folders are the steps behind a sentence-transformers model:
#: pooling, dense layers), and Mistral's second copy.
IGNORED = ["[!0-9]*/*", "consolidated*"]


def looks_like_an_id(spec: str) -> bool:
    """Whether ``spec`` has the form of a repository's name, owner/name; ``models/...`` is always a local folder."""
    return re.fullmatch(r"[\w.-]+/[\w.-]+", spec) is not None and not spec.startswith((".", "/", "models/"))


def parent_exists(path: Path) -> bool:
    """Whether the parent folder exists, so that a missing child is a typo and not a hub id."""
    return len(path.parts) > 1 and path.parent.is_dir()


def check_id(repo: str) -> None:
    """Check the name of a repository, owner/name, before it is used; raises InputError if none can have it."""
    if not looks_like_an_id(repo):
        raise InputError(f"{repo} does not say whose it is: give owner/name")


def snapshot(repo: str, revision: str | None = None, offline: bool = False, subfolder: str = "") -> Path:
    """Return the cache's folder of a model repository's files, named after the commit, downloading what it lacks.

    :param revision: a branch, tag or commit (None: the main branch).
    :param subfolder: fetched too, if the repository has it.
    :raises InputError: if there is no such repository, or no model in it that may be read.
    :raises PipelineError: if the hub cannot be reached, or offline if the cache lacks it.
    """
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

    def fetch(**how: Any) -> Path:
        how = {"allow_patterns": FILES, "ignore_patterns": IGNORED} | how
        return Path(snapshot_download(repo, revision=revision, **how))

    if offline or constants.HF_HUB_OFFLINE:
        with suppress(LocalEntryNotFoundError):
            folder = fetch(local_files_only=True)
            # The cache may hold its tokenizer alone.
            if (folder / "config.json").is_file() and any(folder.glob("*.safetensors")):
                return folder
        how = "run once without --offline and HF_HUB_OFFLINE, or give a local folder instead"
        raise PipelineError(f"{repo} is not in the hub's cache, or only another revision or a part of it: {how}")
    if not sys.stderr.isatty():
        disable_progress_bars()
    limit = constants.HF_HUB_ETAG_TIMEOUT  # snapshot_download asks the same, but without one
    info = ask(repo, revision, lambda: HfApi().model_info(repo, revision=revision, timeout=limit))
    files = [file.rfilename for file in info.siblings or []]
    # Said before gigabytes are downloaded, and pickles never are.
    if not any("/" not in file and file.endswith(".safetensors") for file in files):
        raise no_weights(repo, files)
    if any(file.startswith(f"{subfolder}/") for file in files):
        wanted = [f"{subfolder}/*.safetensors", f"{subfolder}/*.json"]
        ask(repo, revision, lambda: fetch(allow_patterns=wanted, ignore_patterns=None))
    return ask(repo, revision, fetch)


def ask(repo: str, revision: str | None, call: Callable[[], T]) -> T:
    """Call the hub's client about a repository, with retries; raises PipelineError for whatever it raises."""
    try:
        return with_retries(call)
    except Exception as error:
        raise _failure(repo, revision, error) from error


def with_retries(call: Callable[[], T]) -> T:
    """Call ``call`` until it succeeds, at most ``ATTEMPTS`` times; a refusal is not asked for again."""
    import huggingface_hub.utils.logging  # noqa: F401 - sets up the handler that is replaced

    # Its warnings (it retries by itself, too) go to our log, which redacts them.
    logging.getLogger("huggingface_hub").handlers = list(logger.handlers)
    for attempt in range(1, ATTEMPTS):
        try:
            return call()
        except Exception as error:
            cause = _cause_of(error)
            status = status_of(cause)
            if isinstance(cause, ValueError) or (status is not None and status < 500 and status not in (408, 429)):
                raise
            logger.info("hub: %s; trying again (%d of %d)", first_line(cause), attempt + 1, ATTEMPTS)
            time.sleep(WAIT_SECONDS * 2 ** (attempt - 1))
    return call()


def _failure(repo: str, revision: str | None, error: Exception) -> PipelineError:
    """Return what to tell the user of an error of the hub client."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    error = _cause_of(error)
    status = status_of(error)
    if isinstance(error, GatedRepoError):
        return InputError(f"{repo} is gated: accept its terms on its page, then set HF_TOKEN")
    if isinstance(error, RepositoryNotFoundError):
        what = f"{repo} is no folder here, and the hub has no such repository or keeps it private"
        return InputError(f"{what}: check the name, or set HF_TOKEN")
    if isinstance(error, RevisionNotFoundError):
        return InputError(f"{repo} has no revision {revision}: give a branch, tag or commit of it")
    if status in (401, 403):
        return InputError(f"the hub refuses access to {repo} (status {status}): check the token in HF_TOKEN")
    # The client's own errors, such as a file that came short, have no number.
    if isinstance(error, OSError) and error.errno and not isinstance(error, (ConnectionError, TimeoutError)):
        how = "free some space, or set HF_HOME to another folder"
        return PipelineError(f"cannot write {repo} to the hub's cache ({error.strerror}): {how}")
    reason = f"the hub answered {status}" if status else first_line(error)
    how = "check the connection (proxy, HF_ENDPOINT), add --offline for what the cache holds, or give a local folder"
    return PipelineError(f"{repo} could not be downloaded ({reason}): {how}")


def _cause_of(error: Exception) -> Exception:
    """Return why the hub client looked into its cache, if ``error`` only says that nothing was there."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    cause = error.__cause__ if isinstance(error, LocalEntryNotFoundError) else None
    return cause if isinstance(cause, Exception) else error


def status_of(error: Exception) -> int | None:
    """Return the HTTP status of the hub's answer, if ``error`` holds one."""
    return getattr(getattr(error, "response", None), "status_code", None)
