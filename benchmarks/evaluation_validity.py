#!/usr/bin/env python3
"""Does our evaluation measure quality? Rank models by it and by public data nobody here wrote.

    python -m benchmarks.evaluation_validity --public-eval FOLDER --model NAME=SPEC ...   # a folder with score.py, dev/
    python -m benchmarks.evaluation_validity --render                                     # docs/EVALUATION.md

The public scorer is any module with ``score(encode, data_folder) -> {"overall": ...}``. The models: those given, the
first one with its random directions; WordLlama, all-MiniLM-L6-v2 and its model2vec distillation. The rank correlation
of the two overall scores should be at least 0.9, random directions below 0.35 and the transformer between 0.6 and
0.95.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scipy.stats import spearmanr

from benchmarks.public_data import public_score
from qwen25.evaluation.categories.all import WEIGHTS
from qwen25.evaluation.encoder import Encoder, random_control
from qwen25.evaluation.evaluate import evaluate
from qwen25.evaluation.items import default_items_folder, items_sha256, load_categories
from qwen25.evaluation.loading import load_encoder
from qwen25.evaluation.results import as_json
from qwen25.runtime import console
from qwen25.runtime.console import add_common_flags
from qwen25.runtime.errors import EXIT_OK, InputError
from qwen25.runtime.files import read_json, write_json, write_text
from qwen25.runtime.markdown import table as markdown_table
from qwen25.runtime.provenance import Clock, provenance
from qwen25.runtime.wording import size_text, with_interval

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "docs" / "results" / "evaluation_validity.json"
DOCUMENT = ROOT / "docs" / "EVALUATION.md"
SEED = 42
#: Models that everybody can have: spec -> name.
REFERENCES = {
    "model2vec:all-minilm-l6-v2": "all-MiniLM-L6-v2 by model2vec",
    "wordllama:": "WordLlama-256",
    "st:all-minilm-l6-v2": "all-MiniLM-L6-v2, the transformer",
}


def models(given: list[str]) -> Iterator[Encoder]:
    """Yield the models to rank, each loaded when its turn comes.

    :param given: each as ``NAME=SPEC``; the first is followed by its control.
    :raises InputError: if one has no name or cannot be loaded, or the first is no static model.
    """
    parts = [text.partition("=") for text in given]
    for text, (name, _, spec) in zip(given, parts, strict=True):
        if not (name and spec):
            raise InputError(f"--model takes NAME=SPEC, not {text!r}")
    for place, (name, _, spec) in enumerate(parts):
        model = load_encoder(spec, name)
        yield model
        if place == 0:
            control = random_control(model, SEED)
            if control is None:
                raise InputError(f"the first --model, {spec}, is no static model")
            yield control
    for spec, name in REFERENCES.items():
        yield load_encoder(spec, name)


def measure(args: argparse.Namespace) -> int:
    """Score every model both ways, write the result and render it."""
    if not args.render:
        clock = Clock()
        items = load_categories(args.items)
        score = public_score(args.public_eval)
        if score is None or not args.model:
            raise InputError("--public-eval FOLDER and --model NAME=SPEC are needed to measure")
        rows = []
        for model in models(args.model):
            ours = as_json(evaluate(model, items, SEED, with_control=False))
            public = score(model.encode)
            rows.append({"name": model.name, "ours": ours, "public_overall": public["overall"]})
            print(f"{ours['overall']['score']:.3f}  public {public['overall']:.3f}  {model.name}", flush=True)
            clock.lap(model.name)
        rank = spearmanr([r["ours"]["overall"]["score"] for r in rows], [r["public_overall"] for r in rows])[0]
        result = {"schema_version": 1, "models": rows, "spearman": float(rank)}
        result |= {"items_sha256": items_sha256(args.items, items), **provenance(clock, SEED)}
        write_json(RESULT, result)
    write_text(DOCUMENT, document(read_json(RESULT)))
    print(DOCUMENT)
    return EXIT_OK


def document(result: dict[str, Any]) -> str:
    """Render docs/EVALUATION.md."""
    header = ["model", "size", "overall [95 % interval]", "everyday items*", "adversarial items*", "public data"]
    rows = []
    for row in sorted(result["models"], key=lambda row: -row["ours"]["overall"]["score"]):
        tiers = [_tier(row["ours"], tier) for tier in ("everyday", "adversarial")]
        size = size_text(row["ours"]["health"]["size_bytes"])
        rows.append([row["name"], size, with_interval(row["ours"]["overall"]), *tiers, f"{row['public_overall']:.3f}"])
    categories = [name.split("_")[0] for name in WEIGHTS]
    by_category = [
        [row["name"], *(f"{row['ours']['categories'][name]['score']:.3f}" for name in WEIGHTS)]
        for row in sorted(result["models"], key=lambda row: -row["ours"]["overall"]["score"])
    ]
    return "\n".join(
        [
            "# Does the evaluation measure quality?",
            "",
            "Rendered by `python -m benchmarks.evaluation_validity --render` from",
            "`docs/results/evaluation_validity.json`. Each model was scored on the project's own items and on public",
            "data that nobody on this project wrote.",
            "",
            *markdown_table(header, rows),
            "",
            "\\* the five categories that have tiers, unweighted.",
            "",
            f"Spearman rank correlation of our overall score with the public one: **{result['spearman']:.2f}**",
            f"over {len(result['models'])} models.",
            "",
            *markdown_table(["model", *categories], by_category),
            "",
        ]
    )


def _tier(ours: dict[str, Any], tier: str) -> str:
    scores = [c["sub_scores"]["by_tier"][tier] for c in ours["categories"].values() if "by_tier" in c["sub_scores"]]
    return f"{sum(scores) / len(scores):.3f}"


def main() -> int:
    """Run the command line and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--public-eval", type=Path, help="folder with score.py and dev/ (needed unless --render)")
    more = "a model, as often as wanted (needed unless --render)"
    parser.add_argument("--model", action="append", default=[], metavar="NAME=SPEC", help=more)
    parser.add_argument("--items", type=Path, default=default_items_folder(), help="the items (default: eval_data)")
    parser.add_argument("--render", action="store_true", help="only render the document (default: measure first)")
    add_common_flags(parser)
    return console.run(parser, measure, None)


if __name__ == "__main__":
    sys.exit(main())
