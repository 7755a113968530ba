"""Reading pairs: every format, what is left out, and each bad file's one line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow
import pytest
from conftest import jsonl
from pyarrow import parquet

from qwen25.runtime.errors import InputError
from qwen25.store import pairs as pairs_module
from qwen25.store.pairs import MAX_CHARACTERS, MAX_LINE, Pair, read_path

ROWS = [{"question": f"What is {i}?", "answer": f'{i}; "it" is', "lang": "en"} for i in range(1200)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
CSV = "question,answer,lang\n" + "".join(f'What is {i}?,"{i}; ""it"" is",en\n' for i in range(1200))
CONTENTS = {
    "qa.jsonl.gz": gzip.compress(LINES, mtime=0),
    "qa.csv": CSV.encode("utf-8-sig"),
    "qa.tsv.gz": gzip.compress(CSV.replace(",", "\t").encode(), mtime=0),
}


@pytest.mark.parametrize("name", [*CONTENTS, "qa.parquet"])
def test_every_format_gives_the_same_pairs(tmp_path: Path, name: str) -> None:
    if name.endswith(".parquet"):
        parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / name)
    else:
        (tmp_path / name).write_bytes(CONTENTS[name])
    (found,) = read_path(tmp_path / name)
    assert found.name == "qa"
    assert found.pairs == [Pair(row["question"], row["answer"], "en") for row in ROWS]


def test_cells_are_texts_as_they_stand(tmp_path: Path) -> None:
    """No type is guessed, and a text may have several lines."""
    (tmp_path / "a.csv").write_text('a,b\n007,NULL\n1e3,"x,\n""y"""\n')
    assert [(p.left, p.right) for p in read_path(tmp_path)[0].pairs] == [("007", "NULL"), ("1e3", 'x,\n"y"')]


def test_columns_are_named_or_found(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "odd.jsonl", [{"x": f"x{i}", "y": f"y{i}", "z": f"z{i}"} for i in range(5)])
    assert read_path(path, ("z", "x"))[0].pairs[3] == Pair("z3", "x3", "")
    with pytest.raises(InputError, match=r"which columns hold the pairs\? It has 'x', 'y', 'z'"):
        read_path(path)
    with pytest.raises(InputError, match="has no column 'w'; it has 'x', 'y', 'z'"):
        read_path(path, ("w", "x"))


def test_each_file_of_a_folder_makes_a_set(tmp_path: Path) -> None:
    jsonl(tmp_path / "mixed.jsonl", [{"a": f"a{i}", "b": f"b{i}"} for i in range(10)])
    jsonl(tmp_path / "other.jsonl", ROWS)
    (tmp_path / "._other.jsonl").write_bytes(b"\0\5\x16\7")  # another program's
    (tmp_path / "README.md").write_text("no pairs")
    assert [found.name for found in read_path(tmp_path)] == ["mixed", "other"]


def test_what_teaches_nothing_is_left_out_and_counted(tmp_path: Path) -> None:
    rows = [*ROWS, ROWS[0], {"question": "same", "answer": "same"}, {"question": "alone", "answer": None}]
    (found,) = read_path(jsonl(tmp_path / "qa.jsonl", rows))
    assert len(found.pairs) == len(ROWS)
    assert found.summary()["dropped"] == {"alike": 1, "repeated": 1, "one-sided": 1}


def test_of_more_pairs_than_wanted_a_sample_is_taken_that_the_seed_decides(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "qa.jsonl", ROWS)
    samples = [read_path(path, rows=100, seed=seed)[0] for seed in (1, 1, 2)]
    assert samples[0].pairs == samples[1].pairs != samples[2].pairs
    assert len(samples[0].pairs) == 100 and samples[0].dropped["beyond the limit"] == 1100
    assert sum(int(pair.left.split()[2][:-1]) >= 600 for pair in samples[0].pairs) > 30


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"a": "\\ud800", "b": "y"}\n{"a": "x", "b"', "row 2: not whole"),
        ("a.jsonl", b'{"a": "x", "b": "' + b"y" * MAX_LINE + b'"}\n', "a line is longer than"),
        ("a.jsonl", b'{"a": "x", "b": ""}\n', "holds no pairs: does every row have two texts"),
        ("a.csv", b"a,b\nx,\xff\n", "row 1: not whole, or not in UTF-8"),
        ("a.parquet", b"PAR1 not really", "cannot be read"),
        ("a.jsonl.gz", CONTENTS["qa.jsonl.gz"][:-12], "ended before"),
        ("a.docx", b"", "holds no file of pairs"),
    ],
)
def test_a_bad_file_ends_in_one_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as raised:
        read_path(tmp_path / name)
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 2000


def test_other_columns_of_a_parquet_file_do_not_matter(tmp_path: Path) -> None:
    table = pyarrow.Table.from_pylist(ROWS)
    table = table.append_column("long", pyarrow.array([2**62] * 1200, pyarrow.duration("s")))
    table = table.append_column("bytes", pyarrow.array([b"\xff"] * 1200))
    table = table.append_column("lists", pyarrow.array([["some", "texts"]] * 1200))
    names = ["question", "answer"]
    coded = pyarrow.table({name: pyarrow.array([row[name] for row in ROWS]).dictionary_encode() for name in names})
    for number, one in enumerate((table, coded)):
        parquet.write_table(one, tmp_path / f"{number}.parquet")
    for found in read_path(tmp_path):
        assert [pair[:2] for pair in found.pairs] == [(row["question"], row["answer"]) for row in ROWS]


def test_long_cells_are_cut_and_few_are_in_memory_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs_module, "PARQUET_ROWS", 2)
    table = pyarrow.table({"a": ["x" * 900_000 + str(i) for i in range(4)], "b": [f"y {i}" for i in range(4)]})
    parquet.write_table(table, tmp_path / "a.parquet")
    (tmp_path / "b.csv").write_text("a,b\n" + "".join(f"{'x' * 200_000}{i},y {i}\n" for i in range(4)))
    for found in read_path(tmp_path):
        assert [(len(pair.left), pair.right) for pair in found.pairs] == [(MAX_CHARACTERS, f"y {i}") for i in range(4)]
