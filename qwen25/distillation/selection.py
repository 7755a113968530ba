"""Recipe variants -> the one that suits a teacher best, by a small search on a calibration split.

The calibration items are not those of the evaluation: a recipe chosen on the very items that are
then reported would look better than it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from model2vec import StaticModel
from tokenizers import Tokenizer

from qwen25.distillation.recipe import RECIPES, Recipe
from qwen25.distillation.vectors import distil_vectors
from qwen25.evaluation.categories.all import CATEGORIES, WEIGHTS
from qwen25.evaluation.fields import Item
from qwen25.evaluation.items import load_items
from qwen25.evaluation.matching import Cosine
from qwen25.runtime.display import progress
from qwen25.runtime.errors import PipelineError
from qwen25.runtime.log import logger
from qwen25.store.static_model import static_encode

#: The layers tried, as shares of the teacher's depth.
CANDIDATE_LAYERS: tuple[tuple[float, ...], ...] = (
    (0.0,),
    (0.0, 0.25),
    (0.0, 0.125, 0.25),
    (0.0, 0.125, 0.25, 0.5),
    (0.0, 0.25, 0.5),
)
#: The SIF coefficients tried.
CANDIDATE_SIF = (1e-4, 5e-4, 1e-3)
#: A candidate replaces the given recipe only if it scores more than this above it. Resampling the
#: items moves the difference between two recipes by about 0.01 (standard deviation): less is noise.
MARGIN = 0.02
#: The name of every recipe tried that is not the given one.
SELECTED = "selected"
_SEED = 42


@dataclass(frozen=True)
class Trial:
    """One recipe and what it scored on the calibration items.

    :ivar recipe: the one given, or a variant of it named ``selected``.
    :ivar score: the weighted mean of the categories; 0 is chance, 1 is perfect.
    :ivar categories: category -> its score.
    """

    recipe: Recipe
    score: float
    categories: dict[str, float]


def candidate_layers(depth: int) -> list[int]:
    """Return the numbers of all layers that a candidate uses in a teacher of ``depth`` layers, in order."""
    return sorted({number for shares in CANDIDATE_LAYERS for number in _numbers(shares, depth)})


def select(
    recipe: Recipe,
    depth: int,
    states: dict[int, np.ndarray],
    frequencies: np.ndarray,
    tokenizer: Tokenizer,
    dims: int,
    folder: Path,
) -> list[Trial]:
    """Try variants of a recipe and return all of them, the one to use first.

    One coordinate after the other, not the grid: the layers with the recipe's own SIF coefficient,
    then the coefficient on the best layers. The given recipe comes first unless another beats it by
    more than ``MARGIN``; the others follow by score. A variant that cannot be distilled from these
    states is left out with a warning.

    :param recipe: the one to vary; it is always tried itself.
    :param depth: the teacher's number of layers.
    :param states: layer number -> its states, shape (tokens, hidden size): the layers of
        ``candidate_layers(depth)`` and the recipe's own.
    :param frequencies: the tokens' probabilities; shape (tokens,).
    :param tokenizer: the static model's, which maps a text to row numbers.
    :param dims: the dimensions wanted.
    :param folder: of the calibration items, one file a category.
    :raises InputError: if the items cannot be read.
    :raises PipelineError: if a layer is missing, or the given recipe itself cannot be distilled.
    """
    items = {category: load_items(folder, category) for category in WEIGHTS}
    missing = {*candidate_layers(depth), *recipe.layer_numbers(depth)} - set(states)
    if missing:
        raise PipelineError(f"the selection lacks the states of layers {sorted(missing)}")

    def attempt(candidate: Recipe) -> Trial:
        layers = [states[number] for number in candidate.layer_numbers(depth)]
        return _score(candidate, distil_vectors(layers, frequencies, candidate, dims), tokenizer, items)

    trials = [attempt(recipe)]
    _log(trials[0], depth)
    tried = {tuple(recipe.layer_numbers(depth))}
    others = []
    for shares in CANDIDATE_LAYERS:
        # Shares of a shallow teacher's depth may be the same layers.
        if (numbers := tuple(_numbers(shares, depth))) not in tried:
            tried.add(numbers)
            others.append(replace(recipe, name=SELECTED, layers=shares))
    trials += _attempt_all("layers", others, attempt, depth)
    layers = _best(trials).recipe.layers
    others = [replace(recipe, name=SELECTED, layers=layers, sif=sif) for sif in CANDIDATE_SIF if sif != recipe.sif]
    trials += _attempt_all("SIF coefficients", others, attempt, depth)

    given, best = trials[0], _best(trials)
    chosen = best if best.score > given.score + MARGIN else given
    return sorted(trials, key=lambda trial: (trial is not chosen, -trial.score))


def _attempt_all(what: str, candidates: list[Recipe], attempt: Callable[[Recipe], Trial], depth: int) -> list[Trial]:
    """Try each candidate under one progress bar; return those that could be distilled."""
    trials, failures = [], []
    with progress(what, len(candidates)) as advance:
        for candidate in candidates:
            try:
                trials.append(attempt(candidate))
            except PipelineError as error:
                failures.append((candidate, str(error)))
            advance(1)
    # Only now: a line logged while the bar is on a terminal lands in the middle of it.
    for trial in trials:
        _log(trial, depth)
    for candidate, reason in failures:
        logger.warning("    layers %s, SIF %g: left out: %s", candidate.layer_numbers(depth), candidate.sif, reason)
    return trials


def _score(recipe: Recipe, table: np.ndarray, tokenizer: Tokenizer, items: dict[str, list[Item]]) -> Trial:
    """Score the model of ``table``, shape (tokens, dims), as it would be once saved and loaded."""
    matcher = Cosine(static_encode(StaticModel(table, tokenizer, normalize=True, max_length=None)))
    categories = {category: CATEGORIES[category].score(matcher, rows, _SEED).score for category, rows in items.items()}
    return Trial(recipe, sum(WEIGHTS[category] * score for category, score in categories.items()), categories)


def _best(trials: Iterable[Trial]) -> Trial:
    """Return the trial with the highest score, the first one of equals."""
    return max(trials, key=lambda trial: trial.score)


def _numbers(shares: Sequence[float], depth: int) -> list[int]:
    """Return the numbers of the layers at these shares of the depth, as every recipe counts them."""
    return replace(RECIPES["default"], layers=tuple(shares)).layer_numbers(depth)


def _log(trial: Trial, depth: int) -> None:
    layers, sif = trial.recipe.layer_numbers(depth), trial.recipe.sif
    parts = ", ".join(f"{category.partition('_')[0]} {score:.3f}" for category, score in trial.categories.items())
    logger.info("    layers %s, SIF %g: %.4f (%s)", layers, sif, trial.score, parts)
