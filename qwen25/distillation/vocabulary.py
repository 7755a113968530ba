"""The rows of a static model: the teacher's tokens, and behind them words and phrases with a vector of their own.

Those are the user's (``--vocabulary``), and the words that were added to the teacher's tokenizer. A word whose line
says what it means, in a file or in a packaged list, reads as its meaning does: its row is the sum of the meaning's.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, Tokenizer

from qwen25.distillation.tokenizer import OWN, static_tokenizer, with_added
from qwen25.runtime.errors import InputError, as_input_error, logger
from qwen25.runtime.files import read_lines, resource
from qwen25.store.static_model import unknown_row

#: Scripts, by the first word of their characters' names, that put no space between words.
_WITHOUT_SPACES = {"CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN"}
#: The packaged lists of words with their meanings, which ``--vocabulary`` takes by name.
PRESETS = ("idioms", "abbreviations")


@dataclass(frozen=True)
class Vocabulary:
    """The static model's tokenizer and where its rows come from.

    :ivar tokenizer: maps a text to row numbers.
    :ivar teacher_ids: row number -> the teacher's token id; shape (tokens,).
    :ivar words: the teacher's ids of each custom or added word; their rows come behind the tokens'.
    :ivar added: words that the teacher's tokenizer never splits, and this one does, with the teacher's ids.
    :ivar custom: the user's words without a meaning, which stand last.
    :ivar meanings: the user's words with a meaning -> that; they have no state of the teacher, and are found only by
        the tokenizer that :func:`qwen25.distillation.derived.derived_rows` makes.
    :ivar added_tokens: what :func:`qwen25.distillation.tokenizer.with_added` adds for all of them.
    """

    tokenizer: Tokenizer
    teacher_ids: np.ndarray
    words: tuple[tuple[int, ...], ...] = ()
    added: dict[str, int] = field(default_factory=dict)
    custom: tuple[str, ...] = ()
    meanings: dict[str, str] = field(default_factory=dict)
    added_tokens: tuple[list[AddedToken], dict[str, bool]] = ([], {})

    def __len__(self) -> int:
        """Return the number of rows with a state of the teacher."""
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


def vocabulary_files(names: str | Path | Sequence[str | Path]) -> list[Path]:
    """Return the files of ``--vocabulary``: of packaged lists, by their names, and of the user.

    :raises InputError: if there is neither a file nor a list of a name.
    """
    paths = []
    for name in [names] if isinstance(names, str | Path) else names:
        path = resource("data/vocabulary") / f"{name}.tsv" if str(name) in PRESETS else Path(name)
        if not path.exists():
            raise InputError(f"no vocabulary {str(name)!r}: give a file, or {' or '.join(PRESETS)}")
        paths.append(path)
    return paths


def read_words(paths: Sequence[Path]) -> tuple[list[str], dict[str, str]]:
    """Read custom vocabularies: one word or phrase a line, and behind a tab, if there is one, what it means.

    A phrase with a meaning is found with a capital letter, too. Of a word that is there more than once the last line
    that says what it means counts.

    :return: the words without a meaning, and word -> meaning of the others; each in order.
    :raises InputError: if a file cannot be read, or is not UTF-8.
    """
    words, meanings = dict[str, None](), dict[str, str]()
    for path in paths:
        for line in read_lines(path, "vocabulary").lines:
            word, meaning = (" ".join(part.split()) for part in line.strip().partition("\t")[::2])
            if meaning:
                meanings[word] = meaning
            elif word:
                words[word] = None
    capitals = {word[0].upper() + word[1:]: meaning for word, meaning in meanings.items() if " " in word}
    meanings |= {word: meaning for word, meaning in capitals.items() if word not in meanings}
    return [word for word in words if word not in meanings], meanings


def with_words(vocabulary: Vocabulary, words: Sequence[str], meanings: Mapping[str, str] | None = None) -> Vocabulary:
    """Give each word or phrase, and each of the teacher's added words, a row of its own behind the tokens'.

    They are found after the teacher's own normalisation (letter case, accents), as whole words except in scripts that
    put no space between words. A word that is one token already keeps that row, unless its meaning is given; one with
    characters that the teacher does not know gets none.

    :param words: those whose row comes from the teacher.
    :param meanings: word -> what it means, of the others. Phrases among these are found with one space between their
        words: to look for others slows every text down.
    """
    added, meanings = vocabulary.added, meanings or {}
    if not words and not added and not meanings:
        return vocabulary
    plain, unknown_id = vocabulary.tokenizer, unknown_row(vocabulary.tokenizer)
    names = plain.get_vocab()
    with_state, with_meaning = dict[str, AddedToken](), dict[str, AddedToken]()
    pieces, explained, unknown = dict[str, list[int]](), dict[str, str](), list[str]()
    texts = [*words, *meanings]
    encoded = plain.encode_batch([*texts, *(meanings.get(word, "") for word in texts)], add_special_tokens=False)
    for word, one, means in zip(texts, encoded, encoded[len(texts) :], strict=False):
        form = (plain.normalizer.normalize_str(word) if plain.normalizer else word).strip(" \u2581")
        # lstrip takes the space before the word along, which would be left as a token of its own.
        how = {"single_word": not (form and _is_unspaced(form)), "lstrip": True, "normalized": True}
        if unknown_id in [*one.ids, *means.ids]:
            unknown.append(word)
        elif word in added or not form or form in with_state or form in with_meaning:
            continue  # a row of its own already; nothing is left of it; or another one in other letters
        elif word in meanings:
            with_meaning[form] = AddedToken(OWN + word, **how)
            explained[word] = meanings[word]
        elif len(one.ids) > 1:
            with_state[form] = AddedToken(word, **how)
            if word not in names:  # else that token's row, where the merges do not lead to it
                pieces[word] = vocabulary.teacher_ids[one.ids].tolist()
    if unknown:
        what = "words have characters that the teacher does not know, and are left out"
        logger.info("    --vocabulary: %d of %d %s: %s", len(unknown), len(texts), what, ", ".join(unknown[:20]))
    tokens = [*(AddedToken(word, normalized=True) for word in added), *with_state.values()]
    rows = [(i,) for word, i in added.items() if word not in names] + [tuple(ids) for ids in pieces.values()]
    return Vocabulary(
        with_added(plain, tokens, _phrases(with_state, {})),
        vocabulary.teacher_ids,
        tuple(rows),
        custom=tuple(pieces),
        meanings=explained,
        added_tokens=([*tokens, *with_meaning.values()], _phrases(with_state, with_meaning)),
    )


def _phrases(with_state: Mapping[str, AddedToken], with_meaning: Mapping[str, AddedToken]) -> dict[str, bool]:
    """Return the phrases, by their forms, whose spaces are to be marked -> whether they are whole words.

    These are those without a meaning, and of the others those that hold a shorter word of the list.
    """
    split = {form: form.replace("\u2581", " ").split() for form in [*with_state, *with_meaning]}
    known = set(map(tuple, split.values()))

    def holds_another(words: list[str]) -> bool:
        spans = ((i, j) for i in range(len(words)) for j in range(i + 1, len(words) + 1) if j - i < len(words))
        return any(tuple(words[i:j]) in known for i, j in spans)

    phrases = {form: token for form, token in with_state.items() if len(token.content.split()) > 1}
    phrases |= {form: token for form, token in with_meaning.items() if holds_another(split[form])}
    return {form: token.single_word for form, token in phrases.items()}


def _is_unspaced(word: str) -> bool:
    """Whether a word begins or ends in a script that puts no space between words."""
    return any(unicodedata.name(letter, "").split(" ")[0] in _WITHOUT_SPACES for letter in (word[0], word[-1]))
