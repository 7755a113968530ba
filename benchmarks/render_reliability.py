#!/usr/bin/env python3
"""Run the whole test suite, count its outcome by promise, and write docs/RELIABILITY.md.

python -m benchmarks.render_reliability             # run (minutes), keep the outcome, render
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
from qwen25.runtime.files import read_json, write_files, write_json
from qwen25.runtime.provenance import Clock, provenance
from qwen25.runtime.text import table

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "docs" / "results" / "reliability.json"
DOCUMENT = ROOT / "docs" / "RELIABILITY.md"
#: What is promised -> what the names of its tests ("file.Class.test") hold.
PROMISES = {
    "A run that is stopped leaves the old model or the new one, and the next run resumes": ("test_faults.",),
    "An output replaces nothing that is no output": ("test_pipeline.TestOutput", "test_folders."),
    "A result file is the old one or the new one, complete": ("test_files.",),
    "Errors are one line, whatever the terminal is": ("test_console",),
    "The same inputs, seed and number of threads give the same bytes": ("same_bytes",),
    "A broken teacher, and impossible numbers, are refused with the reason": ("broken_teacher", "test_teacher."),
    "A hub that is absent, slow, gated, busy or cut off is one line, or is retried": ("test_hub.", "test_rehearsal."),
    "A packaged model is complete and as its publisher released it, or refused": ("test_packaged.",),
    "Pairs with any content are read, or are an error of one line": ("test_hub_pairs", "test_sources", "test_pairs"),
    "An upload is one commit or nothing": ("test_upload",),
    "A broken model is refused with the reason; any text has one finite vector": ("broken_model", "any_text"),
    "Items and results with any content are read, or are an error of one line": ("test_items", "changed_result"),
    "No foreign code runs, no secret is written, no other place is, texts are escaped": ("test_security",),
}
OUTCOMES = ("passed", "failed", "skipped")


def run_tests() -> dict[str, Any]:
    """Run every test; return how many passed, failed and were skipped, for each promise and in all.

    :raises PipelineError: if pytest could not run, or a promise has no test.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "outcome.xml"
        subprocess.run([sys.executable, "-m", "pytest", "-n", "auto", f"--junitxml={report}"], cwd=ROOT, check=False)
        if not report.is_file():
            raise PipelineError("pytest wrote no outcome: run bash run_qwen25.sh test")
        cases = list(ET.parse(report).iter("testcase"))  # noqa: S314 (pytest's own file of a moment ago)
    outcomes = [(f"{case.get('classname')}.{case.get('name')}", outcome_of(case)) for case in cases]
    rows = []
    for promise, places in PROMISES.items():
        found = [outcome for name, outcome in outcomes if any(place in name for place in places)]
        if not found:
            raise PipelineError(f"no test has {places} in its name: correct PROMISES")
        rows.append({"promise": promise, **{kind: found.count(kind) for kind in OUTCOMES}})
    return {"promises": rows, **{kind: sum(one == kind for _, one in outcomes) for kind in OUTCOMES}}


def outcome_of(case: ET.Element) -> str:
    """Return the outcome of one test."""
    if case.find("failure") is not None or case.find("error") is not None:
        return "failed"
    return "passed" if case.find("skipped") is None else "skipped"


def document(result: dict[str, Any]) -> str:
    """Render docs/RELIABILITY.md."""
    rows = [[row["promise"], *(str(row[kind]) for kind in OUTCOMES)] for row in result["promises"]]
    suites = [
        f"- Python {run['versions']['python']}, torch {run['versions']['torch']}, transformers "
        f"{run['versions']['transformers']}: " + ", ".join(f"{run[kind]:,} {kind}" for kind in OUTCOMES)
        for run in result["suites"]
    ]
    lines = [
        "# Reliability",
        "",
        "What is promised, and how often it was put to the test. Rendered by `python -m benchmarks.render_reliability`",
        f"from [`{RESULT.name}`](results/{RESULT.name}) ({result['created'][:10]}): do not edit.",
        "",
        *table(["promise", *OUTCOMES], rows),
        "",
        "Each whole suite, as last run in these environments (suites of one day differ from those of another):",
        "",
        *suites,
        "",
        "Not tested: a machine that loses power (files are flushed to the disk before they are moved into place),",
        "network file systems, and the page that `qwen25 page` writes in other browsers than Chromium. What is",
        "promised about security, and what is not: [SECURITY.md](../.github/SECURITY.md).",
        "",
    ]
    return "\n".join(lines)


def main() -> int:
    """Run the command line and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--render", action="store_true", help="from the outcome kept (default: run the tests)")
    if not parser.parse_args().render:
        clock, suites = Clock(), read_json(RESULT)["suites"]
        found = run_tests() | provenance(clock, None)
        promises = found.pop("promises")
        version = [found["versions"][name] for name in ("python", "torch")]
        others = [one for one in suites if [one["versions"][name] for name in ("python", "torch")] != version]
        about = {name: found[name] for name in ("created", "versions", "hardware")}
        write_json(RESULT, {"schema_version": 3, "promises": promises, "suites": [*others, found], **about})
    write_files({DOCUMENT: document(read_json(RESULT))})
    print(DOCUMENT)
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
