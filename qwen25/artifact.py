"""The model folder on disk: written whole or not at all, and read back as its users do."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from model2vec import StaticModel
from model2vec.persistence import save_pretrained
from tokenizers import Tokenizer

from qwen25.console import InputError, PipelineError, first_line
from qwen25.provenance import sha256, write_json, write_text

SCHEMA_VERSION = 1


def check_output(folder: Path, overwrite: bool) -> None:
    """Refuse an output folder that holds something, unless it may be overwritten.

    :raises InputError: if it may not be used.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file: give a folder as --output")
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise InputError(f"{folder} already holds files: add --overwrite to replace them, or give another --output")
    parent = next(p for p in folder.absolute().parents if p.exists())
    if not os.access(parent, os.W_OK):
        raise InputError(f"cannot write into {parent}: give another --output")


def save_model(
    folder: Path, vectors: np.ndarray, tokenizer: Tokenizer, metadata: dict[str, Any], *, overwrite: bool
) -> dict[str, Any]:
    """Write the model folder beside its place and move it there when it is whole.

    :param vectors: one row a token; float32, shape (tokens, dims).
    :param metadata: everything about the making of the model; sizes and hashes are added here.
    :return: the metadata as written.
    :raises PipelineError: if it cannot be written; what was there before then stays.
    """
    check_output(folder, overwrite)
    new = folder.with_name(f".{folder.name}.{os.getpid()}.new")
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    try:
        shutil.rmtree(new, ignore_errors=True)
        config: Any = {
            "model_type": "model2vec",
            "architectures": ["StaticModel"],
            "tokenizer_name": metadata["teacher"]["name"],
            "apply_pca": vectors.shape[1],
            "sif_coefficient": metadata["recipe"]["sif"],
            "hidden_dim": vectors.shape[1],
            "seq_length": 1_000_000,
            "normalize": True,
            # None: texts are never cut, so that model2vec and sentence-transformers agree on long ones.
            "max_length": None,
        }
        save_pretrained(new, vectors, tokenizer, config, create_model_card=False)
        (new / "1_Normalize").mkdir(exist_ok=True)
        write_json(new / "1_Normalize" / "config.json", {})
        (new / "model.safetensors").chmod(0o644)  # safetensors makes it readable by its owner alone
        sizes = {p.name: p.stat().st_size for p in sorted(new.glob("*.*")) if p.is_file()}
        metadata = {
            "schema_version": SCHEMA_VERSION,
            **metadata,
            "sizes_bytes": sizes,
            "model_sha256": sha256([new / "model.safetensors"]),
            "tokenizer_sha256": sha256([new / "tokenizer.json"]),
        }
        write_json(new / "metadata.json", metadata)
        write_text(new / "README.md", model_card(metadata))
        if folder.exists():
            folder.replace(old)
        new.replace(folder)
    except OSError as error:
        if old.exists() and not folder.exists():
            old.replace(folder)
        raise PipelineError(f"cannot write {folder}: {error.strerror or error}; free some space and rerun") from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
    return metadata


def load_model(folder: Path) -> StaticModel:
    """Load a static model from its folder, refusing what would give wrong vectors.

    :raises InputError: if it is no model that ``model2vec`` loads, or its table is broken.
    """
    if not folder.is_dir():
        raise InputError(f"no such model folder: {folder}; make it with phase 1 or give another")
    try:
        model = StaticModel.from_pretrained(folder)
    except Exception as error:  # model2vec, safetensors and tokenizers have no common base
        raise InputError(f"{folder} is no static model that loads: {first_line(error)}") from error
    table = np.asarray(model.embedding)
    if table.ndim != 2 or 0 in table.shape:
        raise InputError(f"{folder} holds no table of vectors (shape {table.shape})")
    if not np.isfinite(table.astype(np.float32)).all():
        raise InputError(f"{folder} holds NaN or infinite vectors: distil it again")
    return model


def model_card(metadata: dict[str, Any]) -> str:
    """Render the folder's short README from its metadata."""
    teacher, recipe = metadata["teacher"], metadata["recipe"]
    size = metadata["sizes_bytes"]["model.safetensors"] / 1e6
    base = f"base_model: {teacher['name']}\n" if teacher["origin"] == "hub" else ""
    return f"""---
library_name: model2vec
license: apache-2.0
{base}tags:
- embeddings
- static-embeddings
- sentence-transformers
- model2vec
---

# {metadata["name"]}

A static embedding model distilled from the token states of `{teacher["name"]}`:
{metadata["vocabulary"]["tokens"]:,} tokens x {metadata["dims"]} dimensions,
{size:.1f} MB of vectors (`model.safetensors`). It needs no PyTorch:

```python
from model2vec import StaticModel

model = StaticModel.from_pretrained("path/to/this/folder")
vectors = model.encode(["How do I reset my password?", "Forgotten login"])
```

Recipe `{recipe["name"]}`: layers {", ".join(map(str, metadata["layers"]))} of {teacher["layers"]},
whitening power {recipe["whitening"]}, SIF coefficient {recipe["sif"]}.
Every parameter, hash and version is in `metadata.json`. This card states no score: run the
evaluation, which puts each score beside its control.
"""
