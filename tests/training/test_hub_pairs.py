"""Pairs of data sets on a hub that runs on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pyarrow
import pytest
from fake_hub import FakeHub, Fault, run_as_user
from pyarrow import parquet

from qwen25.runtime.errors import InputError
from qwen25.training.hub_pairs import HubSet, choose_files
from qwen25.training.sources import parse_source

READ = """
import json, sys
from qwen25.runtime.errors import PipelineError
from qwen25.training.sources import parse_source, read_sources
rows, offline = int(sys.argv[2]), "offline" in sys.argv
try:
    sets = read_sources([parse_source(sys.argv[1])], rows=rows, offline=offline)
except PipelineError as error:
    sys.exit(str(error))
print(json.dumps([[s.summary(), s.pairs[0], len(s.pairs)] for s in sets]))
"""


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub() as hub:
        yield hub


def write(path: Path, rows: int, first: int = 0, **columns: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    names = columns or {"anchor": "left", "positive": "right"}
    table = {name: [f"{text} {i}" for i in range(first, first + rows)] for name, text in names.items()}
    parquet.write_table(pyarrow.table(table), path)


def read(hub: FakeHub, home: Path, source: str, rows: int = 10_000, *more: str) -> CompletedProcess[str]:
    return run_as_user(hub.url, home, ["-c", READ, source, str(rows), *more])


def test_a_subset_is_read_and_then_found_in_the_cache(hub: FakeHub, tmp_path: Path) -> None:
    write(tmp_path / "data" / "en-de" / "train-00000-of-00001.parquet", 1500)
    write(tmp_path / "data" / "en-fr" / "train-00000-of-00001.parquet", 1500)
    write(tmp_path / "data" / "en-de" / "test-00000-of-00001.parquet", 1500)
    (tmp_path / "data" / "data.py").write_text("raise SystemExit('run!')")
    commit = hub.add("datasets/me/parallel", tmp_path / "data")
    done = read(hub, tmp_path / "home", "hub:me/parallel:en-de")
    assert done.returncode == 0, done.stderr
    ((summary, first, count),) = json.loads(done.stdout)
    assert count == 1500 and first == ["left 0", "right 0", ""]
    assert summary["source"] == "hub:me/parallel" and summary["revision"] == commit
    fetched = [request for request in hub.requests if request.startswith("GET") and "/resolve/" in request]
    assert len(fetched) == 1 and "en-de/train" in fetched[0]
    hub.faults.append(Fault("broken"))
    again = read(hub, tmp_path / "home", "hub:me/parallel:en-de", 10_000, "offline")
    assert again.stdout == done.stdout
    other = read(hub, tmp_path / "home", "hub:me/parallel:en-fr", 10_000, "offline")
    assert "is not in the hub's cache" in other.stderr


def test_no_more_files_are_fetched_than_the_rows_take(hub: FakeHub, tmp_path: Path) -> None:
    for part in range(3):
        write(tmp_path / "data" / "data" / f"train-0000{part}-of-00003.parquet", 5000, 5000 * part)
    hub.add("datasets/me/large", tmp_path / "data")
    done = read(hub, tmp_path / "home", "hub:me/large", 1100)
    ((_, _, count),) = json.loads(done.stdout)
    assert count == 1100
    assert not [request for request in hub.requests if "00001-of" in request or "00002-of" in request]


def test_a_set_without_parquet_is_read_from_the_hubs_own_copy(hub: FakeHub, tmp_path: Path) -> None:
    (tmp_path / "main").mkdir()
    (tmp_path / "main" / "pairs.jsonl").write_text("{}")
    write(tmp_path / "copy" / "default" / "train" / "0000.parquet", 1200, instruction="do", response="done")
    hub.add("datasets/me/lines", tmp_path / "main")
    hub.add("datasets/me/lines", tmp_path / "copy", "refs/convert/parquet")
    done = read(hub, tmp_path / "home", "hub:me/lines:instruction,response")
    ((_, first, count),) = json.loads(done.stdout)
    assert count == 1200 and first == ["do 0", "done 0", ""]


@pytest.mark.parametrize(
    ("source", "fault", "message"),
    [
        ("hub:me/none", None, "the hub has no such"),
        ("hub:me/there:nothing", None, "no Parquet files of subset 'nothing'"),
        ("hub:me/there@v9", None, "has no revision v9"),
        ("hub:me/there:wrong,columns", None, "has no column 'wrong'; it has 'anchor', 'positive'"),
        ("hub:me/there", "gated", "is gated"),
        ("hub:me/there", "page", "is not the hub"),
        ("hub:no-owner", None, "does not say whose it is"),
    ],
)
def test_what_cannot_be_read_ends_in_one_line(
    hub: FakeHub, tmp_path: Path, source: str, fault: str | None, message: str
) -> None:
    write(tmp_path / "data" / "train.parquet", 1200)
    hub.add("datasets/me/there", tmp_path / "data")
    if fault:
        hub.faults.append(Fault(fault))
    done = read(hub, tmp_path / "home", source)
    assert done.returncode == 1 and not done.stdout
    lines = [line for line in done.stderr.splitlines() if message in line]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr


def test_a_mixtures_sets_carry_their_licence(hub: FakeHub, tmp_path: Path) -> None:
    write(tmp_path / "data" / "pair" / "train.parquet", 3000)
    hub.add("datasets/me/nli", tmp_path / "data")
    entry = {"repo": "me/nli", "subset": "pair", "rows": 1500, "languages": ["en"], "licence": "MIT", "why": "test"}
    (tmp_path / "mine.json").write_text(json.dumps({"sets": [entry, {**entry, "enabled": False, "repo": "me/other"}]}))
    done = read(hub, tmp_path / "home", str(tmp_path / "mine.json"))
    ((summary, first, _),) = json.loads(done.stdout)
    assert summary["name"] == "me/nli/pair" and summary["licence"] == "MIT" and summary["rows"] == 1500
    assert first[2] == "en"


@pytest.mark.parametrize("columns", ["text", [1, 2], ["left"], ["left", None]])
def test_a_mixtures_columns_are_two_names(tmp_path: Path, columns: Any) -> None:
    entry = {"repo": "me/nli", "columns": columns, "rows": 9, "languages": ["en"], "licence": "MIT", "why": "test"}
    (tmp_path / "mine.json").write_text(json.dumps({"sets": [entry]}))
    with pytest.raises(InputError, match="'columns' must be a list of two names"):
        parse_source(str(tmp_path / "mine.json"))


@pytest.mark.parametrize(
    ("subset", "chosen"),
    [
        (None, []),
        ("pair", ["pair/train-0.parquet", "pair/train-1.parquet"]),
        ("triplet", ["triplet/train/0000.parquet"]),
        ("air", []),
    ],
)
def test_files_are_chosen_by_subset_and_split(subset: str | None, chosen: list[str]) -> None:
    names = [
        "pair/train-1.parquet",
        "pair/train-0.parquet",
        "pair/test-0.parquet",
        "triplet/train/0000.parquet",
        "x.txt",
    ]
    assert choose_files(names, HubSet("a/b", subset)) == chosen
    for layout in ("train.parquet", "data/train-0.parquet", "default/train/0000.parquet", "only/train-0.parquet"):
        assert choose_files([layout], HubSet("a/b")) == [layout]
