"""Phase 5: score a static model on MTEB, the public benchmark of text embeddings.

    qwen25 mteb                                     # a dozen small English tasks: minutes
    qwen25 mteb --tasks english-v2                  # the whole of MTEB(eng, v2)
    qwen25 mteb --tasks STS12 Banking77Classification --model demo/model
    qwen25 mteb --offline                           # only data that is already here

Data, metrics and scores are those of the `mteb` package, an optional part; scores
are multiplied by 100, as they are usually published. Each task's result is kept in --cache under the
model's hash: a run that was cut off goes on where it stopped, and no model gets another's score.
A task that fails costs the others nothing: the result file then says complete: false, and the run
exits with 1. Exit codes: 0 ok, 1 a task failed, 2 wrong usage or input.
"""

from __future__ import annotations

import argparse
import importlib.metadata
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from qwen25.evaluation.loading import load_encoder
from qwen25.evaluation.mteb_tasks import (
    BENCHMARKS,
    FORBIDDEN,
    QUICK,
    Row,
    as_mteb_model,
    go_offline,
    measure,
    quiet_mteb,
    tasks_named,
)
from qwen25.evaluation.outputs import check_outputs
from qwen25.runtime import console
from qwen25.runtime.console import Parser, add_common_flags
from qwen25.runtime.display import print_lines, print_table
from qwen25.runtime.errors import EXIT_OK, InputError, PipelineError
from qwen25.runtime.invocation import MODEL
from qwen25.runtime.log import logger
from qwen25.runtime.provenance import Clock, provenance
from qwen25.runtime.summary import for_people, print_result, write_result
from qwen25.store.model_files import model_folder

OUTPUT = Path("qwen25_1024d_mteb_results.json")
CACHE = Path("mteb_cache")
SEED = 42  # mteb's own, for what its tasks sample
SCHEMA_VERSION = 1
SOURCE = "as published with model2vec; quoted, not checked"
#: Averages over MTEB's English tasks; none was measured by this script.
PUBLISHED = {
    "all-MiniLM-L6-v2": 55.93,
    "potion-base-32M": 52.13,
    "potion-base-8M": 51.08,
    "M2V_base_output": 47.96,
    "GloVe_300d": 45.82,
}
REMARK = "Averages over different sets of tasks do not compare: published ones are for orientation beside english-v2."


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = Parser("mteb", __doc__)
    add = parser.add_argument
    sets = ", ".join(f"{name} (all of {benchmark})" for name, benchmark in BENCHMARKS.items())
    add(
        "--model",
        default=str(MODEL),
        metavar="SPEC",
        help="folder or hub id of a static model, or any other model of phase 3 that gives one vector a text, "
        "such as st:FOLDER (default: %(default)s)",
    )
    add(
        "--tasks",
        nargs="+",
        default=["quick"],
        metavar="NAME",
        help=f"names of MTEB's tasks, {sets} or quick: {', '.join(QUICK)} (default: quick)",
    )
    add(
        "--cache",
        type=Path,
        default=CACHE,
        metavar="FOLDER",
        help="where the results of finished tasks are kept (default: %(default)s)",
    )
    add("--overwrite", action="store_true", help="compute anew what is kept there (default: use it)")
    add("--offline", action="store_true", help="never ask the network: only what is already here (default: ask)")
    add("--output", type=Path, default=OUTPUT, help="result file, or - for standard output (default: %(default)s)")
    add_common_flags(parser)
    return parser


def means(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the finished tasks' mean scores: of each type, over the types and over the tasks."""
    scores: dict[str, list[float]] = {}
    for row in rows:
        if "score" in row:
            scores.setdefault(row["type"], []).append(row["score"])
    types = {name: fmean(values) for name, values in scores.items()}
    over_tasks = [score for values in scores.values() for score in values]
    return {
        "types": {name: round(value, 4) for name, value in types.items()},
        "over_types": round(fmean(types.values()), 4) if types else None,
        "over_tasks": round(fmean(over_tasks), 4) if types else None,
    }


def print_summary(result: dict[str, Any]) -> None:
    """Print the scores and their means and, in a column of their own, the published averages."""
    name, rows, mean = result["model"]["name"], result["tasks"], result["means"]
    table = [[r["name"], r["type"], r["metric"], f"{r['score']:.2f}" if "score" in r else "failed"] for r in rows]
    if mean["types"]:
        finished = sum("score" in row for row in rows)
        table += [[f"mean of {kind}", "", "", f"{value:.2f}"] for kind, value in mean["types"].items()]
        table.append([f"mean over {len(mean['types'])} types", "", "", f"{mean['over_types']:.2f}"])
        table.append([f"mean over {finished} of {len(rows)} tasks", "", "", f"{mean['over_tasks']:.2f}"])
    print_table(f"{name} on MTEB", ["task", "type", "metric", "measured"], table)
    if "english-v2" in result["selection"] and mean["types"]:
        header = ["model", "measured, over types", "measured, over tasks", "published average"]
        ours = [name, f"{mean['over_types']:.2f}", f"{mean['over_tasks']:.2f}", "-"]
        others = [[row["model"], "-", "-", f"{row['average']:.2f}"] for row in result["published"]]
        print_table("Beside published averages", header, [ours, *others])
        print_lines([f"Published averages: {SOURCE}."])
    print_lines([REMARK])


def failure(rows: Sequence[Row], cache: Path) -> PipelineError:
    """Return one error for the failed ``rows``: what the first one lacks, how many more failed, and what to do."""
    first, *others = rows
    step, reason = first["failed"]["step"], first["failed"]["reason"]
    what = f"the data of {first['name']} could not be downloaded" if step == "data" else f"{first['name']} failed"
    if step == "evaluation":
        advice = "run again with --debug for the traceback"
    else:
        advice = "run again without it" if reason in FORBIDDEN else "check the connection and run again"
    more = f" and {len(others)} more failed" if others else ""
    return PipelineError(f"{what} ({reason}){more}: {advice}; finished tasks are kept in {cache}")


def measured(args: argparse.Namespace) -> dict[str, Any]:
    """Load the model and score it task by task; a task that fails has a row that says so."""
    clock = Clock()
    try:
        args.cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write into {args.cache}: {error.strerror}; give another --cache") from error
    check_outputs([args.output], [args.model])  # now that the cache's folder is there, and cannot be given twice
    with quiet_mteb():
        tasks = tasks_named(args.tasks)
        encoder = load_encoder(args.model, offline=args.offline)
        model = as_mteb_model(encoder, model_folder(args.model))
        offline = go_offline(args.offline)
        clock.lap("load")
        rows = []
        for number, task in enumerate(tasks, 1):
            logger.info("%s (%d of %d)", task.metadata.name, number, len(tasks))
            options = {"overwrite": args.overwrite, "offline": offline, "debug": args.debug}
            rows.append(measure(model, task, args.cache, **options))
    clock.lap("score")

    result = {
        "schema_version": SCHEMA_VERSION,
        "model": {"name": encoder.name, "kind": encoder.kind, "dims": encoder.dims, "sha256": encoder.sha256},
        "selection": args.tasks,
        "complete": all("failed" not in row for row in rows),
        "tasks": rows,
        "means": means(rows),
        "published": [{"model": name, "average": value, "source": SOURCE} for name, value in PUBLISHED.items()],
        "step_seconds": clock.steps,
        **provenance(clock, SEED),
    }
    result["versions"] |= {name: importlib.metadata.version(name) for name in ("mteb", "datasets")}
    return result


def run_mteb(args: argparse.Namespace) -> int:
    """Run phase 5: score, write, report."""
    with for_people(args):
        result = measured(args)
        write_result(args.output, result)
        print_summary(result)
    print_result(args.output, result)
    if failed := [row for row in result["tasks"] if "failed" in row]:
        raise failure(failed, args.cache)
    return EXIT_OK


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: the process's) and return the exit code."""
    return console.run(build_parser(), run_mteb, argv)
