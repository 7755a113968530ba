"""What a phase prints: a summary for people, then where its result lies, or with ``--output -`` the result itself."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from qwen25.runtime.files import json_text, write_files

#: As ``--output``: the result goes to standard output, and all else that is printed to standard error.
STDOUT = Path("-")


@contextmanager
def for_people(args: argparse.Namespace) -> Iterator[None]:
    """Send what is printed meanwhile nowhere with ``--quiet``, and keep it out of a result on standard output."""
    if args.quiet:
        with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
            yield
    else:
        with redirect_stdout(sys.stderr if args.output == STDOUT else sys.stdout):
            yield


def write_result(output: Path, result: Any, reports: Mapping[Path, bytes | str] | None = None) -> None:
    """Write a result file, and the reports that belong to it, as ``write_files`` does.

    :raises PipelineError: if a file cannot be written.
    """
    contents = dict(reports or {})
    if output != STDOUT:
        contents[output] = json_text(result)  # the last: a run that is stopped between them leaves the old one
    write_files(contents)


def print_result(output: Path, result: Any) -> None:
    """Print where the result is, or the result itself."""
    if output == STDOUT:
        print(json_text(result), end="")
    else:
        print(output)
