#!/usr/bin/env python3
"""Which form of a whole model keeps most in how many bytes?

    bash run_qwen25.sh distill --teacher NAME --max-size-mb none --storage float16 --output FOLDER
    python -m benchmarks.sizes NAME=FOLDER --public-eval FOLDER   # a folder with score.py and dev/
    python -m benchmarks.sizes                                    # render docs/SIZES.md again

A model that was measured before is replaced by its name; the others stay. Every form is derived from the saved
table and tokenizer by the functions that phase 1 itself uses. Differences are taken on the same bootstrap resamples.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from model2vec import StaticModel
from tokenizers import Tokenizer

from benchmarks.public_data import public_parser, public_score, score_facts
from qwen25.distillation.rows import Budget, token_use
from qwen25.evaluation.categories import default_items_folder, items_sha256, load_categories
from qwen25.evaluation.evaluate import SEED, Evaluation, score_model
from qwen25.evaluation.models import static_encoder
from qwen25.runtime.console import command
from qwen25.runtime.errors import EXIT_OK, InputError
from qwen25.runtime.files import read_json, sha256, write_files, write_json
from qwen25.runtime.provenance import Clock, provenance
from qwen25.runtime.text import difference_text, size_text, table, with_interval
from qwen25.store.quantisation import Stored, quantise, rows_within
from qwen25.store.static_model import load_model

DOCS = Path(__file__).resolve().parents[1] / "docs"
RESULT, DOCUMENT = DOCS / "results" / "size_frontier.json", DOCS / "SIZES.md"
#: In 10^6 bytes: what a page takes, up to twice what the model was announced with.
BUDGETS_MB = (8.0, 16.0, 33.0, 65.0, 130.0)
#: The sizes that are scored on public data too.
PUBLIC_MB = (8.0, 65.0)
#: The row that differences are taken from, and the number format of all others.
WHOLE, STORAGE = "whole", "int8"
Row = dict[str, Any]


class Form(NamedTuple):
    """How a model is made to fit: tokens share rows, or all of them have fewer dimensions.

    :ivar label: what documents call it.
    :ivar dims: its dimensions at most; None: the whole model's.
    """

    label: str
    shares_rows: bool
    dims: int | None = None


#: The first is the product's own form at 65 MB, the third that of ``--preset tiny``.
FORMS = {
    "shared_int8": Form("shared rows", True),
    "shared_512": Form("shared rows, 512 dims", True, 512),
    "shared_tiny": Form("shared rows, 256 dims", True, 256),
    "dims_int8": Form("fewer dimensions", False),
}


@dataclass(frozen=True)
class Whole:
    """A saved model with all tokens: vectors of shape (tokens, dims), and how much text needs each token."""

    name: str
    vectors: np.ndarray
    tokenizer: Tokenizer
    use: np.ndarray
    facts: dict[str, Any]


def read_whole(name: str, folder: Path) -> Whole:
    """Read a model with all of its tokens, trained or not.

    :raises InputError: if there is none, or it was cut or rounded to int8 already.
    """
    model = load_model(folder)
    metadata = read_json(folder / "metadata.json")
    table = np.asarray(model.embedding)
    if metadata["vocabulary"]["max_size_mb"] is not None or table.dtype == np.int8:
        raise InputError(f"{folder} is no whole model: distil it with --max-size-mb none --storage float16")
    facts = {
        "teacher": metadata["teacher"]["name"],
        "model_sha256": sha256([folder / "model.safetensors"]),
        "pairs": sum(one["rows"] for one in metadata["training"]["sets"]) if metadata["training"] else 0,
    }
    return Whole(name, table.astype(np.float32), model.tokenizer, token_use(model.tokenizer, None), facts)


def make(whole: Whole, form: Form, budget_mb: float) -> Stored:
    """Return a model's table in a form, as large as the size allows (10^6 bytes)."""
    tokens, dims = whole.vectors.shape
    dims = min(dims, form.dims or dims)
    while not form.shares_rows and rows_within(budget_mb, dims, STORAGE) < tokens:
        dims -= 1
    vectors = whole.vectors[:, :dims]
    return quantise(vectors, STORAGE, Budget(budget_mb, STORAGE, whole.use).shared(vectors))


def as_model(stored: Stored, whole: Whole) -> StaticModel:
    """Return a form as model2vec runs it."""
    table, weights, row_of = stored
    return StaticModel(table, whole.tokenizer, normalize=True, weights=weights, token_mapping=row_of, max_length=None)


def measure(whole: Whole, public_eval: Path | None) -> Row:
    """Score the whole table, then every form at every size."""
    clock, folder = Clock(), default_items_folder()
    items, public = load_categories(folder), public_score(public_eval)
    reference: Evaluation | None = None
    rows: list[Row] = []
    for budget, form in ((None, WHOLE), *itertools.product(BUDGETS_MB, FORMS)):
        stored = Stored(whole.vectors) if budget is None else make(whole, FORMS[form], budget)
        encoder = static_encoder(f"{budget} MB, {form}", as_model(stored, whole))
        found = score_model(encoder, items, SEED, with_control=False, with_health=False)
        reference = reference or found
        rows.append(
            {
                "form": form,
                "budget_mb": budget,
                "rows": len(stored.table),
                "dims": stored.table.shape[1],
                "bytes": sum(part.nbytes for part in stored if part is not None),
                "public": public(encoder.encode) if public and budget in (None, *PUBLIC_MB) else None,
                "evaluation": score_facts(found, reference),
            }
        )
        print(f"{found.overall:.3f}  {encoder.name}", flush=True)
    return {
        "name": whole.name,
        **whole.facts,
        "items_sha256": items_sha256(folder),
        "public_scorer_sha256": sha256([public_eval / "score.py"]) if public_eval else None,
        "rows": rows,
        **provenance(clock, SEED),
    }


def document(result: Row) -> str:
    """Render docs/SIZES.md; every number in it is one of the result's."""
    models = result["models"]
    places: dict[tuple[float | None, str], str] = {(None, WHOLE): "whole, float32"}
    places |= {(size, form): FORMS[form].label for size in BUDGETS_MB for form in FORMS}
    rows = []
    for (size, form), label in places.items():
        found = [next((r for r in m["rows"] if (r["budget_mb"], r["form"]) == (size, form)), None) for m in models]
        if any(found):
            facts = next(row for row in found if row)
            cells = ["-" if size is None else f"{size:g} MB", label, f"{facts['rows']:,} x {facts['dims']}"]
            rows.append([*cells, size_text(facts["bytes"]), *(_score_cell(row) for row in found)])
    trained = (f"{one['name']}: {one['pairs']:,} pairs" for one in models if one["pairs"])
    return "\n".join(
        [
            "# Which form keeps most in how many bytes?",
            "",
            f"Rendered by `python -m benchmarks.sizes` from [`{RESULT.name}`](results/{RESULT.name}): do not",
            "edit. Every form is derived from a saved model with all of its tokens; 1 MB is 10^6 bytes.",
            f"Training: {'; '.join(trained)}; the others none.",
            "",
            "*shared rows*: the rarer tokens take the most similar row, as `--max-size-mb` does, in int8 with a scale",
            "a token. *fewer dimensions*: every token keeps a row, in int8. A cell: overall on the evaluation items",
            "[95 % interval], the difference from the whole table on the same resamples, and public data where it was",
            "scored.",
            "",
            *table(["up to", "form", "rows x dims", "size", *(model["name"] for model in models)], rows),
            "",
            "Measured " + "; ".join(f"{one['name']} {one['created'][:10]}" for one in models) + ".",
            "",
        ]
    )


def _score_cell(row: Row | None) -> str:
    if row is None:
        return "-"
    difference = "" if row["form"] == WHOLE else f" ({difference_text(row['evaluation']['difference'])})"
    public = f", public {row['public']['overall']:.3f}" if row["public"] else ""
    return with_interval(row["evaluation"]) + difference + public


def body(args: argparse.Namespace) -> int:
    """Measure the models that are named, then render."""
    for text in args.models:
        name, _, folder = text.partition("=")
        whole = read_whole(name, Path(folder))
        kept: Row = read_json(RESULT)
        models = {**{one["name"]: one for one in kept["models"]}, name: measure(whole, args.public_eval)}
        write_json(RESULT, {**kept, "models": list(models.values())})
    write_files({DOCUMENT: document(read_json(RESULT))})
    print(DOCUMENT)
    return EXIT_OK


MODELS = {"nargs": "*", "metavar": "NAME=FOLDER", "help": "whole models (default: only render)"}
main = command(lambda: public_parser(__doc__, "models", **MODELS), body)


if __name__ == "__main__":
    sys.exit(main())
