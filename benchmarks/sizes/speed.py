"""How many sentences a second each stored form encodes."""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from model2vec import StaticModel

from benchmarks.sizes.forms import DEFAULT, FORMS, Made, Whole, make
from benchmarks.sizes.measure import SHOWN_MB
from qwen25.evaluation.categories.all import WEIGHTS
from qwen25.evaluation.categories.multilingual_alignment import LANGUAGES
from qwen25.evaluation.encoder import Encoder, static_encoder
from qwen25.evaluation.items import default_items_folder, load_items
from qwen25.evaluation.loading import load_encoder
from qwen25.runtime.errors import InputError
from qwen25.store.quantisation import quantise

#: Sentences, the same in a quick run, and how often they are encoded.
SENTENCES, QUICK_SENTENCES, REPEATS = 20_000, 2000, 3


def speed_rows(whole: Whole, quick: bool) -> list[dict[str, Any]]:
    """Measure how many sentences a second each stored form encodes, in turn, several times."""
    models, absent = _models(whole)
    texts = _texts(QUICK_SENTENCES if quick else SENTENCES)
    rates: dict[str, list[float]] = {model.name: [] for model in models}
    for model in models:
        model.encode(texts[:200])
    for _, model in itertools.product(range(REPEATS), models):
        started = time.perf_counter()
        model.encode(texts)
        rates[model.name].append(len(texts) / (time.perf_counter() - started))
    middle = {name: statistics.median(found) for name, found in rates.items()}
    base = middle[models[0].name]
    rows: list[dict[str, Any]] = []
    for model in models:
        print(f"{middle[model.name]:,.0f} sentences/s  {model.name}", flush=True)
        facts = {"name": model.name, "dims": model.dims, "memory_bytes": model.memory_bytes, "unavailable": None}
        measured = {"rate": middle[model.name], "rates": rates[model.name], "sentences": len(texts)}
        rows.append({**facts, **measured, "ratio_to_float32": middle[model.name] / base})
    return rows + absent


def _models(whole: Whole) -> tuple[list[Encoder], list[dict[str, Any]]]:
    """Return the models to time, the whole float32 table first, and a row for each that cannot be had."""
    tables = {storage: Made(quantise(whole.vectors, storage), whole.vocabulary.tokenizer) for storage in FORMATS}
    size = f"{SHOWN_MB:g} MB, "
    models = [
        *(_loaded(f"whole, {storage}", table) for storage, table in tables.items()),
        _loaded("whole, float16", tables["float16"], widen=True),
        *(_loaded(size + FORMS[form].label, make(whole, FORMS[form], SHOWN_MB)) for form in ("use_int8", DEFAULT)),
    ]
    try:
        return [*models, load_encoder("wordllama:")], []
    except InputError as error:
        return models, [{"name": "WordLlama-256", "unavailable": str(error)}]


FORMATS = ("float32", "float16", "int8")


def _loaded(name: str, made: Made, widen: bool = False) -> Encoder:
    """Save a model and load it as model2vec does, as stored or widened to float32."""
    with tempfile.TemporaryDirectory() as folder:
        made.save(Path(folder))
        model = StaticModel.from_pretrained(folder, quantize_to="float32" if widen else None, force_download=False)
    return static_encoder(f"{name}, loaded as float32" if widen else name, model)


def _texts(count: int) -> list[str]:
    """Return the texts of the evaluation's items, repeated until there are ``count``."""
    names = ("anchor", "paraphrase", "text", "meaning", "description", "code", "document", *LANGUAGES)
    items = [item for category in WEIGHTS for item in load_items(default_items_folder(), category)]
    texts = sorted({item[name] for item in items for name in names if name in item})
    order = np.random.default_rng(0).permutation(len(texts))
    return list(itertools.islice(itertools.cycle(texts[i] for i in order.tolist()), count))
