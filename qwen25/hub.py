"""The hub's model repositories: downloaded once, with retries, read from the cache ever after.

Only safetensors weights are fetched: a pickle can run code when it is opened. Every failure is one
line that says what to do, and never holds a token.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from qwen25.runtime.errors import InputError, PipelineError, first_line
from qwen25.runtime.files import read_json
from qwen25.runtime.log import logger

T = TypeVar("T")
FILES = [
    "config.json", "*.safetensors", "*.safetensors.index.json", "tokenizer*", "vocab*", "merges.txt",
    "modules.json", "[0-9]*/config.json", "sentence_bert_config.json", "config_sentence_transformers.json",
    "special_tokens_map.json",
]  # fmt: skip
#: Never fetched: other formats of the same weights (but the numbered folders are the steps behind a
#: sentence-transformers model: pooling, dense layers), Mistral's second copy, and what could run as code
#: though it is named like a tokenizer.
IGNORED = ["[!0-9]*/*", "consolidated*", "*.py", "*.pkl", "*.pickle", "*.bin", "*.pt", "*.pth"]
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle")
ATTEMPTS = 3
WAIT_SECONDS = 1.0  # before the second attempt; twice as long before each further one


def snapshot(repo: str, revision: str | None = None, offline: bool = False) -> Path:
    """Return the folder of a model repository's files, downloading what the cache lacks.

    :param revision: a branch, tag or commit (None: the main branch).
    :param offline: use only what the cache holds.
    :return: a folder in the cache, named after the commit.
    :raises InputError: if there is no such repository, or no model in it that may be read.
    :raises PipelineError: if the hub cannot be reached, or offline if the cache lacks it.
    """
    from huggingface_hub import constants

    if fault := _fault_of_id(repo):
        raise InputError(f"there is no folder {repo}, and it cannot be a hub id: {fault}")
    if not (offline or constants.HF_HUB_OFFLINE):
        return _downloaded(repo, revision)
    if (cached := _cached(repo, revision)) is not None:
        return cached
    wanted = repo if revision is None else f"{repo} at {revision}"
    raise PipelineError(
        f"{wanted} is not in the hub's cache, or only a part of it: "
        "run once without --offline and HF_HUB_OFFLINE, or give a local folder instead"
    )


def looks_like_an_id(spec: str) -> bool:
    """Whether ``spec`` has the form of a repository's name: owner/name."""
    return re.fullmatch(r"[\w.-]+/[\w.-]+", spec) is not None and not spec.startswith((".", "/"))


def check_id(repo: str) -> None:
    """Refuse a name that no repository can have, before it is used.

    :raises InputError: if it is such a one, or does not say whose it is.
    """
    if fault := _fault_of_id(repo):
        raise InputError(f"{repo} cannot be a repository's name: {fault}")
    if not looks_like_an_id(repo):
        raise InputError(f"{repo} does not say whose it is: give owner/name")


def _fault_of_id(repo: str) -> str | None:
    """Return why the hub's client takes ``repo`` for no repository's name, or None."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        return first_line(error)
    return None


def no_weights(what: str, files: list[str]) -> InputError:
    """Return the error for a model whose ``files`` have no safetensors among them."""
    if any(file.endswith(PICKLES) for file in files):
        return InputError(
            f"{what} has only pickled weights (.bin), which can run code when opened; convert them to safetensors first"
        )
    return InputError(f"{what} has no .safetensors weights: give another model")


def steps_of(folder: Path, what: str) -> list[tuple[str, Path]]:
    """Return the steps of a sentence-transformers model: the class and the folder of each.

    :param what: the model, for messages.
    :raises InputError: if its modules.json cannot be read, or is no list of steps.
    """
    try:
        return [(str(step["type"]), folder / step["path"]) for step in read_json(folder / "modules.json")]
    except (KeyError, TypeError) as error:
        raise InputError(f"{what}: its modules.json is no list of steps: {error!r}") from error


def _downloaded(repo: str, revision: str | None) -> Path:
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


def _fetch(repo: str, revision: str | None, local_files_only: bool = False) -> Path:
    from huggingface_hub import snapshot_download

    return Path(
        snapshot_download(
            repo,
            revision=revision,
            allow_patterns=FILES,
            ignore_patterns=IGNORED,
            local_files_only=local_files_only,
        )
    )


def _listed(repo: str, revision: str | None) -> list[str]:
    """Return the names of the repository's files; ``snapshot_download`` asks the same but waits for ever."""
    from huggingface_hub import HfApi, constants

    info = HfApi().model_info(repo, revision=revision, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    return [file.rfilename for file in info.siblings or []]


def without_keys(text: str) -> str:
    """Return ``text`` with its addresses cut before their query: that of a download's or an upload's is a key to it."""
    return re.sub(r"(https?://[^\s?'\"]+)\?[^\s'\"]*", r"\1", text)


def failure_of(repo: str, revision: str | None, error: Exception) -> PipelineError:
    """Return what to tell the user of an error of the hub client."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    error = _cause(error)
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


def _cause(error: Exception) -> Exception:
    """Return why the hub client had to look into its cache, if ``error`` says that nothing was there."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    if isinstance(error, LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        return error.__cause__
    return error


def status_of(error: Exception) -> int | None:
    """Return the status of the hub's answer, if ``error`` holds one."""
    return getattr(getattr(error, "response", None), "status_code", None)


def is_network_error(error: Exception) -> bool:
    """Whether the network failed, and not this machine's disk."""
    # The HTTP client's own errors; which client it is depends on the hub client's version.
    if type(error).__module__.split(".")[0] in {"httpx", "httpx2", "requests", "urllib3"}:
        return True
    # The hub client's own have no number: a file that came short, headers that are missing.
    return isinstance(error, OSError) and (isinstance(error, (ConnectionError, TimeoutError)) or error.errno is None)


def with_retries(ask: Callable[[], T]) -> T:
    """Call ``ask`` until it succeeds, at most ``ATTEMPTS`` times; only what may pass is retried."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return ask()
        except Exception as error:
            cause = _cause(error)
            status = status_of(cause)
            may_pass = is_network_error(cause) if status is None else status in (408, 429) or status >= 500
            if attempt == ATTEMPTS or not may_pass:
                raise
            logger.info("hub: %s; trying again (%d of %d)", without_keys(first_line(cause)), attempt + 1, ATTEMPTS)
            time.sleep(WAIT_SECONDS * 2 ** (attempt - 1))
    raise AssertionError("unreachable")


class _ToOurLog(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        logger.log(record.levelno, "hub: %s", without_keys(" ".join(record.getMessage().split())))


@contextlib.contextmanager
def warnings_in_our_log() -> Iterator[None]:
    """Have the hub client's warnings (it retries by itself, too) redacted and in the log file."""
    import huggingface_hub.utils.logging  # noqa: F401 - sets up the handler that is to be replaced

    theirs = logging.getLogger("huggingface_hub")
    before, theirs.handlers = theirs.handlers, [_ToOurLog()]
    try:
        yield
    finally:
        theirs.handlers = before
