"""What a training run goes on from: parameters, the optimiser's moments, and the best table so far, in one file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from qwen25.runtime.files import write_bytes
from qwen25.runtime.log import logger

#: Part of a checkpoint's key: raise it with any change that can change a bit of the result.
CODE_VERSION = 1


def run_key(facts: dict[str, Any], arrays: list[Any]) -> str:
    """Return the SHA-256 over everything that determines a training run, but for the machine itself."""
    facts = {**facts, "code": CODE_VERSION, "torch": torch.__version__, "threads": torch.get_num_threads()}
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
    for array in arrays:
        digest.update(memoryview(array).cast("B"))
    return digest.hexdigest()


def save_checkpoint(path: Path, key: str, tensors: dict[str, torch.Tensor], progress: dict[str, Any]) -> None:
    """Write a checkpoint in one step, so that what is there is whole.

    :param progress: what is not a tensor; JSON.
    :raises PipelineError: if it cannot be written.
    """
    metadata = {"key": key, "progress": json.dumps(progress)}
    write_bytes(path, save({name: tensor.contiguous() for name, tensor in tensors.items()}, metadata=metadata))


def load_checkpoint(path: Path, key: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
    """Return the tensors and the progress of a checkpoint of this very run; None if there is none."""
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("key") != key:
                raise ValueError("it is of other pairs, states or settings, or of another number of threads")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, no dictionary
            return tensors, json.loads(metadata["progress"])
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        logger.info("    training starts anew: %s of the checkpoint: %s", path.name, error)
        return None
