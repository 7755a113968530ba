"""Phase 5: score a static model on MTEB, the public benchmark of text embeddings.

    qwen25 mteb                                     # a dozen small English tasks: minutes
    qwen25 mteb --tasks english-v2                  # the whole of MTEB(eng, v2)
    qwen25 mteb --tasks STS12 --model demo/model
    qwen25 mteb --offline                           # only data that is already here

Data and scores, times 100, are those of the `mteb` package, an optional part. Finished tasks are kept in
mteb_cache/: an interrupted run resumes when it is started again. A failed task does not stop the others, and the
result file then says complete: false. Exit codes: 0 ok, 1 a task failed, 2 wrong usage or input.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import io
import logging
import math
import sys
import warnings
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stderr
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from qwen25.evaluation.models import Encoder, load_encoder
from qwen25.evaluation.results import check_outputs
from qwen25.runtime import console
from qwen25.runtime.console import MODEL, extras_command
from qwen25.runtime.display import print_table
from qwen25.runtime.errors import EXIT_OK, InputError, PipelineError, as_input_error, logger, redact
from qwen25.runtime.files import read_json, resource, sha256
from qwen25.runtime.provenance import Clock, provenance
from qwen25.store.static_model import model_folder

OUTPUT = Path("qwen25_1024d_mteb_results.json")
CACHE = Path("mteb_cache")
SEED = 42  # mteb's own, for what its tasks sample
SCHEMA_VERSION = 1
BENCHMARKS = {"english-v2": "MTEB(eng, v2)", "multilingual": "MTEB(Multilingual, v2)"}
#: Tasks of english-v2, of every type and with little data.
QUICK = """Banking77Classification TweetSentimentExtractionClassification StackExchangeClustering.v2
TwentyNewsgroupsClustering.v2 TwitterSemEval2015 AskUbuntuDupQuestions ArguAna SCIDOCS BIOSSES STS12 STSBenchmark
SummEvalSummarization.v2""".split()  # noqa: SIM905
#: A task's row of the result.
Row = dict[str, Any]


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = console.Parser("mteb", __doc__)
    add = parser.add_argument
    model = "folder or hub id of a static model, or another SPEC of phase 3 with one vector a text"
    add("--model", default=str(MODEL), metavar="SPEC", help=f"{model} (default: %(default)s)")
    tasks = f"MTEB's tasks, {', '.join(BENCHMARKS)} (all tasks of a benchmark) or quick: {', '.join(QUICK)}"
    add("--tasks", nargs="+", default=["quick"], metavar="NAME", help=f"{tasks} (default: quick)")
    add("--offline", action="store_true", help="never ask the network: only what is already here (default: ask)")
    add("--output", type=Path, default=OUTPUT, help="result file, or - for standard output (default: %(default)s)")
    return parser


def tasks_named(names: Sequence[str]) -> list[Any]:
    """Return mteb's tasks of these names and sets, each once; raises InputError for a name that is none."""
    import mteb

    found: dict[str, Any] = {}
    for name in names:
        with as_input_error(f"mteb has no task {name}", f"give one of its own names, {', '.join(BENCHMARKS)} or quick"):
            if name in BENCHMARKS:
                tasks = list(mteb.get_benchmark(BENCHMARKS[name]).tasks)
            else:
                tasks = [mteb.get_task(one) for one in (QUICK if name == "quick" else [name])]
        for task in tasks:
            found.setdefault(task.metadata.name, task)
    return list(found.values())


def fingerprint(encoder: Encoder, folder: Path | None = None) -> str:
    """Return a hash of what decides the encoder's vectors: weights, and its folder's configuration and tokenizer."""
    files = [path for path in sorted(folder.rglob("*")) if path.suffix in (".json", ".txt", ".model")] if folder else []
    decisive = (path for path in files if path.name != "metadata.json")
    return hashlib.sha256(f"{encoder.sha256} {sha256(decisive)}".encode()).hexdigest()


def as_mteb_model(encoder: Encoder, folder: Path | None = None) -> Any:
    """Wrap ``encoder`` as mteb wants a model: its vectors have length 1, its revision is the fingerprint.

    :raises InputError: if it does not give one vector a text.
    """
    from mteb.models import ModelMeta
    from mteb.models.abs_encoder import AbsEncoder

    encode = encoder.encode
    unknown = [name for name, field in ModelMeta.model_fields.items() if field.is_required()]
    facts: dict[str, Any] = {"name": f"local/{encoder.name}", "revision": fingerprint(encoder, folder)}
    facts |= {"embed_dim": encoder.dims, "framework": [], "similarity_fn_name": "cosine"}

    class Model(AbsEncoder):
        mteb_model_meta = ModelMeta(**dict.fromkeys(unknown) | facts)

        def encode(self, inputs: Any, **_: Any) -> np.ndarray:
            vectors = np.asarray(encode([text for batch in inputs for text in batch["text"]]), dtype=np.float32)
            norms = np.linalg.norm(vectors, axis=1, keepdims=True)
            return vectors / np.where(norms == 0, 1, norms)  # a text without tokens stays zero

    return Model()


def measure(model: Any, task: Any, debug: bool = False) -> Row:
    """Return one task's score, or under ``failed`` the step that failed and the reason; with ``debug``, raise it."""
    import mteb
    from mteb.cache import ResultCache

    about = task.metadata
    row = {
        "name": about.name,
        "type": about.type,
        "languages": sorted(task.languages),
        "metric": about.main_score,
        "dataset": {"path": about.dataset["path"], "revision": about.revision},
    }
    # Not every library can be told to draw no progress bars.
    with nullcontext() if sys.stderr.isatty() else redirect_stderr(io.StringIO()):
        outcome = mteb.evaluate(
            model,
            task,
            cache=ResultCache(CACHE / mteb.__version__),  # other versions may have other data under the same name
            encode_kwargs={"batch_size": 512, "show_progress_bar": False},
            show_progress_bar=False,
            co2_tracker=False,
            raise_error=debug,
        )
    step = "evaluation" if task.data_loaded else "data"
    task.unload_data()
    if not outcome.task_results:
        reason = redact(outcome.exceptions[0].exception).strip().partition("\n")[0]
        return row | {"failed": {"step": step, "reason": reason}}
    # What is kept may hold more languages than this task is about now.
    result = outcome.task_results[0].validate_and_filter_scores(task)
    score, seconds = 100 * float(result.get_score()), result.evaluation_time
    if not math.isfinite(score):
        return row | {"failed": {"step": "evaluation", "reason": "its score is no finite number"}}
    seconds = round(seconds, 3) if seconds is not None and math.isfinite(seconds) else None  # an aggregate has none
    return row | {"score": round(score, 4), "evaluation_seconds": seconds, "mteb_version": result.mteb_version}


def means(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the finished tasks' mean scores: of each type, over the types and over the tasks."""
    done = [row for row in rows if "score" in row]
    types = {row["type"]: fmean(r["score"] for r in done if r["type"] == row["type"]) for row in done}
    return {
        "types": {name: round(value, 4) for name, value in types.items()},
        "over_types": round(fmean(types.values()), 4) if done else None,
        "over_tasks": round(fmean(row["score"] for row in done), 4) if done else None,
    }


def measured(args: argparse.Namespace) -> dict[str, Any]:
    """Load the model and score it task by task; return the content of the result file.

    :raises InputError: if mteb is not installed, or a task or the model does not exist.
    """
    clock = Clock()
    check_outputs(args.output)
    warnings.simplefilter("ignore")  # mteb warns when it is imported, and its tasks as they run
    try:
        import mteb  # noqa: F401
    except ImportError as error:
        raise InputError(f"mteb is not installed ({error})", extras_command("mteb")) from error
    for library in ("mteb", "datasets", "huggingface_hub", "sentence_transformers"):
        logging.getLogger(library).setLevel(logging.CRITICAL)
    tasks = tasks_named(args.tasks)
    encoder = load_encoder(args.model, offline=args.offline)
    model = as_mteb_model(encoder, model_folder(args.model))
    if args.offline:  # both libraries read their variables at import only
        import datasets
        from huggingface_hub import constants

        constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    clock.lap("load")
    rows = []
    for number, task in enumerate(tasks, 1):
        logger.info("%s (%d of %d)", task.metadata.name, number, len(tasks))
        rows.append(measure(model, task, args.debug))
    clock.lap("score")
    about = provenance(clock, SEED)
    about["versions"] |= {name: importlib.metadata.version(name) for name in ("mteb", "datasets")}
    return {
        "schema_version": SCHEMA_VERSION,
        "model": {"name": encoder.name, "kind": encoder.kind, "dims": encoder.dims, "sha256": encoder.sha256},
        "selection": args.tasks,
        "complete": all("failed" not in row for row in rows),
        "tasks": rows,
        "means": means(rows),
        "published": read_json(resource("data") / "published_mteb.json"),
        "step_seconds": clock.steps,
        **about,
    }


def print_summary(result: dict[str, Any]) -> None:
    """Print the scores and their means and, in a table of their own, the published averages."""
    rows, mean = result["tasks"], result["means"]
    table = [[r["name"], r["type"], r["metric"], f"{r['score']:.2f}" if "score" in r else "failed"] for r in rows]
    if kinds := mean["types"]:
        values = {f"mean of {kind}": value for kind, value in kinds.items()}
        values |= {f"mean over {len(kinds)} types": mean["over_types"], "mean over tasks": mean["over_tasks"]}
        table += [[name, "", "", f"{value:.2f}"] for name, value in values.items()]
    print_table(f"{result['model']['name']} on MTEB", ["task", "type", "metric", "measured"], table)
    if "english-v2" in result["selection"]:  # averages over other sets of tasks do not compare
        published = [[row["model"], f"{row['average']:.2f}"] for row in result["published"]]
        print_table(f"Averages {result['published'][0]['source']}", ["model", "published average"], published)


def run(args: argparse.Namespace) -> int:
    """Score, write the result, and print the tables.

    :raises PipelineError: if tasks failed; the result is written all the same.
    """
    with console.for_people(args):
        result = measured(args)
        console.write_result(args.output, result)
        print_summary(result)
    console.print_result(args.output, result)
    if failed := [row for row in result["tasks"] if "failed" in row]:
        first, more = failed[0], f", and {len(failed) - 1} more failed" if len(failed) > 1 else ""
        what = f"{first['name']} failed in its {first['failed']['step']} ({first['failed']['reason']}){more}"
        advice = "run again, with a connection to the hub for data, with --debug for the traceback"
        raise PipelineError(what, f"{advice}; finished tasks are in {CACHE}")
    return EXIT_OK


main = console.command(build_parser, run)
