"""Training: first a projection of the wide states and a weight a token, then, if asked, every row.

The settings are those of a search on public development sets with Qwen2.5-Coder-0.5B: docs/LOG.md.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from qwen25.runtime.log import logger
from qwen25.store.quantisation import Sharing
from qwen25.training.batches import EncodedSet
from qwen25.training.checkpoint import load_checkpoint, run_key, save_checkpoint
from qwen25.training.objective import HeldOut, Objective
from qwen25.training.soft_targets import SoftTargets
from qwen25.training.table import FreeTable, ProjectedTable, Start

Tune = Literal["map", "rows"]
#: The learning rates, reached after the warm-up and then falling to 0 in a line.
MAP_RATE, WEIGHT_RATE, ROW_RATE = 5e-4, 5e-3, 6e-2
#: Of tuned rows and the map's, the mean is kept: the pairs teach the tuned ones at the cost of what the teacher
#: knows besides (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models", arXiv:2109.01903).
TUNED_SHARE = 0.5
#: The rows see each pair so many times as often as the map does: a rare word is in few pairs.
ROW_PASSES = 2
#: Without pairs the rates are this many times as large: texts of one language must not bend the others'.
SHARE_WITHOUT_PAIRS = 0.2
WARM_UP = 0.1
#: What is held out is looked at so many times a stage; after so many looks without a gain the stage ends.
LOOKS, PATIENCE = 10, 4


@dataclass(frozen=True)
class TrainingSettings:
    """How to train.

    :ivar tune: ``map``: the projection and a weight a token; ``rows``: after that every row as well.
    :ivar epochs: how often the map sees each pair, on average; the rows see it ``ROW_PASSES`` times as often.
    :ivar steps: how many steps the map takes where there are no pairs, only soft targets; the rows, as many more.
    :ivar batch_size: pairs a step.
    :ivar temperature: how a set's size counts: 1 as it is, 0 not at all.
    :ivar seed: of the batches and of what is held out.
    """

    tune: Tune = "map"
    epochs: float = 1.0
    steps: int = 150
    batch_size: int = 1024
    temperature: float = 0.5
    seed: int = 42


@dataclass
class Stage:
    """What a stage did, for the metadata.

    :ivar pairs: how many it was to see, each as often as it is in the batches.
    :ivar held_out: the held-out loss at each look; the first is before the stage.
    """

    name: str
    pairs: int = 0
    steps: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    held_out: list[float] = field(default_factory=list)
    kept: bool = False


@dataclass(frozen=True)
class Trained:
    """The result of training.

    :ivar vectors: the table; float32, shape (tokens, dims). The untrained one, if nothing was better.
    :ivar sharing: which of its tokens share rows, if any do.
    :ivar facts: losses, held-out scores and settings, for the metadata.
    """

    vectors: np.ndarray
    sharing: Sharing | None
    facts: dict[str, Any]


class NotFinite(Exception):
    """A loss that is NaN or infinite."""


def train(
    start: Start,
    sets: Sequence[EncodedSet],
    soft: SoftTargets | None,
    settings: TrainingSettings,
    *,
    device: str = "cpu",
    share: Callable[[np.ndarray], Sharing | None] = lambda table: None,
    checkpoint: Path | None = None,
    resume: bool = True,
) -> Trained:
    """Train a table from where it starts; the best by what is held out is kept, the untrained one included.

    :param sets: pairs; may be empty if there are soft targets.
    :param soft: the teacher's sentence vectors, if they are to be followed.
    :param share: says of a table which of its tokens share rows; rows are tuned as they will be stored.
    :param checkpoint: a file to go on from; the caller removes it once the result is saved.
    :raises PipelineError: if the checkpoint cannot be written.
    """
    objective = _objective(start, sets, soft, settings)
    key = _key(start, sets, soft, settings, device) if checkpoint else ""
    table = ProjectedTable(start).to(device)
    before = objective.score(table)
    logger.info("    untrained: %s", _describe(before))
    stages = []
    optimiser = torch.optim.Adam([{"params": [table.projection]}, {"params": [table.log_weights]}])
    pace = 1.0 if sets else SHARE_WITHOUT_PAIRS
    run = _Run(table, [optimiser], [pace * MAP_RATE, pace * WEIGHT_RATE], objective, _Best(before.loss), Stage("map"))
    run.go(checkpoint, key, resume)
    stages.append(run.stage)
    run.restore()
    vectors, after = table.vectors(), objective.score(table)
    sharing = share(vectors)
    if settings.tune == "rows" and not run.failed:
        again = replace(settings, epochs=ROW_PASSES * settings.epochs, steps=ROW_PASSES * settings.steps)
        objective = _objective(start, sets, soft, again)  # the same is held out
        vectors, after, stage = _tune_rows(vectors, sharing, objective, pace * ROW_RATE, device)
        stages.append(stage)
    logger.info("    trained: %s", _describe(after))
    facts = {
        "settings": asdict(settings),
        "learning_rates": {"projection": pace * MAP_RATE, "weights": pace * WEIGHT_RATE, "rows": pace * ROW_RATE},
        "tuned_share": TUNED_SHARE,
        "stages": [_rounded(asdict(stage)) for stage in stages],
        "untrained": _as_dict(before),
        "trained": _as_dict(after),
    }
    return Trained(vectors, sharing, facts)


def _objective(
    start: Start, sets: Sequence[EncodedSet], soft: SoftTargets | None, settings: TrainingSettings
) -> Objective:
    return Objective(
        sets,
        soft,
        dims=start.projection.shape[1],
        batch_size=settings.batch_size,
        epochs=settings.epochs,
        steps=settings.steps,
        temperature=settings.temperature,
        seed=settings.seed,
    )


def _tune_rows(
    vectors: np.ndarray, sharing: Sharing | None, objective: Objective, rate: float, device: str
) -> tuple[np.ndarray, HeldOut, Stage]:
    """Tune every row as it will be stored; the mean with the map's rows is kept if it is better than those alone."""
    table = FreeTable(vectors, sharing).to(device)
    mapped, before = table.rows.detach().clone(), objective.score(table)
    run = _Run(table, [torch.optim.SparseAdam([table.rows])], [rate], objective, _Best(before.loss), Stage("rows"))
    run.go()
    run.restore()
    table.rows.data.lerp_(mapped, 1 - TUNED_SHARE)
    after = objective.score(table)
    run.stage.kept = after.loss < before.loss
    if not run.stage.kept:
        table.rows.data.copy_(mapped)
        after = before
    return table.vectors(), after, run.stage


class _Best:
    """The lowest held-out loss so far and the parameters that had it."""

    def __init__(self, loss: float) -> None:
        self.loss = loss
        self.parameters: dict[str, torch.Tensor] = {}


class _Run:
    """One stage: steps, looks at what is held out, checkpoints."""

    def __init__(
        self,
        table: ProjectedTable | FreeTable,
        optimisers: list[torch.optim.Optimizer],
        rates: list[float],
        objective: Objective,
        best: _Best,
        stage: Stage,
    ) -> None:
        self.table, self.stage, self.failed = table, stage, False
        self._optimisers, self._rates, self._objective = optimisers, rates, objective
        self._best = best
        stage.pairs = objective.pairs_seen
        # A stage that brings nothing gives back what it began with.
        best.parameters = _copy(table)
        stage.held_out.append(best.loss)

    def restore(self) -> None:
        """Put the best parameters of this stage into the table."""
        self.table.load_state_dict(self._best.parameters)

    def go(self, checkpoint: Path | None = None, key: str = "", resume: bool = False) -> None:
        """Take the stage's steps, or those that are left."""
        steps = self._objective.steps
        begun = time.perf_counter()
        first = self._load(checkpoint, key) if checkpoint and resume else 0
        looks = {math.ceil(steps * (i + 1) / LOOKS) for i in range(LOOKS)}
        losses: list[float] = []
        for step in range(first, steps):
            try:
                losses.append(self._step(step, steps))
            except NotFinite:
                logger.warning("    step %d: the loss is not finite; training stops, and the best so far is kept", step)
                self.failed = True
                break
            self.stage.steps = step + 1
            if step + 1 in looks:
                self._look(losses)
                speed = (step + 1 - first) / (time.perf_counter() - begun)
                self._report(steps, speed)
                losses = []
                if checkpoint:
                    self._save(checkpoint, key)
                if self._is_stuck():
                    logger.info("    no gain on what is held out for %d looks: the stage ends", PATIENCE)
                    break
        self.stage.seconds += time.perf_counter() - begun

    def _step(self, step: int, steps: int) -> float:
        warm = max(1.0, WARM_UP * steps)
        share = (step + 1) / warm if step < warm else (steps - step) / (steps - warm)
        for optimiser in self._optimisers:
            for group, rate in zip(optimiser.param_groups, self._rates, strict=True):
                group["lr"] = rate * share
            optimiser.zero_grad(set_to_none=True)
        loss = self._objective.loss(self.table, step).total
        value = float(loss.detach())
        if not math.isfinite(value):
            raise NotFinite
        loss.backward()
        for optimiser in self._optimisers:
            optimiser.step()
        return value

    def _look(self, losses: list[float]) -> None:
        """Judge the table by what is held out, and keep it if it is the best."""
        held = self._objective.score(self.table).loss
        self.stage.losses.append(float(np.mean(losses)))
        self.stage.held_out.append(held)
        if held < self._best.loss:
            self._best.loss, self._best.parameters, self.stage.kept = held, _copy(self.table), True

    def _report(self, steps: int, speed: float) -> None:
        stage = self.stage
        pairs = self._objective.pairs_seen / steps * speed
        logger.info(
            "    %s: step %d of %d, loss %.4f, held out %.4f, %s%.0f s left",
            stage.name,
            stage.steps,
            steps,
            stage.losses[-1],
            stage.held_out[-1],
            f"{pairs:,.0f} pairs a second, " if pairs else "",
            (steps - stage.steps) / speed,
        )

    def _is_stuck(self) -> bool:
        held = self.stage.held_out
        return len(held) - 1 - int(np.argmin(held)) >= PATIENCE

    def _save(self, path: Path, key: str) -> None:
        tensors = {f"table.{name}": value for name, value in _copy(self.table).items()}
        tensors |= {f"best.{name}": value for name, value in self._best.parameters.items()}
        for i, optimiser in enumerate(self._optimisers):
            for j, values in optimiser.state_dict()["state"].items():
                tensors |= {f"optimiser.{i}.{j}.{name}": value for name, value in values.items()}
        save_checkpoint(path, key, tensors, {"stage": asdict(self.stage), "best": self._best.loss})

    def _load(self, path: Path, key: str) -> int:
        """Go on from a checkpoint, if there is one of this run; return the step to take next."""
        found = load_checkpoint(path, key)
        if found is None:
            return 0
        tensors, progress_made = found
        self.table.load_state_dict(_part(tensors, "table."))
        self._best.parameters, self._best.loss = _part(tensors, "best."), progress_made["best"]
        for i, optimiser in enumerate(self._optimisers):
            state: dict[int, dict[str, torch.Tensor]] = {}
            for name, value in _part(tensors, f"optimiser.{i}.").items():
                number, _, what = name.partition(".")
                state.setdefault(int(number), {})[what] = value
            optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
        self.stage = Stage(**progress_made["stage"])
        logger.info("    going on from step %d", self.stage.steps)
        return self.stage.steps


def _part(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _copy(table: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in table.state_dict().items()}


def _key(
    start: Start, sets: Sequence[EncodedSet], soft: SoftTargets | None, settings: TrainingSettings, device: str
) -> str:
    arrays = [start.wide, start.projection, start.weights]
    for pairs in sets:
        arrays += [pairs.left.rows, pairs.right.rows, pairs.left.starts, pairs.right.starts, pairs.languages]
    if soft is not None:
        arrays += [soft.bags.rows, soft.bags.starts, soft.vectors]
    facts = {**asdict(settings), "sets": [pairs.name for pairs in sets], "device": device.partition(":")[0]}
    return run_key(facts, [np.ascontiguousarray(array) for array in arrays])


def _describe(held: HeldOut) -> str:
    parts = []
    if held.sets:
        nearest = np.mean(list(held.found.values()))
        parts.append(f"{nearest:.1%} of the pairs held out find each other (mean of {len(held.sets)} sets)")
    if not np.isnan(held.soft):
        parts.append(f"divergence from the teacher {held.soft:.4f}")
    return ", ".join(parts)


def _as_dict(held: HeldOut) -> dict[str, Any]:
    return {
        "loss": round(held.loss, 4),
        "sets": {
            name: {"loss": round(loss, 4), "nearest": round(held.found[name], 4)} for name, loss in held.sets.items()
        },
        "divergence": None if np.isnan(held.soft) else round(held.soft, 4),
    }


def _rounded(stage: dict[str, Any]) -> dict[str, Any]:
    """Return a stage's facts with losses of four places and whole seconds."""
    losses = {name: [round(value, 4) for value in stage[name]] for name in ("losses", "held_out")}
    return {**stage, **losses, "seconds": round(stage["seconds"])}
