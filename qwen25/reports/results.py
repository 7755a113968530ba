"""The result files of phases 1 to 3, read and checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qwen25.evaluation.results import ComparisonFile, EvaluationFile, read_comparison, read_evaluation
from qwen25.runtime.invocation import command_of
from qwen25.runtime.schemas import read_result


def read_results(
    model: Path, evaluation: Path, comparison: Path
) -> tuple[dict[str, Any], EvaluationFile, ComparisonFile]:
    """Read what phases 1 to 3 say: a model folder's metadata, its evaluation and its comparison.

    :raises InputError: if one is missing, broken or of another version.
    """
    metadata = read_result(model / "metadata.json", "metadata", command_of("distill", output=model))
    return metadata, read_evaluation(evaluation, model), read_comparison(comparison, model)
