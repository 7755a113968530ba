"""A model under evaluation, and the random-direction control of a static one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from model2vec import StaticModel

from qwen25.evaluation.matching import Cosine, Matcher
from qwen25.runtime.errors import InputError
from qwen25.store.static_model import Encode, static_encode


@dataclass(frozen=True)
class Encoder:
    """A model under evaluation.

    :ivar name: what reports call it.
    :ivar kind: ``static``, ``control``, ``sentence-transformers``, ``late interaction``, ``wordllama`` or ``bm25``.
    :ivar matcher: how it compares texts.
    :ivar dims: the width of its vectors, or None.
    :ivar size_bytes: what the model takes on disk (weights and tokenizer), read from its files; None if it has none.
    :ivar memory_bytes: what its weights take once loaded, or None.
    :ivar sha256: of its weights' files, or None.
    :ivar load_seconds: the time it took to load.
    :ivar static: the model2vec model behind it, or None.
    """

    name: str
    kind: str
    matcher: Matcher
    dims: int | None
    size_bytes: int | None = None
    memory_bytes: int | None = None
    sha256: str | None = None
    load_seconds: float = 0.0
    static: StaticModel | None = None

    @property
    def encode(self) -> Encode:
        """The vectors of texts, not normalised.

        :raises InputError: if a text has more than one vector, or none.
        """
        if not isinstance(self.matcher, Cosine):
            raise InputError(f"{self.name} does not give one vector a text")
        return self.matcher.encode


def static_encoder(name: str, model: StaticModel, **facts: Any) -> Encoder:
    """Return a model that is in memory, for evaluation; ``facts`` are further fields of ``Encoder``."""
    # float16 keeps its own size; weights and mapping are there after vocabulary quantisation only.
    parts = [np.asarray(part) for part in (model.embedding, model.weights, model.token_mapping) if part is not None]
    facts = {"memory_bytes": sum(part.nbytes for part in parts)} | facts
    return Encoder(name, "static", Cosine(static_encode(model)), int(model.dim), static=model, **facts)


def random_control(model: Encoder, seed: int) -> Encoder | None:
    """Return the model's control: same tokenizer, same row norms, random directions.

    All it can do is match tokens, weighted as the model weighs them; what a model scores above it is
    what its directions are worth. None where there is no table to shuffle.
    """
    if model.static is None:
        return None
    static = model.static
    table = np.asarray(static.embedding, dtype=np.float32)
    noise = np.random.default_rng(seed).standard_normal(table.shape, dtype=np.float32)
    noise *= np.linalg.norm(table, axis=1, keepdims=True) / np.linalg.norm(noise, axis=1, keepdims=True)
    control = StaticModel(
        noise,
        static.tokenizer,
        config=static.config,
        normalize=static.normalize,
        weights=static.weights,
        token_mapping=static.token_mapping,
        max_length=static.max_length,
    )
    return Encoder(f"random directions ({model.name})", "control", Cosine(static_encode(control)), model.dims)
