"""The project's own items are what the README beside them says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conftest import EVAL_DATA, content_words

from qwen25.evaluation.categories import WEIGHTS, load_items
from qwen25.runtime.files import resource, sha256


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
    for item in load_items(EVAL_DATA, "instruction_awareness"):
        topic = content_words(item["topic_name"])
        document = content_words(item["document"]) - topic
        for request in item["requests"]:
            shared = (content_words(request["text"]) - topic) & document
            assert bool(shared) == request["lexical"], (item["id"], request["text"], shared)
