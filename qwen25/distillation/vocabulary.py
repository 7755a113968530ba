"""The rows of a static model: which of the teacher's tokens have one, and how many fit into a size."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from tokenizers import Tokenizer

from qwen25.distillation.static_tokenizer import static_tokenizer


@dataclass(frozen=True)
class Vocabulary:
    """The static model's tokenizer and where its rows come from.

    :ivar tokenizer: maps a text to row numbers.
    :ivar teacher_ids: row number -> the teacher's token id; shape (tokens,).
    :ivar words: the teacher's ids of each custom or added word; their rows come behind the tokens'.
    :ivar added: words that the teacher's tokenizer never splits, and this one does, with the teacher's ids.
    """

    tokenizer: Tokenizer
    teacher_ids: np.ndarray
    words: tuple[tuple[int, ...], ...] = ()
    added: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.teacher_ids) + len(self.words)

    @property
    def sequences(self) -> np.ndarray | list[list[int]]:
        """The teacher's ids of each row: one a token, one or more a custom word."""
        if not self.words:
            return self.teacher_ids
        return [[int(i)] for i in self.teacher_ids] + [list(word) for word in self.words]


def static_vocabulary(teacher: Tokenizer) -> Vocabulary:
    """Derive the static model's vocabulary from the teacher's tokenizer, with all tokens but the added words.

    :raises InputError: if two tokens share an id or an id is missing.
    """
    static = static_tokenizer(teacher)
    return Vocabulary(static.tokenizer, static.teacher_ids, added=static.added)
