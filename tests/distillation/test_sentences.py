"""Sentence vectors of the teacher, and the space bent towards them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from qwen25.distillation.sentences import PROMPT, bend, sentence_vectors
from qwen25.teacher.teacher import find_teacher

TOKENS, DIMS, TEXTS = 400, 12, 600


def cosines(rows: np.ndarray) -> np.ndarray:
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return (unit @ unit.T)[np.triu_indices(len(rows), 1)]


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


def test_bending_brings_cosines_nearer_to_the_teachers() -> None:
    """The teacher hears three of the twelve directions only; the bent space must favour them."""
    generator = np.random.default_rng(0)
    vectors = generator.standard_normal((TOKENS, DIMS)).astype(np.float32)
    frequencies = np.full(TOKENS, 1 / TOKENS)
    bags = generator.integers(0, TOKENS, (TEXTS, 5))
    sums = vectors[bags].sum(axis=1)
    targets = sums[:, :3] @ generator.standard_normal((3, 8)) + 0.01 * generator.standard_normal((TEXTS, 8))
    half = TEXTS // 2
    bent = bend(vectors, frequencies, sums[:half], targets[:half].astype(np.float32))
    assert bent.shape == vectors.shape and bent.dtype == np.float32
    truth = cosines(sums[half:, :3])
    before = np.corrcoef(cosines(sums[half:]), truth)[0, 1]
    after = np.corrcoef(cosines(bent[bags[half:]].sum(axis=1)), truth)[0, 1]
    assert after > before + 0.05


def test_bent_vectors_keep_the_order_of_their_principal_directions() -> None:
    generator = np.random.default_rng(1)
    vectors = generator.standard_normal((TOKENS, DIMS)).astype(np.float32)
    frequencies = np.full(TOKENS, 1 / TOKENS)
    sums = vectors[generator.integers(0, TOKENS, (TEXTS, 5))].sum(axis=1)
    bent = bend(vectors, frequencies, sums, sums[:, :4].astype(np.float32))
    power = (bent**2).mean(axis=0)
    assert (np.diff(power) <= 1e-3 * power[0]).all()
