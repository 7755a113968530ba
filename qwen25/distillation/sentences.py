"""Bend a static space towards the teacher's own sentence vectors.

Asked to put a sentence into one word, a decoder's state before the answer sums the sentence up
(PromptEOL: Jiang et al. 2023, "Scaling Sentence Embeddings with Large Language Models",
arXiv:2307.16645). A ridge regression finds the linear map that takes static sentence vectors nearest
to those states, and the space is stretched along the directions that the map uses. Only the geometry
changes, so nothing is learnt by heart about single tokens.
"""

from __future__ import annotations

import numpy as np
import torch

from qwen25.distillation.vectors import principal_axes
from qwen25.runtime.display import progress
from qwen25.runtime.errors import InputError
from qwen25.states.batches import not_finite
from qwen25.states.device import Computing
from qwen25.teacher.teacher import Teacher

PROMPT = ('This sentence: "', '" means in one word: "')
#: Longer sentences are cut to this many tokens.
MAX_TOKENS = 64
BATCH = 128
#: Principal directions of the sentence vectors that are regressed on: the others are mostly noise.
DIRECTIONS = 256
RIDGE = 1.0


def sentence_vectors(teacher: Teacher, sentences: list[str], computing: Computing | None = None) -> np.ndarray:
    """Return the teacher's PromptEOL vector of each sentence; float32, shape (sentences, hidden size).

    :raises InputError: if the teacher is no causal language model.
    :raises PipelineError: if it cannot be loaded, or a vector is not finite.
    """
    if not teacher.is_causal:
        raise InputError(f"teacher {teacher.name} is an encoder: --sentence-vectors needs a decoder")
    computing = computing or Computing()
    tokenizer = teacher.tokenizer()
    before, behind = (tokenizer.encode(text, add_special_tokens=False).ids for text in PROMPT)
    ids = [
        before + encoding.ids[:MAX_TOKENS] + behind
        for encoding in tokenizer.encode_batch(sentences, add_special_tokens=False)
    ]
    out = np.empty((len(ids), teacher.hidden_size), dtype=np.float32)
    model = teacher.load(computing.dtype).to(computing.device)  # type: ignore[arg-type]
    by_length = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    with torch.inference_mode(), progress("sentence vectors", len(ids)) as advance:
        for first in range(0, len(ids), BATCH):
            rows = by_length[first : first + BATCH]
            lengths = [len(ids[i]) for i in rows]
            # A causal model does not look ahead: padding behind a sentence changes nothing before it.
            padded = torch.tensor([ids[i] + [0] * (max(lengths) - len(ids[i])) for i in rows], device=computing.device)
            hidden = model(input_ids=padded, use_cache=False).last_hidden_state
            last = hidden[torch.arange(len(rows)), torch.tensor(lengths) - 1]
            out[rows] = last.float().cpu().numpy()
            advance(len(rows))
    if not np.isfinite(out).all():
        raise not_finite(teacher.name, "its last layer", "whole texts")
    return out


def bend(vectors: np.ndarray, frequencies: np.ndarray, sums: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Stretch the static space along the directions that predict the teacher's sentence vectors.

    With T the token vectors and R the ridge map from static to teacher sentence vectors, the inner
    products of T and of a * T R are added; a gives both the same mean square. That is the metric
    I + a^2 R R', and its root is applied to T, in the order of the principal directions.

    :param vectors: the tokens' static vectors, SIF weights included; shape (tokens, dims).
    :param frequencies: the tokens' probabilities; shape (tokens,).
    :param sums: the sum of the token vectors of each sentence; shape (sentences, dims).
    :param targets: the teacher's vector of each sentence; shape (sentences, hidden size).
    :return: float32 array of the shape of ``vectors``.
    """
    static = _unit(sums.astype(np.float64))
    centred = targets - targets.mean(axis=0, dtype=np.float64)
    values, axes = principal_axes(centred.T @ centred / len(centred))
    kept = min(DIRECTIONS, int((values > values[0] * 1e-9).sum()))
    wanted = _unit(centred @ axes[:, :kept] / np.sqrt(values[:kept]))
    ridge = static.T @ static + RIDGE * np.eye(static.shape[1])
    regression = np.linalg.solve(ridge, static.T @ wanted)
    covariance = (vectors * frequencies[:, None]).T.astype(np.float64) @ vectors
    gain = np.trace(covariance) / np.trace(regression.T @ covariance @ regression)
    values, axes = principal_axes(np.eye(len(covariance)) + gain * regression @ regression.T)
    root = axes * np.sqrt(values)
    _, order = principal_axes(root.T @ covariance @ root)
    return (vectors @ (root @ order)).astype(np.float32)


def _unit(rows: np.ndarray) -> np.ndarray:
    """Scale rows to length 1; a row of zeros stays."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
