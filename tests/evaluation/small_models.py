"""A static model that no teacher was needed for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from model2vec import StaticModel
from tokenizers import Tokenizer


def write_static_model(folder: Path, tokenizer: Tokenizer) -> Path:
    """Write a static model whose tokens have random directions of their own."""
    table = np.random.default_rng(0).standard_normal((tokenizer.get_vocab_size(), 48), dtype=np.float32)
    StaticModel(table, tokenizer, config={"normalize": True}, normalize=True).save_pretrained(folder)
    return folder
