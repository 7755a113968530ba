"""Token states -> static vectors: whitening, PCA and SIF weights.

A hidden state's variance sits in a few directions that say little of the token's meaning; a PCA
keeps just those, and cosine sees nothing else. Whitening under the distribution of tokens in
running text gives every direction the same say (Yokoi et al. 2024, "Zipfian Whitening",
arXiv:2411.00680). SIF weights (Arora et al. 2017, "A simple but tough-to-beat baseline for
sentence embeddings") then let rare tokens count for more than frequent ones in a mean.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from qwen25.distillation.recipe import Recipe
from qwen25.runtime.errors import PipelineError
from qwen25.training.table import Start

#: A direction whose eigenvalue is below this share of the largest one is rounding noise of float32 states.
_NOISE_FLOOR = 1e-10
_CHUNK_ROWS = 8192


def distil_vectors(states: list[np.ndarray], frequencies: np.ndarray, recipe: Recipe, dims: int) -> np.ndarray:
    """Turn the states of all tokens into their static vectors.

    Each layer is centred and whitened on its own, the layers are put side by side, a PCA keeps
    ``dims`` directions, and each row is scaled by its SIF weight. All of it is one linear map of
    the states, computed from their joint covariance, so no array as wide as all layers together is
    ever made.

    :param states: one array a layer, each of shape (tokens, hidden size).
    :param frequencies: the tokens' probabilities; shape (tokens,).
    :param dims: the dimensions wanted.
    :return: float32 array of shape (tokens, dims); fewer dimensions if the states have fewer.
    :raises PipelineError: if the states span no direction at all (all tokens alike).
    """
    mean, whiten, axes = _maps(states, frequencies, recipe, dims)
    projection = whiten @ axes
    sif = sif_weights(frequencies, recipe.sif)
    out = np.empty((len(frequencies), axes.shape[1]), dtype=np.float32)
    for rows, chunk in _chunks(states, mean):
        out[rows] = chunk @ projection * sif[rows, None]
    return out


def training_start(states: list[np.ndarray], frequencies: np.ndarray, recipe: Recipe, dims: int) -> Start:
    """Return what training begins with: the whitened states themselves, and the maps of ``distil_vectors``.

    The untrained table is that of ``distil_vectors``, but for the rounding of the wide states to float16.

    :raises PipelineError: if the states span no direction at all (all tokens alike).
    """
    mean, whiten, axes = _maps(states, frequencies, recipe, dims)
    wide = np.empty((len(frequencies), whiten.shape[1]), dtype=np.float16)
    for rows, chunk in _chunks(states, mean):
        wide[rows] = chunk @ whiten
    return Start(wide, axes.astype(np.float32), sif_weights(frequencies, recipe.sif))


def _maps(
    states: list[np.ndarray], frequencies: np.ndarray, recipe: Recipe, dims: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the mean of all layers side by side, the map that whitens each, and the axes of a PCA behind it."""
    tokens = len(frequencies)
    weights = frequencies if recipe.frequency_weighted else np.full(tokens, 1.0 / tokens)
    mean, covariance = _moments(states, weights)
    if np.trace(covariance) <= _NOISE_FLOOR**2 * float(mean @ mean):
        raise PipelineError("all token states are alike: this teacher cannot be distilled with this recipe")
    blocks = [_whitening_map(covariance[part, part], recipe.whitening) for part in _parts(states)]
    whiten = _block_diagonal(blocks)
    values, vectors = principal_axes(whiten.T @ covariance @ whiten)
    kept = min(dims, int((values > values[0] * _NOISE_FLOOR).sum()))
    return mean, whiten, vectors[:, :kept]


def sif_weights(frequencies: np.ndarray, coefficient: float) -> np.ndarray:
    """Return a / (a + p) for each token (Arora et al. 2017); shape (tokens,)."""
    return coefficient / (coefficient + frequencies)


def _parts(states: list[np.ndarray]) -> list[slice]:
    """Return where each layer's columns lie when the layers stand side by side."""
    ends = np.cumsum([0] + [s.shape[1] for s in states])
    return [slice(int(a), int(b)) for a, b in itertools.pairwise(ends)]


def _chunks(states: list[np.ndarray], mean: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield the centred states of all layers side by side, some rows at a time, as float64."""
    for start in range(0, len(states[0]), _CHUNK_ROWS):
        rows = slice(start, start + _CHUNK_ROWS)
        yield rows, np.concatenate([s[rows] for s in states], axis=1) - mean


def _moments(states: list[np.ndarray], weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the weighted mean and covariance of all layers side by side, in float64.

    float64, because a sink direction can be 1e4 times as large as the others: its square would drown
    theirs in float32.
    """
    mean = np.concatenate([weights @ s for s in states]).astype(np.float64)
    covariance = np.zeros((len(mean), len(mean)))
    roots = np.sqrt(weights)
    for rows, chunk in _chunks(states, mean):
        weighted = chunk * roots[rows, None]
        covariance += weighted.T @ weighted
    return mean, covariance


def _whitening_map(covariance: np.ndarray, power: float) -> np.ndarray:
    """Return the map onto principal directions divided by eigenvalue ** power; shape (width, kept)."""
    values, vectors = principal_axes(covariance)
    kept = values > values[0] * _NOISE_FLOOR
    return vectors[:, kept] * values[kept] ** -power


def _block_diagonal(blocks: list[np.ndarray]) -> np.ndarray:
    from scipy.linalg import block_diag

    return block_diag(*blocks)


def principal_axes(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return eigenvalues in falling order and their vectors, signed so that the result is unique."""
    values, vectors = np.linalg.eigh(matrix)
    values, vectors = values[::-1], vectors[:, ::-1]
    largest = np.abs(vectors).argmax(axis=0)
    signs = np.sign(vectors[largest, np.arange(vectors.shape[1])])
    return values, vectors * np.where(signs == 0, 1, signs)
