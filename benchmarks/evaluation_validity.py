#!/usr/bin/env python3
"""Does our evaluation measure quality? Rank models by it and by public data nobody here wrote.

    bash run_qwen25.sh demo
    python -m benchmarks.evaluation_validity --public-eval FOLDER      # a folder with score.py and dev/
    python -m benchmarks.evaluation_validity --render                  # docs/EVALUATION.md from the result

The public scorer is any module with ``score(encode, data_folder) -> {"overall": ...}``. The models: the
demo's, random directions, WordLlama, all-MiniLM-L6-v2 and its model2vec distillation, and those that are
given with ``--model NAME=SPEC``, the plain recipe among them. The rank correlation of the two overall scores
should be at least 0.9, random directions below 0.35 and the transformer between 0.6 and 0.95.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path
from typing import Any

from scipy.stats import spearmanr

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
from qwen25.runtime.wording import with_interval

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "docs" / "results" / "evaluation_validity.json"
DOCUMENT = ROOT / "docs" / "EVALUATION.md"
SEED = 42


def public_scorer(folder: Path) -> Any:
    """Import ``score.py`` from ``folder``."""
    spec = importlib.util.spec_from_file_location("public_score", folder / "score.py")
    if spec is None or spec.loader is None or not (folder / "score.py").is_file():
        raise InputError(f"{folder} has no score.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def models(demo: Path, others: list[str]) -> list[Encoder]:
    """Return the models to rank: the demo's with its control, others as ``NAME=SPEC``, and the references.

    :raises InputError: if the demo's model is no static model, or one of ``others`` has no name.
    """
    ours = load_encoder(str(demo / "model"), "demo's model")
    control = random_control(ours, SEED)
    if control is None:
        raise InputError(f"{demo / 'model'} is no static model")
    found = [ours, control]
    for other in others:
        name, separator, spec = other.partition("=")
        if not (name and separator and spec):
            raise InputError(f"--model takes NAME=SPEC, not {other!r}")
        found.append(load_encoder(spec, name))
    return [
        *found,
        load_encoder("model2vec:all-minilm-l6-v2", "model2vec of all-MiniLM-L6-v2"),
        load_encoder("wordllama:", "WordLlama-256"),
        load_encoder("st:all-minilm-l6-v2", "all-MiniLM-L6-v2, the transformer"),
    ]


def measure(args: argparse.Namespace) -> int:
    """Score every model both ways and write the result."""
    if not args.render:
        clock = Clock()
        items = load_categories(args.items)
        scorer = public_scorer(args.public_eval)
        rows = []
        for model in models(args.demo, args.model):
            ours = as_json(evaluate(model, items, SEED, with_control=False))
            public = scorer.score(model.encode, args.public_eval / "dev")
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
    header = ["model", "overall [95 % interval]", "everyday items*", "adversarial items*", "public data"]
    rows = []
    for row in sorted(result["models"], key=lambda row: -row["ours"]["overall"]["score"]):
        tiers = [_tier(row["ours"], tier) for tier in ("everyday", "adversarial")]
        rows.append([row["name"], with_interval(row["ours"]["overall"]), *tiers, f"{row['public_overall']:.3f}"])
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
    parser.add_argument("--demo", type=Path, default=ROOT / "demo", help="folder of a demo run (default: demo)")
    more = "one more model, as often as wanted (default: none)"
    parser.add_argument("--model", action="append", default=[], metavar="NAME=SPEC", help=more)
    parser.add_argument("--items", type=Path, default=default_items_folder(), help="the items (default: eval_data)")
    parser.add_argument("--render", action="store_true", help="only render the document (default: measure first)")
    add_common_flags(parser)
    args = parser.parse_args()
    if not args.render and args.public_eval is None:
        parser.error("--public-eval FOLDER is needed to measure")
    return console.run(parser, measure, None)


if __name__ == "__main__":
    sys.exit(main())
