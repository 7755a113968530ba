"""Teacher -> one hidden state a token and layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch
from threadpoolctl import threadpool_info

from qwen25 import streaming
from qwen25.checkpoint import Checkpoint, require_space, run_key
from qwen25.decoder import Unsupported
from qwen25.gguf_weights import GgufWeights
from qwen25.jobs import Group, Job, group_by_length, with_suffix
from qwen25.runtime.display import progress
from qwen25.runtime.errors import InputError
from qwen25.runtime.log import logger
from qwen25.streaming import Plan
from qwen25.teacher.teacher import Teacher
from qwen25.weights import Weights
from qwen25.writing import STEPS

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
#: Sequences at a time where the whole model computes them and no other number is asked for.
WHOLE_MODEL_BATCH = 1024
TokenIds = np.ndarray | Sequence[Sequence[int]]


@dataclass(frozen=True)
class Frame:
    """The token ids around each token while its state is computed."""

    prefix: tuple[int, ...] = ()
    suffix: tuple[int, ...] = ()


def frame_for(teacher: Teacher, prefix: str, suffix: str = "") -> Frame:
    """Return what stands around each token: the texts for a decoder, [CLS] and [SEP] for an encoder."""
    tokenizer = teacher.tokenizer()
    if teacher.is_causal:
        before, behind = (tuple(tokenizer.encode(text, add_special_tokens=False).ids) for text in (prefix, suffix))
        return Frame(before, behind)
    around = tokenizer.encode("", add_special_tokens=True).ids
    return Frame(prefix=tuple(around[:1]), suffix=tuple(around[1:]))


def choose_device(name: str) -> str:
    """Turn ``auto`` into ``cuda`` or ``cpu``.

    :raises InputError: if CUDA is asked for and there is none.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise InputError("--device cuda: PyTorch finds no CUDA device here; use --device cpu")
    return name


def choose_dtype(name: str, device: str) -> torch.dtype:
    """Turn ``auto`` into bfloat16 on CUDA and float32 on the CPU, where it is as fast and exact.

    :raises InputError: if the name is not known.
    """
    if name == "auto":
        return torch.bfloat16 if device.startswith("cuda") else torch.float32
    if name not in DTYPES:
        raise InputError(f"unknown dtype {name!r}: use auto, {', '.join(DTYPES)}")
    return DTYPES[name]


def threads() -> dict[str, int]:
    """Return how many threads compute here, in PyTorch and in numpy's BLAS: their number can change the last bits."""
    blas = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
    return {"torch": torch.get_num_threads(), "blas": max(blas, default=1)}


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
        logger.info("%s", _whole_model_plan(teacher, job, reason))
        return _whole_model_states(teacher, job, frame, at)
    estimate = streaming.make_plan(weights, job, checkpoint is not None)
    logger.info("%s", estimate)
    kept = None
    if checkpoint is not None and job.tokens:
        require_space(checkpoint, estimate.disk_bytes)
        kept = Checkpoint(checkpoint, run_key(weights.shape, job, weights_hash or teacher.weights_sha256()))
    return streaming.stream(weights, job, kept, resume)


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
        return _whole_model_plan(teacher, job, reason)
    return streaming.make_plan(weights, job, checkpoint is not None)


def plan_texts(teacher: Teacher, texts: int, estimate: Plan, dtype: torch.dtype) -> str:
    """Say in one line what it takes the teacher to write texts, as :mod:`qwen25.writing` does.

    A written token costs the whole teacher's multiply-adds, output matrix included. Their pace is the one
    timed for the token states, which the small steps of writing do not quite reach: hence "at least".

    :param estimate: the plan of the token states.
    """
    layer, table = _weights(teacher)
    weights = teacher.layers * layer + table
    memory = weights * dtype.itemsize + (0 if estimate.device.startswith("cuda") else streaming.LIBRARY_BYTES)
    time = "time not estimated"
    if estimate.seconds:
        pace = estimate.seconds / (estimate.tokens * estimate.layers[-1] * layer)
        time = f"at least {max(1, round(pace * weights * texts * STEPS)):,} s more"
    return (
        f"written texts: {texts:,} of {STEPS} tokens, {estimate.device}, the whole model: "
        f"{time}, {memory / 1e9:.1f} GB of memory"
    )


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


def _whole_model_plan(teacher: Teacher, job: Job, reason: str) -> Plan:
    """Describe what the whole model takes; its time is not known before it is loaded."""
    # Packed weights are unpacked: the configuration says how many there will be, nearly.
    layer, table = _weights(teacher)
    weights = (teacher.layers * layer + table) * job.dtype.itemsize
    collected = job.tokens * teacher.hidden_size * 4 * len(job.layers)
    memory = weights + collected + streaming.LIBRARY_BYTES
    return Plan(job.tokens, job.layers, job.device, None, memory, 0, streams=False, reason=reason)


def _weights(teacher: Teacher) -> tuple[int, int]:
    """Return the number of weights of a layer and of the embedding table, nearly, from the configuration."""
    config = teacher.config
    layer = 4 * teacher.hidden_size**2 + 3 * teacher.hidden_size * int(getattr(config, "intermediate_size", 0))
    return layer, int(config.vocab_size) * teacher.hidden_size


def _whole_model_states(
    teacher: Teacher, job: Job, frame: Frame, at: Literal["token", "last"]
) -> dict[int, np.ndarray]:
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
            raise streaming.not_finite(teacher.name, layer, broken)
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
            batch_size, steps = streaming.halve(steps, error), 0
        if not steps:
            # Only here, when the error no longer holds on to what had been computed.
            streaming.free_cuda_memory()
        start += steps
        advance(steps)
    return batch_size


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
