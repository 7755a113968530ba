"""Token states -> static vectors by a recipe: whitening, PCA and SIF weights.

A hidden state's variance sits in a few directions that say little of the token's meaning; a PCA keeps just those, and
cosine sees nothing else. Whitening under the distribution of tokens in running text gives every direction the same say
(Yokoi et al. 2024, "Zipfian Whitening", arXiv:2411.00680). SIF weights (Arora et al. 2017, "A simple but tough-to-beat
baseline for sentence embeddings") then let rare tokens count for more than frequent ones in a mean.
"""

from __future__ import annotations

import itertools
import mmap
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from qwen25.distillation.derived import DerivedRows
from qwen25.runtime.errors import PipelineError, logger

if TYPE_CHECKING:
    from qwen25.training.trainer import Start

#: A direction whose eigenvalue is below this share of the largest one is rounding noise of float32 states.
_NOISE_FLOOR = 1e-10
_CHUNK_ROWS = 4096


@dataclass(frozen=True)
class Recipe:
    """How token states become vectors.

    :ivar prefix: text before each token of a decoder, whose position 0 is an attention sink: all states look alike.
    :ivar layers: the states used, as shares of the teacher's depth: 0 input embeddings, 1 last state.
    :ivar whitening: the power p of the eigenvalues that each layer is divided by: 0.5 full, 0 none.
    :ivar frequencies: where a token's frequency comes from: ``zipf``, the law of ranks, or ``corpus``.
    :ivar frequency_weighted: whether mean and covariance weigh tokens by their frequency.
    :ivar sif: the SIF coefficient a in a / (a + p(token)).
    :ivar numbers: the length of a direction of its own in the row of a group of digits, as a share of the table's
        median row; 0: digits stand alone, and 48213 is 48231.
    :ivar pooled: whether a token's state is the vector that an embedding model itself gives it.
    """

    name: str
    prefix: str
    layers: tuple[float, ...]
    whitening: float
    frequencies: str = "zipf"
    frequency_weighted: bool = True
    sif: float = 1e-4
    numbers: float = 0.0
    pooled: bool = False

    def layer_numbers(self, depth: int) -> list[int]:
        """Return the layers' numbers in a teacher of ``depth`` layers, without repeats, in order."""
        return sorted({max(1, round(share * depth)) if share > 0 else 0 for share in self.layers})


#: Early layers hold what a token means, late ones which token comes next.
DEFAULT = Recipe("default", prefix="\n", layers=(0.0, 0.125, 0.25), whitening=0.5, numbers=1.5)
#: What model2vec.distill does: each token alone, last state, plain PCA, Zipf SIF.
PLAIN = Recipe("plain", prefix="", layers=(1.0,), whitening=0.0, frequency_weighted=False)
#: For embedding models. Half the power of whitening suits them better than all of it or none: docs/LOG.md.
POOLED = Recipe("pooled", prefix="", layers=(1.0,), whitening=0.25, pooled=True)
RECIPES = {recipe.name: recipe for recipe in (DEFAULT, PLAIN, POOLED)}


def recipe_for(name: str, *, is_causal: bool = True, has_corpus: bool = False) -> Recipe:
    """Return the recipe ``name`` as it suits a teacher and the user's texts.

    :param is_causal: False for an encoder, whose own special tokens already stand around each token.
    :param has_corpus: whether the token frequencies are counted in the user's texts.
    """
    recipe = RECIPES[name] if is_causal else replace(RECIPES[name], prefix="")
    if not has_corpus:
        return recipe
    # Zipf's law gives its first ranks far more than counted texts do, so the default recipe's counted frequencies
    # take a coefficient five times as large; the other recipes were tuned with 1e-4 alone (docs/LOG.md).
    return replace(recipe, frequencies="corpus", sif=5e-4 if name == "default" else recipe.sif)


def distil_vectors(states: list[np.ndarray], frequencies: np.ndarray, recipe: Recipe, dims: int) -> np.ndarray:
    """Turn the states of all tokens into their static vectors.

    Each layer is centred and whitened on its own, the layers are put side by side, a PCA keeps ``dims`` directions,
    and each row is scaled by its SIF weight: one linear map, so no array as wide as all layers together is made.

    :param states: one array a layer, each of shape (tokens, hidden size).
    :param frequencies: the tokens' probabilities; shape (tokens,).
    :return: float32 array of shape (tokens, dims); fewer dimensions if the states span fewer.
    :raises PipelineError: if the states span no direction at all (all tokens alike).
    """
    mean, whiten, axes = _maps(states, frequencies, recipe, dims)
    projection = np.concatenate([block @ axes[part] for block, part in zip(whiten, _parts(whiten), strict=True)])
    sif = sif_weights(frequencies, recipe.sif)
    out = np.empty((len(frequencies), axes.shape[1]), dtype=np.float32)
    for rows, chunk in _chunks(states, mean):
        out[rows] = chunk @ projection * sif[rows, None]
    return out


def training_start(
    states: list[np.ndarray], frequencies: np.ndarray, recipe: Recipe, dims: int, derived: DerivedRows
) -> Start:
    """Return the same table before it is multiplied out, for training; the wide states are rounded to float16.

    :param derived: the rows that are made of these; they are in the result, with a weight of 1.
    :raises PipelineError: if the states span no direction at all (all tokens alike).
    """
    from qwen25.training.trainer import Start

    mean, whiten, axes = _maps(states, frequencies, recipe, dims)
    wide, weights = np.zeros((len(derived), len(axes)), dtype=np.float16), np.ones(len(derived))
    for rows, chunk in _chunks(states, mean):
        for block, part, whitened in zip(whiten, _parts(states), _parts(whiten), strict=True):
            wide[derived.places[rows], whitened] = chunk[:, part] @ block
    weights[derived.places] = sif_weights(frequencies, recipe.sif)
    return Start(derived.fill(wide, weights), axes.astype(np.float32), weights)


def _maps(
    states: list[np.ndarray], frequencies: np.ndarray, recipe: Recipe, dims: int
) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """Return the mean of all layers side by side, the maps that whiten each, and the axes of a PCA behind them."""
    tokens = len(frequencies)
    weights = frequencies if recipe.frequency_weighted else np.full(tokens, 1.0 / tokens)
    mean, covariance = _moments(states, weights)
    if np.trace(covariance) <= _NOISE_FLOOR**2 * float(mean @ mean):
        raise PipelineError("all token states are alike: this teacher cannot be distilled with this recipe")
    parts = _parts(states)
    whiten = [_whitening_map(covariance[part, part], recipe.whitening) for part in parts]
    sides = list(zip(whiten, parts, strict=True))
    covariance = np.block([[a.T @ covariance[p, q] @ b for b, q in sides] for a, p in sides])
    values, axes = principal_axes(covariance, dims)
    axes = axes[:, values > values[0] * _NOISE_FLOOR]
    if (found := axes.shape[1]) < dims:
        logger.info("    the states span only %d directions: the model has %d dimensions, not %d", found, found, dims)
    return mean, whiten, axes


def sif_weights(frequencies: np.ndarray, coefficient: float) -> np.ndarray:
    """Return a / (a + p) for each token (Arora et al. 2017); shape (tokens,)."""
    return coefficient / (coefficient + frequencies)


def _parts(arrays: list[np.ndarray]) -> list[slice]:
    """Return where each array's columns lie when the arrays stand side by side."""
    ends = np.cumsum([0] + [array.shape[1] for array in arrays])
    return [slice(int(a), int(b)) for a, b in itertools.pairwise(ends)]


def _chunks(states: list[np.ndarray], mean: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield the centred states of all layers side by side, some rows at a time, as float64, in the same memory."""
    buffer = np.empty((min(_CHUNK_ROWS, len(states[0])), len(mean)))
    for start in range(0, len(states[0]), _CHUNK_ROWS):
        rows = slice(start, min(start + _CHUNK_ROWS, len(states[0])))
        chunk = buffer[: rows.stop - start]
        for array, part in zip(states, _parts(states), strict=True):
            np.subtract(array[rows], mean[part], out=chunk[:, part])
            _let_go(array)
        yield rows, chunk


def _let_go(array: np.ndarray) -> None:
    """Give back the pages of a mapped file: all that were read from it count as this process's memory until then."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)


def _moments(states: list[np.ndarray], weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the weighted mean and covariance of all layers side by side, in float64.

    In float32 the square of a sink direction, 1e4 times as large as the others, would drown theirs.
    """
    zero = np.zeros(sum(array.shape[1] for array in states))
    mean = sum((weights[rows] @ chunk for rows, chunk in _chunks(states, zero)), zero)
    covariance = np.zeros((len(mean), len(mean)))
    roots = np.sqrt(weights)
    for rows, chunk in _chunks(states, mean):
        chunk *= roots[rows, None]
        covariance += chunk.T @ chunk
    return mean, covariance


def _whitening_map(covariance: np.ndarray, power: float) -> np.ndarray:
    """Return the map onto principal directions divided by eigenvalue ** power; shape (width, kept)."""
    values, vectors = principal_axes(covariance, len(covariance))
    kept = values > values[0] * _NOISE_FLOOR
    return vectors[:, kept] * values[kept] ** -power


def principal_axes(matrix: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest eigenvalues, in falling order, and their vectors, signed so that the result is unique."""
    from scipy.linalg import eigh

    size = len(matrix)
    values, vectors = eigh(matrix, subset_by_index=(max(0, size - count), size - 1))
    values, vectors = values[::-1], vectors[:, ::-1]
    largest = np.abs(vectors).argmax(axis=0)
    signs = np.sign(vectors[largest, np.arange(vectors.shape[1])])
    return values, vectors * np.where(signs == 0, 1, signs)
