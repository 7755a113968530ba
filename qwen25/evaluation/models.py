"""Models under evaluation: a SPEC is loaded as an Encoder; the control; the peers of a comparison."""

from __future__ import annotations

import copy
import shlex
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from model2vec import StaticModel

from qwen25.evaluation.matching import Bm25, Cosine, LateInteraction, Matcher
from qwen25.runtime.console import MODEL, command_of, extras_command
from qwen25.runtime.display import quietly
from qwen25.runtime.errors import InputError, as_input_error
from qwen25.runtime.files import read_json, resource, sha256
from qwen25.runtime.text import require_name
from qwen25.store.hub import looks_like_an_id, parent_exists, snapshot
from qwen25.store.packaged import PACKAGED, packaged_path
from qwen25.store.pairs import read_training_texts
from qwen25.store.static_model import (
    FLOAT32_COPY,
    Encode,
    load_model,
    model_folder,
    model_name,
    on_disk,
    refuse_code_and_pickles,
    static_encode,
    weight_files,
)

OURS = "Qwen25-1024D"
PLAIN = "plain recipe"
CONTROL = "random directions"
#: A model is cut to half its dimensions, and scored, if so many are left.
LEAST_DIMS = 128
#: For --help.
SPECS = (
    "the folder or hub id of a static model; or st: a sentence-transformers model, colbert: a late-interaction "
    "model (pylate), model2vec: model2vec's own distillation of a model, made on the spot, each followed by a folder, "
    f"hub id or packaged name ({', '.join(sorted(PACKAGED))}); or wordllama: or bm25"
)
_OTHER = "give another model"
_NAMES = {"bm25": "BM25", "wordllama:": "WordLlama-256", str(MODEL): OURS}


@dataclass(frozen=True)
class Encoder:
    """A model under evaluation.

    :ivar name: its name in reports.
    :ivar kind: ``static``, ``control``, ``sentence-transformers``, ``late interaction``, ``wordllama`` or ``bm25``.
    :ivar matcher: how it compares texts.
    :ivar dims: the width of its vectors, or None.
    :ivar size_bytes: the size of its files of weights and tokenizer, or None.
    :ivar memory_bytes: the memory of its weights once loaded, or None.
    :ivar sha256: of the files of its weights, or None.
    :ivar load_seconds: the time it took to load, without the import of libraries, and from files read before.
    :ivar static: the model2vec model behind it, or None.
    :ivar learnt: the hashes of the texts that it was trained on, where they lie beside it; see ``read_training_texts``.
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
    learnt: np.ndarray | None = None

    @property
    def encode(self) -> Encode:
        """The vectors of texts, not normalised.

        :raises InputError: if the model does not give one vector a text.
        """
        if not isinstance(self.matcher, Cosine):
            raise InputError(f"{self.name} does not give one vector a text")
        return self.matcher.encode


def static_encoder(name: str, model: StaticModel, **facts: Any) -> Encoder:
    """Return the encoder of a static model in memory; ``facts`` are further fields of ``Encoder``."""
    # Weights and mapping are there after vocabulary quantisation only.
    parts = [np.asarray(part) for part in (model.embedding, model.weights, model.token_mapping) if part is not None]
    facts["memory_bytes"] = sum(part.nbytes for part in parts)
    return Encoder(name, "static", Cosine(static_encode(model)), int(model.dim), static=model, **facts)


def random_control(model: Encoder, seed: int) -> Encoder | None:
    """Return a static model's control: the same tokenizer and row norms, but random directions. None for other models.

    All it can do is match tokens, weighted as the model weighs them. How far a model scores above it is what the
    model's directions are worth.
    """
    if model.static is None:
        return None
    table = np.asarray(model.static.embedding, dtype=np.float32)
    noise = np.random.default_rng(seed).standard_normal(table.shape, dtype=np.float32)
    noise *= np.linalg.norm(table, axis=1, keepdims=True) / np.linalg.norm(noise, axis=1, keepdims=True)
    control = copy.copy(model.static)
    control.embedding = noise
    return Encoder(f"random directions ({model.name})", "control", Cosine(static_encode(control)), model.dims)


def first_half(model: Encoder) -> Encoder | None:
    """Return a static model cut to the first half of its dimensions. None for other models, and for small ones."""
    if model.static is None or model.static.dim < 2 * LEAST_DIMS:
        return None
    half = copy.copy(model.static)
    half.embedding = model.static.embedding[:, : model.static.dim // 2]
    return Encoder(f"half of {model.name}", "static", Cosine(static_encode(half)), half.embedding.shape[1])


def load_encoder(spec: str, name: str | None = None, offline: bool = False) -> Encoder:
    """Load the model that ``spec`` names.

    :param spec: see ``SPECS``.
    :param name: its name in reports (None: the model's own).
    :param offline: fetch nothing, neither from the hub nor by pip.
    :raises InputError: if there is no such model or it cannot be loaded.
    :raises PipelineError: if the hub cannot be reached.
    """
    kind, colon, rest = spec.partition(":")
    name = name or own_name(spec)
    if spec == "bm25":
        return Encoder(name, "bm25", Bm25(), None)
    if spec == "wordllama:":
        return _wordllama(name)
    if not colon:
        return _static(_located(spec, offline), name)
    loaders = {"st": _sentence_transformer, "colbert": _late_interaction, "model2vec": _model2vec}
    if kind not in loaders or not rest:
        raise InputError(f"no model {spec!r}: give {SPECS}")
    # For a model of ours, sentence-transformers needs a copy that nobody else does.
    folder = _located(rest, offline, FLOAT32_COPY if kind == "st" else "")
    return loaders[kind](folder, name)


def own_name(spec: str) -> str:
    """Return the name in reports of a model that was given no other."""
    if spec in _NAMES:
        return _NAMES[spec]
    folder = model_folder(spec)
    return model_name(folder) if folder else Path(spec.partition(":")[2] or spec).name


def named_spec(text: str) -> tuple[str, str]:
    """Parse NAME=SPEC, or a SPEC, whose name is the model's own.

    :raises InputError: if the name cannot stand in tables and plots.
    """
    name, equals, spec = text.partition("=")
    if not equals or Path(text).exists():
        name, spec = own_name(text), text
    require_name("the NAME of NAME=SPEC", name)
    return name, spec


def _located(where: str, offline: bool, subfolder: str = "") -> Path:
    """Return the folder of a packaged name, a folder or a hub id."""
    if where in PACKAGED:
        return packaged_path(where, offline)
    folder = Path(where).expanduser()
    if folder.exists() or parent_exists(folder) or not looks_like_an_id(where):
        return folder
    return snapshot(where, offline=offline, subfolder=subfolder)


def _timed(load: Callable[[], Any]) -> tuple[Any, float]:
    """Load a model twice; return the second and its seconds: the first has imported what libraries import late."""
    load()
    started = time.perf_counter()
    return load(), time.perf_counter() - started


def _static(folder: Path, name: str) -> Encoder:
    model, seconds = _timed(lambda: load_model(folder))
    facts = on_disk(folder) | {"learnt": read_training_texts(folder)}
    return static_encoder(name, model, load_seconds=seconds, **facts)


def _model2vec(folder: Path, name: str) -> Encoder:
    """Distil ``folder`` as model2vec does by default; a temporary folder is written to measure size and load time."""
    from model2vec.distill import distill_from_model
    from transformers import AutoModel, AutoTokenizer

    weight_files(folder)  # refuses pickles
    with as_input_error(f"model2vec cannot distil {name}", _OTHER), quietly():
        teacher = AutoModel.from_pretrained(folder, use_safetensors=True, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        model = distill_from_model(teacher, tokenizer, device="cpu")
    with tempfile.TemporaryDirectory() as temporary:
        model.save_pretrained(temporary)
        return _static(Path(temporary), name)


def _sentence_transformer(folder: Path, name: str) -> Encoder:
    from sentence_transformers import SentenceTransformer

    def matcher(model: Any) -> Matcher:
        return Cosine(lambda texts: np.asarray(model.encode(list(texts), show_progress_bar=False)))

    return _loaded_by(SentenceTransformer, matcher, "sentence-transformers", folder, name)


def _late_interaction(folder: Path, name: str) -> Encoder:
    try:
        with quietly():
            from pylate.models import ColBERT
    except ImportError as error:
        raise InputError("late interaction needs pylate", extras_command("pylate")) from error

    def matcher(model: Any) -> Matcher:
        options = {"show_progress_bar": False}
        return LateInteraction(lambda texts, is_query: list(model.encode(list(texts), is_query=is_query, **options)))

    return _loaded_by(ColBERT, matcher, "late interaction", folder, name)


def _loaded_by(library: Any, matcher_of: Callable[[Any], Matcher], kind: str, folder: Path, name: str) -> Encoder:
    """Load a folder as a torch model of ``library``, on the CPU."""
    facts = on_disk(folder)
    refuse_code_and_pickles(folder)
    options: dict[str, Any] = {"device": "cpu", "trust_remote_code": False, "model_kwargs": {"use_safetensors": True}}
    with as_input_error(f"{folder.name} cannot be loaded as a model of {kind}", _OTHER), quietly():
        model, facts["load_seconds"] = _timed(lambda: library(str(folder), **options))
        matcher = matcher_of(model)
        dims = matcher.vectors(["width"]).shape[1]
    facts["memory_bytes"] = sum(tensor.nbytes for tensor in [*model.parameters(), *model.buffers()])
    return Encoder(name, kind, matcher, dims, **facts)


def _wordllama(name: str) -> Encoder:
    """Load WordLlama from its wheel's own files: unless told so, it asks the network for the tokenizer."""
    try:
        import wordllama
    except ImportError as error:
        raise InputError("WordLlama is not installed: pip install wordllama") from error
    package = Path(wordllama.__file__).parent
    with as_input_error("WordLlama's wheel has no usable weights", "pip install wordllama"):
        model, seconds = _timed(lambda: wordllama.WordLlama.load(cache_dir=package, disable_download=True))
        weights = package / "weights" / "l2_supercat_256.safetensors"
        size = weights.stat().st_size + (package / "tokenizers" / "l2_supercat_tokenizer_config.json").stat().st_size
    matcher, table = Cosine(lambda texts: np.asarray(model.embed(list(texts)))), model.embedding
    return Encoder(name, "wordllama", matcher, table.shape[1], size, table.nbytes, sha256([weights]), seconds)


def _pip_command() -> str:
    """Return how to call the pip that installs for this Python."""
    python = Path(sys.executable)
    here = python.relative_to(Path.cwd()) if python.is_relative_to(Path.cwd()) else python
    return f"{shlex.quote(str(here))} -m pip"


_COMMANDS = {"distill": command_of("distill"), "pylate": extras_command("pylate"), "pip": _pip_command()}
#: Name -> SPEC, what it is in a few words, and the command that makes it available, of the systems of the comparison.
PEERS: dict[str, dict[str, str]] = {
    name: peer | {"how": peer["how"].format(**_COMMANDS)}
    for name, peer in read_json(resource("data") / "peers.json").items()
}
#: Name -> what others published of it, with source and protocol; nothing there was measured by this project.
PUBLISHED: dict[str, dict[str, Any]] = read_json(resource("data") / "published_figures.json")
