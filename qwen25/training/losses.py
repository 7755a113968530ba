"""The losses: pairs should find each other, and similarities should follow the teacher's.

All take vectors of any length and compare them by cosine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.nn import functional


def matryoshka(
    loss: Callable[..., torch.Tensor], dims: Sequence[int], *vectors: torch.Tensor, **settings: object
) -> torch.Tensor:
    """Return the mean of ``loss`` over the first ``dims`` dimensions of the vectors, each scaled to length 1.

    So that the first dimensions alone are a good model: Kusupati et al. 2022, "Matryoshka
    Representation Learning", arXiv:2205.13147.

    :param vectors: each of shape (texts, dimensions).
    """
    parts = [loss(*(functional.normalize(v[:, :d], dim=1) for v in vectors), **settings) for d in dims]
    return torch.stack(parts).mean()


def info_nce(
    left: torch.Tensor, right: torch.Tensor, *, repeats: torch.Tensor | None = None, scale: float = 20.0
) -> torch.Tensor:
    """Return the symmetric InfoNCE loss with the batch's other pairs as negatives.

    The mean of -log softmax(scale * cosine) of each text's partner among all partners, both ways: van
    den Oord et al. 2018, "Representation Learning with Contrastive Predictive Coding", arXiv:1807.03748.

    :param left: unit vectors; shape (pairs, dimensions).
    :param right: their partners.
    :param repeats: where a text of the batch equals a partner's, or a partner the text's: no negatives;
        bool, shape (pairs, pairs), false on the diagonal.
    """
    scores = scale * left @ right.T
    if repeats is not None:
        scores = scores.masked_fill(repeats, -torch.inf)
    target = torch.arange(len(scores), device=scores.device)
    return (functional.cross_entropy(scores, target) + functional.cross_entropy(scores.T, target)) / 2


def gram_divergence(
    vectors: torch.Tensor, targets: torch.Tensor, *, teacher_temperature: float = 0.1, temperature: float = 0.05
) -> torch.Tensor:
    """Return how far the similarities within a batch are from the teacher's.

    The KL divergence of softmax(cosines / temperature) from softmax(the teacher's cosines /
    teacher_temperature), row by row, a text's similarity to itself left out (as in luxical, and in Tian et al.
    2020, "Contrastive Representation Distillation", for single targets).

    :param vectors: unit vectors; shape (texts, dimensions).
    :param targets: the teacher's unit vectors of the same texts; shape (texts, any).
    """
    own = torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)
    wanted = (targets @ targets.T / teacher_temperature).masked_fill(own, -torch.inf).softmax(dim=1)
    found = (vectors @ vectors.T / temperature).masked_fill(own, -1e9).log_softmax(dim=1)
    return functional.kl_div(found, wanted, reduction="batchmean")
