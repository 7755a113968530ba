"""The teacher's sentence vectors, and what is made of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from qwen25.store.pairs import Pair, PairSet
from qwen25.teacher.teacher import find_teacher
from qwen25.training.batches import Bags
from qwen25.training.soft_targets import PROMPT, sentence_vectors, soft_targets, texts_of


def test_a_sentences_vector_is_the_last_state_behind_the_prompt(tiny_teacher: Path) -> None:
    teacher = find_teacher(str(tiny_teacher))
    texts = ["A cat sat.", "The committee postponed its decision until the spring.", "No"]
    found = sentence_vectors(teacher, texts)
    tokenizer, model = teacher.tokenizer(), teacher.load(torch.float32)
    for text, vector in zip(texts, found, strict=True):
        parts = (PROMPT[0], text, PROMPT[1])
        ids = [i for part in parts for i in tokenizer.encode(part, add_special_tokens=False).ids]
        with torch.inference_mode():
            alone = model(torch.tensor([ids])).last_hidden_state[0, -1]
        np.testing.assert_allclose(vector, alone.numpy(), rtol=1e-3, atol=1e-4)


def test_targets_are_unit_vectors_without_a_common_direction_and_with_less_of_the_large_ones() -> None:
    random = np.random.default_rng(0)
    vectors = (random.normal(size=(500, 20)) * np.linspace(10, 1, 20) + 30).astype(np.float32)
    bags = Bags(np.arange(499, dtype=np.int32), np.array([0, 0, *range(1, 500)]))  # the first text has no token
    targets = soft_targets(bags, vectors)
    assert len(targets.bags) == len(targets.vectors) == 499
    np.testing.assert_allclose(np.linalg.norm(targets.vectors, axis=1), 1, rtol=1e-5)
    assert abs((targets.vectors[::2][:249] * targets.vectors[1::2][:249]).sum(axis=1).mean()) < 0.1
    spread = targets.vectors.std(axis=0)
    assert 2 < spread[0] / spread[19] < 6  # of 10 to 1 in the vectors


def test_texts_are_drawn_from_every_set_alike_and_from_both_sides() -> None:
    large, small = (
        PairSet(name, [Pair(f"{name} left {i}", f"{name} right {i}", "") for i in range(count)])
        for name, count in (("large", 500), ("small", 10))
    )
    texts = texts_of([large, small], 60, seed=1)
    assert texts == texts_of([large, small], 60, seed=1) != texts_of([large, small], 60, seed=2)
    assert len(set(texts)) == 60 and sum(text.startswith("small") for text in texts) == 10
    assert {text.split()[1] for text in texts if text.startswith("large")} == {"left", "right"}
    assert len(texts_of([small], 60, seed=1)) == 10
    assert texts_of([PairSet("long", [Pair("word " * 100, "word " * 90, "")])], 60, seed=1) == []
