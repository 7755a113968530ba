#!/usr/bin/env python3
"""Write the measured numbers of README.md and docs/DEMO.md, and the README's picture, from the demo's result files.

bash run_qwen25.sh demo
python -m benchmarks.render_readme --from demo   # keep the demo's results in docs/results/demo, then render
python -m benchmarks.render_readme               # render again from the results kept
python -m benchmarks.render_readme --check       # exit 1 if a document says something else
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from qwen25.evaluation.recommendations import ranked
from qwen25.evaluation.results import Comparison
from qwen25.reports import plots
from qwen25.reports.demo import demo_markdown
from qwen25.runtime.files import read_json, write_bytes, write_text
from qwen25.runtime.markdown import table
from qwen25.runtime.wording import size_text, with_interval

ROOT = Path(__file__).resolve().parent.parent
README, DEMO, PICTURE = ROOT / "README.md", ROOT / "docs" / "DEMO.md", ROOT / "docs" / "quality_size.png"

RESULTS = ROOT / "docs" / "results" / "demo"
FILES = {
    "model/metadata.json": "metadata.json",
    "eval_results.json": "eval_results.json",
    "comparison_results.json": "comparison_results.json",
}
#: The rows of the README's table at most.
ROWS = 5


def short_table(comparison: Comparison) -> str:
    """Return the best models of a comparison as a Markdown table."""
    rows = []
    for row in ranked(comparison)[:ROWS]:
        result = row["result"]
        size, rate = result["health"]["size_bytes"], result["health"]["sentences_per_second"]
        rows.append([row["name"], size_text(size) if size else "-", with_interval(result["overall"]), f"{rate:,.0f}"])
    return "\n".join(table(["model", "size", "overall [95 % interval]", "sentences/s"], rows))


def rendered() -> dict[Path, str]:
    """Return the documents with the blocks between their markers drawn from the results kept."""
    metadata, evaluation, comparison = (read_json(RESULTS / name) for name in FILES.values())
    readme, demo = (document.read_text(encoding="utf-8") for document in (README, DEMO))
    minutes = sum(result["wall_seconds"] for result in (metadata, evaluation, comparison)) / 60
    time = f"The run kept here took {minutes:.0f} minutes on {metadata['hardware']['cores']} cores after the downloads."
    return {
        README: with_block(with_block(readme, "time", time), "table", short_table(comparison)),
        DEMO: with_block(demo, "demo", demo_markdown(metadata, evaluation, comparison)),
    }


def with_block(content: str, name: str, block: str) -> str:
    """Return a document with the block between its markers, ``<!-- name:begin ... -->`` and its end, replaced."""
    start = content.index("\n", content.index(f"<!-- {name}:begin")) + 1
    return content[:start] + "\n" + block.strip() + "\n\n" + content[content.index(f"<!-- {name}:end") :]


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
    documents = rendered()
    if args.check:
        return int(any(path.read_text(encoding="utf-8") != content for path, content in documents.items()))
    for path, content in documents.items():
        write_text(path, content)
    write_bytes(PICTURE, plots.png(plots.quality_against_size(read_json(RESULTS / FILES["comparison_results.json"]))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
