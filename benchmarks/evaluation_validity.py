#!/usr/bin/env python3
"""Does our evaluation measure quality? Rank models by it and by public data nobody here wrote.

    python -m benchmarks.evaluation_validity NAME=SPEC ... --public-eval FOLDER   # a folder with score.py and dev/
    python -m benchmarks.evaluation_validity                                      # render docs/EVALUATION.md again

The models: those given, the first one (a static model) with its random directions; and WordLlama, all-MiniLM-L6-v2
and its model2vec distillation. The rank correlation of the two overall scores should be at least 0.9, random
directions below 0.35 and the transformer between 0.6 and 0.95.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from scipy.stats import spearmanr

from benchmarks.public_data import public_parser, public_score
from benchmarks.reference_standing import MODELS, encoders
from qwen25.evaluation.categories import WEIGHTS, default_items_folder, items_sha256, load_categories
from qwen25.evaluation.evaluate import SEED, score_model
from qwen25.evaluation.results import as_json
from qwen25.runtime.console import command
from qwen25.runtime.errors import EXIT_OK, InputError
from qwen25.runtime.files import read_json, write_files, write_json
from qwen25.runtime.provenance import Clock, provenance
from qwen25.runtime.text import size_text, table, with_interval

DOCS = Path(__file__).resolve().parent.parent / "docs"
RESULT, DOCUMENT = DOCS / "results" / "evaluation_validity.json", DOCS / "EVALUATION.md"


def measure(args: argparse.Namespace) -> int:
    """Score every model both ways and write the result, if models are named; then render it."""
    if args.models:
        clock, folder = Clock(), default_items_folder()
        items, score = load_categories(folder), public_score(args.public_eval)
        if score is None:
            raise InputError("--public-eval FOLDER is needed to measure")
        given = dict(text.partition("=")[::2] for text in args.models)
        references = {name: spec for name, spec in MODELS.items() if spec != "bm25"}  # which has no vectors
        rows = []
        for model in encoders(given | references, next(iter(given))):
            ours = as_json(score_model(model, items, SEED, with_control=False))
            public = score(model.encode)
            rows.append({"name": model.name, "ours": ours, "public_overall": public["overall"]})
            print(f"{ours['overall']['score']:.3f}  public {public['overall']:.3f}  {model.name}", flush=True)
        rank = spearmanr([r["ours"]["overall"]["score"] for r in rows], [r["public_overall"] for r in rows])[0]
        result = {"schema_version": 1, "models": rows, "spearman": float(rank)}
        write_json(RESULT, result | {"items_sha256": items_sha256(folder), **provenance(clock, SEED)})
    write_files({DOCUMENT: document(read_json(RESULT))})
    print(DOCUMENT)
    return EXIT_OK


def document(result: dict[str, Any]) -> str:
    """Render docs/EVALUATION.md."""
    header = ["model", "size", "overall [95 % interval]", "public data"]
    rows, by_category = [], []
    for row in sorted(result["models"], key=lambda row: -row["ours"]["overall"]["score"]):
        ours = row["ours"]
        size, overall = size_text(ours["health"]["size_bytes"]), with_interval(ours["overall"])
        rows.append([row["name"], size, overall, f"{row['public_overall']:.3f}"])
        by_category.append([row["name"], *(f"{ours['categories'][name]['score']:.3f}" for name in WEIGHTS)])
    return "\n".join(
        [
            "# Does the evaluation measure quality?",
            "",
            "Rendered by `python -m benchmarks.evaluation_validity` from",
            "[`evaluation_validity.json`](results/evaluation_validity.json). Each model was scored on the project's",
            "own items and on public data that nobody on this project wrote.",
            "",
            *table(header, rows),
            "",
            f"Spearman rank correlation of our overall score with the public one: **{result['spearman']:.2f}**",
            f"over {len(result['models'])} models.",
            "",
            *table(["model", *(name.split("_")[0] for name in WEIGHTS)], by_category),
            "",
        ]
    )


GIVEN = {"nargs": "*", "metavar": "NAME=SPEC", "help": "models (default: only render)"}
main = command(lambda: public_parser(__doc__, "models", **GIVEN), measure)


if __name__ == "__main__":
    sys.exit(main())
