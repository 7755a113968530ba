#!/usr/bin/env python3
"""Write the measured numbers of README.md, from the demo's result files.

bash run_qwen25.sh demo
python -m benchmarks.render_readme --from demo   # keep the demo's results in docs/results/demo, then render
python -m benchmarks.render_readme               # render again from the results kept
python -m benchmarks.render_readme --check       # exit 1 if README.md says something else
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from qwen25.reports.demo import demo_markdown
from qwen25.runtime.files import read_json, write_text

ROOT = Path(__file__).resolve().parent.parent

RESULTS = ROOT / "docs" / "results" / "demo"
FILES = {
    "model/metadata.json": "metadata.json",
    "eval_results.json": "eval_results.json",
    "comparison_results.json": "comparison_results.json",
}
BEGIN, END = "<!-- demo:begin", "<!-- demo:end -->"


def rendered(readme: str) -> str:
    """Return the README with the block between its markers drawn from the results kept."""
    metadata, evaluation, comparison = (read_json(RESULTS / name) for name in FILES.values())
    start = readme.index("\n", readme.index(BEGIN)) + 1
    block = demo_markdown(metadata, evaluation, comparison, heading=3)
    return readme[:start] + "\n" + block + "\n" + readme[readme.index(END) :]


def main() -> int:
    """Run the command line and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="demo", type=Path, help="folder of a demo run to keep (default: none)")
    parser.add_argument("--check", action="store_true", help="write nothing, compare (default: write)")
    args = parser.parse_args()
    if args.demo:
        RESULTS.mkdir(parents=True, exist_ok=True)
        for source, name in FILES.items():
            shutil.copyfile(args.demo / source, RESULTS / name)
    readme = ROOT / "README.md"
    before = readme.read_text(encoding="utf-8")
    after = rendered(before)
    if args.check:
        return int(before != after)
    write_text(readme, after)
    return 0


if __name__ == "__main__":
    sys.exit(main())
