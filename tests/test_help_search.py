"""The demo's last step: thirty articles, ten questions, what is found, how the model stands, and what to do next."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest
from conftest import ROOT
from help_search import main, summary
from rich.cells import cell_len

from qwen25.runtime.files import read_json, resource

DATA = read_json(resource("data") / "help_articles.json")


def test_the_questions_share_no_word_with_their_answers() -> None:
    articles, questions = DATA["articles"], DATA["questions"]
    assert (len(set(articles)), len({question["answer"] for question in questions})) == (30, 10)
    assert set(Counter(question["language"] for question in questions).values()) == {2}
    for question in questions:
        asked, answer = (set(re.findall(r"\w+", t.lower())) for t in (question["text"], articles[question["answer"]]))
        assert not asked & answer
    assert not re.search(r"\d", json.dumps(articles))


def test_it_ends_with_what_to_do_next(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(model, tmp_path / "model")
    shutil.copy(ROOT / "docs" / "results" / "demo" / "eval_results.json", tmp_path)
    assert main([str(tmp_path)]) == 0
    shown, result = capsys.readouterr().out, read_json(tmp_path / "first_search.json")
    assert all(cell_len(line) <= 80 for line in shown.splitlines() if not line.startswith("    "))
    places = [
        shown.index(part) for part in ("Found", "reference models", "all-MiniLM-L6-v2", "comparison.html", " page ")
    ]
    assert places == sorted(places)
    assert result["right"] == sum(row["right"] for row in result["questions"]) and result["bm25"] == 0
    assert {"command", "seed", "versions", "hardware", "wall_seconds"} <= set(result)
    assert f"{result['right']} of 10 found" in summary(result) and summary(result)[:20] in shown
    assert main([str(tmp_path / "none")]) == 2
