"""The verdict of an evaluation: a decision table behind two gates."""

from __future__ import annotations

from typing import TypedDict

from qwen25.evaluation.categories.all import WEIGHTS
from qwen25.evaluation.categories.instruction_awareness import INSTRUCTION_AWARENESS
from qwen25.evaluation.evaluate import Evaluation
from qwen25.evaluation.statistics import interval

#: The category that the decision table asks for beside the overall score.
DECISIVE = INSTRUCTION_AWARENESS.name
#: (verdict, least overall score, least instruction-awareness score), best first.
DECISION_TABLE = (
    ("Excellent", 0.75, 0.65),
    ("Very good", 0.70, 0.60),
    ("Good", 0.65, 0.55),
    ("Fair", 0.60, 0.50),
)
POOR = "Poor"
MAX_UNRELATED_COSINE = 0.5


class Verdict(TypedDict):
    """A row's name of the decision table, or None where a category is missing, and the reasons for it."""

    verdict: str | None
    reasons: list[str]


def verdict(evaluation: Evaluation) -> Verdict:
    """Apply the decision table and the two gates.

    A model that does not beat its random-direction control by more than the interval of the difference
    only matches words; one whose unrelated texts look alike has collapsed. Either is Poor. The table
    asks for both an overall and an instruction-awareness score, so a run without that category has no
    verdict.
    """
    scores = evaluation.categories
    if set(scores) != set(WEIGHTS):
        missing = ", ".join(c for c in WEIGHTS if c not in scores)
        return {"verdict": None, "reasons": [f"no verdict without all six categories (left out: {missing})"]}
    reasons = []
    if evaluation.control is not None:
        low, _ = interval(evaluation.replicates - evaluation.control.replicates)
        if low <= 0:
            reasons.append(
                f"overall {evaluation.overall:.3f} does not beat its random-direction control "
                f"({evaluation.control.overall:.3f}) by more than the interval: it matches words"
            )
    cosine = evaluation.health.get("unrelated_cosine")
    if cosine is not None and cosine >= MAX_UNRELATED_COSINE:
        reasons.append(f"unrelated texts have a mean cosine of {cosine:.2f} (limit {MAX_UNRELATED_COSINE}): collapsed")
    if reasons:
        return {"verdict": POOR, "reasons": reasons}
    instruction = scores[DECISIVE].score
    for name, least_overall, least_instruction in DECISION_TABLE:
        if evaluation.overall >= least_overall and instruction >= least_instruction:
            return {"verdict": name, "reasons": [f"overall >= {least_overall} and instruction >= {least_instruction}"]}
    _, least_overall, least_instruction = DECISION_TABLE[-1]
    reason = f"below Fair, which asks for overall >= {least_overall} and instruction >= {least_instruction}"
    return {"verdict": POOR, "reasons": [reason]}
