"""A decoder's configuration -> its architecture: all that decides what it computes besides its weights."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from qwen25.runtime.errors import InputError, first_line

if TYPE_CHECKING:
    from transformers import PretrainedConfig

ROPE_TYPES = ("default", "linear", "llama3")
ACTIVATIONS = ("silu", "gelu_pytorch_tanh", "gelu")


class Unsupported(Exception):
    """A teacher that cannot be streamed; the message is the reason, as part of a sentence."""


@dataclass(frozen=True)
class Architecture:
    """All that decides what a decoder computes besides its weights.

    :ivar windows: for each layer, how many positions it sees, its own included; None for all.
    :ivar ropes: the rotary embedding's parameters of the layers without a window and of those with one.
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
    windows: tuple[int | None, ...]
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


def architecture_of(name: str, config: Any) -> Architecture:
    """Return the architecture of the teacher ``name`` from its configuration.

    :raises Unsupported: if it cannot be streamed.
    :raises InputError: if its configuration makes no sense.
    """
    try:
        return _architecture(config)
    except (ArithmeticError, AttributeError, TypeError, ValueError) as error:
        raise InputError(
            f"teacher {name}: its configuration describes no model ({first_line(error)}); download it again"
        ) from error


def _architecture(config: PretrainedConfig) -> Architecture:
    """Read an architecture from a configuration, in any of the forms of transformers 4.50 to 5.

    :raises Unsupported: if it is not one of those computed here.
    """
    kind = str(config.model_type).removesuffix("_text")
    if kind not in {"qwen2", "qwen3", "llama", "mistral", "gemma3"}:
        raise Unsupported(f"{config.model_type} is none of the architectures that are streamed")
    gemma = kind == "gemma3"
    ropes = (_rope_parameters(config, False), _rope_parameters(config, gemma))
    _require_plain(config, ropes)
    attention_bias = bool(getattr(config, "attention_bias", False))
    head_dim = int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)
    if head_dim % 2:
        raise ValueError(f"its heads of {head_dim} numbers cannot be turned in pairs, as rotary embeddings do")
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
        windows=_windows(config, kind),
        ropes=ropes,
    )


def _require_plain(config: PretrainedConfig, ropes: Iterable[dict[str, Any]]) -> None:
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
    for rope in ropes:
        if rope["rope_type"] not in ROPE_TYPES:
            raise Unsupported(f"its rotary embedding of type {rope['rope_type']} is not streamed")
        if rope.get("partial_rotary_factor") not in (None, 1.0):
            raise Unsupported("its rotary embedding covers only a part of each head")


def _windows(config: PretrainedConfig, kind: str) -> tuple[int | None, ...]:
    """Return how many positions each layer sees; None for all."""
    depth = int(config.num_hidden_layers)
    window = getattr(config, "sliding_window", None)
    types = getattr(config, "layer_types", None)
    if kind == "llama" or window is None:
        return (None,) * depth
    if kind == "mistral":
        sliding = [True] * depth
    elif types is not None:
        sliding = [name == "sliding_attention" for name in types]
    # Before transformers 4.53 the configuration held the rule, not the list that it gives.
    elif kind == "gemma3":
        sliding = [(i + 1) % config.sliding_window_pattern != 0 for i in range(depth)]
    else:
        sliding = [bool(config.use_sliding_window) and i >= config.max_window_layers for i in range(depth)]
    return tuple(int(window) if slides else None for slides in sliding)


def _rope_parameters(config: PretrainedConfig, local: bool) -> dict[str, Any]:
    """Return the rotary embedding's parameters; ``local``: those of Gemma 3's layers with a window."""
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
