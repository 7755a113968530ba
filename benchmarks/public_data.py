"""What benchmarks of forms and recipes keep of a model's scores: on our items, and by a public scorer.

That is any module with ``score(encode, data_folder) -> {"overall": ..., "categories": ...}``.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qwen25.evaluation.category import interval
from qwen25.evaluation.evaluate import Evaluation
from qwen25.runtime.console import Parser
from qwen25.runtime.errors import InputError


def public_parser(story: str | None, what: str, **how: Any) -> Parser:
    """Return the parser of a benchmark that measures what is named, on public data too, or else only renders."""
    parser = Parser(story=story)
    parser.add_argument(what, **how)
    parser.add_argument("--public-eval", type=Path, help="folder with score.py and dev/ (default: only our own items)")
    return parser


def public_score(folder: Path | None) -> Callable[[Any], dict[str, Any]] | None:
    """Return the public scorer on its development sets, its overall score and categories alone; None without a folder.

    :raises InputError: if the folder has no scorer.
    """
    if folder is None:
        return None
    spec = importlib.util.spec_from_file_location("public_score", folder / "score.py")
    if spec is None or spec.loader is None or not (folder / "score.py").is_file():
        raise InputError(f"{folder} has no score.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def score(encode: Any) -> dict[str, Any]:
        found = module.score(encode, folder / "dev")
        return {"overall": found["overall"], "categories": found["categories"]}

    return score


def score_facts(found: Evaluation, base: Evaluation) -> dict[str, Any]:
    """Return a model's scores, and the difference of its overall one to a base's on the same resamples."""
    value, replicates = found.overall - base.overall, found.replicates - base.replicates
    return {
        "score": found.overall,
        "interval": list(interval(found.replicates)),
        "difference": {"value": value, "interval": list(interval(replicates))},
        "categories": {name: score.score for name, score in found.categories.items()},
    }
