"""Pairs that occur in evaluation items are kept out of training: a model that has learnt them would look too good."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from qwen25.runtime.errors import InputError
from qwen25.training.pairs import BROKEN_GZIP, PairSet, is_pairs_file, opened, records, text_lines

#: Files of plain text, one a line, are read as well.
TEXT_SUFFIXES = (".txt", ".txt.gz")


def texts_to_keep_out(folders: Iterable[Path]) -> set[str]:
    """Return all texts of the items in these folders (JSON Lines, CSV, TSV, Parquet or plain text), as compared.

    :raises InputError: if a folder holds no such file, or one cannot be read.
    """
    found: set[str] = set()
    for folder in folders:
        files = sorted(folder.rglob("*")) if folder.is_dir() else [folder]
        readable = [file for file in files if file.is_file() and (is_pairs_file(file) or _is_text(file))]
        if not readable:
            raise InputError(
                f"{folder} holds no items to keep out: give a folder of .jsonl, .csv, .parquet or .txt files"
            )
        for file in readable:
            found.update(map(normalised, _strings(file)))
    return found - {""}


def keep_out(sets: Iterable[PairSet], texts: set[str]) -> None:
    """Drop the pairs one of whose sides is among ``texts``, and count them in each set."""
    for pairs in sets:
        kept = [pair for pair in pairs.pairs if not {normalised(pair.left), normalised(pair.right)} & texts]
        pairs.dropped["kept out"] = len(pairs.pairs) - len(kept)
        pairs.pairs = kept


def normalised(text: str) -> str:
    """Return a text as it is compared: compatible characters, case and white space do not count."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _is_text(path: Path) -> bool:
    return path.name.endswith(TEXT_SUFFIXES)


def _strings(path: Path) -> Iterator[str]:
    """Yield every string of a file."""
    try:
        if _is_text(path):
            with opened(path) as file:
                yield from text_lines(file, path)
        else:
            for row in records(path):
                yield from _leaves(row)
    except BROKEN_GZIP as error:
        raise InputError(f"{path} cannot be read to be kept out: {error}") from error


def _leaves(value: Any) -> Iterator[str]:
    """Yield every string inside a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner)
