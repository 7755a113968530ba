"""Phase 3: should this model be deployed, and instead of what? Every system, on the same items, in the same run.

    qwen25 compare                                     # the model of phase 1 and its peers
    qwen25 compare --model MINE=path/to/folder --model MINILM=st:path/to/model
    qwen25 compare --ours DEMO=demo/model --output demo/comparison_results.json
    qwen25 compare --offline                           # never touch the network
    qwen25 compare -q --output - | jq '.models[].name' # the result into a pipe, and no reports

Each row says how it was obtained: measured (here, now), published (somebody's figures, kept apart) or
unavailable (with the reason, and the command that makes it available). One model is in memory at a
time. Beside the result file lie comparison.png, comparison.md and comparison.html. Exit codes: 0 ok,
1 the run failed, 2 wrong usage or input.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from qwen25.evaluation.comparison import compare
from qwen25.evaluation.items import default_items_folder, items_sha256, load_categories
from qwen25.evaluation.loading import SPECS
from qwen25.evaluation.outputs import check_outputs
from qwen25.evaluation.peers import OURS, PEERS
from qwen25.evaluation.results import ComparisonFile, comparison_file
from qwen25.reports.comparison_report import (
    COST_HEADER,
    COST_IMPORTANCE,
    QUALITY_HEADER,
    QUALITY_IMPORTANCE,
    comparison_html,
    comparison_markdown,
    comparison_png,
    comparison_remarks,
    cost_rows,
    missing_lines,
    quality_rows,
    recommendation_lines,
)
from qwen25.runtime import console
from qwen25.runtime.console import Parser, add_common_flags, seed
from qwen25.runtime.display import print_lines, print_table
from qwen25.runtime.errors import EXIT_OK, InputError
from qwen25.runtime.invocation import COMPARISON, MODEL
from qwen25.runtime.provenance import Clock
from qwen25.runtime.summary import STDOUT, for_people, print_result, write_result
from qwen25.runtime.wording import LONGEST_NAME, is_name

SEED = 42


def named_model(text: str) -> tuple[str, str]:
    """Parse NAME=SPEC."""
    name, equals, spec = text.partition("=")
    if not (name and equals and spec):
        raise argparse.ArgumentTypeError(f"NAME=SPEC, for instance MINE=path/to/folder, not {text!r}")
    if not is_name(name):
        raise argparse.ArgumentTypeError(f"a name has at most {LONGEST_NAME} characters, all of them printable")
    return name, spec


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = Parser("compare", __doc__)
    add = parser.add_argument
    ours = f"the model the others are compared with (default: {OURS}={MODEL})"
    add("--ours", type=named_model, default=(OURS, str(MODEL)), metavar="NAME=SPEC", help=ours)
    more = f"one more model, or another place for a peer; repeatable (default: none). A SPEC is {SPECS}"
    add("--model", type=named_model, action="append", default=[], metavar="NAME=SPEC", help=more)
    add("--no-peers", action="store_true", help=f"leave out the usual peers: {', '.join(PEERS)} (default: add them)")
    add("--offline", action="store_true", help="use only what the hub's cache holds (default: off)")
    items = default_items_folder()
    add("--items", type=Path, default=items, metavar="FOLDER", help="folder of the items (default: eval_data)")
    output = "result file, beside which the reports are written, or - for standard output (default: %(default)s)"
    add("--output", type=Path, default=COMPARISON, help=output)
    add("--seed", type=seed, default=SEED, help="of bootstrap, k-means and control (default: %(default)s)")
    add_common_flags(parser)
    return parser


def measured(args: argparse.Namespace, reports: Sequence[Path]) -> ComparisonFile:
    """Score every model in turn, and set them beside ours."""
    clock = Clock()
    if args.offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
    others = dict(args.model)
    if len(others) < len(args.model):
        raise InputError("each model needs a name of its own: two of --model have the same")
    peers = {} if args.no_peers else PEERS
    specs = [args.ours[1], *others.values(), *(peer.spec for peer in peers.values())]
    check_outputs([*reports, args.output], specs, args.items)
    items = load_categories(args.items)
    hashes = items_sha256(args.items, items)  # of what was read, whatever the files become meanwhile
    found = compare(args.ours, others, items, args.seed, peers=peers, offline=args.offline, clock=clock)
    return comparison_file(found, hashes, clock, args.seed)


def run_comparison(args: argparse.Namespace) -> int:
    """Run phase 3: score, write, report."""
    kinds: dict[str, Callable[[ComparisonFile], bytes | str]] = {
        "png": comparison_png,
        "md": comparison_markdown,
        "html": comparison_html,
    }
    places = {args.output.parent / f"comparison.{kind}": draw for kind, draw in kinds.items()}
    if args.output == STDOUT:
        places = {}
    with for_people(args):
        comparison = measured(args, list(places))
        write_result(args.output, comparison, {path: draw(comparison) for path, draw in places.items()})
        print_table("Quality", QUALITY_HEADER, quality_rows(comparison), QUALITY_IMPORTANCE)
        print_table("Cost", COST_HEADER, cost_rows(comparison), COST_IMPORTANCE)
        print_lines(comparison_remarks(comparison), "In short")
        print_lines(recommendation_lines(comparison), "Which model for which need")
        print_lines(missing_lines(comparison), "Not measured")
    print_result(args.output, comparison)
    for path in places:
        print(path)
    return EXIT_OK


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: the process's) and return the exit code."""
    return console.run(build_parser(), run_comparison, argv)
