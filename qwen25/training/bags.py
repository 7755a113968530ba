"""Texts as bags of token rows, flat in memory: what a static model makes of a text before it looks up a vector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

#: Texts are cut to this many tokens in training: a bag's mean hardly moves behind them, and long ones cost most.
MAX_TOKENS = 128
_CHUNK = 10_000


@dataclass(frozen=True)
class Bags:
    """The token rows of texts, one text behind the other.

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
    parts, lengths = [], []
    for start in range(0, len(texts), _CHUNK):
        for encoding in tokenizer.encode_batch(list(texts[start : start + _CHUNK]), add_special_tokens=False):
            ids = encoding.ids[:MAX_TOKENS]
            parts.append(np.array(ids, dtype=np.int32))
            lengths.append(len(ids))
    rows = np.concatenate(parts) if parts else np.empty(0, dtype=np.int32)
    return Bags(rows, np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64))


def join(bags: Sequence[Bags]) -> Bags:
    """Put the texts of several bags one behind the other."""
    starts = np.concatenate([[0], np.cumsum(np.concatenate([part.lengths() for part in bags]))])
    return Bags(np.concatenate([part.rows for part in bags]), starts.astype(np.int64))
