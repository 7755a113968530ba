"""The search over recipes: it finds the layer that carries meaning, and changes nothing for a trifle."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from qwen25.distillation import selection
from qwen25.distillation.recipe import RECIPES, Recipe
from qwen25.distillation.selection import (
    CANDIDATE_LAYERS,
    CANDIDATE_SIF,
    MARGIN,
    SELECTED,
    Trial,
    candidate_layers,
    select,
)
from qwen25.evaluation import statistics
from qwen25.evaluation.categories import topic_clustering
from qwen25.evaluation.categories.all import WEIGHTS
from qwen25.evaluation.categories.instruction_awareness import INTENTS
from qwen25.evaluation.categories.multilingual_alignment import LANGUAGES
from qwen25.evaluation.fields import Item
from qwen25.runtime.errors import InputError, PipelineError

CONCEPTS, FORMS, WIDTH, DEPTH = 60, len(LANGUAGES), 32, 8
RECIPE = RECIPES["default"]
FREQUENCIES = np.full(CONCEPTS * FORMS, 1 / (CONCEPTS * FORMS))


def words(concepts: list[int], form: int) -> str:
    """A text about the concepts: each has as many words as there are forms, none shared."""
    return " ".join(f"c{concept}f{form}" for concept in concepts)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """One token a word, row number = concept * FORMS + form."""
    vocabulary = {f"c{row // FORMS}f{row % FORMS}": row for row in range(CONCEPTS * FORMS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="c0f0"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Items whose right answer says the same in other words: whoever matches words finds nothing."""
    generator = np.random.default_rng(0)

    def draw(count: int = 5) -> list[int]:
        return generator.choice(CONCEPTS, count, replace=False).tolist()

    items: dict[str, list[Item]] = {category: [] for category in WEIGHTS}
    for i in range(16):
        said = draw()
        base = {"id": str(i), "tier": "everyday"}
        wrong = words(draw(), 1)
        items["semantic_similarity"].append(
            base
            | {"anchor": words(said, 0), "paraphrase": words(said, 1)}
            | {"negatives": [{"kind": "same_topic", "text": wrong}]}
        )
        items["topic_clustering"].append(
            base | {"topic": f"t{i % 4}", "text": words([i % 4, 4 + i % 4, 8 + i % 4], i // 4)}
        )
        items["multilingual_alignment"].append(base | {name: words(said, k) for k, name in enumerate(LANGUAGES)})
        items["conversational_understanding"].append(
            base | {"language": "en", "text": words(said, 0), "meaning": words(said, 1), "distractor": wrong}
        )
        items["code_understanding"].append(
            base | {"language": "c", "description": words(said, 0), "code": words(said, 1), "near_misses": [wrong]}
        )
    for topic in range(3):
        for k, intent in enumerate(INTENTS):
            cell = [10 + topic, 20 + k]
            items["instruction_awareness"].append(
                {"id": f"{topic}-{intent}", "topic": str(topic), "topic_name": words([10 + topic], 0), "intent": intent}
                | {"document": words(cell, 1)}
                | {"requests": [{"text": words(cell, form), "lexical": form == 0} for form in (0, 2, 3)]}
            )
    path = tmp_path_factory.mktemp("calibration")
    for category, rows in items.items():
        (path / f"{category}.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def quick_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "BOOTSTRAP_RESAMPLES", 10)
    monkeypatch.setattr(topic_clustering, "KMEANS_SEEDS", 1)


def noise(seed: int) -> np.ndarray:
    """A direction of its own for each token."""
    return np.random.default_rng(seed).standard_normal((CONCEPTS * FORMS, WIDTH)).astype(np.float32)


def meaning() -> np.ndarray:
    """One direction for all words of a concept."""
    concepts = np.random.default_rng(99).standard_normal((CONCEPTS, WIDTH)).astype(np.float32)
    return np.repeat(concepts, FORMS, axis=0)


def states_with(meaningful: int) -> dict[int, np.ndarray]:
    return {n: meaning() if n == meaningful else noise(n) for n in {*candidate_layers(DEPTH), DEPTH}}


@pytest.mark.parametrize(("meaningful", "expected"), [(2, (0.0, 0.25)), (4, (0.0, 0.25, 0.5)), (0, (0.0,))])
def test_the_layer_that_carries_meaning_is_found(
    tokenizer: Tokenizer, folder: Path, meaningful: int, expected: tuple[float, ...]
) -> None:
    given = replace(RECIPE, layers=(1.0,))
    trials = select(given, DEPTH, states_with(meaningful), FREQUENCIES, tokenizer, 256, folder)
    best = trials[0]
    assert best.recipe.layers == expected
    assert best.recipe.name == SELECTED
    assert [t.score for t in trials] == sorted((t.score for t in trials), reverse=True)
    before = next(t for t in trials if t.recipe == given)
    assert best.score > before.score + MARGIN
    assert set(best.categories) == set(WEIGHTS)
    assert best.score == pytest.approx(sum(WEIGHTS[c] * s for c, s in best.categories.items()))


def test_the_given_recipe_stays_where_nothing_is_better(tokenizer: Tokenizer, folder: Path) -> None:
    states = dict.fromkeys(candidate_layers(DEPTH), meaning())
    trials = select(RECIPE, DEPTH, states, FREQUENCIES, tokenizer, 256, folder)
    assert trials[0].recipe == RECIPE
    assert trials[0].score > 0.9
    assert trials[0].score == pytest.approx(trials[-1].score, abs=MARGIN)


def test_the_search_repeats_itself(tokenizer: Tokenizer, folder: Path) -> None:
    runs = [select(RECIPE, DEPTH, states_with(2), FREQUENCIES, tokenizer, 64, folder) for _ in range(2)]
    assert runs[0] == runs[1]


class TestSearch:
    """The search itself, with scores made up."""

    @pytest.fixture
    def made_up(self, monkeypatch: pytest.MonkeyPatch) -> dict[tuple[tuple[float, ...], float], float]:
        """(layers, SIF) -> score above that of all others; to be filled."""
        gains: dict[tuple[tuple[float, ...], float], float] = {}

        def score(recipe: Recipe, *_: object) -> Trial:
            return Trial(recipe, 0.5 + gains.get((recipe.layers, recipe.sif), 0.0), {})

        monkeypatch.setattr(selection, "_score", score)
        return gains

    @staticmethod
    def run(tokenizer: Tokenizer, folder: Path, recipe: Recipe = RECIPE, depth: int = DEPTH) -> list[Trial]:
        states = {n: noise(n) for n in {*candidate_layers(depth), depth}}
        return select(recipe, depth, states, FREQUENCIES, tokenizer, 16, folder)

    def test_a_gain_within_the_margin_changes_nothing(
        self, tokenizer: Tokenizer, folder: Path, made_up: dict[tuple[tuple[float, ...], float], float]
    ) -> None:
        made_up[(0.0,), RECIPE.sif] = 0.9 * MARGIN
        trials = self.run(tokenizer, folder)
        assert trials[0].recipe == RECIPE
        assert trials[1].recipe.layers == (0.0,)

    def test_a_gain_beyond_the_margin_is_taken(
        self, tokenizer: Tokenizer, folder: Path, made_up: dict[tuple[tuple[float, ...], float], float]
    ) -> None:
        made_up[(0.0,), RECIPE.sif] = 1.1 * MARGIN
        assert self.run(tokenizer, folder)[0].recipe == replace(RECIPE, name=SELECTED, layers=(0.0,))

    def test_sif_is_fitted_to_the_best_layers_and_nothing_is_tried_twice(
        self, tokenizer: Tokenizer, folder: Path, made_up: dict[tuple[tuple[float, ...], float], float]
    ) -> None:
        made_up[(0.0, 0.25), RECIPE.sif] = 0.1
        made_up[(0.0, 0.25), 1e-3] = 0.2
        made_up[(0.0,), 1e-4] = 0.3  # off the search's path
        trials = self.run(tokenizer, folder)
        assert (trials[0].recipe.layers, trials[0].recipe.sif) == ((0.0, 0.25), 1e-3)
        tried = [(t.recipe.layers, t.recipe.sif) for t in trials]
        assert len(set(tried)) == len(tried) == len(CANDIDATE_LAYERS) + len(CANDIDATE_SIF) - 1

    def test_layers_that_coincide_in_a_shallow_teacher_are_tried_once(
        self, tokenizer: Tokenizer, folder: Path, made_up: dict[tuple[tuple[float, ...], float], float]
    ) -> None:
        trials = self.run(tokenizer, folder, depth=1)
        assert sorted(t.recipe.layer_numbers(1) for t in trials if t.recipe.sif == RECIPE.sif) == [[0], [0, 1]]

    def test_a_recipe_unlike_all_candidates_is_tried_itself(
        self, tokenizer: Tokenizer, folder: Path, made_up: dict[tuple[tuple[float, ...], float], float]
    ) -> None:
        given = replace(RECIPES["plain"], sif=0.02)
        trials = self.run(tokenizer, folder, given)
        assert trials[0].recipe == given
        assert all(t.recipe.whitening == given.whitening for t in trials)


def test_candidate_layers_are_all_that_is_needed() -> None:
    assert candidate_layers(28) == [0, 4, 7, 14]
    assert candidate_layers(1) == [0, 1]
    for depth in (1, 2, 6, 12, 30, 80):
        needed = {n for shares in CANDIDATE_LAYERS for n in replace(RECIPE, layers=shares).layer_numbers(depth)}
        needed |= set(RECIPES["default"].layer_numbers(depth))
        assert candidate_layers(depth) == sorted(needed)


def test_missing_states_are_named(tokenizer: Tokenizer, folder: Path) -> None:
    states = {n: noise(n) for n in candidate_layers(DEPTH) if n != 4}
    with pytest.raises(PipelineError, match=r"\[4\]"):
        select(RECIPE, DEPTH, states, FREQUENCIES, tokenizer, 16, folder)


def test_missing_items_are_named(tokenizer: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="semantic_similarity"):
        select(RECIPE, DEPTH, states_with(0), FREQUENCIES, tokenizer, 16, tmp_path)


def test_a_collapsed_layer_rules_out_its_candidate_alone(
    tokenizer: Tokenizer, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    states = states_with(8) | {0: np.ones((CONCEPTS * FORMS, WIDTH), np.float32)}
    trials = select(replace(RECIPE, layers=(1.0,)), DEPTH, states, FREQUENCIES, tokenizer, 64, folder)
    assert (0.0,) not in {t.recipe.layers for t in trials}
    assert "left out: all token states are alike" in caplog.text
    with pytest.raises(PipelineError, match="alike"):
        select(replace(RECIPE, layers=(0.0,)), DEPTH, states, FREQUENCIES, tokenizer, 64, folder)
