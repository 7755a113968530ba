"""The scores: 1 for a model that understands, 0 for chance, and nothing for a collapsed one."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import EVAL_DATA

from qwen25.evaluation.categories.all import CATEGORIES, WEIGHTS
from qwen25.evaluation.categories.instruction_awareness import INTENTS
from qwen25.evaluation.categories.multilingual_alignment import LANGUAGES
from qwen25.evaluation.category import CategoryScore
from qwen25.evaluation.encoder import Encoder, random_control
from qwen25.evaluation.evaluate import Evaluation, evaluate
from qwen25.evaluation.fields import Item
from qwen25.evaluation.items import load_items
from qwen25.evaluation.loading import load_encoder
from qwen25.evaluation.matching import Cosine
from qwen25.evaluation.statistics import half_samples, mid_rank, resample
from qwen25.evaluation.verdict import DECISION_TABLE, verdict
from qwen25.store.static_model import Encode

pytestmark = pytest.mark.usefixtures("all_resamples")
SEED = 42
DIMS = 256
ALL_ITEMS = {category: load_items(EVAL_DATA, category) for category in WEIGHTS}
# Every topic keeps ten sentences: mutual information is slow to bootstrap.
ALL_ITEMS["topic_clustering"] = ALL_ITEMS["topic_clustering"][::4]


def noise(name: str) -> np.ndarray:
    """A direction that depends on the name alone."""
    return np.random.default_rng(zlib.crc32(name.encode())).standard_normal(DIMS)


def oracle(items: dict[str, list[Item]]) -> Encode:
    """A model that knows the right answers: texts that belong together share a direction."""
    meaning: dict[str, np.ndarray] = {}
    for row in items["semantic_similarity"]:
        meaning |= {row["anchor"]: noise(row["id"]), row["paraphrase"]: noise(row["id"])}
    for row in items["topic_clustering"]:
        meaning[row["text"]] = noise(row["topic"])
    for row in items["multilingual_alignment"]:
        meaning |= {row[language]: noise(row["id"]) for language in LANGUAGES}
    for row in items["instruction_awareness"]:
        cell = noise(row["topic"]) + noise(row["intent"])
        meaning |= {row["document"]: cell, **{r["text"]: cell for r in row["requests"]}}
        meaning[row["topic_name"]] = noise(row["topic"])
    for row in items["conversational_understanding"]:
        meaning |= {row["text"]: noise(row["id"]), row["meaning"]: noise(row["id"])}
    for row in items["code_understanding"]:
        meaning |= {row["description"]: noise(row["id"]), row["code"]: noise(row["id"])}
    return lambda texts: np.stack([meaning.get(text, noise(text)) for text in texts])


def guesser(texts: Sequence[str]) -> np.ndarray:
    """A model that gives every text a direction of its own."""
    return np.stack([noise(text) for text in texts])


def constant(texts: Sequence[str]) -> np.ndarray:
    """A wholly collapsed model."""
    return np.ones((len(texts), DIMS))


def as_encoder(encode: Encode) -> Encoder:
    return Encoder("test", "static", Cosine(encode), DIMS)


@pytest.mark.parametrize("category", list(WEIGHTS))
class TestEveryCategory:
    def test_a_model_that_understands_scores_one(self, category: str) -> None:
        score = CATEGORIES[category].score(Cosine(oracle(ALL_ITEMS)), ALL_ITEMS[category], SEED)
        assert score.score == pytest.approx(1, abs=0.02)

    @pytest.mark.parametrize("encode", [guesser, constant])
    def test_guessing_and_collapse_score_zero(self, category: str, encode: Encode) -> None:
        score = CATEGORIES[category].score(Cosine(encode), ALL_ITEMS[category], SEED)
        assert score.score == pytest.approx(0, abs=0.05)

    def test_the_interval_holds_the_score(self, category: str) -> None:
        mixture = oracle(ALL_ITEMS)

        def half_right(texts: Sequence[str]) -> np.ndarray:
            return np.stack([mixture([t])[0] if zlib.crc32(t.encode()) % 3 else noise(t) for t in texts])

        score = CATEGORIES[category].score(Cosine(half_right), ALL_ITEMS[category], SEED)
        low, high = score.interval
        assert low < score.score < high
        assert high - low < 0.3

    def test_scores_do_not_depend_on_vector_length(self, category: str) -> None:
        def stretched(texts: Sequence[str]) -> np.ndarray:
            return guesser(texts) * np.array([1 + len(t) for t in texts])[:, None]

        plain = CATEGORIES[category].score(Cosine(guesser), ALL_ITEMS[category], SEED)
        score = CATEGORIES[category].score(Cosine(stretched), ALL_ITEMS[category], SEED)
        assert score.score == pytest.approx(plain.score, abs=1e-6)

    def test_the_cosine_protocol_is_fooled_where_the_score_is_not(self, category: str) -> None:
        def nearly_collapsed(texts: Sequence[str]) -> np.ndarray:
            return np.stack([30 * noise("common") + noise(text) for text in texts])

        score = CATEGORIES[category].score(Cosine(nearly_collapsed), ALL_ITEMS[category], SEED)
        assert score.cosine_protocol["cosine_of_unrelated_pairs"] > 0.95
        assert score.score < 0.05


class TestInstructionAwareness:
    items = ALL_ITEMS["instruction_awareness"]

    def by_part(self, part: str) -> Encode:
        """A model that sees only the topic, or only the intent, of requests and documents."""
        seen: dict[str, np.ndarray] = {}
        for row in self.items:
            seen |= {row["document"]: noise(row[part]), **{r["text"]: noise(row[part]) for r in row["requests"]}}
        return lambda texts: np.stack([seen.get(t, noise(t)) + 1e-3 * noise("x" + t) for t in texts])

    def test_topic_alone_is_not_instruction_awareness(self) -> None:
        score = CATEGORIES["instruction_awareness"].score(Cosine(self.by_part("topic")), self.items, SEED)
        assert score.sub_scores["topic_among_same_intent"] == pytest.approx(1)
        assert score.score < 0.25
        assert not score.sub_scores["follows_instructions"]

    def test_intent_alone_is_found_but_not_enough(self) -> None:
        score = CATEGORIES["instruction_awareness"].score(Cosine(self.by_part("intent")), self.items, SEED)
        assert score.sub_scores["intent_among_same_topic"] == pytest.approx(1)
        assert score.sub_scores["follows_instructions"]
        assert score.score < 0.25

    def test_controls_fall_when_the_instruction_is_dropped_or_shuffled(self) -> None:
        sub_scores = CATEGORIES["instruction_awareness"].score(Cosine(oracle(ALL_ITEMS)), self.items, SEED).sub_scores
        assert sub_scores["controls"]["shuffled_instruction"] < 0
        assert sub_scores["controls"]["no_instruction"] < 0.25
        assert sub_scores["p_mrr"] > 0.5
        assert sub_scores["worst_of_three_phrasings"] == pytest.approx(1)

    def test_a_model_deaf_to_the_instruction_has_no_p_mrr(self) -> None:
        deaf = {r["text"]: noise(row["topic"]) for row in self.items for r in row["requests"]}
        score = CATEGORIES["instruction_awareness"].score(
            Cosine(lambda texts: np.stack([deaf.get(t, noise(t)) for t in texts])), self.items, SEED
        )
        assert score.sub_scores["p_mrr"] == pytest.approx(0)


class TestVerdict:
    @staticmethod
    def evaluation(score: float, control: float = 0.1, cosine: float = 0.0, **categories: float) -> Evaluation:
        def outcome(value: float) -> CategoryScore:
            return CategoryScore(value, value + np.linspace(-0.01, 0.01, 1000), {}, {})

        def build(value: float, inner: Evaluation | None, **parts: float) -> Evaluation:
            scores = {name: outcome(parts.get(name, value)) for name in WEIGHTS}
            replicates = value + np.linspace(-0.01, 0.01, 1000)
            return Evaluation(as_encoder(guesser), scores, value, replicates, inner, {"unrelated_cosine": cosine})

        return build(score, build(control, None), **categories)

    @pytest.mark.parametrize(("name", "overall", "instruction"), DECISION_TABLE)
    def test_each_row_of_the_table(self, name: str, overall: float, instruction: float) -> None:
        assert verdict(self.evaluation(overall, instruction_awareness=instruction))["verdict"] == name
        assert verdict(self.evaluation(overall, instruction_awareness=instruction - 0.2))["verdict"] != name
        assert verdict(self.evaluation(overall - 0.01, instruction_awareness=instruction))["verdict"] != name

    def test_below_the_table_is_poor(self) -> None:
        assert verdict(self.evaluation(0.59))["verdict"] == "Poor"

    def test_gate_of_the_control(self) -> None:
        result = verdict(self.evaluation(0.9, control=0.9))
        assert result["verdict"] == "Poor" and "control" in result["reasons"][0]

    def test_gate_of_the_collapse(self) -> None:
        result = verdict(self.evaluation(0.9, cosine=0.5))
        assert result["verdict"] == "Poor" and "collapsed" in result["reasons"][0]


def test_evaluating_a_collapsed_model_is_poor() -> None:
    result = verdict(evaluate(as_encoder(constant), ALL_ITEMS, SEED))
    assert result["verdict"] == "Poor"
    assert any("collapsed" in reason for reason in result["reasons"])


def test_the_control_keeps_tokenizer_and_norms(tiny_model: Path) -> None:
    model = load_encoder(str(tiny_model))
    control = random_control(model, SEED)
    assert control is not None and control.static is None and model.static is not None
    word = "Ġthe"
    row = model.static.tokens.index(word)
    encoded = np.linalg.norm(np.asarray(model.static.embedding)[row])
    model.static.normalize = False
    bare = random_control(model, SEED)
    assert bare is not None
    assert np.linalg.norm(bare.encode(["the"])[0]) == pytest.approx(encoded, rel=1e-5)
    again = random_control(model, SEED)
    assert again is not None
    np.testing.assert_array_equal(bare.encode(["some text"]), again.encode(["some text"]))


def test_ties_share_their_places() -> None:
    assert mid_rank(np.array([0.5, 0.5, 0.1]), 0.5) == 2
    assert mid_rank(np.array([0.9, 0.1]), 0.5) == 2
    assert mid_rank(np.array([]), 0.5) == 1


@pytest.mark.parametrize("draw", [resample, half_samples])
def test_resamples_are_paired_between_models(draw: Any) -> None:
    np.testing.assert_array_equal(draw(50, SEED), draw(50, SEED))
    assert not np.array_equal(draw(50, SEED), draw(50, SEED + 1))


def test_the_grid_has_all_cells() -> None:
    topics = {row["topic"] for row in ALL_ITEMS["instruction_awareness"]}
    assert len(topics) == 24 and len(ALL_ITEMS["instruction_awareness"]) == 24 * len(INTENTS)
