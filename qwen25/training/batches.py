"""Which pairs are trained on together, in which order: one set and language a batch, drawn from a seed.

Within one set and language a batch's other pairs are hard enough to learn from: between languages or kinds
of text the language alone would tell the right partner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from qwen25.training.bags import Bags, tokenise
from qwen25.training.pairs import PairSet

#: Languages of a set with fewer pairs than this are batched together.
MIN_LANGUAGE = 256
#: Of each set, the share of its pairs that is held out, and the most.
HELD_OUT_SHARE, MAX_HELD_OUT = 0.02, 512


@dataclass(frozen=True)
class EncodedSet:
    """A set of pairs as bags, and what is known of each.

    :ivar left: the first sides.
    :ivar right: the second sides.
    :ivar left_texts: a number for each text, the same for the same text; shape (pairs,).
    :ivar right_texts: the same of the second sides; a text has one number on both sides.
    :ivar languages: a number for each pair's language; shape (pairs,).
    """

    name: str
    left: Bags
    right: Bags
    left_texts: np.ndarray
    right_texts: np.ndarray
    languages: np.ndarray


@dataclass(frozen=True)
class Batch:
    """Pairs that are trained on together.

    :ivar bags: the first sides, and behind them the second ones.
    :ivar repeats: where a pair's text is also another pair's, so that this one is no negative; bool,
        shape (pairs, pairs), false on the diagonal.
    """

    bags: Bags
    repeats: np.ndarray

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.repeats)


def encode_sets(sets: Sequence[PairSet], tokenizer: Tokenizer) -> list[EncodedSet]:
    """Tokenise sets of pairs; pairs with a side without any token are left out, and counted in their set."""
    encoded = []
    for pairs in sets:
        sides = [[pair.left for pair in pairs.pairs], [pair.right for pair in pairs.pairs]]
        left, right = (tokenise(tokenizer, side) for side in sides)
        kept = np.flatnonzero((left.lengths() > 0) & (right.lengths() > 0))
        pairs.dropped["without tokens"] = len(left) - len(kept)
        numbers: dict[str, int] = {}
        texts = [np.array([numbers.setdefault(text, len(numbers)) for text in side], dtype=np.int64) for side in sides]
        names: dict[str, int] = {}
        languages = np.array([names.setdefault(pair.language, len(names)) for pair in pairs.pairs], dtype=np.int64)
        encoded.append(
            EncodedSet(pairs.name, left.take(kept), right.take(kept), texts[0][kept], texts[1][kept], languages[kept])
        )
    return encoded


def make_batch(pairs: EncodedSet, chosen: np.ndarray) -> Batch:
    """Return the batch of these pairs of a set."""
    left, right = pairs.left_texts[chosen], pairs.right_texts[chosen]
    # Two pairs that share a text on either side, or hold each other's, would be wrong negatives.
    repeats = (left[:, None] == left) | (right[:, None] == right) | (left[:, None] == right)
    np.fill_diagonal(repeats, False)
    both = [pairs.left.take(chosen), pairs.right.take(chosen)]
    starts = np.concatenate([both[0].starts, both[1].starts[1:] + both[0].starts[-1]])
    return Batch(Bags(np.concatenate([both[0].rows, both[1].rows]), starts), repeats)


def hold_out(pairs: EncodedSet, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of the pairs held out, and of those left to train on.

    A pair whose two texts are both among those held out is not trained on either.
    """
    order = random.permutation(len(pairs.left))
    held = order[: min(MAX_HELD_OUT, int(len(order) * HELD_OUT_SHARE))]
    texts = np.union1d(pairs.left_texts[held], pairs.right_texts[held])
    shared = np.isin(pairs.left_texts, texts) & np.isin(pairs.right_texts, texts)
    shared[held] = True
    return held, np.flatnonzero(~shared)


@dataclass(frozen=True)
class Schedule:
    """What is trained on, batch by batch: a set's number and its pairs' numbers."""

    steps: list[tuple[int, np.ndarray]]

    @property
    def pairs(self) -> int:
        """The number of pairs in all batches."""
        return sum(len(chosen) for _, chosen in self.steps)


def schedule(
    sets: Sequence[EncodedSet],
    to_train: Sequence[np.ndarray],
    *,
    batch_size: int,
    epochs: float,
    temperature: float,
    random: np.random.Generator,
) -> Schedule:
    """Draw the batches.

    :param to_train: of each set, the numbers of the pairs to train on.
    :param epochs: how often a pair is seen, on average.
    :param temperature: a set of n pairs gets a share of the batches in proportion to n ** temperature: 1 leaves the
        sets as large as they are, 0 makes them alike. Within a set, each language has its share of the pairs.
    """
    groups = [group for number, chosen in enumerate(to_train) for group in _groups(number, sets[number], chosen)]
    sizes = np.array([len(chosen) for _, chosen in groups], dtype=np.float64)
    numbers = np.array([number for number, _ in groups])
    of_set = np.bincount(numbers, weights=sizes)[numbers]
    shares = of_set ** (temperature - 1) * sizes
    shares /= shares.sum()
    steps = []
    for (number, chosen), share in zip(groups, shares, strict=True):
        size = min(batch_size, len(chosen))
        count = max(1, round(epochs * sizes.sum() * share / size))
        shuffles = -(-count * size // len(chosen))
        drawn = np.concatenate([random.permutation(chosen) for _ in range(shuffles)])
        steps += [(number, drawn[i * size : (i + 1) * size]) for i in range(count)]
    return Schedule([steps[i] for i in random.permutation(len(steps))])


def _groups(number: int, pairs: EncodedSet, chosen: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Split a set's pairs by language; languages with few pairs stay together."""
    languages = pairs.languages[chosen]
    groups: list[np.ndarray] = []
    few: list[np.ndarray] = []
    for language in np.unique(languages):
        own = chosen[languages == language]
        (groups if len(own) >= MIN_LANGUAGE else few).append(own)
    if few:
        groups.append(np.concatenate(few))
    return [(number, group) for group in groups if len(group) > 1]
