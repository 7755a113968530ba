"""A whole model -> its forms of a size: fewer tokens, fewer dimensions, fewer rows, smaller numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from model2vec import StaticModel
from model2vec.persistence import save_pretrained
from tokenizers import Tokenizer

from qwen25.distillation.row_selection import first_merges, most_used_rows, never_in_text
from qwen25.distillation.row_sharing import share_rows
from qwen25.distillation.settings import PRESETS
from qwen25.distillation.token_use import token_use
from qwen25.distillation.vocabulary import Vocabulary
from qwen25.runtime.errors import InputError
from qwen25.runtime.files import read_json, sha256
from qwen25.store.quantisation import Stored, quantise, rows_within
from qwen25.store.static_model import load_model

TINY_DIMS = PRESETS["tiny"]["dims"]


class Form(NamedTuple):
    """How a model is made to fit.

    :ivar label: what documents call it.
    :ivar fewer: what there is less of: tokens (the first merges, or those most used), rows or dimensions.
    :ivar storage: its number format.
    :ivar dims: its dimensions at most; None: the whole model's.
    """

    label: str
    fewer: Literal["merges", "tokens", "rows", "dims"]
    storage: str
    dims: int | None = None


#: The product's own form, with which the others of the same size are compared; and that of its tiny preset.
DEFAULT, TINY = "shared_int8", "shared_tiny"
FORMS = {
    "merges_float16": Form("first merges, float16", "merges", "float16"),
    "use_float16": Form("by use, float16", "tokens", "float16"),
    "use_int8": Form("by use, int8", "tokens", "int8"),
    "use_512": Form("by use, 512 dims, int8", "tokens", "int8", 512),
    DEFAULT: Form("shared rows, int8", "rows", "int8"),
    "shared_512": Form("shared rows, 512 dims, int8", "rows", "int8", 512),
    TINY: Form(f"shared rows, {TINY_DIMS} dims, int8", "rows", "int8", TINY_DIMS),
    "dims_int8": Form("all tokens, fewer dimensions, int8", "dims", "int8"),
}


@dataclass(frozen=True)
class Whole:
    """A saved model with all tokens.

    :ivar vectors: float32, shape (tokens, dims).
    :ivar use: how much text needs each token; shape (tokens,).
    :ivar facts: what the result says of it.
    """

    name: str
    vectors: np.ndarray
    vocabulary: Vocabulary
    use: np.ndarray
    facts: dict[str, Any]


class Made(NamedTuple):
    """A model of one form."""

    stored: Stored
    tokenizer: Tokenizer

    @property
    def tokens(self) -> int:
        """How many tokens it has."""
        return len(self.stored.table if self.stored.row_of is None else self.stored.row_of)

    def model(self) -> StaticModel:
        """Return it as model2vec runs it; float16 is widened, which changes no value and saves time."""
        table = self.stored.table
        table = table.astype(np.float32) if table.dtype == np.float16 else table
        weights, row_of = self.stored.weights, self.stored.row_of
        return StaticModel(
            table, self.tokenizer, normalize=True, weights=weights, token_mapping=row_of, max_length=None
        )

    def save(self, folder: Path) -> None:
        """Write it as model2vec reads it."""
        config: Any = {"model_type": "model2vec", "normalize": True, "max_length": None}
        table, weights, row_of = self.stored
        save_pretrained(folder, table, self.tokenizer, config, create_model_card=False, weights=weights, mapping=row_of)


def read_whole(name: str, folder: Path) -> Whole:
    """Read a model with all of its tokens, trained or not.

    :raises InputError: if there is none, or it was cut or rounded to int8 already.
    """
    model = load_model(folder)
    metadata = read_json(folder / "metadata.json")
    table = np.asarray(model.embedding)
    if metadata["vocabulary"]["max_size_mb"] is not None or table.dtype == np.int8:
        raise InputError(f"{folder} is no whole model: distil it with --max-size-mb none --storage float16")
    vocabulary = Vocabulary(model.tokenizer, np.arange(len(table)))
    use = token_use(model.tokenizer)
    use[list(never_in_text(model.tokenizer))] = 0
    facts = {
        "teacher": metadata["teacher"]["name"],
        "weights_sha256": metadata["teacher"]["weights_sha256"],
        "model_sha256": sha256([folder / "model.safetensors"]),
        "pairs": sum(one["rows"] for one in metadata["training"]["sets"]) if metadata["training"] else 0,
        "sentence_vectors": metadata["sentence_vectors"],
        "tokens": len(table),
        "dims": table.shape[1],
    }
    return Whole(name, table.astype(np.float32), vocabulary, use, facts)


def make(whole: Whole, form: Form, budget_mb: float) -> Made:
    """Return a model in a form, as large as the size allows (10^6 bytes)."""
    tokens, dims = whole.vectors.shape
    dims = min(dims, form.dims or dims)
    if form.fewer == "dims":
        dims = min(dims, dims_within(budget_mb, tokens, form.storage))
        return Made(quantise(whole.vectors[:, :dims], form.storage), whole.vocabulary.tokenizer)
    rows = rows_within(budget_mb, dims, form.storage)
    vectors, tokenizer, sharing = whole.vectors[:, :dims], whole.vocabulary.tokenizer, None
    if rows < tokens:
        if form.fewer == "rows":
            sharing = share_rows(vectors, whole.use, rows_within(budget_mb, dims, form.storage, shared_by=tokens))
        else:
            by_order = form.fewer == "merges"
            vocabulary = whole.vocabulary
            kept = first_merges(vocabulary, rows) if by_order else most_used_rows(vocabulary, whole.use, rows)
            vectors, tokenizer = vectors[kept.teacher_ids], kept.tokenizer
    return Made(quantise(vectors, form.storage, sharing), tokenizer)


def dims_within(size_mb: float, tokens: int, storage: str) -> int:
    """Return the most dimensions of ``tokens`` rows that fit into a model file of ``size_mb`` (10^6 bytes)."""
    low, high = 0, 1 << 20
    while low < high:  # rows_within knows what a row takes
        middle = (low + high + 1) // 2
        low, high = (middle, high) if rows_within(size_mb, middle, storage) >= tokens else (low, middle - 1)
    return low
