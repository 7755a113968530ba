"""What would keep more in the same bytes, where only some tokens have a row of their own."""

from __future__ import annotations

from qwen25.store.quantisation import rows_within

#: With fewer rows than this, half the dimensions, and so twice the rows, keep more: measured with Qwen2.5-Coder-0.5B on
#: the calibration items (docs/SIZES.md).
FEW_ROWS = 33_000
#: Fewer dimensions were not measured, or kept less: where the rare tokens are taken out, and where they share rows.
LEAST_DIMS, LEAST_SHARED_DIMS = 256, 512


def better_dims(size_mb: float, dims: int, storage: str, shared_by: int = 0) -> int | None:
    """Return the dimensions that would keep more of a teacher in a size; None: none are known to.

    They are halved while too few rows fit.

    :param size_mb: the most that the model's file may take, in 10^6 bytes.
    :param dims: the dimensions chosen, at which not all tokens have a row.
    :param shared_by: the tokens that share the rows; 0: those without a row are taken out of the tokenizer.
    """
    best, least = dims, LEAST_SHARED_DIMS if shared_by else LEAST_DIMS
    while rows_within(size_mb, best, storage, shared_by) < FEW_ROWS and best // 2 >= least:
        best //= 2
    return None if best == dims else best
