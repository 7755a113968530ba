"""The plan of a streamed run, from one layer that is read and one batch, both timed."""

from __future__ import annotations

import time

import torch

from qwen25.states.decoder import Scratch, layer_forward
from qwen25.states.jobs import STATE_BYTES, Job, count_positions, in_place
from qwen25.states.plan import LIBRARY_BYTES, Plan, checkpoint_bytes
from qwen25.states.prefetch import layer_bytes, layers_ahead
from qwen25.states.weights import Weights

#: How many rows the estimate of the time is made from.
PROBE_ROWS = 1024


def make_plan(weights: Weights, job: Job, checkpoint: bool = False) -> Plan:
    """Estimate what ``job`` costs, timing how long the first layer takes to be read, and one batch in it.

    :raises PipelineError: if the layer cannot be read.
    """
    architecture, size = weights.architecture, job.computing.dtype.itemsize
    waves = job.waves(architecture)
    state_bytes = max(map(count_positions, waves), default=0) * architecture.hidden * STATE_BYTES
    kept = job.tokens * architecture.hidden * STATE_BYTES
    collected = kept * len(job.layers)
    longest = max((group.ids.shape[1] for group in job.groups), default=1)
    batch = min(job.batch(architecture, longest), max(1, job.tokens)) * longest
    scratch = batch * (2 * architecture.intermediate * size + 6 * architecture.hidden * STATE_BYTES)
    reused = kept if in_place(job, waves, checkpoint) else 0
    working = state_bytes + scratch + layer_bytes(weights, job) * (layers_ahead(weights, job) + 1)
    memory = working if job.computing.on_cuda else LIBRARY_BYTES + working + (0 if checkpoint else collected - reused)
    seconds = None
    if job.depth and job.tokens:
        reading, computing = _probe(weights, job)
        # The next layer is read while one computes; the first one is waited for.
        seconds = reading + job.depth * max(reading, computing * job.positions)
    disk = checkpoint_bytes(state_bytes, kept, len(job.layers)) if checkpoint else 0
    device, dtype = job.computing.device, job.computing.dtype
    return Plan(job.tokens, job.layers, device, seconds, memory, disk, streams=True, dtype=dtype)


def _probe(weights: Weights, job: Job) -> tuple[float, float]:
    """Return the seconds that the first layer takes to be read, and those of a position in it the second time."""
    architecture = weights.architecture
    group = max(job.groups, key=lambda group: group.ids.size)
    length = group.ids.shape[1]
    count = min(len(group.rows), job.batch(architecture, length), max(1, PROBE_ROWS // length))
    with torch.inference_mode():
        started = time.perf_counter()
        layer = weights.layer(0, job.computing.dtype).moved(lambda t: t.to(job.computing.device))
        reading = time.perf_counter() - started
        x = torch.randn(count, length, architecture.hidden).to(job.computing.device)
        shared = None
        scratch = Scratch()
        if job.prefix:
            ones = x.new_ones(1, len(job.prefix), architecture.hidden)
            _, shared = layer_forward(layer, architecture, ones, scratch=scratch, keep=True)
        for _ in range(2):
            _synchronise(job)
            started = time.perf_counter()
            layer_forward(layer, architecture, x, shared, scratch=scratch)
            _synchronise(job)
            seconds = time.perf_counter() - started
    return reading, seconds / (count * length)


def _synchronise(job: Job) -> None:
    if job.computing.on_cuda:
        torch.cuda.synchronize(job.computing.device)
