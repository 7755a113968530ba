"""The recipes: how token states become vectors."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from qwen25.runtime.errors import InputError

#: Where a token's frequency is from: the teacher's own predictions, a corpus, or Zipf's law of ranks.
Frequencies = Literal["teacher", "corpus", "zipf"]


@dataclass(frozen=True)
class Recipe:
    """How token states become vectors.

    :ivar name: what reports call it.
    :ivar prefix: text before each token of a decoder, so that no token sits at position 0, where
        a causal model puts its attention sink and all states look alike.
    :ivar layers: the states used, as shares of the teacher's depth: 0 input embeddings, 1 last state.
    :ivar whitening: the power p of the eigenvalues that each layer is divided by: 0.5 full, 0 none.
    :ivar frequencies: what tells how often a token occurs.
    :ivar frequency_weighted: whether mean and covariance weigh tokens by their frequency.
    :ivar sif: the SIF coefficient a in a / (a + p(token)).
    :ivar pooled: whether a token's state is the vector that an embedding model itself gives it, by its
        own pooling, and not a hidden state.
    """

    name: str
    prefix: str
    layers: tuple[float, ...]
    whitening: float
    frequencies: Frequencies
    frequency_weighted: bool
    sif: float
    pooled: bool = False

    def layer_numbers(self, depth: int) -> list[int]:
        """Return the layers' numbers in a teacher of ``depth`` layers, without repeats, in order."""
        return sorted({max(1, round(share * depth)) if share > 0 else 0 for share in self.layers})

    def as_dict(self) -> dict[str, Any]:
        """Return every parameter, for the metadata."""
        return {**asdict(self), "layers": list(self.layers)}


#: Zipf's law gives its first ranks far more than language does: a smaller coefficient suits it.
ZIPF_SIF = 1e-4
RECIPES = {
    "default": Recipe(
        name="default",
        prefix="\n",
        layers=(0.0, 0.125, 0.25),
        whitening=0.5,
        frequencies="teacher",
        frequency_weighted=True,
        sif=5e-4,
    ),
    # What model2vec.distill does: each token alone, last state, plain PCA, Zipf SIF.
    "plain": Recipe(
        name="plain",
        prefix="",
        layers=(1.0,),
        whitening=0.0,
        frequencies="zipf",
        frequency_weighted=False,
        sif=1e-4,
    ),
    # For embedding models. Half the power of whitening suits them better than all of it or none: docs/LOG.md.
    "pooled": Recipe(
        name="pooled",
        prefix="",
        layers=(1.0,),
        whitening=0.25,
        frequencies="zipf",
        frequency_weighted=True,
        sif=1e-4,
        pooled=True,
    ),
}


def recipe_named(name: str, sif: float | None = None, frequencies: Frequencies | None = None) -> Recipe:
    """Return a recipe by name, with its SIF coefficient replaced if one is given.

    :param frequencies: where frequencies are from, if not from where the recipe takes them.
    :raises InputError: if there is no such recipe or the coefficient is not above 0.
    """
    if name not in RECIPES:
        raise InputError(f"no recipe {name!r}: choose from {', '.join(RECIPES)}")
    recipe = RECIPES[name]
    if frequencies is not None and frequencies != recipe.frequencies:
        recipe = replace(recipe, frequencies=frequencies, sif=ZIPF_SIF if frequencies == "zipf" else recipe.sif)
    if sif is None:
        return recipe
    if not (np.isfinite(sif) and sif > 0):
        raise InputError(f"--sif must be a number above 0, not {sif}")
    return replace(recipe, sif=sif)
