"""Token states breadth-first: all tokens go through one decoder layer before the next layer is read.

A static table needs one short forward pass a token. Taken breadth-first, memory depends on the
number of tokens and on one layer, not on the depth of the teacher; each weight is read once; and
the states after a layer are all that is needed to go on from there. What it is worth against transformers'
own model is measured in docs/STREAMING.md.

Top to bottom: the loop over waves, layers and batches; what its caller sees of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from qwen25.runtime.display import progress
from qwen25.runtime.errors import InputError
from qwen25.runtime.log import logger
from qwen25.states.batches import free_cuda_memory, halve, not_finite, out_of_memory
from qwen25.states.checkpoint import Checkpoint, Checkpointing, Place, Results, read_states, require_space, run_key
from qwen25.states.decoder import KeysValues, Layer, Scratch, layer_forward, rms_norm
from qwen25.states.device import Computing
from qwen25.states.estimate import make_plan
from qwen25.states.jobs import STATE_BYTES, Group, Job, Request, TokenIds, count_positions, count_rows, in_place
from qwen25.states.plan import Plan
from qwen25.states.prefetch import Prefetch, layers_ahead
from qwen25.states.weights import Weights
from qwen25.teacher.teacher import Teacher

#: How many sequences are embedded at a time.
EMBEDDING_ROWS = 4096


@dataclass(frozen=True)
class _Wave:
    """Some groups' states, and the prefix's, on their way through the layers.

    All are float32, of shape (sequences, positions, hidden).
    """

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
    """One job on its way; see :class:`StreamedStates`."""

    def __init__(self, weights: Weights, job: Job, checkpoint: Checkpoint | None) -> None:
        """Prepare the results and find out where to start."""
        self.weights, self.job, self.checkpoint = weights, job, checkpoint
        self.architecture, self.computing = weights.architecture, job.computing
        self.waves = job.waves(weights.architecture)
        self.results = Results(job, weights.architecture.hidden, checkpoint.folder if checkpoint else None)
        self.batch_limit: int | None = None
        self.scratch = Scratch()
        self.advance: Callable[[int], None] = lambda steps: None
        self.start = Place()
        if checkpoint is not None:
            self.start = checkpoint.open(self.results)
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
        ahead = layers_ahead(self.weights, self.job)
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
        with Prefetch(self.weights, self.job, order, ahead) as layers:
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
        hidden, device = self.architecture.hidden, self._state_device(groups)
        prefix = torch.empty(1, len(self.job.prefix), hidden, device=self.computing.device)
        if in_place(self.job, self.waves, self.checkpoint is not None):
            return _Wave(groups, [torch.from_numpy(self.results.arrays()[self.job.depth])[:, None]], prefix)
        states = [torch.empty(*group.ids.shape, hidden, device=device) for group in groups]
        return _Wave(groups, states, prefix)

    def _state_device(self, groups: list[Group]) -> str:
        """Return where the states live: on the GPU while they take under half of what is free."""
        if not self.computing.on_cuda:
            return "cpu"
        free, _ = torch.cuda.mem_get_info(self.computing.device)
        if count_positions(groups) * self.architecture.hidden * STATE_BYTES < free // 2:
            return self.computing.device
        logger.info("the states do not fit on the GPU: they stay in memory and are moved batch by batch")
        return "cpu"

    def _embed(self, wave: _Wave) -> None:
        """Fill the wave with its tokens' embeddings."""
        table = self.weights.embedding_table()
        scale = torch.tensor(self.architecture.hidden**0.5) if self.architecture.gemma else None
        prefix = np.array([self.job.prefix], dtype=np.int64)
        for matrix in (prefix, *(group.ids for group in wave.groups)):
            outside = matrix[(matrix < 0) | (matrix >= len(table))]
            if len(outside):
                raise InputError(
                    f"teacher {self.weights.name}: token {outside[0]} has no embedding "
                    f"(the table has {len(table)} rows)"
                )

        def look_up(matrix: np.ndarray) -> torch.Tensor:
            values = table[torch.from_numpy(matrix)].float()
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

    def _layer(self, layers: Prefetch, index: int, wave: _Wave) -> None:
        """Take the prefix and all of the wave's groups through a layer."""
        architecture, shared, norm = self.architecture, None, None
        try:
            layer = layers.next()
            if self.job.prefix:
                after, shared = layer_forward(layer, architecture, wave.prefix, keep=True, scratch=self.scratch)
                wave.prefix.copy_(after)
        except torch.cuda.OutOfMemoryError as error:
            raise out_of_memory() from error
        if index + 1 == architecture.layers:
            norm = self.weights.final_norm().to(self.computing.device)
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
                y = y[:, -1:] if norm is None else rms_norm(y, norm, architecture.eps)
                broken = broken + _broken(y)
                self._collect(index + 1, group.rows[batch], y)
                self.advance(len(y))
                start += len(y)
        self._require_finite(index + 1, broken)

    def _batch_size(self, group: Group) -> int:
        size = self.job.batch(self.architecture, group.ids.shape[1])
        return min(size, self.batch_limit or size)

    def _batch(self, layer: Layer, x: torch.Tensor, shared: KeysValues | None, last: bool) -> torch.Tensor | None:
        """Take a batch through a layer; None if the GPU's memory is too small, and the next one will be smaller."""
        try:
            return layer_forward(
                layer, self.architecture, x.to(self.computing.device), shared, last_only=last, scratch=self.scratch
            )[0]
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
            raise not_finite(self.weights.name, f"layer {layer}", f"{int(broken)} tokens")


def _broken(states: torch.Tensor) -> torch.Tensor:
    """Return the number of sequences with a state that is not finite, without waiting for it."""
    return (~torch.isfinite(states)).flatten(1).any(dim=1).sum()


@dataclass(frozen=True)
class StreamedStates:
    """A decoder's states, computed breadth-first: see :class:`qwen25.states.token_states.TokenStates`."""

    teacher: Teacher
    weights: Weights
    request: Request

    @property
    def computing(self) -> Computing:
        """How they are computed."""
        return self.request.computing

    @property
    def width(self) -> int:
        """The width of a layer's states."""
        return self.weights.architecture.hidden

    @property
    def weights_sha256(self) -> str:
        """The SHA-256 of all weight files."""
        return self.teacher.weights_sha256

    def plan(self, token_ids: TokenIds, checkpointing: Checkpointing | None = None) -> Plan:
        """Return what ``compute`` would cost, after timing one batch in the first layer."""
        return make_plan(self.weights, self.request.job(token_ids), checkpointing is not None)

    def compute(self, token_ids: TokenIds, checkpointing: Checkpointing | None = None) -> dict[int, np.ndarray]:
        """Compute the states of all tokens, going on from the checkpoint if there is one of this very run."""
        estimate = self.plan(token_ids, checkpointing)
        logger.info("%s", estimate)
        job, checkpoint = self.request.job(token_ids), None
        if checkpointing is not None and job.tokens:
            require_space(checkpointing.folder, estimate.disk_bytes)
            checkpoint = Checkpoint(checkpointing, run_key(self.weights.architecture, job, self.weights_sha256))
        run = _Run(self.weights, job, checkpoint)
        if job.tokens:
            run.all()
        return run.results.arrays()
