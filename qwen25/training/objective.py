"""What training minimises: the loss of a batch of pairs, and of what is held out. Vectors are compared by cosine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy, normalize

from qwen25.training.batches import EncodedSet, TrainingSettings, hold_out, make_batch, schedule

#: Pairs of a batch are also joined to longer ones of so many, whose loss has this weight: without them training never
#: sees that long texts can be unrelated, and all of them come to lie near each other. Measured: docs/LOG.md.
JOINED, JOINED_WEIGHT = (3, 8), 0.2
#: What cosines are multiplied by.
SCALE = 20.0


class Objective:
    """The loss of each step of a stage, and of what is held out.

    :ivar steps: the number of steps of the stage.
    :ivar pairs_seen: the number of pairs in all steps.
    :ivar data: all that is learnt from, as arrays.
    """

    def __init__(self, sets: Sequence[EncodedSet], dims: int, settings: TrainingSettings) -> None:
        """Hold out a slice and draw the batches."""
        random = np.random.default_rng(settings.seed)
        self._sets, self.settings = sets, settings
        bags = [bag for pairs in sets for bag in (pairs.left, pairs.right)]
        self.data = [part for bag in bags for part in (bag.rows, bag.starts)] + [pairs.languages for pairs in sets]
        self._dims = tuple(d for d in (dims, dims // 2, dims // 4, dims // 8) if d >= min(dims, 16))
        parts = [hold_out(pairs, random) for pairs in sets]
        self._held_out = {
            pairs.name: make_batch(pairs, held) for pairs, (held, _) in zip(sets, parts, strict=True) if len(held) > 1
        }
        # Last: what is held out does not depend on how often the rest is seen.
        self._batches = schedule(sets, [chosen for _, chosen in parts], settings, random)
        self.steps = len(self._batches)
        self.pairs_seen = sum(len(chosen) for _, chosen in self._batches)

    def loss(self, table: nn.Module, step: int) -> torch.Tensor:
        """Return the loss of a step's batch."""
        number, chosen = self._batches[step]
        bags, repeats = make_batch(self._sets[number], chosen)
        vectors = table(bags)
        total = pairs_loss(vectors, repeats, self._dims)
        for size in JOINED:
            if len(repeats) >= 2 * size:
                longer = pairs_loss(*join_pairs(vectors, repeats, size), self._dims)
                total = total + JOINED_WEIGHT / len(JOINED) * longer
        return total

    @torch.no_grad()  # type: ignore[untyped-decorator, unused-ignore]
    def score(self, table: nn.Module) -> dict[str, Any]:
        """Return how a table does on what is held out, with all dimensions.

        :return: ``sets``: each set's ``loss`` and the share of its texts whose partner is the ``nearest``; and
            ``loss``, one number to choose by: the mean of the sets, each alike however large.
        """
        sets = {}
        for name, (bags, repeats) in self._held_out.items():
            vectors = table(bags)
            loss = float(pairs_loss(vectors, repeats, self._dims[:1]))
            sets[name] = {"loss": loss, "nearest": _share_found(vectors, repeats)}
        return {"loss": float(np.mean([one["loss"] for one in sets.values()])) if sets else 0.0, "sets": sets}


def join_pairs(vectors: torch.Tensor, repeats: np.ndarray, size: int) -> tuple[torch.Tensor, np.ndarray]:
    """Return the vectors of pairs of longer texts, each of ``size`` neighbours joined, and which are no negatives.

    A text's vector is the sum of its tokens' rows, so that of a joined one is the sum of its parts'.

    :param vectors: not scaled: the first sides and behind them the second ones; shape (2 * pairs, dims).
    :param repeats: shape (pairs, pairs).
    """
    groups = len(repeats) // size
    kept = groups * size
    sides = [side[:kept].reshape(groups, size, -1).sum(dim=1) for side in vectors.split(len(repeats))]
    shared = np.asarray(repeats[:kept, :kept].reshape(groups, size, groups, size).any(axis=(1, 3)))
    np.fill_diagonal(shared, False)
    return torch.cat(sides), shared


def _share_found(vectors: torch.Tensor, repeats: np.ndarray) -> float:
    """Return the share of a batch's texts, of both sides, whose partner is the nearest."""
    left, right = normalize(vectors, dim=1).split(len(repeats))
    scores = (left @ right.T).masked_fill(torch.from_numpy(repeats).to(left.device), -torch.inf)
    own = torch.arange(len(repeats), device=scores.device)
    hits = (scores.argmax(dim=1) == own).float().mean() + (scores.argmax(dim=0) == own).float().mean()
    return float(hits / 2)


def pairs_loss(vectors: torch.Tensor, repeats: np.ndarray, dims: Sequence[int]) -> torch.Tensor:
    """Return the symmetric InfoNCE loss with the batch's other pairs as negatives, the mean over ``dims``.

    The mean of -log softmax(scale * cosine) of each text's partner among all partners, both ways: van
    den Oord et al. 2018, "Representation Learning with Contrastive Predictive Coding", arXiv:1807.03748. It is taken of
    the first dimensions alone, too, so that these are a good model (Kusupati et al. 2022, "Matryoshka Representation
    Learning", arXiv:2205.13147).

    :param vectors: the first sides, and behind them the second ones; shape (2 * pairs, dimensions).
    :param repeats: what is no negative, as :func:`qwen25.training.batches.make_batch` returns it.
    :param dims: numbers of first dimensions.
    """
    same, sides, losses = torch.from_numpy(repeats).to(vectors.device), vectors.split(len(repeats)), []
    for count in dims:
        left, right = (normalize(side[:, :count], dim=1) for side in sides)
        scores = (SCALE * left @ right.T).masked_fill(same, -torch.inf)
        target = torch.arange(len(scores), device=scores.device)
        losses.append((cross_entropy(scores, target) + cross_entropy(scores.T, target)) / 2)
    return torch.stack(losses).mean()
