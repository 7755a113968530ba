"""The recipes beside the default one, and the default one in fewer dimensions."""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np

from benchmarks.recipes.measure import LAYERS, Row, Scorer, Source, static
from qwen25.distillation.frequencies import rank_frequencies
from qwen25.distillation.recipe import RECIPES, Recipe, recipe_named
from qwen25.distillation.settings import Settings
from qwen25.distillation.vectors import distil_vectors
from qwen25.evaluation.encoder import random_control
from qwen25.runtime.errors import PipelineError

FEWER_DIMS = (1024, 512, 256, 128)
#: What phase 1 does unless told otherwise: the teacher writes no texts.
DEFAULT = recipe_named("default", frequencies="zipf")
#: The same for texts that the teacher wrote.
WRITTEN = RECIPES["default"]
#: Where a row's frequencies are from: Zipf's law, texts with a tenth of it, texts alone.
ZIPF, TEXTS, TEXTS_ALONE = "zipf", "teacher", "teacher alone"


def variants(with_texts: bool) -> list[tuple[str, Recipe, str]]:
    """Return the recipes beside the default one: name, recipe, where its frequencies are from."""
    found = [
        ("embeddings only", replace(DEFAULT, layers=(0.0,)), ZIPF),
        ("without 1/8", replace(DEFAULT, layers=(0.0, 0.25)), ZIPF),
    ]
    found += [
        (f"with {share_text(share)}", replace(DEFAULT, layers=(*DEFAULT.layers, share)), ZIPF)
        for share in LAYERS
        if share not in DEFAULT.layers
    ]
    found += [
        ("SIF 5e-5", replace(DEFAULT, sif=5e-5), ZIPF),
        ("SIF 5e-4", replace(DEFAULT, sif=5e-4), ZIPF),
        ("no whitening", replace(DEFAULT, whitening=0.0), ZIPF),
        ("half whitening", replace(DEFAULT, whitening=0.25), ZIPF),
    ]
    if with_texts:
        found += [("written texts", WRITTEN, TEXTS), ("written texts alone", WRITTEN, TEXTS_ALONE)]
    return found


def share_text(share: float) -> str:
    """Name a layer by its share of the depth."""
    top, bottom = share.as_integer_ratio()
    return {0: "embeddings", 1: "last"}.get(share) or f"{top}/{bottom}"  # type: ignore[call-overload]


def distil(source: Source, recipe: Recipe, frequencies: np.ndarray) -> np.ndarray:
    """Return the table of a recipe."""
    layers = [source.states[n] for n in recipe.layer_numbers(source.teacher.layers)]
    return distil_vectors(layers, frequencies, recipe, Settings.dims)


def frequencies(source: Source, origin: str) -> np.ndarray:
    """Return the tokens' probabilities; ``origin``: where they are from."""
    if origin == ZIPF:
        return rank_frequencies(source.vocab)
    if origin == TEXTS or source.counts is None:
        return source.text_frequencies()
    counts = source.counts[source.vocab.teacher_ids]
    return counts / counts.sum()


def described(name: str, recipe: Recipe, origin: str, texts: int, dims: int) -> Row:
    """Return what a row says of its recipe; ``origin``: where its frequencies are from."""
    return {
        "name": name,
        "layers": list(recipe.layers),
        "prefix": recipe.prefix,
        "frequencies": origin,
        "texts": 0 if origin == ZIPF else texts,
        "sif": recipe.sif,
        "whitening": recipe.whitening,
        "dims": dims,
    }


def recipe_rows(source: Source, scorer: Scorer, full: np.ndarray, args: argparse.Namespace) -> list[Row]:
    """Score the recipes; the default one first, because differences are taken from it."""
    facts = described("default", DEFAULT, ZIPF, 0, full.shape[1])
    ours = {**facts, **scorer.table("default", full, source.vocab)}
    control = random_control(static("default", full, source.vocab), args.seed)
    if control is None:
        raise PipelineError("the default table has no control")
    plain = RECIPES["plain"]
    table = distil_vectors([source.alone], rank_frequencies(source.vocab), plain, Settings.dims)
    return [
        {**described("plain", plain, ZIPF, 0, table.shape[1]), **scorer.table("plain", table, source.vocab)},
        {**facts, "name": "random directions", **scorer.encoder(control)},
        ours,
        *(variant_row(source, scorer, *variant) for variant in variants(source.counts is not None)),
    ]


def variant_row(source: Source, scorer: Scorer, name: str, recipe: Recipe, origin: str) -> Row:
    """Score one variant of the default recipe."""
    table = distil(source, recipe, frequencies(source, origin))
    facts = described(name, recipe, origin, source.texts, table.shape[1])
    return {**facts, **scorer.table(name, table, source.vocab)}


def dims_rows(source: Source, scorer: Scorer, full: np.ndarray) -> list[Row]:
    """Score the default table's first principal directions."""
    rows = []
    for dims in FEWER_DIMS:
        table = np.ascontiguousarray(full[:, :dims])
        scores = scorer.table(f"{table.shape[1]} dimensions", table, source.vocab)
        rows.append({"dims": table.shape[1], "bytes": table.nbytes, **scores})
    return rows
