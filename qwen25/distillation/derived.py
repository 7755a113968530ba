"""Rows that are made of the tokens' rows: of words that the teacher is asked for, or whose meaning the user gives, and
of groups of digits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_array, vstack
from tokenizers import Tokenizer

from qwen25.distillation.asking import Answers, ask
from qwen25.distillation.vocabulary import NUMBERS, Vocabulary, byte_text, splits_digits, with_added, with_whole
from qwen25.store.quantisation import Sharing
from qwen25.teacher.teacher import Teacher

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
        if not len(self.filled):
            return rows
        needed = np.unique(self.matrix.indices)
        tokens = rows[needed].astype(np.float32)
        found = self.matrix[:, needed] @ (tokens if weights is None else tokens * weights[needed, None])
        rows[self.filled] = found
        return rows

    def spread(self, table: np.ndarray) -> np.ndarray:
        """Return a table of the rows with a state with the derived ones in it; float32, shape (all rows, dims)."""
        if not len(self.filled):
            return table
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


def asked_rows(
    teacher: Teacher,
    tokens: Vocabulary,
    vocabulary: Vocabulary,
    questions: Mapping[str, Sequence[str]],
    numbers: float,
    **how: Any,
) -> DerivedRows:
    """Ask a decoder what words mean, and return all derived rows.

    :param questions: language code, or ``TERMS`` for the custom words, -> words.
    :param how: device, number format and cache, as :func:`qwen25.distillation.asking.ask` takes them.
    """
    said, custom = ask(teacher, questions, tokens.teacher_ids, **how)
    return derived_rows(tokens, vocabulary, said, custom, numbers > 0)


def derived_rows(
    tokens: Vocabulary, vocabulary: Vocabulary, answers: Answers, custom: Answers, numbers: bool
) -> DerivedRows:
    """Decide which rows are derived.

    :param tokens: the teacher's tokens.
    :param vocabulary: the same with custom words behind them.
    :param answers: what words mean that are found whole, as they are and with a capital letter.
    :param custom: what custom words mean; none of them, or each.
    :param numbers: whether groups of digits get rows; else digits stay alone.
    """
    known = {byte_text(f" {word}") for word in answers.words} | tokens.tokenizer.get_vocab().keys()
    capitals: dict[str, int] = {}
    for i, word in enumerate(answers.words):
        if byte_text(capital := f" {word.capitalize()}") not in known:
            capitals.setdefault(capital, i)
    numbers = numbers and splits_digits(tokens.tokenizer)
    groups = [group for group in NUMBERS if byte_text(group) not in known] if numbers else []
    whole = [*(f" {word}" for word in answers.words), *capitals]
    tokenizer = with_whole(tokens.tokenizer, whole, groups)
    base, added = len(tokens), len(vocabulary) - len(tokens)
    characters = [[tokens.tokenizer.token_to_id(character) for character in group] for group in groups]
    spelt = tokens.tokenizer.encode_batch(answers.words, add_special_tokens=False)
    said = csr_array(answers.matrix.multiply(np.array([LENGTH * len(one.ids) for one in spelt])[:, None]))
    parts = [said, said[list(capitals.values())], _counts(characters, base)]
    # A word with a capital letter is the same row; the user's own words have one in any case.
    words_alone, groups_alone = np.full(len(answers.words), NEEDED), np.full(len(groups), NEEDED)
    needed = np.r_[words_alone, np.zeros(len(capitals)), groups_alone, np.full(added, np.inf)]
    behind = base + len(whole) + len(groups)
    filled = [np.arange(base, behind)]
    if custom.words:
        names = list(vocabulary.custom)
        pieces = [one.ids for one in tokens.tokenizer.encode_batch(names, add_special_tokens=False)]
        meant = custom.matrix[[custom.words.index(name) for name in names]]
        parts.append(ANSWER_SHARE * meant + PIECES_SHARE * _counts(pieces, base))
        filled.append(behind + added - len(names) + np.arange(len(names)))
    # A word whose meaning is given reads as that does; those that mean the same share a row where rows are few.
    meanings = list(vocabulary.meanings.values())
    parts.append(_counts([one.ids for one in tokens.tokenizer.encode_batch(meanings, add_special_tokens=False)], base))
    filled.append(behind + added + np.arange(len(meanings)))
    meanings_alone = np.zeros(len(meanings))
    meanings_alone[np.unique(meanings, return_index=True)[1]] = np.inf  # the first of each
    needed = np.r_[needed, meanings_alone]
    own = np.zeros(behind + added + len(meanings), dtype=np.float32)
    own[base + len(whole) : behind] = 1
    if numbers:
        own[[tokens.tokenizer.token_to_id(digit) for digit in DIGITS]] = DIGIT_SHARE
    return DerivedRows(
        with_added(tokenizer, vocabulary.added_tokens) if added or meanings else tokenizer,
        np.r_[np.arange(base), behind + np.arange(added)],
        np.concatenate(filled),
        csr_array(vstack(parts)),
        own,
        needed,
    )


def _counts(ids: Sequence[Sequence[int]], tokens: int) -> csr_array:
    """Return how often each token occurs in each list of tokens; shape (lists, tokens)."""
    rows = np.repeat(np.arange(len(ids)), [len(one) for one in ids])
    columns = np.array([token for one in ids for token in one], dtype=np.int64)
    return csr_array((np.ones(len(rows), dtype=np.float32), (rows, columns)), shape=(len(ids), tokens))
