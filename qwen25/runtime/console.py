"""Command lines: flags, the commands that messages advise, what a phase prints, errors as one line and an exit code."""

from __future__ import annotations

import argparse
import io
import os
import re
import shlex
import signal
import sys
import textwrap
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

from qwen25.runtime.errors import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_USAGE,
    PipelineError,
    redact,
    set_up_logging,
)
from qwen25.runtime.files import CHECKOUT, json_text, read_json, resource, write_files

#: Set by run_qwen25.sh to how it was called.
COMMAND_VARIABLE = "QWEN25_COMMAND"
#: Phase -> its script at the top of a checkout.
SCRIPTS = {
    "distill": "distill_qwen25_1024d.py",
    "eval": "quick_eval_qwen25_1024d.py",
    "compare": "compare_qwen25_vs_all.py",
}
#: What phases 1 to 3 write, and the later ones read, unless told otherwise.
MODEL = Path("models/qwen25-deposium-1024d")
EVALUATION = Path("qwen25_1024d_eval_results.json")
COMPARISON = Path("model_comparison_results.json")
#: The width of a terminal that ``--help`` is written for.
COLUMNS = 80
#: As ``--output``: the result goes to standard output, and all else that is printed to standard error.
STDOUT = Path("-")


def command_of(phase: str, **flags: object) -> str:
    """Return the command that runs ``phase``, started as the user started this one: as shell command or script.

    :param flags: flag -> its value; the files above are left out, because they are the defaults.
    """
    script = Path(sys.argv[0])
    command = f"{os.environ.get(COMMAND_VARIABLE) or 'qwen25'} {phase}"
    if command == f"qwen25 {phase}" and script.suffix == ".py" and script.resolve().parent == CHECKOUT:
        if phase in SCRIPTS:
            command = shlex.join([sys.orig_argv[0], str(script.with_name(SCRIPTS[phase]))])
        else:
            command = shlex.join(["bash", str(script.with_name("run_qwen25.sh")), phase])
    given = {flag: value for flag, value in flags.items() if value not in (MODEL, EVALUATION, COMPARISON)}
    return " ".join([command, *(f"--{flag} {shlex.quote(str(value))}" for flag, value in given.items())])


def extras_command(part: str) -> str:
    """Return the command that installs an optional part: ``mteb``, ``onnx`` or ``pylate``."""
    setup = CHECKOUT / "setup_qwen25.sh"
    if not setup.is_file():
        # An extra would bring pylate's dependencies, which demand another torch.
        return "pip install --no-deps pylate" if part == "pylate" else f"pip install 'qwen25-deposium[{part}]'"
    return f"bash {shlex.quote(str(setup)) if Path.cwd() != CHECKOUT else setup.name} --with-extras"


@contextmanager
def for_people(args: argparse.Namespace) -> Iterator[None]:
    """Send what is printed meanwhile nowhere with ``--quiet``, and keep it out of a result on standard output."""
    with redirect_stdout(io.StringIO() if args.quiet else sys.stderr if args.output == STDOUT else sys.stdout):
        yield


def write_result(output: Path, result: Any, reports: Mapping[Path, bytes | str] | None = None) -> None:
    """Write a result file, and the reports that belong to it, as ``write_files`` does."""
    # The result is the last: a run that is stopped between them leaves the old one.
    write_files({**(reports or {}), **({} if output == STDOUT else {output: json_text(result)})})


def print_result(output: Path, result: Any) -> None:
    """Print where the result is, or the result itself."""
    print(json_text(result).removesuffix("\n") if output == STDOUT else output)


class Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line, as all errors are said, and takes no abbreviated flags."""

    def __init__(self, phase: str = "", story: str | None = "") -> None:
        """Make a parser of a phase; its ``story``, the description, has its commands written as those of qwen25."""
        command = command_of(phase) if phase else None
        described = _in_columns((story or "").replace(f"qwen25 {phase}", command) if command else story or "")
        form = argparse.RawDescriptionHelpFormatter
        super().__init__(prog=command, description=described, formatter_class=form, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """End the process with the exit code of wrong usage; of a flag that there is not, the nearest is named."""
        line = redact(" ".join(message.split()))
        if wrong := re.search(r"unrecognized arguments:.*?(--?[\w-]+)", message):
            if instead := read_json(resource("data") / "dropped_flags.json").get(wrong[1]):
                self.exit(EXIT_USAGE, f"error: {wrong[1]} is gone: {instead}\n")
            line += "".join(f"; did you mean {n}?" for n in get_close_matches(wrong[1], self._option_string_actions, 1))
        self.exit(EXIT_USAGE, f"error: {line}; see --help\n")


def _in_columns(story: str) -> str:
    """Return a description as wide as a terminal; a comment that its example leaves no room for stands above it."""
    lines = []
    for part in story.split("\n\n"):
        if not part.startswith(" "):
            lines += textwrap.wrap(part, COLUMNS, break_on_hyphens=False, break_long_words=False)
        for line in part.split("\n") if part.startswith(" ") else ():
            command, _, comment = line.partition(" # ")
            above = bool(comment) and len(line) > COLUMNS
            lines += [f"    # {comment}", command.rstrip()] if above else [line]
        lines.append("")
    return "\n".join(lines)


def add_own_data_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that name the user's own pairs."""
    on = "also score on your own pairs of a query and its answer, as --pairs of phase 1 takes a file: .jsonl, .csv, "
    on += (
        ".tsv or .parquet, gzipped or not; may be given more than once; the first 2,000 characters of a text are read "
    )
    on += "(default: none)"
    parser.add_argument("--on", action="append", default=[], metavar="FILE[:LEFT,RIGHT]", help=on)
    among = "documents that are no answer, added to those of --on: such a file, or lines of text (default: none)"
    parser.add_argument("--among", action="append", default=[], metavar="FILE[:COLUMN]", help=among)


def flag(default: Any, says: str, *, shown: str | None = None, group: str = "", **how: Any) -> Any:
    """Return a dataclass's field that is a flag of a command line as well; see :func:`add_fields`.

    :param says: what ``--help`` says of it, without the default.
    :param shown: the default in words, where it is not ``default`` itself; a switch says none.
    :param group: the heading under which ``--help`` shows it; none: the first flags.
    :param how: more of ``add_argument``'s; the type is that of ``default`` unless one is given.
    """
    if shown is None:
        shown = "none" if default in (None, ()) else str(default)
    if isinstance(default, bool):
        how["action"] = "store_false" if default else "store_true"
    else:
        says += f" (default: {shown})"
        if isinstance(default, (int, float, Path)):
            how.setdefault("type", type(default))
    return field(default=default, metadata={**how, "help": says, "group": group})


def add_fields(parser: argparse.ArgumentParser, settings: type) -> None:
    """Add a flag for each field of a dataclass that :func:`flag` made; a field that is on becomes ``--no-FIELD``."""
    groups: dict[str, Any] = {"": parser}
    for found in fields(settings):
        how = dict(found.metadata)
        group = how.pop("group")
        if group not in groups:
            groups[group] = parser.add_argument_group(group)
        name = ("no-" if found.default is True else "") + found.name.replace("_", "-")
        groups[group].add_argument(f"--{name}", dest=found.name, default=argparse.SUPPRESS, **how)


def given_fields(args: argparse.Namespace, settings: type) -> dict[str, Any]:
    """Return the fields of a dataclass that the command line gave; those that may be given more than once as tuples."""
    given = {found.name: getattr(args, found.name) for found in fields(settings) if hasattr(args, found.name)}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}


def command(
    build_parser: Callable[[], argparse.ArgumentParser], body: Callable[[argparse.Namespace], int]
) -> Callable[..., int]:
    """Return a ``main``, which runs ``body`` with a command line (None: the process's) and returns its exit code.

    ``--quiet`` and ``--debug`` are added to the flags. What ``body`` raises becomes one line and an exit code: 1 the
    run failed, 2 wrong usage or input, 130 interrupted or ended by SIGTERM.
    """

    def main(argv: Sequence[str] | None = None) -> int:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # whatever is printed, also where they are no UTF-8
        parser = build_parser()
        parser.add_argument("-q", "--quiet", action="store_true", help="print only warnings, errors and results")
        parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
        args = parser.parse_args(argv)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: locks and half-made folders go
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
        except BrokenPipeError:  # the reader of standard output has seen enough, as head has
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return code
        except Exception as error:
            if args.debug:
                print(redact(traceback.format_exc()), file=sys.stderr)
            line, code = f"{type(error).__name__}: {error}; run again with --debug for the traceback", EXIT_FAILED
            if isinstance(error, PipelineError):
                line, code = str(error), error.exit_code
            elif isinstance(error, OSError) and error.filename:
                line, code = f"{error.filename}: {error.strerror}: give another path", EXIT_USAGE
            print(f"error: {redact(' '.join(line.split()))}", file=sys.stderr)
            return code

    return main
