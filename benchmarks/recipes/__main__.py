#!/usr/bin/env python3
"""Which recipe distils best, and which form keeps most of it in how many bytes?

    python -m benchmarks.recipes --public-eval FOLDER      # a folder with score.py and dev/; writes docs/recipes.json
    python -m benchmarks.recipes --render                  # docs/RECIPES.md and docs/size_frontier.svg from it
    python -m benchmarks.recipes --quick                   # a small vocabulary and few rows, to try the benchmark out

Everything comes from one teacher, one pass of token states and one set of texts that it wrote, and is
scored on the calibration items and, if there is a folder of it, on public data. The public scorer is any
module with ``score(encode, data_folder) -> {"overall": ..., "categories": ...}``. Each difference is from
the default recipe's whole float32 table, on the same bootstrap resamples.

Every form of a size is distilled for its own vocabulary: the tokenizer is cut, frequencies are counted
for what is left, and the vectors are computed from its tokens' states. Run it on a quiet machine: the
last section is a measurement of time.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.evaluation_validity import public_scorer
from benchmarks.recipes.document import DOCUMENT, PLOT, RESULT, document
from benchmarks.recipes.measure import QUICK_TEXTS, Row, Scorer, load_source
from benchmarks.recipes.plot import plot
from benchmarks.recipes.sizes import Tables, size_rows
from benchmarks.recipes.speed import speed_rows
from benchmarks.recipes.variants import dims_rows, distil, recipe_rows
from qwen25.distillation.recipe import RECIPES
from qwen25.distillation.settings import Settings
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
        args.texts = min(args.texts, QUICK_TEXTS)
        args.work /= "quick"
    args.work.mkdir(parents=True, exist_ok=True)
    items = {category: load_items(calibration_folder(), category) for category in WEIGHTS}
    scorer = Scorer(items, public_score(args.public_eval), args.seed)
    teacher = find_teacher(args.teacher)
    source = load_source(args, teacher, clock)
    full = distil(source, RECIPES["default"], source.frequencies(source.vocab, source.counts))
    result: Row = {
        "schema_version": 1,
        "quick": args.quick,
        "teacher": {
            "name": teacher.name,
            "layers": teacher.layers,
            "hidden_size": teacher.hidden_size,
            "weights_sha256": teacher.weights_sha256,
        },
        "tokens": len(source.vocab),
        "items": {category: len(rows) for category, rows in items.items()},
        "items_sha256": items_sha256(calibration_folder(), items),
        "public_scorer_sha256": sha256([args.public_eval / "score.py"]) if args.public_eval else None,
    }
    tables = Tables(source, full)
    sections: dict[str, Callable[[], list[Row]]] = {
        "recipes": lambda: recipe_rows(source, scorer, full, args),
        "dims": lambda: dims_rows(source, scorer, full),
        "sizes": lambda: size_rows(tables, scorer, args),
        "speed": lambda: speed_rows(tables, args),
    }
    for name, section in sections.items():
        logger.info("section %s", name)
        result[name] = rounded(section())
        clock.lap(name)
    write_json(args.output, {**result, "step_seconds": clock.steps, **provenance(clock, args.seed)})
    print(args.output)
    return EXIT_OK


def public_score(folder: Path | None) -> Callable[[Any], dict[str, Any]] | None:
    """Return the public scorer on its data, or None without a folder."""
    if folder is None:
        return None
    module = public_scorer(folder)
    return lambda encode: module.score(encode, folder / "dev")


def rounded(value: Any) -> Any:
    """Round floats to six places, far below any interval."""
    if isinstance(value, dict):
        return {key: rounded(v) for key, v in value.items()}
    if isinstance(value, list):
        return [rounded(v) for v in value]
    return round(float(value), 6) if isinstance(value, float) else value


def render(output: Path) -> int:
    """Write the document and the plot beside the result."""
    result = read_json(output)
    for name, text in ((DOCUMENT, document(result)), (PLOT, plot(result))):
        write_text(output.with_name(name), text)
        print(output.with_name(name))
    return EXIT_OK


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--public-eval", type=Path, help="folder with score.py and dev/ (default: only our own items)")
    add(
        "--teacher",
        default="smollm2-135m",
        metavar="SPEC",
        help="a decoder, as phase 1 takes it (default: %(default)s)",
    )
    add("--texts", type=int, default=Settings.texts, help="texts that the teacher writes (default: %(default)s)")
    add("--seed", type=int, default=Settings.seed, help="of texts, resamples and clusters (default: %(default)s)")
    work = Path(tempfile.gettempdir()) / "qwen25-recipes"
    add("--work", type=Path, default=work, help="keeps what the teacher gave for the next run (default: %(default)s)")
    output = f"the result, and beside it what is rendered (default: docs/{RESULT.name}; with --quick, in --work)"
    add("--output", type=Path, help=output)
    add("--render", action="store_true", help="only render the document and the plot (default: only measure)")
    add("--quick", action="store_true", help="a small vocabulary, few texts and few rows (default: all)")
    add_common_flags(parser)
    return parser


def body(args: argparse.Namespace) -> int:
    """Measure or render."""
    if args.texts < 1:
        raise InputError("--texts must be at least 1")
    if args.output is None:
        args.output = args.work / "quick" / RESULT.name if args.quick else RESULT
    return render(args.output) if args.render else measure(args)


def main() -> int:
    """Run the command line and return the exit code."""
    return console.run(build_parser(), body, None)


if __name__ == "__main__":
    sys.exit(main())
