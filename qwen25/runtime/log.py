"""The pipeline's log: to standard error, and to a file with times."""

from __future__ import annotations

import logging
import re
import sys
from contextlib import suppress
from pathlib import Path

from qwen25.runtime.errors import InputError, redact

logger = logging.getLogger("qwen25")


def is_quiet() -> bool:
    """Whether the terminal is to get warnings only."""
    terminals = [handler for handler in logger.handlers if type(handler) is logging.StreamHandler]
    return any(handler.level > logging.INFO for handler in terminals)


class _StandardError:
    """Standard error as it is when a line is written: a progress bar steps in, and lets lines pass above itself."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


class _RedactingFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


class _LogFile(logging.FileHandler):
    """A log file that ends when the disk is full; the run goes on."""

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        logger.removeHandler(self)
        self.close()
        logger.warning("the log %s ends here: %s", self.baseFilename, error.strerror)

    def close(self) -> None:
        with suppress(OSError):  # of what could not be written
            super().close()


def _silence_libraries() -> None:
    """Keep the log lines of other libraries off the terminal; with a handler of ours none of them sets up its own."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        if type(handler) is logging.StreamHandler:  # what logging.basicConfig makes, not a file or a test's
            root.removeHandler(handler)
    if not root.handlers:
        root.addHandler(logging.NullHandler())


def _is_log(path: Path) -> bool:
    """Whether a file is empty or starts as a log does: to another, perhaps one that the run reads, nothing is added."""
    with path.open("rb") as file:
        start = file.read(20)
    return not start or re.match(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", start) is not None


def set_up_logging(log_file: Path | None = None, quiet: bool = False) -> None:
    """Send the pipeline's log to standard error and, with times and the process, to ``log_file``.

    :param log_file: a file to go on with: what earlier runs, or one that runs beside this, wrote stays. Or None.
    :param quiet: only warnings on the terminal; the file gets everything.
    :raises InputError: if the log file cannot be written, or is another file.
    """
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    logger.setLevel(logging.INFO)
    logger.propagate = False
    _silence_libraries()
    terminal = logging.StreamHandler(_StandardError())
    terminal.setLevel(logging.WARNING if quiet else logging.INFO)
    terminal.setFormatter(_RedactingFormatter("%(message)s"))
    logger.addHandler(terminal)
    if log_file is not None:
        try:
            log_file.parent.mkdir(parents=True, exist_ok=True)
            if log_file.is_fifo():  # to open it waits for a reader, who may never come
                raise InputError(f"the log {log_file} is a pipe: give another --log-file")
            if log_file.is_file() and not _is_log(log_file):
                raise InputError(f"{log_file} is no log of a run, and nothing is added to it: give another --log-file")
            # A file's name in a message may hold bytes that are no character.
            file = _LogFile(log_file, mode="a", encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise InputError(f"cannot write the log {log_file}: {error.strerror}; give another --log-file") from error
        file.setFormatter(_RedactingFormatter("%(asctime)s %(process)d %(levelname)s %(message)s"))
        logger.addHandler(file)
