"""Teacher -> one hidden state a token and layer, each token alone behind a prefix.

Only the layers up to the deepest wanted one are loaded: early layers hold what a token means, so that is a quarter of
a decoder. Batches of tokens go through them, behind the prefix's keys and values, which are computed once. Time and
memory: docs/STREAMING.md.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from threadpoolctl import threadpool_info  # type: ignore[import-untyped] # scikit-learn needs it
from torch.nn import functional

from qwen25.runtime.display import progress
from qwen25.runtime.errors import InputError, PipelineError, as_input_error
from qwen25.runtime.steps import NO_CACHE, StepCache, key_of
from qwen25.teacher.teacher import Teacher

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

#: How many positions are computed at a time. On a CPU, products of 512 rows take less time than larger ones, whose
#: intermediate results leave its caches. Not measured anew: the size of a product can change its last bit.
CPU_ROWS, CUDA_ROWS = 512, 16384
#: For the dry run: what Python, the libraries, a vocabulary and a batch hold, and multiply-adds a second of a CPU's
#: thread, so many times as many where it has bfloat16 built in, and of a GPU. Measured, but for a GPU's, which is a
#: guess.
LIBRARY_BYTES, THREAD_RATE, BFLOAT16_TIMES, CUDA_RATE = 750 << 20, 35e9, 4, 5e13
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
            f"teacher {teacher}: {part} gives NaN or infinity for {broken} of {len(values)} tokens; try --dtype "
            "float32, and if it was that already, its weights are damaged"
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
        to them away.
    :param cache: where they are kept once all are there.
    :return: layer -> float32 array of shape (tokens, hidden), mapped from the cache if there is one.
    :raises InputError: if a token has no embedding, or the teacher's configuration makes no sense.
    :raises PipelineError: if memory or disk runs out, weights are missing or damaged, or a state is not finite.
    """
    wanted, words = sorted(set(layers)), words_of(token_ids)
    before, behind = _around(teacher, prefix)
    facts: dict[str, Any] = {"around": [before, behind], "layers": wanted, "device": device, "dtype": str(dtype)}
    if cache.folder is not None:
        facts |= {"torch": torch.__version__, "transformers": version("transformers"), "threads": threads()}
        facts |= {"weights": teacher.weights_sha256, "config": teacher.config.to_dict()}
    key = key_of(facts, *words)
    if kept := cache.load("states", key):
        return {layer: kept[0][str(layer)] for layer in wanted}
    with on_device(), cache.writing("states", key) as folder, progress("token states", len(words.ids)) as advance:
        model: Any = teacher.load(dtype, part=part_of(teacher, max(1, wanted[-1]), dtype)).to(device)
        count = model.get_input_embeddings().num_embeddings
        if len(outside := words.ids[(words.ids < 0) | (words.ids >= count)]):
            raise InputError(
                f"teacher {teacher.name}: token {outside[0]} has no embedding (the table has {count} rows)"
            )
        shape = (len(words.lengths), teacher.hidden_size)
        found = {layer: _empty_rows(folder and folder / f"{layer}.npy", shape) for layer in wanted}
        past = _past(model, before, device) if teacher.is_causal else None
        if past is not None:
            before = []
        for places, ids in words.batches(CUDA_ROWS if device.startswith("cuda") else CPU_ROWS):
            inputs = torch.from_numpy(between(before, ids, behind)).to(device)
            more: dict[str, Any] = {"use_cache": False}
            if past is not None:
                more = {"past_key_values": copy.deepcopy(past), "use_cache": True}
                more["past_key_values"].batch_repeat_interleave(len(ids))
            states = model(input_ids=inputs, output_hidden_states=True, **more).hidden_states
            for layer in wanted:
                rows = states[layer][:, -1 - len(behind)].float().cpu()
                require_finite(rows, teacher.name, f"layer {layer}")
                _put(found[layer], places, rows.numpy())
            advance(ids.size)
        return {layer: room.view(np.ndarray) for layer, room in found.items()}


class Words(NamedTuple):
    """Sequences of token ids.

    :ivar ids: the ids of all of them, one after the other.
    :ivar lengths: the number of ids of each.
    """

    ids: np.ndarray
    lengths: np.ndarray

    def batches(self, positions: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield sequences of one length, short ones first: their places, and their ids (sequences, length)."""
        starts = self.lengths.cumsum() - self.lengths
        for length in np.unique(self.lengths):
            of_length, size = np.flatnonzero(self.lengths == length), max(1, positions // int(length))
            for first in range(0, len(of_length), size):
                places = of_length[first : first + size]
                yield places, self.ids[starts[places, None] + np.arange(length)]


def words_of(token_ids: TokenIds) -> Words:
    """Return single tokens, or words of several, in one form."""
    if isinstance(token_ids, np.ndarray):
        return Words(token_ids.astype(np.int64), np.ones(len(token_ids), dtype=np.int64))
    lengths = np.array([len(word) for word in token_ids], dtype=np.int64)
    return Words(np.fromiter(chain.from_iterable(token_ids), dtype=np.int64), lengths)


def between(before: list[int], ids: np.ndarray, behind: list[int]) -> np.ndarray:
    """Put the same ids around each sequence of ``ids``, which has shape (sequences, length)."""
    sides = (np.tile(np.array(side, dtype=np.int64), (len(ids), 1)) for side in (before, behind))
    return np.hstack([next(sides), ids, next(sides)])


def _around(teacher: Teacher, prefix: str) -> tuple[list[int], list[int]]:
    """Return the token ids before and behind each token: the prefix for a decoder, [CLS] and [SEP] for an encoder."""
    with as_input_error(f"teacher {teacher.name}: its tokenizer is damaged", "download it again"):
        if teacher.is_causal:
            return (teacher.tokenizer().encode(prefix, add_special_tokens=False).ids if prefix else []), []
        around = teacher.tokenizer().encode("", add_special_tokens=True).ids
        return around[:1], around[1:]


def _empty_rows(path: Path | None, shape: tuple[int, int]) -> np.ndarray:
    """Return room for rows of float32: in memory, or a new ``.npy`` file, mapped read-only."""
    if path is None:
        return np.empty(shape, dtype=np.float32)
    np.lib.format.open_memmap(path, "w+", np.float32, shape=shape)
    return np.load(path, mmap_mode="r")


def _put(room: np.ndarray, places: np.ndarray, rows: np.ndarray) -> None:
    """Write rows to their places, which are in ascending order.

    Into a file by plain writes: in a mapping, pages count as this process's memory, and a full disk ends it.
    """
    if not isinstance(room, np.memmap):
        room[places] = rows
        return
    with Path(str(room.filename)).open("r+b") as file:
        for run in np.split(np.arange(len(places)), np.flatnonzero(np.diff(places) != 1) + 1):
            file.seek(room.offset + int(places[run[0]]) * rows[0].nbytes)
            file.write(rows[run].data)


class _Product(torch.nn.Linear):
    """A linear layer whose product alone is computed in the weight's number format; the bias is added in float32."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        product = functional.linear(x.to(self.weight.dtype), self.weight).float()
        return product if self.bias is None else product.add_(self.bias)


def part_of(teacher: Teacher, layers: int, dtype: torch.dtype) -> type[PreTrainedModel]:
    """Return the class of a teacher's text model up to a layer; loaders read only the weights that it has.

    :raises InputError: if the configuration describes no model.
    """
    from transformers import AutoModel

    kind: Any = type(teacher.empty_model(AutoModel.from_config))

    class Part(kind):
        def __init__(self, config: PretrainedConfig) -> None:
            super().__init__(config)
            model: Any = self
            # The state between two layers is the raw one, not normed. A model of another make stays whole.
            if hasattr(model, "layers") and hasattr(model, "norm") and layers < len(model.layers):
                model.layers, model.norm = model.layers[:layers], torch.nn.Identity()
            self.float()
            for module in self.modules():
                if type(module) is torch.nn.Linear:
                    module.__class__ = _Product
                    module.weight = torch.nn.Parameter(module.weight.to(dtype), requires_grad=False)

    return Part


def _past(model: Any, before: list[int], device: str) -> Any:
    """Return the keys and values of what stands before each token; None if the model has none that can be repeated."""
    from transformers import DynamicCache

    if not before:
        return None
    found = model(input_ids=torch.tensor([before], device=device), use_cache=True)
    past = getattr(found, "past_key_values", None)
    return past if isinstance(past, DynamicCache) else None


def dry_run_line(
    teacher: Teacher, tokens: int, layers: Sequence[int], device: str, dtype: torch.dtype, asked: int = 0
) -> str:
    """Return one line with what the states will cost; nothing is timed, and the time is a rough guess.

    :param asked: words that the whole model is asked for as well.
    :raises InputError: if the configuration describes no model.
    """
    from transformers import AutoModel

    makes: Any = AutoModel.from_config, part_of(teacher, max(layers), dtype)
    whole, part = (teacher.empty_model(make) for make in makes)
    weights = sum(one.numel() for one in whole.parameters())
    products = sum(one.numel() for one in part.parameters()) - part.get_input_embeddings().weight.numel()
    held = sum(one.nbytes for one in part.parameters())
    if asked:
        held = max(held, weights * dtype.itemsize)
    rate = THREAD_RATE * torch.get_num_threads() * (BFLOAT16_TIMES if dtype == torch.bfloat16 else 1)
    rate = CUDA_RATE if device.startswith("cuda") else rate
    minutes = (tokens * products + asked * QUESTION_TOKENS * weights) / rate / 60
    more = f", then {asked:,} words asked for by the whole model" * bool(asked)
    numbers, disk = sorted(set(layers)), tokens * teacher.hidden_size * 4 * len(set(layers))
    return (
        f"token states: {tokens:,} tokens, layers {', '.join(map(str, numbers))} of {teacher.layers}, {device} in "
        f"{format_name(dtype)}{more}: {(LIBRARY_BYTES + held) / 1e9:.1f} GB of memory, {disk / 1e9:.1f} GB of disk "
        f"while it runs, roughly {max(1, round(minutes))} min"
    )
