#!/usr/bin/env python3
"""Phase 3: should this model be deployed, or another? All systems on the same items, in the same run.

    qwen25 compare                                     # the model of phase 1 and its peers
    qwen25 compare --on faq.csv                        # also on your own questions and answers
    qwen25 compare --model DEMO=demo/model --model X=st:path/to/x
    qwen25 compare -q --output - | jq '.models[].name' # the result into a pipe, and no reports

Each row says how it was obtained: measured (here, now), published (figures of others, kept apart) or unavailable
(with the reason, and the command that makes it available). comparison.png, comparison.md and comparison.html are
written beside the result file. Exit codes: 0 ok, 1 the run failed, 2 wrong usage or input.
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qwen25.evaluation.categories import items_sha256, load_categories
from qwen25.evaluation.evaluate import SEED, Evaluation, score_model
from qwen25.evaluation.models import CONTROL, OURS, PEERS, SPECS, load_encoder, named_spec
from qwen25.evaluation.own_data import add_model, results_of, start_runs
from qwen25.evaluation.own_pairs import Source
from qwen25.evaluation.results import COMPARISON_VERSION, check_outputs, measured_row, missing_row, result_file
from qwen25.reports.results import comparison_html, comparison_markdown, comparison_png, print_comparison
from qwen25.runtime import console
from qwen25.runtime.console import COMPARISON, MODEL, STDOUT
from qwen25.runtime.errors import EXIT_OK, InputError, PipelineError, logger
from qwen25.runtime.provenance import Clock


def compare(
    ours: str | Path = MODEL,
    others: Mapping[str, str] = {},
    *,
    on: Sequence[Source] = (),
    among: Sequence[str | Path] = (),
    peers: bool = True,
    seed: int = SEED,
    offline: bool = False,
) -> dict[str, Any]:
    """Score a model and others on the same items, and return the content of the result file.

    :param ours: the model that the others are compared with: a folder, another SPEC (see ``SPECS``) or NAME=SPEC.
    :param others: name -> SPEC of further models; one with a peer's name takes its place.
    :param on: files of your own pairs, as FILE or FILE:LEFT,RIGHT, or lists of pairs (query, answer).
    :param among: files of documents that are no answer to them.
    :param peers: add the usual peers; one that cannot be had is left out with the reason.
    :param offline: fetch nothing, neither from the hub nor by pip.
    :raises InputError: if two models have one name, or ours, one of the others or a file cannot be loaded.
    :raises PipelineError: if ours cannot be had for another reason, such as a hub that does not answer.
    """
    clock = Clock()
    # 1. The systems, ours first: the others are measured against it.
    our_name, our_spec = named_spec(str(ours))
    rivals = {name: peer["spec"] for name, peer in PEERS.items() if peers and name not in others}
    if our_name in {**others, **rivals} or CONTROL in (our_name, *others):
        raise InputError(f"each model needs a name of its own, and none may be {CONTROL!r}")

    # 2. The items, hashed so that two results can be known to rest on the same ones.
    items, hashes = load_categories(), items_sha256()
    runs = start_runs(on, among, seed)

    def scored(spec: str, name: str, is_ours: bool = False) -> Evaluation:
        encoder = load_encoder(spec, name, offline)
        found = score_model(encoder, items, seed, control_health=is_ours)
        add_model(runs, encoder, seed, with_control=is_ours)
        return found

    # 3. Ours, with its random-direction control as a row of its own.
    logger.info("scoring %s", our_name)
    mine = scored(our_spec, our_name, is_ours=True)
    rows = [measured_row(our_name, "ours", mine)]
    if mine.control:
        rows.append(measured_row(CONTROL, "ours with its directions drawn at random", mine.control, mine))
    clock.lap(our_name)

    # 4. The others, on the same items and resamples: differences are paired, and so their intervals are narrow.
    for number, (name, spec) in enumerate({**others, **rivals}.items(), 1):
        logger.info("scoring %d of %d others: %s", number, len(others) + len(rivals), name)
        gc.collect()  # one model is in memory at a time
        try:
            found = scored(spec, name)
            rows.append(measured_row(name, PEERS.get(name, {}).get("what", ""), found, mine))
        except PipelineError as error:
            if name in others and isinstance(error, InputError):
                raise
            logger.info("    not measured: it cannot be had here")
            rows.append(missing_row(name, error))
        clock.lap(name)
    result: dict[str, Any] = {"ours": our_name, "models": rows}
    if runs:
        result["own_data"] = results_of(runs)
    return result_file(COMPARISON_VERSION, result, hashes, clock, seed)


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = console.Parser("compare", __doc__)
    add = parser.add_argument
    models = "the model that the others are compared with and, repeated, others: SPEC or NAME=SPEC"
    models += f" (default: {OURS}={MODEL}); a SPEC is {SPECS}"
    add("--model", action="append", default=[], metavar="MODEL", help=models)
    console.add_own_data_flags(parser)
    add("--no-peers", action="store_true", help=f"leave out the usual peers: {', '.join(PEERS)}")
    add("--offline", action="store_true", help="fetch nothing, from the hub or by pip")
    add("--output", type=Path, default=COMPARISON, help="result file, or - for standard output (default: %(default)s)")
    add("--seed", type=int, default=SEED, help="of bootstrap, k-means and control (default: %(default)s)")
    return parser


def run(args: argparse.Namespace) -> int:
    """Compare, write the result and its reports, and print the tables."""
    ours, *more = args.model or [str(MODEL)]
    others = dict(map(named_spec, more))
    if len(others) < len(more):
        raise InputError("each model needs a name of its own: two of --model have the same")
    png, md, html = (args.output.with_name(f"comparison.{kind}") for kind in ("png", "md", "html"))
    paths = [] if args.output == STDOUT else [png, md, html]
    with console.for_people(args):
        check_outputs(*paths, args.output)
        own = {"on": args.on, "among": args.among}
        result = compare(ours, others, **own, peers=not args.no_peers, seed=args.seed, offline=args.offline)
        reports: dict[Path, bytes | str] = {}
        if paths:
            reports = {png: comparison_png(result), md: comparison_markdown(result), html: comparison_html(result)}
        console.write_result(args.output, result, reports)
        print_comparison(result)
    console.print_result(args.output, result)
    for path in paths:
        print(path)
    return EXIT_OK


main = console.command(build_parser, run)


if __name__ == "__main__":
    sys.exit(main())
