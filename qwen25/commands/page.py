"""A page for the browser, to try a model without a server: one HTML file in which it searches as you type.

    qwen25 page --model demo/model --dims 512 --output page.html

The file holds the model, and asks no network. Exit codes: 0 ok, 1 the run failed, 2 wrong usage or input.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from qwen25.reports.page import write_page
from qwen25.runtime import console
from qwen25.runtime.errors import EXIT_OK
from qwen25.runtime.text import size_text


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = console.Parser("page", __doc__)
    add = parser.add_argument
    add("--model", type=Path, default=console.MODEL, help="folder of a static model (default: %(default)s)")
    add("--output", type=Path, default=Path("qwen25_page.html"), help="the HTML file (default: %(default)s)")
    add("--dims", type=int, help="keep only the first N dimensions (default: all)", metavar="N")
    add("--name", help="what the page calls the model (default: its own name)")
    return parser


def run(args: argparse.Namespace) -> int:
    """Write the page that the flags ask for."""
    write_page(args.model, args.output, args.dims, args.name)
    print(f"{args.output} ({size_text(args.output.stat().st_size)}): open it in a browser, or send it to somebody")
    return EXIT_OK


main = console.command(build_parser, run)
