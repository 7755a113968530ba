"""Pairs of data sets on a hub that runs on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from fake_hub import FakeHub, Fault, run_as_user
from pyarrow import parquet

from qwen25.training.hub_pairs import HubSet, choose_files

READ = """
import json, sys
from qwen25.runtime.errors import PipelineError
from qwen25.training.sources import parse_source
for source in sys.argv[2:]:
    try:
        (found,) = parse_source(source).read(0, sys.argv[1] == "offline")
        print(json.dumps([found.summary(), found.pairs[0], len(found.pairs)]))
    except PipelineError as error:
        print(json.dumps(str(error)))
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


def read(hub: FakeHub, home: Path, *sources: str, offline: bool = False) -> list[Any]:
    """Return of each source its summary, first pair and number of pairs, or what is wrong with it."""
    done = run_as_user(hub.url, home, ["-c", READ, "offline" if offline else "online", *sources])
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def declared(folder: Path, *entries: dict[str, Any]) -> str:
    """Write a mixture, and return its path."""
    common = {"languages": ["en"], "licence": "MIT", "why": "test"}
    (folder / "mine.json").write_text(json.dumps({"sets": [{**common, **entry} for entry in entries]}))
    return str(folder / "mine.json")


def test_a_subset_is_read_and_then_found_in_the_cache(hub: FakeHub, tmp_path: Path) -> None:
    for name in ("en-de/train", "en-fr/train", "en-de/test"):
        write(tmp_path / "data" / f"{name}-00000-of-00001.parquet", 9)
    (tmp_path / "data" / "data.py").write_text("raise SystemExit('run!')")
    commit = hub.add("datasets/me/parallel", tmp_path / "data")
    (found,) = read(hub, tmp_path / "home", "hub:me/parallel:en-de")
    summary, first, count = found
    assert count == 9 and first == ["left 0", "right 0", ""]
    assert summary["source"] == "hub:me/parallel" and summary["revision"] == commit
    fetched = [request for request in hub.requests if request.startswith("GET") and "/resolve/" in request]
    assert len(fetched) == 1 and "en-de/train" in fetched[0]
    hub.faults.append(Fault("broken"))
    again, other = read(hub, tmp_path / "home", "hub:me/parallel:en-de", "hub:me/parallel:en-fr", offline=True)
    assert again == found and "is not in the hub's cache" in other


def test_no_more_is_fetched_than_needed_and_the_hubs_own_copy_where_there_is_no_parquet(
    hub: FakeHub, tmp_path: Path
) -> None:
    for part in range(3):
        write(tmp_path / "data" / "data" / f"train-0000{part}-of-00003.parquet", 500, 500 * part)
    hub.add("datasets/me/large", tmp_path / "data")
    (tmp_path / "main").mkdir()
    (tmp_path / "main" / "pairs.jsonl").write_text("{}")
    write(tmp_path / "copy" / "default" / "train" / "0000.parquet", 12, instruction="do", response="done")
    hub.add("datasets/me/lines", tmp_path / "main")
    hub.add("datasets/me/lines", tmp_path / "copy", "refs/convert/parquet")
    mixture = declared(tmp_path, {"repo": "me/large", "rows": 110})
    large, lines = read(hub, tmp_path / "home", mixture, "hub:me/lines:instruction,response")
    assert large[2] == 110 and large[0]["licence"] == "MIT" and large[1][2] == "en"
    assert not [request for request in hub.requests if "00001-of" in request or "00002-of" in request]
    assert lines[1:] == [["do 0", "done 0", ""], 12]


def test_what_cannot_be_read_ends_in_one_line(hub: FakeHub, tmp_path: Path) -> None:
    write(tmp_path / "data" / "train.parquet", 12)
    hub.add("datasets/me/there", tmp_path / "data")
    wrong = {
        "hub:me/none": "the hub has no such",
        "hub:me/there:nothing": "no Parquet files of subset 'nothing', split train; it has train.parquet",
        "hub:me/there@v9": "has no revision v9",
        "hub:me/there:wrong,columns": "has no column 'wrong'; it has 'anchor', 'positive'",
        "hub:no-owner": "does not say whose it is",
    }
    for message, said in zip(wrong.values(), read(hub, tmp_path / "home", *wrong), strict=True):
        assert message in said and "\n" not in said
    hub.faults.append(Fault("gated"))
    (said,) = read(hub, tmp_path / "home", "hub:me/there")
    assert "is gated" in said


def test_files_are_chosen_by_subset_and_split() -> None:
    names = ["pair/train-1.parquet", "pair/train-0.parquet", "pair/test-0.parquet", "triplet/train/0000.parquet", "x"]
    chosen = {None: [], "pair": names[1::-1], "triplet": [names[3]], "air": []}
    assert {subset: choose_files(names, HubSet("a/b", subset)) for subset in chosen} == chosen
    for layout in ("train.parquet", "data/train-0.parquet", "default/train/0000.parquet", "only/train-0.parquet"):
        assert choose_files([layout], HubSet("a/b")) == [layout]
