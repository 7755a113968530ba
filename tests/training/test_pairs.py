"""Reading pairs: every format, what is left out, and each bad file's one line."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from qwen25.runtime.errors import InputError
from qwen25.training.hub_pairs import HubSet
from qwen25.training.keep_out import keep_out, texts_to_keep_out
from qwen25.training.mixtures import MIXTURES, read_mixture
from qwen25.training.pairs import MAX_LINE, Columns, Pair, PairSet, read_file, read_path
from qwen25.training.sources import Files, OnHub, parse_source, read_sources

ROWS = [{"question": f"What is {i}?", "answer": f'{i}, "it" is', "lang": "en"} for i in range(1200)]
ANY = Columns()


def jsonl(path: Path, rows: list[dict] = ROWS) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def as_csv(path: Path, delimiter: str = ",") -> Path:
    lines = [f'What is {i}?{delimiter}"{i}, ""it"" is"{delimiter}en' for i in range(1200)]
    path.write_text("\n".join([delimiter.join(ROWS[0]), *lines]) + "\n", encoding="utf-8-sig")
    return path


def gzipped(path: Path) -> Path:
    target = path.with_name(path.name + ".gz")
    target.write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    return target


def as_parquet(path: Path, rows: list[dict] = ROWS) -> Path:
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: jsonl(folder / "qa.jsonl"),
        lambda folder: gzipped(jsonl(folder / "qa.jsonl")),
        lambda folder: as_csv(folder / "qa.csv"),
        lambda folder: as_csv(folder / "qa.tsv", "\t"),
        lambda folder: gzipped(as_csv(folder / "qa.csv")),
        lambda folder: as_parquet(folder / "qa.parquet"),
    ],
)
def test_every_format_gives_the_same_pairs(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    (found,) = read_path(make(tmp_path), ANY)
    assert found.name == "qa"
    assert found.pairs == [Pair(row["question"], row["answer"], "en") for row in ROWS]


def test_columns_are_named_or_found(tmp_path: Path) -> None:
    rows = [{"x": f"x{i}", "y": f"y{i}", "z": f"z{i}"} for i in range(5)]
    path = jsonl(tmp_path / "odd.jsonl", rows)
    assert read_file(path, Columns("z", "x"))[0].pairs[3] == Pair("z3", "x3", "")
    with pytest.raises(InputError, match=r"which columns hold the pairs\? It has 'x', 'y', 'z'"):
        read_file(path, ANY)
    with pytest.raises(InputError, match="has no column 'w'; it has 'x', 'y', 'z'"):
        read_file(path, Columns("w", "x"))
    two = jsonl(tmp_path / "two.jsonl", [{"from": "a", "to": "b", "lang": "fr"}])
    assert read_file(two, ANY)[0].pairs == [Pair("a", "b", "fr")]
    headless = tmp_path / "headless.csv"
    headless.write_text("how do I reset the router,hold its button for ten seconds\nx,y\n")
    with pytest.raises(InputError, match="its first line must name the columns"):
        read_file(headless, ANY)
    question, answer = headless.read_text().splitlines()[0].split(",")
    assert read_file(headless, Columns(question, answer))[0].pairs == [Pair("x", "y", "")]
    long_names = jsonl(tmp_path / "long.jsonl", [{question: "x", answer: "y"}])  # each of its lines names them
    assert read_file(long_names, ANY)[0].pairs == [Pair("x", "y", "")]


def test_a_set_column_and_a_folder_make_several_sets(tmp_path: Path) -> None:
    jsonl(tmp_path / "mixed.jsonl", [{"a": f"a{i}", "b": f"b{i}", "set": "pq"[i % 2]} for i in range(10)])
    jsonl(tmp_path / "other.jsonl")
    (tmp_path / "README.md").write_text("no pairs")
    assert [found.name for found in read_path(tmp_path, ANY)] == ["mixed/p", "mixed/q", "other"]


def test_what_teaches_nothing_is_left_out_and_counted(tmp_path: Path) -> None:
    rows = [*ROWS, ROWS[0], {"question": "same", "answer": "same"}, {"question": "alone", "answer": None}]
    (found,) = read_file(jsonl(tmp_path / "qa.jsonl", rows), ANY)
    assert len(found.pairs) == len(ROWS)
    assert found.summary()["dropped"] == {"alike": 1, "repeated": 1, "one-sided": 1}


def test_of_more_pairs_than_wanted_a_sample_is_taken_that_the_seed_decides(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "qa.jsonl")
    samples = [read_file(path, ANY, rows=100, seed=seed)[0] for seed in (1, 1, 2)]
    assert samples[0].pairs == samples[1].pairs != samples[2].pairs
    assert len(samples[0].pairs) == 100 and samples[0].dropped["beyond the limit"] == 1100
    assert sum(int(pair.left.split()[2][:-1]) >= 600 for pair in samples[0].pairs) > 30


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"a": "x", "b": "y"}\n{"a": "x", "b"', "line 2: not JSON"),
        ("a.jsonl", b'["x", "y"]\n', "line 1: not a JSON object"),
        ("a.jsonl", '{"a": "\xe9", "b": "y"}\n'.encode("latin-1"), "line 1: not UTF-8"),
        ("a.jsonl", b'{"a": "x", "b": "' + b"y" * MAX_LINE + b'"}\n', "line 1: longer than 1,000,000 bytes"),
        ("a.jsonl", b'{"a": "x", "b": ""}\n{"a": "x", "b": "y"}\n', "1 of 2 rows lack a text in 'a' or 'b'"),
        ("a.jsonl", b"\n", "holds no pairs"),
        ("a.csv", b'a,b\n"x,y\n', "unexpected end of data"),
        ("a.csv", b"a,b\nx,y,z\n", "line 2: has more fields"),
        ("a.parquet", b"PAR1 not really", "cannot be read as Parquet"),
        ("a.jsonl.gz", gzip.compress(b'{"a": "x", "b": "y"}\n' * 99, mtime=0)[:-12], "cut short"),
        ("a.jsonl.gz", b"plain text", "cannot be read"),
        ("a.docx", b"", "is no file of pairs"),
    ],
)
def test_a_bad_file_ends_in_one_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as raised:
        read_path(tmp_path / name, ANY)
    assert "\n" not in str(raised.value)


def test_too_few_pairs_are_refused(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "few.jsonl", ROWS[:999])
    with pytest.raises(InputError, match="999 pairs are too few to learn from; give at least 1,000"):
        read_sources([parse_source(str(path))])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no file of pairs"):
        read_sources([parse_source(str(tmp_path / "empty"))])


def test_what_pairs_takes_is_understood(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a:b,c.jsonl")
    assert parse_source(str(path)) == Files(path)
    assert parse_source("no.jsonl:x, y") == Files(Path("no.jsonl"), Columns("x", "y"))
    hub = HubSet("me/data", "en-de", Columns("source", "target"), revision="v1")
    assert parse_source("hub:me/data@v1:en-de:source,target") == OnHub(hub)
    assert parse_source("hub:me/data") == parse_source("hub:me/data:") == OnHub(HubSet("me/data"))
    for wrong in ("hub:me/data:a:b:c", "hub:", "nothing-here", "no.jsonl:x,y,z"):
        with pytest.raises(InputError, match="--pairs"):
            parse_source(wrong)


def test_pairs_of_the_items_are_kept_out(tmp_path: Path) -> None:
    items = tmp_path / "items" / "deep"
    items.mkdir(parents=True)
    jsonl(items / "similarity.jsonl", [{"id": "1", "anchor": "A  Cat sleeps", "others": [{"text": "dogs bark"}]}])
    (items / "notes.txt").write_text("the sky is blue\n")
    kept = [Pair("birds sing", "a cat", "")]
    pairs = PairSet(
        "p", [Pair("a cat SLEEPS", "x", ""), Pair("y", "Dogs bark", ""), Pair("The sky is blue", "z", ""), *kept]
    )
    keep_out([pairs], texts_to_keep_out([tmp_path / "items"]))
    assert pairs.pairs == kept and pairs.dropped["kept out"] == 3
    with pytest.raises(InputError, match="holds no items to keep out"):
        texts_to_keep_out([tmp_path / "nowhere"])


def test_the_recommended_mixture_is_what_it_says() -> None:
    entries = read_mixture(MIXTURES["recommended"])
    foreign = {language for entry in entries for language in entry.languages} - {"en"}
    assert len(foreign) >= 12
    assert not [entry.name for entry in entries if "-NC" in entry.licence or "not stated" in entry.licence]
    assert all(entry.origin.columns.left and entry.rows >= 1_000 for entry in entries)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": 0}, "'rows' must be"),
        ({"licence": None}, "'licence' is missing"),
        ({"colums": []}, "unknown field 'colums'"),
        ({"enabled": False}, "none of its sets is enabled"),
        ({"columns": ["a"]}, "'columns' must be"),
    ],
)
def test_a_broken_mixture_ends_in_one_line(tmp_path: Path, change: dict, message: str) -> None:
    entry = {"repo": "a/b", "rows": 10, "languages": ["en"], "licence": "MIT", "why": "test", **change}
    path = tmp_path / "mixture.json"
    path.write_text(json.dumps({"sets": [entry]}))
    with pytest.raises(InputError, match=message):
        parse_source(str(path))
