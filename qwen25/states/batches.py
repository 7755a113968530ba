"""Batches that shrink where a GPU's memory runs out, and the errors of computing them."""

from __future__ import annotations

from collections.abc import Callable

import torch

from qwen25.runtime.errors import PipelineError
from qwen25.runtime.log import logger


def in_batches(count: int, batch_size: int, compute: Callable[[slice], None], advance: Callable[[int], None]) -> int:
    """Call ``compute`` with one slice of ``count`` rows after another, smaller ones where CUDA's memory runs out.

    :return: the batch size that fitted.
    :raises PipelineError: if not even one row fits.
    """
    start = 0
    while start < count:
        steps = min(batch_size, count - start)
        try:
            compute(slice(start, start + steps))
        except torch.cuda.OutOfMemoryError as error:
            batch_size, steps = halve(steps, error), 0
        if not steps:
            # Only here, when the error no longer holds on to what had been computed.
            free_cuda_memory()
        start += steps
        advance(steps)
    return batch_size


def not_finite(teacher: str, part: str, inputs: str) -> PipelineError:
    """Return the error for numbers that are NaN or infinite, which a part of the teacher gives for some inputs."""
    return PipelineError(
        f"teacher {teacher}: {part} gives NaN or infinity for {inputs}; try --dtype float32, "
        "and if it was that already, its weights are damaged"
    )


def out_of_memory() -> PipelineError:
    """Return the error for a GPU on which not even one token fits."""
    return PipelineError(
        "out of memory on CUDA even with one token a batch; go on with --device cpu, or a smaller teacher"
    )


def halve(batch_size: int, error: Exception) -> int:
    """Return half the batch size, after running out of memory on CUDA.

    :raises PipelineError: if there is nothing to halve.
    """
    if batch_size == 1:
        raise out_of_memory() from error
    logger.info("out of memory on CUDA with a batch of %d: going on with %d", batch_size, batch_size // 2)
    return batch_size // 2


def free_cuda_memory() -> None:
    """Give back what PyTorch keeps of the GPU's memory for later."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
