"""What a run will cost."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from qwen25.states.device import format_name
from qwen25.teacher.teacher import Teacher


def weight_counts(teacher: Teacher) -> tuple[int, int]:
    """Return the number of weights of a layer and of the embedding table, nearly, from the configuration."""
    config = teacher.config
    layer = 4 * teacher.hidden_size**2 + 3 * teacher.hidden_size * int(getattr(config, "intermediate_size", 0))
    return layer, int(config.vocab_size) * teacher.hidden_size


#: What Python and the libraries hold before anything is computed.
LIBRARY_BYTES = 450 << 20


def checkpoint_bytes(state: int, kept: int, layers: int) -> int:
    """Return what checkpoints take on disk: two states of all tokens on the way, and one of each layer that is kept.

    :param state: a state of all tokens as it is computed, in bytes.
    :param kept: one as it is kept.
    """
    return 2 * state + layers * kept


@dataclass(frozen=True)
class Plan:
    """What a run will cost; its text is the line to print before the work starts.

    :ivar dtype: the number format of products with weights.
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
    dtype: torch.dtype = torch.float32

    def __str__(self) -> str:
        """Return the one line."""
        how = "layer by layer" if self.streams else f"the whole model ({self.reason})"
        parts = [f"about {_duration(self.seconds)}"] if self.seconds is not None else []
        parts.append(f"{self.memory_bytes / 1e9:.1f} GB of memory")
        if self.disk_bytes:
            parts.append(f"{self.disk_bytes / 1e9:.1f} GB of disk for checkpoints")
        layers = ", ".join(map(str, self.layers))
        where = f"{self.device} in {format_name(self.dtype)}"
        return f"token states: {self.tokens:,} tokens, layers {layers}, {where}, {how}: {', '.join(parts)}"


def pace(teacher: Teacher, estimate: Plan) -> float | None:
    """Return the seconds that a multiply-add takes by a teacher's plan, or None where nothing was timed."""
    work = estimate.tokens * estimate.layers[-1] * weight_counts(teacher)[0]
    return estimate.seconds / work if estimate.seconds and work else None


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
