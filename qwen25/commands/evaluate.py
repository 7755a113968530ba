"""Phase 2: score a static model on six categories, beside its random-direction control.

    qwen25 eval                                   # the model of phase 1
    qwen25 eval --model demo/model --report report.html
    qwen25 eval --categories semantic_similarity code_understanding
    qwen25 eval --fail-under Good                 # exit 1 below that verdict
    qwen25 eval --fail-under 0.35 -q              # for CI
    qwen25 eval -q --output - | jq .overall       # the result into a pipe

Every score runs from 0 (chance) to 1 (perfect) and stands beside the same score of the control: the
model's own tokenizer and row norms with random directions, which can only match words. The verdict
is Poor, whatever the scores, if the model does not beat that control or if unrelated texts look
alike. Exit codes: 0 ok, 1 the run failed or is below --fail-under, 2 wrong usage or input.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from qwen25.evaluation.categories.all import WEIGHTS
from qwen25.evaluation.evaluate import evaluate
from qwen25.evaluation.items import default_items_folder, items_sha256, load_categories
from qwen25.evaluation.loading import SPECS, load_encoder
from qwen25.evaluation.outputs import check_outputs
from qwen25.evaluation.results import EvaluationFile, EvaluationResult, as_json, evaluation_file
from qwen25.evaluation.verdict import DECISION_TABLE, POOR
from qwen25.reports.evaluation_report import (
    evaluation_html,
    evaluation_remarks,
    standing_header,
    standing_importance,
    standing_rows,
)
from qwen25.runtime import console
from qwen25.runtime.console import Parser, add_common_flags, seed
from qwen25.runtime.display import print_lines, print_table
from qwen25.runtime.errors import EXIT_FAILED, EXIT_OK
from qwen25.runtime.invocation import EVALUATION, MODEL
from qwen25.runtime.log import logger
from qwen25.runtime.provenance import Clock
from qwen25.runtime.summary import for_people, print_result, write_result

SEED = 42
VERDICTS = [name for name, _, _ in DECISION_TABLE] + [POOR]


def fail_under(text: str) -> str | float:
    """Parse --fail-under: a verdict's name or an overall score."""
    names = {name.lower(): name for name in VERDICTS}
    if text.lower() in names:
        return names[text.lower()]
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"a score or one of {', '.join(VERDICTS)}, not {text!r}") from None
    if not -1 <= value <= 1:
        raise argparse.ArgumentTypeError(f"a score lies between -1 and 1, not {text}")
    return value


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = Parser("eval", __doc__)
    add = parser.add_argument
    add("--model", default=str(MODEL), metavar="SPEC", help=f"{SPECS} (default: %(default)s)")
    add("--offline", action="store_true", help="use only what the hub's cache holds (default: off)")
    items = default_items_folder()
    add("--items", type=Path, default=items, metavar="FOLDER", help="folder of the items (default: eval_data)")
    names = list(WEIGHTS)
    only = f"only these, and no verdict (default: all: {', '.join(names)})"
    add("--categories", nargs="+", choices=names, default=names, metavar="NAME", help=only)
    output = "result file, or - for standard output (default: %(default)s)"
    add("--output", type=Path, default=EVALUATION, help=output)
    add("--report", type=Path, metavar="HTML", help="also write one self-contained page with plots (default: none)")
    below = f"exit 1 below this overall score or verdict: {', '.join(VERDICTS)} (default: never)"
    add("--fail-under", type=fail_under, metavar="VALUE", help=below)
    add(
        "--json-only",
        action="store_true",
        dest="quiet",
        default=argparse.SUPPRESS,
        help="the same as --quiet (default: off)",
    )
    add("--seed", type=seed, default=SEED, help="of bootstrap, k-means and control (default: %(default)s)")
    add_common_flags(parser)
    return parser


def is_below(result: EvaluationResult, limit: str | float) -> bool:
    """Whether the result is below --fail-under; a run without a verdict is below every verdict."""
    if isinstance(limit, float):
        return bool(result["overall"]["score"] < limit)
    name = result["verdict"]["verdict"]
    return name is None or VERDICTS.index(name) > VERDICTS.index(limit)


def measured(args: argparse.Namespace) -> EvaluationFile:
    """Load the model and the items, and score it."""
    clock = Clock()
    check_outputs([args.output, *filter(None, [args.report])], [args.model], args.items)
    categories = [name for name in WEIGHTS if name in args.categories]
    items = load_categories(args.items, categories)
    hashes = items_sha256(args.items, categories)  # of what was read, whatever the files become meanwhile
    encoder = load_encoder(args.model, offline=args.offline)
    clock.lap("load")

    logger.info("scoring %s on %d items", encoder.name, sum(map(len, items.values())))
    evaluation = evaluate(encoder, items, args.seed)
    clock.lap("score")
    return evaluation_file(as_json(evaluation), hashes, clock, args.seed)


def run_evaluation(args: argparse.Namespace) -> int:
    """Run phase 2: load, score, write, report."""
    with for_people(args):
        result = measured(args)
        write_result(args.output, result, {args.report: evaluation_html(result)} if args.report else {})
        name = result["model"]["name"]
        print_table(name, standing_header(result), standing_rows(result), standing_importance(result))
        print_lines(evaluation_remarks(result))
    print_result(args.output, result)
    if args.fail_under is not None and is_below(result, args.fail_under):
        logger.warning("below --fail-under %s", args.fail_under)
        return EXIT_FAILED
    return EXIT_OK


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: the process's) and return the exit code."""
    return console.run(build_parser(), run_evaluation, argv)
