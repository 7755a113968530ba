"""Teacher -> one hidden state a token and layer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from qwen25.runtime.errors import InputError
from qwen25.runtime.log import logger
from qwen25.states.checkpoint import Checkpoint, require_space, run_key
from qwen25.states.costs import Plan
from qwen25.states.decoder import Unsupported
from qwen25.states.estimate import make_plan
from qwen25.states.gguf_weights import GgufWeights
from qwen25.states.jobs import Frame, Job, TokenIds, group_by_length, with_suffix
from qwen25.states.streaming import stream
from qwen25.states.weights import Weights
from qwen25.states.whole_model import whole_model_plan, whole_model_states
from qwen25.teacher.teacher import Teacher


def token_states(
    teacher: Teacher,
    token_ids: TokenIds,
    frame: Frame,
    layers: Sequence[int],
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    batch_size: int | None = None,
    at: Literal["token", "last"] = "token",
    checkpoint: Path | None = None,
    resume: bool = True,
    weights_hash: str | None = None,
) -> dict[int, np.ndarray]:
    """Compute the hidden states of all tokens, each in its own sequence between the frame's tokens.

    Decoders are streamed, one layer at a time; anything else is loaded whole.
    The estimate of time and memory is logged before the work starts.

    :param token_ids: the teacher's ids, shape (tokens,); or a list of ids for each word, whose
        state is that of its last token.
    :param layers: which states: 0 is the input embedding, ``teacher.layers`` the last, normed one.
    :param batch_size: sequences at a time (None: what suits the device).
    :param at: read the state at the ``token`` or at the ``last`` position, behind the suffix.
    :param checkpoint: a folder to keep what is done, so that a run that was cut off goes on there.
        The result lives in its files: call ``discard_checkpoint`` once it is used.
    :param resume: False: start anew, whatever the checkpoint holds.
    :param weights_hash: ``teacher.weights_sha256()`` if it is known; only a checkpoint needs it.
    :return: layer -> float32 array of shape (tokens, hidden size).
    :raises InputError: if a layer or a token does not exist.
    :raises PipelineError: if memory or disk runs out, weights are missing or damaged, or a state is not finite.
    """
    job = _job(teacher, token_ids, frame, layers, device, dtype, batch_size, at)
    weights, reason = _streamable(teacher)
    if weights is None:
        if checkpoint is not None:
            reason += "; without checkpoints"
        logger.info("%s", whole_model_plan(teacher, job, reason))
        return whole_model_states(teacher, job, frame, at)
    estimate = make_plan(weights, job, checkpoint is not None)
    logger.info("%s", estimate)
    kept = None
    if checkpoint is not None and job.tokens:
        require_space(checkpoint, estimate.disk_bytes)
        kept = Checkpoint(checkpoint, run_key(weights.shape, job, weights_hash or teacher.weights_sha256()))
    return stream(weights, job, kept, resume)


def plan(
    teacher: Teacher,
    token_ids: TokenIds,
    frame: Frame,
    layers: Sequence[int],
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    batch_size: int | None = None,
    at: Literal["token", "last"] = "token",
    checkpoint: Path | None = None,
) -> Plan:
    """Return what ``token_states`` would cost with the same arguments, after timing one batch.

    :raises InputError: if a layer does not exist.
    :raises PipelineError: if the weights are missing or damaged.
    """
    job = _job(teacher, token_ids, frame, layers, device, dtype, batch_size, at)
    weights, reason = _streamable(teacher)
    if weights is None:
        return whole_model_plan(teacher, job, reason)
    return make_plan(weights, job, checkpoint is not None)


def _job(
    teacher: Teacher,
    token_ids: TokenIds,
    frame: Frame,
    layers: Sequence[int],
    device: str,
    dtype: torch.dtype,
    batch_size: int | None,
    at: Literal["token", "last"],
) -> Job:
    wanted = tuple(sorted(set(layers)))
    if not wanted or not 0 <= wanted[0] <= wanted[-1] <= teacher.layers:
        raise InputError(f"layers must be between 0 and {teacher.layers}, not {list(layers)}")
    if batch_size is not None and batch_size < 1:
        raise InputError(f"the batch size must be at least 1, not {batch_size}")
    groups = group_by_length(token_ids)
    # A causal model's token does not see what follows: a suffix matters only where it is read.
    if at == "last":
        groups = with_suffix(groups, frame.suffix)
    return Job(groups, frame.prefix, wanted, device, dtype, batch_size)


def _streamable(teacher: Teacher) -> tuple[Weights | None, str]:
    """Return the weights if they can be streamed, else the reason why not."""
    try:
        return GgufWeights(teacher) if teacher.gguf else Weights(teacher), ""
    except Unsupported as reason:
        return None, str(reason)
