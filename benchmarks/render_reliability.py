#!/usr/bin/env python3
"""Write docs/RELIABILITY.md from a run of the tests that inject faults.

python -m benchmarks.render_reliability             # run them (minutes), keep the outcome, render
python -m benchmarks.render_reliability --all       # run every test there is, and keep also how many passed with
                                                    # this Python and these libraries, beside what others gave
python -m benchmarks.render_reliability --render    # render again from the outcome kept
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

from qwen25.runtime.errors import EXIT_OK, PipelineError
from qwen25.runtime.files import read_json, write_json, write_text
from qwen25.runtime.markdown import table as markdown_table
from qwen25.runtime.provenance import Clock, provenance

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "docs" / "results" / "reliability.json"
DOCUMENT = ROOT / "docs" / "RELIABILITY.md"
#: What is promised -> where it is tested: file and class.
PROMISES: dict[str, list[tuple[str, str | None]]] = {
    "A run that is killed at any moment leaves the old model or the new one, and the next run ends with the same "
    "bytes as one that was left in peace": [("test_faults", "TestKilled"), ("test_faults", "TestKilledWithEveryForm")],
    "A result file is whole or not there, and never takes the place of what the run reads": [
        ("test_faults", "TestResultFiles"),
        ("test_comparison", "TestWriting"),
    ],
    "Whatever the terminal is, closed, full or not UTF-8: no result is lost, and an error is one line": [
        ("test_console", None)
    ],
    "A full or read-only disk is one line, and costs nothing that was good before": [("test_faults", "TestDisk")],
    "Two runs never work on one output folder": [("test_faults", "TestTwoAtOnce")],
    "The same inputs, seed and number of threads give the same bytes; metadata and checkpoints name the threads": [
        ("test_faults", "TestThreads"),
        ("test_checkpoint", None),
        ("test_trainer", None),
        ("test_soft_targets", None),
    ],
    "A teacher that is broken, incomplete or odd is refused with the reason, or distilled right": [
        ("test_faults", "TestTeachers"),
        ("test_weights", None),
    ],
    "Numbers that cannot be are refused before any work": [("test_faults", "TestNumbers")],
    "The hub may be gone, slow, gated, busy or cut off": [("test_teacher", "TestHub"), ("test_comparison", "TestHub")],
    "A packaged model comes whole, once and as its publisher released it, or is refused with the reason": [
        ("test_packaged", None)
    ],
    "Whatever stands in a file or data set of pairs, the worst is an error of one line": [
        ("test_hostile_pairs", None),
        ("test_hub_pairs", None),
    ],
    "An upload is one commit or nothing": [("test_upload", None)],
    "A broken model or item is refused with the reason": [
        ("test_hostile_input", "TestModels"),
        ("test_hostile_input", "TestItems"),
    ],
    "Whatever stands in a file of items or results, the worst is an error of one line": [
        ("test_hostile_input", "TestFuzz"),
        ("test_hostile_input", "TestResults"),
    ],
    "Any text has one finite vector": [("test_hostile_input", "TestTexts")],
    "No code of others runs, no secret is written down, nothing is written elsewhere, texts stay texts": [
        ("test_security", None)
    ],
}
#: The libraries whose versions tell one environment from another.
LIBRARIES = ("torch", "transformers", "sentence-transformers", "tokenizers", "safetensors", "numpy", "scikit-learn")


def run_tests(files: list[str]) -> list[dict[str, str]]:
    """Run the tests of ``files`` (none: all) and return one row a case: file, class, test, outcome.

    :raises PipelineError: if pytest could not run.
    """
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "outcome.xml"
        paths = [str(path) for file in files for path in (ROOT / "tests").rglob(f"{file}.py")]
        command = [sys.executable, "-m", "pytest", *paths, f"--junitxml={found}"]
        subprocess.run(command, cwd=ROOT, check=False)
        if not found.is_file():
            raise PipelineError("pytest wrote no outcome: run bash run_qwen25.sh test")
        cases = list(ET.parse(found).iter("testcase"))  # noqa: S314 - pytest's own file of a moment ago
    rows = []
    for case in cases:
        places = case.get("classname", "").split(".")
        file = next(name for name in places if name.startswith("test_"))
        outcome = next((kind for kind in ("failure", "error", "skipped") if case.find(kind) is not None), "passed")
        group = places[-1] if places[-1] != file else ""
        rows.append({"file": file, "class": group, "test": case.get("name", "").split("[")[0], "outcome": outcome})
    return rows


def counts(rows: list[dict[str, str]]) -> dict[str, int]:
    """Return how many cases passed, were skipped and failed."""
    outcomes = [row["outcome"] for row in rows]
    found = {kind: outcomes.count(kind) for kind in ("passed", "skipped")}
    return {**found, "failed": len(outcomes) - sum(found.values())}


def add_suite(result: dict[str, Any], found: dict[str, Any]) -> None:
    """Put a run of the suite into the result, in place of one with the same Python and torch."""

    def environment(run: dict[str, Any]) -> tuple[list[int], str]:
        python, torch = run["versions"]["python"], run["versions"]["torch"]
        return [int(part) for part in python.split(".")[:2]], torch.partition("+")[0]

    others = [run for run in result["suites"] if environment(run) != environment(found)]
    result["suites"] = sorted([*others, found], key=environment)


def document(result: dict[str, Any]) -> str:
    """Render docs/RELIABILITY.md."""
    lines = [
        "# Reliability",
        "",
        "What is promised, and how often it was put to the test. Rendered from the outcome of the tests",
        f"({result['created']}, Python {result['versions']['python']}, torch {result['versions']['torch']}) by "
        "`python -m benchmarks.render_reliability`.",
        "",
    ]
    summary, details = [], []
    for promise, places in PROMISES.items():
        rows = [r for r in result["cases"] if any(r["file"] == f and c in (None, r["class"]) for f, c in places)]
        found = counts(rows)
        summary.append([promise, str(len(rows)), *(str(found[kind]) for kind in ("passed", "failed", "skipped"))])
        details += [f"## {promise}", ""]
        for test in dict.fromkeys((row["file"], row["test"]) for row in rows):
            kinds = [row["outcome"] for row in rows if (row["file"], row["test"]) == test]
            passed = f"{kinds.count('passed')} of {len(kinds)}" if len(kinds) > 1 else kinds[0]
            details.append(f"- {test[1].removeprefix('test_').replace('_', ' ')}: {passed}")
        details.append("")
    header = ["promise", "cases", "survived", "failed", "skipped"]
    lines += [*markdown_table(header, summary), ""]
    if result["suites"]:
        lines += [
            "The whole suite, in the oldest versions that are supported (`bash run_qwen25.sh test --oldest`) and in",
            "those of `constraints_qwen25.txt`:",
            "",
        ]
        rows = [
            [run["versions"].get(name, "-") for name in ("python", *LIBRARIES)]
            + [str(run[kind]) for kind in ("passed", "failed", "skipped")]
            for run in result["suites"]
        ]
        lines += [*markdown_table(["Python", *LIBRARIES, "passed", "failed", "skipped"], rows), ""]
    lines += [
        "Not tested: a machine that loses power (files are flushed to the disk before they are moved into place, which",
        "is all that a program can do), network file systems, and the page that `qwen25 page` writes in other browsers",
        "than Chromium: there, that it loads nothing, that its texts stay texts and that its rankings are Python's is",
        "tested (`tests/publication/test_page.py`), and not counted above.",
        "What is promised about security, and what is not: [SECURITY.md](../SECURITY.md).",
        "",
    ]
    return "\n".join([*lines, *details]).rstrip() + "\n"


def main() -> int:
    """Run the command line and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--all", action="store_true", help="every test, with these versions (default: those of faults)")
    how.add_argument("--render", action="store_true", help="from the outcome kept (default: run the tests)")
    args = parser.parse_args()
    if not args.render:
        clock, kept = Clock(), read_json(RESULT)
        files = {file for places in PROMISES.values() for file, _ in places}
        rows = run_tests([] if args.all else sorted(files))
        how_made = provenance(clock, None)
        result = {"schema_version": 2, "cases": [row for row in rows if row["file"] in files], "suites": kept["suites"]}
        if args.all:
            add_suite(result, {**counts(rows), **how_made})
        write_json(RESULT, {**result, **how_made})
    write_text(DOCUMENT, document(read_json(RESULT)))
    print(DOCUMENT)
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
