"""The user's own pairs of a query and its answer, from a file or a list, as queries that are to find documents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from qwen25.runtime.errors import InputError
from qwen25.runtime.files import read_lines, sha256
from qwen25.store.pairs import MAX_ROWS, Row, cell_text, collect, is_rows_file, parse_path, read_rows

#: A file of pairs, as FILE or FILE:LEFT,RIGHT; or the pairs themselves.
Source = str | Path | Sequence[tuple[str, str]]
MOST_DOCUMENTS = 200_000
#: By these names a column says which rows are pairs: those with a 1.
MARKS = ("label", "labels", "is_duplicate", "relevant")


class Direction(NamedTuple):
    """Queries and the documents that they are to find.

    :ivar asked: the query of each right answer, ascending; shape (right answers,).
    :ivar right: its document; shape (right answers,).
    """

    queries: list[str]
    documents: list[str]
    asked: np.ndarray
    right: np.ndarray


class OwnData(NamedTuple):
    """One file's pairs, as given and with their sides swapped, and what the result says of them."""

    ways: tuple[Direction, Direction]
    facts: dict[str, Any]


def read_own(source: Source, among: Sequence[str] = ()) -> OwnData:
    """Read the pairs of a file, or take those given; rows with the same query are its several right answers.

    :param among: documents that are no answer.
    :raises InputError: if the file cannot be read, or holds no pairs.
    """
    columns, zeros = None, [0]
    if isinstance(source, str | Path):
        path, columns = parse_path(str(source), "--on")
        if not path.is_file() or not is_rows_file(path):
            raise InputError(
                f"--on {source}: no such file of pairs; give .jsonl, .csv, .tsv or .parquet, gzipped or not"
            )
        rows, facts = _marked_rows(read_rows(path), zeros), {"source": path.name, "sha256": sha256([path])}
    else:
        rows, facts = iter([{"query": query, "answer": answer} for query, answer in source]), {"source": "pairs"}
    found = collect(rows, columns, MAX_ROWS, 0, facts["source"], facts)
    pairs = [(pair.left, pair.right) for pair in found.pairs]
    if not pairs:
        raise InputError(f"{facts['source']} holds no pairs of two different texts")
    ways = _direction(pairs, among), _direction([(right, left) for left, right in pairs])
    beyond = len({*among, *(right for _, right in pairs)}) - len(ways[0].documents)
    left_out = {**found.dropped, "labelled 0": zeros[0], "documents beyond the limit": beyond}
    counts = {"rows": len(pairs), "queries": len(ways[0].queries), "documents": len(ways[0].documents)}
    dropped = {reason: count for reason, count in left_out.items() if count}
    return OwnData(ways, {"name": facts["source"], **facts, **counts, "dropped": dropped})


def _marked_rows(rows: Iterator[Row], zeros: list[int]) -> Iterator[Row]:
    """Yield the rows that are pairs, where a column of 0 and 1 marks them; ``zeros`` counts the others."""
    known = {"0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}
    mark = None
    for number, row in enumerate(rows):
        if not number:
            mark = next((name for name in MARKS if str(row.get(name)).lower() in known), None)
        cell = str(row.pop(mark, None) if mark else 1).lower()
        if cell not in known:
            raise InputError(f"column {mark!r} holds {cell[:60]!r} beside 0 and 1: keep only the rows that are pairs")
        zeros[0] += not known[cell]
        if known[cell]:
            yield row


def read_among(source: str | Path) -> tuple[list[str], dict[str, str]]:
    """Read documents: a file of rows with one column, a column ``text``, or one that FILE:COLUMN names; or lines.

    :return: the documents, and what a result says of their file.
    :raises InputError: if there is no such file or column.
    """
    path, column = Path(source).expanduser(), ""
    if not path.exists():
        before, _, column = str(source).rpartition(":")
        path = Path(before or source).expanduser()
    if not path.is_file():
        raise InputError(f"--among {source}: no such file")
    facts = {"source": path.name, "sha256": sha256([path])}
    if not is_rows_file(path):
        lines = map(cell_text, read_lines(path, "file of documents").lines)
        return [line for line in lines if line], facts
    texts: list[str] = []
    for row in read_rows(path):
        name = column or (next(iter(row)) if len(row) == 1 else "text")
        if name not in row:
            raise InputError(
                f"--among {source} has no column {name!r}: give FILE:COLUMN, one of {', '.join(row)[:200]}"
            )
        if text := cell_text(row[name]):
            texts.append(text)
    return texts, facts


def _direction(pairs: Sequence[tuple[str, str]], among: Sequence[str] = ()) -> Direction:
    queries = {text: i for i, text in enumerate(dict.fromkeys(left for left, _ in pairs))}
    answers = list(dict.fromkeys(right for _, right in pairs))
    documents = {text: i for i, text in enumerate(list(dict.fromkeys([*answers, *among]))[:MOST_DOCUMENTS])}
    places = np.unique([(queries[left], documents[right]) for left, right in pairs], axis=0)
    return Direction(list(queries), list(documents), places[:, 0], places[:, 1])
