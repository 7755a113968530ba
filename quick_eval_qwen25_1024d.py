#!/usr/bin/env python3
"""Phase 2: score a static model on six categories, beside its random-direction control.

    qwen25 eval                                   # the model of phase 1
    qwen25 eval --model demo/model --output demo/eval_results.json
    qwen25 eval --on faq.csv                      # also on your own questions and answers
    qwen25 eval --fail-under 0.35 -q              # exit 1 below that score, or verdict; for CI
    qwen25 eval -q --output - | jq .overall       # the result into a pipe

Every score runs from 0 (chance) to 1 (perfect) and stands beside the same score of the control: the model's own
tokenizer and row norms with random directions, which can only match words. Exit codes: 0 ok, 1 the run failed or is
below --fail-under, 2 wrong usage or input.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qwen25.evaluation.categories import items_sha256, load_categories
from qwen25.evaluation.category import interval
from qwen25.evaluation.evaluate import SEED, score_model
from qwen25.evaluation.judgement import DECISION_TABLE, POOR
from qwen25.evaluation.models import SPECS, first_half, load_encoder, random_control
from qwen25.evaluation.own_data import add_model, results_of, start_runs
from qwen25.evaluation.own_pairs import Source
from qwen25.evaluation.results import EVALUATION_VERSION, as_json, check_outputs, result_file
from qwen25.evaluation.thresholds import measured_meaning
from qwen25.reports.results import evaluation_html, print_evaluation
from qwen25.runtime import console
from qwen25.runtime.console import EVALUATION, MODEL, STDOUT
from qwen25.runtime.errors import EXIT_FAILED, EXIT_OK, logger
from qwen25.runtime.provenance import Clock

VERDICTS = [*(name for name, _, _ in DECISION_TABLE), POOR]


def evaluate(
    model: str | Path = MODEL,
    *,
    on: Sequence[Source] = (),
    among: Sequence[str | Path] = (),
    seed: int = SEED,
    offline: bool = False,
) -> dict[str, Any]:
    """Score a model, and return the content of the result file.

    :param model: a folder or another SPEC (see ``SPECS``).
    :param on: files of your own pairs, as FILE or FILE:LEFT,RIGHT, or lists of pairs (query, answer).
    :param among: files of documents that are no answer to them.
    :param offline: fetch nothing, neither from the hub nor by pip.
    :raises InputError: if the model or a file cannot be loaded.
    :raises PipelineError: if the hub cannot be reached.
    """
    clock = Clock()
    # 1. The items, hashed so that two results can be known to rest on the same ones.
    items, hashes = load_categories(), items_sha256()
    runs = start_runs(on, among, seed)

    # 2. The model: only safetensors are read and no code of a repository is run.
    encoder = load_encoder(str(model), offline=offline)
    clock.lap("load")

    # 3. The scores of model and control, from the same items and resamples; then health: collapse, speed and size.
    logger.info("scoring %s on %d items", encoder.name, sum(map(len, items.values())))
    evaluation = score_model(encoder, items, seed)
    result = as_json(evaluation)
    if half := first_half(encoder):
        cut = score_model(half, items, seed, with_control=False, with_health=False)
        result["half"] = {"dims": half.dims, "score": cut.overall, "interval": list(interval(cut.replicates))}
    if encoder.matcher.has_vectors:
        control = random_control(encoder, seed)
        result["score_meaning"] = measured_meaning(encoder.matcher, control.matcher if control else None)
    clock.lap("score")
    add_model(runs, encoder, seed, with_control=True)
    if runs:
        result["own_data"] = results_of(runs)
        clock.lap("own data")

    # 4. The verdict, a part of the result: Poor for a model that does not beat its control or has collapsed.
    return result_file(EVALUATION_VERSION, result, hashes, clock, seed)


def fail_under(text: str) -> str | float:
    """Parse --fail-under: a verdict or an overall score."""
    names = {name.lower(): name for name in VERDICTS}
    try:
        return names.get(text.lower()) or float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"a score or one of {', '.join(VERDICTS)}, not {text!r}") from None


def is_below(result: dict[str, Any], limit: str | float) -> bool:
    """Whether a result is below --fail-under; a run without a verdict is below every verdict."""
    name = result["verdict"]["verdict"]
    if isinstance(limit, float):
        return not result["overall"]["score"] >= limit
    return name is None or VERDICTS.index(name) > VERDICTS.index(limit)


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = console.Parser("eval", __doc__)
    add = parser.add_argument
    add("--model", default=str(MODEL), metavar="SPEC", help=f"{SPECS} (default: %(default)s)")
    add("--offline", action="store_true", help="fetch nothing, from the hub or by pip")
    console.add_own_data_flags(parser)
    add("--output", type=Path, default=EVALUATION, help="result file, or - for standard output (default: %(default)s)")
    below = f"exit 1 below this overall score or verdict: {', '.join(VERDICTS)} (default: never)"
    add("--fail-under", type=fail_under, metavar="VALUE", help=below)
    add("--seed", type=int, default=SEED, help="of bootstrap, k-means and control (default: %(default)s)")
    return parser


def run(args: argparse.Namespace) -> int:
    """Evaluate, write the result and its page, and print the table."""
    report = args.output.with_name(f"{args.output.stem.replace('results', 'report')}.html")
    reports = [report] if args.output != STDOUT else []
    with console.for_people(args):
        check_outputs(args.output, *reports)
        result = evaluate(args.model, on=args.on, among=args.among, seed=args.seed, offline=args.offline)
        console.write_result(args.output, result, {path: evaluation_html(result) for path in reports})
        print_evaluation(result)
    console.print_result(args.output, result)
    if args.fail_under is not None and is_below(result, args.fail_under):
        logger.warning("below --fail-under %s", args.fail_under)
        return EXIT_FAILED
    return EXIT_OK


main = console.command(build_parser, run)


if __name__ == "__main__":
    sys.exit(main())
