"""Layers read ahead while the last one computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch

from qwen25.states.decoder import Layer
from qwen25.states.jobs import Job
from qwen25.states.weights import Weights


def layer_bytes(weights: Weights, job: Job) -> int:
    """Return the size of a layer in the computing dtype."""
    return weights.architecture.layer_parameters * job.computing.dtype.itemsize


def layers_ahead(weights: Weights, job: Job) -> int:
    """Return how many layers to read ahead: on CUDA several, as far as they take a quarter of what is free."""
    if not job.computing.on_cuda:
        return 1
    free, _ = torch.cuda.mem_get_info(job.computing.device)
    return max(1, min(4, free // 4 // max(1, layer_bytes(weights, job))))


class Prefetch:
    """Hands out layers in the order given; the next ones are read while the last one computes.

    On CUDA they are copied from pinned memory on a stream of their own, so that neither the disk
    nor the bus holds up the computation.
    """

    def __init__(self, weights: Weights, job: Job, order: Iterable[int], ahead: int) -> None:
        """Start reading the first ``ahead`` layers of ``order``."""
        self._weights, self._job = weights, job
        self._order = iter(order)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="layers")
        self._queue: deque[Future[tuple[Layer, Any]]] = deque()
        self._stream = torch.cuda.Stream(job.computing.device) if job.computing.on_cuda else None
        for _ in range(ahead):
            self._submit()

    def _submit(self) -> None:
        index = next(self._order, None)
        if index is not None:
            self._queue.append(self._pool.submit(self._load, index))

    def _load(self, index: int) -> tuple[Layer, Any]:
        layer = self._weights.layer(index, self._job.computing.dtype)
        if self._stream is None:
            return layer, None
        with torch.cuda.stream(self._stream):
            layer = layer.moved(lambda t: t.pin_memory().to(self._job.computing.device, non_blocking=True))
            return layer, self._stream.record_event()

    def next(self) -> Layer:
        """Return the next layer, ready to be used on the current stream."""
        layer, copied = self._queue.popleft().result()
        if copied is not None:
            stream = torch.cuda.current_stream(self._job.computing.device)
            stream.wait_event(copied)
            for _, tensor in layer.tensors():  # its memory must outlive this stream's use of it
                tensor.record_stream(stream)
        self._submit()
        return layer

    def __enter__(self) -> Prefetch:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
