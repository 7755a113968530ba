"""The model folder on disk: written, read back as its users do, and refused if it is broken."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from model2vec import StaticModel
from model2vec.persistence import save_pretrained
from safetensors.numpy import save_file
from tokenizers import Tokenizer

from qwen25.runtime.errors import InputError, PipelineError, as_input_error, first_line
from qwen25.runtime.files import read_json, sha256, write_json
from qwen25.runtime.folders import beside
from qwen25.runtime.invocation import command_of
from qwen25.runtime.wording import is_name
from qwen25.store.model_files import no_weights, require_files
from qwen25.store.quantisation import Stored, without

SCHEMA_VERSION = 1


#: Where a model that sentence-transformers cannot hold keeps a copy for it. Not a name that model2vec downloads.
FLOAT16_COPY = "static_embedding_float16"


def write_model(
    folder: Path, stored: Stored, tokenizer: Tokenizer, metadata: dict[str, Any], float16_copy: bool = True
) -> dict[str, Any]:
    """Write a model into a new folder, all but its ``metadata.json`` and ``README.md``.

    An unknown token's vector is written as zero: model2vec leaves such tokens out of the mean, sentence-transformers
    takes them in, and only if they add nothing do both give a text one direction.

    :param stored: the vectors.
    :param metadata: everything about the making of the model.
    :param float16_copy: beside int8 or shared rows, write what sentence-transformers reads; otherwise it cannot
        load the folder.
    :return: the metadata with sizes and hashes.
    :raises PipelineError: if it cannot be written.
    """
    config: Any = {
        "model_type": "model2vec",
        "architectures": ["StaticModel"],
        "tokenizer_name": metadata["teacher"]["name"],
        "apply_pca": stored.table.shape[1],
        "sif_coefficient": metadata["recipe"]["sif"],
        "hidden_dim": stored.table.shape[1],
        "seq_length": 1_000_000,
        "normalize": True,
        # None: texts are never cut, so that model2vec and sentence-transformers agree on long ones.
        "max_length": None,
    }
    if (unknown := unknown_row(tokenizer)) is not None:
        stored = without(stored, unknown)
    try:
        save_pretrained(
            folder,
            stored.table,
            tokenizer,
            config,
            create_model_card=False,
            weights=stored.weights,
            mapping=stored.row_of,
        )
        if stored.weights is not None:
            (folder / "modules.json").unlink()
            if float16_copy:
                _write_float16_copy(folder, stored, tokenizer)
    except Exception as error:  # of a full disk, safetensors and tokenizers have errors of their own
        raise PipelineError(f"cannot write the model: {first_line(error)}; free some space and run again") from error
    (folder / "1_Normalize").mkdir(exist_ok=True)
    write_json(folder / "1_Normalize" / "config.json", {})
    for path in folder.rglob("*.safetensors"):
        path.chmod(0o644)  # safetensors makes it readable by its owner alone
    files = [path for path in sorted(folder.rglob("*.*")) if path.is_file() and path.parent.name != "1_Normalize"]
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}
    return {
        "schema_version": SCHEMA_VERSION,
        **metadata,
        "sizes_bytes": sizes,
        "model_sha256": sha256([folder / "model.safetensors"]),
        "tokenizer_sha256": sha256([folder / "tokenizer.json"]),
    }


def _write_float16_copy(folder: Path, stored: Stored, tokenizer: Tokenizer) -> None:
    """Write the model as sentence-transformers holds it: StaticEmbedding has neither int8, weights nor shared rows."""
    copy = folder / FLOAT16_COPY
    copy.mkdir()
    save_file({"embedding.weight": stored.vectors("float16")}, copy / "model.safetensors")
    tokenizer.save(str(copy / "tokenizer.json"), pretty=False)
    steps = [("0", FLOAT16_COPY, "StaticEmbedding"), ("1", "1_Normalize", "Normalize")]
    modules = [
        {"idx": i, "name": name, "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (name, path, kind) in enumerate(steps)
    ]
    write_json(folder / "modules.json", modules)


def unknown_row(tokenizer: Tokenizer) -> int | None:
    """Return the row of the token that stands for whatever a tokenizer does not know, or None if it knows all text."""
    model = json.loads(tokenizer.to_str())["model"]
    if model["type"] == "Unigram":
        return model["unk_id"]
    return tokenizer.token_to_id(model["unk_token"]) if model.get("unk_token") else None


def load_model(folder: Path) -> StaticModel:
    """Load a static model from its folder, refusing what would give wrong vectors.

    :raises InputError: if it is no model that ``model2vec`` loads, or its table is broken.
    """
    if not folder.is_dir():
        advice = f"give another, or make it with {command_of('distill', output=folder)}"
        if beside(folder, "old").is_dir():
            advice = "a run was stopped while it replaced it: run it again, which puts it back"
        raise InputError(f"no such model folder: {folder}", advice)
    if not any(folder.glob("*.safetensors")) and not any(folder.glob("[0-9]*/*.safetensors")):
        raise no_weights(str(folder), [path.name for path in folder.iterdir()])
    require_files(folder)
    with as_input_error(f"{folder} is no static model that loads", "distil it again, or give another"):
        model = StaticModel.from_pretrained(folder)
    if fault := _fault(model):
        raise InputError(f"{folder} {fault}: distil it again, or give another")
    return model


def model_name(folder: Path) -> str:
    """Return what a model is called: as its ``metadata.json`` says, where it has one, else as its folder."""
    metadata: Any = None
    with suppress(InputError):  # another tool's file may hold anything
        if (folder / "metadata.json").is_file():
            metadata = read_json(folder / "metadata.json")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return name if isinstance(name, str) and is_name(name) else folder.resolve().name


def _fault(model: StaticModel) -> str | None:
    """Return what would break the model's vectors, or bend them unseen."""
    table = np.asarray(model.embedding)
    if table.ndim != 2 or 0 in table.shape:
        return f"holds no table of vectors (shape {table.shape})"
    # model2vec's own quantisation is int8; the mean of other integers would be cut to an integer.
    if table.dtype.kind != "f" and table.dtype != np.int8:
        return f"holds vectors of type {table.dtype}, not of floating point"
    with np.errstate(over="ignore"):
        lengths = np.linalg.norm(table.astype(np.float32), axis=1)
    if not np.isfinite(lengths).all():
        return "holds NaN or infinite vectors"
    if not lengths.any():
        return "holds only zero vectors"
    ids = max(model.tokenizer.get_vocab().values()) + 1
    mapping, weights = model.token_mapping, model.weights
    if mapping is not None:
        if mapping.shape != (ids,) or mapping.dtype.kind not in "iu":
            return f"maps its tokens wrongly: its mapping is not one whole number for each of {ids} tokens"
        if mapping.min() < 0 or mapping.max() >= len(table):
            return f"maps tokens to rows that are not there: it has {len(table)}"
    elif ids > len(table):
        return f"has a token with the id {ids - 1}, but only {len(table)} rows"
    if weights is not None and (weights.shape != (ids,) or not np.isfinite(weights).all()):
        return f"weighs its tokens wrongly: its weights are not one finite number for each of {ids} tokens"
    if model.max_length is not None and model.max_length < 1:
        return f"cuts every text to {model.max_length} tokens (max_length in config.json)"
    return None


#: A batch's at most; with one token each, their vectors of 1024 dimensions take 4 GB.
BATCH_CHARACTERS = 1 << 20


def static_encode(model: StaticModel) -> Encode:
    """Return the model's ``encode`` for evaluation: one thread of work, so that timings compare."""

    def encode(texts: Sequence[str]) -> np.ndarray:
        # Texts of one length are looked up together, and a character may be a token: long ones go in small batches.
        longest = max(map(len, texts), default=0)
        batch_size = max(1, min(1024, BATCH_CHARACTERS // max(1, longest)))
        with as_input_error("the model cannot encode the texts", "distil it again, or give another"):
            return model.encode(list(texts), use_multiprocessing=False, batch_size=batch_size)

    return encode


#: Texts -> one vector a text; shape (texts, dims).
Encode = Callable[[Sequence[str]], np.ndarray]
