"""What the scripts share on the terminal: errors, exit codes, the log, progress bars and tables."""

from __future__ import annotations

import argparse
import errno
import io
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130

#: The environment variables that may hold an access token of the hub.
TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_HUB_TOKEN")

logger = logging.getLogger("qwen25")


class PipelineError(Exception):
    """The run failed; the message is one line that says what is wrong and what to do."""

    exit_code = EXIT_FAILED


class InputError(PipelineError):
    """What the user gave cannot be used: a flag's value, a file, a model or a teacher."""

    exit_code = EXIT_USAGE


def redact(text: str) -> str:
    """Return ``text`` without access tokens and without the path of the home folder."""
    for name in TOKENS:
        token = os.environ.get(name, "").strip()
        if len(token) >= 8:  # a shorter one is no token, and might be any word
            text = text.replace(token, "***")
    with suppress(RuntimeError):  # a user without a home folder has none to hide
        home = str(Path.home())
        if len(home) > 1:
            text = text.replace(home, "~")
    return re.sub(r"\bhf_\w{8,}", "hf_***", text)


@contextmanager
def as_input_error(what: str, advice: str) -> Iterator[None]:
    """Turn whatever a bad file makes the libraries raise into an InputError: ``what``, the reason, ``advice``.

    For the calls behind which many libraries lie: their errors have no common base.
    """
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


def set_up_logging(log_file: Path | None = None, quiet: bool = False) -> None:
    """Send the pipeline's log to standard error and, with times and the process, to ``log_file``.

    :param log_file: a file to go on with: what earlier runs, or one that runs beside this, wrote stays. Or None.
    :param quiet: only warnings on the terminal; the file gets everything.
    :raises InputError: if the log file cannot be written.
    """
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    logger.setLevel(logging.INFO)
    logger.propagate = False
    terminal = logging.StreamHandler(sys.stderr)
    terminal.setLevel(logging.WARNING if quiet else logging.INFO)
    terminal.setFormatter(_RedactingFormatter("%(message)s"))
    logger.addHandler(terminal)
    if log_file is not None:
        try:
            log_file.parent.mkdir(parents=True, exist_ok=True)
            if log_file.is_fifo():  # to open it waits for a reader, who may never come
                raise InputError(f"the log {log_file} is a pipe: give another --log-file")
            # A file's name in a message may hold bytes that are no character.
            file = _LogFile(log_file, mode="a", encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise InputError(f"cannot write the log {log_file}: {error.strerror}; give another --log-file") from error
        file.setFormatter(_RedactingFormatter("%(asctime)s %(process)d %(levelname)s %(message)s"))
        logger.addHandler(file)


def seed(text: str) -> int:
    """Parse --seed: a number that every random generator takes."""
    try:
        value = int(text)
    except ValueError:
        value = -1
    if not 0 <= value < 2**32:
        raise argparse.ArgumentTypeError(f"a whole number from 0 to {2**32 - 1}, not {text!r}")
    return value


class Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line, as all errors are said."""

    def error(self, message: str) -> NoReturn:
        """End the process with the exit code of wrong usage."""
        line = redact(" ".join(message.split()))
        self.exit(EXIT_USAGE, f"error: {line}; see --help\n")


def add_common_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that every phase has."""
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error (default: one line)")


def run(parser: argparse.ArgumentParser, body: Callable[[argparse.Namespace], int], argv: Sequence[str] | None) -> int:
    """Parse ``argv``, run ``body`` and turn what it raises into one line and an exit code.

    :return: 0 ok, 1 the run failed, 2 wrong usage or input, 130 interrupted.
    """
    _open_streams()
    args = parser.parse_args(argv)
    try:
        Path.cwd()
    except OSError:  # libraries would die of it, each in its own way
        print("error: the folder that this was started in is gone: change to another", file=sys.stderr)
        return EXIT_USAGE
    # Libraries draw their own bars and warnings over ours; ours say what matters.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    set_up_logging(quiet=getattr(args, "json_only", False))
    code = EXIT_OK
    try:
        code = body(args)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("interrupted: nothing half-written was left; run the same command again", file=sys.stderr)
        return EXIT_INTERRUPTED
    except Exception as error:
        # An error that names no file may be that of standard output.
        fault = error if isinstance(error, OSError) and error.filename is None and _stdout_fails() else None
        if isinstance(fault, BrokenPipeError):
            return code  # its reader has seen enough, as head has
        if args.debug:
            print(redact(traceback.format_exc()), file=sys.stderr)
        if isinstance(error, PipelineError):
            line, code = str(error), error.exit_code
        elif fault:
            line, code = f"cannot write to standard output: {fault.strerror}; send it elsewhere", EXIT_FAILED
        elif reason := _path_fault(error):
            line, code = f"{reason}: give another path", EXIT_USAGE
        else:
            line, code = f"{type(error).__name__}: {error}; run again with --debug for the traceback", EXIT_FAILED
        line = redact(" ".join(line.split()))
        logger.debug(line)
        print(f"error: {line}", file=sys.stderr)
        return code


def _open_streams() -> None:
    """Make the standard streams take whatever is printed, also where the caller closed them or they are no UTF-8."""
    for name in ("stdin", "stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 (open until the end)
        elif name != "stdin" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _stdout_fails() -> bool:
    """Whether standard output cannot be written to; what is still to come then goes nowhere."""
    try:
        print(flush=True)  # what it failed to write before is forgotten, and to write nothing never fails
    except OSError:
        _silence_stdout()
        return True
    return False


def _silence_stdout() -> None:
    """Send standard output nowhere, what waits in its buffer too: at exit that would be one more error."""
    with suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _path_fault(error: Exception) -> str | None:
    """Return what is wrong with a path on which the system itself gave up; None: it is another error."""
    if isinstance(error, OSError) and error.errno in (errno.ENAMETOOLONG, errno.ELOOP, errno.EACCES):
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    # pathlib's own, of links that lead in a circle and of ~name where there is no such user.
    if isinstance(error, RuntimeError) and str(error).startswith(("Symlink loop", "Could not determine home")):
        return first_line(error).rstrip(".")
    return None


class _Console(Console):
    """A console that goes on printing, to nowhere, when its reader has seen enough: rich ends the process."""

    def on_broken_pipe(self) -> None:
        _silence_stdout()


@contextmanager
def progress(description: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show one progress bar on a terminal, and nothing elsewhere; yields ``advance(steps)``."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(description, total=total)
        yield lambda steps: bar.advance(task, steps)


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on standard output; its first column is left-aligned, the others right."""
    # No markup: names are shown as they are.
    console = _Console(width=None if sys.stdout.isatty() else 200, markup=False, emoji=False)
    # Plain ASCII where no person looks: the table may land in a log or a file.
    table = Table(title=title, title_justify="left", box=box.ROUNDED if console.is_terminal else box.ASCII2)
    for i, name in enumerate(header):
        table.add_column(name, justify="left" if i == 0 else "right", no_wrap=i == 0)
    for row in rows:
        table.add_row(*row)
    console.print(table)
