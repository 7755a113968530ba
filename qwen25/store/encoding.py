"""The vectors of a corpus: each part is read, encoded by a static model and written as Parquet, whole or not at all."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from model2vec import StaticModel

from qwen25.runtime.errors import InputError, PipelineError, as_input_error, first_line, logger
from qwen25.runtime.files import sha256
from qwen25.store.parts import read_part
from qwen25.store.static_model import load_model, weight_files

#: The column of the vectors, the key of the metadata that says how they were made, and its version.
VECTOR, METADATA, VERSION = "vector", b"qwen25", 1
STORAGES = {"float16": pa.float16(), "int8": pa.int8()}
#: Characters of texts that are looked up together, of one whose tokens are counted first, and of one that is left out.
LOOKED_UP, LONG_TEXT, LONGEST_TEXT = 1 << 17, 1 << 14, 1 << 22
#: Tables that may wait to be encoded.
AHEAD = 2 * (os.cpu_count() or 1)


class Job(NamedTuple):
    """One part to encode: absolute paths of input, output and model; the column of the texts; the number format."""

    source: str
    target: str
    model: str
    column: str
    storage: str


class Outcome(NamedTuple):
    """What became of a part: its rows, whether it is new, which rows have no vector; or why there is none."""

    rows: int = 0
    is_new: bool = False
    remark: str = ""
    fault: str = ""
    was_killed: bool = False


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
    """Return a table with the vectors of its texts; null where there is no text, or it is no UTF-8 or too long."""
    model, facts = loaded(job.model)
    if VECTOR in table.column_names:
        raise ValueError(f"it has a column {VECTOR!r} already: rename it")
    texts = [_text(value) for value in table[job.column].cast(pa.large_binary()).to_pylist()]
    # A text that model2vec cuts is never long.
    long = [i for i, text in enumerate(texts) if text and len(text) > LONG_TEXT and model.max_length is None]
    short = ["" if text is None or i in long else text for i, text in enumerate(texts)]
    together = LOOKED_UP // max(1, *map(len, short), 1)
    vectors = model.encode([*short, ""], use_multiprocessing=False, batch_size=max(1, together))[:-1]
    for i in long:
        vectors[i] = _long_vector(model, texts[i] or "")
    if job.storage == "int8":
        vectors = np.clip(np.rint(vectors / facts["scale"]), -127, 127)
    values = pa.array(vectors.astype(job.storage).reshape(-1), STORAGES[job.storage])
    missing = pa.array([text is None for text in texts], pa.bool_())
    return table.append_column(VECTOR, pa.FixedSizeListArray.from_arrays(values, model.dim, mask=missing))


def _text(value: bytes | None) -> str | None:
    try:
        text = None if value is None else value.decode()
    except UnicodeDecodeError:
        return None
    return text if text is not None and len(text) <= LONGEST_TEXT else None


def _long_vector(model: StaticModel, text: str) -> np.ndarray:
    """Return what ``model.encode`` gives, which would hold a row for every token at once."""
    ids, counts = np.unique(np.asarray(model.tokenize([text])[0], dtype=np.int64), return_counts=True)
    rows = ids if model.token_mapping is None else model.token_mapping[ids]
    weights = counts if model.weights is None else counts * model.weights[ids]
    vector = weights.astype(np.float32) @ model.embedding[rows].astype(np.float32) / max(1, counts.sum())
    return vector / (np.linalg.norm(vector) + 1e-32) if model.normalize else vector


def encode_part(
    job: Job, pool: ProcessPoolExecutor | None = None, advance: Callable[[int], None] = lambda read: None
) -> Outcome:
    """Encode one part, unless that is done; its output is whole or absent.

    :param pool: encodes the tables (None: this process does).
    :param advance: is told how many more megabytes of the part were read.
    :raises PipelineError: if the output cannot be written.
    """
    source, target = Path(job.source), Path(job.target)
    facts = loaded(job.model)[1] | {"version": VERSION, "column": job.column, "storage": job.storage}
    try:
        with as_input_error(f"{source.name} cannot be encoded", "repair it, or leave it out"):
            facts["input_sha256"] = sha256([source])
        if target.exists():
            return _found(target, facts)
        with _new_file(target) as path:
            return _write(path, source.name, facts, _encoded(job, pool), advance)
    except InputError as error:
        return Outcome(fault=str(error), was_killed=isinstance(error.__cause__, BrokenProcessPool))
    except OSError as error:
        raise PipelineError(f"cannot write {target}: {first_line(error)}", "free some space and run again") from error


def _found(target: Path, facts: dict[str, Any]) -> Outcome:
    with as_input_error(f"{target.name} in the output is no part", "give another --output"):
        made = pq.read_metadata(target)
        if json.loads(made.metadata[METADATA]) == facts:
            return Outcome(made.num_rows)
    what = "was made of another input, model or setting"
    raise InputError(f"{target.name} {what}: remove it, or give another --output")


@contextmanager
def _new_file(target: Path) -> Iterator[Path]:
    """Yield a path to write to, which takes the target's name if the block ends well."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", suffix=".tmp", dir=target.parent) as folder:
        path = Path(folder) / target.name
        yield path
        with path.open("rb+") as file:
            os.fsync(file.fileno())
        path.replace(target)


def _encoded(job: Job, pool: ProcessPoolExecutor | None) -> Iterator[tuple[pa.Table, int]]:
    """Yield the tables of a part with their vectors, in order; no more wait than keep the pool busy."""
    waiting: deque[tuple[Callable[[], pa.Table], int]] = deque()
    with as_input_error(f"{Path(job.source).name} cannot be encoded", "repair it, or leave it out"):
        for table, read in read_part(Path(job.source), job.column):
            submitted = pool.submit(with_vectors, job, table).result if pool else partial(with_vectors, job, table)
            waiting.append((submitted, read))
            while len(waiting) > (AHEAD if pool else 0):
                result, position = waiting.popleft()
                yield result(), position
        for result, position in waiting:
            yield result(), position


def _write(
    path: Path, name: str, facts: dict[str, Any], tables: Iterator[tuple[pa.Table, int]], advance: Callable[[int], None]
) -> Outcome:
    """Write a part, and find the rows that have no vector."""
    rows, without, position = 0, list[int](), 0
    with ExitStack() as stack:
        writer = None
        for table, read in tables:
            table = table.replace_schema_metadata({**(table.schema.metadata or {}), METADATA: json.dumps(facts)})
            if writer is None:
                # Parquet has no integers of one byte: a dictionary of 256 makes them that. Halves gain nothing by one.
                columns = [column for column in table.column_names if column != VECTOR]
                columns += [f"{VECTOR}.list.element"] if facts["storage"] == "int8" else []
                writer = stack.enter_context(pq.ParquetWriter(path, table.schema, use_dictionary=columns))
            writer.write_table(table)
            without += [rows + 1 + int(i) for i in np.flatnonzero(table[VECTOR].is_null())]
            rows += table.num_rows
            advance(read // 10**6 - position // 10**6)
            position = read
    if not without:
        return Outcome(rows, is_new=True)
    places = ", ".join(map(str, without[:3])) + (", ..." if len(without) > 3 else "")
    what = f"{len(without):,} of {rows:,} rows have no vector (no text, no valid row, no UTF-8 or too long)"
    return Outcome(rows, is_new=True, remark=f"{name}: {what}: rows {places}")


def encode_here(jobs: Sequence[Job], workers: int, advance: Callable[[int], None]) -> Iterator[Outcome]:
    """Encode the parts one after another, the tables of each in several processes; 1: in this one.

    A part whose worker is killed is encoded once more.
    """
    pool = _pool(workers)
    for job in jobs:
        outcome = encode_part(job, pool, advance)
        if outcome.was_killed:
            logger.warning("%s: a worker was killed: the part is encoded once more", Path(job.source).name)
            pool = _pool(workers)
            outcome = encode_part(job, pool, advance)
        yield outcome


def _pool(workers: int) -> ProcessPoolExecutor | None:
    if workers == 1:
        return None
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    return ProcessPoolExecutor(workers, context, initializer=_begin_worker)


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
