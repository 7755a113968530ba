"""Command lines: parsing, common flags, and errors turned into one line and an exit code."""

from __future__ import annotations

import argparse
import errno
import io
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import NoReturn

from qwen25 import __version__
from qwen25.runtime.display import silence_stdout
from qwen25.runtime.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, PipelineError, first_line, redact
from qwen25.runtime.invocation import command_of
from qwen25.runtime.log import logger, set_up_logging


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
    """A parser that says what is wrong in one line, as all errors are said, and takes no abbreviated flags."""

    def __init__(self, phase: str = "", story: str | None = "") -> None:
        """Make a parser.

        :param phase: the subcommand of ``qwen25``.
        :param story: the description, its commands written as those of ``qwen25``.
        """
        command = command_of(phase) if phase else None
        super().__init__(
            prog=command,
            description=(story or "").replace(f"qwen25 {phase}", command) if command else story,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """End the process with the exit code of wrong usage."""
        line = redact(" ".join(message.split()))
        self.exit(EXIT_USAGE, f"error: {line}{self._did_you_mean(message)}; see --help\n")

    def _did_you_mean(self, message: str) -> str:
        """Return the flag or choice that is nearest to what the message says is none."""
        if wrong := re.search(r"unrecognized arguments:.*?(--?[\w-]+)", message):
            known = [flag for action in self._actions for flag in action.option_strings if flag.startswith("--")]
        elif wrong := re.search(r"invalid choice: '([^']*)'", message):
            known = [str(choice) for action in self._actions for choice in action.choices or ()]
        else:
            return ""
        near = get_close_matches(wrong[1], known, n=1)
        return f"; did you mean {near[0]}?" if near else ""


def add_common_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that every phase has."""
    add = parser.add_argument
    add(
        "-q",
        "--quiet",
        action="store_true",
        help="print only warnings, errors and results (default: tables and progress)",
    )
    add("--debug", action="store_true", help="show the traceback of an error (default: one line)")
    version = f"qwen25 {__version__}"
    add("--version", action="version", version=version, help="print the version and stop (default: run)")


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
    set_up_logging(quiet=args.quiet)
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
        silence_stdout()
        return True
    return False


def _path_fault(error: Exception) -> str | None:
    """Return what is wrong with a path on which the system itself gave up; None: it is another error."""
    if isinstance(error, OSError) and error.errno in (errno.ENAMETOOLONG, errno.ELOOP, errno.EACCES):
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    # pathlib's own, of links that lead in a circle and of ~name where there is no such user.
    if isinstance(error, RuntimeError) and str(error).startswith(("Symlink loop", "Could not determine home")):
        return first_line(error).rstrip(".")
    return None
