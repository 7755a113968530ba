"""Encode a corpus of any size: Parquet, JSON Lines and CSV files become Parquet files with the vectors of their texts.

    qwen25 encode corpus/ --model demo/model --output encoded
    qwen25 encode 'logs/*.jsonl.gz' --column body --storage int8

Each input file is a part: its output has all its columns and `vector`, in the order of its rows. Run again, the
command does what is missing. A row without a text that can be encoded has null for a vector, and a part that cannot be
read has no output: one line tells of each. Exit codes: 0 ok, 1 a part or the run failed, 2 wrong usage or input.
"""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path

from qwen25.runtime import console
from qwen25.runtime.display import progress
from qwen25.runtime.errors import EXIT_FAILED, EXIT_OK, InputError, logger
from qwen25.runtime.files import check_parent
from qwen25.runtime.folders import locked
from qwen25.store.encoding import STORAGES, Job, encode_here, encode_over_ray, find_parts, loaded


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = console.Parser("encode", __doc__)
    add = parser.add_argument
    kinds = ".parquet, .jsonl, .csv or .tsv files, the last three also as .gz; folders of them; globs"
    add("inputs", nargs="+", metavar="INPUT", help=f"{kinds} (no default)")
    add("--model", type=Path, default=console.MODEL, help="folder of a static model (default: %(default)s)")
    add("--output", type=Path, default=Path("encoded"), help="folder of the parts (default: %(default)s)")
    add("--column", default="text", help="the column, or field, of the texts (default: %(default)s)")
    storage = "number format of the vectors; the metadata has int8's scale (default: %(default)s)"
    add("--storage", choices=list(STORAGES), default="float16", help=storage)
    add("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: the cores)", metavar="N")
    add("--ray", help="encode on this cluster, which sees the same folders; local starts one here (default: none)")
    return parser


def run(args: argparse.Namespace) -> int:
    """Encode the parts, and say what became of them."""
    if args.workers < 1:
        raise InputError(f"--workers must be 1 or more, not {args.workers}")
    output, model = args.output.resolve(), str(args.model.resolve())
    # The output may lie in an input folder, and is no input the next time.
    parts = {part: place for part, place in find_parts(args.inputs).items() if not part.is_relative_to(output)}
    if not parts:
        raise InputError(f"all inputs lie in the output {args.output}: give another --output")
    check_parent(args.output / "part")
    loaded(model)  # a broken one is refused, and forked processes share its memory
    jobs = [Job(str(part), str(output / place), model, args.column, args.storage) for part, place in parts.items()]
    megabytes = sum(part.stat().st_size for part in parts) // 10**6
    with locked(output), progress("encode (MB)", 0 if args.ray else megabytes) as advance:
        for left in output.rglob(".*.tmp"):  # of a run that was killed
            shutil.rmtree(left)
        outcomes = []
        for outcome in encode_over_ray(jobs, args.ray) if args.ray else encode_here(jobs, args.workers, advance):
            outcomes.append(outcome)
            if line := outcome.fault or outcome.remark:
                logger.warning("%s", line)
    new, failed = sum(outcome.is_new for outcome in outcomes), sum(bool(outcome.fault) for outcome in outcomes)
    parts_text = f"parts: {new:,} encoded, {len(jobs) - new - failed:,} there before, {failed:,} failed"
    print(f"{args.output}: {sum(outcome.rows for outcome in outcomes):,} rows; {parts_text}")
    return EXIT_FAILED if failed else EXIT_OK


main = console.command(build_parser, run)
