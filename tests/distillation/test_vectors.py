"""States -> vectors: what whitening, PCA and SIF promise."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from scipy.sparse import csr_array
from tokenizers import Tokenizer
from tokenizers.models import BPE

from qwen25.distillation.derived import DerivedRows
from qwen25.distillation.rows import zipf_frequencies
from qwen25.distillation.vectors import RECIPES, Recipe, distil_vectors, recipe_for, sif_weights, training_start
from qwen25.runtime.errors import PipelineError

TOKENS = 3000
NO_SIF = 1e12  # a / (a + p) is then 1 for every token


def skewed_states(width: int, seed: int = 0) -> np.ndarray:
    """States whose variance sits in a few directions, on top of a large common vector."""
    generator = np.random.default_rng(seed)
    scales = 10.0 ** np.linspace(2, -1, width)
    rotation = np.linalg.qr(generator.standard_normal((width, width)))[0]
    return ((generator.standard_normal((TOKENS, width)) * scales) @ rotation + 50).astype(np.float32)


def whitening_recipe(sif: float = NO_SIF) -> Recipe:
    return Recipe("test", "\n", (0.0, 1.0), whitening=0.5, frequencies="zipf", frequency_weighted=True, sif=sif)


def test_whitened_vectors_have_no_preferred_direction() -> None:
    frequencies = zipf_frequencies(TOKENS)
    vectors = distil_vectors([skewed_states(24)], frequencies, whitening_recipe(), 24)
    mean = frequencies @ vectors
    covariance = (vectors - mean).T * frequencies @ (vectors - mean)
    np.testing.assert_allclose(mean, 0, atol=1e-2)
    np.testing.assert_allclose(covariance, np.eye(24), atol=1e-2)


def test_plain_recipe_is_model2vecs_pca_and_weights() -> None:
    from model2vec.distill.inference import apply_pca, compute_weights

    states = skewed_states(24)
    ours = distil_vectors([states], zipf_frequencies(TOKENS), RECIPES["plain"], 16)
    theirs = apply_pca(states.astype(np.float64), 16) * compute_weights(TOKENS, 1e-4)[:, None]
    signs = np.sign((ours * theirs).sum(axis=0))
    np.testing.assert_allclose(ours, theirs * signs, rtol=1e-3, atol=np.abs(theirs).max() * 1e-4)


def test_dims_are_capped_at_what_the_states_span(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "qwen25")
    low_rank = skewed_states(24)[:, :5] @ np.random.default_rng(3).standard_normal((5, 24)).astype(np.float32)
    vectors = distil_vectors([low_rank], zipf_frequencies(TOKENS), whitening_recipe(), 24)
    assert vectors.shape[1] <= 6 and f"span only {vectors.shape[1]} directions" in caplog.text


def test_rare_tokens_weigh_more() -> None:
    frequencies = zipf_frequencies(TOKENS)
    heavy = distil_vectors([skewed_states(24)], frequencies, whitening_recipe(sif=1e-3), 24)
    light = distil_vectors([skewed_states(24)], frequencies, whitening_recipe(), 24)
    ratio = np.linalg.norm(heavy, axis=1) / np.linalg.norm(light, axis=1)
    np.testing.assert_allclose(ratio, sif_weights(frequencies, 1e-3), rtol=1e-4)
    assert ratio[0] < ratio[-1]


def test_collapsed_states_are_an_error() -> None:
    with pytest.raises(PipelineError, match="alike"):
        distil_vectors([np.ones((TOKENS, 8), np.float32)], zipf_frequencies(TOKENS), whitening_recipe(), 8)


def test_layers_are_shares_of_the_depth() -> None:
    assert RECIPES["default"].layer_numbers(28) == [0, 4, 7]
    assert RECIPES["default"].layer_numbers(30) == [0, 4, 8]
    assert RECIPES["plain"].layer_numbers(28) == [28]
    assert RECIPES["default"].layer_numbers(1) == [0, 1]


def test_the_recipe_in_the_file_is_the_one_that_runs() -> None:
    assert recipe_for("default") == RECIPES["default"]
    assert (RECIPES["default"].frequencies, RECIPES["default"].sif) == ("zipf", 1e-4)
    corpus = {name: recipe_for(name, has_corpus=True) for name in RECIPES}
    assert {recipe.frequencies for recipe in corpus.values()} == {"corpus"}
    assert {name: recipe.sif for name, recipe in corpus.items()} == {"default": 5e-4, "plain": 1e-4, "pooled": 1e-4}
    assert recipe_for("default", is_causal=False).prefix == ""  # an encoder's own special tokens stand around a token


def test_the_untrained_start_is_the_untrained_table() -> None:
    random = np.random.default_rng(0)
    states = [random.normal(size=(300, 20)).astype(np.float32) + layer for layer in range(2)]
    frequencies = np.full(300, 1 / 300)
    nothing = np.empty(0, dtype=np.int64)
    none = DerivedRows(Tokenizer(BPE()), np.arange(300), nothing, csr_array((0, 300)), nothing, nothing)
    start = training_start(states, frequencies, RECIPES["default"], 16, none)
    expected = distil_vectors(states, frequencies, RECIPES["default"], 16)
    found = start.wide.astype(np.float32) @ start.projection * start.weights[:, None]
    np.testing.assert_allclose(found, expected, atol=2e-3)
