"""What a decoder layer computes: pure functions of tensors, for the architectures that are streamed.

The layers are computed here rather than by transformers' modules, because a lone token behind a
shared prefix leaves most of attention out: the prefix's keys and values are computed once a layer
for all tokens, and without a prefix the softmax over one position is 1, so that attention is the
value projection. What is computed is exactly Qwen2, Qwen3, Llama, Mistral and Gemma 3 (text).

Only the products with weights are computed in the weights' number format. States, norms and attention stay
float32: a few numbers of a state are a thousand times as large as the others, and bfloat16 would round
what each layer adds to them away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from typing import NamedTuple

import torch
from torch.nn import functional

from qwen25.states.architecture import Architecture


@dataclass
class Layer:
    """One decoder layer's weights, as they are multiplied: q, k and v in one, gate and up in one.

    Projections are of shape (outputs, inputs) and in the computing dtype; norms and biases are float32.
    ``after_attention`` and ``after_mlp`` are the norms that only Gemma 3 has.
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


class KeysValues(NamedTuple):
    """The keys (rotated) and values of the shared prefix in one layer; each (positions, kv heads, head dim)."""

    keys: torch.Tensor
    values: torch.Tensor


class Scratch:
    """One buffer that every batch's widest result is written to, instead of a fresh one each time."""

    def __init__(self) -> None:
        """Start without a buffer."""
        self._buffer: torch.Tensor | None = None

    def get(self, rows: int, width: int, like: torch.Tensor) -> torch.Tensor:
        """Return a part of the buffer, of shape (rows, width) and with what was in it."""
        if self._buffer is None or self._buffer.numel() < rows * width:
            self._buffer = None  # freed before the larger one is made
            self._buffer = torch.empty(rows * width, dtype=like.dtype, device=like.device)
        return self._buffer[: rows * width].view(rows, width)

    def clear(self) -> None:
        """Free the buffer."""
        self._buffer = None


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Divide by the root mean square and weigh, all in float32."""
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


def _rotate(x: torch.Tensor, first: int, inverse: torch.Tensor) -> torch.Tensor:
    """Apply the rotary embedding to positions ``first`` on; x: (sequences, positions, ..., head dim)."""
    positions = torch.arange(first, first + x.shape[1], device=x.device, dtype=torch.float32)
    angles = positions[:, None] * inverse
    angles = torch.cat((angles, angles), dim=-1)
    angles = angles.view(1, x.shape[1], *[1] * (x.dim() - 3), x.shape[-1])
    left, right = x.chunk(2, dim=-1)
    return x * angles.cos() + torch.cat((-right, left), dim=-1) * angles.sin()


def _linear(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, rows: slice = slice(None)
) -> torch.Tensor:
    """Multiply by a projection, or by some of its rows, in its number format; add its bias in float32."""
    product = functional.linear(x.to(weight.dtype), weight[rows]).float()
    return product if bias is None else product.add_(bias[rows])


def _attention(
    layer: Layer,
    architecture: Architecture,
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
        return _linear(values, layer.lone_output, layer.output_bias), None
    if last_only and positions > 1:
        q = _linear(x[:, -1:], layer.qkv, layer.qkv_bias, slice(query_width))
        k, v = _linear(x, layer.qkv, layer.qkv_bias, slice(query_width, None)).split(key_width, dim=-1)
    else:
        sizes = (query_width, key_width, key_width)
        q, k, v = _linear(x, layer.qkv, layer.qkv_bias).split(sizes, dim=-1)
    queries, kv = q.shape[1], architecture.kv_heads
    q = q.reshape(count, queries, kv, architecture.heads // kv, architecture.head_dim)
    k, v = (t.reshape(count, positions, kv, architecture.head_dim) for t in (k, v))
    if layer.query_norm is not None and layer.key_norm is not None:
        q, k = rms_norm(q, layer.query_norm, architecture.eps), rms_norm(k, layer.key_norm, architecture.eps)
    before = 0 if shared is None else len(shared.keys)
    q = _rotate(q, before + positions - queries, layer.inverse_frequencies)
    k = _rotate(k, before, layer.inverse_frequencies)
    mixed = _mix(q, k, v, shared, architecture.scaling, layer.window)
    kept = KeysValues(k[0], v[0]) if keep else None
    return _linear(mixed.reshape(count, queries, query_width), layer.output, layer.output_bias), kept


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
    weights = torch.softmax(scores, dim=-1)
    mixed = torch.einsum("nkgts,nskd->ntkgd", weights[..., before:], v)
    if shared is not None:
        mixed = mixed + torch.einsum("nkgtp,pkd->ntkgd", weights[..., :before], shared.values)
    return mixed


def _mlp(layer: Layer, architecture: Architecture, x: torch.Tensor, scratch: Scratch) -> torch.Tensor:
    """Return the gated feed-forward network's output; x: (rows, hidden)."""
    wide = scratch.get(len(x), len(layer.gate_up), layer.gate_up)
    torch.mm(x.to(wide.dtype), layer.gate_up.t(), out=wide)
    if layer.gate_up_bias is not None:
        wide += layer.gate_up_bias
    gate, up = wide.chunk(2, dim=-1)
    if architecture.activation == "silu":
        functional.silu(gate, inplace=True)
    else:
        gate.copy_(functional.gelu(gate, approximate="none" if architecture.activation == "gelu" else "tanh"))
    return _linear(gate.mul_(up), layer.down, layer.down_bias)


def layer_forward(
    layer: Layer,
    architecture: Architecture,
    x: torch.Tensor,
    shared: KeysValues | None = None,
    *,
    scratch: Scratch,
    last_only: bool = False,
    keep: bool = False,
) -> tuple[torch.Tensor, KeysValues | None]:
    """Take sequences through one decoder layer; ``x`` itself is left as it is.

    :param x: the states before the layer; float32, (sequences, positions, hidden).
    :param shared: what all sequences have before them.
    :param last_only: compute the last position only.
    :param keep: also return the keys and values of the first sequence.
    :return: the states after the layer, float32, (sequences, positions or 1, hidden).
    """
    attended, kept = _attention(
        layer, architecture, rms_norm(x, layer.before_attention, architecture.eps), shared, last_only, keep
    )
    if layer.after_attention is not None:
        attended = rms_norm(attended, layer.after_attention, architecture.eps)
    y = attended.add_(x[:, -1:] if last_only else x)
    normed = rms_norm(y, layer.before_mlp, architecture.eps).view(-1, architecture.hidden)
    fed = _mlp(layer, architecture, normed, scratch)
    if layer.after_mlp is not None:
        fed = rms_norm(fed, layer.after_mlp, architecture.eps)
    return fed.view_as(y).add_(y), kept
