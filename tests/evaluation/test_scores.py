"""The scores: 1 for a model that understands, 0 for chance, and nothing for a collapsed one."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import EVAL_DATA

from qwen25.evaluation.categories import CATEGORIES, WEIGHTS, load_items
from qwen25.evaluation.categories.retrieval import LANGUAGES
from qwen25.evaluation.category import Item, half_samples, resampled_means
from qwen25.evaluation.evaluate import score_model, training_effect
from qwen25.evaluation.matching import Cosine
from qwen25.evaluation.models import Encoder, load_encoder, random_control
from qwen25.evaluation.results import as_json
from qwen25.store.static_model import Encode

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

    @pytest.mark.usefixtures("all_resamples")
    def test_the_interval_holds_the_score(self, category: str) -> None:
        mixture = oracle(ALL_ITEMS)

        def half_right(texts: Sequence[str]) -> np.ndarray:
            return np.stack([mixture([t])[0] if zlib.crc32(t.encode()) % 3 else noise(t) for t in texts])

        score = CATEGORIES[category].score(Cosine(half_right), ALL_ITEMS[category], SEED)
        low, high = np.percentile(score.replicates, [2.5, 97.5])
        assert low < score.score < high
        assert high - low < 0.3


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

    def test_controls_fall_when_the_instruction_is_dropped_or_shuffled(self) -> None:
        sub_scores = CATEGORIES["instruction_awareness"].score(Cosine(oracle(ALL_ITEMS)), self.items, SEED).sub_scores
        assert sub_scores["controls"]["shuffled_instruction"] < 0
        assert sub_scores["controls"]["no_instruction"] < 0.25
        assert sub_scores["worst_of_three_phrasings"] == pytest.approx(1)


def test_a_collapsed_model_is_poor() -> None:
    result = as_json(score_model(as_encoder(constant), ALL_ITEMS, SEED))
    assert result["verdict"]["verdict"] == "Poor"
    assert any("collapsed" in reason for reason in result["verdict"]["reasons"])


def test_training_that_changes_nothing_has_no_effect(
    model: Path, few_items: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("qwen25.evaluation.evaluate.calibration_folder", lambda: few_items)
    static = load_encoder(str(model)).static
    assert static is not None
    table = np.asarray(static.embedding, dtype=np.float32)
    effect = training_effect(table, table, static.tokenizer)
    assert set(effect) == set(WEIGHTS)
    assert all(found["untrained"] == found["trained"] and found["interval"] == [0, 0] for found in effect.values())
    noise = np.random.default_rng(0).standard_normal(table.shape, dtype=np.float32)
    worse = training_effect(table, np.ones_like(table) + 1e-3 * noise, static.tokenizer)
    fallen = [name for name, found in worse.items() if found["interval"][1] < 0]
    assert fallen and f"lowers {fallen[0].replace('_', ' ')}" in caplog.text


def test_the_control_keeps_tokenizer_and_norms(model: Path) -> None:
    encoder = load_encoder(str(model))
    control = random_control(encoder, SEED)
    assert control is not None and control.static is None and encoder.static is not None
    encoder.static.normalize = False
    bare, again = random_control(encoder, SEED), random_control(encoder, SEED)
    assert bare is not None and again is not None
    row = np.asarray(encoder.static.embedding)[encoder.static.tokens.index("Ġthe")]
    assert np.linalg.norm(bare.encode([" the"])[0]) == pytest.approx(np.linalg.norm(row), rel=1e-5)
    np.testing.assert_array_equal(bare.encode(["some text"]), again.encode(["some text"]))


@pytest.mark.parametrize(
    "draw", [lambda seed: resampled_means(np.arange(50.0), seed), lambda seed: half_samples(50, seed)]
)
def test_resamples_are_paired_between_models(draw: Any) -> None:
    np.testing.assert_array_equal(draw(SEED), draw(SEED))
    assert not np.array_equal(draw(SEED), draw(SEED + 1))
