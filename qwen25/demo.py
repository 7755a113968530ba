"""The demo's last step: ``python -m qwen25.demo FOLDER`` writes FOLDER/report.md and prints the summary."""

from __future__ import annotations

import sys
from pathlib import Path

from qwen25 import console, report
from qwen25.provenance import read_json, write_text


def main(folder: Path) -> int:
    """Render the report from the demo's result files and print a summary table.

    :raises InputError: if a result file is missing.
    """
    metadata = read_json(folder / "model" / "metadata.json")
    evaluation = read_json(folder / "eval_results.json")
    comparison = read_json(folder / "comparison_results.json")
    write_text(folder / "report.md", "# Demo\n\n" + report.demo_markdown(metadata, evaluation, comparison))
    console.print_table("Demo", report.QUALITY_HEADER, report.quality_rows(comparison))
    for remark in report.evaluation_remarks(evaluation):
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
    return console.EXIT_OK


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
