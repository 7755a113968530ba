"""Where to compute, in which number format, how much at a time, with how many threads."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from threadpoolctl import threadpool_info  # type: ignore[import-untyped] # scikit-learn needs it

from qwen25.runtime.errors import InputError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Computing:
    """How a teacher computes.

    :ivar device: ``cpu`` or a CUDA device.
    :ivar dtype: the number format of weights and of products with them. The whole model computes all in it; a streamed
        one keeps float32 for the rest.
    :ivar batch_size: sequences at a time; None: what suits the device.
    """

    device: str = "cpu"
    dtype: torch.dtype = torch.float32
    batch_size: int | None = None

    def __post_init__(self) -> None:
        """Refuse a batch of nothing.

        :raises InputError: if the batch size is below 1.
        """
        if self.batch_size is not None and self.batch_size < 1:
            raise InputError(f"the batch size must be at least 1, not {self.batch_size}")

    @property
    def on_cuda(self) -> bool:
        """Whether it is computed on a GPU."""
        return self.device.startswith("cuda")


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
    """Turn ``auto`` into bfloat16 on CUDA and float32 on the CPU: what suits a whole model.

    :raises InputError: if the name is not known.
    """
    if name == "auto":
        return torch.bfloat16 if device.startswith("cuda") else torch.float32
    if name not in DTYPES:
        raise InputError(f"unknown dtype {name!r}: use auto, {', '.join(DTYPES)}")
    return DTYPES[name]


def fast_dtype(device: str) -> torch.dtype:
    """Return the fastest number format for what bears bfloat16's rounding: bfloat16, where the device has it built in.

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
