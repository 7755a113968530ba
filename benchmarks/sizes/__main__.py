#!/usr/bin/env python3
"""Which form of a whole model keeps most in how many bytes?

    bash run_qwen25.sh distill --teacher NAME --max-size-mb none --storage float16 --output FOLDER
    python -m benchmarks.sizes --model NAME=FOLDER --public-eval FOLDER   # a folder with score.py and dev/
    python -m benchmarks.sizes --model NAME=FOLDER --speed                # only the time; on a quiet machine
    python -m benchmarks.sizes --render                                   # docs/SIZES.md and docs/size_frontier.svg

A model that was measured before is replaced by its name; the others stay. Every form of a size is derived
from the saved table and tokenizer by the functions that phase 1 itself uses. Each is scored on the project's
own items, those of the evaluation and those of the calibration; two sizes and the whole table are scored on
public data, too, if there is a folder of it. Differences are taken on the same bootstrap resamples.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from benchmarks.public_data import public_score, rounded
from benchmarks.sizes.document import DOCUMENT, PLOT, RESULT, document
from benchmarks.sizes.forms import DEFAULT, FORMS, TINY, Whole, make, read_whole
from benchmarks.sizes.measure import BUDGETS_MB, QUICK_BUDGETS_MB, SHOWN_MB, TINY_MB, Scorer, measure
from benchmarks.sizes.plot import plot
from benchmarks.sizes.speed import speed_rows
from qwen25.distillation.settings import Settings
from qwen25.evaluation.categories.all import WEIGHTS
from qwen25.evaluation.items import calibration_folder, default_items_folder, items_sha256, load_items
from qwen25.runtime import console
from qwen25.runtime.console import add_common_flags
from qwen25.runtime.errors import EXIT_OK, InputError
from qwen25.runtime.files import read_json, sha256, write_json, write_text
from qwen25.runtime.log import logger
from qwen25.runtime.provenance import Clock, provenance

#: Set of items -> its folder.
ITEMS = {"evaluation": default_items_folder(), "calibration": calibration_folder()}


def measured(whole: Whole, args: argparse.Namespace) -> dict[str, Any]:
    """Return the section of one model."""
    clock = Clock()
    sets = {kind: {name: load_items(folder, name) for name in WEIGHTS} for kind, folder in ITEMS.items()}
    scorer = Scorer(sets, public_score(args.public_eval), args.seed)
    rows = measure(whole, scorer, QUICK_BUDGETS_MB if args.quick else args.sizes)
    return {
        "name": whole.name,
        "quick": args.quick,
        **whole.facts,
        "items_sha256": {kind: items_sha256(folder, sets[kind]) for kind, folder in ITEMS.items()},
        "public_scorer_sha256": sha256([args.public_eval / "score.py"]) if args.public_eval else None,
        "rows": rounded(rows),
        **provenance(clock, args.seed),
    }


def timed(whole: Whole, args: argparse.Namespace) -> dict[str, Any]:
    """Return the section of the speed."""
    clock = Clock()
    return {"model": whole.name, "rows": rounded(speed_rows(whole, args.quick)), **provenance(clock, args.seed)}


def save(whole: Whole, folder: Path) -> None:
    """Write the product's form and the tiny one as models, for other benchmarks."""
    for form, budget in ((DEFAULT, SHOWN_MB), (TINY, TINY_MB)):
        target = folder / f"{whole.name.replace(' ', '-')}-{budget:g}mb"
        target.mkdir(parents=True, exist_ok=True)
        make(whole, FORMS[form], budget).save(target)
        print(target)


def sizes(text: str) -> tuple[float, ...]:
    """Parse --sizes."""
    try:
        found = tuple(float(size) for size in text.split(","))
    except ValueError:
        found = ()
    if not {SHOWN_MB, TINY_MB} <= set(found) <= set(BUDGETS_MB):
        raise argparse.ArgumentTypeError(f"some of the default sizes, {SHOWN_MB:g} and {TINY_MB:g} among them")
    return found


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    model = "a whole model, as often as wanted (needed unless --render)"
    add("--model", action="append", default=[], metavar="NAME=FOLDER", help=model)
    add("--public-eval", type=Path, help="folder with score.py and dev/ (default: only our own items)")
    every = ",".join(f"{size:g}" for size in BUDGETS_MB)
    few = f"in 10^6 bytes, of them {SHOWN_MB:g} and {TINY_MB:g} (default: {every})"
    add("--sizes", type=sizes, default=BUDGETS_MB, metavar="MB,MB,...", help=few)
    add("--seed", type=int, default=Settings.seed, help="of resamples and clusters (default: %(default)s)")
    add("--speed", action="store_true", help="measure only the speed of the model's forms (default: only scores)")
    saved = f"only write each model's forms of {SHOWN_MB:g} and {TINY_MB:g} MB there (default: measure)"
    add("--save", type=Path, metavar="FOLDER", help=saved)
    add("--output", type=Path, default=RESULT, help=f"the result (default: docs/results/{RESULT.name})")
    add("--render", action="store_true", help="render document and plot from it (default: only measure)")
    add("--quick", action="store_true", help="two sizes and few sentences, to try the benchmark out (default: all)")
    add_common_flags(parser)
    return parser


def body(args: argparse.Namespace) -> int:
    """Measure what is asked for, then render."""
    if not args.model and not args.render:
        raise InputError("nothing to do: give --model NAME=FOLDER, or --render")
    for text in args.model:
        name, separator, folder = text.partition("=")
        if not (name and separator and folder):
            raise InputError(f"--model takes NAME=FOLDER, not {text!r}")
        logger.info("model %s", name)
        whole = read_whole(name, Path(folder))
        if args.save:
            save(whole, args.save)
            continue
        part = {"speed": timed(whole, args)} if args.speed else {"models": [measured(whole, args)]}
        _keep(args.output, part)
    if args.render:
        result = read_json(args.output)
        write_text(DOCUMENT, document(result))
        print(DOCUMENT)
        if result["models"]:
            write_text(PLOT, plot(result))
            print(PLOT)
    return EXIT_OK


def _keep(path: Path, part: dict[str, Any]) -> None:
    """Put a part into the result; a model takes the place of the one of its name."""
    empty: dict[str, Any] = {"schema_version": 1, "models": [], "speed": None}
    result = read_json(path) if path.exists() else empty
    new = {model["name"]: model for model in part.pop("models", [])}
    kept = [new.pop(model["name"], model) for model in result["models"]]
    write_json(path, {**result, **part, "models": [*kept, *new.values()]})
    print(path)


def main() -> int:
    """Run the command line and return the exit code."""
    return console.run(build_parser(), body, None)


if __name__ == "__main__":
    sys.exit(main())
