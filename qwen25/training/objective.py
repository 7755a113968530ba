"""What training minimises: the pairs' loss and the divergence from the teacher's similarities, step by step.

Everything that is drawn at random is drawn from the seed and the step's number, so that a run that was cut
off goes on as if it had not been.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from qwen25.training.bags import Bags, join
from qwen25.training.batches import Batch, EncodedSet, Schedule, hold_out, make_batch, schedule
from qwen25.training.losses import gram_divergence, info_nce, matryoshka
from qwen25.training.soft_targets import SoftTargets

#: Texts with a soft target in each step.
SOFT_BATCH = 768
#: The share of the texts with soft targets that is held out.
SOFT_HELD_OUT = 0.1
#: The weight of the divergence beside the pairs' loss.
SOFT_WEIGHT = 1.0


@dataclass(frozen=True)
class Loss:
    """A loss and its parts; NaN stands for a part that there is none of.

    :ivar pairs: InfoNCE.
    :ivar soft: the divergence from the teacher's similarities.
    """

    total: torch.Tensor
    pairs: float
    soft: float


class Objective:
    """The loss of a step of a stage, and of what is held out."""

    def __init__(
        self,
        sets: Sequence[EncodedSet],
        soft: SoftTargets | None,
        *,
        dims: int,
        batch_size: int,
        epochs: float,
        steps: int,
        temperature: float,
        seed: int,
    ) -> None:
        """Hold out a slice and draw the batches.

        :param soft: the teacher's sentence vectors, if there are any.
        :param steps: how many steps are taken where there are no pairs.
        """
        if not sets and soft is None:
            raise ValueError("nothing to learn from")
        random = np.random.default_rng(seed)
        self._sets, self._soft, self._seed, self._steps = sets, soft, seed, steps
        self.dims = tuple(d for d in (dims, dims // 2, dims // 4, dims // 8) if d >= min(dims, 16))
        parts = [hold_out(pairs, random) for pairs in sets]
        self.held_out = {
            pairs.name: make_batch(pairs, held) for pairs, (held, _) in zip(sets, parts, strict=True) if len(held) > 1
        }
        if soft is not None:
            order = random.permutation(len(soft.bags))
            cut = max(2, int(len(order) * SOFT_HELD_OUT)) if len(order) >= 20 else 0
            self._soft_held, self._soft_train = order[:cut], order[cut:]
        # Last: what is held out does not depend on how often the rest is seen.
        self._schedule: Schedule | None = None
        if sets:
            self._schedule = schedule(
                sets,
                [chosen for _, chosen in parts],
                batch_size=batch_size,
                epochs=epochs,
                temperature=temperature,
                random=random,
            )

    @property
    def steps(self) -> int:
        """The number of steps of a stage."""
        return len(self._schedule.steps) if self._schedule else self._steps

    @property
    def pairs_seen(self) -> int:
        """The number of pairs in all steps."""
        return self._schedule.pairs if self._schedule else 0

    def loss(self, table: nn.Module, step: int) -> Loss:
        """Return the loss of a step's batch."""
        batch = None
        parts: list[Bags] = []
        if self._schedule:
            number, chosen = self._schedule.steps[step]
            batch = make_batch(self._sets[number], chosen)
            parts.append(batch.bags)
        texts = np.empty(0, dtype=np.int64)
        if self._soft is not None:
            random = np.random.default_rng([self._seed, step])
            texts = random.choice(self._soft_train, min(SOFT_BATCH, len(self._soft_train)), replace=False)
            parts.append(self._soft.bags.take(texts))
        vectors = table(join(parts))  # once for all texts: a token that several need is fetched once
        total = vectors.new_zeros(())
        pairs_loss = soft_loss = float("nan")
        if batch is not None:
            found = self._pairs_loss(vectors[: 2 * len(batch)], batch, self.dims)
            total, pairs_loss = total + found, float(found.detach())
        if self._soft is not None:
            found = self._soft_loss(vectors[len(vectors) - len(texts) :], texts, self.dims[:2])
            total, soft_loss = total + SOFT_WEIGHT * found, float(found.detach())
        return Loss(total, pairs_loss, soft_loss)

    def score(self, table: nn.Module) -> HeldOut:
        """Return the losses of what is held out, with all dimensions."""
        with torch.no_grad():
            return self._score(table)

    def _score(self, table: nn.Module) -> HeldOut:
        sets, found = {}, {}
        for name, batch in self.held_out.items():
            vectors = table(batch.bags)
            sets[name] = float(self._pairs_loss(vectors, batch, self.dims[:1]))
            found[name] = _found(vectors, batch)
        soft = float("nan")
        if self._soft is not None:
            texts = self._soft_held if len(self._soft_held) else self._soft_train
            soft = float(self._soft_loss(table(self._soft.bags.take(texts)), texts, self.dims[:1]))
        return HeldOut(sets, found, soft)

    @staticmethod
    def _pairs_loss(vectors: torch.Tensor, batch: Batch, dims: Sequence[int]) -> torch.Tensor:
        left, right = vectors.split(len(batch))
        repeats = torch.from_numpy(batch.repeats).to(vectors.device)
        return matryoshka(info_nce, dims, left, right, repeats=repeats)

    def _soft_loss(self, vectors: torch.Tensor, texts: np.ndarray, dims: Sequence[int]) -> torch.Tensor:
        assert self._soft is not None  # noqa: S101, for the type checker
        targets = torch.from_numpy(self._soft.vectors[texts]).to(vectors.device)
        return matryoshka(gram_divergence, dims, vectors, targets=targets)


@dataclass(frozen=True)
class HeldOut:
    """How a table does on what is held out.

    :ivar sets: the loss of each set of pairs.
    :ivar found: the share of its texts whose partner is the nearest.
    :ivar soft: the divergence from the teacher's similarities; NaN without soft targets.
    """

    sets: dict[str, float]
    found: dict[str, float]
    soft: float

    @property
    def loss(self) -> float:
        """One number to choose by: the mean of the sets, each alike however large, and the divergence."""
        pairs = float(np.mean(list(self.sets.values()))) if self.sets else 0.0
        return pairs + (0.0 if np.isnan(self.soft) else SOFT_WEIGHT * self.soft)


def _found(vectors: torch.Tensor, batch: Batch) -> float:
    """Return the share of a batch's texts, of both sides, whose partner is the nearest."""
    left, right = functional.normalize(vectors, dim=1).split(len(batch))
    scores = (left @ right.T).masked_fill(torch.from_numpy(batch.repeats).to(left.device), -torch.inf)
    own = torch.arange(len(batch), device=scores.device)
    hits = (scores.argmax(dim=1) == own).float().mean() + (scores.argmax(dim=0) == own).float().mean()
    return float(hits / 2)
