"""Texts as bags of token rows, and which pairs are trained on together: one set and language a batch.

Within one set and language a batch's other pairs are hard enough to learn from: between languages or kinds
of text the language alone would tell the right partner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from qwen25.store.pairs import PairSet

#: Texts are cut to this many tokens in training: a bag's mean hardly moves behind them, and long ones cost most.
MAX_TOKENS = 128
#: Languages of a set with fewer pairs than this are batched together.
MIN_LANGUAGE = 256
#: Of each set, the share of its pairs that is held out, and the most.
HELD_OUT_SHARE, MAX_HELD_OUT = 0.02, 512
_CHUNK = 10_000


@dataclass(frozen=True)
class TrainingSettings:
    """How to train.

    :ivar epochs: how often the map sees each pair, on average.
    :ivar batch_size: pairs a step.
    :ivar temperature: a set of n pairs gets a share of the batches in proportion to n ** temperature: 1 leaves the
        sets as large as they are, 0 makes them alike.
    :ivar seed: of the batches and of what is held out.
    """

    epochs: float = 1.0
    batch_size: int = 1024
    temperature: float = 0.5
    seed: int = 42


@dataclass(frozen=True)
class Bags:
    """The token rows of texts, one text behind the other: all that a static model takes from a text.

    :ivar rows: the rows of all texts; int32, shape (tokens of all texts,).
    :ivar starts: where each text's rows begin, and the end of the last; int64, shape (texts + 1,).
    """

    rows: np.ndarray
    starts: np.ndarray

    def __len__(self) -> int:
        """Return the number of texts."""
        return len(self.starts) - 1

    def lengths(self) -> np.ndarray:
        """Return each text's number of tokens; shape (texts,)."""
        return np.diff(self.starts)

    def take(self, texts: np.ndarray) -> Bags:
        """Return the bags of these texts, in this order."""
        lengths = self.lengths()[texts]
        starts = np.concatenate([[0], np.cumsum(lengths)])
        places = np.repeat(self.starts[:-1][texts] - starts[:-1], lengths) + np.arange(starts[-1])
        return Bags(self.rows[places], starts)


def tokenise(tokenizer: Tokenizer, texts: Sequence[str]) -> Bags:
    """Return the rows of each text, at most ``MAX_TOKENS``; a text without any has an empty bag."""
    parts, lengths = [np.empty(0, dtype=np.int32)], []
    for start in range(0, len(texts), _CHUNK):
        for encoding in tokenizer.encode_batch(list(texts[start : start + _CHUNK]), add_special_tokens=False):
            parts.append(np.array(encoding.ids[:MAX_TOKENS], dtype=np.int32))
            lengths.append(len(parts[-1]))
    return Bags(np.concatenate(parts), np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))


def join(bags: Sequence[Bags]) -> Bags:
    """Put the texts of several bags one behind the other."""
    starts = np.concatenate([[0], np.cumsum(np.concatenate([part.lengths() for part in bags]))])
    return Bags(np.concatenate([part.rows for part in bags]), starts.astype(np.int64))


@dataclass(frozen=True)
class EncodedSet:
    """A set of pairs as bags.

    :ivar left: the first sides.
    :ivar right: the second sides.
    :ivar texts: a number for each text of both sides, the same for the same text; shape (2, pairs).
    :ivar languages: a number for each pair's language; shape (pairs,).
    """

    name: str
    left: Bags
    right: Bags
    texts: np.ndarray
    languages: np.ndarray


def encode_sets(sets: Sequence[PairSet], tokenizer: Tokenizer) -> list[EncodedSet]:
    """Tokenise sets of pairs; pairs with a side without any token are left out, and counted in their set."""
    encoded = []
    for pairs in sets:
        sides = [[pair.left for pair in pairs.pairs], [pair.right for pair in pairs.pairs]]
        left, right = (tokenise(tokenizer, side) for side in sides)
        kept = np.flatnonzero((left.lengths() > 0) & (right.lengths() > 0))
        pairs.dropped["without tokens"] = len(left) - len(kept)
        texts = _numbered([*sides[0], *sides[1]]).reshape(2, -1)[:, kept]
        languages = _numbered([pair.language for pair in pairs.pairs])[kept]
        encoded.append(EncodedSet(pairs.name, left.take(kept), right.take(kept), texts, languages))
    return encoded


def _numbered(texts: Sequence[str]) -> np.ndarray:
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(text, len(numbers)) for text in texts], dtype=np.int64)


def make_batch(pairs: EncodedSet, chosen: np.ndarray) -> tuple[Bags, np.ndarray]:
    """Return the batch of the pairs of a set that have these numbers.

    :return: the first sides and behind them the second ones; and where a pair's text is also another pair's, so that
        this one is no negative: bool, shape (pairs, pairs), false on the diagonal.
    """
    left, right = pairs.texts[:, chosen]
    # Two pairs that share a text on either side, or hold each other's, would be wrong negatives.
    repeats = (left[:, None] == left) | (right[:, None] == right) | (left[:, None] == right)
    np.fill_diagonal(repeats, False)
    return join([pairs.left.take(chosen), pairs.right.take(chosen)]), repeats


def hold_out(pairs: EncodedSet, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of the pairs held out, and of those left to train on.

    A pair whose two texts are both among those held out is not trained on either.
    """
    order = random.permutation(len(pairs.left))
    held = order[: min(MAX_HELD_OUT, int(len(order) * HELD_OUT_SHARE))]
    left, right = np.isin(pairs.texts, pairs.texts[:, held])
    shared = left & right
    shared[held] = True
    return held, np.flatnonzero(~shared)


def schedule(
    sets: Sequence[EncodedSet], to_train: Sequence[np.ndarray], settings: TrainingSettings, random: np.random.Generator
) -> list[tuple[int, np.ndarray]]:
    """Draw the batches: of each, the number of its set and the numbers of its pairs, which are of one language.

    :param to_train: of each set, the numbers of the pairs to train on.
    """
    groups: list[tuple[int, np.ndarray]] = []
    for number, chosen in enumerate(to_train):
        languages = sets[number].languages[chosen]
        few = np.bincount(languages)[languages] < MIN_LANGUAGE
        order = np.argsort(languages, kind="stable")
        labels = np.where(few, np.iinfo(np.int64).max, languages)[order]
        parts = (chosen[order[labels == label]] for label in np.unique(labels))
        groups += [(number, part) for part in parts if len(part) > 1]
    sizes = np.array([len(chosen) for _, chosen in groups], dtype=np.float64)
    numbers = np.array([number for number, _ in groups])
    of_set = np.bincount(numbers, weights=sizes)[numbers]
    shares = of_set ** (settings.temperature - 1) * sizes
    shares /= shares.sum()
    steps = []
    for (number, chosen), share in zip(groups, shares, strict=True):
        size = min(settings.batch_size, len(chosen))
        count = max(1, round(settings.epochs * sizes.sum() * share / size))
        shuffles = -(-count * size // len(chosen))
        drawn = np.concatenate([random.permutation(chosen) for _ in range(shuffles)])
        steps += [(number, drawn[i * size : (i + 1) * size]) for i in range(count)]
    return [steps[i] for i in random.permutation(len(steps))]
