#!/usr/bin/env python3
"""Which recipe distils best?

    python -m benchmarks.recipes --public-eval FOLDER      # a folder with score.py and dev/; writes docs/recipes.json
    python -m benchmarks.recipes --render                  # docs/RECIPES.md from it
    python -m benchmarks.recipes --quick                   # few rows, to try the benchmark out

Everything comes from one teacher, one pass of token states and, if it is to write any, one set of texts; it is
scored on the calibration items and, if there is a folder of it, on public data. The public scorer is any
module with ``score(encode, data_folder) -> {"overall": ..., "categories": ...}``. Each difference is from
the default recipe's table, on the same bootstrap resamples. Vectors are float32: which form of a table keeps
most in how many bytes is measured by ``python -m benchmarks.sizes``.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.public_data import public_score, rounded
from benchmarks.recipes.document import DOCUMENT, RESULT, document
from benchmarks.recipes.measure import QUICK_MB, QUICK_TEXTS, Row, Scorer, load_source
from benchmarks.recipes.variants import DEFAULT, ZIPF, dims_rows, distil, frequencies, recipe_rows
from qwen25.distillation.settings import MAX_SIZE_MB, Settings
from qwen25.evaluation.categories.all import WEIGHTS
from qwen25.evaluation.items import calibration_folder, items_sha256, load_items
from qwen25.runtime import console
from qwen25.runtime.console import add_common_flags
from qwen25.runtime.errors import EXIT_OK, InputError
from qwen25.runtime.files import read_json, sha256, write_json, write_text
from qwen25.runtime.log import logger
from qwen25.runtime.provenance import Clock, provenance
from qwen25.teacher.teacher import find_teacher


def measure(args: argparse.Namespace) -> int:
    """Measure every section and write the result."""
    clock = Clock()
    if args.quick:
        args.texts, args.max_size_mb = min(args.texts, QUICK_TEXTS), QUICK_MB
        args.work /= "quick"
    args.work.mkdir(parents=True, exist_ok=True)
    items = {category: load_items(calibration_folder(), category) for category in WEIGHTS}
    scorer = Scorer(items, public_score(args.public_eval), args.seed)
    teacher = find_teacher(args.teacher)
    source = load_source(args, teacher, clock)
    full = distil(source, DEFAULT, frequencies(source, ZIPF))
    result: Row = {
        "schema_version": 2,
        "quick": args.quick,
        "teacher": {
            "name": teacher.name,
            "layers": teacher.layers,
            "hidden_size": teacher.hidden_size,
            "weights_sha256": teacher.weights_sha256,
        },
        "tokens": len(source.vocab),
        "max_size_mb": args.max_size_mb if math.isfinite(args.max_size_mb) else None,
        "items": {category: len(rows) for category, rows in items.items()},
        "items_sha256": items_sha256(calibration_folder(), items),
        "public_scorer_sha256": sha256([args.public_eval / "score.py"]) if args.public_eval else None,
    }
    sections: dict[str, Callable[[], list[Row]]] = {
        "recipes": lambda: recipe_rows(source, scorer, full, args),
        "dims": lambda: dims_rows(source, scorer, full),
    }
    for name, section in sections.items():
        logger.info("section %s", name)
        result[name] = rounded(section())
        clock.lap(name)
    write_json(args.output, {**result, "step_seconds": clock.steps, **provenance(clock, args.seed)})
    print(args.output)
    return EXIT_OK


def render(output: Path) -> int:
    """Write the document beside the result."""
    write_text(output.with_name(DOCUMENT), document(read_json(output)))
    print(output.with_name(DOCUMENT))
    return EXIT_OK


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--public-eval", type=Path, help="folder with score.py and dev/ (default: only our own items)")
    add(
        "--teacher",
        default="qwen2.5-coder-0.5b",
        metavar="SPEC",
        help="a decoder, as phase 1 takes it (default: %(default)s)",
    )
    add("--texts", type=int, default=Settings.texts, help="texts that the teacher writes (default: %(default)s, none)")
    size = "as many tokens as fit, by use, as int8 vectors into MB * 10^6 bytes; inf: all (default: %(default)g)"
    add("--max-size-mb", type=float, default=MAX_SIZE_MB, metavar="MB", help=size)
    add("--seed", type=int, default=Settings.seed, help="of texts and resamples (default: %(default)s)")
    work = Path(tempfile.gettempdir()) / "qwen25-recipes"
    add("--work", type=Path, default=work, help="keeps what the teacher gave for the next run (default: %(default)s)")
    output = f"the result, and beside it what is rendered (default: docs/{RESULT.name}; with --quick, in --work)"
    add("--output", type=Path, help=output)
    add("--render", action="store_true", help="only render the document (default: only measure)")
    add("--quick", action="store_true", help="a small vocabulary and few texts (default: all)")
    add_common_flags(parser)
    return parser


def body(args: argparse.Namespace) -> int:
    """Measure or render."""
    if args.texts < 0:
        raise InputError("--texts must be at least 0")
    if not args.max_size_mb > 0:
        raise InputError("--max-size-mb must be above 0")
    if args.output is None:
        args.output = args.work / "quick" / RESULT.name if args.quick else RESULT
    return render(args.output) if args.render else measure(args)


def main() -> int:
    """Run the command line and return the exit code."""
    return console.run(build_parser(), body, None)


if __name__ == "__main__":
    sys.exit(main())
