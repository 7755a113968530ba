"""Token states from the model as transformers loads it, for architectures that are not streamed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, cast

import numpy as np
import torch

from qwen25.runtime.display import progress
from qwen25.runtime.errors import InputError
from qwen25.states.batches import in_batches, not_finite
from qwen25.states.costs import LIBRARY_BYTES, Plan, weight_counts
from qwen25.states.jobs import Frame, Group, Job, with_suffix
from qwen25.teacher.teacher import Teacher

#: Sequences at a time where the whole model computes them and no other number is asked for.
WHOLE_MODEL_BATCH = 1024


def whole_model_plan(teacher: Teacher, job: Job, reason: str) -> Plan:
    """Describe what the whole model takes; its time is not known before it is loaded."""
    # Packed weights are unpacked: the configuration says how many there will be, nearly.
    layer, table = weight_counts(teacher)
    weights = (teacher.layers * layer + table) * job.dtype.itemsize
    collected = job.tokens * teacher.hidden_size * 4 * len(job.layers)
    memory = weights + collected + LIBRARY_BYTES
    return Plan(job.tokens, job.layers, job.device, None, memory, 0, streams=False, reason=reason)


def whole_model_states(teacher: Teacher, job: Job, frame: Frame, at: Literal["token", "last"]) -> dict[int, np.ndarray]:
    """Compute the states with the model as transformers loads it, cut after the deepest layer wanted."""
    groups = job.groups
    behind = 0
    if at == "token":
        groups, behind = with_suffix(groups, frame.suffix), len(frame.suffix)
    pretrained = teacher.load(job.dtype)
    rows = cast(torch.nn.Embedding, pretrained.get_input_embeddings()).num_embeddings
    for group in groups:
        if int(group.ids.max()) >= rows:
            raise InputError(
                f"teacher {teacher.name}: token {int(group.ids.max())} has no embedding (the table has {rows} rows)"
            )
    _cut_after(pretrained, job.layers[-1], teacher.layers)
    model = cast(torch.nn.Module, pretrained).to(job.device)
    out = {layer: np.empty((job.tokens, teacher.hidden_size), dtype=np.float32) for layer in job.layers}
    batch_size = job.batch_size or WHOLE_MODEL_BATCH
    with torch.inference_mode(), progress("token states", job.tokens) as advance:
        for group in groups:
            position = len(frame.prefix) + group.ids.shape[1] - behind - 1
            batch_size = _whole_model_group(model, group, frame.prefix, position, batch_size, out, job.device, advance)
    for layer, array in out.items():
        broken = int((~np.isfinite(array)).any(axis=1).sum())
        if broken:
            raise not_finite(teacher.name, layer, broken)
    return out


def _whole_model_group(
    model: torch.nn.Module,
    group: Group,
    prefix: tuple[int, ...],
    position: int,
    batch_size: int,
    out: dict[int, np.ndarray],
    device: str,
    advance: Callable[[int], None],
) -> int:
    """Put a group's states at ``position`` into ``out``; return the batch size that fitted."""

    def compute(batch: slice) -> None:
        for layer, state in _forward(model, group.ids[batch], prefix, position, list(out), device).items():
            out[layer][group.rows[batch]] = state

    return in_batches(len(group.rows), batch_size, compute, advance)


def _forward(
    model: torch.nn.Module, ids: np.ndarray, prefix: tuple[int, ...], position: int, layers: list[int], device: str
) -> dict[int, np.ndarray]:
    """Return, for each layer, the states at a position, (batch, hidden size)."""
    whole = np.hstack([np.tile(np.array(prefix, dtype=np.int64), (len(ids), 1)), ids])
    inputs = torch.from_numpy(whole).to(device)
    states = model(input_ids=inputs, output_hidden_states=True, use_cache=False).hidden_states
    return {layer: states[layer][:, position].float().cpu().numpy() for layer in layers}


def _cut_after(model: torch.nn.Module, layer: int, depth: int) -> None:
    """Drop the layers behind ``layer``, where the architecture keeps them in ``model.layers``.

    The final norm is then kept from touching the last state, which is the raw one of an inner layer.
    """
    if layer < depth and hasattr(model, "layers") and hasattr(model, "norm"):
        model.layers = cast(torch.nn.ModuleList, model.layers)[:layer]
        model.norm = torch.nn.Identity()
