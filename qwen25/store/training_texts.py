"""Which texts a model learnt from: a sample of their hashes beside it, so that a file that taught it is recognised."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from qwen25.runtime.errors import as_input_error
from qwen25.store.pairs import normalised

#: In a folder of its own: what lies beside the weights would be read as weights.
TRAINING_TEXTS = "training_texts/hashes.safetensors"
#: Hashes kept, the smallest: 8 bytes each. Which texts they stand for is chance, but the same for every file.
MOST = 100_000


def hashes_of(texts: Iterable[str]) -> np.ndarray:
    """Return the hashes of the normalised texts, ascending, each once: 8 bytes of SHA-256; uint64, shape (texts,)."""
    digests = b"".join(hashlib.sha256(normalised(text).encode()).digest()[:8] for text in texts)
    return np.unique(np.frombuffer(digests, dtype="<u8").astype(np.uint64))


def write_training_texts(folder: Path, texts: Iterable[str]) -> None:
    """Write the smallest hashes of the texts that the model in ``folder`` was trained on."""
    (folder / TRAINING_TEXTS).parent.mkdir(exist_ok=True)
    save_file({"hashes": hashes_of(texts)[:MOST]}, folder / TRAINING_TEXTS)
    (folder / TRAINING_TEXTS).chmod(0o644)  # safetensors makes it readable by its owner alone


def read_training_texts(folder: Path) -> np.ndarray | None:
    """Return the hashes that lie beside a model, ascending; None: it says nothing of its training.

    :raises InputError: if they cannot be read.
    """
    path = folder / TRAINING_TEXTS
    if not path.is_file():
        return None
    with as_input_error(f"{path} holds no hashes", "distil the model again, or remove the file"):
        return np.sort(load_file(path)["hashes"].astype(np.uint64).ravel())


def shared_texts(known: np.ndarray, texts: Iterable[str]) -> tuple[int, int]:
    """Return how many of the texts a model was trained on, and of how many that can be told.

    Where only a sample of the hashes was kept, it can be told of texts whose hash is no larger than the sample's
    largest (a bottom-k sketch, Cohen and Kaplan 2007).

    :param known: what :func:`read_training_texts` returns.
    """
    hashes = hashes_of(texts)
    if len(known) >= MOST:
        hashes = hashes[hashes <= known[-1]]
    return int(np.isin(hashes, known).sum()), len(hashes)
