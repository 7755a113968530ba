"""Teacher -> one hidden state a token and layer, each token alone behind a prefix.

All tokens go through one of transformers' own layers before the next layer is read (breadth-first), so that memory
depends on the number of tokens and on one layer, not on the depth of the teacher, and each weight is read once. The
prefix's keys and values are computed once a layer. Time and memory: docs/STREAMING.md. What cannot be taken apart
like this (encoders, GPT-2, mixtures of experts) is computed by the whole model.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from threadpoolctl import threadpool_info  # type: ignore[import-untyped] # scikit-learn needs it

from qwen25.runtime.display import progress
from qwen25.runtime.errors import InputError, PipelineError, as_input_error, logger
from qwen25.runtime.steps import NO_CACHE, StepCache, key_of
from qwen25.teacher.layers import COPY_ROWS, CPU_SCRATCH_BYTES, Stack, empty_model, require_embeddings, take_apart
from qwen25.teacher.teacher import Teacher

#: How many positions the whole model computes at a time.
WHOLE_MODEL_ROWS = 1024
#: For the dry run: what Python and the libraries hold, and multiply-adds a second of a CPU's thread, so many times as
#: many where it has bfloat16 built in, and of a GPU. Measured on two machines of two cores; a GPU's is a guess.
LIBRARY_BYTES, THREAD_RATE, BFLOAT16_TIMES, CUDA_RATE = 450 << 20, 35e9, 4, 5e13
QUESTION_TOKENS = 10

TokenIds = np.ndarray | Sequence[Sequence[int]]


def choose_device(name: str) -> str:
    """Turn ``auto`` into ``cuda`` or ``cpu``; raises InputError if CUDA is asked for and there is none."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise InputError("--device cuda: PyTorch finds no CUDA device here; use --device cpu")
    return name


def fast_dtype(device: str) -> torch.dtype:
    """Return the fastest number format for products with weights: bfloat16, where the device has it built in.

    Without such units a CPU takes longer in bfloat16 than in float32.
    """
    built_in = device.startswith("cuda") or torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if built_in else torch.float32


def whole_dtype(device: str, dtype: torch.dtype) -> torch.dtype:
    """Return the number format of a model that is loaded whole: on a CPU float32, as not only products are in it."""
    return dtype if device.startswith("cuda") else torch.float32


def format_name(dtype: torch.dtype) -> str:
    """Return a number format's name, as ``--dtype`` takes it."""
    return str(dtype).removeprefix("torch.")


def threads() -> dict[str, int]:
    """Return how many threads compute here, in PyTorch and in numpy's BLAS: their number can change the last bits."""
    blas = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
    return {"torch": torch.get_num_threads(), "blas": max(blas, default=1)}


@contextlib.contextmanager
def on_device() -> Iterator[None]:
    """Compute without gradients; raises PipelineError if the GPU's memory is too small."""
    try:
        with torch.inference_mode():
            yield
    except torch.cuda.OutOfMemoryError as error:
        raise PipelineError("out of memory on CUDA; go on with --device cpu, or a smaller teacher") from error


def require_finite(values: torch.Tensor, teacher: str, part: str) -> None:
    """Check what ``part`` of a teacher gives; values: (tokens, width).

    :raises PipelineError: if some are NaN or infinite.
    """
    if broken := int((~torch.isfinite(values).all(dim=1)).sum()):
        raise PipelineError(
            f"teacher {teacher}: {part} gives NaN or infinity for {broken} tokens; try --dtype float32, and if it was "
            "that already, its weights are damaged"
        )


def token_states(
    teacher: Teacher,
    token_ids: TokenIds,
    layers: Sequence[int],
    *,
    prefix: str = "",
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    cache: StepCache = NO_CACHE,
) -> dict[int, np.ndarray]:
    """Compute hidden states, each token (or word of several) in a sequence of its own.

    :param token_ids: the teacher's ids, shape (tokens,); or the list of each word's, whose state is its last token's.
    :param layers: which states: 0 is the input embedding, ``teacher.layers`` the last, normed one.
    :param prefix: the text before each token, for a decoder; an encoder's tokens stand between its special tokens.
    :param dtype: the number format of products with weights. States, norms, attention and biases stay float32: a few
        numbers of a state are a thousand times as large as the others, and bfloat16 would round what each layer adds
        to them away. Only where the whole model is needed, on a GPU, is everything computed in it.
    :param cache: where they are kept once all are there.
    :return: layer -> float32 array of shape (tokens, hidden), mapped from the cache if there is one.
    :raises InputError: if a token has no embedding, or the teacher's configuration makes no sense.
    :raises PipelineError: if memory or disk runs out, weights are missing or damaged, or a state is not finite.
    """
    wanted = sorted(set(layers))
    sequences = by_length(token_ids)
    before, behind = _around(teacher, prefix)
    facts: dict[str, Any] = {"around": [before, behind], "layers": wanted, "device": device, "dtype": str(dtype)}
    if cache.folder is not None:
        facts |= {"torch": torch.__version__, "transformers": version("transformers"), "threads": threads()}
        facts |= {"weights": teacher.weights_sha256, "config": teacher.config.to_dict()}
    key = key_of(facts, *sequences.groups, sequences.last)
    if kept := cache.load("states", key):
        return {layer: kept[0][str(layer)] for layer in wanted}
    with on_device(), cache.writing("states", key) as folder:
        stack = take_apart(teacher, empty_model(teacher), device, dtype)
        if isinstance(stack, Stack):
            return _streamed_states(stack, sequences, before, wanted, folder)
        logger.info("    token states: by the whole model, %s", stack)
        found = _whole_model_states(teacher, sequences, (before, behind), wanted, device, dtype)
        for layer, states in found.items():
            require_finite(states, teacher.name, f"layer {layer}")
        return {layer: _kept(folder, layer, states, sequences.last) for layer, states in found.items()}


class Sequences(NamedTuple):
    """Sequences of token ids, short ones first; the states of all positions stand below each other.

    :ivar groups: token ids of sequences of one length; each of shape (sequences, length).
    :ivar last: for each sequence in the order given, where the state of its last position stands; shape (sequences,).
    """

    groups: list[np.ndarray]
    last: np.ndarray

    @property
    def ids(self) -> np.ndarray:
        """The token ids of all positions."""
        return np.concatenate([ids.ravel() for ids in self.groups])

    def batches(self, rows: int) -> Iterator[tuple[slice, int]]:
        """Yield parts of the positions, of about ``rows`` each, and the length of the sequences in them."""
        start = 0
        for ids in self.groups:
            length, end = ids.shape[1], start + ids.size
            size = max(1, rows // length) * length
            for first in range(start, end, size):
                yield slice(first, min(first + size, end)), length
            start = end


def by_length(token_ids: TokenIds) -> Sequences:
    """Group single tokens, or words of several, by their length."""
    if isinstance(token_ids, np.ndarray):
        return Sequences([token_ids.astype(np.int64)[:, None]], np.arange(len(token_ids)))
    lengths = np.array([len(sequence) for sequence in token_ids], dtype=np.int64)
    groups, last, start = [], np.empty(len(lengths), dtype=np.int64), 0
    for length in np.unique(lengths):
        rows = np.flatnonzero(lengths == length)
        groups.append(np.array([token_ids[int(row)] for row in rows], dtype=np.int64))
        last[rows] = start + np.arange(1, len(rows) + 1) * length - 1
        start += groups[-1].size
    return Sequences(groups, last)


def _around(teacher: Teacher, prefix: str) -> tuple[list[int], list[int]]:
    """Return the token ids before and behind each token: the prefix for a decoder, [CLS] and [SEP] for an encoder."""
    with as_input_error(f"teacher {teacher.name}: its tokenizer is damaged", "download it again"):
        if teacher.is_causal:
            return (teacher.tokenizer().encode(prefix, add_special_tokens=False).ids if prefix else []), []
        around = teacher.tokenizer().encode("", add_special_tokens=True).ids
        return around[:1], around[1:]


def _kept(folder: Path | None, layer: int, states: torch.Tensor, rows: np.ndarray) -> np.ndarray:
    """Return some rows of ``states``: mapped from a file in ``folder``; without one, in memory.

    They are written in parts, so that memory does not hold them twice.
    """
    if folder is None:
        return states[rows].cpu().numpy()
    path = folder / f"{layer}.npy"
    with path.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (len(rows), states.shape[1])}
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, len(rows), COPY_ROWS):
            file.write(states[rows[start : start + COPY_ROWS]].cpu().numpy().data)
    return np.load(path, mmap_mode="r").view(np.ndarray)


def _streamed_states(
    stack: Stack, sequences: Sequences, before_ids: list[int], wanted: list[int], folder: Path | None
) -> dict[int, np.ndarray]:
    """Take all sequences through the layers, from the embeddings to the deepest that is wanted."""
    before, states = stack.embedded(np.array(before_ids, dtype=np.int64)), stack.embedded(sequences.ids)
    found = {}
    with progress("token states", len(states) * wanted[-1]) as advance:
        for layer in range(wanted[-1] + 1):
            if layer:
                stack.use(layer - 1)
                shared = None
                if len(before):
                    (before,), shared = stack(before[None])
                for part, length in sequences.batches(stack.rows):
                    after, _ = stack(states[part].view(-1, length, stack.width), shared)
                    states[part] = after.view(-1, stack.width)
                    advance(part.stop - part.start)
            require_finite(states, stack.name, f"layer {layer}")
            if layer in wanted:
                found[layer] = _kept(folder, layer, states, sequences.last)
    return found


def _whole_model_states(
    teacher: Teacher,
    sequences: Sequences,
    around: Sequence[list[int]],
    layers: list[int],
    device: str,
    dtype: torch.dtype,
) -> dict[int, torch.Tensor]:
    """Compute states by the whole model, each sequence between the token ids of ``around``.

    :return: layer -> (positions, hidden), of which those of last positions are filled.
    """
    model: Any = teacher.load(whole_dtype(device, dtype)).to(device)
    if layers[-1] < teacher.layers and hasattr(model, "layers") and hasattr(model, "norm"):
        # An inner layer's state is the raw one.
        model.layers, model.norm = model.layers[: layers[-1]], torch.nn.Identity()
    flat = sequences.ids
    require_embeddings(teacher.name, flat, model.get_input_embeddings().num_embeddings)
    found = {layer: torch.zeros(len(flat), teacher.hidden_size) for layer in layers}
    with progress("token states", len(flat)) as advance:
        for part, length in sequences.batches(WHOLE_MODEL_ROWS):
            ids = flat[part].reshape(-1, length)
            before, behind = (np.tile(np.array(side, dtype=np.int64), (len(ids), 1)) for side in around)
            inputs = torch.from_numpy(np.hstack([before, ids, behind])).to(device)
            states = model(input_ids=inputs, output_hidden_states=True, use_cache=False).hidden_states
            for layer, array in found.items():
                array[part][length - 1 :: length] = states[layer][:, -1 - len(around[1])].float().cpu()
            advance(ids.size)
    return found


def dry_run_line(
    teacher: Teacher, tokens: int, layers: Sequence[int], device: str, dtype: torch.dtype, asked: int = 0
) -> str:
    """Return one line with what the states will cost; nothing is timed, and the time is a rough guess.

    :param asked: words that the whole model is asked for as well.
    :raises InputError: if the configuration describes no model.
    """
    model, deepest = empty_model(teacher), max(layers)
    weights = sum(parameter.numel() for parameter in model.parameters())
    table = model.get_input_embeddings().weight.numel()
    layer = (weights - table) / teacher.layers
    state = tokens * teacher.hidden_size * 4
    stack = take_apart(teacher, model, device, dtype)
    how, held = "layer by layer", layer
    if isinstance(stack, str):
        how, held, dtype = f"the whole model ({stack})", weights, whole_dtype(device, dtype)
    memory = LIBRARY_BYTES + state + 4 * CPU_SCRATCH_BYTES + held * dtype.itemsize
    rate = THREAD_RATE * torch.get_num_threads() * (BFLOAT16_TIMES if dtype == torch.bfloat16 else 1)
    rate = CUDA_RATE if device.startswith("cuda") else rate
    minutes = (tokens * layer * deepest + asked * QUESTION_TOKENS * weights) / rate / 60
    more = f", then {asked:,} words asked for by the whole model" * bool(asked)
    memory = max(memory, LIBRARY_BYTES + weights * dtype.itemsize * bool(asked))
    numbers = ", ".join(map(str, sorted(set(layers))))
    return (
        f"token states: {tokens:,} tokens, layers {numbers}, {device} in {format_name(dtype)}, {how}{more}: "
        f"{memory / 1e9:.1f} GB of memory, {state * len(set(layers)) / 1e9:.1f} GB of disk while it runs, "
        f"roughly {max(1, round(minutes))} min"
    )
