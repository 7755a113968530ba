"""The demo's last step: ``python -m qwen25.demo FOLDER`` writes FOLDER/report.md and prints the summary."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from qwen25 import report
from qwen25.runtime import console
from qwen25.runtime.console import Parser, add_common_flags
from qwen25.runtime.display import print_table
from qwen25.runtime.errors import EXIT_OK, as_input_error
from qwen25.runtime.files import write_text


def summarise(args: argparse.Namespace) -> int:
    """Render the report from the demo's result files and print a summary table.

    :raises InputError: if a result file is missing, or is not one of this version.
    """
    folder = args.folder
    results = report.read_results(folder / "model", folder / "eval_results.json", folder / "comparison_results.json")
    metadata, evaluation, comparison = results
    with as_input_error(f"the results in {folder} are not those of this version", "run the demo again"):
        text = "# Demo\n\n" + report.demo_markdown(metadata, evaluation, comparison)
        rows, remarks = report.quality_rows(comparison), report.evaluation_remarks(evaluation)
    write_text(folder / "report.md", text)
    print_table("Demo", report.QUALITY_HEADER, rows)
    for remark in remarks:
        print(remark)
    files = (
        "model",
        "eval_results.json",
        "eval_report.html",
        "comparison_results.json",
        "comparison.html",
        "report.md",
    )
    print("Files: " + ", ".join(str(folder / name) for name in files))
    return EXIT_OK


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: the process's) and return the exit code."""
    parser = Parser(description=__doc__)
    parser.add_argument("folder", type=Path, help="what the demo wrote")
    add_common_flags(parser)
    return console.run(parser, summarise, argv)


if __name__ == "__main__":
    sys.exit(main())
