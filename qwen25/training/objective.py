"""What training minimises: the pairs' loss and the divergence from the teacher's similarities, step by step.

Everything that is drawn at random is drawn from the seed and the step's number. The losses compare vectors by cosine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy, kl_div, normalize

from qwen25.training.batches import EncodedSet, TrainingSettings, hold_out, join, make_batch, schedule
from qwen25.training.soft_targets import SoftTargets

#: Of the texts with soft targets, how many are in each step, and the share that is held out.
SOFT_BATCH, SOFT_HELD_OUT = 768, 0.1
#: The weight of the divergence beside the pairs' loss.
SOFT_WEIGHT = 1.0
#: Pairs of a batch are also joined to longer ones of so many, whose loss has this weight: without them training never
#: sees that long texts can be unrelated, and all of them come to lie near each other. Measured: docs/LOG.md.
JOINED, JOINED_WEIGHT = (3, 8), 0.2
#: What the pairs' cosines are multiplied by, and what the teacher's and the table's are divided by in the divergence.
SCALE, TEACHER_TEMPERATURE, TEMPERATURE = 20.0, 0.1, 0.05


class Objective:
    """The loss of each step of a stage, and of what is held out.

    :ivar steps: the number of steps of the stage.
    :ivar pairs_seen: the number of pairs in all steps.
    :ivar data: all that is learnt from, as arrays.
    """

    def __init__(
        self, sets: Sequence[EncodedSet], soft: SoftTargets | None, dims: int, settings: TrainingSettings
    ) -> None:
        """Hold out a slice and draw the batches; there are pairs, or soft targets, or both."""
        random = np.random.default_rng(settings.seed)
        self._sets, self._soft, self.settings = sets, soft, settings
        bags = [bag for pairs in sets for bag in (pairs.left, pairs.right)] + ([soft.bags] if soft else [])
        self.data = [part for bag in bags for part in (bag.rows, bag.starts)] + ([soft.vectors] if soft else [])
        self.data += [pairs.languages for pairs in sets]
        self._dims = tuple(d for d in (dims, dims // 2, dims // 4, dims // 8) if d >= min(dims, 16))
        parts = [hold_out(pairs, random) for pairs in sets]
        self._held_out = {
            pairs.name: make_batch(pairs, held) for pairs, (held, _) in zip(sets, parts, strict=True) if len(held) > 1
        }
        if soft is not None:
            order = random.permutation(len(soft.bags))
            cut = max(2, int(len(order) * SOFT_HELD_OUT)) if len(order) >= 20 else 0
            self._soft_train = order[cut:]
            self._soft_held = order[:cut] if cut else order
        # Last: what is held out does not depend on how often the rest is seen.
        self._batches = schedule(sets, [chosen for _, chosen in parts], settings, random) if sets else []
        self.steps = len(self._batches) if sets else settings.steps
        self.pairs_seen = sum(len(chosen) for _, chosen in self._batches)

    def loss(self, table: nn.Module, step: int) -> torch.Tensor:
        """Return the loss of a step's batch."""
        repeats, parts, texts = np.empty((0, 0), dtype=bool), [], np.empty(0, dtype=np.int64)
        if self._batches:
            number, chosen = self._batches[step]
            bags, repeats = make_batch(self._sets[number], chosen)
            parts.append(bags)
        if self._soft is not None:
            random = np.random.default_rng([self.settings.seed, step])
            texts = random.choice(self._soft_train, min(SOFT_BATCH, len(self._soft_train)), replace=False)
            parts.append(self._soft.bags.take(texts))
        vectors = table(join(parts))  # once for all texts: a token that several need is fetched once
        total = vectors.new_zeros(())
        if self._batches:
            pairs = vectors[: 2 * len(repeats)]
            total = total + pairs_loss(pairs, repeats, self._dims)
            for size in JOINED:
                if len(repeats) >= 2 * size:
                    longer = pairs_loss(*join_pairs(pairs, repeats, size), self._dims)
                    total = total + JOINED_WEIGHT / len(JOINED) * longer
        if self._soft is not None:
            last = vectors[len(vectors) - len(texts) :]
            total = total + SOFT_WEIGHT * divergence(last, self._soft.vectors[texts], self._dims[:2])
        return total

    @torch.no_grad()  # type: ignore[untyped-decorator, unused-ignore]
    def score(self, table: nn.Module) -> dict[str, Any]:
        """Return how a table does on what is held out, with all dimensions.

        :return: ``sets``: each set's ``loss`` and the share of its texts whose partner is the ``nearest``;
            ``divergence`` from the teacher's similarities, None without soft targets; and ``loss``, one number to
            choose by: the mean of the sets, each alike however large, and the divergence.
        """
        sets, apart = {}, None
        for name, (bags, repeats) in self._held_out.items():
            vectors = table(bags)
            loss = float(pairs_loss(vectors, repeats, self._dims[:1]))
            sets[name] = {"loss": loss, "nearest": _share_found(vectors, repeats)}
        if self._soft is not None:
            vectors = table(self._soft.bags.take(self._soft_held))
            apart = float(divergence(vectors, self._soft.vectors[self._soft_held], self._dims[:1]))
        total = float(np.mean([one["loss"] for one in sets.values()])) if sets else 0.0
        return {"loss": total + SOFT_WEIGHT * (apart or 0.0), "sets": sets, "divergence": apart}


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


def _nested(loss: Callable[..., torch.Tensor], dims: Sequence[int], *vectors: torch.Tensor) -> torch.Tensor:
    """Return the mean of ``loss`` over the first ``dims`` dimensions of the vectors, each scaled to length 1.

    So the first dimensions alone are a good model (Kusupati et al. 2022, "Matryoshka Representation Learning",
    arXiv:2205.13147).
    """
    return torch.stack([loss(*(normalize(v[:, :d], dim=1) for v in vectors)) for d in dims]).mean()


def pairs_loss(vectors: torch.Tensor, repeats: np.ndarray, dims: Sequence[int]) -> torch.Tensor:
    """Return the symmetric InfoNCE loss with the batch's other pairs as negatives.

    The mean of -log softmax(scale * cosine) of each text's partner among all partners, both ways: van
    den Oord et al. 2018, "Representation Learning with Contrastive Predictive Coding", arXiv:1807.03748.

    :param vectors: the first sides, and behind them the second ones; shape (2 * pairs, dimensions).
    :param repeats: what is no negative, as :func:`qwen25.training.batches.make_batch` returns it.
    """
    same = torch.from_numpy(repeats).to(vectors.device)

    def info_nce(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        scores = (SCALE * left @ right.T).masked_fill(same, -torch.inf)
        target = torch.arange(len(scores), device=scores.device)
        return (cross_entropy(scores, target) + cross_entropy(scores.T, target)) / 2

    return _nested(info_nce, dims, *vectors.split(len(repeats)))


def divergence(vectors: torch.Tensor, targets: np.ndarray, dims: Sequence[int]) -> torch.Tensor:
    """Return how far the similarities within a batch are from the teacher's.

    The KL divergence of softmax(cosines / temperature) from softmax(the teacher's cosines / its temperature), row by
    row, a text's similarity to itself left out (as in luxical, and in Tian et al. 2020, "Contrastive Representation
    Distillation", for single targets).

    :param vectors: shape (texts, dimensions).
    :param targets: the teacher's unit vectors of the same texts; shape (texts, any).
    """
    wanted = torch.from_numpy(targets).to(vectors.device)
    own = torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)
    wanted = (wanted @ wanted.T / TEACHER_TEMPERATURE).masked_fill(own, -torch.inf).softmax(dim=1)

    def kullback_leibler(unit: torch.Tensor) -> torch.Tensor:
        found = (unit @ unit.T / TEMPERATURE).masked_fill(own, -1e9).log_softmax(dim=1)
        return kl_div(found, wanted, reduction="batchmean")

    return _nested(kullback_leibler, dims, vectors)
