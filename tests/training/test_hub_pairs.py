"""Pairs of data sets on a hub that runs on this machine."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from fake_hub import FakeHub, Fault, use_hub
from pyarrow import parquet

from qwen25.runtime.errors import InputError, PipelineError
from qwen25.store.pairs import Pair, PairSet
from qwen25.training.hub_pairs import HubSet, choose_files
from qwen25.training.sources import parse_source


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with FakeHub() as hub:
        use_hub(monkeypatch, hub.url, tmp_path / "home")
        yield hub


def write(path: Path, rows: int, first: int = 0, **columns: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    names = columns or {"anchor": "left", "positive": "right"}
    table = {name: [f"{text} {i}" for i in range(first, first + rows)] for name, text in names.items()}
    parquet.write_table(pyarrow.table(table), path)


def read(source: str, offline: bool = False) -> PairSet:
    (found,) = parse_source(source).read(0, offline)
    return found


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
    found = read("hub:me/parallel:en-de")
    assert len(found.pairs) == 9 and found.pairs[0] == Pair("left 0", "right 0", "")
    summary = found.summary()
    assert summary["source"] == "hub:me/parallel" and summary["revision"] == commit
    fetched = [request for request in hub.requests if request.startswith("GET") and "/resolve/" in request]
    assert len(fetched) == 1 and "en-de/train" in fetched[0]
    hub.faults.append(Fault("broken"))
    assert read("hub:me/parallel:en-de", offline=True) == found
    with pytest.raises(PipelineError, match="is not in the hub's cache"):
        read("hub:me/parallel:en-fr", offline=True)


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
    large, lines = read(mixture), read("hub:me/lines:instruction,response")
    assert len(large.pairs) == 110 and large.summary()["licence"] == "MIT" and large.pairs[0].language == "en"
    assert not [request for request in hub.requests if "00001-of" in request or "00002-of" in request]
    assert len(lines.pairs) == 12 and lines.pairs[0] == Pair("do 0", "done 0", "")


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
    for source, message in wrong.items():
        with pytest.raises(InputError, match=re.escape(message)) as raised:
            read(source)
        assert "\n" not in str(raised.value)
    hub.faults.append(Fault("gated"))
    with pytest.raises(InputError, match="is gated"):
        read("hub:me/there")


def test_files_are_chosen_by_subset_and_split() -> None:
    names = ["pair/train-1.parquet", "pair/train-0.parquet", "pair/test-0.parquet", "triplet/train/0000.parquet", "x"]
    chosen = {None: [], "pair": names[1::-1], "triplet": [names[3]], "air": []}
    assert {subset: choose_files(names, HubSet("a/b", subset)) for subset in chosen} == chosen
    for layout in ("train.parquet", "data/train-0.parquet", "default/train/0000.parquet", "only/train-0.parquet"):
        assert choose_files([layout], HubSet("a/b")) == [layout]
