#!/usr/bin/env python3
"""Phase 3: should this model be deployed, and instead of what? Every system, on the same items, in the same run.

    python compare_qwen25_vs_all.py                                     # the model of phase 1 and its peers
    python compare_qwen25_vs_all.py --model MINE=path/to/folder --model MINILM=st:path/to/model
    python compare_qwen25_vs_all.py --ours DEMO=demo/model --output demo/comparison_results.json
    python compare_qwen25_vs_all.py --offline                           # never touch the network

Each row says how it was obtained: measured (here, now), published (somebody's figures, kept apart) or
unavailable (with the reason, and the command that makes it available). One model is in memory at a
time. Beside the result file lie comparison.png, comparison.md and comparison.html. Exit codes: 0 ok,
1 the run failed, 2 wrong usage or input.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qwen25.evaluation.categories.all import WEIGHTS
from qwen25.evaluation.comparison import SCHEMA_VERSION, Measured, difference, quality_per_mb
from qwen25.evaluation.evaluate import evaluate
from qwen25.evaluation.items import default_items_folder, items_sha256, load_items
from qwen25.evaluation.loading import SPECS, load_encoder
from qwen25.evaluation.outputs import check_outputs
from qwen25.evaluation.peers import CONTROL, OURS, PEERS, PUBLISHED
from qwen25.reports.comparison_report import (
    COST_HEADER,
    QUALITY_HEADER,
    comparison_html,
    comparison_markdown,
    comparison_png,
    comparison_remarks,
    cost_rows,
    quality_rows,
    recommendation_lines,
)
from qwen25.runtime import console
from qwen25.runtime.console import Parser, add_common_flags, seed
from qwen25.runtime.display import print_table
from qwen25.runtime.errors import EXIT_OK, InputError, PipelineError, redact
from qwen25.runtime.files import json_text, write_files
from qwen25.runtime.log import logger
from qwen25.runtime.provenance import Clock, provenance

MODEL = "models/qwen25-deposium-1024d"
OUTPUT = Path("model_comparison_results.json")
SEED = 42
MAX_NAME = 100


def named_model(text: str) -> tuple[str, str]:
    """Parse NAME=SPEC."""
    name, equals, spec = text.partition("=")
    if not (name and equals and spec):
        raise argparse.ArgumentTypeError(f"NAME=SPEC, for instance MINE=path/to/folder, not {text!r}")
    if not name.isprintable() or len(name) > MAX_NAME:
        raise argparse.ArgumentTypeError(f"a name has at most {MAX_NAME} characters, all of them printable")
    return name, spec


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--ours", type=named_model, default=(OURS, MODEL), metavar="NAME=SPEC",
        help=f"the model the others are compared with (default: {OURS}={MODEL})")  # fmt: skip
    add("--model", type=named_model, action="append", default=[], metavar="NAME=SPEC",
        help=f"one more model, or another place for a peer; repeatable (default: none). A SPEC is {SPECS}")  # fmt: skip
    add("--no-peers", action="store_true", help=f"leave out the usual peers: {', '.join(PEERS)} (default: add them)")
    add("--offline", action="store_true", help="use only what the hub's cache holds (default: off)")
    add("--items", type=Path, default=default_items_folder(), metavar="FOLDER",
        help="folder of the items (default: eval_data)")  # fmt: skip
    add("--output", type=Path, default=OUTPUT,
        help="result file; the reports are written beside it (default: %(default)s)")  # fmt: skip
    add("--seed", type=seed, default=SEED, help="of bootstrap, k-means and control (default: %(default)s)")
    add_common_flags(parser)
    return parser


def measure(
    name: str, spec: str, items: dict[str, Any], args: argparse.Namespace, control_health: bool = False
) -> Measured:
    """Load one model, score it and let it go again.

    :param control_health: measure its control whole, for a row of its own.
    :raises PipelineError: if it cannot be had or scored.
    """
    logger.info("scoring %s", name)
    measured = Measured.of(
        evaluate(load_encoder(spec, name, args.offline), items, args.seed, control_health=control_health)
    )
    gc.collect()  # before the next one is loaded
    return measured


def measured_row(name: str, what: str, measured: Measured, ours: Measured | None = None) -> dict[str, Any]:
    """Return the row of a model that was scored, beside ours if it is another."""
    row = {
        "name": name,
        "obtained": "measured",
        "what": what,
        "kind": measured.result["model"]["kind"],
        "result": measured.result,
        "quality_per_mb": quality_per_mb(measured.result),
    }
    return row if ours is None else row | {"difference_to_ours": difference(measured, ours)}


def missing_row(name: str, error: PipelineError) -> dict[str, Any]:
    """Return the row of a peer that could not be had: with what was published of it, if anything was."""
    peer = PEERS.get(name)
    return {
        "name": name,
        "obtained": "published" if name in PUBLISHED else "unavailable",
        "what": peer.what if peer else "",
        "reason": redact(" ".join(str(error).split())),
        "how": peer.how if peer else "run again with a connection to the hub",
    }


def compare(args: argparse.Namespace) -> int:
    """Run phase 3: score every model in turn, set them beside ours, write, report."""
    clock = Clock()
    if args.offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
    our_name, our_spec = args.ours
    named = dict(args.model)
    wanted = named | ({} if args.no_peers else {n: peer.spec for n, peer in PEERS.items() if n not in named})
    if our_name in wanted or CONTROL in (our_name, *wanted) or len(named) < len(args.model):
        raise InputError(f"each model needs a name of its own, and none may be {CONTROL!r}")
    reports = [args.output.parent / f"comparison.{kind}" for kind in ("png", "md", "html")]
    check_outputs([*reports, args.output], [our_spec, *wanted.values()], args.items)
    items = {category: load_items(args.items, category) for category in WEIGHTS}
    hashes = items_sha256(args.items, items)  # of what was read, whatever the files become meanwhile

    ours = measure(our_name, our_spec, items, args, control_health=True)
    models = [measured_row(our_name, "ours", ours)]
    if ours.control:
        models.append(measured_row(CONTROL, "ours with its directions drawn at random", ours.control, ours))
    clock.lap(our_name)
    for name, spec in wanted.items():
        try:
            peer = measure(name, spec, items, args)
        except InputError as error:
            if name in named:
                raise
            models.append(missing_row(name, error))
        except PipelineError as error:
            models.append(missing_row(name, error))
        else:
            models.append(measured_row(name, PEERS[name].what if name in PEERS else "", peer, ours))
        clock.lap(name)
    for row in models:
        row["published"] = PUBLISHED[row["name"]].as_json() if row["name"] in PUBLISHED else None

    comparison = {
        "schema_version": SCHEMA_VERSION,
        "ours": our_name,
        "models": models,
        "items_sha256": hashes,
        "step_seconds": clock.steps,
        **provenance(clock, args.seed),
    }
    contents: dict[Path, bytes | str] = {
        reports[0]: comparison_png(comparison),
        reports[1]: comparison_markdown(comparison),
        reports[2]: comparison_html(comparison),
        args.output: json_text(comparison),
    }
    write_files(contents)
    print_table("Quality", QUALITY_HEADER, quality_rows(comparison))
    print_table("Cost", COST_HEADER, cost_rows(comparison))
    for line in [*comparison_remarks(comparison), *recommendation_lines(comparison)]:
        print(line)
    for path in (args.output, *reports):
        print(path)
    return EXIT_OK


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: the process's) and return the exit code."""
    return console.run(build_parser(), compare, argv)


if __name__ == "__main__":
    sys.exit(main())
