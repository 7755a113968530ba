"""Progress bars and tables on a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table


def silence_stdout() -> None:
    """Send standard output nowhere, what waits in its buffer too: at exit that would be one more error."""
    with suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


class _Console(Console):
    """A console that goes on printing, to nowhere, when its reader has seen enough: rich ends the process."""

    def on_broken_pipe(self) -> None:
        silence_stdout()


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
