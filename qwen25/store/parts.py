"""The parts of a corpus: Parquet, JSON Lines, CSV and TSV files, found and read in batches of bounded size."""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from glob import glob
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from qwen25.runtime.errors import InputError

_KIND = re.compile(r"\.(parquet|jsonl|ndjson|csv|tsv)(\.gz)?$", re.IGNORECASE)
BATCH_ROWS, BATCH_BYTES, LONGEST_LINE = 4096, 1 << 20, 1 << 26
#: The types of a JSON field's values -> its column's; strings and any other mixture are strings, as JSON if need be.
_TYPES = {
    frozenset({bool}): pa.bool_(),
    frozenset({int}): pa.int64(),
    frozenset({float}): pa.float64(),
    frozenset({int, float}): pa.float64(),
}
#: The length of a line, and its fields; None for a line that is no row, which keeps its place with null in all columns.
_Row = tuple[int, dict[str, Any] | None]


def find_parts(inputs: Sequence[str]) -> dict[Path, Path]:
    """Return the files that files, folders and globs name -> the path of each one's part in the output.

    :raises InputError: if one names no such file, or two files would be written to one part.
    """
    parts: dict[Path, Path] = {}
    for given in inputs:
        roots = [Path(given)] if Path(given).exists() else [Path(name) for name in glob(given, recursive=True)]  # noqa: PTH207
        files = [(f, r) for r in roots for f in (r.rglob("*") if r.is_dir() else [r])]
        found = {f.resolve(): f.relative_to(r if r.is_dir() else r.parent) for f, r in files if _KIND.search(f.name)}
        if not found:
            raise InputError(f"{given} names no .parquet, .jsonl, .csv or .tsv file: give a file, a folder or a glob")
        parts |= {f: p.with_name(f"{p.name.removesuffix('.parquet')}.parquet") for f, p in sorted(found.items())}
    place, times = Counter(parts.values()).most_common(1)[0]
    if times > 1:
        raise InputError(f"two inputs would be written to {place}: encode them into two folders")
    return parts


def read_part(path: Path, column: str) -> Iterator[tuple[pa.Table, int]]:
    """Yield a part's rows in order, in tables (the last may be empty), and how many bytes of the file were read.

    :param column: the one of the texts; what is no string there is null.
    :raises Exception: whatever the file makes the libraries raise; ValueError if it has no such column.
    """
    kind = str(_KIND.findall(path.name)[0][0]).lower()
    with path.open("rb") as file:
        if kind == "parquet":
            yield from _parquet(file, column, path.stat().st_size)
            return
        delimiter = {"csv": ",", "tsv": "\t"}.get(kind)
        types = _types(_rows(file, delimiter)) or {column: pa.string()}
        _require(column, list(types))
        file.seek(0)
        yield from _tables(_rows(file, delimiter), column, types, file)


def _parquet(file: BinaryIO, column: str, size: int) -> Iterator[tuple[pa.Table, int]]:
    with pq.ParquetFile(file, buffer_size=BATCH_BYTES) as parquet:
        facts, done = parquet.metadata, 0
        _require(column, parquet.schema_arrow.names)
        in_memory = sum(facts.row_group(i).total_byte_size for i in range(facts.num_row_groups))
        for batch in parquet.iter_batches(max(1, min(BATCH_ROWS, BATCH_BYTES * facts.num_rows // (in_memory + 1)))):
            done += batch.num_rows
            yield pa.table(batch), size * done // facts.num_rows
        yield parquet.schema_arrow.empty_table(), size


def _require(column: str, names: Sequence[str]) -> None:
    if column not in names:
        raise ValueError(f"it has no column {column!r}, but {', '.join(names)[:200]}; --column names one")


def _rows(raw: BinaryIO, delimiter: str | None) -> Iterator[_Row]:
    """Yield the rows of lines of JSON, or of CSV with a ``delimiter``; gzip is inflated."""
    is_gzip = raw.read(2) == b"\x1f\x8b"
    raw.seek(0)
    lines = _lines(gzip.GzipFile(fileobj=raw) if is_gzip else raw)
    if delimiter is None:
        for line in filter(bytes.strip, lines):
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            yield len(line), row if isinstance(row, dict) else None
        return
    csv.field_size_limit(LONGEST_LINE)
    for row in csv.DictReader((line.decode("utf-8", "surrogateescape") for line in lines), delimiter=delimiter):
        # A field too many has the name None, and one that is missing the value.
        is_whole = None not in row and None not in row.values()
        yield (sum(map(len, row.values())), row) if is_whole else (0, None)


def _lines(file: Any) -> Iterator[bytes]:
    mark = b"\xef\xbb\xbf"
    while line := file.readline(LONGEST_LINE):
        if len(line) == LONGEST_LINE:
            raise ValueError(f"a line is longer than {LONGEST_LINE:,} bytes")
        yield line.removeprefix(mark)
        mark = b""


def _types(rows: Iterator[_Row]) -> dict[str, pa.DataType]:
    """Return the type of each field, which its last value may decide."""
    seen: dict[str, set[type]] = {}
    for _, row in rows:
        for name, value in (row or {}).items():
            is_large = isinstance(value, int) and not -(2**63) <= value < 2**63
            seen.setdefault(name, set()).add(object if is_large else type(value))
    return {name: _TYPES.get(frozenset(kinds - {type(None)}), pa.string()) for name, kinds in seen.items()}


def _tables(
    rows: Iterator[_Row], column: str, types: dict[str, pa.DataType], file: BinaryIO
) -> Iterator[tuple[pa.Table, int]]:
    chunk: list[dict[str, Any]] = []
    size = 0

    def table() -> pa.Table:
        cells = {n: [_cell(row.get(n), kind, n == column) for row in chunk] for n, kind in types.items()}
        return pa.table({name: pa.array(cells[name], kind) for name, kind in types.items()})

    for length, row in rows:
        chunk.append(row or {})
        size += length
        if len(chunk) == BATCH_ROWS or size >= BATCH_BYTES:
            yield table(), file.tell()
            chunk, size = [], 0
    yield table(), file.tell()


def _cell(value: Any, kind: pa.DataType, is_text: bool) -> Any:
    """Return a field's value as its column holds it."""
    if value is None or kind in (pa.bool_(), pa.int64()):
        return value
    if kind == pa.float64():
        return float(value)
    if isinstance(value, str):
        valid = value.encode(errors="replace").decode()  # "?" for what is no character
        return None if is_text and valid != value else valid
    return None if is_text else json.dumps(value)
