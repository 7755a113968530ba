"""Token states breadth-first: all tokens go through one decoder layer before the next layer is read.

A static table needs one short forward pass a token. Taken breadth-first, memory depends on the
number of tokens and on one layer, not on the depth of the teacher; each weight is read once; and
the states after a layer are all that is needed to go on from there.

Top to bottom: the estimate; layers read ahead; the loop over waves, layers and batches; its errors.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from qwen25.checkpoint import Checkpoint, Place, Results, read_states
from qwen25.decoder import KeysValues, Layer, Scratch, layer_forward, rms_norm
from qwen25.jobs import Group, Job, count_positions, count_rows
from qwen25.runtime.display import progress
from qwen25.runtime.errors import InputError, PipelineError
from qwen25.runtime.log import logger
from qwen25.weights import Weights

#: What Python and the libraries hold before anything is computed.
LIBRARY_BYTES = 450 << 20
#: How many rows the estimate of the time is made from.
PROBE_ROWS = 1024
#: How many sequences are embedded at a time.
EMBEDDING_ROWS = 4096


@dataclass(frozen=True)
class Plan:
    """What a run will cost; its text is the line to print before the work starts.

    :ivar seconds: estimated from a probe; None where nothing was timed.
    :ivar memory_bytes: the estimated peak of this process's memory, or of the GPU's on CUDA.
    :ivar disk_bytes: what checkpoints will take.
    :ivar streams: whether the layers are streamed; if not, ``reason`` says why.
    """

    tokens: int
    layers: tuple[int, ...]
    device: str
    seconds: float | None
    memory_bytes: int
    disk_bytes: int
    streams: bool
    reason: str = ""

    def __str__(self) -> str:
        """Return the one line."""
        how = "layer by layer" if self.streams else f"the whole model ({self.reason})"
        parts = [f"about {_duration(self.seconds)}"] if self.seconds is not None else []
        parts.append(f"{self.memory_bytes / 1e9:.1f} GB of memory")
        if self.disk_bytes:
            parts.append(f"{self.disk_bytes / 1e9:.1f} GB of disk for checkpoints")
        layers = ", ".join(map(str, self.layers))
        return f"token states: {self.tokens:,} tokens, layers {layers}, {self.device}, {how}: {', '.join(parts)}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def make_plan(weights: Weights, job: Job, checkpoint: bool = False) -> Plan:
    """Estimate what ``job`` costs, timing one batch through the first layer.

    :raises PipelineError: if the layer cannot be read.
    """
    shape, size = weights.shape, job.dtype.itemsize
    waves = job.waves(shape)
    state_bytes = max(map(count_positions, waves), default=0) * shape.hidden * size
    kept = job.tokens * shape.hidden * 4
    collected = kept * len(job.layers)
    longest = max((group.ids.shape[1] for group in job.groups), default=1)
    batch = min(job.batch(shape, longest), max(1, job.tokens)) * longest
    scratch = batch * (2 * shape.intermediate + 6 * shape.hidden) * size
    reused = kept if _in_place(job, waves, checkpoint) else 0
    working = state_bytes + scratch + _layer_bytes(weights, job) * (_ahead(weights, job) + 1)
    memory = working if job.on_cuda else LIBRARY_BYTES + working + (0 if checkpoint else collected - reused)
    seconds = None
    if job.depth and job.tokens:
        seconds = _probe(weights, job) * job.positions * job.depth
    disk = 2 * state_bytes + collected if checkpoint else 0
    return Plan(job.tokens, job.layers, job.device, seconds, memory, disk, streams=True)


def _probe(weights: Weights, job: Job) -> float:
    """Return the seconds that a position takes in the first layer, the second time it is computed."""
    shape = weights.shape
    group = max(job.groups, key=lambda group: group.ids.size)
    length = group.ids.shape[1]
    count = min(len(group.rows), job.batch(shape, length), max(1, PROBE_ROWS // length))
    with torch.inference_mode():
        layer = weights.layer(0, job.dtype).moved(lambda t: t.to(job.device))
        x = torch.randn(count, length, shape.hidden).to(job.device, job.dtype)
        shared = None
        scratch = Scratch()
        if job.prefix:
            ones = x.new_ones(1, len(job.prefix), shape.hidden)
            _, shared = layer_forward(layer, shape, ones, scratch=scratch, keep=True)
        for _ in range(2):
            _synchronise(job)
            started = time.perf_counter()
            layer_forward(layer, shape, x, shared, scratch=scratch)
            _synchronise(job)
            seconds = time.perf_counter() - started
    return seconds / (count * length)


def _synchronise(job: Job) -> None:
    if job.on_cuda:
        torch.cuda.synchronize(job.device)


def _layer_bytes(weights: Weights, job: Job) -> int:
    return weights.shape.layer_parameters * job.dtype.itemsize


def _ahead(weights: Weights, job: Job) -> int:
    """Return how many layers to read ahead: on CUDA several, as far as they take a quarter of what is free."""
    if not job.on_cuda:
        return 1
    free, _ = torch.cuda.mem_get_info(job.device)
    return max(1, min(4, free // 4 // max(1, _layer_bytes(weights, job))))


def _in_place(job: Job, waves: list[list[Group]], checkpoint: bool) -> bool:
    """Whether the states can live in the array that the deepest layer's are returned in."""
    plain = job.dtype == torch.float32 and not job.on_cuda and not checkpoint
    return plain and len(waves) == 1 and len(job.groups) == 1 and job.groups[0].ids.shape[1] == 1


class _Prefetch:
    """Hands out layers in the order given; the next ones are read while the last one computes.

    On CUDA they are copied from pinned memory on a stream of their own, so that neither the disk
    nor the bus holds up the computation.
    """

    def __init__(self, weights: Weights, job: Job, order: Iterable[int], ahead: int) -> None:
        self._weights, self._job = weights, job
        self._order = iter(order)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="layers")
        self._queue: deque[Future[tuple[Layer, Any]]] = deque()
        self._stream = torch.cuda.Stream(job.device) if job.on_cuda else None
        for _ in range(ahead):
            self._submit()

    def _submit(self) -> None:
        index = next(self._order, None)
        if index is not None:
            self._queue.append(self._pool.submit(self._load, index))

    def _load(self, index: int) -> tuple[Layer, Any]:
        layer = self._weights.layer(index, self._job.dtype)
        if self._stream is None:
            return layer, None
        with torch.cuda.stream(self._stream):
            layer = layer.moved(lambda t: t.pin_memory().to(self._job.device, non_blocking=True))
            return layer, self._stream.record_event()

    def next(self) -> Layer:
        """Return the next layer, ready to be used on the current stream."""
        layer, copied = self._queue.popleft().result()
        if copied is not None:
            stream = torch.cuda.current_stream(self._job.device)
            stream.wait_event(copied)
            for _, tensor in layer.tensors():  # its memory must outlive this stream's use of it
                tensor.record_stream(stream)
        self._submit()
        return layer

    def __enter__(self) -> _Prefetch:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True)
class _Wave:
    """Some groups' states, and the prefix's, on their way through the layers; (sequences, positions, hidden)."""

    groups: list[Group]
    states: list[torch.Tensor]
    prefix: torch.Tensor

    def tensors(self) -> list[torch.Tensor]:
        """Return everything that the next layer needs."""
        return [self.prefix[0], *(states.view(-1, states.shape[-1]) for states in self.states)]

    @property
    def bytes(self) -> int:
        """The size of it all."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors())


class _Run:
    """One job on its way; see :func:`stream`."""

    def __init__(self, weights: Weights, job: Job, checkpoint: Checkpoint | None, resume: bool) -> None:
        """Prepare the results and find out where to start."""
        self.weights, self.job, self.checkpoint = weights, job, checkpoint
        self.waves = job.waves(weights.shape)
        self.results = Results(job, weights.shape.hidden, checkpoint.folder if checkpoint else None)
        self.batch_limit: int | None = None
        self.scratch = Scratch()
        self.advance: Callable[[int], None] = lambda steps: None
        self.start = Place()
        if checkpoint is not None:
            self.start = checkpoint.open(self.results, resume)
            self._say_where(checkpoint.folder.name)

    def _say_where(self, name: str) -> None:
        wave, layer, _ = self.start
        if wave == len(self.waves):
            logger.info("checkpoint %s holds all states already", name)
        elif wave or layer:
            part = f" of part {wave + 1} of {len(self.waves)}" if len(self.waves) > 1 else ""
            logger.info("going on from checkpoint %s, after layer %d of %d%s", name, layer, self.job.depth, part)

    def all(self) -> None:
        """Compute everything that is not there yet."""
        ahead = _ahead(self.weights, self.job)
        with torch.inference_mode(), progress("token states", self.job.tokens * self.job.depth) as self.advance:
            self.advance(count_rows(group for wave in self.waves[: self.start.wave] for group in wave) * self.job.depth)
            for number in range(self.start.wave, len(self.waves)):
                place = self.start if number == self.start.wave else Place(number)
                self._wave(place, ahead)
                if self.checkpoint is not None:
                    self.checkpoint.save(self.results, number + 1)

    def _wave(self, place: Place, ahead: int) -> None:
        """Take a wave from ``place`` through all layers, reading ``ahead`` of them ahead."""
        groups, order = self.waves[place.wave], range(place.layer, self.job.depth)
        self.advance(count_rows(groups) * place.layer)
        with _Prefetch(self.weights, self.job, order, ahead) as layers:
            wave = self._empty_wave(groups)
            if place.states is None:
                self._embed(wave)
            else:
                read_states(place.states, wave.tensors())
            for index in order:
                self._layer(layers, index, wave)
                if self.checkpoint is not None and index + 1 < self.job.depth and self.checkpoint.due(wave.bytes):
                    self.checkpoint.save(self.results, place.wave, index + 1, wave.tensors())

    def _empty_wave(self, groups: list[Group]) -> _Wave:
        hidden, dtype, device = self.weights.shape.hidden, self.job.dtype, self._state_device(groups)
        prefix = torch.empty(1, len(self.job.prefix), hidden, dtype=dtype, device=self.job.device)
        if _in_place(self.job, self.waves, self.checkpoint is not None):
            return _Wave(groups, [torch.from_numpy(self.results.arrays()[self.job.depth])[:, None]], prefix)
        states = [torch.empty(*group.ids.shape, hidden, dtype=dtype, device=device) for group in groups]
        return _Wave(groups, states, prefix)

    def _state_device(self, groups: list[Group]) -> str:
        """Return where the states live: on the GPU while they take under half of what is free."""
        if not self.job.on_cuda:
            return "cpu"
        free, _ = torch.cuda.mem_get_info(self.job.device)
        if count_positions(groups) * self.weights.shape.hidden * self.job.dtype.itemsize < free // 2:
            return self.job.device
        logger.info("the states do not fit on the GPU: they stay in memory and are moved batch by batch")
        return "cpu"

    def _embed(self, wave: _Wave) -> None:
        """Fill the wave with its tokens' embeddings."""
        table = self.weights.embedding_table()
        # As transformers does it: the scale is rounded to the table's dtype before it is applied.
        scale = torch.tensor(self.weights.shape.hidden**0.5).to(self.job.dtype) if self.weights.shape.gemma else None
        prefix = np.array([self.job.prefix], dtype=np.int64)
        for matrix in (prefix, *(group.ids for group in wave.groups)):
            outside = matrix[(matrix < 0) | (matrix >= len(table))]
            if len(outside):
                raise InputError(
                    f"teacher {self.weights.name}: token {outside[0]} has no embedding "
                    f"(the table has {len(table)} rows)"
                )

        def look_up(matrix: np.ndarray) -> torch.Tensor:
            values = table[torch.from_numpy(matrix)].to(self.job.dtype)
            return values if scale is None else values * scale

        wave.prefix.copy_(look_up(prefix))
        broken = 0
        for group, states in zip(wave.groups, wave.states, strict=True):
            for start in range(0, len(group.rows), EMBEDDING_ROWS):
                part = slice(start, start + EMBEDDING_ROWS)
                values = look_up(group.ids[part])
                states[part].copy_(values)
                broken += int(_broken(values))
                self._collect(0, group.rows[part], values[:, -1:])
        self._require_finite(0, broken)

    def _layer(self, layers: _Prefetch, index: int, wave: _Wave) -> None:
        """Take the prefix and all of the wave's groups through a layer."""
        shape, shared, norm = self.weights.shape, None, None
        try:
            layer = layers.next()
            if self.job.prefix:
                after, shared = layer_forward(layer, shape, wave.prefix, keep=True, scratch=self.scratch)
                wave.prefix.copy_(after)
        except torch.cuda.OutOfMemoryError as error:
            raise out_of_memory() from error
        if index + 1 == shape.layers:
            norm = self.weights.final_norm(self.job.dtype).to(self.job.device)
        broken: int | torch.Tensor = 0
        for group, states in zip(wave.groups, wave.states, strict=True):
            start = 0
            while start < len(group.rows):
                batch = slice(start, start + self._batch_size(group))
                y = self._batch(layer, states[batch], shared, index + 1 == self.job.depth)
                if y is None:
                    continue
                if index + 1 < self.job.depth:
                    states[batch].copy_(y)
                y = y[:, -1:] if norm is None else rms_norm(y, norm, shape.eps)
                broken = broken + _broken(y)
                self._collect(index + 1, group.rows[batch], y)
                self.advance(len(y))
                start += len(y)
        self._require_finite(index + 1, broken)

    def _batch_size(self, group: Group) -> int:
        size = self.job.batch(self.weights.shape, group.ids.shape[1])
        return min(size, self.batch_limit or size)

    def _batch(self, layer: Layer, x: torch.Tensor, shared: KeysValues | None, last: bool) -> torch.Tensor | None:
        """Take a batch through a layer; None if the GPU's memory is too small, and the next one will be smaller."""
        try:
            shape = self.weights.shape
            return layer_forward(layer, shape, x.to(self.job.device), shared, last_only=last, scratch=self.scratch)[0]
        except torch.cuda.OutOfMemoryError as error:
            self.batch_limit = halve(len(x), error)
        # Only here, when the error no longer holds on to what had been computed.
        self.scratch.clear()
        free_cuda_memory()
        return None

    def _collect(self, layer: int, rows: np.ndarray, states: torch.Tensor) -> None:
        if layer in self.job.layers:
            self.results.put(layer, rows, states[:, 0])

    def _require_finite(self, layer: int, broken: int | torch.Tensor) -> None:
        if int(broken):
            raise not_finite(self.weights.name, layer, int(broken))


def _broken(states: torch.Tensor) -> torch.Tensor:
    """Return the number of sequences with a state that is not finite, without waiting for it."""
    return (~torch.isfinite(states)).flatten(1).any(dim=1).sum()


def not_finite(name: str, layer: int, count: int) -> PipelineError:
    """Return the error for states that are NaN or infinite."""
    return PipelineError(
        f"teacher {name}: layer {layer} gives NaN or infinity for {count} tokens; try --dtype float32, "
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


def stream(
    weights: Weights, job: Job, checkpoint: Checkpoint | None = None, resume: bool = True
) -> dict[int, np.ndarray]:
    """Compute a job's states breadth-first.

    :param checkpoint: where to keep what is done; the caller discards it when it has used the result,
        which lives in the checkpoint's files.
    :param resume: go on from the checkpoint; otherwise start anew.
    :return: layer -> float32 array of shape (tokens, hidden).
    :raises InputError: if a token has no embedding.
    :raises PipelineError: if weights are missing or damaged, a state is not finite, memory or disk run out.
    """
    run = _Run(weights, job, checkpoint, resume)
    if job.tokens:
        run.all()
    return run.results.arrays()
