#!/usr/bin/env python3
"""How much do how many of one's own pairs bring?

    python -m benchmarks.pairs_curve FILE[:LEFT,RIGHT]   # of a query and its answer
    python -m benchmarks.pairs_curve                     # render docs/PAIRS.md again

A tenth of the pairs is held out, without a text on both sides. A model is distilled on the base pairs alone, then on
them and so many of the others; each is measured on what was held out, on the same queries and resamples.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

from qwen25 import distil
from qwen25.evaluation.models import load_encoder
from qwen25.evaluation.own_data import OwnRun, results_of
from qwen25.evaluation.own_pairs import read_own
from qwen25.runtime.console import Parser, command
from qwen25.runtime.errors import EXIT_OK
from qwen25.runtime.files import read_json, write_files, write_json
from qwen25.runtime.provenance import Clock, provenance
from qwen25.runtime.text import difference_text, table, with_interval
from qwen25.store.pairs import parse_path, read_path
from qwen25.training.sources import HELD_OUT, hold_out, write_held_out

DOCS = Path(__file__).resolve().parents[1] / "docs"
RESULT, DOCUMENT = DOCS / "results" / "pairs_curve.json", DOCS / "PAIRS.md"
#: Fewer than 1,000 pairs are refused alone: they are measured on top of others (--base packaged).
SIZES, ALONE = (300, 1_000, 3_000, 10_000), 1_000
HELD_SHARE, SEED = 0.1, 42


def measure(args: argparse.Namespace) -> None:
    """Distil a model for each number of pairs, measure them all, and write the result."""
    clock = Clock()
    path, columns = parse_path(args.pairs)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (kept,), held = hold_out(read_path(path, columns), HELD_SHARE, SEED)
        write_held_out(folder, held)
        random.Random(SEED).shuffle(kept.pairs)  # noqa: S311, no secret is made
        own = OwnRun(read_own(folder / HELD_OUT), SEED)
        for size in (0, *(n for n in SIZES if (ALONE if args.base == "none" else 1) <= n <= len(kept.pairs))):
            part = folder / f"{size}"
            part.mkdir()
            write_held_out(part, kept.pairs[:size])
            pairs = (args.base, str(part / HELD_OUT)) if size else (args.base,)
            model, tune = folder / f"model-{size}", "map" if pairs == ("none",) else "rows"
            distil(teacher=args.teacher, pairs=pairs, tune=tune, output=model)
            own.add(load_encoder(str(model)), f"{size:,} pairs")
        facts = {"pairs": path.name, "base": args.base, "teacher": args.teacher}
        write_json(RESULT, {"schema_version": 1, **facts, "own_data": results_of([own]), **provenance(clock, SEED)})


def document(result: dict[str, Any]) -> str:
    """Render docs/PAIRS.md; every number in it is one of the result's."""
    (found,), rows = result["own_data"], []
    for system in found["systems"]:
        scores, gain = system["forward"], system["forward"]["mrr@10"].get("difference")
        cells = [with_interval(scores[name]) for name in ("mrr@10", "recall@1", "recall@10")]
        rows.append([system["name"], *cells, f"{difference_text(gain)} {gain['word']}" if gain else ""])
    header = ["own pairs in training", "MRR@10 [95 % interval]", "recall@1", "recall@10", "MRR@10 against none"]
    about = (
        f"{found['queries']:,} held-out queries among {found['documents']:,} answers of `{result['pairs']}`; no text"
    )
    how = f"`{result['teacher']}`, trained on `{result['base']}` and so many pairs."
    first = f"Rendered by `python -m benchmarks.pairs_curve` from `results/{RESULT.name}`: do not edit."
    lines = ["# How many pairs bring how much?", "", first, "", f"{about} of them was trained on. {how}", ""]
    return "\n".join([*lines, *table(header, rows), ""])


def build_parser() -> Parser:
    """Return the command line's parser."""
    parser = Parser(story=__doc__)
    add = parser.add_argument
    add("pairs", nargs="?", metavar="FILE[:LEFT,RIGHT]", help="the pairs (default: only render)")
    add("--base", default="packaged", help="what every model is trained on (default: %(default)s)")
    add("--teacher", default="qwen2.5-coder-0.5b", help="(default: %(default)s)")
    return parser


def body(args: argparse.Namespace) -> int:
    """Measure the pairs that are named, then render."""
    if args.pairs:
        measure(args)
    write_files({DOCUMENT: document(read_json(RESULT))})
    return EXIT_OK


main = command(build_parser, body)


if __name__ == "__main__":
    sys.exit(main())
