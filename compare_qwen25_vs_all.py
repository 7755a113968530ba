#!/usr/bin/env python3
"""Phase 3: set our model beside every other one, measured on the same items in the same run.

    python compare_qwen25_vs_all.py
    python compare_qwen25_vs_all.py --model MINE=path/to/folder --model PLAIN=models/plain
    python compare_qwen25_vs_all.py --ours DEMO=demo/model --model MINILM=st:path/to/model --output out.json

A SPEC is the folder or hub id of a static model, st:FOLDER for a sentence-transformers model, or
wordllama: for WordLlama's wheel. The usual peers are added where they can be had; one that cannot
is reported as unavailable, with the reason. Exit codes: 0 ok, 1 the run failed, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qwen25 import console, report
from qwen25.console import InputError, PipelineError, logger
from qwen25.encoders import load_encoder
from qwen25.evaluation import Evaluation, as_json, default_items_folder, evaluate
from qwen25.items import WEIGHTS, items_sha256, load_items
from qwen25.provenance import Clock, provenance, write_json, write_text
from qwen25.scores import interval
from qwen25.teacher import packaged_path

OURS = "Qwen25-1024D=models/qwen25-deposium-1024d"
#: Peers that are always asked for. The static ones are made by phase 1 from their own teachers.
PEERS = {
    "Gemma-768D": "models/gemma-deposium-768d",
    "Qwen3-256D": "models/qwen3-deposium-256d",
    "WordLlama-256": "wordllama:",
    "all-MiniLM-L6-v2": "st:packaged:all-minilm-l6-v2",
}
OUTPUT = Path("model_comparison_results.json")
SEED = 42
SCHEMA_VERSION = 1


def named_model(text: str) -> tuple[str, str]:
    """Parse NAME=SPEC."""
    name, equals, spec = text.partition("=")
    if not (name and equals and spec):
        raise argparse.ArgumentTypeError(f"NAME=SPEC, for instance MINE=path/to/folder, not {text!r}")
    return name, spec


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--ours", type=named_model, default=OURS, metavar="NAME=SPEC",
        help="the model the others are compared with (default: %(default)s)")  # fmt: skip
    add("--model", type=named_model, action="append", default=[], metavar="NAME=SPEC",
        help="one more model; repeatable (default: none)")  # fmt: skip
    add("--no-peers", action="store_true", help=f"leave out the usual peers: {', '.join(PEERS)} (default: add them)")
    add("--items", type=Path, default=default_items_folder(), metavar="FOLDER",
        help="folder of the items (default: eval_data)")  # fmt: skip
    add("--output", type=Path, default=OUTPUT, help="result file (default: %(default)s)")
    add("--markdown", type=Path, metavar="FILE", help="also write the comparison as Markdown (default: none)")
    add("--seed", type=int, default=SEED, help="of bootstrap, k-means and control (default: %(default)s)")
    console.add_common_flags(parser)
    return parser


def difference(peer: Evaluation, ours: Evaluation) -> dict[str, Any]:
    """Return the peer's overall minus ours with its paired bootstrap interval, and a plain word for it."""
    low, high = interval(peer.replicates - ours.replicates)
    word = "better" if low > 0 else "worse" if high < 0 else "no difference shown"
    return {"value": round(peer.overall - ours.overall, 6), "interval": [round(low, 6), round(high, 6)], "word": word}


def measure(name: str, spec: str, items: dict[str, Any], seed: int) -> Evaluation:
    """Load one model, score it and let it go again.

    :raises PipelineError: if it cannot be had or scored.
    """
    if spec.startswith("st:packaged:"):
        spec = f"st:{packaged_path(spec.removeprefix('st:packaged:'))}"
    return evaluate(load_encoder(spec, name), items, seed)


def compare(args: argparse.Namespace) -> int:
    """Run phase 3: score every model in turn, set them beside ours, write."""
    clock = Clock()
    items = {category: load_items(args.items, category) for category in WEIGHTS}
    our_name, our_spec = args.ours
    wanted = dict(args.model) | ({} if args.no_peers else {n: s for n, s in PEERS.items() if n not in dict(args.model)})
    if our_name in wanted:
        raise InputError(f"two models are named {our_name}")
    logger.info("scoring %s", our_name)
    ours = measure(our_name, our_spec, items, args.seed)
    models: list[dict[str, Any]] = [{"name": our_name, "obtained": "measured", "result": as_json(ours)}]
    clock.lap(our_name)
    for name, spec in wanted.items():
        logger.info("scoring %s", name)
        try:
            peer = measure(name, spec, items, args.seed)
        except PipelineError as error:
            if name in dict(args.model):
                raise
            models.append({"name": name, "obtained": "unavailable", "reason": console.redact(str(error))})
        else:
            row = {"name": name, "obtained": "measured", "result": as_json(peer)}
            models.append(row | {"difference_to_ours": difference(peer, ours)})
        clock.lap(name)

    comparison = {
        "schema_version": SCHEMA_VERSION,
        "ours": our_name,
        "models": models,
        "items_sha256": items_sha256(args.items, items),
        "step_seconds": clock.steps,
        **provenance(clock, args.seed),
    }
    write_json(args.output, comparison)
    if args.markdown:
        write_text(args.markdown, report.comparison_markdown(comparison))
    console.print_table("Comparison", report.COMPARISON_HEADER, report.comparison_rows(comparison))
    for remark in report.comparison_remarks(comparison):
        print(remark)
    print(args.output)
    return console.EXIT_OK


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: the process's) and return the exit code."""
    return console.run(build_parser(), compare, argv)


if __name__ == "__main__":
    sys.exit(main())
