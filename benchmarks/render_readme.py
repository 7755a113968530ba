#!/usr/bin/env python3
"""Write the numbers of README.md, docs/DEMO.md and the demo's announcement, and the README's picture, from its results.

bash run_qwen25.sh demo
python -m benchmarks.render_readme --from demo   # keep the demo's results in docs/results/demo, then render
python -m benchmarks.render_readme               # render again from the results kept
"""

from __future__ import annotations

import argparse
import shutil
import sys
import textwrap
from pathlib import Path
from typing import Any

from examples import help_search
from qwen25.evaluation.judgement import REFERENCE, ranked, summary
from qwen25.reports import plots
from qwen25.reports.results import cost_section, missing_section, quality_section, scores_section
from qwen25.runtime.files import read_json, write_files
from qwen25.runtime.text import rate_text, render_template, size_text, table, with_interval
from qwen25.store.packaged import PACKAGED
from qwen25.training.sources import MIXTURES, read_mixture

ROOT = Path(__file__).resolve().parent.parent
README, DEMO, PICTURE = ROOT / "README.md", ROOT / "docs" / "DEMO.md", ROOT / "docs" / "quality_size.png"
SHELL = ROOT / "run_qwen25.sh"

RESULTS = ROOT / "docs" / "results" / "demo"
#: What `bash run_qwen25.sh all --teacher qwen2.5-coder-1.5b` wrote beside its model.
ALL = ROOT / "docs" / "results" / "all_metadata.json"
FILES = {
    "model/metadata.json": "metadata.json",
    "eval_results.json": "eval_results.json",
    "comparison_results.json": "comparison_results.json",
}
#: The demo's search; none is kept of a demo before it had one.
SEARCH = "first_search.json"
#: The rows of the README's table at most.
ROWS = 5


def short_table(comparison: dict[str, Any]) -> str:
    """Return the best models of a comparison as a Markdown table."""
    rows = []
    for row in ranked(comparison)[:ROWS]:
        result = row["result"]
        size, rate = result["health"]["size_bytes"], result["health"].get("sentences_per_second")
        name = f"{row['name']}, {REFERENCE}" if row["obtained"] == REFERENCE else row["name"]
        rows.append([name, size_text(size), with_interval(result["overall"]), rate_text(rate) if rate else "-"])
    return "\n".join(table(["model", "size", "overall [95 % interval]", "speed"], rows))


def search_markdown(result: dict[str, Any]) -> str:
    """Return the demo's questions, the articles found and their count as Markdown."""
    rows = [[row["question"], row["found"] or "-", "yes" if row["right"] else "no"] for row in result["questions"]]
    return "\n".join([*table(["question", "article found", "right"], rows), "", help_search.summary(result)])


def demo_markdown(metadata: dict[str, Any], comparison: dict[str, Any]) -> str:
    """Render what the demo made, what it scores and what it is set beside."""
    return render_template(
        "demo.md",
        metadata=metadata,
        sizes={name: size_text(size) for name, size in metadata["sizes_bytes"].items()},
        scores=scores_section(comparison),
        said=summary(comparison),
        quality=quality_section(comparison),
        cost=cost_section(comparison),
        missing=missing_section(comparison).lines,
    )


def rendered() -> dict[Path, str]:
    """Return the documents with the blocks between their markers drawn from the results kept."""
    metadata, evaluation, comparison = (read_json(RESULTS / name) for name in FILES.values())
    readme, demo, shell = (document.read_text(encoding="utf-8") for document in (README, DEMO, SHELL))
    minutes = sum(result["wall_seconds"] for result in (metadata, evaluation, comparison)) / 60
    time = f"{minutes:.0f} minutes on {metadata['hardware']['cores']} cores"
    teacher, larger, peer = (
        PACKAGED[name].size for name in ("qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b", "all-minilm-l6-v2")
    )
    pairs = sum({entry["sha256"]: entry["bytes"] for entry in read_mixture(MIXTURES["packaged"])}.values())
    model = metadata["sizes_bytes"]
    (copy,) = (size for name, size in model.items() if name.endswith("/model.safetensors"))
    story = (
        f"It downloads Qwen2.5-Coder-0.5B-Instruct ({size_text(teacher)}), pairs of texts to train on "
        f"({size_text(pairs)}) and all-MiniLM-L6-v2 to compare with ({size_text(peer)}) from the package index; no "
        f"account, no hub. After that the run kept here took {time}; "
        f"it leaves a model of {size_text(model['model.safetensors'])} and a tokenizer of "
        f"{size_text(model['tokenizer.json'])}, with a copy of {size_text(copy)} for sentence-transformers."
    )
    announced = (
        f'echo "demo: Qwen2.5-Coder-0.5B at {metadata["vocabulary"]["max_size_mb"]:.0f} MB: downloads '
        f'{size_text(teacher + pairs + peer)} once, took {time} when measured"'
    )
    blocks = {"demo": wrapped(story), "table": short_table(comparison)}
    if (RESULTS / SEARCH).is_file():
        blocks["search"] = search_markdown(read_json(RESULTS / SEARCH))
    taken = read_json(ALL)
    seconds, words = taken["step_seconds"]["asking"], sum(taken["asked"].values())
    blocks["all"] = wrapped(
        f"Phase 1 of `all --teacher qwen2.5-coder-1.5b` took {taken['wall_seconds'] / 60:.0f} minutes on "
        f"{taken['hardware']['cores']} cores, {seconds / 60:.0f} of them for {words:,} words that the teacher is asked "
        f"for. On disk stand the teacher ({size_text(larger)}), a model as large as the demo's, and half-made steps "
        "meanwhile: `bash run_qwen25.sh distill --dry-run` says what time, memory and disk a run would take here."
    )
    for name, block in blocks.items():
        readme = with_block(readme, name, block, space="")
    return {
        README: readme,
        DEMO: with_block(demo, "demo", demo_markdown(metadata, comparison)),
        SHELL: with_block(shell, "demo", " " * 8 + announced, "# ", space=""),
    }


def wrapped(paragraph: str) -> str:
    """Return a paragraph in lines as long as the documents'."""
    return textwrap.fill(paragraph, 118, break_on_hyphens=False, break_long_words=False)


def with_block(content: str, name: str, block: str, marker: str = "<!-- ", space: str = "\n") -> str:
    """Return a document with the block between its markers, ``<!-- name:begin ... -->`` and its end, replaced.

    :param marker: what a marker begins with, as comments do in the document's language.
    :param space: what stands around the block.
    """
    start = content.index("\n", content.index(f"{marker}{name}:begin")) + 1
    end = content.rindex("\n", 0, content.index(f"{marker}{name}:end")) + 1  # with what it is indented by
    return content[:start] + space + block.strip("\n") + "\n" + space + content[end:]


def main() -> int:
    """Run the command line and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="demo", type=Path, help="folder of a demo run to keep (default: none)")
    args = parser.parse_args()
    if args.demo:
        RESULTS.mkdir(parents=True, exist_ok=True)
        for source, name in {**FILES, SEARCH: SEARCH}.items():
            shutil.copyfile(args.demo / source, RESULTS / name)
    for path, content in rendered().items():
        mode = path.stat().st_mode  # one of them is run
        write_files({path: content})
        path.chmod(mode)
    write_files({PICTURE: plots.png(plots.quality_against_size(read_json(RESULTS / FILES["comparison_results.json"])))})
    return 0


if __name__ == "__main__":
    sys.exit(main())
