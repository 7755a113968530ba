"""The rows of a static model: the teacher's tokens, and behind them words and phrases with a vector of their own.

Those are the user's (``--vocabulary``), and the words that were added to the teacher's tokenizer.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, Tokenizer

from qwen25.distillation.tokenizer import static_tokenizer, with_added
from qwen25.runtime.errors import as_input_error, logger
from qwen25.runtime.files import read_lines
from qwen25.store.static_model import unknown_row

#: Scripts, by the first word of their characters' names, that put no space between words.
_WITHOUT_SPACES = {"CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN"}


@dataclass(frozen=True)
class Vocabulary:
    """The static model's tokenizer and where its rows come from.

    :ivar tokenizer: maps a text to row numbers.
    :ivar teacher_ids: row number -> the teacher's token id; shape (tokens,).
    :ivar words: the teacher's ids of each custom or added word; their rows come behind the tokens'.
    :ivar added: words that the teacher's tokenizer never splits, and this one does, with the teacher's ids.
    :ivar custom: the user's words, which stand last.
    :ivar added_tokens: with what :func:`qwen25.distillation.tokenizer.with_added` was called.
    """

    tokenizer: Tokenizer
    teacher_ids: np.ndarray
    words: tuple[tuple[int, ...], ...] = ()
    added: dict[str, int] = field(default_factory=dict)
    custom: tuple[str, ...] = ()
    added_tokens: tuple[list[AddedToken], dict[str, bool]] = ([], {})

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

    :raises InputError: if the tokenizer is damaged.
    """
    with as_input_error("the teacher's tokenizer is damaged", "download it again"):
        tokenizer, teacher_ids, added = static_tokenizer(teacher)
    return Vocabulary(tokenizer, teacher_ids, added=added)


def read_words(path: Path | None) -> list[str]:
    """Read a custom vocabulary: one word or phrase a line, without repeats, in order; without a path, no words.

    :raises InputError: if the file cannot be read, or is not UTF-8.
    """
    if path is None:
        return []
    lines = read_lines(path, "vocabulary").lines
    return list(dict.fromkeys(" ".join(line.split()) for line in lines if line.strip()))


def with_words(vocabulary: Vocabulary, words: Sequence[str]) -> Vocabulary:
    """Give each word or phrase, and each of the teacher's added words, a row of its own behind the tokens'.

    They are found after the teacher's own normalisation (letter case, accents), as whole words except in scripts that
    put no space between words. A word that is one token already keeps that row; one with characters that the teacher
    does not know gets none.
    """
    added = vocabulary.added
    if not words and not added:
        return vocabulary
    normaliser = vocabulary.tokenizer.normalizer
    names = vocabulary.tokenizer.get_vocab()
    unknown_id = unknown_row(vocabulary.tokenizer)
    tokens: dict[str, AddedToken] = {}
    pieces, unknown = dict[str, list[int]](), list[str]()
    for word in words:
        form = (normaliser.normalize_str(word) if normaliser else word).strip(" \u2581")
        ids = vocabulary.tokenizer.encode(word, add_special_tokens=False).ids
        if unknown_id in ids:
            unknown.append(word)
        # A row of its own already; nothing is left of it; or another one in other letters.
        elif len(ids) > 1 and word not in added and form and form not in tokens:
            # lstrip takes the space before the word along, which would be left as a token of its own.
            tokens[form] = AddedToken(word, single_word=not _is_unspaced(form), lstrip=True, normalized=True)
            if word not in names:  # else that token's row, where the merges do not lead to it
                pieces[word] = vocabulary.teacher_ids[ids].tolist()
    if unknown:
        what = "words have characters that the teacher does not know, and are left out"
        logger.info("    --vocabulary: %d of %d %s: %s", len(unknown), len(words), what, ", ".join(unknown[:20]))
    added_tokens = [*(AddedToken(word, normalized=True) for word in added), *tokens.values()]
    phrases = {form: token.single_word for form, token in tokens.items() if len(token.content.split()) > 1}
    tokenizer = with_added(vocabulary.tokenizer, added_tokens, phrases)
    rows = [(i,) for word, i in added.items() if word not in names] + [tuple(ids) for ids in pieces.values()]
    custom = tuple(pieces)
    return Vocabulary(
        tokenizer, vocabulary.teacher_ids, tuple(rows), custom=custom, added_tokens=(added_tokens, phrases)
    )


def _is_unspaced(word: str) -> bool:
    """Whether a word begins or ends in a script that puts no space between words."""
    return any(unicodedata.name(letter, "").split(" ")[0] in _WITHOUT_SPACES for letter in (word[0], word[-1]))
