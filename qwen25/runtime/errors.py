"""Errors of the pipeline with their exit codes, and its log; text is cleaned of secrets before it is written."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130
#: The environment variables that may hold an access token of the hub.
TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_HUB_TOKEN")

logger = logging.getLogger("qwen25")


class PipelineError(Exception):
    """The run failed; the message is one line: ``what`` is wrong, and the ``advice`` what to do about it."""

    exit_code = EXIT_FAILED

    def __init__(self, what: str, advice: str = "") -> None:  # noqa: D107
        super().__init__(f"{what}; {advice}" if advice else what)
        self.what = what


class InputError(PipelineError):
    """What the user gave cannot be used: a flag's value, a file, a model or a teacher."""

    exit_code = EXIT_USAGE


def redact(text: str) -> str:
    """Return ``text`` without access tokens, keys in addresses, and the path of the home folder."""
    for name in TOKENS:
        token = os.environ.get(name, "").strip()
        if len(token) >= 8:  # a shorter one is no token, and might be any word
            text = text.replace(token, "***")
    home = os.path.expanduser("~")  # noqa: PTH111, Path's own raises where there is no home folder
    if len(home) > 1:
        text = text.replace(home, "~")
    # The query of a download's or an upload's address is a key to it.
    text = re.sub(r"(https?://[^\s?'\"]+)\?[^\s'\"]*", r"\1", text)
    return re.sub(r"\bhf_\w{8,}", "hf_***", text)


@contextmanager
def as_input_error(what: str, advice: str) -> Iterator[None]:
    """Turn whatever a bad file makes the libraries raise into an InputError: ``what``, the reason, ``advice``."""
    try:
        yield
    except (PipelineError, MemoryError):
        raise
    except BaseException as error:
        # A panic in the tokenizers' Rust code is no Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        reason = f"no {error}" if isinstance(error, KeyError) else first_line(error)
        raise InputError(f"{what} ({reason}): {advice}") from error


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


class _StandardError:
    """Standard error as it is when a line is written: a progress bar steps in, and lets lines pass above itself."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


class _RedactingFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


def set_up_logging(log_file: Path | None = None, quiet: bool = False) -> None:
    """Send the pipeline's log to standard error and, with times and the process, to the end of ``log_file``.

    :param quiet: only warnings on the terminal; the file gets everything.
    :raises InputError: if the log file cannot be written.
    """
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        with suppress(OSError):  # a full disk
            handler.close()
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logging.raiseExceptions = False  # a full disk ends the log, and says so where the result is written
    if not logging.getLogger().handlers:  # then other libraries set up none, and print nothing
        logging.getLogger().addHandler(logging.NullHandler())
    terminal = logging.StreamHandler(_StandardError())
    terminal.setLevel(logging.WARNING if quiet else logging.INFO)
    terminal.setFormatter(_RedactingFormatter("%(message)s"))
    logger.addHandler(terminal)
    if log_file is not None:
        try:
            log_file.parent.mkdir(parents=True, exist_ok=True)
            # A file's name in a message may hold bytes that are no character.
            file = logging.FileHandler(log_file, mode="a", encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise InputError(f"cannot write the log {log_file}: {error.strerror}; give another --log-file") from error
        file.setFormatter(_RedactingFormatter("%(asctime)s %(process)d %(levelname)s %(message)s"))
        logger.addHandler(file)
