"""Words and phrases that get a vector of their own, behind the tokens': the user's, and the teacher's added ones."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path

from tokenizers import AddedToken

from qwen25.distillation.static_tokenizer import normaliser, with_added
from qwen25.distillation.vocabulary import Vocabulary
from qwen25.runtime.errors import InputError
from qwen25.runtime.log import logger
from qwen25.runtime.text_files import read_lines
from qwen25.store.static_model import unknown_row

#: Scripts, by the first word of their characters' names, that put no space between words.
_WITHOUT_SPACES = {"CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN"}


def read_words(path: Path) -> list[str]:
    """Read a custom vocabulary: one word or phrase a line, without repeats, in order.

    :raises InputError: if the file cannot be read, is not UTF-8 or holds nothing.
    """
    lines = read_lines(path, "vocabulary").lines
    words = list(dict.fromkeys(" ".join(line.split()) for line in lines if line.strip()))
    if not words:
        raise InputError(f"{path} holds no word")
    return words


def with_words(vocabulary: Vocabulary, words: Sequence[str], added: dict[str, int] | None = None) -> Vocabulary:
    """Give each word or phrase, and each of the teacher's added words, a row of its own behind the tokens'.

    They are found after the teacher's own normalisation (letter case, accents), as whole words save in scripts that
    put no space between words. A word that is one token already keeps that row; one with characters that the teacher
    does not know gets none.

    :param added: words that the teacher's tokenizer never splits, with the teacher's id of each.
    """
    added = added or {}
    normalise = normaliser(vocabulary.tokenizer)
    names = vocabulary.tokenizer.get_vocab()
    lost = unknown_row(vocabulary.tokenizer)
    tokens: dict[str, AddedToken] = {}
    pieces: dict[str, list[int]] = {}
    known, unknown = [], []
    for word in words:
        form = normalise(word).strip(" \u2581")
        ids = vocabulary.tokenizer.encode(word, add_special_tokens=False).ids
        if lost in ids:
            unknown.append(word)
            continue
        if len(ids) == 1 or word in added:
            known.append(word)
            continue
        if not form or form in tokens:  # nothing is left of it, or it is another one in other letters
            continue
        # lstrip takes the space before the word along, which would be left as a token of its own.
        tokens[form] = AddedToken(word, single_word=not _is_unspaced(form), lstrip=True, normalized=True)
        if word in names:
            known.append(word)  # that token's row, where the merges do not lead to it
        else:
            pieces[form] = vocabulary.teacher_ids[ids].tolist()
    _say(known, len(words), "are tokens already and keep their rows")
    _say(unknown, len(words), "have characters that the teacher does not know, and are left out")
    theirs = [AddedToken(word, normalized=True) for word in added]
    phrases = {form: token.single_word for form, token in tokens.items() if len(token.content.split()) > 1}
    tokenizer = with_added(vocabulary.tokenizer, [*theirs, *tokens.values()], phrases)
    rows = [(i,) for word, i in added.items() if word not in names] + [tuple(ids) for ids in pieces.values()]
    return Vocabulary(tokenizer, vocabulary.teacher_ids, tuple(rows))


def _say(words: list[str], count: int, what: str) -> None:
    if words:
        shown = ", ".join(words[:20]) + (f" and {len(words) - 20} more" if len(words) > 20 else "")
        logger.info("    --vocabulary: %d of %d %s: %s", len(words), count, what, shown)


def _is_unspaced(word: str) -> bool:
    """Whether a word begins or ends in a script that puts no space between words."""
    return any(unicodedata.name(letter, "").split(" ")[0] in _WITHOUT_SPACES for letter in (word[0], word[-1]))
