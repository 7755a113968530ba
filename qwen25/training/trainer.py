"""Training: first a projection of the wide states and a weight a token, then, if asked, every row.

The settings are those of a search on public development sets with Qwen2.5-Coder-0.5B: docs/LOG.md.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.optim import Adam, Optimizer, SparseAdam

from qwen25.runtime.errors import logger
from qwen25.runtime.steps import NO_CACHE, StepCache, key_of
from qwen25.store.quantisation import Sharing, length_factors
from qwen25.teacher.states import fast_dtype
from qwen25.training.batches import Bags, EncodedSet, TrainingSettings
from qwen25.training.objective import Objective

#: The learning rates, reached after the warm-up and then falling to 0 in a line.
MAP_RATE, WEIGHT_RATE, ROW_RATE = 5e-4, 5e-3, 6e-2
#: Of tuned rows and the map's, the mean is kept: the pairs teach the tuned ones at the cost of what the teacher
#: knows besides (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models", arXiv:2109.01903).
TUNED_SHARE = 0.5
#: The rows see each pair so many times as often as the map does: a rare word is in few pairs.
ROW_PASSES = 2
#: What is held out is scored so many times a stage; after so many scores without a gain the stage ends.
WARM_UP, LOOKS, PATIENCE = 0.1, 10, 4
_CHUNK_ROWS = 8192


@dataclass(frozen=True)
class Start:
    """Where training begins: what a table is computed from without any training.

    The untrained table is ``wide @ projection * weights[:, None]``.

    :ivar wide: the tokens' whitened states of all layers side by side; shape (tokens, width), float16 or float32.
    :ivar projection: onto the model's dimensions; shape (width, dims).
    :ivar weights: the tokens' weights, above 0; shape (tokens,).
    """

    wide: np.ndarray
    projection: np.ndarray
    weights: np.ndarray


class ProjectedTable(nn.Module):
    """A table as a projection of wide states, with a weight a token: few numbers, so that few pairs teach them.

    A text's tokens are summed up before they are projected: a batch has far fewer texts than tokens.
    """

    def __init__(self, start: Start) -> None:
        """Begin at the untrained table."""
        super().__init__()
        self._wide: torch.Tensor
        self.register_buffer("_wide", torch.from_numpy(start.wide), persistent=False)
        self.projection = nn.Parameter(torch.from_numpy(start.projection.astype(np.float32)))
        self.log_weights = nn.Parameter(torch.from_numpy(np.log(start.weights).astype(np.float32)))

    def forward(self, bags: Bags) -> torch.Tensor:
        """Return the texts' vectors, not scaled; shape (texts, dims)."""
        device = self.projection.device
        # Only the rows that the texts need become float32, each once.
        needed, places = (torch.from_numpy(a).to(device) for a in np.unique(bags.rows, return_inverse=True))
        weights = self.log_weights.index_select(0, needed).exp().index_select(0, places)
        starts = torch.from_numpy(bags.starts[:-1]).to(device)
        wide = self._wide.index_select(0, needed).float()
        sums = functional.embedding_bag(places, wide, starts, mode="sum", per_sample_weights=weights)
        # Most of a step's time; parameters and sums stay float32, and what is held out is judged in float32.
        fast = fast_dtype(device.type) if torch.is_grad_enabled() else torch.float32
        with torch.autocast(device.type, fast, enabled=fast != torch.float32):
            return (sums @ self.projection).float()

    def vectors(self) -> np.ndarray:
        """Return the table as it stands; float32, shape (tokens, dims)."""
        projection, weights = self.projection.detach(), self.log_weights.detach().exp()
        out = np.empty((len(self._wide), projection.shape[1]), dtype=np.float32)
        for start in range(0, len(out), _CHUNK_ROWS):
            rows = slice(start, start + _CHUNK_ROWS)
            out[rows] = (self._wide[rows].float() @ projection * weights[rows, None]).cpu().numpy()
        return out


class FreeTable(nn.Module):
    """A table whose every row is free: what words mean beyond what one projection can say.

    Tokens that share a row move it together, and keep their lengths relative to it.
    """

    def __init__(self, vectors: np.ndarray, sharing: Sharing | None = None) -> None:
        """Begin at a table; float32, shape (tokens, dims)."""
        super().__init__()
        own = np.arange(len(vectors))
        kept, row_of = sharing or (own, own)
        self._row_of, self._factors = row_of.astype(np.int64), length_factors(vectors, vectors[kept], row_of)
        self.rows = nn.Parameter(torch.from_numpy(vectors[kept]))

    def forward(self, bags: Bags) -> torch.Tensor:
        """Return the texts' vectors, not scaled; shape (texts, dims)."""
        # Each row once: the gradient of 100,000 places is gathered where it is dense, and only then sparse.
        needed, places = np.unique(self._row_of[bags.rows], return_inverse=True)
        device = self.rows.device
        found = functional.embedding(torch.from_numpy(needed).to(device), self.rows, sparse=True)
        arrays = (places, bags.starts[:-1], self._factors[bags.rows])
        places, starts, weights = (torch.from_numpy(a).to(device) for a in arrays)
        return functional.embedding_bag(places, found, starts, mode="sum", per_sample_weights=weights)

    def vectors(self) -> np.ndarray:
        """Return the table as it stands; float32, shape (tokens, dims)."""
        vectors = self.rows.detach().cpu().numpy()[self._row_of]
        vectors *= self._factors[:, None]
        return vectors


class Trained(NamedTuple):
    """The result of training.

    :ivar vectors: the table; float32, shape (tokens, dims). The untrained one, if nothing was better.
    :ivar facts: losses, held-out scores and settings, for the metadata.
    """

    vectors: np.ndarray
    facts: dict[str, Any]


def train_map(
    start: Start,
    sets: Sequence[EncodedSet],
    settings: TrainingSettings,
    *,
    device: str = "cpu",
    cache: StepCache = NO_CACHE,
) -> Trained:
    """Train the projection and the weights; return the table with the lowest held-out loss, possibly the untrained.

    :param cache: keeps the trained parameters.
    :raises PipelineError: if the cache cannot be written.
    """
    objective = Objective(sets, start.projection.shape[1], settings)
    table = ProjectedTable(start).to(device)
    rates = {"projection": MAP_RATE, "weights": WEIGHT_RATE, "rows": ROW_RATE}
    groups = ((table.projection, MAP_RATE), (table.log_weights, WEIGHT_RATE))
    optimiser = Adam([{"params": [parameter], "lr": rate} for parameter, rate in groups])
    inputs = [start.wide, start.projection, start.weights]
    before, stage = _train("map", table, optimiser, objective, inputs, cache)
    after = objective.score(table)
    _log("trained", after)
    facts = {"settings": {"tune": "map", **asdict(settings)}, "stages": [stage], "untrained": before, "trained": after}
    return Trained(table.vectors(), {**_rounded(facts), "learning_rates": rates, "tuned_share": TUNED_SHARE})


def tune_rows(
    mapped: Trained,
    sharing: Sharing | None,
    sets: Sequence[EncodedSet],
    settings: TrainingSettings,
    *,
    device: str = "cpu",
    cache: StepCache = NO_CACHE,
) -> Trained:
    """Train every row as it will be stored; its mean with the map's row is kept if it lowers the held-out loss.

    :param mapped: what :func:`train_map` returned for the same pairs and settings.
    :param sharing: which tokens share rows; None: each has its own.
    :raises PipelineError: if the cache cannot be written.
    """
    more = replace(settings, epochs=ROW_PASSES * settings.epochs)
    objective = Objective(sets, mapped.vectors.shape[1], more)  # the same is held out
    table = FreeTable(mapped.vectors, sharing).to(device)
    map_rows = table.rows.detach().clone()
    optimiser = SparseAdam([table.rows], lr=ROW_RATE)
    before, stage = _train("rows", table, optimiser, objective, [mapped.vectors, *(sharing or ())], cache)
    table.rows.data.lerp_(map_rows, 1 - TUNED_SHARE)
    after = objective.score(table)
    stage["kept"] = after["loss"] < before["loss"]
    if not stage["kept"]:
        table.rows.data.copy_(map_rows)
        after = before
    _log("trained", after)
    facts = {"settings": {"tune": "rows", **asdict(settings)}, "stages": [*mapped.facts["stages"], stage]}
    return Trained(table.vectors(), _rounded({**mapped.facts, **facts, "trained": after}))


def _train(
    name: str, table: nn.Module, optimiser: Optimizer, objective: Objective, inputs: list[np.ndarray], cache: StepCache
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Take a stage's steps, unless the cache has what came of them, and leave its best parameters in the table.

    :param optimiser: with the highest learning rates of its groups.
    :param inputs: what the table was made of.
    :return: the score before; and the stage for the metadata: ``pairs`` counts each as often as it is in the batches,
        ``losses`` are means between two held-out losses, and ``held_out`` are those and the one before the first step.
    """
    before, rates = objective.score(table), [group["lr"] for group in optimiser.param_groups]
    counts = {"pairs": objective.pairs_seen, "steps": 0, "seconds": 0.0}
    stage: dict[str, Any] = {"name": name, **counts, "losses": [], "held_out": [before["loss"]], "kept": False}
    _log(f"before the {name}", before)
    now = {name: parameter.detach() for name, parameter in table.named_parameters()}
    # The number of threads can change last bits.
    facts = {"device": next(iter(now.values())).device.type, "rates": rates, "torch": torch.__version__}
    facts |= {"threads": torch.get_num_threads(), **asdict(objective.settings)}
    key = key_of(facts, *inputs, *objective.data)
    if kept := cache.load(name, key):
        table.load_state_dict({one: torch.from_numpy(np.array(value)) for one, value in kept[0].items()})
        return before, kept[1]
    best = {name: value.clone() for name, value in now.items()}
    steps, losses, begun = objective.steps, list[float](), time.perf_counter()
    looks, warm = [math.ceil(steps * (i + 1) / LOOKS) for i in range(LOOKS)], max(1.0, WARM_UP * steps)
    while (step := stage["steps"]) < steps and not _is_stuck(stage):
        share = (step + 1) / warm if step < warm else (steps - step) / (steps - warm)
        for group, rate in zip(optimiser.param_groups, rates, strict=True):
            group["lr"] = rate * share
        optimiser.zero_grad(set_to_none=True)
        loss = objective.loss(table, step)
        losses.append(float(loss.detach()))
        if not math.isfinite(losses[-1]):
            logger.warning("    step %d: the loss is not finite; training stops, the best so far is kept", step)
            break
        loss.backward()
        optimiser.step()
        stage["steps"] += 1
        if stage["steps"] in looks:
            held_out = objective.score(table)["loss"]
            if held_out < min(stage["held_out"]):
                stage["kept"] = True
                for one, value in now.items():
                    best[one].copy_(value)
            stage["held_out"].append(held_out)
            stage["losses"].append(float(np.mean(losses)))
            stage["seconds"] = time.perf_counter() - begun
            losses = []
            left = stage["seconds"] / stage["steps"] * (steps - stage["steps"])
            held = f"loss {stage['losses'][-1]:.4f}, held out {held_out:.4f}"
            logger.info("    %s: step %d of %d, %s, %.0f s left", name, stage["steps"], steps, held, left)
    table.load_state_dict(best)
    cache.save(name, key, {one: value.cpu().numpy() for one, value in best.items()}, stage)
    return before, stage


def _is_stuck(stage: dict[str, Any]) -> bool:
    """Whether the last looks brought no gain."""
    return len(stage["held_out"]) - 1 - int(np.argmin(stage["held_out"])) >= PATIENCE


def _log(when: str, score: dict[str, Any]) -> None:
    nearest = [one["nearest"] for one in score["sets"].values()]
    found = f", {np.mean(nearest):.1%} of held-out pairs find each other" if nearest else ""
    logger.info("    %s: loss %.4f on what is held out%s", when, score["loss"], found)


def _rounded(facts: dict[str, Any]) -> dict[str, Any]:
    """Return facts for the metadata, in four places."""
    rounded: dict[str, Any] = json.loads(json.dumps(facts), parse_float=lambda number: round(float(number), 4))
    return rounded
