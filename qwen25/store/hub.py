"""Talking to the hub: names, retries, and failures as one line that never holds an access token."""

from __future__ import annotations

import contextlib
import logging
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from qwen25.runtime.errors import InputError, first_line
from qwen25.runtime.log import logger

T = TypeVar("T")
ATTEMPTS = 3
WAIT_SECONDS = 1.0  # before the second attempt; twice as long before each further one


def looks_like_an_id(spec: str) -> bool:
    """Whether ``spec`` has the form of a repository's name: owner/name.

    ``models/...`` has not: that is where the phases write, and what is missing there is never asked for elsewhere.
    """
    return re.fullmatch(r"[\w.-]+/[\w.-]+", spec) is not None and not spec.startswith((".", "/", "models/"))


def lies_here(path: Path) -> bool:
    """Whether ``path`` leads into a folder that is here: what is missing in it is never asked for at the hub."""
    return len(path.parts) > 1 and path.parent.is_dir()


def check_id(repo: str) -> None:
    """Refuse a name that no repository can have, before it is used.

    :raises InputError: if it is such a one, or does not say whose it is.
    """
    if fault := fault_of_id(repo):
        raise InputError(f"{repo} cannot be a repository's name: {fault}")
    if not looks_like_an_id(repo):
        raise InputError(f"{repo} does not say whose it is: give owner/name")


def fault_of_id(repo: str) -> str | None:
    """Return why the hub's client takes ``repo`` for no repository's name, or None."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        return first_line(error)
    return None


def without_keys(text: str) -> str:
    """Return ``text`` with its addresses cut before their query: that of a download's or an upload's is a key to it."""
    return re.sub(r"(https?://[^\s?'\"]+)\?[^\s'\"]*", r"\1", text)


def cause_of(error: Exception) -> Exception:
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
            cause = cause_of(error)
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
