"""Models scored on the same items, one after another, and set beside ours."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from qwen25.evaluation.evaluate import Evaluation, evaluate
from qwen25.evaluation.fields import Item
from qwen25.evaluation.loading import load_encoder
from qwen25.evaluation.peers import CONTROL, PEERS, PUBLISHED, Peer
from qwen25.evaluation.results import (
    BETTER,
    SAME,
    WORSE,
    Comparison,
    Difference,
    Differences,
    EvaluationResult,
    Row,
    as_json,
)
from qwen25.evaluation.statistics import interval
from qwen25.runtime.errors import InputError, PipelineError, redact
from qwen25.runtime.log import logger
from qwen25.runtime.provenance import Clock


@dataclass(frozen=True)
class Measured:
    """What is kept of a model once it was scored and let go.

    :ivar result: the evaluation as the result files hold it.
    :ivar overall: the overall score on each bootstrap resample.
    :ivar categories: category -> its score on each resample.
    :ivar control: the same of its random-direction control, or None.
    """

    result: EvaluationResult
    overall: np.ndarray
    categories: dict[str, np.ndarray]
    control: Measured | None

    @classmethod
    def of(cls, evaluation: Evaluation) -> Measured:
        """Return what is kept of ``evaluation``: its numbers, not its model."""
        return cls(
            as_json(evaluation),
            evaluation.replicates,
            {name: score.replicates for name, score in evaluation.categories.items()},
            cls.of(evaluation.control) if evaluation.control else None,
        )


def compare(
    ours: tuple[str, str],
    others: Mapping[str, str],
    items: dict[str, list[Item]],
    seed: int,
    *,
    peers: Mapping[str, Peer] = PEERS,
    offline: bool = False,
    clock: Clock | None = None,
) -> Comparison:
    """Score ours, its control, the others and the peers on the same items; one model is in memory at a time.

    :param ours: name and SPEC (see ``loading.SPECS``) of the model that the others are compared with.
    :param others: name -> SPEC of models that must be there; one with a peer's name stands in its place.
    :param items: category -> items.
    :param peers: name -> system that is left out with a reason where it cannot be had.
    :param offline: use only what the hub's cache holds.
    :param clock: takes a lap for each model, under its name.
    :raises InputError: if two models have one name, or ours or one of the others cannot be loaded.
    :raises PipelineError: if ours cannot be had for another reason, such as a hub that does not answer.
    """
    clock = clock or Clock()
    our_name, our_spec = ours
    specs = {**others, **{name: peer.spec for name, peer in peers.items() if name not in others}}
    if our_name in specs or CONTROL in (our_name, *specs):
        raise InputError(f"each model needs a name of its own, and none may be {CONTROL!r}")
    logger.info("scoring 1 of %d: %s", 1 + len(specs), our_name)
    mine = _measure(our_name, our_spec, items, seed, offline, control_health=True)
    rows = [_measured_row(our_name, "ours", mine)]
    if mine.control:
        rows.append(_measured_row(CONTROL, "ours with its directions drawn at random", mine.control, mine))
    clock.lap(our_name)
    for number, (name, spec) in enumerate(specs.items(), 2):
        logger.info("scoring %d of %d: %s", number, 1 + len(specs), name)
        try:
            peer = _measure(name, spec, items, seed, offline)
        except PipelineError as error:
            if isinstance(error, InputError) and name in others:
                raise
            logger.info("    not measured: it cannot be had here")
            rows.append(_missing_row(name, error))
        else:
            rows.append(_measured_row(name, PEERS[name].what if name in PEERS else "", peer, mine))
        clock.lap(name)
    return {"ours": our_name, "models": rows}


def _measure(
    name: str, spec: str, items: dict[str, list[Item]], seed: int, offline: bool, control_health: bool = False
) -> Measured:
    """Load one model, score it and let it go again.

    :param control_health: measure its control whole, for a row of its own.
    :raises PipelineError: if it cannot be had or scored.
    """
    measured = Measured.of(evaluate(load_encoder(spec, name, offline), items, seed, control_health=control_health))
    gc.collect()  # before the next one is loaded
    return measured


def _measured_row(name: str, what: str, measured: Measured, ours: Measured | None = None) -> Row:
    """Return the row of a model that was scored, beside ours if it is another."""
    row: Row = {
        "name": name,
        "obtained": "measured",
        "what": what,
        "kind": measured.result["model"]["kind"],
        "result": measured.result,
        "quality_per_mb": quality_per_mb(measured.result),
        "published": _published(name),
    }
    if ours is not None:
        row["difference_to_ours"] = difference(measured, ours)
    return row


def _missing_row(name: str, error: PipelineError) -> Row:
    """Return the row of a peer that could not be had: with what was published of it, if anything was."""
    peer = PEERS.get(name)
    return {
        "name": name,
        "obtained": "published" if name in PUBLISHED else "unavailable",
        "what": peer.what if peer else "",
        "reason": redact(" ".join(error.what.split())),
        "how": peer.how if peer else "run again with a connection to the hub",
        "published": _published(name),
    }


def _published(name: str) -> dict[str, object] | None:
    return PUBLISHED[name].as_json() if name in PUBLISHED else None


def difference(peer: Measured, ours: Measured) -> Differences:
    """Return the peer's scores minus ours, each with its paired bootstrap interval and a plain word.

    The overall difference is None where the peer was not scored on every category.
    """
    theirs, mine = peer.result["categories"], ours.result["categories"]
    categories = {
        name: _difference(theirs[name]["score"] - mine[name]["score"], peer.categories[name] - ours.categories[name])
        for name in mine
        if name in theirs
    }
    overall = None
    if set(theirs) == set(mine):
        value = peer.result["overall"]["score"] - ours.result["overall"]["score"]
        overall = _difference(value, peer.overall - ours.overall)
    return {"overall": overall, "categories": categories}


def _difference(value: float, replicates: np.ndarray) -> Difference:
    low, high = interval(replicates)
    word = BETTER if low > 0 else WORSE if high < 0 else SAME
    return {"value": round(value, 6), "interval": [round(low, 6), round(high, 6)], "word": word}


def quality_per_mb(result: EvaluationResult) -> float | None:
    """Return the overall score for each megabyte (10^6 bytes) on disk."""
    size = result["health"]["size_bytes"]
    return round(result["overall"]["score"] / (size / 1e6), 6) if size else None
