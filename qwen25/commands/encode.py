"""Encode a corpus of any size: Parquet, JSON Lines and CSV files become Parquet files with the vectors of their texts.

    qwen25 encode corpus/ --model demo/model --output encoded
    qwen25 encode 'logs/*.jsonl.gz' --column body --storage int8

Each input file is a part: its output has all its columns and `vector`, in the order of its rows. Run again, the
command does what is missing. A row without a text that can be encoded has null for a vector, and a part that cannot be
read has no output: one line tells of each. Exit codes: 0 ok, 1 a part or the run failed, 2 wrong usage or input.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from functools import cache, partial
from glob import glob
from itertools import chain
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from model2vec import StaticModel

from qwen25.runtime import console
from qwen25.runtime.display import progress
from qwen25.runtime.errors import EXIT_FAILED, EXIT_OK, InputError, PipelineError, as_input_error, first_line, logger
from qwen25.runtime.files import check_parent, sha256
from qwen25.runtime.folders import locked
from qwen25.store.pairs import Row, is_rows_file, is_valid, text_rows
from qwen25.store.static_model import load_model, weight_files

#: The column of the vectors, the key of the metadata that says how they were made, and its version.
VECTOR, METADATA, VERSION = "vector", b"qwen25", 1
STORAGES = {"float16": pa.float16(), "int8": pa.int8()}
#: Of one table.
BATCH_ROWS, BATCH_BYTES = 4096, 1 << 20
#: What becomes of a part.
ENCODED, THERE, FAILED = "encoded", "there before", "failed"
#: Characters that are looked up together; of one text no more are read.
LOOKED_UP = 1 << 17
#: Tables that may wait to be encoded.
AHEAD = 2 * (os.cpu_count() or 1)
#: The types of a JSON field's values -> its column's; strings and any other mixture are strings, as JSON if need be.
_TYPES = {
    frozenset({bool}): pa.bool_(),
    frozenset({int}): pa.int64(),
    frozenset({float}): pa.float64(),
    frozenset({int, float}): pa.float64(),
}


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
        rows, count = 0, Counter[str]()
        for outcome in encode_over_ray(jobs, args.ray) if args.ray else encode_here(jobs, args.workers, advance):
            rows, count[outcome.state] = rows + outcome.rows, count[outcome.state] + 1
            if outcome.remark:
                logger.warning("%s", outcome.remark)
    states = ", ".join(f"{count[state]:,} {state}" for state in (ENCODED, THERE, FAILED))
    print(f"{args.output}: {rows:,} rows; parts: {states}")
    return EXIT_FAILED if count[FAILED] else EXIT_OK


def find_parts(inputs: Sequence[str]) -> dict[Path, Path]:
    """Return the files that files, folders and globs name -> the path of each one's part in the output.

    :raises InputError: if one names no such file, or two files would be written to one part.
    """
    parts: dict[Path, Path] = {}
    for given in inputs:
        roots = [Path(given)] if Path(given).exists() else [Path(name) for name in glob(given, recursive=True)]  # noqa: PTH207
        files = [(f, r) for r in roots for f in (r.rglob("*") if r.is_dir() else [r])]
        found = {f.resolve(): f.relative_to(r if r.is_dir() else r.parent) for f, r in files if is_rows_file(f)}
        if not found:
            raise InputError(f"{given} names no .parquet, .jsonl, .csv or .tsv file: give a file, a folder or a glob")
        parts |= {f: p.with_name(f"{p.name.removesuffix('.parquet')}.parquet") for f, p in sorted(found.items())}
    place, times = Counter(parts.values()).most_common(1)[0]
    if times > 1:
        raise InputError(f"two inputs would be written to {place}: encode them into two folders")
    return parts


class Job(NamedTuple):
    """One part to encode: absolute paths of input, output and model; the column of the texts; the number format."""

    source: str
    target: str
    model: str
    column: str
    storage: str


class Outcome(NamedTuple):
    """What became of a part: one of the three states, its rows, and which of them have no vector or why it failed."""

    state: str
    rows: int = 0
    remark: str = ""


@cache
def loaded(folder: str) -> tuple[StaticModel, dict[str, Any]]:
    """Return the model of a folder, once a process, and what a part's metadata says of it.

    ``scale`` is int8's: a component is the integer times the scale, the largest component among the vectors of the
    first 4,096 tokens over 127; what is larger is clipped.
    """
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one core a process
    path = Path(folder)
    model = load_model(path)
    tokens = [model.tokenizer.decode([i]) for i in range(min(4096, len(model.tokens)))]
    scale = float(np.abs(model.encode(tokens, use_multiprocessing=False)).max()) / 127 or 1.0
    digest = sha256([*weight_files(path), path / "tokenizer.json", path / "config.json"])
    facts = {"model_sha256": digest, "dims": int(model.dim), "max_length": model.max_length, "scale": scale}
    return model, facts


def with_vectors(job: Job, table: pa.Table) -> pa.Table:
    """Return a table with the vectors of its texts; null where there is no text, or it is no UTF-8."""
    model, facts = loaded(job.model)
    if VECTOR in table.column_names:
        raise ValueError(f"it has a column {VECTOR!r} already: rename it")
    cells = table[job.column].cast(pa.large_binary()).to_pylist()
    texts = [None if cell is None else cell.decode(errors="surrogateescape") for cell in cells]
    missing = [text is None or not is_valid(text) for text in texts]
    known = ["" if no else (text or "")[:LOOKED_UP] for text, no in zip(texts, missing, strict=True)]
    together = max(1, LOOKED_UP // max(1, *map(len, known), 1))
    vectors = model.encode([*known, ""], use_multiprocessing=False, batch_size=together)[:-1]
    if job.storage == "int8":
        vectors = np.clip(np.rint(vectors / facts["scale"]), -127, 127)
    values = pa.array(vectors.astype(job.storage).reshape(-1), STORAGES[job.storage])
    lists = pa.FixedSizeListArray.from_arrays(values, model.dim, mask=pa.array(missing, pa.bool_()))
    return table.append_column(VECTOR, lists)


def read_tables(file: BinaryIO, name: str, column: str) -> Iterator[tuple[pa.Table, int]]:
    """Yield a part's rows in order, in tables (the last may be empty), and how many bytes of the file were read.

    :param name: the file's; its end says its kind.
    :param column: the one of the texts; what is no string there is null.
    :raises Exception: whatever the file makes the libraries raise; ValueError if it has no such column.
    """
    is_parquet = name.lower().endswith(".parquet")
    if is_parquet:
        parquet, size = pq.ParquetFile(file, buffer_size=BATCH_BYTES), os.fstat(file.fileno()).st_size
        names = parquet.schema_arrow.names
    else:
        types = _types(text_rows(file, name)) or {column: pa.string()}
        names = list(types)
    if column not in names:
        raise ValueError(f"it has no column {column!r}, but {', '.join(names)[:200]}; --column names one")
    if is_parquet:
        facts, done = parquet.metadata, 0
        in_memory = sum(facts.row_group(i).total_byte_size for i in range(facts.num_row_groups))
        for batch in parquet.iter_batches(max(1, min(BATCH_ROWS, BATCH_BYTES * facts.num_rows // (in_memory + 1)))):
            done += batch.num_rows
            yield pa.table(batch), size * done // facts.num_rows
        yield parquet.schema_arrow.empty_table(), size
        return
    file.seek(0)
    rows, chunk, characters = text_rows(file, name), list[Row](), 0
    for row in rows:
        chunk.append(row or {})
        characters += sum(len(value) for value in chunk[-1].values() if isinstance(value, str))
        if len(chunk) == BATCH_ROWS or characters >= BATCH_BYTES:
            yield _table(chunk, column, types), file.tell()
            chunk, characters = [], 0
    yield _table(chunk, column, types), file.tell()


def _types(rows: Iterator[Row | None]) -> dict[str, pa.DataType]:
    """Return the type of each field, which its last value may decide."""
    seen: dict[str, set[type]] = {}
    for row in rows:
        for name, value in (row or {}).items():
            is_large = isinstance(value, int) and not -(2**63) <= value < 2**63
            seen.setdefault(name, set()).add(object if is_large else type(value))
    return {name: _TYPES.get(frozenset(kinds - {type(None)}), pa.string()) for name, kinds in seen.items()}


def _table(rows: Sequence[Row], column: str, types: dict[str, pa.DataType]) -> pa.Table:
    def cell(value: Any, kind: pa.DataType, is_text: bool) -> Any:
        if value is None or kind != pa.string():
            return float(value) if value is not None and kind == pa.float64() else value
        if not isinstance(value, str):
            return None if is_text else json.dumps(value)
        return value if is_valid(value) else None

    return pa.table({n: pa.array([cell(r.get(n), kind, n == column) for r in rows], kind) for n, kind in types.items()})


def encode_part(
    job: Job, pool: ProcessPoolExecutor | None = None, advance: Callable[[int], None] = lambda read: None
) -> Outcome:
    """Encode one part, unless that is done; its output is whole or absent.

    :param pool: encodes the tables (None: this process does).
    :param advance: is told how many more megabytes of the part were read.
    :raises PipelineError: if the output cannot be written, or a process of the pool was killed.
    """
    source, target = Path(job.source), Path(job.target)
    facts = loaded(job.model)[1] | {"version": VERSION, "column": job.column, "storage": job.storage}
    try:
        with as_input_error(f"{source.name} cannot be encoded", "repair it, or leave it out"):
            facts["input_sha256"] = sha256([source])
        if target.exists():
            with as_input_error(f"{target.name} in the output cannot stay", "remove it, or give another --output"):
                made = pq.read_metadata(target)
                if json.loads(made.metadata[METADATA]) != facts:
                    raise ValueError("it was made of another input, model or setting")
            return Outcome(THERE, made.num_rows)
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", suffix=".tmp", dir=target.parent) as folder:
            path = Path(folder) / target.name
            outcome = _write(path, source.name, facts, _encoded(job, pool, advance))
            with path.open("rb+") as file:
                os.fsync(file.fileno())
            path.replace(target)
            return outcome
    except InputError as error:
        if isinstance(error.__cause__, BrokenProcessPool):
            how = "run again, with fewer --workers if memory is short: what is done is kept"
            raise PipelineError(f"{source.name}: a worker was killed", how) from error
        return Outcome(FAILED, remark=str(error))
    except OSError as error:
        raise PipelineError(f"cannot write {target}: {first_line(error)}", "free some space and run again") from error


def _encoded(job: Job, pool: ProcessPoolExecutor | None, advance: Callable[[int], None]) -> Iterator[pa.Table]:
    """Yield the tables of a part with their vectors, in order; no more wait than keep the pool busy."""
    waiting: deque[Callable[[], pa.Table]] = deque()
    source, told = Path(job.source), 0
    with as_input_error(f"{source.name} cannot be encoded", "repair it, or leave it out"), source.open("rb") as file:
        for table, read in read_tables(file, source.name, job.column):
            waiting.append(pool.submit(with_vectors, job, table).result if pool else partial(with_vectors, job, table))
            if len(waiting) > (AHEAD if pool else 0):
                yield waiting.popleft()()
            advance(read // 10**6 - told)
            told = read // 10**6
        for result in waiting:
            yield result()


def _write(path: Path, name: str, facts: dict[str, Any], tables: Iterator[pa.Table]) -> Outcome:
    """Write a part, and find the rows that have no vector."""
    rows, without, first = 0, list[int](), next(tables)
    schema = first.schema.with_metadata({**(first.schema.metadata or {}), METADATA: json.dumps(facts)})
    # Parquet has no integers of one byte: a dictionary of 256 makes them that. Halves gain nothing by one.
    columns = [column for column in schema.names if column != VECTOR]
    columns += [f"{VECTOR}.list.element"] if facts["storage"] == "int8" else []
    with pq.ParquetWriter(path, schema, use_dictionary=columns) as writer:
        for table in chain([first], tables):
            writer.write_table(table)
            without += [rows + 1 + int(i) for i in np.flatnonzero(table[VECTOR].is_null())]
            rows += table.num_rows
    if not without:
        return Outcome(ENCODED, rows)
    places = ", ".join(map(str, without[:3])) + (", ..." if len(without) > 3 else "")
    what = f"{len(without):,} of {rows:,} rows have no vector (no text, no valid row or no UTF-8)"
    return Outcome(ENCODED, rows, f"{name}: {what}: rows {places}")


def encode_here(jobs: Sequence[Job], workers: int, advance: Callable[[int], None]) -> Iterator[Outcome]:
    """Encode the parts one after another, the tables of each in several processes; 1: in this one."""
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    pool = nullcontext() if workers == 1 else ProcessPoolExecutor(workers, context, initializer=_begin_worker)
    with pool as executor:
        yield from (encode_part(job, executor, advance) for job in jobs)


def _begin_worker() -> None:
    """Leave interrupts to the parent, and end with it however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if parent := multiprocessing.parent_process():
        threading.Thread(target=lambda: (wait([parent.sentinel]), os._exit(1)), daemon=True).start()


def encode_over_ray(jobs: Sequence[Job], address: str) -> Iterator[Outcome]:
    """Encode the parts by Ray Data, each by :func:`encode_part` in one task; their outcomes come in any order.

    :param address: of a cluster that sees the same folders; ``local`` starts Ray on this machine.
    :raises PipelineError: if ray is not installed, or the cluster fails.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # nothing leaves this machine unasked
    try:
        import ray
    except ImportError as error:
        raise InputError("--ray needs ray", "install it with pip install 'ray[data]'") from error
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)  # which its import sets
        rows = ray.data.from_items([job._asdict() for job in jobs], override_num_blocks=len(jobs))
        for row in rows.map(lambda row: encode_part(Job(**row))._asdict()).iter_rows():
            yield Outcome(**row)
    except (ConnectionError, ray.exceptions.RayError) as error:
        raise PipelineError(f"Ray at {address}: {first_line(error)}", "run again: what is done is kept") from error
    finally:
        ray.shutdown()


main = console.command(build_parser, run)
