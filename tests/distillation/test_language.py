"""A user's corpus: what is read of it, and that it is said."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from qwen25.distillation.language import read_corpus
from qwen25.runtime.errors import InputError


def test_what_was_read_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "texts.txt"
    path.write_bytes(b"\xef\xbb\xbfthe first line\r\n\r\n  another  \r\n")
    with caplog.at_level(logging.INFO, "qwen25"):
        assert read_corpus(path).texts == ["the first line", "another"]
    assert "corpus: 2 lines, 21 characters; the first: the first line" in caplog.text


def test_json_lines(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text("\n".join(json.dumps({"id": i, "text": t}) for i, t in enumerate(["one\ntext", "", "café"])))
    with caplog.at_level(logging.INFO, "qwen25"):
        assert read_corpus(path).texts == ["one text", "café"]
    assert "2 lines of JSON" in caplog.text


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"body": "one"}\n{"body": "two"}', 'text 1 has no string "text"'),
        ('{"text": "one"}\n{"text": 2}', 'text 2 has no string "text"'),
        ('{"text": " "}\n', "is empty"),
        ('[{"text": "one"}, {"text": "two"}]', "one JSON document"),
        ('{\n"texts": [\n"one"\n]\n}', "one JSON document"),
        (" \n\n", "holds no text"),
    ],
)
def test_other_json_is_refused(tmp_path: Path, content: str, reason: str) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text(content)
    with pytest.raises(InputError, match=reason):
        read_corpus(path)


def test_text_that_looks_a_little_like_json(tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    path.write_text("[sic] a text\n{another}\n")
    assert read_corpus(path).texts == ["[sic] a text", "{another}"]
