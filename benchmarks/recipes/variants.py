"""The recipes beside the default one, and the default one in fewer dimensions."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.recipes.measure import LAYERS, Row, Scorer, Source, static
from qwen25.distillation.frequencies import rank_frequencies
from qwen25.distillation.recipe import RECIPES, ZIPF_SIF, Recipe
from qwen25.distillation.settings import Settings
from qwen25.distillation.vectors import distil_vectors
from qwen25.evaluation.encoder import random_control
from qwen25.runtime.errors import PipelineError

FEWER_DIMS = (1024, 512, 256, 128)


def variants() -> list[tuple[str, Recipe, bool]]:
    """Return the recipes beside the default one: name, recipe, whether a tenth of Zipf's law is mixed in."""
    default = RECIPES["default"]
    zipf = replace(default, frequencies="zipf", sif=ZIPF_SIF)
    found = [
        ("embeddings only", replace(zipf, layers=(0.0,)), True),
        ("without 1/8", replace(zipf, layers=(0.0, 0.25)), True),
        ("Zipf's law", zipf, True),
        ("SIF 1e-4", replace(default, sif=1e-4), True),
        ("SIF 1e-3", replace(default, sif=1e-3), True),
    ]
    found += [
        (f"with {share_text(share)}", replace(default, layers=(*default.layers, share)), True)
        for share in LAYERS
        if share not in default.layers
    ]
    found += [
        ("no whitening", replace(default, whitening=0.0), True),
        ("half whitening", replace(default, whitening=0.25), True),
        ("no Zipf share", default, False),
    ]
    return found


def share_text(share: float) -> str:
    """Name a layer by its share of the depth."""
    top, bottom = share.as_integer_ratio()
    return {0: "embeddings", 1: "last"}.get(share) or f"{top}/{bottom}"  # type: ignore[call-overload]


def distil(source: Source, recipe: Recipe, frequencies: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
    """Return the table of a recipe, of some rows or of all."""
    layers = [source.states[n] for n in recipe.layer_numbers(source.teacher.layers)]
    chosen = layers if rows is None else [layer[rows] for layer in layers]
    return distil_vectors(chosen, frequencies, recipe, Settings.dims)


def described(name: str, recipe: Recipe, source: str, texts: int, **more: Any) -> Row:
    """Return what a row says of its recipe; ``source``: where its frequencies are from."""
    return {
        "name": name,
        "layers": list(recipe.layers),
        "prefix": recipe.prefix,
        "frequencies": source,
        "texts": texts,
        "sif": recipe.sif,
        "whitening": recipe.whitening,
        **more,
    }


def recipe_rows(source: Source, scorer: Scorer, full: np.ndarray, args: argparse.Namespace) -> list[Row]:
    """Score the recipes; the default one first, because differences are taken from it."""
    default, plain = RECIPES["default"], RECIPES["plain"]
    facts = described("default", default, "teacher", source.texts, dims=full.shape[1])
    ours = {**facts, **scorer.table("default", full, source.vocab)}
    control = random_control(static("default", full, source.vocab), args.seed)
    if control is None:
        raise PipelineError("the default table has no control")
    zipf = rank_frequencies(source.vocab)
    table = distil_vectors([source.alone], zipf, plain, Settings.dims)
    return [
        {**described("plain", plain, "zipf", 0, dims=table.shape[1]), **scorer.table("plain", table, source.vocab)},
        {**facts, "name": "random directions", **scorer.encoder(control)},
        ours,
        *([] if args.quick else [variant_row(source, scorer, *variant) for variant in variants()]),
    ]


def variant_row(source: Source, scorer: Scorer, name: str, recipe: Recipe, share: bool) -> Row:
    """Score one variant of the default recipe."""
    if recipe.frequencies == "zipf":
        frequencies, origin = rank_frequencies(source.vocab), "zipf"
    elif share:
        frequencies, origin = source.frequencies(source.vocab, source.counts), "teacher"
    else:
        counts = source.counts[source.vocab.teacher_ids]
        frequencies, origin = counts / counts.sum(), "teacher alone"
    table = distil(source, recipe, frequencies)
    texts = 0 if origin == "zipf" else source.texts
    return {
        **described(name, recipe, origin, texts, dims=table.shape[1]),
        **scorer.table(name, table, source.vocab),
    }


def dims_rows(source: Source, scorer: Scorer, full: np.ndarray) -> list[Row]:
    """Score the default table's first principal directions."""
    rows = []
    for dims in FEWER_DIMS:
        table = np.ascontiguousarray(full[:, :dims])
        scores = scorer.table(f"{table.shape[1]} dimensions", table, source.vocab)
        rows.append({"dims": table.shape[1], "bytes": table.nbytes, **scores})
    return rows
