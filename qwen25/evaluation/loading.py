"""A SPEC -> a model under evaluation: static models and the peers they stand beside."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from qwen25.evaluation.encoder import Encoder, static_encoder
from qwen25.evaluation.matching import Bm25, Cosine, LateInteraction
from qwen25.runtime.errors import InputError, as_input_error
from qwen25.runtime.files import sha256
from qwen25.runtime.invocation import extras_command
from qwen25.store.download import snapshot
from qwen25.store.hub import lies_here, looks_like_an_id
from qwen25.store.model_files import on_disk, refuse_code_and_pickles, weight_files
from qwen25.store.packaged import PACKAGED, packaged_path
from qwen25.store.static_model import FLOAT16_COPY, load_model, model_name

#: For the scripts' --help.
SPECS = (
    "the folder or hub id of a static model; or st: a sentence-transformers model, colbert: a late-interaction "
    "model (pylate), model2vec: model2vec's own distillation of a model, made on the spot, each followed by a folder, "
    f"hub id or packaged name ({', '.join(sorted(PACKAGED))}); or wordllama: or bm25"
)
#: What to do about a model that is of no use.
OTHER = "give another model"


def load_encoder(spec: str, name: str | None = None, offline: bool = False) -> Encoder:
    """Load the model that ``spec`` names.

    :param spec: see ``SPECS``.
    :param name: what reports call it; the spec's last part if not given.
    :param offline: use only what the hub's cache holds.
    :raises InputError: if there is no such model or it cannot be loaded.
    :raises PipelineError: if the hub cannot be reached.
    """
    kind, colon, rest = spec.partition(":")
    if spec == "bm25":
        return Encoder(name or "BM25", "bm25", Bm25(), None)
    if spec == "wordllama:":
        return _wordllama(name or "WordLlama-256")
    if not colon:
        folder = _located(spec, offline)
        is_local = folder == Path(spec).expanduser()
        return _static(folder, name or (model_name(folder) if is_local else Path(spec).name))
    if kind not in _LOADERS or not rest:
        raise InputError(f"no model {spec!r}: give {SPECS}")
    # What sentence-transformers loads of a model of ours is a copy that nobody else needs.
    folder = _located(rest, offline, FLOAT16_COPY if kind == "st" else None)
    return _LOADERS[kind](folder, name or Path(rest).name)


def _located(where: str, offline: bool, subfolder: str | None = None) -> Path:
    """Return the folder of a packaged name, a folder or a hub id."""
    if where in PACKAGED:
        return packaged_path(where, offline)
    folder = Path(where).expanduser()
    if folder.exists() or lies_here(folder) or not looks_like_an_id(where):
        return folder
    return snapshot(where, offline=offline, subfolder=subfolder)


def _static(folder: Path, name: str) -> Encoder:
    started = time.perf_counter()
    model = load_model(folder)
    seconds = time.perf_counter() - started
    return static_encoder(name, model, load_seconds=seconds, **on_disk(folder))


def _model2vec(folder: Path, name: str) -> Encoder:
    """Distil ``folder`` as model2vec does by default, in memory apart from a temporary folder to measure its size."""
    from model2vec.distill import distill_from_model
    from transformers import AutoModel, AutoTokenizer

    weight_files(folder)  # refuses pickles
    with as_input_error(f"model2vec cannot distil {name}", OTHER), _quietly():
        teacher = AutoModel.from_pretrained(folder, use_safetensors=True, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        model = distill_from_model(teacher, tokenizer, device="cpu")
    with tempfile.TemporaryDirectory() as temporary:
        model.save_pretrained(temporary)
        return _static(Path(temporary), name)


def _sentence_transformer(folder: Path, name: str) -> Encoder:
    facts = on_disk(folder)
    refuse_code_and_pickles(folder)
    started = time.perf_counter()
    with as_input_error(f"st:{folder.name} cannot be loaded", OTHER), _quietly():
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(
            str(folder), device="cpu", trust_remote_code=False, model_kwargs={"use_safetensors": True}
        )
        dims = len(model.encode("width", show_progress_bar=False))
    seconds = time.perf_counter() - started
    return Encoder(
        name,
        "sentence-transformers",
        Cosine(lambda texts: np.asarray(model.encode(list(texts), show_progress_bar=False))),
        dims,
        memory_bytes=_weights_in_memory(model),
        load_seconds=seconds,
        **facts,
    )


def _late_interaction(folder: Path, name: str) -> Encoder:
    facts = on_disk(folder)
    refuse_code_and_pickles(folder)
    started = time.perf_counter()
    try:
        with _quietly():
            from pylate.models import ColBERT
    except ImportError as error:
        raise InputError("late interaction needs pylate", extras_command("pylate")) from error
    with as_input_error(f"colbert:{folder.name} cannot be loaded", OTHER), _quietly():
        model = ColBERT(str(folder), device="cpu", trust_remote_code=False, model_kwargs={"use_safetensors": True})
    seconds = time.perf_counter() - started

    def encode(texts: Any, is_query: bool) -> list[np.ndarray]:
        return [np.asarray(t) for t in model.encode(list(texts), is_query=is_query, show_progress_bar=False)]

    matcher = LateInteraction(lambda texts: encode(texts, True), lambda texts: encode(texts, False))
    with as_input_error(f"colbert:{folder.name} cannot encode a text", OTHER):
        dims = matcher.vectors(["width"]).shape[1]
    memory = _weights_in_memory(model)
    return Encoder(name, "late interaction", matcher, dims, memory_bytes=memory, load_seconds=seconds, **facts)


_LOADERS: dict[str, Callable[[Path, str], Encoder]] = {
    "st": _sentence_transformer,
    "colbert": _late_interaction,
    "model2vec": _model2vec,
}


def _wordllama(name: str) -> Encoder:
    """Load WordLlama from its wheel's own files; its loader looks for the tokenizer elsewhere and then online."""
    started = time.perf_counter()
    try:
        import wordllama
        from wordllama.inference import WordLlamaInference
    except ImportError as error:
        raise InputError("WordLlama is not installed: pip install wordllama") from error
    package = Path(wordllama.__file__).parent
    weights = package / "weights" / "l2_supercat_256.safetensors"
    tokenizer = package / "tokenizers" / "l2_supercat_tokenizer_config.json"
    try:
        table = load_file(weights)["embedding.weight"].astype(np.float32)
        model = WordLlamaInference(table, Tokenizer.from_file(str(tokenizer)))
    except Exception as error:  # safetensors and tokenizers have no common base
        raise InputError(f"WordLlama's wheel has no usable weights: {error}; pip install wordllama") from error
    return Encoder(
        name,
        "wordllama",
        Cosine(lambda texts: np.asarray(model.embed(list(texts)))),
        int(table.shape[1]),
        size_bytes=weights.stat().st_size + tokenizer.stat().st_size,
        memory_bytes=table.nbytes,
        sha256=sha256([weights]),
        load_seconds=time.perf_counter() - started,
    )


def _weights_in_memory(model: Any) -> int:
    return sum(tensor.nbytes for tensor in [*model.parameters(), *model.buffers()])


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep what loading draws and notes on standard error out of the terminal and the log."""
    logging.getLogger("sentence_transformers").setLevel(logging.WARNING)
    with contextlib.redirect_stderr(io.StringIO()):
        yield
