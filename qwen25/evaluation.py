"""One model's whole result: category scores beside its control's, the overall score, health and verdict."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qwen25.encoders import Encoder, random_control
from qwen25.items import LANGUAGES, TEXTS, WEIGHTS, Item, items_file
from qwen25.matching import Cosine, Matcher
from qwen25.runtime.display import progress
from qwen25.runtime.errors import InputError
from qwen25.runtime.files import check_file
from qwen25.scores import CATEGORIES, CategoryScore, Interval, interval
from qwen25.store.model_files import CONFIGURATION, files_in, model_folder

#: Of phase 2's result file.
SCHEMA_VERSION = 1
#: (verdict, least overall score, least instruction-awareness score), best first.
DECISION_TABLE = (
    ("Excellent", 0.75, 0.65),
    ("Very good", 0.70, 0.60),
    ("Good", 0.65, 0.55),
    ("Fair", 0.60, 0.50),
)
POOR = "Poor"
MAX_UNRELATED_COSINE = 0.5
LATENCY_QUERIES = 200


@dataclass(frozen=True)
class Evaluation:
    """What one model scored.

    :ivar encoder: the model.
    :ivar categories: category -> its score.
    :ivar overall: the weighted mean of the categories evaluated.
    :ivar replicates: the overall on each bootstrap resample.
    :ivar control: the same for the model's random-direction control, or None.
    :ivar health: what the space and the speed look like; empty if it was not measured.
    """

    encoder: Encoder
    categories: dict[str, CategoryScore]
    overall: float
    replicates: np.ndarray
    control: Evaluation | None
    health: dict[str, Any]

    @property
    def interval(self) -> Interval:
        """The 95 % interval of the overall score."""
        return interval(self.replicates)


def evaluate(
    encoder: Encoder,
    items: dict[str, list[Item]],
    seed: int,
    *,
    with_control: bool = True,
    with_health: bool = True,
    control_health: bool = False,
) -> Evaluation:
    """Score a model on the items, and its random-direction control on the same ones.

    Topic clustering is left out for a model that gives no vectors.

    :param items: category -> items; the overall score is over the categories scored, weights rescaled.
    :param with_control: also score the control, where the model has a table to shuffle.
    :param with_health: also measure the space and the speed.
    :param control_health: the control's, too: only a comparison that gives it a row of its own shows them.
    """
    scores = {}
    with progress(encoder.name, len(items)) as advance:
        for category, rows in items.items():
            if category != "topic_clustering" or encoder.matcher.has_vectors:
                scores[category] = CATEGORIES[category](encoder.matcher, rows, seed)
            advance(1)
    total = sum(WEIGHTS[category] for category in scores)
    overall = sum(WEIGHTS[c] / total * s.score for c, s in scores.items())
    replicates = np.sum([WEIGHTS[c] / total * s.replicates for c, s in scores.items()], axis=0)
    control = random_control(encoder, seed) if with_control else None
    return Evaluation(
        encoder=encoder,
        categories=scores,
        overall=float(overall),
        replicates=replicates,
        control=evaluate(control, items, seed, with_control=False, with_health=control_health) if control else None,
        health=health(encoder, items) if with_health else {},
    )


def health(encoder: Encoder, items: dict[str, list[Item]]) -> dict[str, Any]:
    """Measure the space (does it collapse?) and the speed (is it worth being static?).

    ``isotropy`` is min Z(c) / max Z(c) over the principal directions c of the texts' vectors, with
    Z(c) = sum of exp(c . v) (Mu and Viswanath 2018, arXiv:1702.01417): 1 when no direction is special.
    """
    matcher = encoder.matcher
    texts = sorted({item[field] for category, rows in items.items() for item in rows for field in TEXTS[category]})
    started = time.perf_counter()
    matcher.take_in(texts)
    seconds = time.perf_counter() - started
    order = np.random.default_rng(0).permutation(len(texts))
    shuffled = [texts[i] for i in order]
    facts: dict[str, Any] = {
        "unrelated_cosine": None,
        "unrelated_cosine_across_languages": None,
        "isotropy": None,
        "variance_of_top_direction": None,
        "tokens_never_reached": _never_reached(encoder),
        "sentences_per_second": round(len(texts) / seconds, 1),
        "load_seconds": round(encoder.load_seconds, 3),
        "size_bytes": encoder.size_bytes,
        "memory_bytes": encoder.memory_bytes,
        "dims": encoder.dims,
    }
    if matcher.has_cosines:
        facts["unrelated_cosine"] = float(matcher.pairwise(shuffled, [*shuffled[-1:], *shuffled[:-1]]).mean())
        facts["unrelated_cosine_across_languages"] = _across_languages(matcher, items)
    if isinstance(matcher, Cosine):
        vectors = matcher.vectors(texts)
        partition = np.exp(vectors @ np.linalg.svd(vectors, full_matrices=False)[2].T).sum(axis=0)
        centred = np.linalg.svd(vectors - vectors.mean(axis=0), compute_uv=False) ** 2
        facts["isotropy"] = float(partition.min() / partition.max())
        facts["variance_of_top_direction"] = float(centred[0] / max(float(centred.sum()), 1e-12))
    return facts | _latency(matcher, shuffled[:LATENCY_QUERIES])


def verdict(evaluation: Evaluation) -> dict[str, Any]:
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
    instruction = scores["instruction_awareness"].score
    for name, least_overall, least_instruction in DECISION_TABLE:
        if evaluation.overall >= least_overall and instruction >= least_instruction:
            return {"verdict": name, "reasons": [f"overall >= {least_overall} and instruction >= {least_instruction}"]}
    _, least_overall, least_instruction = DECISION_TABLE[-1]
    reason = f"below Fair, which asks for overall >= {least_overall} and instruction >= {least_instruction}"
    return {"verdict": POOR, "reasons": [reason]}


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


def _across_languages(matcher: Matcher, items: dict[str, list[Item]]) -> float | None:
    """Return the mean cosine of an English sentence with another sentence's translation."""
    if not (rows := items.get("multilingual_alignment")):
        return None
    english = [item["en"] for item in rows]
    others = [[item[name] for item in [*rows[-1:], *rows[:-1]]] for name in LANGUAGES[1:]]
    return float(np.mean([matcher.pairwise(english, other).mean() for other in others]))


def _never_reached(encoder: Encoder) -> float | None:
    """Return the share of a static model's tokens that its tokenizer never produces from their own text."""
    if encoder.static is None:
        return None
    model = encoder.static.tokenizer.model
    tokens = encoder.static.tokens
    return float(np.mean([[t.value for t in model.tokenize(token)] != [token] for token in tokens]))


def _latency(matcher: Matcher, queries: list[str]) -> dict[str, float]:
    for query in queries[:5]:  # the first calls set things up
        matcher.ask(query)
    times = []
    for query in queries:
        started = time.perf_counter()
        matcher.ask(query)
        times.append(1000 * (time.perf_counter() - started))
    p50, p95 = np.percentile(times, [50, 95])
    return {"latency_p50_ms": round(float(p50), 4), "latency_p95_ms": round(float(p95), 4)}


def default_items_folder() -> Path:
    """Return the folder of the project's own items, beside the helper package."""
    return Path(__file__).resolve().parent.parent / "eval_data"


def check_outputs(outputs: Sequence[Path], specs: Iterable[str], items: Path | None = None) -> None:
    """Refuse, before the work, a place for a result that has no room for one or is taken.

    :param specs: the models that the run reads; see ``encoders.SPECS``.
    :param items: the folder of the items that it reads.
    :raises InputError: if no file can be written there, or it is that of another result or of what the run reads.
    """
    folders = [folder for spec in specs if (folder := model_folder(spec))]
    # By their names, not all that is there: a result that an earlier run wrote beside a model may be replaced.
    kept = (*CONFIGURATION, "*.safetensors", "metadata.json", "README.md")
    read = [path for folder in folders for path in files_in(folder, kept)]
    read += [items_file(items, category) for category in WEIGHTS] if items else []
    taken = dict.fromkeys((path.resolve() for path in read), "a file of the model or of the items")
    for path in outputs:
        check_file(path)
        if what := taken.get(path.resolve()):
            raise InputError(f"{path} is {what}: give another path")
        taken[path.resolve()] = "the place of another result, too"
