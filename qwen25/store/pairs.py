"""Pairs of texts that belong together, from files here: JSON Lines, CSV, TSV, Parquet; and hashes of those learnt."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import random
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from safetensors.numpy import load_file, save_file

from qwen25.runtime.errors import InputError, as_input_error
from qwen25.runtime.files import sha256

#: Fewer pairs teach their own wording rather than what their texts mean; of more in a set, a sample is taken.
MIN_PAIRS, MAX_ROWS = 1_000, 200_000
#: A file with a longer line is refused: a damaged or hostile one must not fill the memory. In bytes.
MAX_LINE = 1 << 24
#: Rows of a Parquet file that are in memory at once; a text may have millions of characters.
PARQUET_ROWS = 256
#: A text is cut to this many characters: training reads no more of it.
MAX_CHARACTERS = 2_000
#: The names by which the two sides are found where none are given: the first two that are both there.
SIDES = (
    "a/b anchor/positive query/positive query/answer question/answer sentence1/sentence2 sentence_A/sentence_B "
    "text1/text2 english/non_english source/target src/tgt title/body title/abstract title/text instruction/output "
    "prompt/response premise/hypothesis text/simplified comment/code"
)
#: Of the other columns, these say a row's language.
LABELS = ("lang", "language")
#: Beside a model that learnt from pairs, which texts those were; in a folder of its own, as no weights. The most hashes
#: that are kept, the smallest: 8 bytes each. Which texts they stand for is chance, but the same for every file.
TRAINING_TEXTS, MOST_TEXTS = "training_texts/hashes.safetensors", 100_000
SUFFIXES = (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")

Row = dict[str, Any]
#: The columns of the two sides; None: the usual names are looked for.
Columns = tuple[str, str] | None


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
        """Return the set's entry in the metadata."""
        return {
            "name": self.name,
            "rows": len(self.pairs),
            "languages": sorted({pair.language for pair in self.pairs} - {""}),
            **self.facts,
            "dropped": {reason: count for reason, count in self.dropped.items() if count},
        }


def is_rows_file(path: Path) -> bool:
    """Whether a file has the name of one that holds rows, gzipped or not."""
    return path.name.lower().removesuffix(".gz").endswith(SUFFIXES)


def parse_path(text: str, flag: str = "--pairs") -> tuple[Path, Columns]:
    """Parse ``PATH`` or ``PATH:LEFT,RIGHT``; a path that is there may hold a colon and a comma itself.

    :param flag: the one that gave it, for messages.
    :raises InputError: if what stands behind the colon does not name two columns.
    """
    before, _, behind = text.rpartition(":")
    if before and "," in behind and not Path(text).expanduser().exists():
        return Path(before).expanduser(), parse_columns(behind, flag)
    return Path(text).expanduser(), None


def parse_columns(text: str, flag: str = "--pairs") -> tuple[str, str]:
    """Parse ``LEFT,RIGHT``; raises InputError if it does not name two columns."""
    names = [name.strip() for name in text.split(",")]
    if len(names) != 2 or not all(names):
        raise InputError(f"{flag}: {text!r} does not name two columns: give LEFT,RIGHT")
    return names[0], names[1]


def normalised(text: str) -> str:
    """Return a text as it is compared: compatible characters, case and white space do not count."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def read_path(path: Path, columns: Columns = None, rows: int = MAX_ROWS, seed: int = 0) -> list[PairSet]:
    """Read the pairs of a file, or of every file of pairs in a folder, in name order; each file makes one set.

    :param rows: the most pairs of a set; of more, a sample is taken.
    :raises InputError: if there is no such file, it is broken, a column is missing, or it holds no pairs.
    """
    # Hidden files are other programs': what an editor or a copy left behind.
    files = [file for file in (sorted(path.glob("[!.]*")) if path.is_dir() else [path]) if is_rows_file(file)]
    if not files:
        raise InputError(f"{path} holds no file of pairs ({', '.join(SUFFIXES)}, gzipped or not)")
    sets = []
    for file in files:
        name = file.name.removesuffix(".gz").rpartition(".")[0]
        sets.append(collect(read_rows(file), columns, rows, seed, name, {"source": file.name}))
        sets[-1].facts["sha256"] = sha256([file])
    return sets


def read_rows(path: Path) -> Iterator[Row]:
    """Yield a file's rows, a few in memory at a time; raises InputError if the file cannot be read."""
    with as_input_error(f"{path.name} cannot be read", "repair it, or give another"), path.open("rb") as file:
        rows = _parquet_rows(file) if path.name.lower().endswith(".parquet") else text_rows(file, path.name)
        for number, row in enumerate(rows, 1):
            if row is None:
                what = "not whole, or not in UTF-8; of JSON, an object has a line of its own"
                raise InputError(f"{path.name}, row {number}: {what}")
            yield row


def text_rows(file: BinaryIO, name: str) -> Iterator[Row | None]:
    """Yield the rows of JSON Lines, CSV or TSV, gzipped or not; None for what is no whole row in UTF-8.

    :param name: the file's; its end says its kind.
    :raises Exception: whatever a broken archive makes the libraries raise; ValueError for a line over ``MAX_LINE``.
    """
    kind = name.lower()
    lines = _lines(gzip.GzipFile(fileobj=file) if kind.endswith(".gz") else file)
    if ".csv" not in kind[-7:] and ".tsv" not in kind[-7:]:
        for line in filter(bytes.strip, lines):
            try:
                found = json.loads(line)
            except (ValueError, RecursionError):
                found = None
            yield found if isinstance(found, dict) else None
        return
    csv.field_size_limit(MAX_LINE)
    texts = (line.decode(errors="surrogateescape") for line in lines)
    for row in csv.DictReader(texts, delimiter="\t" if ".tsv" in kind[-7:] else ","):
        # A field too many has the name None, and one that is missing the value.
        is_whole = None not in row and None not in row.values() and is_valid("".join(row.values()))
        yield row if is_whole else None


def _lines(file: Any) -> Iterator[bytes]:
    mark = b"\xef\xbb\xbf"
    while line := file.readline(MAX_LINE):
        if len(line) == MAX_LINE:
            raise ValueError(f"a line is longer than {MAX_LINE:,} bytes")
        yield line.removeprefix(mark)
        mark = b""


def is_valid(text: str) -> bool:
    """Whether a text is one in UTF-8: JSON can hold half a character, which no tokenizer takes."""
    return text.isascii() or text.encode(errors="replace").decode() == text


def _parquet_rows(content: BinaryIO) -> Iterator[Row]:
    """Yield a Parquet file's rows; what is no text and no number is None: Python may have no type for it."""
    from pyarrow import parquet, types

    with parquet.ParquetFile(content) as file:
        names = file.schema_arrow.names
        numbers = (types.is_integer, types.is_boolean, types.is_floating)
        read = [c.name for c in file.schema_arrow if "string" in str(c.type) or any(is_a(c.type) for is_a in numbers)]
        for batch in file.iter_batches(batch_size=PARQUET_ROWS, columns=read):
            yield from (dict.fromkeys(names) | row for row in batch.to_pylist())


def collect(
    rows_read: Iterable[Row], columns: Columns, limit: int, seed: int, name: str, facts: dict[str, Any]
) -> PairSet:
    """Make a set of the pairs in rows; of more than ``limit``, a uniform sample is kept (reservoir sampling).

    :param facts: where the rows are from; messages name its ``source``.
    :raises InputError: if a column is missing, or there is no pair at all.
    """
    found = PairSet(name, [], facts, dict.fromkeys(("one-sided", "alike", "repeated", "beyond the limit"), 0))
    draw = random.Random(f"{seed}/{name}")  # noqa: S311, no secret is made
    where, chosen, seen = facts["source"], columns, set[bytes]()
    for number, row in enumerate(rows_read):
        if not number:
            chosen = find_columns([*row], columns, where)
        left, right = (cell_text(row.get(column)) for column in chosen or ())
        # 8 bytes of a digest stand for the pair: millions of pairs may be read.
        key = hashlib.blake2b(f"{left}\0{right}".encode(), digest_size=8).digest()
        useless = {"one-sided": not left or not right, "alike": left == right, "repeated": key in seen}
        if reason := next((reason for reason, holds in useless.items() if holds), None):
            found.dropped[reason] += 1
            continue
        seen.add(key)
        pair = Pair(left, right, cell_text(row.get(LABELS[0]) or row.get(LABELS[1]))[:60])
        if len(found.pairs) < limit:
            found.pairs.append(pair)
            continue
        found.dropped["beyond the limit"] += 1
        if (place := draw.randrange(len(seen))) < limit:
            found.pairs[place] = pair
    if not found.pairs:
        raise InputError(f"{where} holds no pairs: does every row have two texts?")
    return found


def find_columns(names: Sequence[str], columns: Columns, where: str) -> tuple[str, str]:
    """Return the two columns to read, of those that there are."""
    known = ", ".join(repr(name[:60]) for name in names[:20]) or "none"
    if columns:
        if missing := next((column for column in columns if column not in names), None):
            raise InputError(f"{where} has no column {missing!r}; it has {known}")
        return columns
    for left, right in (sides.split("/") for sides in SIDES.split()):
        if left in names and right in names:
            return left, right
    others = [name for name in names if name not in LABELS]
    if len(others) != 2:
        raise InputError(f"{where}: which columns hold the pairs? It has {known}; name two: SOURCE:LEFT,RIGHT")
    return others[0], others[1]


def cell_text(value: Any) -> str:
    """Return a cell's text without space around it; empty where it is none."""
    return value[:MAX_CHARACTERS].strip().encode(errors="replace").decode() if isinstance(value, str) else ""


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text inside a JSON value with its place."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(inner, f"{path}/{key}")


def hashes_of(texts: Iterable[str]) -> np.ndarray:
    """Return the hashes of the normalised texts, ascending, each once: 8 bytes of SHA-256; uint64, shape (texts,)."""
    digests = b"".join(hashlib.sha256(normalised(text).encode()).digest()[:8] for text in texts)
    return np.unique(np.frombuffer(digests, dtype="<u8").astype(np.uint64))


def write_training_texts(folder: Path, texts: Iterable[str]) -> None:
    """Write the smallest hashes of the texts that the model in ``folder`` was trained on."""
    (folder / TRAINING_TEXTS).parent.mkdir(exist_ok=True)
    save_file({"hashes": hashes_of(texts)[:MOST_TEXTS]}, folder / TRAINING_TEXTS)
    (folder / TRAINING_TEXTS).chmod(0o644)  # safetensors makes it readable by its owner alone


def read_training_texts(folder: Path) -> np.ndarray | None:
    """Return the hashes beside a model, ascending; None: it says nothing of its training. Raises InputError."""
    path = folder / TRAINING_TEXTS
    if not path.is_file():
        return None
    with as_input_error(f"{path} holds no hashes", "distil the model again, or remove the file"):
        return np.sort(load_file(path)["hashes"].astype(np.uint64).ravel())


def shared_texts(known: np.ndarray, texts: Iterable[str]) -> tuple[int, int]:
    """Return how many of the texts are among those of :func:`read_training_texts`, and of how many that can be told.

    Of a sample it can be told of texts whose hash is no larger than the sample's largest (a bottom-k sketch, Cohen
    and Kaplan 2007).
    """
    hashes = hashes_of(texts)
    if len(known) >= MOST_TEXTS:
        hashes = hashes[hashes <= known[-1]]
    return int(np.isin(hashes, known).sum()), len(hashes)
