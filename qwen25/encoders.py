"""Whatever turns texts into vectors: static models, their controls and the peers they are measured against."""

from __future__ import annotations

import contextlib
import io
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from model2vec import StaticModel
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from qwen25.artifact import load_model
from qwen25.console import InputError
from qwen25.provenance import sha256

#: Texts -> one vector a text; shape (texts, dims).
Encode = Callable[[Sequence[str]], np.ndarray]


@dataclass(frozen=True)
class Encoder:
    """A model under evaluation.

    :ivar name: what reports call it.
    :ivar kind: ``static``, ``control``, ``sentence-transformers`` or ``wordllama``.
    :ivar encode: the vectors of texts, not normalised.
    :ivar dims: their width.
    :ivar size_bytes: what the model takes on disk (weights and tokenizer), read from its files; None if it has none.
    :ivar sha256: of its weights' files, or None.
    :ivar load_seconds: the time it took to load.
    :ivar static: the model2vec model behind it, or None.
    """

    name: str
    kind: str
    encode: Encode
    dims: int
    size_bytes: int | None
    sha256: str | None
    load_seconds: float
    static: StaticModel | None = None


def load_encoder(spec: str, name: str | None = None) -> Encoder:
    """Load the model that ``spec`` names.

    :param spec: a folder or hub id of a static model, ``st:`` + a sentence-transformers model, or ``wordllama:``.
    :param name: what reports call it; the spec's last part if not given.
    :raises InputError: if it cannot be loaded.
    """
    kind, _, rest = spec.partition(":")
    started = time.perf_counter()
    if kind == "st":
        return _sentence_transformer(rest, name or Path(rest).name, started)
    if kind == "wordllama":
        return _wordllama(name or "WordLlama-256", started)
    model = load_model(spec)
    seconds = time.perf_counter() - started
    folder = Path(spec)
    files = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    sized = [*files, *folder.glob("tokenizer.json")]
    return Encoder(
        name=name or folder.resolve().name,
        kind="static",
        encode=static_encode(model),
        dims=int(model.dim),
        size_bytes=sum(f.stat().st_size for f in sized) if files else None,
        sha256=sha256(files) if files else None,
        load_seconds=seconds,
        static=model,
    )


def static_encode(model: StaticModel) -> Encode:
    """Return the model's ``encode`` for evaluation: one thread of work, so that timings compare."""
    return lambda texts: model.encode(list(texts), use_multiprocessing=False)


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
    return Encoder(f"random directions ({model.name})", "control", static_encode(control), model.dims, None, None, 0.0)


def _sentence_transformer(path: str, name: str, started: float) -> Encoder:
    try:
        from sentence_transformers import SentenceTransformer

        # Loading draws bars and notes of its own on standard error, even into a log.
        logging.getLogger("sentence_transformers").setLevel(logging.WARNING)
        with contextlib.redirect_stderr(io.StringIO()):
            model = SentenceTransformer(path, device="cpu", trust_remote_code=False)
    except Exception as error:  # many libraries lie behind this call
        raise InputError(f"st:{path} cannot be loaded: {str(error).splitlines()[0]}") from error
    folder = Path(path)
    files = sorted(folder.rglob("*.safetensors")) if folder.is_dir() else []
    return Encoder(
        name=name,
        kind="sentence-transformers",
        encode=lambda texts: np.asarray(model.encode(list(texts), show_progress_bar=False)),
        dims=len(model.encode("width", show_progress_bar=False)),
        size_bytes=sum(f.stat().st_size for f in [*files, *folder.glob("tokenizer.json")]) if files else None,
        sha256=sha256(files) if files else None,
        load_seconds=time.perf_counter() - started,
    )


def _wordllama(name: str, started: float) -> Encoder:
    """Load WordLlama from its wheel's own files; its loader looks for the tokenizer elsewhere and then online."""
    try:
        import wordllama
        from wordllama.inference import WordLlamaInference
    except ImportError as error:
        raise InputError("WordLlama is not installed: pip install wordllama") from error
    package = Path(wordllama.__file__).parent
    weights = package / "weights" / "l2_supercat_256.safetensors"
    tokenizer = package / "tokenizers" / "l2_supercat_tokenizer_config.json"
    try:
        table = load_file(weights)["embedding.weight"]
        model = WordLlamaInference(table.astype(np.float32), Tokenizer.from_file(str(tokenizer)))
    except Exception as error:  # safetensors and tokenizers have no common base
        raise InputError(f"WordLlama's wheel has no usable weights: {error}; pip install wordllama") from error
    return Encoder(
        name=name,
        kind="wordllama",
        encode=lambda texts: np.asarray(model.embed(list(texts))),
        dims=int(table.shape[1]),
        size_bytes=weights.stat().st_size + tokenizer.stat().st_size,
        sha256=sha256([weights]),
        load_seconds=time.perf_counter() - started,
    )
