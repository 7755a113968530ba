#!/usr/bin/env python3
"""Which recipe distils best?

    python -m benchmarks.recipes TEACHER --public-eval FOLDER   # a folder with score.py and dev/
    python -m benchmarks.recipes                                # render docs/RECIPES.md again

Everything comes from one teacher and one pass of token states. It is scored on the calibration items and, if there
is a folder of it, on public data. Each difference is from the default recipe's table, on the same bootstrap
resamples. Vectors are float32 and untrained: what a size costs is measured by ``python -m benchmarks.sizes``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from model2vec import StaticModel

from benchmarks.public_data import public_parser, public_score, score_facts
from qwen25.distillation.rows import rank_frequencies
from qwen25.distillation.vectors import DEFAULT, PLAIN, Recipe, distil_vectors
from qwen25.distillation.vocabulary import static_vocabulary
from qwen25.evaluation.categories import WEIGHTS, calibration_folder, items_sha256, load_categories
from qwen25.evaluation.evaluate import SEED, Evaluation, score_model
from qwen25.evaluation.models import Encoder, random_control, static_encoder
from qwen25.runtime.console import command
from qwen25.runtime.errors import EXIT_OK
from qwen25.runtime.files import read_json, sha256, write_files, write_json
from qwen25.runtime.provenance import Clock, provenance
from qwen25.runtime.steps import StepCache
from qwen25.runtime.text import difference_text, table, with_interval
from qwen25.teacher.states import token_states
from qwen25.teacher.teacher import Teacher, find_teacher

DOCS = Path(__file__).resolve().parents[1] / "docs"
RESULT, DOCUMENT = DOCS / "recipes.json", DOCS / "RECIPES.md"
#: The layers of all variants, as shares of the depth; deeper ones brought nothing (docs/LOG.md).
LAYERS = (0.0, 0.125, 0.25, 0.5)
DIMS = 1024
#: Keeps the token states for the next run.
WORK = Path(tempfile.gettempdir()) / "qwen25-recipes"
VARIANTS = {
    "embeddings only": replace(DEFAULT, layers=(0.0,)),
    "without 1/8": replace(DEFAULT, layers=(0.0, 0.25)),
    "with 1/2": replace(DEFAULT, layers=LAYERS),
    "SIF 5e-5": replace(DEFAULT, sif=5e-5),
    "SIF 5e-4": replace(DEFAULT, sif=5e-4),
    "no whitening": replace(DEFAULT, whitening=0.0),
    "half whitening": replace(DEFAULT, whitening=0.25),
    "plain": PLAIN,
}
Row = dict[str, Any]


def measured(teacher: Teacher, public_eval: Path | None) -> list[Row]:
    """Score every recipe."""
    items, public = load_categories(calibration_folder()), public_score(public_eval)
    vocabulary = static_vocabulary(teacher.tokenizer())
    frequencies = rank_frequencies(vocabulary.tokenizer)
    states: dict[str, dict[int, np.ndarray]] = {}
    for recipe, shares in ((DEFAULT, LAYERS), (PLAIN, PLAIN.layers)):
        layers = replace(recipe, layers=shares).layer_numbers(teacher.layers)
        cache = StepCache(WORK / recipe.name)
        states[recipe.name] = token_states(teacher, vocabulary.sequences, layers, prefix=recipe.prefix, cache=cache)
    references: list[Evaluation] = []

    def vectors(recipe: Recipe) -> np.ndarray:
        layers = [states[recipe.name][number] for number in recipe.layer_numbers(teacher.layers)]
        return distil_vectors(layers, frequencies, recipe, DIMS)

    def model(name: str, table: np.ndarray) -> Encoder:
        return static_encoder(name, StaticModel(table, vocabulary.tokenizer, normalize=True, max_length=None))

    def scores(encoder: Encoder) -> Row:
        ours = score_model(encoder, items, SEED, with_control=False, with_health=False)
        references.append(ours)
        print(f"{ours.overall:.3f}  {encoder.name}", flush=True)
        facts = score_facts(ours, references[0])
        overall = {name: facts.pop(name) for name in ("score", "interval")}
        return {"overall": overall, **facts, "public": public(encoder.encode) if public else None}

    def row(name: str, recipe: Recipe, encoder: Encoder) -> Row:
        facts = {"layers": list(recipe.layers), "sif": recipe.sif, "whitening": recipe.whitening}
        return {"name": name, **facts, "dims": encoder.dims, **scores(encoder)}

    default = model("default", vectors(DEFAULT))
    rows = [row("default", DEFAULT, default)]
    if control := random_control(default, SEED):
        rows.append(row("random directions", DEFAULT, control))
    rows += [row(name, recipe, model(name, vectors(recipe))) for name, recipe in VARIANTS.items()]
    return rows


def measure(args: argparse.Namespace) -> None:
    """Measure everything and write the result."""
    clock, folder = Clock(), calibration_folder()
    items, teacher = load_categories(folder), find_teacher(args.teacher)
    weights = {"hidden_size": teacher.hidden_size, "weights_sha256": teacher.weights_sha256}
    result = {
        "schema_version": 4,
        "teacher": {"name": teacher.name, "layers": teacher.layers, **weights},
        "tokens": len(static_vocabulary(teacher.tokenizer())),
        "items": {category: len(rows) for category, rows in items.items()},
        "items_sha256": items_sha256(folder),
        "public_scorer_sha256": sha256([args.public_eval / "score.py"]) if args.public_eval else None,
        "recipes": measured(teacher, args.public_eval),
    }
    write_json(RESULT, {**result, **provenance(clock, SEED)})


def document(result: Row) -> str:
    """Render docs/RECIPES.md; every number in it is one of the result's."""
    teacher, hardware = result["teacher"], result["hardware"]
    size = result.get("max_size_mb")
    tokens = f"{result['tokens']:,} tokens" + (f" (the most used, at {size:g} MB)" if size else "")
    public = result["recipes"][0]["public"] is not None
    scores = ["ours [95 % interval]", "difference", *(["public"] if public else [])]
    scores += [name.split("_")[0] for name in WEIGHTS]
    recipes = []
    for row in result["recipes"]:
        layers = " + ".join(share_text(share) for share in row["layers"])
        cells = [row["name"], layers, f"{row['sif']:g}", f"{row['whitening']:g}", str(row["dims"])]
        recipes.append([*cells, *_score_cells(row)])
    lines = [
        "# Which recipe?",
        "",
        f"Rendered by `python -m benchmarks.recipes` from [`{RESULT.name}`]({RESULT.name}): do not edit.",
        "",
        f"The teacher is {teacher['name']} ({teacher['layers']} layers x {teacher['hidden_size']}, weights",
        f"`{teacher['weights_sha256'][:12]}`), {tokens}. All tables are made from one pass of its",
        "token states, with frequencies by Zipf's law. They are float32 and untrained.",
        "",
        f"- *ours*: the overall score on the {sum(result['items'].values()):,} calibration items [95 % interval].",
        "- *difference*: from the default recipe, on the same resamples of the items, so its interval is narrower",
        "  than those of the two scores. An interval that holds 0 shows no difference.",
        *(["- *public*: the overall score on public data that nobody on this project wrote."] if public else []),
        f"- The six categories are those of {'the public data' if public else 'our items'}.",
        "",
        "## Recipes",
        "",
        "Layers are shares of the teacher's depth. *plain* takes each token alone, all others take it after a newline.",
        "*random directions* has the default's tokenizer and row norms and random vectors: it can only match words.",
        "",
        *table(["recipe", "layers", "SIF", "whitening", "dims", *scores], recipes),
        "",
        f"Measured {result['created'][:10]} on {hardware['processor']}, {hardware['cores']} cores, in "
        f"{result['wall_seconds'] / 60:.0f} minutes.",
        "",
    ]
    return "\n".join(lines)


def _score_cells(row: Row) -> list[str]:
    """Return the cells of a row's scores; the categories are the public data's where there is any."""
    public = row["public"]
    categories = (public or row)["categories"]
    values = [f"{categories[name]:.3f}" if name in categories else "-" for name in WEIGHTS]
    overall = [f"{public['overall']:.3f}"] if public else []
    return [with_interval(row["overall"]), difference_text(row["difference"]), *overall, *values]


def share_text(share: float) -> str:
    """Name a layer by its share of the depth."""
    top, bottom = share.as_integer_ratio()
    return {0.0: "embeddings", 1.0: "last"}.get(share, f"{top}/{bottom}")


def body(args: argparse.Namespace) -> int:
    """Measure the teacher that is named, then render."""
    if args.teacher:
        measure(args)
    write_files({DOCUMENT: document(read_json(RESULT))})
    print(DOCUMENT)
    return EXIT_OK


TEACHER = {"nargs": "?", "help": "a decoder, as phase 1 takes it (default: only render)"}
main = command(lambda: public_parser(__doc__, "teacher", **TEACHER), body)


if __name__ == "__main__":
    sys.exit(main())
