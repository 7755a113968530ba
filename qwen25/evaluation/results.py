"""The result files of phases 2 and 3: their types, reading them, and an evaluation as one of them.

The types say the same as ``docs/schema/``; a file is checked against its schema when it is read.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypedDict, cast

from qwen25.evaluation.categories.all import WEIGHTS
from qwen25.evaluation.evaluate import Evaluation
from qwen25.evaluation.statistics import Interval
from qwen25.evaluation.verdict import Verdict, verdict
from qwen25.runtime.invocation import MODEL, command_of
from qwen25.runtime.provenance import Clock, provenance
from qwen25.runtime.schemas import read_result

#: Of the result files of phases 2 and 3.
EVALUATION_VERSION, COMPARISON_VERSION = 1, 2


class Score(TypedDict):
    """A score with its 95 % interval."""

    score: float
    interval: list[float]


class ScoreAndControl(Score):
    """A score beside the same of the random-direction control, if the model has one."""

    control: Score | None


class CategoryResult(ScoreAndControl):
    """One category's outcome; see ``CategoryScore``."""

    weight: float
    sub_scores: dict[str, Any]
    worst_items: list[dict[str, str]]
    passed_items: list[dict[str, str]]


class Model(TypedDict):
    """Which model was scored."""

    name: str
    kind: str
    dims: int | None
    sha256: str | None


class EvaluationResult(TypedDict):
    """One model's evaluation; see ``Evaluation``."""

    model: Model
    overall: ScoreAndControl
    categories: dict[str, CategoryResult]
    health: dict[str, Any]
    cosine_protocol: dict[str, dict[str, Any]]
    verdict: Verdict


class Run(TypedDict):
    """What a result file says of its own making."""

    schema_version: int
    command: str
    created: str
    wall_seconds: float
    seed: int
    versions: dict[str, str]
    hardware: dict[str, Any]
    step_seconds: dict[str, float]
    items_sha256: dict[str, str]


class EvaluationFile(EvaluationResult, Run):
    """Phase 2's result file."""


#: The words for a difference.
BETTER, WORSE, SAME = "better", "worse", "no difference shown"


class Difference(TypedDict):
    """A peer's score minus ours, with its paired 95 % interval and a word for it."""

    value: float
    interval: list[float]
    word: str


class Differences(TypedDict):
    """A peer's differences to ours; the overall one is None where the peer has not all of our categories."""

    overall: Difference | None
    categories: dict[str, Difference]


class _RowOfAnyKind(TypedDict):
    name: str
    obtained: str
    what: str
    published: dict[str, Any] | None


class Row(_RowOfAnyKind, total=False):
    """A system of a comparison; which of these fields it has follows from ``obtained``."""

    kind: str
    result: EvaluationResult
    quality_per_mb: float | None
    difference_to_ours: Differences
    reason: str
    how: str


class Comparison(TypedDict):
    """A comparison: the rows, and the name of the one that the others are compared with."""

    ours: str
    models: list[Row]


class ComparisonFile(Comparison, Run):
    """Phase 3's result file."""


def read_evaluation(path: Path, model: Path = MODEL) -> EvaluationFile:
    """Read phase 2's result file.

    :param model: the folder of the model that it speaks of.
    :raises InputError: if it is missing, or is not of this version.
    """
    return cast(EvaluationFile, read_result(path, "evaluation", command_of("eval", model=model, output=path)))


def read_comparison(path: Path, model: Path = MODEL) -> ComparisonFile:
    """Read phase 3's result file.

    :param model: the folder of the model that the others are compared with.
    :raises InputError: if it is missing, or is not of this version.
    """
    ours = {} if model == MODEL else {"ours": f"{model.resolve().name}={model}"}
    return cast(ComparisonFile, read_result(path, "comparison", command_of("compare", **ours, output=path)))


def evaluation_file(result: EvaluationResult, items_sha256: dict[str, str], clock: Clock, seed: int) -> EvaluationFile:
    """Return phase 2's result file: the result, what it was measured on, and the run."""
    return cast(EvaluationFile, _file(EVALUATION_VERSION, result, items_sha256, clock, seed))


def comparison_file(result: Comparison, items_sha256: dict[str, str], clock: Clock, seed: int) -> ComparisonFile:
    """Return phase 3's result file: the result, what it was measured on, and the run."""
    return cast(ComparisonFile, _file(COMPARISON_VERSION, result, items_sha256, clock, seed))


def _file(version: int, result: Any, items_sha256: dict[str, str], clock: Clock, seed: int) -> dict[str, Any]:
    about = {"items_sha256": items_sha256, "step_seconds": clock.steps, **provenance(clock, seed)}
    return {"schema_version": version, **result, **about}


def as_json(evaluation: Evaluation) -> EvaluationResult:
    """Return the evaluation as the result files hold it, every number finite."""
    control = evaluation.control
    categories = {}
    for name, score in evaluation.categories.items():
        categories[name] = {
            **_score(score.score, score.interval),
            "weight": WEIGHTS[name],
            "control": _score(control.categories[name].score, control.categories[name].interval) if control else None,
            "sub_scores": score.sub_scores,
            "worst_items": score.worst,
            "passed_items": score.passed,
        }
    encoder = evaluation.encoder
    protocol = {name: score.cosine_protocol for name, score in evaluation.categories.items()}
    result = {
        "model": {"name": encoder.name, "kind": encoder.kind, "dims": encoder.dims, "sha256": encoder.sha256},
        "overall": {
            **_score(evaluation.overall, evaluation.interval),
            "control": _score(control.overall, control.interval) if control else None,
        },
        "categories": categories,
        "health": evaluation.health,
        "cosine_protocol": protocol if encoder.matcher.has_cosines else {},
        "verdict": verdict(evaluation),
    }
    return cast(EvaluationResult, json.loads(json.dumps(_rounded(result))))


def _score(score: float, bounds: Interval) -> dict[str, Any]:
    return {"score": score, "interval": list(bounds)}


def _rounded(value: Any) -> Any:
    """Round floats to six places, far below any interval, so that files do not differ in noise."""
    if isinstance(value, dict):
        return {key: _rounded(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(v) for v in value]
    return round(value, 6) if isinstance(value, float) else value
