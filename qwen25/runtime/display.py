"""Progress bars, tables and remarks on a terminal."""

from __future__ import annotations

import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from qwen25.runtime.log import is_quiet

#: Of a table that goes into a file or a pipe.
WIDTH_OF_FILES = 200
#: Names longer than this wrap where a table is too wide, between words if no word is longer than the other.
WRAPPED_NAME, LONGEST_WORD = 16, 24
#: The space inside an interval, at which no line is to end.
_IN_INTERVAL = re.compile(r"(?<=\d,) (?=[+-]?[\d.]+\])")


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
    """Show one progress bar on a terminal, and nothing elsewhere or with ``--quiet``; yields ``advance(steps)``."""
    # A step may take long, and the bar then stands still: the spinner does not.
    with _live(BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()) as bar:
        task = bar.add_task(description, total=total)
        yield lambda steps: bar.advance(task, steps)


@contextmanager
def working(description: str) -> Iterator[None]:
    """Show on a terminal that work without steps goes on, and for how long."""
    with _live(TimeElapsedColumn()) as bar:
        bar.add_task(description, total=None)
        yield


@contextmanager
def _live(*columns: ProgressColumn) -> Iterator[Progress]:
    """Show a line that moves on a terminal, and none elsewhere or with ``--quiet``."""
    console = Console(stderr=True)
    all_columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), *columns)
    hidden = is_quiet() or not console.is_terminal
    bar = Progress(*all_columns, console=console, transient=True, disable=hidden)
    if hidden:  # never started: older versions of rich end a bar that was not shown with an empty line
        yield bar
        return
    with bar:
        yield bar


def print_table(
    title: str, header: Sequence[str], rows: Sequence[Sequence[str]], importance: Sequence[int] | None = None
) -> None:
    """Print a table on standard output; its first column is left-aligned, the others right.

    Where it is too wide, columns are left out and named below it; what is shown is never cut.

    :param importance: the columns from the most to the least important (None: from left to right); the
        first column always stays.
    """
    # No markup: names are shown as they are.
    console = _Console(width=None if _is_narrow() else WIDTH_OF_FILES, markup=False, emoji=False)
    widths = _column_widths(header, rows, importance or range(len(header)), console.width)
    # Plain ASCII where no person looks: the table may land in a log or a file.
    table = Table(title=title, title_justify="left", box=box.ROUNDED if console.is_terminal else box.ASCII2)
    for i, width in widths.items():
        name = header[i] if cell_len(header[i]) <= width else header[i].replace(" [", "\n[")
        table.add_column(name, justify="left" if i == 0 else "right", width=width, overflow="fold")
    for row in rows:
        table.add_row(*(row[i] for i in widths))
    console.print(table)
    if left_out := [name for i, name in enumerate(header) if i not in widths]:
        console.print(f"A wider terminal also shows: {', '.join(left_out)}.")


def print_lines(lines: Sequence[str], title: str | None = None) -> None:
    """Print remarks on standard output, one a line; where a person looks, wrapped between words.

    :param title: printed above them if there are any.
    """
    width = _Console().width if _is_narrow() else None
    if title and lines:
        print(f"\n{title}")
    wrapper = textwrap.TextWrapper(
        width or 0, initial_indent="- ", subsequent_indent="  ", break_on_hyphens=False, break_long_words=False
    )
    for line in lines:
        whole = _IN_INTERVAL.sub("\u00a0", line)  # no space to textwrap
        print(wrapper.fill(whole).replace("\u00a0", " ") if width else f"- {line}")


def _is_narrow() -> bool:
    """Whether to keep to a width: a log or a file takes more than a terminal, unless COLUMNS says otherwise."""
    return sys.stdout.isatty() or "COLUMNS" in os.environ


def _column_widths(
    header: Sequence[str], rows: Sequence[Sequence[str]], importance: Sequence[int], room: int
) -> dict[int, int]:
    """Return the columns that a table of a width has room for, in their own order, and how wide each is.

    Cells are never cut; headers wrap between words, and names wrap where they are long.
    """
    cells = [max((cell_len(row[i]) for row in rows), default=0) for i in range(len(header))]
    least = [max(cells[i], *(cell_len(word) for word in ["", *header[i].split()])) for i in range(len(header))]
    words = (cell_len(word) for row in rows for word in row[0].split())
    least[0] = min(least[0], max(WRAPPED_NAME, *(word for word in words if word <= LONGEST_WORD), 0))
    widths = {0: least[0]}
    room -= least[0] + 4  # two borders, two spaces
    for i in importance:
        if i not in widths and least[i] + 3 <= room:  # one border, two spaces
            widths[i] = least[i]
            room -= least[i] + 3
    for i in widths:  # what is left lets names and headers stand on one line
        more = min(room, max(cells[i], cell_len(header[i])) - widths[i])
        widths[i] += max(0, more)
        room -= max(0, more)
    return dict(sorted(widths.items()))
