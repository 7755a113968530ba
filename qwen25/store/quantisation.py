"""Number formats of a table of vectors: floats, or int8 with a scale for each row; and rows that tokens share.

int8 is stored in model2vec's own form: whole numbers from -127 to 127, and one float32 weight a token, by which
model2vec multiplies its row. So each row has a scale of its own, and rows that a SIF weight made small are as exact
as all others. The weights also let tokens of different lengths share a row (model2vec's token mapping).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from qwen25.runtime.errors import InputError

#: What is stored of a table: float32, float16 or int8.
STORAGES = ("float32", "float16", "int8")
_PART_ROWS = 8192


class Sharing(NamedTuple):
    """Which tokens have a row of their own, and whose direction the others take.

    :ivar kept: the tokens with a row; shape (rows,), ascending.
    :ivar row_of: the number of each token's row; int32, shape (tokens,).
    """

    kept: np.ndarray
    row_of: np.ndarray


class Stored(NamedTuple):
    """A table in the number format of its file.

    :ivar table: shape (rows, dims).
    :ivar weights: the factor of each token, float32 of shape (tokens,); None: 1.
    :ivar row_of: the number of each token's row, int32 of shape (tokens,); None: one row a token.
    """

    table: np.ndarray
    weights: np.ndarray | None = None
    row_of: np.ndarray | None = None

    def vectors(self) -> np.ndarray:
        """Return the vectors that the model has; float32, shape (tokens, dims)."""
        out = (self.table if self.row_of is None else self.table[self.row_of]).astype(np.float32)
        if self.weights is not None:
            out *= self.weights[:, None]
        return out


def quantise(vectors: np.ndarray, storage: str, sharing: Sharing | None = None) -> Stored:
    """Return vectors in a number format.

    :param vectors: float32, shape (tokens, dims).
    :param storage: of ``STORAGES``.
    :param sharing: which tokens have a row; the others take its direction and keep their own length. None: all have.
    :raises InputError: if they are too large or too small for it.
    """
    rows = vectors if sharing is None else vectors[sharing.kept]
    if storage == "int8":
        kept = _int8(rows)
    else:
        with np.errstate(over="ignore"):
            kept = Stored(rows.astype(storage))
    floats = kept.table if kept.weights is None else kept.weights
    if not np.isfinite(floats).all() or not kept.table.any() or not floats.any():
        raise InputError(f"the vectors are too large or too small for {storage}: use --storage float32")
    if sharing is None:
        return kept
    # Each token's weight gives its row the length of its own vector.
    return Stored(kept.table, length_factors(vectors, kept.table, sharing.row_of), sharing.row_of)


def _int8(rows: np.ndarray) -> Stored:
    """Return rows as whole numbers with a scale each; of a table of gigabytes only a part is ever held twice."""
    scales = np.maximum(rows.max(axis=1, initial=0), -rows.min(axis=1, initial=0)) / 127
    table = np.empty(rows.shape, dtype=np.int8)
    for out, part, scale in zip(_parts(table), _parts(rows), _parts(scales[:, None]), strict=True):
        out[:] = np.rint(np.divide(part, scale, out=np.zeros_like(part), where=scale > 0))
    return Stored(table, scales.astype(np.float32))


def _lengths(rows: np.ndarray) -> np.ndarray:
    """Return the rows' lengths; float32, shape (rows,)."""
    return np.concatenate([np.linalg.norm(part.astype(np.float32), axis=1) for part in _parts(rows)])


def _parts(rows: np.ndarray) -> list[np.ndarray]:
    """Return views of parts of the rows that are small beside the table."""
    return np.array_split(rows, len(rows) // _PART_ROWS + 1)


def length_factors(vectors: np.ndarray, rows: np.ndarray, row_of: np.ndarray) -> np.ndarray:
    """Return the factors that give each token's row the length of its own vector, 0 for a row of zeros.

    :param vectors: of the tokens; shape (tokens, dims).
    :param rows: shape (rows, dims).
    :param row_of: the number of each token's row; shape (tokens,).
    :return: float32, shape (tokens,).
    """
    lengths = _lengths(rows)[row_of]
    own = _lengths(vectors)
    return np.divide(own, lengths, out=np.zeros_like(own), where=lengths > 0)


def without(stored: Stored, token: int) -> Stored:
    """Return the table with the zero vector for a token."""
    name = "table" if stored.weights is None else "weights"
    values = getattr(stored, name).copy()
    values[token] = 0
    return stored._replace(**{name: values})


def rows_within(size_mb: float, dims: int, storage: str, shared_by: int = 0) -> int:
    """Return how many rows of ``dims`` numbers fit into a model file of ``size_mb`` (10^6 bytes).

    :param shared_by: the tokens that share them; 0: each token has its row.
    """
    header = 1024  # safetensors' own: the names, types and shapes of its tensors
    row = dims * np.dtype(storage).itemsize + (4 if storage == "int8" and not shared_by else 0)
    sharing = shared_by * (4 + 4)  # each token's weight and the number of its row
    return max(0, int((size_mb * 1e6 - header - sharing) // row))
