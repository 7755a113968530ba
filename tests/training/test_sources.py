"""What --pairs takes, mixtures, and what is kept out of training."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from conftest import jsonl

from qwen25.evaluation.own_pairs import read_own
from qwen25.runtime.errors import InputError
from qwen25.runtime.files import resource
from qwen25.store.pairs import Pair, PairSet, normalised
from qwen25.training import sources
from qwen25.training.hub_pairs import HubSet
from qwen25.training.sources import MIXTURES, hold_out, parse_source, read_mixture, read_pairs
from qwen25.training.wheel_pairs import READERS

ROWS = [{"a": f"what is {i}?", "b": f"it is {i}"} for i in range(1200)]
HUB_ENTRY = {"repo": "a/b", "rows": 10, "languages": ["en"], "licence": "MIT", "why": "test"}
WHEEL = {"package": "texts", "version": "1.0", "sha256": "0" * 64, "bytes": 1, "reader": "code", "members": "*.py"}
WHEEL_ENTRY = {name: value for name, value in (WHEEL | HUB_ENTRY).items() if name != "repo"}


def test_files_and_their_columns_are_understood(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a:b,c.jsonl", ROWS)
    assert parse_source(str(path)).path == path
    other = jsonl(tmp_path / "d.jsonl", [{"x": f"x{i}", "y": f"y{i}", "z": f"z{i}"} for i in range(9)])
    source = parse_source(f"{other}:z, x")
    assert source.path == other and source.read(0, False)[0].pairs[1] == Pair("z1", "x1", "")
    for wrong in ("", "nothing-here", f"{other}:x,y,z", "hub:", "hub:me/data:a:b:c"):
        with pytest.raises(InputError, match="--pairs"):
            parse_source(wrong)


def test_data_sets_of_the_hub_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[HubSet] = []
    monkeypatch.setattr(sources, "read_hub", lambda wanted, *more: asked.append(wanted))
    for text in ("hub:me/data@v1:en-de:source,target", "hub:me/data:", "hub:me/data:a,b"):
        parse_source(text).read(0, True)
    given = HubSet("me/data", "en-de", ("source", "target"), revision="v1")
    assert asked == [given, HubSet("me/data"), HubSet("me/data", columns=("a", "b"))]


def test_too_few_pairs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="999 pairs are too few to learn from; give at least 1,000"):
        read_pairs([str(jsonl(tmp_path / "few.jsonl", ROWS[:999]))])
    assert read_pairs([]) == ([], [])


def test_sets_of_one_name_are_told_apart(tmp_path: Path) -> None:
    """Else the losses of what is held out of one would stand for both."""
    found, _ = read_pairs([str(jsonl(tmp_path / folder / "train.jsonl", ROWS)) for folder in "xy"])
    assert [pairs.name for pairs in found] == ["train", "train (2)"]


def test_the_projects_own_items_are_kept_out_in_any_case_and_spacing(tmp_path: Path) -> None:
    rows = list(ROWS)
    for name in ("evaluation", "calibration"):
        item = json.loads((resource(f"data/{name}") / "semantic_similarity.jsonl").read_text().splitlines()[0])
        rows.append({"a": item["anchor"].upper().replace(" ", "  "), "b": f"anything {name}"})
    (found,), _ = read_pairs([str(jsonl(tmp_path / "qa.jsonl", rows))])
    assert found.dropped["kept out"] == 2 and len(found.pairs) == 1200


def test_a_broken_mixture_ends_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "mixture.json"
    for entry, change, message in (
        (HUB_ENTRY, {"rows": 0}, "sets.0.rows: 0 is less than"),
        (HUB_ENTRY, {"colums": []}, "'colums' was unexpected"),
        (WHEEL_ENTRY, {"reader": "magic"}, "sets.0.reader: 'magic' is not one of"),
        (WHEEL_ENTRY, {"version": ">=1"}, "sets.0.version"),
        (WHEEL_ENTRY, {"package": "../texts"}, "sets.0.package"),
    ):
        path.write_text(json.dumps({"sets": [{**entry, **change}]}))
        with pytest.raises(InputError, match=message):
            parse_source(str(path))


def test_the_mixtures_are_what_they_say() -> None:
    entries = read_mixture(MIXTURES["recommended"])
    assert len({language for entry in entries for language in entry["languages"]}) > 12
    assert not [entry["repo"] for entry in entries if "-NC" in entry["licence"] or "not stated" in entry["licence"]]
    kinds = {entry["kind"]: 0 for entry in entries}
    for entry in entries:
        kinds[entry["kind"]] += entry["rows"]
        assert entry["checked"] and entry["bytes"]
    assert set(kinds) == {"similarity", "questions", "topics", "code", "translation"}
    assert min(kinds.values()) >= sum(kinds.values()) / 10
    entries = read_mixture(MIXTURES["packaged"])
    assert len(entries) == len({(entry["package"], entry["reader"]) for entry in entries})
    assert {"de", "fr", "es", "it", "pt", "nl", "pl", "ru", "tr", "ar", "ja", "zh", "ko", "hi", "vi", "id"} <= {
        language for entry in entries for language in entry["languages"]
    }
    assert all(entry["licence"].startswith(("Apache-2.0", "BSD", "MIT")) for entry in entries)
    schema = json.loads((resource("data/schema") / "mixture.schema.json").read_text())
    assert {entry["reader"] for entry in entries} == set(READERS)
    assert set(schema["$defs"]["wheel"]["properties"]["reader"]["enum"]) == set(READERS)


def texts(pairs: list[Pair]) -> set[str]:
    return {normalised(text) for pair in pairs for text in pair[:2]}


def test_no_text_is_on_both_sides(tmp_path: Path) -> None:
    draw = random.Random(0)  # noqa: S311
    pairs = [Pair(f"Q{draw.randrange(900)}", f"A {draw.randrange(900)}", "en") for _ in range(400)]
    pairs += [Pair(pair.left.lower(), f"other {i}", "") for i, pair in enumerate(pairs[::4])]
    sets = [PairSet("a", pairs[:300]), PairSet("b", pairs[300:])]
    kept, held = hold_out(sets, 0.2, seed=1)
    assert not texts(held) & texts([pair for one in kept for pair in one.pairs])
    assert sorted([*held, *(pair for one in kept for pair in one.pairs)]) == sorted(pairs)
    assert 0.18 * len(pairs) <= len(held) <= 0.2 * len(pairs)
    assert sum(one.dropped["held out"] for one in kept) == len(held)
    sources.write_held_out(tmp_path, held)
    assert read_own(tmp_path / sources.HELD_OUT).facts["rows"] == len(set(held))


def test_pairs_that_are_all_linked_cannot_be_parted() -> None:
    with pytest.raises(InputError, match="all linked"):
        hold_out([PairSet("a", [Pair("hub", f"{i}", "") for i in range(50)])], 0.1, seed=0)
