"""What would keep more in the same bytes, where the tokens beyond them are taken out of the tokenizer."""

from __future__ import annotations

from qwen25.store.quantisation import rows_within

#: With fewer tokens than this, half the dimensions, and so twice the tokens, keep more: measured with 7,800, 15,500 and
#: 32,100 of Qwen2.5's (docs/LOG.md).
FEW_TOKENS = 33_000
#: Fewer were not measured.
LEAST_DIMS = 256


def better_dims(size_mb: float, dims: int, storage: str) -> int | None:
    """Return the dimensions that would keep more of a teacher in a size; None: none are known to.

    They are halved while too few tokens fit.

    :param size_mb: the most that the model's file may take, in 10^6 bytes.
    :param dims: the dimensions chosen, at which not all tokens fit.
    """
    best = dims
    while rows_within(size_mb, best, storage) < FEW_TOKENS and best // 2 >= LEAST_DIMS:
        best //= 2
    return None if best == dims else best
