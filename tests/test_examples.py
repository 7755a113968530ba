"""The examples: they run on any model, count rightly, and those for others to copy stand on their own."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import shutil
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import help_search
import numpy as np
import pytest
from conftest import ROOT, content_words
from model2vec import StaticModel
from rich.cells import cell_len
from tokenizers import Tokenizer

from qwen25.evaluation.models import random_control, static_encoder
from qwen25.runtime.files import read_json, resource

demo, cases, retrieval = MODULES = [
    importlib.import_module(name) for name in ("instruction_awareness_demo", "real_world_use_cases", "retrieval")
]
ARTICLES = read_json(resource("data") / "help_articles.json")
counting = pytest.mark.parametrize(("module", "counts"), [(demo, 4), (cases, 3)])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: Tokenizer) -> Path:
    return save(tmp_path_factory.mktemp("examples") / "model", tiny_tokenizer)


def save(folder: Path, tokenizer: Tokenizer) -> Path:
    table = np.random.default_rng(0).standard_normal((tokenizer.get_vocab_size(), 32), dtype=np.float32)
    StaticModel(table, tokenizer, normalize=True, max_length=None).save_pretrained(folder)
    return folder


@counting
def test_every_count_has_its_control_and_chance(module: ModuleType, counts: int, model: Path, capsys: Any) -> None:
    assert module.main(["--model", str(model)]) == 0
    first = capsys.readouterr().out
    assert first.isascii() and "wrong" in first and "random directions" in first
    assert len(re.findall(r"[\d.]+ of \d+, control +[\d.]+, chance [\d.]+", first)) == counts
    assert module.main(["--model", str(model)]) == 0
    assert capsys.readouterr().out == first


def test_the_grid_counts_what_it_says() -> None:
    size, (topics, intents) = len(demo.REQUESTS), demo.SHAPE
    assert all(part.all() for part in demo.grid_credits(np.eye(size)))
    by_topic, by_intent = demo.grid_credits(np.kron(np.eye(topics), np.ones((intents, intents))))
    assert by_topic.all() and by_intent == pytest.approx(1 / intents)


def test_it_is_the_projects_control(model: Path) -> None:
    loaded = StaticModel.from_pretrained(model)
    ours = random_control(static_encoder("model", loaded), 7)
    assert ours is not None
    theirs = demo.random_directions(loaded, 7)
    np.testing.assert_array_equal(ours.encode(demo.REQUESTS), theirs.encode(demo.REQUESTS))


def test_half_of_the_requests_share_no_content_word() -> None:
    topics = [topic for topic in demo.GRID for _ in demo.INTENTS]
    for request, document, topic, worded in zip(demo.REQUESTS, demo.DOCUMENTS, topics, demo.WORDED, strict=True):
        shared = (content_words(request) & content_words(document)) - content_words(topic)
        assert bool(shared) == worded, (request, shared)


def test_the_scripts_stand_on_their_own_and_are_short() -> None:
    for text in map(inspect.getsource, MODULES):
        nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, (ast.Import, ast.ImportFrom))]
        imported = {(getattr(node, "module", None) or node.names[0].name).split(".")[0] for node in nodes}
        assert imported - set(sys.stdlib_module_names) <= {"numpy", "model2vec", "huggingface_hub", "vicinity"}
        assert len(text.splitlines()) <= 150
    for name in ("random_directions", "cosines", "credit"):
        assert inspect.getsource(getattr(demo, name)) == inspect.getsource(getattr(cases, name))


def test_passages_come_by_falling_cosine_and_land_in_the_prompt(model: Path, tmp_path: Path, capsys: Any) -> None:
    pytest.importorskip("vicinity", reason="setup_qwen25.sh --with-extras installs vicinity")
    passages = ["the cat sat on the mat", "the bank lends money", "a cat sleeps on a sofa", "rain is likely"]
    (tmp_path / "texts.txt").write_text("\n".join([*passages, "", passages[0]]), encoding="utf-8")
    arguments = ["--model", str(model), "--passages", str(tmp_path / "texts.txt"), "--count", "2"]
    assert retrieval.main([*arguments, "where does the cat sit?"]) == 0
    loaded = StaticModel.from_pretrained(model)
    cosines = loaded.encode(passages) @ loaded.encode(["where does the cat sit?"])[0]
    expected = [passages[i] for i in np.argsort(-cosines)[:2]]
    first, second, *rest = capsys.readouterr().out.splitlines()
    assert [line[8:] for line in (first, second)] == expected
    assert rest[2:4] == [f"[1] {expected[0]}", f"[2] {expected[1]}"]
    with pytest.raises(SystemExit):
        retrieval.main(["--model", str(model), "--passages", str(tmp_path / "none"), "a question"])
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.parametrize(("cosine", "fits"), [(1.1, False), (-1.0, True)])
def test_nothing_fits_where_nothing_is_nearer_than_unrelated_texts(
    cosine: float, fits: bool, tiny_tokenizer: Tokenizer, tmp_path: Path, capsys: Any
) -> None:
    pytest.importorskip("vicinity")
    folder = save(tmp_path / "model", tiny_tokenizer)
    meaning = {"score_meaning": {"parts": True, "cuts": {"near": {"cosine": cosine}}}}
    (folder / "metadata.json").write_text(json.dumps(meaning), encoding="utf-8")
    assert retrieval.main(["--model", str(folder)]) == 0
    assert ("Nothing in here fits" in capsys.readouterr().out) is not fits


def test_the_demos_questions_share_no_word_with_their_answers() -> None:
    articles, questions = ARTICLES["articles"], ARTICLES["questions"]
    assert (len(set(articles)), len({question["answer"] for question in questions})) == (30, 10)
    assert set(Counter(question["language"] for question in questions).values()) == {2}
    for question in questions:
        asked, answer = (set(re.findall(r"\w+", t.lower())) for t in (question["text"], articles[question["answer"]]))
        assert not asked & answer
    assert not re.search(r"\d", json.dumps(articles))


def test_the_demos_search_ends_with_what_to_do_next(model: Path, tmp_path: Path, capsys: Any) -> None:
    shutil.copytree(model, tmp_path / "model")
    shutil.copy(ROOT / "docs" / "results" / "demo" / "eval_results.json", tmp_path)
    assert help_search.main([str(tmp_path)]) == 0
    shown, result = capsys.readouterr().out, read_json(tmp_path / "first_search.json")
    assert all(cell_len(line) <= 80 for line in shown.splitlines() if not line.startswith("    "))
    places = [
        shown.index(part) for part in ("Found", "reference models", "all-MiniLM-L6-v2", "comparison.html", " page ")
    ]
    assert places == sorted(places)
    assert result["right"] == sum(row["right"] for row in result["questions"]) and result["bm25"] == 0
    assert {"command", "seed", "versions", "hardware", "wall_seconds"} <= set(result)
    assert f"{result['right']} of 10 found" in help_search.summary(result) and help_search.summary(result)[:20] in shown
    assert help_search.main([str(tmp_path / "none")]) == 2
