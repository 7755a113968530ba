"""Progress bars, tables and remarks on a terminal."""

from __future__ import annotations

import io
import logging
import os
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr

import rich.progress as bars
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from qwen25.runtime.errors import logger

#: The width that a table's first column keeps, where names are longer: they wrap.
LEAST_NAME = 20


def _console() -> Console:
    """Return a console for standard output that shows names as they are; a file or a pipe is 80 columns wide."""
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 80
    return Console(width=width, markup=False, emoji=False, highlight=False)


@contextmanager
def progress(description: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on a terminal, and nothing elsewhere or with ``--quiet``; yields ``advance(steps)``.

    :param total: the steps; None: the work has none.
    """
    console = Console(stderr=True)
    if not console.is_terminal or any(handler.level > logging.INFO for handler in logger.handlers):
        yield lambda steps: None
        return
    # A step may take long, and the bar then stands still: the spinner does not.
    columns = [bars.SpinnerColumn(), bars.TextColumn("{task.description}", markup=False), bars.TimeElapsedColumn()]
    if total:
        columns += [bars.BarColumn(), bars.MofNCompleteColumn(), bars.TimeRemainingColumn()]
    with bars.Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(description, total=total)
        yield lambda steps: bar.advance(task, steps)


@contextmanager
def quietly() -> Iterator[None]:
    """Keep the bars and notes that libraries write on standard error while they load out of terminal and log."""
    logging.getLogger("sentence_transformers").setLevel(logging.WARNING)
    logging.getLogger("transformers").setLevel(logging.ERROR)  # it lists every tensor of a file that is not loaded
    with redirect_stderr(io.StringIO()):
        yield


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on standard output, no wider than the terminal.

    The last columns that do not fit are left out and named below it, as are rows without a value in the others.
    """
    console = _console()
    # Headers wrap between words, cells do not, but for the first column's.
    columns = [[*name.split(), *(line for row in rows for line in row[i].split("\n"))] for i, name in enumerate(header)]
    widths = [max(map(cell_len, texts), default=0) for texts in columns]
    room, shown = console.width - min(widths[0], LEAST_NAME) - 4, 1
    while shown < len(header) and room >= widths[shown] + 3:
        room -= widths[shown] + 3
        shown += 1
    first = max(1, console.width - 4 - sum(width + 3 for width in widths[1:shown]))
    table = Table(title=title, title_justify="left", box=box.ROUNDED if console.is_terminal else box.ASCII2)
    table.add_column(header[0], overflow="fold", width=min(widths[0], first))
    for name, width in zip(header[1:shown], widths[1:shown], strict=True):
        table.add_column(name, justify="right", width=width)
    empty = [row[0] for row in rows if set(row[1:shown]) == {"-"}]
    for row in rows:
        if row[0] not in empty:
            table.add_row(*row[:shown])
    with console.capture() as lines:  # printed as all else is, so that a closed or full output is noticed in one place
        console.print(table)
    print("\n".join(line.rstrip() for line in lines.get().splitlines()))
    if empty:
        print_lines([f"Without a value in these columns: {', '.join(empty)}."])
    if left_out := header[shown:]:
        print_lines([f"A wider terminal also shows: {', '.join(left_out)}."])


def print_lines(lines: Sequence[str], title: str | None = None) -> None:
    """Print remarks on standard output, wrapped between words, below ``title`` if there are any."""
    if title and lines:
        print(f"\n{title}")
    how = {"initial_indent": "- ", "subsequent_indent": "  ", "break_on_hyphens": False, "break_long_words": False}
    for line in lines:
        print(textwrap.fill(line, _console().width, **how))  # type: ignore[arg-type]
