"""An evaluation as the result files hold it."""

from __future__ import annotations

import json
from typing import Any

from qwen25.evaluation.categories.all import WEIGHTS
from qwen25.evaluation.evaluate import Evaluation
from qwen25.evaluation.statistics import Interval
from qwen25.evaluation.verdict import verdict

#: Of phase 2's result file.
SCHEMA_VERSION = 1


def as_json(evaluation: Evaluation) -> dict[str, Any]:
    """Return the evaluation as the result files hold it, every number finite."""
    control = evaluation.control
    categories = {}
    for name, score in evaluation.categories.items():
        categories[name] = {
            "score": score.score,
            "interval": list(score.interval),
            "weight": WEIGHTS[name],
            "control": _pair(control.categories[name].score, control.categories[name].interval) if control else None,
            "sub_scores": score.sub_scores,
            "worst_items": score.worst,
            "passed_items": score.passed,
        }
    encoder = evaluation.encoder
    result = {
        "model": {"name": encoder.name, "kind": encoder.kind, "dims": encoder.dims, "sha256": encoder.sha256},
        "overall": {
            "score": evaluation.overall,
            "interval": list(evaluation.interval),
            "control": _pair(control.overall, control.interval) if control else None,
        },
        "categories": categories,
        "health": evaluation.health,
        "cosine_protocol": {name: score.cosine_protocol for name, score in evaluation.categories.items()}
        if encoder.matcher.has_cosines
        else {},
        "verdict": verdict(evaluation),
    }
    return json.loads(json.dumps(_rounded(result)))


def _pair(score: float, bounds: Interval) -> dict[str, Any]:
    return {"score": score, "interval": list(bounds)}


def _rounded(value: Any) -> Any:
    """Round floats to six places, far below any interval, so that files do not differ in noise."""
    if isinstance(value, dict):
        return {key: _rounded(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(v) for v in value]
    return round(value, 6) if isinstance(value, float) else value
