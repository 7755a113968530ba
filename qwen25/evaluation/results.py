"""The result files of phases 2 and 3: their rows and numbers, read and checked. Their form is in ``data/schema``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from qwen25.evaluation.categories import WEIGHTS
from qwen25.evaluation.category import interval
from qwen25.evaluation.evaluate import Evaluation
from qwen25.evaluation.judgement import Result, verdict, word_of
from qwen25.evaluation.models import PEERS, PUBLISHED
from qwen25.runtime.console import MODEL, STDOUT, command_of
from qwen25.runtime.errors import PipelineError, redact
from qwen25.runtime.files import check_file, read_result
from qwen25.runtime.provenance import Clock, provenance

EVALUATION_VERSION, COMPARISON_VERSION = 2, 3


def read_evaluation(path: Path, model: Path = MODEL) -> Result:
    """Read phase 2's result file; raises InputError with the command that makes it anew for ``model``."""
    return dict(read_result(path, "evaluation", command_of("eval", model=model, output=path)))


def read_comparison(path: Path, model: Path = MODEL) -> Result:
    """Read phase 3's result file; raises InputError with the command that makes it anew for ``model``."""
    return dict(read_result(path, "comparison", command_of("compare", model=model, output=path)))


def result_file(version: int, result: Result, items_sha256: dict[str, str], clock: Clock, seed: int) -> Result:
    """Return the content of a result file: the result, the hashes of the items, and the run."""
    about = {"items_sha256": items_sha256, "step_seconds": clock.steps, **provenance(clock, seed)}
    return {"schema_version": version, **result, **about}


def as_json(evaluation: Evaluation) -> Result:
    """Return an evaluation as the result files hold it."""
    controls = _scores(evaluation.control) if evaluation.control else {}
    scores = {name: _score(*own, controls.get(name)) for name, own in _scores(evaluation).items()}
    categories = {
        name: {
            **scores[name],
            "weight": WEIGHTS[name],
            "sub_scores": found.sub_scores,
            "worst_items": found.worst,
            "passed_items": found.passed,
        }
        for name, found in evaluation.categories.items()
    }
    result = {"model": evaluation.model, "overall": scores["overall"], "categories": categories}
    result = rounded({**result, "health": evaluation.health})
    return {**result, "verdict": verdict(result)}


def _scores(evaluation: Evaluation) -> dict[str, tuple[float, np.ndarray]]:
    """Return each category's score, and the ``overall`` one, with its replicates."""
    found = {name: (score.score, score.replicates) for name, score in evaluation.categories.items()}
    return {**found, "overall": (evaluation.overall, evaluation.replicates)}


def _score(score: float, replicates: np.ndarray, control: tuple[float, np.ndarray] | None) -> Result:
    """Return a score with its interval, beside those of the control and the paired difference of the two."""
    found: Result = {"score": score, "interval": interval(replicates), "control": None}
    if control is not None:
        paired = paired_difference(score - control[0], replicates - control[1])
        found["control"] = {"score": control[0], "interval": interval(control[1]), "difference": paired}
    return found


def paired_difference(value: float, replicates: np.ndarray) -> Result:
    """Return a difference of two scores with its 95 % interval and a word for it.

    :param replicates: the difference on each resample; the two scores are paired, since they share the resamples.
    """
    bounds = rounded(interval(replicates))
    return {"value": round(value, 6), "interval": bounds, "word": word_of(bounds)}


def rounded(value: Any) -> Any:
    """Round floats to six places, far below any interval, so that files do not differ in noise."""
    if isinstance(value, dict):
        return {key: rounded(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(v) for v in value]
    return round(float(value), 6) if isinstance(value, float) else value


def measured_row(name: str, what: str, found: Evaluation, ours: Evaluation | None = None) -> Result:
    """Return the row of a model that was scored.

    :param what: what it is, in a few words.
    :param ours: the model that it is compared with; None: it is ours.
    """
    row = {
        "name": name,
        "obtained": "measured",
        "what": what,
        "kind": found.model["kind"],
        "result": as_json(found),
        "published": PUBLISHED.get(name),
    }
    return row if ours is None else {**row, "difference_to_ours": differences(found, ours)}


def missing_row(name: str, error: PipelineError) -> Result:
    """Return the row of a model that cannot be had here, with what was published of it, if anything was."""
    peer = PEERS.get(name, {"what": "", "how": "run again with a connection to the hub"})
    return {
        "name": name,
        "obtained": "published" if name in PUBLISHED else "unavailable",
        "what": peer["what"],
        "reason": redact(" ".join(error.what.split())),
        "how": peer["how"],
        "published": PUBLISHED.get(name),
    }


def differences(found: Evaluation, ours: Evaluation) -> Result:
    """Return a model's scores minus ours, each with its paired 95 % interval and a word.

    The overall difference is None if the model was not scored on every category of ours.
    """
    theirs, mine = _scores(found), _scores(ours)
    categories = {
        name: paired_difference(rounded(theirs[name][0]) - rounded(mine[name][0]), theirs[name][1] - mine[name][1])
        for name in theirs
        if name in mine
    }
    overall = categories.pop("overall")
    return {"overall": overall if set(theirs) == set(mine) else None, "categories": categories}


def check_outputs(*outputs: Path) -> None:
    """Check, before the work, that the outputs can be written; raises InputError if not."""
    for path in outputs:
        if path != STDOUT:
            check_file(path)
