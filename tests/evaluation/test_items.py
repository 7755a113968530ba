"""The project's own items are what the README beside them says."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import EVAL_DATA

from qwen25.evaluation.categories import CATEGORIES, WEIGHTS, load_items
from qwen25.evaluation.categories.instruction_awareness import INTENTS
from qwen25.runtime.errors import InputError
from qwen25.runtime.files import resource, sha256

#: Fields that hold texts, beside those that a category names.
MORE_FIELDS = {
    "topic_clustering": ["topic", "tier"],
    "instruction_awareness": ["topic", "topic_name", "intent"],
    "conversational_understanding": ["distractor", "language", "tier"],
    "code_understanding": ["language", "tier"],
}


def test_files_without_items_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="topic_clustering"):
        load_items(tmp_path, "topic_clustering")
    (tmp_path / "topic_clustering.jsonl").write_text("not json")
    with pytest.raises(InputError, match="topic_clustering"):
        load_items(tmp_path, "topic_clustering")


@pytest.mark.parametrize("folder", ["data/evaluation", "data/calibration"])
@pytest.mark.parametrize("category", list(WEIGHTS))
def test_every_item_has_its_fields(folder: str, category: str) -> None:
    rows = load_items(resource(folder), category)
    assert len({row["id"] for row in rows}) == len(rows)
    fields = [*CATEGORIES[category].text_fields, *MORE_FIELDS.get(category, ["tier"])]
    assert all(row[field].strip() for row in rows for field in fields)
    assert all(row.get("tier", "everyday") in ("everyday", "adversarial") for row in rows)
    for row in rows:
        texts = [*(n["text"] for n in row.get("negatives", [])), *row.get("near_misses", [])]
        assert all(text.strip() for text in texts) and bool(texts) == bool({"negatives", "near_misses"} & set(row))
    if category == "instruction_awareness":
        assert all(len(row["requests"]) == 3 and "lexical" in row["requests"][0] for row in rows)
        topics = {row["topic"] for row in rows}
        assert Counter((row["topic"], row["intent"]) for row in rows) == Counter(
            (t, i) for t in topics for i in INTENTS
        )


@pytest.mark.parametrize("folder", ["data/evaluation", "data/calibration"])
def test_items_are_the_frozen_ones(folder: str) -> None:
    lines = (resource(folder) / "SHA256SUMS").read_text().splitlines()
    assert {f"{sha256([path])}  {path.name}" for path in resource(folder).glob("*.jsonl")} == set(lines)


def texts(value: object) -> Iterator[str]:
    """Yield the texts of an item, without its labels."""
    if isinstance(value, dict):
        value = [v for key, v in value.items() if key not in ("id", "tier", "kind", "language", "intent", "topic")]
    if isinstance(value, list):
        for part in value:
            yield from texts(part)
    elif isinstance(value, str):
        yield value.strip().lower()


def test_nothing_is_calibrated_on_what_is_reported() -> None:
    folders = (resource(f"data/{name}") for name in ("evaluation", "calibration"))
    reported, chosen_on = ({t for c in WEIGHTS for t in texts(load_items(folder, c))} for folder in folders)
    assert len(chosen_on) > 1000 and not reported & chosen_on
    assert sum(WEIGHTS.values()) == pytest.approx(1)


def test_lexical_marks_follow_the_rule() -> None:
    stop_words = set((EVAL_DATA / "stop_words.txt").read_text(encoding="utf-8").split())

    def content(text: str) -> set[str]:
        words = (word.strip("'") for word in re.findall(r"[a-z']+", text.lower()))
        return {word[:5] for word in words if len(word) >= 3 and word not in stop_words}

    for item in load_items(EVAL_DATA, "instruction_awareness"):
        topic = content(item["topic_name"])
        document = content(item["document"]) - topic
        for request in item["requests"]:
            shared = (content(request["text"]) - topic) & document
            assert bool(shared) == request["lexical"], (item["id"], request["text"], shared)
