"""Rows that are made of the tokens' rows: of words that the teacher is asked for, or whose meaning the user gives, and
of groups of digits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array, vstack
from tokenizers import Tokenizer

from qwen25.distillation.asking import Answers
from qwen25.distillation.vocabulary import NUMBERS, Vocabulary, byte_text, splits_digits, with_added, with_whole
from qwen25.store.quantisation import Sharing

#: A word is as long as so many tokens' rows for each token that it replaces: the other words of its language are still
#: spelt in pieces, which say little and would outweigh it. Measured: docs/LOG.md.
LENGTH = 2.0
#: How much text needs a word that is asked for, or a group of digits: as the 10,000th word of a language.
NEEDED = 1e-5
#: A custom word's row is so many times what the teacher says it means, and so much of the sum of its tokens' rows:
#: measured on idioms, docs/LOG.md.
ANSWER_SHARE, PIECES_SHARE = 3.0, 0.5
#: Single digits that get a direction of their own, and its length beside that of a group's. Those below 3 are in
#: every program: with theirs, code finds its descriptions less often (docs/LOG.md).
DIGITS, DIGIT_SHARE = "3456789", 0.5


@dataclass(frozen=True)
class DerivedRows:
    """The rows of a static model besides those with a state of the teacher, and what they are made of.

    :ivar tokenizer: the model's: the teacher's tokens come first, then what is found whole, then custom words.
    :ivar places: where the rows with a state stand; shape (rows with a state,).
    :ivar filled: where the derived rows stand; shape (derived,).
    :ivar matrix: how much of each token's row they are made of; shape (derived, tokens).
    :ivar numbers: how long a direction of its own each row gets that is a number, and 0; shape (all rows,).
    :ivar needed: how much text needs the rows behind the tokens, as
        :func:`qwen25.distillation.rows.token_use` has it for tokens; shape (all rows - tokens,).
    """

    tokenizer: Tokenizer
    places: np.ndarray
    filled: np.ndarray
    matrix: csr_array
    numbers: np.ndarray
    needed: np.ndarray

    def __len__(self) -> int:
        """Return the number of all rows."""
        return self.matrix.shape[1] + len(self.needed)

    def fill(self, rows: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        """Compute the derived rows in place, and return the table.

        :param rows: shape (all rows, width), of which those at ``places`` are there.
        :param weights: by which a token's row is multiplied before; shape (all rows,). None: 1.
        """
        needed = np.unique(self.matrix.indices)
        tokens = rows[needed].astype(np.float32)
        rows[self.filled] = self.matrix[:, needed] @ (tokens if weights is None else tokens * weights[needed, None])
        return rows

    def spread(self, table: np.ndarray) -> np.ndarray:
        """Return a table of the rows with a state with the derived ones in it; float32, shape (all rows, dims)."""
        if not len(self.filled):
            return table  # a copy would hold it twice
        whole = np.zeros((len(self), table.shape[1]), dtype=np.float32)
        whole[self.places] = table
        return self.fill(whole)

    def tell_numbers_apart(self, table: np.ndarray, length: float, sharing: Sharing | None) -> np.ndarray:
        """Add a random direction to the row of each number in place, and return the table.

        Groups of the same digits are the same sum, and training makes it short: texts hardly depend on their numbers.

        :param table: trained or not; shape (all rows, dims).
        :param length: of the direction, as a share of the table's median row.
        :param sharing: a number that shares another token's row is left as it is.
        """
        rows = np.flatnonzero(self.numbers)
        rows = rows if sharing is None else np.intersect1d(rows, sharing.kept)
        directions = np.random.default_rng(0).standard_normal((len(rows), table.shape[1]), dtype=np.float32)
        directions *= (self.numbers[rows] / np.linalg.norm(directions, axis=1))[:, None]
        table[rows] += length * np.median(np.linalg.norm(table, axis=1)) * directions
        return table


def derived_rows(tokens: Vocabulary, vocabulary: Vocabulary, answers: Answers, numbers: bool) -> DerivedRows:
    """Decide which rows are derived.

    :param tokens: the teacher's tokens.
    :param vocabulary: the same with custom words behind them.
    :param answers: what words mean that are found whole, as they are and with a capital letter; and what the custom
        words do, none of them or each.
    :param numbers: whether groups of digits get rows; else digits stay alone.
    """

    def spelt(texts: Iterable[str]) -> list[list[int]]:
        return [one.ids for one in tokens.tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    words, meanings = answers.words, list(vocabulary.meanings.values())
    known = {byte_text(f" {word}") for word in words} | tokens.tokenizer.get_vocab().keys()
    capitals: dict[str, int] = {}
    for i, word in enumerate(words):
        if byte_text(capital := f" {word.capitalize()}") not in known:
            capitals.setdefault(capital, i)
    numbers = numbers and splits_digits(tokens.tokenizer)
    groups = [group for group in NUMBERS if byte_text(group) not in known] if numbers else []
    whole = [*(f" {word}" for word in words), *capitals]

    # The rows: tokens, what is found whole, words with a state (the custom ones last), those with a meaning.
    base = len(tokens)
    behind = base + len(whole) + len(groups)
    end = behind + len(vocabulary) - base
    asked = answers.matrix.shape[0] - len(words)
    filled = np.r_[base:behind, end - asked : end + len(meanings)]

    lengths = np.array([LENGTH * len(ids) for ids in spelt(words)])
    said = csr_array(answers.matrix[: len(words)].multiply(lengths[:, None]))
    custom = spelt(vocabulary.custom) if asked else []
    parts = [
        said,
        said[list(capitals.values())],
        _counts([[tokens.tokenizer.token_to_id(character) for character in group] for group in groups], base),
        ANSWER_SHARE * answers.matrix[len(words) :] + PIECES_SHARE * _counts(custom, base),
        # A word whose meaning is given reads as that does.
        _counts(spelt(meanings), base),
    ]

    # A word with a capital letter is the same row, and so are those that mean the same; the user's own have one.
    needed = np.zeros(end + len(meanings) - base)
    needed[: len(words)] = needed[len(whole) : behind - base] = NEEDED
    needed[behind - base : end - base] = np.inf
    needed[end - base + np.unique(meanings, return_index=True)[1]] = np.inf
    own = np.zeros(end + len(meanings), dtype=np.float32)
    own[base + len(whole) : behind] = 1
    if numbers:
        own[[tokens.tokenizer.token_to_id(digit) for digit in DIGITS]] = DIGIT_SHARE
    return DerivedRows(
        with_added(with_whole(tokens.tokenizer, whole, groups), vocabulary.added_tokens),
        np.r_[:base, behind:end],
        filled,
        csr_array(vstack(parts)),
        own,
        needed,
    )


def _counts(ids: Sequence[Sequence[int]], tokens: int) -> csr_array:
    """Return how often each token occurs in each list of tokens; shape (lists, tokens)."""
    rows = np.repeat(np.arange(len(ids)), [len(one) for one in ids])
    columns = np.array([token for one in ids for token in one], dtype=np.int64)
    return csr_array((np.ones(len(rows), dtype=np.float32), (rows, columns)), shape=(len(ids), tokens))
