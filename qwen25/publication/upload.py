"""A folder -> one commit of a model repository on the hub.

The token is HF_TOKEN or the hub client's own login; it is in no message and in no line of the log.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from qwen25.runtime.errors import InputError, PipelineError, first_line, redact
from qwen25.runtime.log import logger
from qwen25.store.hub import check_id, is_network_error, status_of, warnings_in_our_log, with_retries, without_keys

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo, HfApi

T = TypeVar("T")
#: Left out beside what is hidden: what a program that was interrupted, or an editor, leaves behind.
TEMPORARY = ("*.tmp", "*.part", "*.incomplete", "*.lock", "*~", "*.pyc", "__pycache__")
ANSWER_SECONDS = 120.0  # the hub client itself waits for ever


class _StorageError(Exception):
    """The upload of a large file failed for good."""


def listing(folder: Path) -> list[tuple[str, int]]:
    """Return what would be uploaded: each file's path inside the folder, and its bytes.

    :raises InputError: if there is no such folder, or no file in it.
    """
    if not folder.is_dir():
        raise InputError(f"no such folder: {folder}")
    paths = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    files = sorted((path.as_posix(), (folder / path).stat().st_size) for path in paths if _is_meant(path))
    if not files:
        raise InputError(f"{folder} holds no file to upload")
    return files


def upload(folder: Path, repo: str, *, private: bool = False, revision: str | None = None, message: str) -> str:
    """Publish the files of ``listing`` in one commit and return its address.

    What the repository holds besides is left as it is. If nothing differs there is no new commit,
    and the address is that of the latest one.

    :param private: who makes the repository, if there is none, makes it a private one.
    :param revision: a branch, made if there is none (None: the main branch).
    :raises InputError: if the folder, the name, the token or its rights cannot be used, if uploads are
        switched off (HF_HUB_OFFLINE), or if the repository is public though ``private`` is asked for.
    :raises PipelineError: if the hub or the connection fails, or a file cannot be read.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

    files = [name for name, _ in listing(folder)]
    check_id(repo)
    token = _token()
    if not sys.stderr.isatty():
        disable_progress_bars()
    with _without_secrets(token), warnings_in_our_log():
        try:
            api = HfApi(token=token)
            _prepare(api, repo, private, revision)
            before = _retried(lambda: api.model_info(repo, revision=revision)).sha
            logger.info("uploading %d files to %s", len(files), repo)
            commit = _retried(lambda: _commit(api, folder, files, repo, revision, message))
        except PipelineError:
            raise
        except Exception as error:
            raise _failure(repo, error, token) from error
        if commit.oid == before:
            logger.info("nothing has changed: %s is as it was", repo)
        return commit.commit_url


def _is_meant(path: Path) -> bool:
    return not any(part.startswith(".") or any(fnmatch(part, p) for p in TEMPORARY) for part in path.parts)


def _token() -> str:
    """Return the user's token, before anything is sent.

    :raises InputError: if uploads are switched off, or there is no token that could be sent.
    """
    from huggingface_hub import constants, get_token

    if constants.HF_HUB_OFFLINE:
        raise InputError("HF_HUB_OFFLINE is set, and an upload needs the network: unset it and run again")
    try:
        token = get_token()
    except Exception as error:  # a login that must be renewed on the network first
        how = "log in again, or set HF_TOKEN to a token with write access"
        raise InputError(f"the hub's login fails ({redact(first_line(error))}): {how}") from error
    if not token:
        raise InputError("there is no token: set HF_TOKEN to one with write access, or run hf auth login")
    # The HTTP client would refuse it, and repeat it.
    if not (token.isascii() and token.isprintable()):
        raise InputError("the token in HF_TOKEN has characters that no token has: copy it again")
    return token


def _prepare(api: HfApi, repo: str, private: bool, revision: str | None) -> None:
    """Have the repository and the branch there."""
    # Not asked for, it is what its owner's settings say: public, where they say nothing.
    _retried(lambda: api.create_repo(repo, private=private or None, exist_ok=True))
    if private and not _retried(lambda: api.model_info(repo)).private:
        raise InputError(f"{repo} exists and is public: make it private in its settings, or give another name")
    if revision is not None:
        _retried(lambda: api.create_branch(repo, branch=revision, exist_ok=True))


def _commit(api: HfApi, folder: Path, files: list[str], repo: str, revision: str | None, message: str) -> CommitInfo:
    from huggingface_hub import CommitOperationAdd

    # Made anew for each attempt: they remember what the repository held. What was sent is not sent
    # again, and if the commit was made though its answer was lost, there is nothing left to commit.
    additions = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=folder / name) for name in files]
    return api.create_commit(repo, additions, commit_message=message, revision=revision)


def _retried(ask: Callable[[], T]) -> T:
    """Call ``ask`` with retries, its errors stripped of what the hub client wraps them in."""
    from huggingface_hub.utils import get_session  # type: ignore[attr-defined]

    def once() -> T:
        get_session().timeout = ANSWER_SECONDS  # a new one after each lost connection
        try:
            return ask()
        except RuntimeError as error:
            # Around what went wrong with one large file.
            if isinstance(error.__cause__, Exception):
                raise error.__cause__ from None
            raise
        except json.JSONDecodeError as error:
            # A gateway's page instead of the hub's answer.
            raise ConnectionError("what answered is not the hub") from error
        except OSError as error:
            # What uploads large files has tried by itself, for minutes; its errors have no number.
            if type(error).__module__ in {"builtins", "hf_xet"} and error.errno is None:
                raise _StorageError(str(error)) from error
            raise

    return with_retries(once)


def _failure(repo: str, error: Exception, token: str) -> PipelineError:
    """Return what to tell the user of an error of the hub client."""
    if (status := status_of(error)) is not None:
        said = _clean(getattr(error, "server_message", None) or "", token)
        return _refusal(repo, status, f" ({' '.join(said.split())})" if said else "", _outcome(repo, error))
    text = _clean(" ".join(str(error).split()), token)
    if isinstance(error, _StorageError) and isinstance(error.__cause__, PermissionError):
        return InputError(f"the token in HF_TOKEN may not write to {repo} ({text}): make one with write access to it")
    if is_network_error(error) or isinstance(error, _StorageError):
        how = f"check the connection and run again; {_outcome(repo, error)}"
        return PipelineError(f"{repo} could not be uploaded ({_clean(first_line(error), token)}): {how}")
    if isinstance(error, OSError):
        what = error.filename or "what is uploaded"
        return PipelineError(f"cannot read {what} ({error.strerror}): check its rights and the disk, and run again")
    if isinstance(error, ValueError) and "README.md" in text:
        return InputError(f"the hub refuses the card ({text}): correct README.md and run again")
    what = f"{type(error).__name__}: {text}"
    return PipelineError(f"{repo} could not be uploaded ({what}): run again with --debug for the traceback")


def _refusal(repo: str, status: int, reason: str, outcome: str) -> PipelineError:
    """Return what to tell the user of the hub's refusal, for the ``reason`` that it gave."""
    if status == 401:
        return InputError("the hub does not know the token in HF_TOKEN (expired?): make a new one with write access")
    if status == 403:
        how = "make one with write access to it, or give a repository of your own"
        return InputError(f"the token in HF_TOKEN may not write to {repo}{reason}: {how}")
    if status == 404:
        return InputError(f"the hub has no {repo.split('/')[0]} to whom {repo} could belong{reason}: check the name")
    # Refused for what is asked, and not because of the moment.
    if status < 500 and status not in (408, 409, 412, 429):
        return InputError(f"the hub does not take this for {repo} (status {status}){reason}: correct it and run again")
    return PipelineError(f"the hub answered {status} for {repo}{reason}: wait and run again; {outcome}")


def _outcome(repo: str, error: Exception) -> str:
    """Return what became of the repository when ``error`` ended the last attempt."""
    request, answer = None, getattr(error, "response", None)
    with contextlib.suppress(RuntimeError):  # how the HTTP client says that it knows none
        request = getattr(error if answer is None else answer, "request", None)
    # What is large is sent before the commit.
    if not isinstance(error, _StorageError) and (request is None or "/commit/" in str(request.url)):
        return f"{repo} has all the files, or is as it was: it is one commit"
    return f"nothing was published, {repo} is as it was"


def _clean(text: str, token: str) -> str:
    """Return ``text`` without the token, and without the queries of addresses: an upload's is a key to it."""
    return without_keys(redact(text.replace(token, "***")))


class _Clean(logging.Filter):
    def __init__(self, token: str) -> None:
        super().__init__()
        self._token = token

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = _clean(record.getMessage(), self._token), None
        return True


@contextlib.contextmanager
def _without_secrets(token: str) -> Iterator[None]:
    """Keep out of the log what ``_clean`` removes."""
    clean = _Clean(token)
    logger.addFilter(clean)
    try:
        yield
    finally:
        logger.removeFilter(clean)
