"""Number formats of a table of vectors: floats, or int8 with a scale for each row.

int8 is stored in model2vec's own form: whole numbers from -127 to 127, and one float32 weight a token, by which
model2vec multiplies its row. So each row has a scale of its own, and rows that a SIF weight made small are as exact
as all others.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from qwen25.runtime.errors import InputError

#: What is stored of a table: float32, float16 or int8.
STORAGES = ("float32", "float16", "int8")


class Stored(NamedTuple):
    """A table in the number format of its file.

    :ivar table: shape (tokens, dims).
    :ivar weights: the factor of each row, float32 of shape (tokens,); None: 1.
    """

    table: np.ndarray
    weights: np.ndarray | None

    def vectors(self) -> np.ndarray:
        """Return the vectors that the model has; float32, shape (tokens, dims)."""
        table = self.table.astype(np.float32)
        return table if self.weights is None else table * self.weights[:, None]


def quantise(vectors: np.ndarray, storage: str) -> Stored:
    """Return vectors in a number format.

    :param vectors: float32, shape (tokens, dims).
    :param storage: of ``STORAGES``.
    :raises InputError: if they are too large or too small for it.
    """
    if storage == "int8":
        scales = np.abs(vectors).max(axis=1) / 127
        rows = np.divide(vectors, scales[:, None], out=np.zeros_like(vectors), where=scales[:, None] > 0)
        kept = Stored(np.rint(rows).astype(np.int8), scales.astype(np.float32))
    else:
        with np.errstate(over="ignore"):
            kept = Stored(vectors.astype(storage), None)
    found = kept.vectors()
    if not np.isfinite(found).all():
        raise InputError(f"the vectors are too large for {storage}: use --storage float32")
    if not found.any():
        raise InputError(f"all vectors are zero in {storage}: give a larger --sif")
    return kept


def rows_within(size_mb: float, dims: int, storage: str) -> int:
    """Return how many rows of ``dims`` numbers fit into a model file of ``size_mb`` (10^6 bytes)."""
    header = 1024  # safetensors' own: the names, types and shapes of its tensors
    row = dims * np.dtype(storage).itemsize + (4 if storage == "int8" else 0)
    return max(0, int((size_mb * 1e6 - header) // row))
