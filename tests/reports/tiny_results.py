"""A small model with the demo's results, changed to speak of it: nothing is distilled or scored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from conftest import ROOT
from tokenizers import Tokenizer

from qwen25.runtime.files import read_json, write_json
from qwen25.store.quantisation import quantise
from qwen25.store.static_model import write_model

DEMO = ROOT / "docs" / "results" / "demo"


def read_demo() -> dict[str, Any]:
    """Return the demo's evaluation and comparison."""
    files = {"evaluation": "eval_results.json", "comparison": "comparison_results.json"}
    return {name: read_json(DEMO / file) for name, file in files.items()}


def set_score(score: dict[str, Any], value: float) -> None:
    score |= {"score": value, "interval": [value - 0.01, value + 0.01]}


def ours(comparison: dict[str, Any]) -> dict[str, Any]:
    return next(row for row in comparison["models"] if row["name"] == comparison["ours"])


def set_difference(comparison: dict[str, Any], name: str, word: str, *categories: str) -> None:
    """Have a row's differences to ours in some categories say a word; no category: in all."""
    row = next(row for row in comparison["models"] if row["name"] == name)
    found = row["difference_to_ours"]["categories"]
    value = {"better": 0.1, "worse": -0.1, "no difference shown": 0.0}[word]
    for category in categories or found:
        found[category] = {"value": value, "interval": [value - 0.05, value + 0.05], "word": word}


def unmeasured(comparison: dict[str, Any], name: str) -> None:
    """Have a peer not be there, as on a fresh machine."""
    row = next(row for row in comparison["models"] if row["name"] == name)
    for key in ("kind", "result", "difference_to_ours"):
        del row[key]
    row |= {"obtained": "unavailable", "reason": "it is not here", "how": f"pip install {name}"}


def plain_tokenizer(tokenizer: Tokenizer) -> Tokenizer:
    """Return a tokenizer without special tokens, as a static model has it."""
    spec = json.loads(tokenizer.to_str())
    return Tokenizer.from_str(json.dumps({**spec, "added_tokens": [], "post_processor": None}))


def write_results(folder: Path, tokenizer: Tokenizer, storage: str = "float16") -> dict[str, Path]:
    """Write a model and the results that speak of it; return the flags of publishing and their paths."""
    table = np.random.default_rng(0).standard_normal((tokenizer.get_vocab_size(), 64), dtype=np.float32)
    metadata = read_json(DEMO / "metadata.json") | {"name": "a tiny model", "dims": 64, "storage": storage}
    metadata["vocabulary"] |= {"tokens": len(table), "rows": len(table)}
    model = folder / "model"
    model.mkdir(parents=True)
    metadata = write_model(model, quantise(table, storage), tokenizer, metadata)
    write_json(model / "metadata.json", metadata)
    found = read_demo()
    found["evaluation"]["model"]["sha256"] = metadata["model_sha256"]
    ours(found["comparison"])["result"]["model"]["sha256"] = metadata["model_sha256"]
    for name, result in found.items():
        write_json(folder / f"{name}.json", result)
    return {"model": model, **{name: folder / f"{name}.json" for name in found}}
