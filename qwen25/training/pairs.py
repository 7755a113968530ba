"""Pairs of texts that belong together, from files on this machine: JSON Lines, CSV, TSV and Parquet, gzipped or not."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import random
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from qwen25.runtime.errors import InputError, first_line
from qwen25.runtime.files import require_regular, sha256

#: Below this number a set teaches its own wording rather than what its texts mean.
MIN_PAIRS = 1_000
#: How many pairs of a set are taken unless something else is said; of more, a sample.
MAX_ROWS = 200_000
#: A line of more bytes than this is no pair of texts but a mistake in the file.
MAX_LINE = 1_000_000
#: A gzip file of this many times its size is none of text.
MOST_INFLATED = 200
#: What a damaged gzip file makes its reader raise.
BROKEN_GZIP = (OSError, EOFError, zlib.error)
#: Rows of a Parquet file that are in memory at once; a text may have millions of characters.
PARQUET_ROWS = 256
#: A message names no more columns than this.
MAX_NAMED = 20
#: A text is cut to this many characters: training reads no more of it.
MAX_CHARACTERS = 2_000
#: If more than this share of the rows lacks a side, the columns are the wrong ones.
MAX_ONE_SIDED = 0.2

#: The names by which the two sides are found where none are given: the first two that are both there.
SIDES = (
    ("a", "b"),
    ("anchor", "positive"),
    ("query", "positive"),
    ("query", "answer"),
    ("question", "answer"),
    ("sentence1", "sentence2"),
    ("sentence_A", "sentence_B"),
    ("text1", "text2"),
    ("english", "non_english"),
    ("source", "target"),
    ("src", "tgt"),
    ("title", "body"),
    ("title", "abstract"),
    ("title", "text"),
    ("instruction", "output"),
    ("prompt", "response"),
    ("premise", "hypothesis"),
    ("text", "simplified"),
    ("comment", "code"),
)
LANGUAGES, SETS = ("lang", "language"), ("set", "dataset")
#: A column's name with more words is a text: the file has no line of names.
MOST_WORDS_OF_A_NAME = 4
SUFFIXES = (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")


class Columns(NamedTuple):
    """The names of the columns to read; of those that are None, the usual names are looked for."""

    left: str | None = None
    right: str | None = None


class Pair(NamedTuple):
    """Two texts that belong together."""

    left: str
    right: str
    language: str


@dataclass
class PairSet:
    """The pairs of one origin and kind.

    :ivar name: what reports call it; never a path.
    :ivar facts: where it is from, for the metadata: source, licence, revision, SHA-256.
    :ivar dropped: what was left out, and how often: one-sided, alike, repeated, kept out.
    """

    name: str
    pairs: list[Pair]
    facts: dict[str, Any] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """Return what the metadata says of it."""
        languages = sorted({pair.language for pair in self.pairs} - {""})
        return {
            "name": self.name,
            "rows": len(self.pairs),
            "languages": languages,
            **self.facts,
            "dropped": {reason: count for reason, count in self.dropped.items() if count},
        }


def read_path(path: Path, columns: Columns, rows: int = MAX_ROWS, seed: int = 0) -> list[PairSet]:
    """Read the pairs of a file, or of every file of pairs in a folder, in name order.

    :param columns: the names of the sides.
    :param rows: of each set, at most so many pairs are taken: a sample, if it has more.
    :raises InputError: if there is no such file, or it holds no pairs.
    """
    if not path.exists():
        raise InputError(f"no such file of pairs: {path}")
    if not path.is_dir():
        return read_file(path, columns, rows, seed)
    # Hidden files are other programs': what an editor or a copy left behind.
    files = [file for file in sorted(path.iterdir()) if is_pairs_file(file) and not file.name.startswith(".")]
    if not files:
        raise InputError(f"{path} holds no file of pairs ({', '.join(SUFFIXES)}; all but Parquet gzipped or not)")
    return [pairs for file in files for pairs in read_file(file, columns, rows, seed)]


def is_pairs_file(path: Path) -> bool:
    """Whether a file has the name of a file of pairs; Parquet is compressed inside."""
    return path.name.removesuffix(".gz").endswith(SUFFIXES) and not path.name.endswith(".parquet.gz")


def read_file(path: Path, columns: Columns, rows: int = MAX_ROWS, seed: int = 0) -> list[PairSet]:
    """Read one file's pairs: one set, or as many as a column ``set`` names.

    :raises InputError: if it cannot be read, a line is broken, or a column is missing.
    """
    require_regular(path)
    if not is_pairs_file(path):
        raise InputError(
            f"{path} is no file of pairs: its name must end in {', '.join(SUFFIXES)}, or all but the last and .gz"
        )
    name = path.name.removesuffix(".gz").rpartition(".")[0]
    try:
        facts = {"source": path.name, "sha256": sha256([path])}
        return collect(records(path, columns), columns, rows, seed, name, path.name, facts)
    except BROKEN_GZIP as error:
        what = "is cut short" if isinstance(error, EOFError) else "cannot be read"
        raise InputError(f"{path} {what}: {getattr(error, 'strerror', None) or first_line(error)}") from error


def records(path: Path, columns: Columns | None = None) -> Iterator[dict[str, Any]]:
    """Yield a file's rows as dictionaries.

    :param columns: of these, two hold pairs; None: any text of the file is wanted.
    :raises InputError: if a row cannot be read.
    """
    kind = path.name.removesuffix(".gz").rpartition(".")[2]
    if kind == "parquet":
        yield from parquet_records(path)
        return
    with opened(path) as file:
        lines = text_lines(file, path)
        if kind in ("csv", "tsv"):
            yield from _csv_records(lines, "," if kind == "csv" else "\t", path.name, columns)
        else:
            yield from _json_records(lines, path.name)


def opened(path: Path) -> IO[bytes]:
    """Open a file to read its bytes, those that it was made of if it is gzipped."""
    return cast("IO[bytes]", gzip.open(path, "rb")) if path.name.endswith(".gz") else path.open("rb")


def parquet_records(path: Path) -> Iterator[dict[str, Any]]:
    """Yield a Parquet file's rows; a column that can hold no text is not read, and None.

    :raises InputError: if it is none.
    """
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
            texts = [column.name for column in schema if _holds_text(column.type)]
            for batch in file.iter_batches(batch_size=PARQUET_ROWS, columns=texts):
                yield from (dict.fromkeys(schema.names) | row for row in batch.to_pylist())
    # Python's own: bytes that are no text, and numbers that it does not have.
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        raise InputError(f"{path.name} cannot be read as Parquet: {first_line(error)}") from error


def _holds_text(kind: Any) -> bool:
    """Whether a column of this Arrow type can hold texts, inside others too."""
    from pyarrow import types

    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return True
    if types.is_dictionary(kind):
        return _holds_text(kind.value_type)
    if hasattr(kind, "storage_type"):  # an extension's
        return _holds_text(kind.storage_type)
    return any(_holds_text(kind.field(i).type) for i in range(kind.num_fields))


def text_lines(file: IO[bytes], path: Path) -> Iterator[str]:
    """Yield the lines of a UTF-8 file opened from ``path``, and never hold a longer one than is allowed.

    :raises InputError: if a line is too long or no text in UTF-8, or the file inflates to far more than its size.
    """
    name, most = path.name, MAX_LINE + MOST_INFLATED * path.stat().st_size
    number = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            raise InputError(f"{name}, line {number}: longer than {MAX_LINE:,} bytes, which is no text; split it")
        if (most := most - len(line)) < 0:
            raise InputError(f"{name} inflates to more than {MOST_INFLATED} times its size: give it as plain text")
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"{name}, line {number}: not UTF-8 ({error.reason}); convert the file") from error
        if "\0" in text:
            raise InputError(f"{name}, line {number}: no text, or UTF-16 without its mark; convert the file to UTF-8")
        yield text


def _json_records(lines: Iterable[str], name: str) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{name}, line {number}: not JSON; each line must be one object") from error
        if not isinstance(row, dict):
            raise InputError(f"{name}, line {number}: not a JSON object")
        yield row


def _csv_records(lines: Iterable[str], delimiter: str, name: str, columns: Columns | None) -> Iterator[dict[str, Any]]:
    csv.field_size_limit(MAX_LINE)  # its own is an eighth of that
    reader = csv.DictReader(lines, delimiter=delimiter, strict=True)
    try:
        others = _other_columns(reader.fieldnames or ())
        if columns == Columns() and len(others) == 2 and any(len(n.split()) > MOST_WORDS_OF_A_NAME for n in others):
            names = ", ".join(repr(column[:60]) for column in others)
            raise InputError(f"{name}: its first line must name the columns, as text,partner does; it is {names}")
        for row in reader:
            if None in row:
                raise InputError(f"{name}, line {reader.line_num}: has more fields than the first line names columns")
            yield row
    except csv.Error as error:
        raise InputError(f"{name}, line {reader.line_num}: {error}") from error


def collect(
    rows_read: Iterable[dict[str, Any]],
    columns: Columns,
    limit: int,
    seed: int,
    name: str,
    where: str,
    facts: dict[str, Any],
) -> list[PairSet]:
    """Make sets of pairs out of rows; of more than ``limit`` pairs of a set, a uniform sample is kept.

    :param where: what messages call the source.
    :raises InputError: if a column is missing, most rows lack a side, or there is no pair at all.
    """
    name = _characters(name)  # a file's name may be no UTF-8
    samples: dict[str, _Sample] = {}
    chosen: tuple[str, str] | None = None
    read = one_sided = 0
    for row in rows_read:
        chosen = chosen or _find_columns(row, columns, where)
        read += 1
        left, right = (_text(row.get(column)) for column in chosen)
        if not left or not right:
            one_sided += 1
            continue
        label = _first(row, SETS)
        title = f"{name}/{label}" if label else name
        if title not in samples:
            samples[title] = _Sample(limit, f"{seed}/{title}")
        samples[title].add(Pair(left, right, _first(row, LANGUAGES)))
    if not read:
        raise InputError(f"{where} holds no pairs")
    if chosen and one_sided > MAX_ONE_SIDED * read:
        raise InputError(
            f"{where}: {one_sided:,} of {read:,} rows lack a text in {chosen[0]!r} or {chosen[1]!r}: "
            "name the right columns"
        )
    sets = [sample.pair_set(title, facts) for title, sample in sorted(samples.items())]
    sets[0].dropped["one-sided"] = one_sided
    return sets


class _Sample:
    """A uniform sample of pairs that come one by one (reservoir sampling), without repeats."""

    def __init__(self, limit: int, seed: str) -> None:
        self._limit, self._random = limit, random.Random(seed)  # noqa: S311, no secret is made
        self._pairs: list[Pair] = []
        self._seen: set[int] = set()
        self._count = 0
        self._dropped = {"alike": 0, "repeated": 0}

    def add(self, pair: Pair) -> None:
        if pair.left == pair.right:  # teaches nothing
            self._dropped["alike"] += 1
            return
        # 8 bytes of a digest stand for the pair: Python's own hash differs from run to run.
        digest = hashlib.blake2b(f"{pair.left}\0{pair.right}".encode(errors="replace"), digest_size=8).digest()
        key = int.from_bytes(digest, "little")
        if key in self._seen:
            self._dropped["repeated"] += 1
            return
        self._seen.add(key)
        self._count += 1
        if len(self._pairs) < self._limit:
            self._pairs.append(pair)
        elif (place := self._random.randrange(self._count)) < self._limit:
            self._pairs[place] = pair

    def pair_set(self, name: str, facts: dict[str, Any]) -> PairSet:
        dropped = {**self._dropped, "beyond the limit": self._count - len(self._pairs)}
        return PairSet(name, self._pairs, dict(facts), dropped)


def _find_columns(row: dict[str, Any], columns: Columns, where: str) -> tuple[str, str]:
    """Return the two columns to read, from the first row's names."""
    names = ", ".join(repr(column[:60]) for column in islice(row, MAX_NAMED)) or "none"
    names += f" and {len(row) - MAX_NAMED:,} more" if len(row) > MAX_NAMED else ""
    if columns.left and columns.right:
        for column in (columns.left, columns.right):
            if column not in row:
                raise InputError(f"{where} has no column {column!r}; it has {names}")
        return columns.left, columns.right
    for left, right in SIDES:
        if left in row and right in row:
            return left, right
    others = _other_columns(row)
    if len(others) == 2:
        return others[0], others[1]
    raise InputError(f"{where}: which columns hold the pairs? It has {names}; name two: SOURCE:LEFT,RIGHT")


def _other_columns(names: Iterable[str]) -> list[str]:
    """Return the columns that name neither a language nor a set."""
    return [name for name in names if name not in LANGUAGES + SETS]


def _text(value: Any) -> str:
    """Return a cell's text on one line without space around it; empty where it is none."""
    return _characters(value[:MAX_CHARACTERS].strip()) if isinstance(value, str) else ""


def _characters(text: str) -> str:
    """Return a text that any library takes: half a character, which JSON can hold, becomes a question mark."""
    return text.encode(errors="replace").decode()


def _first(row: dict[str, Any], names: Iterable[str]) -> str:
    """Return the first of these cells that holds a text, or nothing."""
    return next((found for name in names if (found := _text(row.get(name))[:60])), "")
