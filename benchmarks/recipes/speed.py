"""How many sentences a second each stored form encodes."""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from model2vec import StaticModel
from model2vec.persistence import save_pretrained

from benchmarks.recipes.measure import Row
from benchmarks.recipes.sizes import QUICK_BUDGETS_MB, SHOWN_MB, Tables, stored
from qwen25.distillation.vocabulary import Vocabulary
from qwen25.evaluation.categories.all import WEIGHTS
from qwen25.evaluation.categories.multilingual_alignment import LANGUAGES
from qwen25.evaluation.encoder import Encoder, static_encoder
from qwen25.evaluation.items import default_items_folder, load_items
from qwen25.evaluation.loading import load_encoder
from qwen25.runtime.errors import InputError
from qwen25.store.quantisation import rows_within

#: Sentences, the same in a quick run, and how often they are encoded.
SPEED_SENTENCES, QUICK_SENTENCES, SPEED_REPEATS = 20_000, 2000, 3


def speed_rows(tables: Tables, args: argparse.Namespace) -> list[Row]:
    """Measure how many sentences a second each stored form encodes, in turn, several times."""
    models, absent = speed_models(tables, args)
    texts = speed_texts(QUICK_SENTENCES if args.quick else SPEED_SENTENCES)
    rates: dict[str, list[float]] = {model.name: [] for model in models}
    for model in models:
        model.encode(texts[:200])
    for _, model in itertools.product(range(SPEED_REPEATS), models):
        started = time.perf_counter()
        model.encode(texts)
        rates[model.name].append(len(texts) / (time.perf_counter() - started))
    base = statistics.median(rates[models[0].name])
    rows = []
    for model in models:
        middle = statistics.median(rates[model.name])
        print(f"{middle:,.0f} sentences/s  {model.name}", flush=True)
        rows.append(
            {
                "name": model.name,
                "dims": model.dims,
                "rate": middle,
                "rates": rates[model.name],
                "ratio_to_float32": middle / base,
                "sentences": len(texts),
                "unavailable": None,
            }
        )
    return rows + absent


def speed_models(tables: Tables, args: argparse.Namespace) -> tuple[list[Encoder], list[Row]]:
    """Return the models to time, the whole float32 table first, and a row for each that cannot be had."""
    budget = QUICK_BUDGETS_MB[0] if args.quick else SHOWN_MB
    cut, small = tables.first(rows_within(budget, tables.full.shape[1], "float16"))
    whole, small_name = tables.source.vocab, f"{budget:g} MB, float16"
    models = [
        loaded("float32", tables.full, whole, args.work),
        loaded("float16", stored(tables.full, "float16"), whole, args.work),
        loaded("float16", stored(tables.full, "float16"), whole, args.work, widen=True),
        loaded(small_name, stored(small, "float16"), cut, args.work),
        loaded(small_name, stored(small, "float16"), cut, args.work, widen=True),
    ]
    try:
        return [*models, load_encoder("wordllama:")], []
    except InputError as error:
        return models, [{"name": "WordLlama-256", "unavailable": str(error)}]


def loaded(name: str, table: np.ndarray, vocab: Vocabulary, work: Path, widen: bool = False) -> Encoder:
    """Save a table and load it as model2vec does, as stored or widened to float32."""
    with tempfile.TemporaryDirectory(dir=work) as folder:
        config: Any = {"model_type": "model2vec", "normalize": True, "max_length": None}
        save_pretrained(Path(folder), table, vocab.tokenizer, config, create_model_card=False)
        model = StaticModel.from_pretrained(folder, quantize_to="float32" if widen else None, force_download=False)
    label = f"{name}, loaded as float32" if widen else f"{name}, as stored"
    return static_encoder(label, model, size_bytes=table.nbytes)


def speed_texts(count: int) -> list[str]:
    """Return the texts of the evaluation's items, repeated until there are ``count``."""
    names = ("anchor", "paraphrase", "text", "meaning", "description", "code", "document", *LANGUAGES)
    items = [item for category in WEIGHTS for item in load_items(default_items_folder(), category)]
    texts = sorted({item[name] for item in items for name in names if name in item})
    order = np.random.default_rng(0).permutation(len(texts))
    return list(itertools.islice(itertools.cycle(texts[i] for i in order.tolist()), count))
