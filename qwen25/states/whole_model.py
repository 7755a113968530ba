"""Token states from the model as transformers loads it, for architectures that are not streamed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from qwen25.runtime.display import progress
from qwen25.runtime.errors import InputError
from qwen25.runtime.log import logger
from qwen25.states.batches import in_batches, not_finite
from qwen25.states.checkpoint import Checkpointing
from qwen25.states.device import Computing
from qwen25.states.jobs import Group, Request, TokenIds, with_suffix
from qwen25.states.plan import LIBRARY_BYTES, Plan, weight_counts
from qwen25.teacher.teacher import Teacher

if TYPE_CHECKING:
    from transformers import PreTrainedModel

#: Sequences at a time where the whole model computes them and no other number is asked for.
WHOLE_MODEL_BATCH = 1024


@dataclass(frozen=True)
class WholeModelStates:
    """Any teacher's states, computed by the whole model: see :class:`qwen25.states.token_states.TokenStates`.

    :ivar reason: why it is not streamed.
    """

    teacher: Teacher
    request: Request
    reason: str

    @property
    def computing(self) -> Computing:
        """How they are computed."""
        return self.request.computing

    @property
    def width(self) -> int:
        """The width of a layer's states."""
        return self.teacher.hidden_size

    @property
    def weights_sha256(self) -> str:
        """The SHA-256 of all weight files."""
        return self.teacher.weights_sha256

    def plan(self, token_ids: TokenIds, checkpointing: Checkpointing | None = None) -> Plan:
        """Return what ``compute`` would cost; its time is not known before the model is loaded."""
        job, computing = self.request.job(token_ids), self.request.computing
        # Packed weights are unpacked: the configuration says how many there will be, nearly.
        layer, table = weight_counts(self.teacher)
        weights = (self.teacher.layers * layer + table) * computing.dtype.itemsize
        collected = job.tokens * self.width * 4 * len(job.layers)
        reason = self.reason + ("; without checkpoints" if checkpointing else "")
        return Plan(
            job.tokens,
            job.layers,
            computing.device,
            seconds=None,
            memory_bytes=weights + collected + LIBRARY_BYTES,
            disk_bytes=0,
            streams=False,
            reason=reason,
            dtype=computing.dtype,
        )

    def compute(self, token_ids: TokenIds, checkpointing: Checkpointing | None = None) -> dict[int, np.ndarray]:
        """Compute the states with the model as transformers loads it, cut after the deepest layer wanted."""
        logger.info("%s", self.plan(token_ids, checkpointing))
        job, frame, computing = self.request.job(token_ids), self.request.frame, self.request.computing
        groups, behind = job.groups, 0
        if self.request.at == "token":
            groups, behind = with_suffix(groups, frame.suffix), len(frame.suffix)
        pretrained = self.teacher.load(computing.dtype)
        _require_embeddings(self.teacher.name, pretrained, groups)
        _cut_after(pretrained, job.layers[-1], self.teacher.layers)
        model = cast(torch.nn.Module, pretrained).to(computing.device)
        out = {layer: np.empty((job.tokens, self.width), dtype=np.float32) for layer in job.layers}
        batch_size = computing.batch_size or WHOLE_MODEL_BATCH
        with torch.inference_mode(), progress("token states", job.tokens) as advance:
            for group in groups:
                position = len(frame.prefix) + group.ids.shape[1] - behind - 1
                compute = partial(_put, model, group, frame.prefix, position, computing.device, out)
                batch_size = in_batches(len(group.rows), batch_size, compute, advance)
        for layer, array in out.items():
            broken = int((~np.isfinite(array)).any(axis=1).sum())
            if broken:
                raise not_finite(self.teacher.name, f"layer {layer}", f"{broken} tokens")
        return out


def _require_embeddings(name: str, model: PreTrainedModel, groups: list[Group]) -> None:
    rows = cast(torch.nn.Embedding, model.get_input_embeddings()).num_embeddings
    for group in groups:
        if int(group.ids.max()) >= rows:
            raise InputError(
                f"teacher {name}: token {int(group.ids.max())} has no embedding (the table has {rows} rows)"
            )


def _put(
    model: torch.nn.Module,
    group: Group,
    prefix: tuple[int, ...],
    position: int,
    device: str,
    out: dict[int, np.ndarray],
    batch: slice,
) -> None:
    """Put the states at ``position`` of some of a group's sequences into ``out``."""
    ids = group.ids[batch]
    whole = np.hstack([np.tile(np.array(prefix, dtype=np.int64), (len(ids), 1)), ids])
    inputs = torch.from_numpy(whole).to(device)
    states = model(input_ids=inputs, output_hidden_states=True, use_cache=False).hidden_states
    for layer, array in out.items():
        array[group.rows[batch]] = states[layer][:, position].float().cpu().numpy()


def _cut_after(model: torch.nn.Module, layer: int, depth: int) -> None:
    """Drop the layers behind ``layer``, where the architecture keeps them in ``model.layers``.

    The final norm is then kept from touching the last state, which is the raw one of an inner layer.
    """
    if layer < depth and hasattr(model, "layers") and hasattr(model, "norm"):
        model.layers = cast(torch.nn.ModuleList, model.layers)[:layer]
        model.norm = torch.nn.Identity()
