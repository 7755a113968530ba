"""The demo's last step: ``python -m qwen25.reports.demo FOLDER`` writes FOLDER/report.md and prints the summary."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qwen25.evaluation.results import Comparison, EvaluationFile
from qwen25.reports.comparison_report import (
    COST_HEADER,
    QUALITY_HEADER,
    QUALITY_IMPORTANCE,
    comparison_remarks,
    cost_rows,
    missing_lines,
    quality_rows,
    recommendation_lines,
)
from qwen25.reports.evaluation_report import EVALUATION_HEADER, evaluation_remarks, evaluation_rows
from qwen25.reports.results import read_results
from qwen25.runtime import console
from qwen25.runtime.console import Parser, add_common_flags
from qwen25.runtime.display import print_lines, print_table
from qwen25.runtime.errors import EXIT_OK, as_input_error
from qwen25.runtime.files import write_text
from qwen25.runtime.markdown import table, text
from qwen25.runtime.wording import size_text


def summarise(args: argparse.Namespace) -> int:
    """Render the report from the demo's result files and print a summary table.

    :raises InputError: if a result file is missing, or is not one of this version.
    """
    folder = args.folder
    results = read_results(folder / "model", folder / "eval_results.json", folder / "comparison_results.json")
    metadata, evaluation, comparison = results
    with as_input_error(f"the results in {folder} are not those of this version", "run the demo again"):
        text = "# Demo\n\n" + demo_markdown(metadata, evaluation, comparison)
        rows, remarks = quality_rows(comparison), evaluation_remarks(evaluation)
    write_text(folder / "report.md", text)
    if not args.quiet:
        print_table("Demo", QUALITY_HEADER, rows, QUALITY_IMPORTANCE)
        print_lines(remarks)
    files = (
        "model",
        "eval_results.json",
        "eval_report.html",
        "comparison_results.json",
        "comparison.html",
        "report.md",
    )
    print(f"Files in {folder}: {', '.join(files)}")
    return EXIT_OK


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: the process's) and return the exit code."""
    parser = Parser(story=__doc__)
    parser.add_argument("folder", type=Path, help="what the demo wrote")
    add_common_flags(parser)
    return console.run(parser, summarise, argv)


def demo_markdown(
    metadata: dict[str, Any], evaluation: EvaluationFile, comparison: Comparison, heading: int = 2
) -> str:
    """Render what the demo made, what it scores and what it is set beside.

    :param heading: the level of its headings.
    """
    teacher, sizes = metadata["teacher"], metadata["sizes_bytes"]
    marks = "#" * heading
    facts = [
        ["teacher", f"{teacher['name']}: {teacher['layers']} layers x {teacher['hidden_size']}"],
        ["model", f"{metadata['vocabulary']['tokens']:,} tokens x {metadata['dims']} dimensions"],
        [
            "size",
            f"{size_text(sizes['model.safetensors'])} of vectors, {size_text(sizes['tokenizer.json'])} of tokenizer",
        ],
        ["distilled in", f"{metadata['wall_seconds']:.0f} s on {metadata['hardware']['device']}"],
        ["computed on", f"{metadata['hardware']['processor']}, {metadata['hardware']['cores']} cores"],
        ["created", metadata["created"]],
    ]
    lines = [f"{marks} The demo's model", "", *table(["what", "measured"], facts), ""]
    lines += [f"{marks} Its scores", "", *table(EVALUATION_HEADER, evaluation_rows(evaluation)), ""]
    lines += [f"- {text(remark)}" for remark in evaluation_remarks(evaluation)]
    lines += ["", f"{marks} Beside others", "", *_comparison_lines(comparison), ""]
    return "\n".join(lines)


def _comparison_lines(comparison: Comparison) -> list[str]:
    lines = [*table(QUALITY_HEADER, quality_rows(comparison)), ""]
    lines += [*table(COST_HEADER, cost_rows(comparison)), ""]
    lines_of = (comparison_remarks, recommendation_lines, missing_lines)
    remarks = [line for say in lines_of for line in say(comparison)]
    return lines + [f"- {text(remark)}" for remark in remarks]


if __name__ == "__main__":
    sys.exit(main())
