"""Which form of the default table keeps most in how many bytes."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from benchmarks.recipes.measure import Row, Scorer, Source
from benchmarks.recipes.variants import distil
from qwen25.distillation.recipe import RECIPES
from qwen25.distillation.row_selection import first_merges
from qwen25.distillation.settings import Settings
from qwen25.distillation.vocabulary import Vocabulary
from qwen25.store.quantisation import rows_within

BUDGETS_MB = (20.0, 40.0, 65.0, 100.0)
CLUSTERED_MB = (65.0,)
#: The size that the text sets beside the whole table, and that the speed is measured of.
SHOWN_MB = 65.0
HALF_DIMS = 512
#: What a token of a clustered table costs besides: the number of its centroid and its weight.
MAPPING_BYTES = 4 + 4
CLUSTER_EPOCHS = 3
QUICK_BUDGETS_MB, QUICK_CLUSTERED_MB = (2.0, 6.5, 10.0), (6.5,)
FORMS = {
    "float16": "first merges x 1024, float16",
    "float32": "first merges x 1024, float32",
    "all_float16": "all tokens, fewer dimensions, float16",
    "float16_512": "first merges x 512, float16",
    "clustered": "all tokens, clustered, float16",
    "int8": "first merges x 1024, int8",
}
#: form -> (number format, least of the default's dimensions and this).
CUT_FORMS = {
    "float16": ("float16", Settings.dims),
    "float32": ("float32", Settings.dims),
    "float16_512": ("float16", HALF_DIMS),
    "int8": ("int8", Settings.dims),
}


class Tables:
    """The default recipe's tables of cut vocabularies, each computed once."""

    def __init__(self, source: Source, full: np.ndarray) -> None:
        """Start with the whole one."""
        self.source, self.full = source, full
        self._made: dict[int, tuple[Vocabulary, np.ndarray]] = {}

    def first(self, rows: int) -> tuple[Vocabulary, np.ndarray]:
        """Return the vocabulary of the first merges and its own table."""
        if rows >= len(self.source.vocab):
            return self.source.vocab, self.full
        if rows not in self._made:
            cut = first_merges(self.source.vocab, rows)
            frequencies = self.source.frequencies(cut, self.source.counts)
            table = distil(self.source, RECIPES["default"], frequencies, self.source.rows_of(cut))
            self._made[rows] = cut, table
        return self._made[rows]


def stored(table: np.ndarray, form: str) -> np.ndarray:
    """Return a table in the numbers of a form."""
    if form == "int8":
        return np.rint(table * (127 / np.abs(table).max())).astype(np.int8)
    return table.astype(np.float32 if form == "float32" else np.float16)


def size_rows(tables: Tables, scorer: Scorer, args: argparse.Namespace) -> list[Row]:
    """Score every form at every size, and the whole tables."""
    whole = {form: cut_row(tables, scorer, form, None) for form in CUT_FORMS}
    rows = []
    for budget in QUICK_BUDGETS_MB if args.quick else BUDGETS_MB:
        for form, (storage, _) in CUT_FORMS.items():
            fits = rows_within(budget, whole[form]["dims"], storage) >= whole[form]["tokens"]
            rows.append({**whole[form], "budget_mb": budget} if fits else cut_row(tables, scorer, form, budget))
        if rows_within(budget, whole["float16"]["tokens"], "float16") < whole["float16"]["dims"]:
            rows.append(fewer_dims_row(tables, scorer, budget))
        else:
            rows.append({**whole["float16"], "form": "all_float16", "budget_mb": budget})
        if budget in (QUICK_CLUSTERED_MB if args.quick else CLUSTERED_MB):
            rows.append(clustered_row(tables, scorer, budget, args.seed))
    return rows + list(whole.values())


def size_row(scorer: Scorer, form: str, budget: float | None, vocab: Vocabulary, table: np.ndarray, **more: Any) -> Row:
    """Score one form at one size; ``budget`` None: the whole table."""
    name = f"{'whole' if budget is None else f'{budget:g} MB'}: {FORMS[form]}"
    facts = {
        "form": form,
        "budget_mb": budget,
        "whole": budget is None,
        "tokens": len(vocab),
        "dims": table.shape[1],
        "bytes": table.nbytes,
        **more,
    }
    return {**facts, **scorer.table(name, table, vocab)}


def cut_row(tables: Tables, scorer: Scorer, form: str, budget: float | None) -> Row:
    """Score the first merges, as many as fit."""
    storage, dims = CUT_FORMS[form]
    dims = min(dims, tables.full.shape[1])
    rows = len(tables.source.vocab) if budget is None else rows_within(budget, dims, storage)
    vocab, table = tables.first(rows)
    return size_row(scorer, form, budget, vocab, stored(table[:, :dims], form))


def fewer_dims_row(tables: Tables, scorer: Scorer, budget: float) -> Row:
    """Score the whole vocabulary with as many dimensions as fit."""
    vocab = tables.source.vocab
    dims = rows_within(budget, len(vocab), "float16")
    return size_row(scorer, "all_float16", budget, vocab, stored(tables.full[:, :dims], "float16"))


def clustered_row(tables: Tables, scorer: Scorer, budget: float, seed: int) -> Row:
    """Score the whole vocabulary with a centroid for each token, scaled by the token's own weight."""
    vocab, full = tables.source.vocab, tables.full
    mapping = MAPPING_BYTES * len(vocab)
    count = rows_within(budget - mapping / 1e6, full.shape[1], "float16")
    norms = np.maximum(np.linalg.norm(full, axis=1, keepdims=True), 1e-12)
    centroids, nearest = clusters(full / norms, count, seed)
    kept = centroids.astype(np.float16)
    row = size_row(scorer, "clustered", budget, vocab, kept[nearest].astype(np.float32) * norms, centroids=count)
    return {**row, "bytes": kept.nbytes + mapping}


def clusters(rows: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return k-means centroids of the rows and the number of each row's nearest one."""
    from sklearn.cluster import MiniBatchKMeans

    # k-means++ would take hours with so many centroids; most of them stay at one row.
    fit = MiniBatchKMeans(
        count,
        init="random",
        n_init=1,
        batch_size=4096,
        max_iter=CLUSTER_EPOCHS,
        random_state=seed,
        max_no_improvement=None,
        reassignment_ratio=0.0,
    ).fit(rows)
    return fit.cluster_centers_, fit.labels_
