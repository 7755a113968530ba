"""Pairs of data sets on a hub that runs on this machine."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from fake_hub import FakeHub, Fault
from pyarrow import parquet

from qwen25.runtime.errors import InputError, PipelineError
from qwen25.store.pairs import Pair, PairSet
from qwen25.training.hub_pairs import HubSet, choose_files
from qwen25.training.sources import parse_source, read_pairs


def write(path: Path, rows: int, first: int = 0, groups: int = 1, **columns: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    names = columns or {"anchor": "left", "positive": "right"}
    table = {name: [f"{text} {i}" for i in range(first, first + rows)] for name, text in names.items()}
    parquet.write_table(pyarrow.table(table), path, row_group_size=-(-rows // groups))
    return path


def read(source: str, offline: bool = False) -> PairSet:
    (found,) = parse_source(source).read(0, offline)
    return found


def declared(folder: Path, *entries: dict[str, Any]) -> str:
    """Write a mixture, and return its path."""
    common = {"languages": ["en"], "licence": "MIT", "why": "test"}
    (folder / "mine.json").write_text(json.dumps({"sets": [{**common, **entry} for entry in entries]}))
    return str(folder / "mine.json")


def test_a_subset_is_drawn_once_and_then_found_in_the_cache(hub: FakeHub, tmp_path: Path) -> None:
    for name in ("en-de/train", "en-fr/train", "en-de/test"):
        write(tmp_path / "data" / f"{name}-00000-of-00001.parquet", 9)
    (tmp_path / "data" / "data.py").write_text("raise SystemExit('run!')")
    commit = hub.add("datasets/me/parallel", tmp_path / "data")
    found = read("hub:me/parallel:en-de")
    assert len(found.pairs) == 9 and found.pairs[0] == Pair("left 0", "right 0", "")
    summary = found.summary()
    assert summary["source"] == "hub:me/parallel" and summary["revision"] == commit
    fetched = {request for request in hub.requests if request.startswith("GET") and "/resolve/" in request}
    assert len(fetched) == 1 and "en-de/train" in fetched.pop()
    sent = hub.sent
    assert read("hub:me/parallel:en-de") == found and hub.sent == sent
    hub.faults.append(Fault("broken"))
    assert read("hub:me/parallel:en-de", offline=True) == found
    with pytest.raises(PipelineError, match="run once without --offline"):
        read("hub:me/parallel:en-fr", offline=True)


@pytest.mark.parametrize(("groups", "most"), [(20, 1.5), (1, 2.0)])
def test_as_many_row_groups_are_fetched_as_the_pairs_take(
    hub: FakeHub, tmp_path: Path, groups: int, most: float
) -> None:
    """20,000 rows in four files, spread over all of them; a file of one group is fetched whole."""
    noise = random.Random(0)  # noqa: S311
    for part in range(4):
        rows = [f"{part} {noise.randbytes(60).hex()}" for _ in range(5000)]
        path = write(tmp_path / "data" / "data" / f"train-0000{part}-of-00004.parquet", 1)
        table = pyarrow.table({"anchor": rows, "positive": rows[::-1], "unused": rows})
        parquet.write_table(table, path, row_group_size=5000 // groups, use_dictionary=False)
    hub.add("datasets/me/large", tmp_path / "data")
    found = read(declared(tmp_path, {"repo": "me/large", "rows": 3000, "columns": ["anchor", "positive"]}))
    assert len(found.pairs) == 3000
    stored = [parquet.read_metadata(path).row_group(0).column(number) for number in (0, 1)]
    needed = 3000 / (5000 / groups) * sum(column.total_compressed_size for column in stored)
    assert hub.sent / needed < most, f"{hub.sent:,} bytes for {needed:,.0f}"
    parts = {pair.left.split()[0] for pair in found.pairs}
    assert parts == set("0123") if groups > 1 else parts


def test_the_hubs_own_copy_is_read_where_there_is_no_parquet(hub: FakeHub, tmp_path: Path) -> None:
    (tmp_path / "main").mkdir()
    (tmp_path / "main" / "pairs.jsonl").write_text("{}")
    write(tmp_path / "copy" / "default" / "partial-train" / "0000.parquet", 12, instruction="do", response="done")
    hub.add("datasets/me/lines", tmp_path / "main")
    with pytest.raises(InputError, match="has no Parquet files"):
        read("hub:me/lines")
    hub.add("datasets/me/lines", tmp_path / "copy", "refs/convert/parquet")
    lines = read("hub:me/lines:instruction,response")
    assert len(lines.pairs) == 12 and lines.pairs[0] == Pair("do 0", "done 0", "")


def test_a_mixtures_language_holds_and_rows_can_be_chosen_by_a_label(hub: FakeHub, tmp_path: Path) -> None:
    path = write(tmp_path / "data" / "train.parquet", 12, a="left", b="right", lang="yo", code="sw")
    table = parquet.read_table(path)
    parquet.write_table(table.append_column("label", [[i % 2 for i in range(12)]]), path)
    hub.add("datasets/me/labelled", tmp_path / "data")
    entry = {"repo": "me/labelled", "rows": 100, "columns": ["a", "b"]}
    assert {pair.language for pair in read(declared(tmp_path, entry)).pairs} == {"en"}
    assert read(declared(tmp_path, {**entry, "language": "code"})).pairs[3].language == "sw 3"
    assert read("hub:me/labelled:a,b").pairs[0].language == "yo 0"
    chosen = read(declared(tmp_path, {**entry, "where": {"label": 1}})).pairs
    assert [pair.left for pair in chosen] == [f"left {i}" for i in range(1, 12, 2)]
    for where, message in (({"label": "one"}, "me/labelled"), ({"mark": 1}, "no column 'mark'")):
        with pytest.raises(PipelineError, match=message) as raised:
            read(declared(tmp_path, {**entry, "where": where}))
        assert "\n" not in str(raised.value)


def entries(*names: str, **kinds: str) -> list[dict[str, Any]]:
    return [{"repo": f"me/{name}", "rows": 600, "kind": kinds.get(name, "topics")} for name in names]


@pytest.mark.parametrize("fault", ["not found", "gated", "broken", "page"])
def test_a_mixture_does_without_a_set_that_cannot_be_had(
    hub: FakeHub, tmp_path: Path, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    caplog.set_level("INFO")
    for number, name in enumerate("abc"):
        write(tmp_path / name / "train.parquet", 600, 1000 * number)
        hub.add(f"datasets/me/{name}", tmp_path / name)
    hub.faults.append(Fault(fault, lambda request: "/me/b" in request))
    sets, missing = read_pairs([declared(tmp_path, *entries("a", "b", "c"))])
    assert [pairs.name for pairs in sets] == ["me/a", "me/c"] and sets[0].summary()["kind"] == "topics"
    assert [(one["name"], one["kind"]) for one in missing] == [("me/b", "topics")] and "me/b" in missing[0]["missing"]
    assert "3 sets of pairs, at most 0.5 MB" in caplog.text and caplog.text.count("left out: ") == 3
    for few, message in ((entries("a", "b", "c", b="code"), "no set of code"), (entries("b", "b", "a"), "fewer than")):
        with pytest.raises(PipelineError, match=message):
            read_pairs([declared(tmp_path, *few)])


@pytest.mark.parametrize("layout", ["train.parquet", "data/train-00000-of-00001.parquet"])
@pytest.mark.parametrize("trouble", ["moved", "busy", "cut"])
def test_passing_trouble_does_not_stop_a_set(hub: FakeHub, tmp_path: Path, layout: str, trouble: str) -> None:
    write(tmp_path / "data" / layout, 400, groups=4)
    hub.add("datasets/new/name", tmp_path / "data")
    if trouble == "moved":
        hub.moved["datasets/old/name"] = "datasets/new/name"
    else:
        hub.faults.append(Fault(trouble, lambda request: "/resolve/" in request, times=2))
    assert len(read(f"hub:{'old' if trouble == 'moved' else 'new'}/name").pairs) == 400


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
    layouts = "train.parquet data/train-0.parquet default/train/0000.parquet only/train-0.parquet x_train.s.parquet"
    for layout in layouts.split():
        assert choose_files([layout], HubSet("a/b")) == [layout]
