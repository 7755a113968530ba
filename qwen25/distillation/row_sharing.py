"""Fewer rows than tokens: a rarely used token takes the direction of the most similar token that has a row.

Many tokens of a large vocabulary are another's variant: with a capital, without the space, its plural. A
token that gives up its row keeps its place in the tokenizer and its own length, and so its weight in a mean.
Measured against taking it out of the tokenizer, where its text falls into several shorter tokens that have little to
do with it, this loses half as much or less in the same bytes (docs/LOG.md).
"""

from __future__ import annotations

import numpy as np
import torch

from qwen25.store.quantisation import Sharing

#: The dimensions that candidates are found by: a table's first ones say most. They are compared in all.
SHORTLIST_DIMS = 256
CANDIDATES = 8
_CHUNK_ROWS = 512


def share_rows(vectors: np.ndarray, use: np.ndarray, rows: int) -> Sharing:
    """Give the ``rows`` most used tokens a row of their own, and every other token the most similar one of these.

    :param vectors: of all tokens; float32, shape (tokens, dims).
    :param use: how much text needs each token; shape (tokens,).
    """
    tokens = len(vectors)
    # The number decides between tokens that are used alike: merge order is an order of frequency.
    order = np.lexsort((np.arange(tokens), -use))
    kept = np.sort(order[:rows])
    row_of = np.zeros(tokens, dtype=np.int32)
    row_of[kept] = np.arange(len(kept))
    rest = np.setdiff1d(np.arange(tokens), kept)
    if len(rest):
        row_of[rest] = nearest(vectors[rest], _unit(vectors[kept]))
    return Sharing(kept, row_of)


def nearest(queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the number of the row with the largest cosine for each query; rows of length 1, shape (queries,)."""
    dims = min(SHORTLIST_DIMS, rows.shape[1])
    count = min(CANDIDATES, len(rows))
    first = torch.from_numpy(np.ascontiguousarray(_unit(rows[:, :dims]).T))
    found = np.empty(len(queries), dtype=np.int64)
    for start in range(0, len(queries), _CHUNK_ROWS):
        chunk = _unit(queries[start : start + _CHUNK_ROWS])
        similar = torch.from_numpy(_unit(chunk[:, :dims])) @ first
        # torch finds the largest of a row ten times as fast as numpy.
        candidates = similar.topk(count, dim=1, sorted=False).indices.sort(dim=1).values.numpy()
        exact = np.einsum("qd,qcd->qc", chunk, rows[candidates])
        found[start : start + len(chunk)] = candidates[
            np.arange(len(chunk)), exact.argmax(axis=1)
        ]  # the first of equals
    return found


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
