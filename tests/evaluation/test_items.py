"""Items that cannot be scored are refused in one line that names the place."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from conftest import EVAL_DATA
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qwen25.evaluation.categories.all import WEIGHTS
from qwen25.evaluation.categories.multilingual_alignment import LANGUAGES
from qwen25.evaluation.categories.semantic_similarity import NEGATIVE_KINDS
from qwen25.evaluation.items import load_items
from qwen25.runtime.errors import InputError

GOOD = '{"id": "t-1", "topic": "a", "text": "one", "tier": "everyday"}'


def write(folder: Path, *lines: str) -> Path:
    (folder / "topic_clustering.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("not json", "not JSON"),
        ("[1, 2]", "not a JSON object"),
        ('{"id": "x", "topic": "a", "tier": "everyday"}', "'text'"),
        ('{"id": "x", "topic": "a", "text": "  ", "tier": "everyday"}', "'text'"),
        ('{"id": "x", "topic": "a", "text": 7, "tier": "everyday"}', "'text'"),
        ('{"id": "x", "topic": "a", "text": "t", "tier": "hard"}', "'tier'"),
        ('{"id": "x", "topic": "a", "text": "\\ud800", "tier": "everyday"}', "surrogate"),
        ('{"id": "x", "topic": "a", "text": "' + "y" * 1_000_000 + '", "tier": "everyday"}', "characters"),
        (GOOD, "two items have the id"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        load_items(write(tmp_path, GOOD, line), "topic_clustering")


def test_missing_and_empty_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="topic_clustering"):
        load_items(tmp_path, "topic_clustering")
    with pytest.raises(InputError, match="0 items"):
        load_items(write(tmp_path, ""), "topic_clustering")
    (tmp_path / "topic_clustering.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="UTF-8"):
        load_items(tmp_path, "topic_clustering")


def test_a_grid_with_a_hole_is_refused(tmp_path: Path) -> None:
    lines = (EVAL_DATA / "instruction_awareness.jsonl").read_text(encoding="utf-8").splitlines()
    (tmp_path / "instruction_awareness.jsonl").write_text("\n".join(lines[:-1]), encoding="utf-8")
    with pytest.raises(InputError, match="each of the"):
        load_items(tmp_path, "instruction_awareness")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
fields = st.sampled_from(
    [
        "id",
        "anchor",
        "paraphrase",
        "negatives",
        "topic",
        "text",
        "tier",
        "requests",
        "intent",
        "document",
        "topic_name",
        "language",
        "meaning",
        "distractor",
        "description",
        "code",
        "near_misses",
        *LANGUAGES,
    ]
)


@pytest.mark.parametrize("category", list(WEIGHTS))
@given(rows=st.lists(st.dictionaries(fields, json_values, max_size=8), max_size=3))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_row_breaks_the_loader(tmp_path: Path, category: str, rows: list[dict]) -> None:
    path = tmp_path / f"{category}.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    with pytest.raises(InputError):
        load_items(tmp_path, category)


class TestOwnItems:
    """What eval_data/README.md says of the items."""

    def test_counts(self) -> None:
        counts = {category: len(load_items(EVAL_DATA, category)) for category in WEIGHTS}
        assert counts == {
            "semantic_similarity": 300,
            "topic_clustering": 480,
            "multilingual_alignment": 160,
            "instruction_awareness": 144,
            "conversational_understanding": 360,
            "code_understanding": 240,
        }
        assert sum(WEIGHTS.values()) == pytest.approx(1)

    def test_lexical_marks_follow_the_rule(self) -> None:
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

    def test_no_text_occurs_twice_in_a_role(self) -> None:
        rows = load_items(EVAL_DATA, "semantic_similarity")
        assert len({row["anchor"] for row in rows}) == len(rows)
        assert {n["kind"] for row in rows for n in row["negatives"]} == set(NEGATIVE_KINDS)
        for category, field in (("topic_clustering", "text"), ("code_understanding", "description")):
            rows = load_items(EVAL_DATA, category)
            assert len({row[field] for row in rows}) == len(rows)


def test_a_pipe_or_a_device_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "topic_clustering.jsonl"
    for make in (lambda: os.mkfifo(path), lambda: path.symlink_to("/dev/zero")):
        make()
        with pytest.raises(InputError, match="give a file"):
            load_items(tmp_path, "topic_clustering")
        path.unlink()
