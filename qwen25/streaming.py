"""Token states breadth-first: all tokens go through one decoder layer before the next layer is read.

A static table needs one short forward pass a token. Taken breadth-first, memory depends on the
number of tokens and on one layer, not on the depth of the teacher; each weight is read once; and
the states after a layer are all that is needed to go on from there.

The layers are computed here rather than by transformers' modules, because a lone token behind a
shared prefix leaves most of attention out: the prefix's keys and values are computed once a layer
for all tokens, and without a prefix the softmax over one position is 1, so that attention is the
value projection. What is computed is exactly Qwen2, Qwen3, Llama, Mistral and Gemma 3 (text).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch.nn import functional

from qwen25.console import InputError, PipelineError, logger, progress
from qwen25.provenance import read_json, write_json
from qwen25.teacher import Teacher

if TYPE_CHECKING:
    from transformers import PretrainedConfig

#: Part of a checkpoint's key: raise it with any change that can change a bit of the states.
CODE_VERSION = 1

#: The most bytes of states that are taken through the layers at once; more tokens go in waves.
WAVE_BYTES = 3 << 30

#: Writing checkpoints takes at most about this share of the time.
CHECKPOINT_SHARE = 0.05

#: What a disk is taken to write in a second until it has been measured.
ASSUMED_WRITE_RATE = 200e6

#: What Python and the libraries hold before anything is computed.
LIBRARY_BYTES = 450 << 20

#: How many bytes the widest intermediate result of a batch may take on the CPU. Matrix products
#: level off at about 1,000 rows; more only costs memory.
CPU_SCRATCH_BYTES = 96 << 20
CPU_ROWS, CUDA_ROWS = 2048, 16384

#: How many rows the estimate of the time is made from.
PROBE_ROWS = 1024

#: How many rows are converted or copied at a time where nothing is multiplied.
COPY_ROWS = 4096

#: Where a checkpoint keeps the decoder's tensors, before ``layers.0.``.
ROOTS = ("model.language_model.", "language_model.model.", "language_model.", "model.", "")

ROPE_TYPES = ("default", "linear", "llama3")
ACTIVATIONS = ("silu", "gelu_pytorch_tanh", "gelu")


class Unsupported(Exception):
    """A teacher that cannot be streamed; the message is the reason, as part of a sentence."""


@dataclass(frozen=True)
class Architecture:
    """All that decides what a decoder computes besides its weights.

    :ivar sliding: for each layer, whether it is one of the sliding-window layers.
    :ivar window: how many positions those layers see, themselves included; None for all.
    :ivar ropes: the rotary embedding's parameters of the other layers and of the sliding ones.
    :ivar gemma: Gemma 3's form: norms weighted by 1 + w, four of them, and a scaled embedding.
    """

    kind: str
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    eps: float
    scaling: float
    activation: str
    qkv_bias: bool
    output_bias: bool
    mlp_bias: bool
    qk_norm: bool
    gemma: bool
    window: int | None
    sliding: tuple[bool, ...]
    ropes: tuple[dict[str, Any], dict[str, Any]]

    @property
    def query_width(self) -> int:
        """The width of all heads' queries."""
        return self.heads * self.head_dim

    @property
    def key_width(self) -> int:
        """The width of all key heads' keys, which is that of the values."""
        return self.kv_heads * self.head_dim

    @property
    def layer_parameters(self) -> int:
        """The number of weights of a layer, but for norms and biases."""
        return self.hidden * (2 * self.query_width + 2 * self.key_width + 3 * self.intermediate)


def architecture(config: PretrainedConfig) -> Architecture:
    """Read an architecture from a configuration, in any of the forms of transformers 4.50 to 5.

    :raises Unsupported: if it is not one of those computed here.
    """
    kind = str(config.model_type).removesuffix("_text")
    if kind not in {"qwen2", "qwen3", "llama", "mistral", "gemma3"}:
        raise Unsupported(f"{config.model_type} is none of the architectures that are streamed")
    gemma = kind == "gemma3"
    _require_plain(config)
    attention_bias = bool(getattr(config, "attention_bias", False))
    head_dim = int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)
    sliding = _sliding_layers(config, kind)
    return Architecture(
        kind=kind,
        hidden=int(config.hidden_size),
        intermediate=int(config.intermediate_size),
        layers=int(config.num_hidden_layers),
        heads=int(config.num_attention_heads),
        kv_heads=int(config.num_key_value_heads),
        head_dim=head_dim,
        eps=float(config.rms_norm_eps),
        scaling=float(config.query_pre_attn_scalar if gemma else head_dim) ** -0.5,
        activation=config.hidden_activation if gemma else config.hidden_act,
        qkv_bias=kind == "qwen2" or (kind != "mistral" and attention_bias),
        output_bias=kind in {"llama", "qwen3", "gemma3"} and attention_bias,
        mlp_bias=kind == "llama" and bool(getattr(config, "mlp_bias", False)),
        qk_norm=kind in {"qwen3", "gemma3"},
        gemma=gemma,
        window=int(config.sliding_window) if any(sliding) else None,
        sliding=sliding,
        ropes=(_rope_parameters(config, False), _rope_parameters(config, gemma)),
    )


def _require_plain(config: PretrainedConfig) -> None:
    """Refuse variants that change the computation and are rare enough for the slow path."""
    activation = getattr(config, "hidden_activation", None) or getattr(config, "hidden_act", None)
    if activation not in ACTIVATIONS:
        raise Unsupported(f"its activation {activation} is not streamed")
    if getattr(config, "quantization_config", None):
        raise Unsupported("its weights are quantised")
    if getattr(config, "use_bidirectional_attention", False):
        raise Unsupported("its attention is bidirectional")
    if getattr(config, "attn_logit_softcapping", None):
        raise Unsupported("its attention scores are soft-capped")
    for rope in (_rope_parameters(config, False), _rope_parameters(config, True)):
        if rope["rope_type"] not in ROPE_TYPES:
            raise Unsupported(f"its rotary embedding of type {rope['rope_type']} is not streamed")
        if rope.get("partial_rotary_factor") not in (None, 1.0):
            raise Unsupported("its rotary embedding covers only a part of each head")


def _sliding_layers(config: PretrainedConfig, kind: str) -> tuple[bool, ...]:
    depth = int(config.num_hidden_layers)
    window = getattr(config, "sliding_window", None)
    types = getattr(config, "layer_types", None)
    if kind == "llama" or window is None:
        return (False,) * depth
    if kind == "mistral":
        return (True,) * depth
    if types is not None:
        return tuple(name == "sliding_attention" for name in types)
    # Before transformers 4.53 the configuration held the rule, not the list that it gives.
    if kind == "gemma3":
        return tuple((i + 1) % config.sliding_window_pattern != 0 for i in range(depth))
    return tuple(bool(config.use_sliding_window) and i >= config.max_window_layers for i in range(depth))


def _rope_parameters(config: PretrainedConfig, local: bool) -> dict[str, Any]:
    """Return the rotary embedding's parameters; ``local``: those of Gemma 3's sliding layers."""
    found = getattr(config, "rope_parameters", None)  # transformers 5
    if found:
        found = found.get("sliding_attention" if local else "full_attention") or found
        return {**found, "rope_type": found.get("rope_type", "default")}
    if local and hasattr(config, "rope_local_base_freq"):
        return {"rope_type": "default", "rope_theta": config.rope_local_base_freq}
    scaling = getattr(config, "rope_scaling", None) or {}
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    partial = getattr(config, "partial_rotary_factor", None)
    return {**scaling, "rope_type": kind, "rope_theta": config.rope_theta, "partial_rotary_factor": partial}


def inverse_frequencies(rope: dict[str, Any], head_dim: int) -> torch.Tensor:
    """Return the rotary embedding's inverse frequencies; float32, shape (head_dim / 2,).

    Rotary embeddings: arXiv 2104.09864; ``llama3`` is the frequency-dependent stretching of
    Llama 3.1, which leaves short waves alone and slows long ones by ``factor``.
    """
    exponents = torch.arange(0, head_dim, 2, dtype=torch.int64).float() / head_dim
    inverse = 1.0 / (rope["rope_theta"] ** exponents)
    if rope["rope_type"] == "linear":
        return inverse / rope["factor"]
    if rope["rope_type"] == "llama3":
        low, high = rope["low_freq_factor"], rope["high_freq_factor"]
        context, factor = rope["original_max_position_embeddings"], rope["factor"]
        wavelength = 2 * math.pi / inverse
        smooth = (context / wavelength - low) / (high - low)
        blended = (1 - smooth) * inverse / factor + smooth * inverse
        slowed = torch.where(wavelength > context / low, inverse / factor, inverse)
        medium = (wavelength >= context / high) & (wavelength <= context / low)
        return torch.where(medium, blended, slowed)
    return inverse


# --- weights on disk -----------------------------------------------------------------------------


@dataclass
class Layer:
    """One decoder layer's weights, as they are multiplied: q, k and v in one, gate and up in one.

    Projections are of shape (outputs, inputs). ``after_attention`` and ``after_mlp`` are the norms
    that only Gemma 3 has. A norm's weight is float32 if it is Gemma's (1 + w), which is applied
    before the result is rounded to the computing dtype, and of that dtype otherwise.
    """

    before_attention: torch.Tensor
    before_mlp: torch.Tensor
    qkv: torch.Tensor
    output: torch.Tensor
    gate_up: torch.Tensor
    down: torch.Tensor
    inverse_frequencies: torch.Tensor
    window: int | None = None
    qkv_bias: torch.Tensor | None = None
    output_bias: torch.Tensor | None = None
    gate_up_bias: torch.Tensor | None = None
    down_bias: torch.Tensor | None = None
    query_norm: torch.Tensor | None = None
    key_norm: torch.Tensor | None = None
    after_attention: torch.Tensor | None = None
    after_mlp: torch.Tensor | None = None

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield the names and values of the tensors that this layer has."""
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, torch.Tensor):
                yield field.name, value

    def moved(self, move: Callable[[torch.Tensor], torch.Tensor]) -> Layer:
        """Return a layer with ``move`` applied to each tensor."""
        return Layer(window=self.window, **{name: move(value) for name, value in self.tensors()})

    @cached_property
    def group_sizes(self) -> tuple[int, int]:
        """The widths of the queries and of the keys in ``qkv``."""
        queries = self.output.shape[1]
        return queries, (self.qkv.shape[0] - queries) // 2

    @cached_property
    def lone_output(self) -> torch.Tensor:
        """The output projection for values that all heads of a group share; (hidden, key width).

        A lone position attends to itself alone, so each of the heads of a group hands on the same
        value, and their columns of the projection can be added up beforehand.
        """
        hidden, head_dim = len(self.output), 2 * len(self.inverse_frequencies)
        split = self.output.view(hidden, self.group_sizes[1] // head_dim, -1, head_dim)
        return split.sum(2, dtype=torch.float32).to(self.output.dtype).reshape(hidden, -1)


class Weights:
    """Reads a teacher's tensors from its safetensors files, each when it is asked for.

    A file is mapped only while something is read from it: pages of a mapping that stays open count
    as this process's memory, and in the end that would be the whole model.
    """

    def __init__(self, teacher: Teacher) -> None:
        """Find where each tensor is.

        :raises Unsupported: if the teacher is none that can be streamed.
        :raises PipelineError: if a file is missing or damaged.
        """
        if teacher.gguf:
            raise Unsupported("its weights are in GGUF form")
        if not teacher.is_causal:
            raise Unsupported("it is an encoder")
        self.name = teacher.name
        self.shape = architecture(teacher.config)
        self._files = self._find(teacher)
        first = "layers.0.input_layernorm.weight"
        roots = [root for root in ROOTS if root + first in self._files]
        if len(roots) != 1:
            raise Unsupported("its weights have names that are not known here")
        self._root = roots[0]

    def _find(self, teacher: Teacher) -> dict[str, Path]:
        """Return tensor name -> file: by the index if there is one, else by looking into the files.

        The index comes first because some models carry a second copy of their weights under other
        names beside the indexed shards.
        """
        index = teacher.folder / "model.safetensors.index.json"
        if index.is_file():
            names = read_json(index).get("weight_map", {})
            files = {name: teacher.folder / file for name, file in names.items()}
            for path in sorted(set(files.values())):
                if not path.is_file():
                    raise PipelineError(f"teacher {self.name}: {path.name} is missing; download the teacher again")
            return files
        single = teacher.folder / "model.safetensors"
        found = {}
        for path in [single] if single.is_file() else teacher.weight_files:
            with self._open(path) as file:
                found.update(dict.fromkeys(file.keys(), path))
        return found

    @contextlib.contextmanager
    def _open(self, path: Path) -> Iterator[Any]:
        try:
            with safe_open(path, framework="pt") as file:
                yield file
        except (SafetensorError, OSError) as error:
            raise PipelineError(
                f"teacher {self.name}: {path.name} cannot be read ({error}); it is cut short or damaged: "
                "download it again"
            ) from error

    def _read(self, wanted: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
        """Return the named tensors, mapped and as they are on disk; -1 in a shape stands for any size."""
        missing = [name for name in wanted if self._root + name not in self._files]
        if missing:
            raise PipelineError(f"teacher {self.name}: its weights lack {self._root}{missing[0]}; download it again")
        tensors = {}
        for path in sorted({self._files[self._root + name] for name in wanted}):
            with self._open(path) as file:
                for name in wanted:
                    if self._files[self._root + name] == path:
                        tensors[name] = file.get_tensor(self._root + name)
        for name, shape in wanted.items():
            found = tuple(tensors[name].shape)
            if len(found) != len(shape) or any(e not in (-1, f) for e, f in zip(shape, found, strict=True)):
                raise PipelineError(
                    f"teacher {self.name}: {self._root}{name} is of shape {found}, not {shape} as its config.json says"
                )
        return tensors

    def embedding_table(self) -> torch.Tensor:
        """Return the mapped embedding table; of its dtype on disk, shape (rows, hidden).

        Some tied checkpoints hold it under the name of the head alone.
        """
        name = "embed_tokens.weight"
        if self._root + name in self._files:
            return self._read({name: (-1, self.shape.hidden)})[name]
        path = self._files.get("lm_head.weight")
        if path is None:
            raise PipelineError(f"teacher {self.name}: its weights lack {self._root}{name}; download it again")
        with self._open(path) as file:
            return file.get_tensor("lm_head.weight")

    def final_norm(self, dtype: torch.dtype) -> torch.Tensor:
        """Return the weight of the norm behind the last layer."""
        return self._norm(self._read({"norm.weight": (self.shape.hidden,)})["norm.weight"], dtype)

    def _norm(self, weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        return 1.0 + weight.float() if self.shape.gemma else weight.to(dtype, copy=True)

    def layer(self, index: int, dtype: torch.dtype) -> Layer:
        """Read a layer into memory, in ``dtype``.

        :raises PipelineError: if a tensor is missing, of the wrong shape or unreadable.
        """
        shape = self.shape
        prefix = f"layers.{index}."
        read = self._read({prefix + name: size for name, size in _layer_tensors(shape).items()})

        def weight(module: str, *names: str) -> torch.Tensor:
            return _fused([read[f"{prefix}{module}.{name}.weight"] for name in names], dtype)

        def bias(there: bool, module: str, *names: str) -> torch.Tensor | None:
            return _fused([read[f"{prefix}{module}.{name}.bias"] for name in names], dtype) if there else None

        def norm(name: str) -> torch.Tensor:
            return self._norm(read[f"{prefix}{name}.weight"], dtype)

        sliding = shape.sliding[index]
        return Layer(
            before_attention=norm("input_layernorm"),
            before_mlp=norm("pre_feedforward_layernorm" if shape.gemma else "post_attention_layernorm"),
            qkv=weight("self_attn", "q_proj", "k_proj", "v_proj"),
            output=weight("self_attn", "o_proj"),
            gate_up=weight("mlp", "gate_proj", "up_proj"),
            down=weight("mlp", "down_proj"),
            inverse_frequencies=inverse_frequencies(shape.ropes[sliding], shape.head_dim),
            window=shape.window if sliding else None,
            qkv_bias=bias(shape.qkv_bias, "self_attn", "q_proj", "k_proj", "v_proj"),
            output_bias=bias(shape.output_bias, "self_attn", "o_proj"),
            gate_up_bias=bias(shape.mlp_bias, "mlp", "gate_proj", "up_proj"),
            down_bias=bias(shape.mlp_bias, "mlp", "down_proj"),
            query_norm=norm("self_attn.q_norm") if shape.qk_norm else None,
            key_norm=norm("self_attn.k_norm") if shape.qk_norm else None,
            after_attention=norm("post_attention_layernorm") if shape.gemma else None,
            after_mlp=norm("post_feedforward_layernorm") if shape.gemma else None,
        )


def _fused(parts: list[torch.Tensor], dtype: torch.dtype) -> torch.Tensor:
    """Stack tensors in a new one of ``dtype``, each copied straight to its place."""
    whole = torch.empty(sum(len(part) for part in parts), *parts[0].shape[1:], dtype=dtype)
    start = 0
    for part in parts:
        whole[start : start + len(part)].copy_(part)
        start += len(part)
    return whole


def _layer_tensors(shape: Architecture) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of each tensor that a layer must have."""
    hidden, inner, query, key = shape.hidden, shape.intermediate, shape.query_width, shape.key_width
    sizes: dict[str, tuple[int, ...]] = {
        "self_attn.q_proj.weight": (query, hidden),
        "self_attn.k_proj.weight": (key, hidden),
        "self_attn.v_proj.weight": (key, hidden),
        "self_attn.o_proj.weight": (hidden, query),
        "mlp.gate_proj.weight": (inner, hidden),
        "mlp.up_proj.weight": (inner, hidden),
        "mlp.down_proj.weight": (hidden, inner),
        "input_layernorm.weight": (hidden,),
        "post_attention_layernorm.weight": (hidden,),
    }
    if shape.gemma:
        sizes |= {f"{side}_feedforward_layernorm.weight": (hidden,) for side in ("pre", "post")}
    if shape.qk_norm:
        sizes |= {f"self_attn.{which}_norm.weight": (shape.head_dim,) for which in "qk"}
    if shape.qkv_bias:
        sizes |= {"self_attn.q_proj.bias": (query,), "self_attn.k_proj.bias": (key,), "self_attn.v_proj.bias": (key,)}
    if shape.output_bias:
        sizes["self_attn.o_proj.bias"] = (hidden,)
    if shape.mlp_bias:
        sizes |= {"mlp.gate_proj.bias": (inner,), "mlp.up_proj.bias": (inner,), "mlp.down_proj.bias": (hidden,)}
    return sizes


class _Prefetch:
    """Hands out layers in the order given; the next ones are read while the last one computes.

    On CUDA they are copied from pinned memory on a stream of their own, so that neither the disk
    nor the bus holds up the computation.
    """

    def __init__(self, weights: Weights, order: Iterable[int], device: str, dtype: torch.dtype, ahead: int) -> None:
        self._weights, self._device, self._dtype = weights, device, dtype
        self._order = iter(order)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="layers")
        self._queue: deque[Future[tuple[Layer, Any]]] = deque()
        self._stream = torch.cuda.Stream(device) if device.startswith("cuda") else None
        for _ in range(ahead):
            self._submit()

    def _submit(self) -> None:
        index = next(self._order, None)
        if index is not None:
            self._queue.append(self._pool.submit(self._load, index))

    def _load(self, index: int) -> tuple[Layer, Any]:
        layer = self._weights.layer(index, self._dtype)
        if self._stream is None:
            return layer, None
        with torch.cuda.stream(self._stream):
            layer = layer.moved(lambda t: t.pin_memory().to(self._device, non_blocking=True))
            return layer, self._stream.record_event()

    def next(self) -> Layer:
        """Return the next layer, ready to be used on the current stream."""
        layer, copied = self._queue.popleft().result()
        if copied is not None:
            stream = torch.cuda.current_stream(self._device)
            stream.wait_event(copied)
            for _, tensor in layer.tensors():  # its memory must outlive this stream's use of it
                tensor.record_stream(stream)
        self._submit()
        return layer

    def __enter__(self) -> _Prefetch:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


# --- the computation -----------------------------------------------------------------------------


class KeysValues(NamedTuple):
    """The keys (rotated) and values of the shared prefix in one layer; each (positions, kv heads, head dim)."""

    keys: torch.Tensor
    values: torch.Tensor


class _Scratch:
    """One buffer that every batch's widest result is written to, instead of a fresh one each time."""

    def __init__(self) -> None:
        self._buffer: torch.Tensor | None = None

    def get(self, rows: int, width: int, like: torch.Tensor) -> torch.Tensor:
        if self._buffer is None or self._buffer.numel() < rows * width:
            self._buffer = None  # freed before the larger one is made
            self._buffer = torch.empty(rows * width, dtype=like.dtype, device=like.device)
        return self._buffer[: rows * width].view(rows, width)

    def clear(self) -> None:
        self._buffer = None


def _norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Divide by the root mean square in float32 and weigh, rounding where the architecture rounds."""
    wide = x.float()
    wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    return weight * wide.to(x.dtype) if weight.dtype == x.dtype else (wide * weight).to(x.dtype)


def _rotate(x: torch.Tensor, first: int, inverse: torch.Tensor) -> torch.Tensor:
    """Apply the rotary embedding to positions ``first`` on; x: (sequences, positions, ..., head dim)."""
    positions = torch.arange(first, first + x.shape[1], device=x.device, dtype=torch.float32)
    angles = positions[:, None] * inverse
    angles = torch.cat((angles, angles), dim=-1)
    angles = angles.view(1, x.shape[1], *[1] * (x.dim() - 3), x.shape[-1])
    left, right = x.chunk(2, dim=-1)
    return x * angles.cos().to(x.dtype) + torch.cat((-right, left), dim=-1) * angles.sin().to(x.dtype)


def _linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, rows: slice) -> torch.Tensor:
    """Apply some of a projection's rows."""
    return functional.linear(x, weight[rows], None if bias is None else bias[rows])


def _attention(
    layer: Layer,
    shape: Architecture,
    x: torch.Tensor,
    shared: KeysValues | None,
    last_only: bool,
    keep: bool,
) -> tuple[torch.Tensor, KeysValues | None]:
    """Return attention's output for normed states, and the keys and values if they are to be kept.

    :param x: (sequences, positions, hidden), behind the shared prefix.
    :param last_only: compute it for the last position only.
    :return: (sequences, positions or 1, hidden).
    """
    count, positions, _ = x.shape
    query_width, key_width = layer.group_sizes
    if positions == 1 and shared is None and not keep:
        values = _linear(x, layer.qkv, layer.qkv_bias, slice(query_width + key_width, None))
        return functional.linear(values, layer.lone_output, layer.output_bias), None
    if last_only and positions > 1:
        q = _linear(x[:, -1:], layer.qkv, layer.qkv_bias, slice(query_width))
        k, v = _linear(x, layer.qkv, layer.qkv_bias, slice(query_width, None)).split(key_width, dim=-1)
    else:
        sizes = (query_width, key_width, key_width)
        q, k, v = functional.linear(x, layer.qkv, layer.qkv_bias).split(sizes, dim=-1)
    queries, kv = q.shape[1], shape.kv_heads
    q = q.reshape(count, queries, kv, shape.heads // kv, shape.head_dim)
    k, v = (t.reshape(count, positions, kv, shape.head_dim) for t in (k, v))
    if layer.query_norm is not None and layer.key_norm is not None:
        q, k = _norm(q, layer.query_norm, shape.eps), _norm(k, layer.key_norm, shape.eps)
    before = 0 if shared is None else len(shared.keys)
    q = _rotate(q, before + positions - queries, layer.inverse_frequencies)
    k = _rotate(k, before, layer.inverse_frequencies)
    mixed = _mix(q, k, v, shared, shape.scaling, layer.window)
    kept = KeysValues(k[0], v[0]) if keep else None
    return functional.linear(mixed.reshape(count, queries, query_width), layer.output, layer.output_bias), kept


def _mix(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    shared: KeysValues | None,
    scaling: float,
    window: int | None,
) -> torch.Tensor:
    """Return the attention-weighted values; (sequences, queries, kv heads, group, head dim).

    The shared prefix is multiplied as one matrix, never copied for each sequence.
    """
    scores = torch.einsum("ntkgd,nskd->nkgts", q, k)
    before = 0
    if shared is not None:
        before = len(shared.keys)
        scores = torch.cat((torch.einsum("ntkgd,pkd->nkgtp", q, shared.keys), scores), dim=-1)
    scores *= scaling
    queries, total = q.shape[1], before + k.shape[1]
    if queries > 1 or (window is not None and window < total):
        at = torch.arange(total - queries, total, device=q.device)[:, None]
        seen = torch.arange(total, device=q.device)[None]
        hidden = seen > at
        if window is not None:
            hidden |= seen <= at - window
        scores.masked_fill_(hidden, -torch.inf)
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(q.dtype)
    mixed = torch.einsum("nkgts,nskd->ntkgd", weights[..., before:], v)
    if shared is not None:
        mixed = mixed + torch.einsum("nkgtp,pkd->ntkgd", weights[..., :before], shared.values)
    return mixed


def _mlp(layer: Layer, shape: Architecture, x: torch.Tensor, scratch: _Scratch) -> torch.Tensor:
    """Return the gated feed-forward network's output; x: (rows, hidden)."""
    wide = scratch.get(len(x), len(layer.gate_up), x)
    torch.mm(x, layer.gate_up.t(), out=wide)
    if layer.gate_up_bias is not None:
        wide += layer.gate_up_bias
    gate, up = wide.chunk(2, dim=-1)
    if shape.activation == "silu":
        functional.silu(gate, inplace=True)
    else:
        gate.copy_(functional.gelu(gate, approximate="none" if shape.activation == "gelu" else "tanh"))
    return functional.linear(gate.mul_(up), layer.down, layer.down_bias)


def layer_forward(
    layer: Layer,
    shape: Architecture,
    x: torch.Tensor,
    shared: KeysValues | None = None,
    *,
    last_only: bool = False,
    keep: bool = False,
    scratch: _Scratch | None = None,
) -> tuple[torch.Tensor, KeysValues | None]:
    """Take sequences through one decoder layer; ``x`` itself is left as it is.

    :param x: the states before the layer; (sequences, positions, hidden).
    :param shared: what all sequences have before them.
    :param last_only: compute the last position only.
    :param keep: also return the keys and values of the first sequence.
    :return: the states after the layer, (sequences, positions or 1, hidden).
    """
    attended, kept = _attention(layer, shape, _norm(x, layer.before_attention, shape.eps), shared, last_only, keep)
    if layer.after_attention is not None:
        attended = _norm(attended, layer.after_attention, shape.eps)
    y = attended.add_(x[:, -1:] if last_only else x)
    normed = _norm(y, layer.before_mlp, shape.eps).view(-1, shape.hidden)
    fed = _mlp(layer, shape, normed, scratch or _Scratch())
    if layer.after_mlp is not None:
        fed = _norm(fed, layer.after_mlp, shape.eps)
    return fed.view_as(y).add_(y), kept


# --- what is computed ----------------------------------------------------------------------------


class Group(NamedTuple):
    """Sequences of one length.

    :ivar rows: their places in the result; shape (sequences,).
    :ivar ids: their token ids; shape (sequences, length).
    """

    rows: np.ndarray
    ids: np.ndarray


def group_by_length(token_ids: np.ndarray | Sequence[Sequence[int]]) -> list[Group]:
    """Sort single tokens (a 1-d array) or lists of token ids into groups of one length, short ones first.

    :raises InputError: if a list is empty.
    """
    if isinstance(token_ids, np.ndarray):
        ids = token_ids.astype(np.int64)[:, None]
        return [Group(np.arange(len(ids)), ids)] if len(ids) else []
    by_length: dict[int, list[int]] = {}
    for row, sequence in enumerate(token_ids):
        by_length.setdefault(len(sequence), []).append(row)
    if 0 in by_length:
        raise InputError(f"item {by_length[0][0]} has no tokens")
    return [
        Group(np.array(rows), np.array([token_ids[row] for row in rows], dtype=np.int64))
        for _, rows in sorted(by_length.items())
    ]


def with_suffix(groups: list[Group], suffix: Sequence[int]) -> list[Group]:
    """Append the suffix's token ids to each sequence."""
    return [
        Group(group.rows, np.hstack([group.ids, np.tile(np.array(suffix, dtype=np.int64), (len(group.ids), 1))]))
        for group in groups
    ]


@dataclass(frozen=True)
class Job:
    """What to compute; the states are read at the last position of each sequence.

    :ivar prefix: the token ids before each sequence.
    :ivar layers: which states, ascending: 0 is the embedding, the architecture's depth the normed last.
    :ivar batch_size: sequences at a time, or None for what suits the device.
    """

    groups: list[Group]
    prefix: tuple[int, ...]
    layers: tuple[int, ...]
    device: str
    dtype: torch.dtype
    batch_size: int | None = None

    @property
    def tokens(self) -> int:
        """The number of sequences, which is that of the result's rows."""
        return sum(len(group.rows) for group in self.groups)

    @property
    def positions(self) -> int:
        """The number of positions that go through the layers, the prefix not counted."""
        return sum(group.ids.size for group in self.groups)

    def batch(self, shape: Architecture, positions: int) -> int:
        """Return how many sequences of this many positions to compute at a time.

        Never measured: a run that goes on from a checkpoint must cut the same batches, because the
        size of a matrix product can change the last bit of its result.
        """
        if self.batch_size is not None:
            return self.batch_size
        rows = CUDA_ROWS
        if not self.device.startswith("cuda"):
            wide = 2 * shape.intermediate * self.dtype.itemsize
            rows = min(CPU_ROWS, max(256, CPU_SCRATCH_BYTES // wide // 256 * 256))
        return max(1, rows // positions)

    def waves(self, shape: Architecture) -> list[list[Group]]:
        """Cut the groups into waves whose states take at most ``WAVE_BYTES``."""
        room = max(1, WAVE_BYTES // (shape.hidden * self.dtype.itemsize))
        waves: list[list[Group]] = []
        left = 0
        for group in self.groups:
            start, length = 0, group.ids.shape[1]
            while start < len(group.rows):
                if left < length:
                    waves.append([])
                    left = max(room, length)
                take = min(left // length, len(group.rows) - start)
                waves[-1].append(Group(group.rows[start : start + take], group.ids[start : start + take]))
                left -= take * length
                start += take
        return waves


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
    depth = job.layers[-1]
    waves = job.waves(shape)
    state_bytes = max((sum(g.ids.size for g in wave) for wave in waves), default=0) * shape.hidden * size
    kept = job.tokens * shape.hidden * 4
    collected = kept * len(job.layers)
    layer_bytes = shape.layer_parameters * size
    longest = max((group.ids.shape[1] for group in job.groups), default=1)
    batch = min(job.batch(shape, longest), max(1, job.tokens)) * longest
    scratch = batch * (2 * shape.intermediate + 6 * shape.hidden) * size
    reused = kept if _in_place(job, waves, checkpoint) else 0
    cuda = job.device.startswith("cuda")
    working = state_bytes + scratch + layer_bytes * (_ahead(job.device, layer_bytes) + 1)
    memory = working if cuda else LIBRARY_BYTES + working + (0 if checkpoint else collected - reused)
    seconds = None
    if depth and job.tokens:
        seconds = _probe(weights, job) * job.positions * depth
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
        scratch = _Scratch()
        if job.prefix:
            shared = layer_forward(layer, shape, x.new_ones(1, len(job.prefix), shape.hidden), keep=True)[1]
        for _ in range(2):
            _synchronise(job.device)
            started = time.perf_counter()
            layer_forward(layer, shape, x, shared, scratch=scratch)
            _synchronise(job.device)
            seconds = time.perf_counter() - started
    return seconds / (count * length)


def _synchronise(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def _ahead(device: str, layer_bytes: int) -> int:
    """Return how many layers to read ahead: on CUDA several, as far as they take a quarter of what is free."""
    if not device.startswith("cuda"):
        return 1
    free, _ = torch.cuda.mem_get_info(device)
    return max(1, min(4, free // 4 // max(1, layer_bytes)))


def _in_place(job: Job, waves: list[list[Group]], checkpoint: bool) -> bool:
    """Whether the states can live in the array that the deepest layer's are returned in."""
    plain = job.dtype == torch.float32 and not job.device.startswith("cuda") and not checkpoint
    return plain and len(waves) == 1 and len(job.groups) == 1 and job.groups[0].ids.shape[1] == 1


# --- results and checkpoints ---------------------------------------------------------------------


class _Results:
    """The wanted layers' states, in memory or, with a checkpoint, in its folder."""

    def __init__(self, job: Job, hidden: int, folder: Path | None) -> None:
        self._folder = folder
        self._shape = (job.tokens, hidden)
        self._layers = job.layers
        self._arrays = {} if folder else {layer: np.empty(self._shape, dtype=np.float32) for layer in job.layers}

    def path(self, layer: int) -> Path:
        """Return the file of a layer, where they are kept in files."""
        return (self._folder or Path()) / f"layer-{layer}.npy"

    @property
    def files(self) -> list[Path]:
        """The files of the layers, if they are kept in files."""
        return [self.path(layer) for layer in self._layers] if self._folder else []

    def create(self) -> None:
        """Make the files, each as long as it will be."""
        rows, hidden = self._shape
        for path in self.files:
            with _writing(path), path.open("wb") as file:
                file.truncate(_write_header(file, np.dtype(np.float32), self._shape) + rows * hidden * 4)

    def array(self, layer: int) -> np.ndarray:
        """Return the array in memory of a layer."""
        return self._arrays[layer]

    def put(self, layer: int, rows: np.ndarray, states: torch.Tensor) -> None:
        """Store states, (sequences, hidden), as float32 in the rows given."""
        values = states.float().cpu().numpy()
        if self._folder is None:
            self._arrays[layer][rows] = values
            return
        # Written, not mapped: a mapping would count as memory, and a full disk would kill the process.
        path, size = self.path(layer), values[:1].nbytes
        values = np.ascontiguousarray(values)
        with _writing(path), path.open("r+b") as file:
            begin = path.stat().st_size - self._shape[0] * size
            cuts = np.flatnonzero(np.diff(rows) != 1) + 1
            for run, block in zip(np.split(rows, cuts), np.split(values, cuts), strict=True):
                file.seek(begin + int(run[0]) * size)
                file.write(_bytes(block))

    def sync(self) -> None:
        """Have everything on the disk."""
        for path in self.files:
            with _writing(path), path.open("r+b") as file:
                os.fsync(file.fileno())

    def arrays(self) -> dict[int, np.ndarray]:
        """Return layer -> states; those on disk are mapped, and changes to them stay in memory."""
        if self._folder is None:
            return self._arrays
        return {layer: np.load(self.path(layer), mmap_mode="c").view(np.ndarray) for layer in self._layers}


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise PipelineError(
            f"cannot write the checkpoint {path.name}: {error.strerror}; free some space and run again, "
            "which goes on from the last layer that was saved"
        ) from error


class Checkpoint:
    """A folder that a run can go on from: the states after a layer, the layers collected, a manifest.

    The manifest is replaced last, in one step, so that at any moment it names files that are whole.
    """

    def __init__(self, folder: Path, key: str) -> None:
        """Use ``folder`` for the run that ``key`` identifies."""
        self.folder, self.key = folder, key
        self._manifest = folder / "manifest.json"
        self._saved = time.perf_counter()
        self._cost = 0.0

    def open(self, results: _Results, resume: bool) -> tuple[int, int, Path | None]:
        """Return the wave and layer to go on from, and the file of the states there (None: the embedding).

        What does not belong to this run or is not whole is discarded, with one line in the log.
        """
        found = self._read(results) if resume else None
        if found is not None:
            return found
        discard_checkpoint(self.folder)
        with _writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        results.create()
        return 0, 0, None

    def _read(self, results: _Results) -> tuple[int, int, Path | None] | None:
        if not self._manifest.exists():
            return None
        try:
            manifest = read_json(self._manifest)
            if manifest["key"] != self.key:
                raise ValueError("it is of another teacher or of other settings")
            for name, size in manifest["files"].items():
                path = self.folder / Path(name).name
                if not path.is_file() or path.stat().st_size != size:
                    raise ValueError(f"{name} is missing or cut short")
            states = manifest["states"]
            place = int(manifest["wave"]), int(manifest["layer"]), self.folder / Path(states).name if states else None
        except (InputError, KeyError, TypeError, ValueError, AttributeError) as error:
            logger.info("checkpoint %s is not used: %s; starting anew", self.folder.name, error)
            return None
        logger.info("going on from checkpoint %s: wave %d, layer %d", self.folder.name, place[0] + 1, place[1])
        return place

    def due(self, size: int) -> bool:
        """Whether enough has been computed since the last save for one of ``size`` bytes to be cheap."""
        cost = self._cost or size / ASSUMED_WRITE_RATE
        return time.perf_counter() - self._saved >= cost / CHECKPOINT_SHARE

    def save(self, results: _Results, wave: int, layer: int, states: Sequence[torch.Tensor] = ()) -> None:
        """Have the run go on from ``layer`` of ``wave`` if it ends now.

        :raises PipelineError: if the disk is full; the last checkpoint stays.
        """
        started = time.perf_counter()
        results.sync()
        path = self.folder / f"states-{wave}-{layer}.npy" if states else None
        if path is not None:
            _write_states(path, states)
        files = results.files + ([path] if path else [])
        manifest = {
            "key": self.key,
            "wave": wave,
            "layer": layer,
            "states": path.name if path else None,
            "files": {file.name: file.stat().st_size for file in files},
        }
        write_json(self._manifest, manifest)
        for old in self.folder.glob("states-*.npy"):
            if old != path:
                old.unlink()
        self._saved = time.perf_counter()
        if states:
            self._cost = self._saved - started


def _bytes(array: np.ndarray) -> memoryview:
    """Return a contiguous array's memory, not a copy of it."""
    return memoryview(array.reshape(-1).view(np.uint8).data)


def _write_header(file: BinaryIO, dtype: np.dtype, shape: tuple[int, ...]) -> int:
    """Start an .npy file and return the header's length."""
    np.lib.format.write_array_header_1_0(file, {"descr": dtype.str, "fortran_order": False, "shape": shape})
    return file.tell()


def _write_states(path: Path, states: Sequence[torch.Tensor]) -> None:
    """Write tensors one after another as one flat .npy file, atomically and without a copy of them in memory."""
    temporary = path.with_suffix(".tmp")
    with _writing(path), temporary.open("wb") as file:
        _write_header(file, _as_numpy(states[0][:0].cpu()).dtype, (sum(tensor.numel() for tensor in states),))
        for tensor in states:
            for part in tensor.split(COPY_ROWS):
                if part.numel():
                    file.write(_bytes(_as_numpy(part.cpu().contiguous())))
        file.flush()
        os.fsync(file.fileno())
        temporary.replace(path)


def _read_states(path: Path, states: Sequence[torch.Tensor]) -> None:
    """Fill tensors from the file that ``_write_states`` made of them."""
    flat = np.load(path, mmap_mode="r", allow_pickle=False)
    start = 0
    for tensor in states:
        for part in tensor.split(COPY_ROWS):
            stop = start + part.numel()
            part.copy_(torch.from_numpy(np.array(flat[start:stop])).view(part.dtype).view_as(part))
            start = stop


def _as_numpy(tensor: torch.Tensor) -> np.ndarray:
    """Return a tensor's memory as numpy sees it; bfloat16, which it lacks, as 16-bit numbers."""
    return (tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


def discard_checkpoint(folder: Path) -> None:
    """Remove a checkpoint's files, and its folder if nothing else is in it."""
    manifest = folder / "manifest.json"
    manifest.unlink(missing_ok=True)  # first: without it the others are nothing
    for pattern in ("states-*.npy", "states-*.tmp", "layer-*.npy", ".manifest.json.*.tmp"):
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def run_key(shape: Architecture, job: Job, weights_hash: str) -> str:
    """Return the SHA-256 over everything that determines a job's bytes, but for the machine itself."""
    digest = hashlib.sha256()
    facts = {
        "code": CODE_VERSION,
        "torch": torch.__version__,
        "weights": weights_hash,
        "architecture": asdict(shape),
        "prefix": list(job.prefix),
        "layers": list(job.layers),
        "device": job.device.split(":")[0],
        "dtype": str(job.dtype),
        "batches": [job.batch(shape, group.ids.shape[1]) for group in job.groups],
        "wave_bytes": WAVE_BYTES,
        "groups": [list(group.ids.shape) for group in job.groups],
    }
    digest.update(json.dumps(facts, sort_keys=True, default=str).encode())
    for group in job.groups:
        digest.update(np.ascontiguousarray(group.rows, dtype=np.int64).tobytes())
        digest.update(np.ascontiguousarray(group.ids).tobytes())
    return digest.hexdigest()


def require_space(folder: Path, needed: int) -> None:
    """Check that ``needed`` bytes fit beside what is there, counting what the folder's own files will give back.

    :raises PipelineError: if they do not.
    """
    there = folder
    while not there.exists():
        there = there.parent
    own = sum(p.stat().st_size for pattern in ("states-*", "layer-*.npy") for p in folder.glob(pattern))
    free = shutil.disk_usage(there).free + own
    if free < needed:
        raise PipelineError(
            f"checkpoints need {needed:,} bytes ({needed / 1e9:.1f} GB) of disk and {free:,} are free: free some "
            "space, choose another folder, or run without checkpoints"
        )


# --- the run -------------------------------------------------------------------------------------


class _Wave:
    """The states of some groups, and of the prefix, on their way through the layers."""

    def __init__(self, run: Run, groups: list[Group], room: np.ndarray | None) -> None:
        """Embed the groups' tokens; ``room`` is memory to use for the states of a single group."""
        self.groups = groups
        shape, dtype = run.weights.shape, run.job.dtype
        device = run.state_device(sum(group.ids.size for group in groups))
        self.states = [
            torch.from_numpy(room).view(*group.ids.shape, shape.hidden)
            if room is not None
            else torch.empty(*group.ids.shape, shape.hidden, dtype=dtype, device=device)
            for group in groups
        ]
        self.prefix = torch.empty(1, len(run.job.prefix), shape.hidden, dtype=dtype, device=run.job.device)

    def tensors(self) -> list[torch.Tensor]:
        """Return everything that the next layer needs."""
        return [self.prefix[0], *(states.view(-1, states.shape[-1]) for states in self.states)]

    @property
    def bytes(self) -> int:
        """The size of it all."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors())


class Run:
    """One job on its way; see :func:`stream`."""

    def __init__(self, weights: Weights, job: Job, checkpoint: Checkpoint | None, resume: bool) -> None:
        """Prepare the results and find out where to start."""
        self.weights, self.job, self.checkpoint = weights, job, checkpoint
        self.waves = job.waves(weights.shape)
        self.depth = job.layers[-1]
        self.results = _Results(job, weights.shape.hidden, checkpoint.folder if checkpoint else None)
        self.batch_limit: int | None = None
        self.scratch = _Scratch()
        self.advance: Callable[[int], None] = lambda steps: None
        self.start: tuple[int, int, Path | None] = (0, 0, None)
        if checkpoint is not None:
            self.start = checkpoint.open(self.results, resume)

    def state_device(self, positions: int) -> str:
        """Return where the states live: on the GPU while they take under half of what is free."""
        if not self.job.device.startswith("cuda"):
            return "cpu"
        free, _ = torch.cuda.mem_get_info(self.job.device)
        fits = positions * self.weights.shape.hidden * self.job.dtype.itemsize < free // 2
        if not fits:
            logger.info("the states do not fit on the GPU: they stay in memory and are moved batch by batch")
        return self.job.device if fits else "cpu"

    def all(self) -> None:
        """Compute everything that is not there yet."""
        first_wave, first_layer, saved = self.start
        order = [
            layer
            for number in range(first_wave, len(self.waves))
            for layer in range(first_layer if number == first_wave else 0, self.depth)
        ]
        done = [len(g.rows) for wave in self.waves[:first_wave] for g in wave]
        already = sum(done) * self.depth
        if first_wave < len(self.waves):
            already += sum(len(group.rows) for group in self.waves[first_wave]) * first_layer
        ahead = _ahead(self.job.device, self.weights.shape.layer_parameters * self.job.dtype.itemsize)
        in_place = _in_place(self.job, self.waves, self.checkpoint is not None)
        room = self.results.array(self.depth) if in_place else None
        with (
            torch.inference_mode(),
            progress("token states", self.job.tokens * self.depth) as self.advance,
            _Prefetch(self.weights, order, self.job.device, self.job.dtype, ahead) as layers,
        ):
            self.advance(already)
            for number in range(first_wave, len(self.waves)):
                wave = _Wave(self, self.waves[number], room)
                if number == first_wave and saved is not None:
                    _read_states(saved, wave.tensors())
                    self._layers(number, wave, first_layer, layers)
                else:
                    self._embed(wave)
                    self._layers(number, wave, 0, layers)
                del wave  # before the next one is made
                if self.checkpoint is not None:
                    self.checkpoint.save(self.results, number + 1, 0)

    def _layers(self, number: int, wave: _Wave, first: int, layers: _Prefetch) -> None:
        for index in range(first, self.depth):
            self._layer(layers, index, wave)
            if self.checkpoint is not None and index + 1 < self.depth and self.checkpoint.due(wave.bytes):
                self.checkpoint.save(self.results, number, index + 1, wave.tensors())

    def _embed(self, wave: _Wave) -> None:
        """Fill the wave with its tokens' embeddings."""
        table = self.weights.embedding_table()
        # As transformers does it: the scale is rounded to the table's dtype before it is applied.
        scale = torch.tensor(self.weights.shape.hidden**0.5).to(self.job.dtype) if self.weights.shape.gemma else None
        ids = [np.array([self.job.prefix], dtype=np.int64), *(group.ids for group in wave.groups)]
        for matrix in ids:
            outside = matrix[(matrix < 0) | (matrix >= len(table))]
            if len(outside):
                raise InputError(
                    f"teacher {self.weights.name}: token {outside[0]} has no embedding "
                    f"(the table has {len(table)} rows)"
                )

        def look_up(matrix: np.ndarray) -> torch.Tensor:
            values = table[torch.from_numpy(matrix)].to(self.job.dtype)
            return values if scale is None else values * scale

        wave.prefix.copy_(look_up(ids[0]))
        broken = 0
        for group, states in zip(wave.groups, wave.states, strict=True):
            for start in range(0, len(group.rows), COPY_ROWS):
                part = slice(start, start + COPY_ROWS)
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
                y = self._batch(layer, states[batch], shared, index + 1 == self.depth)
                if y is None:
                    continue
                if index + 1 < self.depth:
                    states[batch].copy_(y)
                y = y[:, -1:] if norm is None else _norm(y, norm, shape.eps)
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
    run = Run(weights, job, checkpoint, resume)
    if job.tokens:
        run.all()
    return run.results.arrays()
