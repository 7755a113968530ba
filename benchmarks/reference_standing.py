#!/usr/bin/env python3
"""Score well-known models on the project's items: what a verdict is read beside.

    python -m benchmarks.reference_standing            # writes reference_standing.json beside the items, in minutes

The result is shipped with the items and drawn into tables and reports beside the verdict. It has to be
measured again when an item changes: until then it is left out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from qwen25.evaluation.categories import CATEGORIES, default_items_folder, items_sha256, load_categories
from qwen25.evaluation.evaluate import SEED, score_model
from qwen25.evaluation.models import Encoder, load_encoder, random_control
from qwen25.evaluation.results import as_json
from qwen25.runtime.console import Parser, command
from qwen25.runtime.errors import EXIT_OK, InputError
from qwen25.runtime.files import write_json
from qwen25.runtime.provenance import Clock, provenance

RESULT = default_items_folder() / "reference_standing.json"
#: Name -> SPEC.
MODELS = {
    "all-MiniLM-L6-v2": "st:all-minilm-l6-v2",
    "WordLlama-256": "wordllama:",
    "all-MiniLM-L6-v2 by model2vec": "model2vec:all-minilm-l6-v2",
    "BM25": "bm25",
}
#: Kind -> what a model of that kind is.
ABOUT = {
    "sentence-transformers": "transformer",
    "wordllama": "static, trained on sentence pairs",
    "static": "static, made by model2vec",
    "bm25": "words alone",
    "control": "tokens weighted, directions drawn at random",
}


def encoders(models: Mapping[str, str], controlled: str) -> Iterator[Encoder]:
    """Yield each model of ``models`` (name -> SPEC), one in memory at a time; behind ``controlled`` its control.

    :raises InputError: if one cannot be loaded, or the controlled one is no static model.
    """
    for name, spec in models.items():
        encoder = load_encoder(spec, name)
        yield encoder
        if name == controlled:
            control = random_control(encoder, SEED)
            if control is None:
                raise InputError(f"{name} is no static model: it has no directions that could be drawn at random")
            yield control


def reference(encoder: Encoder, items: dict[str, Any]) -> dict[str, Any]:
    """Return what is kept of a model: its scores, and its size."""
    result = as_json(score_model(encoder, items, SEED, with_control=False, with_health=False))
    scores = {"overall": result["overall"], **result["categories"]}
    kept = {name: {"score": found["score"], "interval": found["interval"]} for name, found in scores.items()}
    overall = kept.pop("overall")
    return {
        "name": "random directions" if encoder.kind == "control" else encoder.name,
        "what": ABOUT[encoder.kind],
        "kind": encoder.kind,
        "size_bytes": encoder.size_bytes,
        "overall": overall if set(kept) == set(CATEGORIES) else None,
        "categories": kept,
    }


def measure(args: argparse.Namespace) -> int:
    """Score every reference model and write the result."""
    clock, folder = Clock(), default_items_folder()
    items = load_categories(folder)
    models = []
    for encoder in encoders(MODELS, "all-MiniLM-L6-v2 by model2vec"):
        models.append(reference(encoder, items))
        clock.lap(models[-1]["name"])
    models.sort(key=lambda model: -model["overall"]["score"] if model["overall"] else 0.0)
    result = {"schema_version": 1, "models": models, "items_sha256": items_sha256(folder)}
    write_json(RESULT, result | {"step_seconds": clock.steps, **provenance(clock, SEED)})
    print(RESULT)
    return EXIT_OK


main = command(lambda: Parser(story=__doc__), measure)


if __name__ == "__main__":
    sys.exit(main())
