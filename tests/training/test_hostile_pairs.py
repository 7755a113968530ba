"""Files of pairs from anywhere: whatever stands in them, the worst is one line, and nothing of them is run."""

from __future__ import annotations

import gzip
import json
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from qwen25.runtime.errors import InputError, PipelineError
from qwen25.training import pairs as pairs_module
from qwen25.training.hub_pairs import HubSet, read_hub
from qwen25.training.keep_out import texts_to_keep_out
from qwen25.training.pairs import MAX_CHARACTERS, Columns, PairSet, read_path
from qwen25.training.sources import parse_source, read_sources

ANY = Columns()
ROWS = [{"a": f"q {i}", "b": f"it is {i}"} for i in range(1200)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
CSV = ("a,b\n" + "".join(f"q {i},it is {i}\n" for i in range(1200))).encode()


def with_column(values: Any, kind: Any = None, name: str = "more") -> pyarrow.Table:
    return pyarrow.Table.from_pylist(ROWS).append_column(name, pyarrow.array(values, kind))


def read(path: Path) -> list[PairSet]:
    return read_sources([parse_source(str(path))])


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 2000
    return str(caught.value)


def garbled(content: bytes, at: int) -> bytes:
    return content[:at] + b"\xff\xff\xff\xff" + content[at + 4 :]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl.gz", garbled(gzip.compress(LINES, mtime=0), 400), "cannot be read"),
        ("a.csv.gz", garbled(gzip.compress(CSV, mtime=0), 400), "cannot be read"),
        ("a.jsonl.gz", gzip.compress((b" " * 999 + b"\n") * 3000, mtime=0), "inflates to more than 200 times its size"),
        ("a.csv", CSV.decode().encode("utf-16-le"), "UTF-16 without its mark"),
        ("a.csv", CSV.replace(b"7", b"\0"), "line 9: no text"),
        ("a.parquet.gz", b"", "is no file of pairs"),
        ("a.jsonl", json.dumps({f"c{i}": "" for i in range(50_000)}).encode(), "'c19' and 49,980 more; name two"),
        ("a.jsonl", json.dumps({"x" * 9000: "", "y": "", "z": ""}).encode(), "'" + "x" * 60 + "', 'y', 'z'"),
    ],
)
def test_a_bad_file_ends_in_one_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert message in refusal(tmp_path / name)


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.tsv", "a.jsonl.gz", "a.parquet"])
def test_a_damaged_file_is_read_or_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith("parquet"):
        parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
    else:
        content = {"a.csv": CSV, "a.tsv": CSV.replace(b",", b"\t")}.get(name, LINES)
        path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    whole, chance = path.read_bytes(), random.Random(name)  # noqa: S311 - chance, not a secret
    refused = 0
    for _ in range(60):
        damaged = bytearray(whole)
        for _ in range(chance.randrange(1, 6)):
            damaged[chance.randrange(len(whole))] = chance.choice([0, 10, 13, 34, 44, 92, 255])
        path.write_bytes(damaged)
        try:
            assert read(path)
        except PipelineError:
            refused += 1
    assert refused > 20


@pytest.mark.parametrize(
    "table",
    [
        with_column([2**62] * 1200, pyarrow.duration("s")),
        with_column([1] * 1200, pyarrow.timestamp("us", "Nowhere/None")),
        with_column([b"\xff"] * 1200),
        with_column([[{"deep": [b"\xff"]}]] * 1200),
        with_column([[("key", 1)]] * 1200, pyarrow.map_(pyarrow.string(), pyarrow.int8())),
        pyarrow.table({name: pyarrow.array([row[name] for row in ROWS]).dictionary_encode() for name in "ab"}),
        pyarrow.table({name: pyarrow.array([row[name] for row in ROWS], pyarrow.string_view()) for name in "ab"}),
    ],
    ids=["durations", "a time zone of nowhere", "bytes", "nested bytes", "maps", "dictionaries", "views"],
)
def test_columns_that_hold_no_text_do_not_matter(tmp_path: Path, table: pyarrow.Table) -> None:
    parquet.write_table(table, tmp_path / "a.parquet")
    (found,) = read(tmp_path / "a.parquet")
    assert [(pair.left, pair.right) for pair in found.pairs] == [(row["a"], row["b"]) for row in ROWS]


def test_a_column_that_holds_no_text_is_named_when_it_is_asked_for(tmp_path: Path) -> None:
    parquet.write_table(with_column(range(1200)), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="1,200 of 1,200 rows lack a text in 'a' or 'more'"):
        read_sources([parse_source(f"{tmp_path / 'a.parquet'}:a,more")])


def test_a_pickle_in_a_parquet_file_is_never_opened(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
            return open, (f"{tmp_path / 'it was run'}", "w")  # type: ignore[return-value]

    kind = {b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": pickle.dumps(Evil())}
    schema = pyarrow.schema([pyarrow.field("a", pyarrow.string(), metadata=kind), pyarrow.field("b", pyarrow.string())])
    parquet.write_table(pyarrow.Table.from_pylist(ROWS, schema), tmp_path / "a.parquet")
    assert len(read(tmp_path / "a.parquet")[0].pairs) == 1200
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]


def test_long_cells_are_cut_and_few_are_in_memory_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs_module, "PARQUET_ROWS", 2)
    table = pyarrow.table({"a": ["x" * 900_000 + str(i) for i in range(4)], "b": [f"y {i}" for i in range(4)]})
    parquet.write_table(table, tmp_path / "a.parquet")
    (tmp_path / "b.csv").write_text("a,b\n" + "".join(f"{'x' * 200_000}{i},y {i}\n" for i in range(4)))
    for found in read_path(tmp_path, ANY):
        assert [(len(pair.left), pair.right) for pair in found.pairs] == [(MAX_CHARACTERS, f"y {i}") for i in range(4)]


def test_half_a_character_and_a_name_that_is_no_utf_8_are_no_trouble(tmp_path: Path) -> None:
    rows = [{**row, "a": f"\ud800{row['a']}", "set": "\udfff"} for row in ROWS]
    path = Path(f"{tmp_path}/\udcff.jsonl")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (found,) = read(path)
    assert found.name == "?/?" and found.pairs[0].left == "?q 0"


def test_hidden_files_of_a_folder_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "._a.jsonl").write_bytes(b"\0\5\x16\7")
    (tmp_path / "a.jsonl").write_bytes(LINES)
    assert [found.name for found in read_path(tmp_path, ANY)] == ["a"]


def test_sets_of_one_name_are_told_apart(tmp_path: Path) -> None:
    """Else the losses of what is held out of one would stand for both."""
    for folder in "xy":
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "train.jsonl").write_bytes(LINES)
    found = read_sources([parse_source(str(tmp_path / folder)) for folder in "xy"])
    assert [pairs.name for pairs in found] == ["train", "train (2)"]


def test_an_empty_name_is_not_the_folder_that_this_runs_in() -> None:
    with pytest.raises(InputError, match="--pairs is empty"):
        parse_source("")


@pytest.mark.parametrize("revision", ["../../x", "/etc", "a/../b", "main\n", "a//b"])
def test_a_revision_leads_to_no_other_folder(revision: str) -> None:
    with pytest.raises(InputError, match="is no branch, tag or commit"):
        read_hub(HubSet("me/there", revision=revision), 10, 0, offline=True)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("k.jsonl.gz", garbled(gzip.compress(LINES, mtime=0), 400), "cannot be read to be kept out"),
        ("k.txt.gz", gzip.compress(LINES, mtime=0)[:-20], "cannot be read to be kept out"),
        ("k.txt", b"\xff\xfe", "line 1: not UTF-8"),
        ("k.txt", b"x" * 1_500_000, "line 1: longer than"),
    ],
)
def test_what_cannot_be_kept_out_is_said(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        texts_to_keep_out([tmp_path])


def test_a_byte_order_mark_is_no_part_of_what_is_kept_out(tmp_path: Path) -> None:
    (tmp_path / "k.txt").write_bytes("First\r\nsecond\r\n".encode("utf-8-sig"))
    assert texts_to_keep_out([tmp_path]) == {"first", "second"}
