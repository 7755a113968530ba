"""The rows of a static model, and its tokenizer: the teacher's tokens, and behind them words with a row of their own.

A static model must segment text as its teacher does, save for one space before the first word: without it a word at
the start of a text would get another token than everywhere else. So the static tokenizer of a text gives what the
teacher's gives of the text behind a space. A tokenizer that puts that space itself, with a normaliser of the kind
Prepend (Llama 2), is left as it is: a second one would be a token of its own in front of every text.

Words with a row of their own are the user's (``--vocabulary``), and those that were added to the teacher's tokenizer. A
word whose line says what it means, in a file or in a packaged list, reads as that does: its row is the sum of the rows.
"""

from __future__ import annotations

import itertools
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

from qwen25.runtime.errors import InputError, as_input_error, logger
from qwen25.runtime.files import read_lines, resource
from qwen25.store.static_model import tokenizer_steps, unknown_row

#: Scripts, by the first word of their characters' names, that put no space between words.
_WITHOUT_SPACES = {"CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN"}
#: The packaged lists of words with their meanings, which ``--vocabulary`` takes by name.
PRESETS = ("idioms", "abbreviations")
#: Start and end of a text, as both the tokenizers library's regular expressions and JavaScript's have them.
_START, _END = r"(?<![\s\S])", r"(?![\s\S])"
#: An added token like this is markup of chats or documents (<tool_call>, [INST]), as control tokens are.
_MARKUP = re.compile(r"<.*>|\[.*\]", re.DOTALL)
#: Before the name of an added token that is to have a row of its own although a token of that name may be there.
#: Unicode keeps it for a program's own use: no text has it.
OWN = "\ufdd1"
#: The pieces of numbers that get rows: two or three digits, from the right; the last part of 3.1.7, 2021-03-12, 10:30
#: and 12x50 with its mark; and the first of 12/03/2021 and 12.03.2021. What stands alone, a mean cannot put in order.
_PARTS = [f"{n:0{size}}" for size in (1, 2) for n in range(10**size)]
NUMBERS = [f"{n:0{size}}" for size in (2, 3) for n in range(10**size)]
NUMBERS += [f"{mark}{part}" for mark in ".:x-" for part in _PARTS] + [
    f"{part}{mark}" for mark in "/." for part in _PARTS
]
_DIGIT = r"|\p{N}|"
_GROUPS = r"|[0-9]{1,3}(?=(?:[0-9]{3})*(?![0-9]))|\p{N}|"
_FIRST = r"(?<![0-9./:x-])[0-9]{1,2}(?:/(?=[0-9])|\.(?=[0-9]{1,2}\.[0-9]{4}))|"
_LAST = r"(?<=[0-9])[.:x-][0-9]{1,2}(?![0-9]|[./:x-][0-9])|"
_BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


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
    :ivar added_tokens: what :func:`with_added` adds for all of them.
    """

    tokenizer: Tokenizer
    teacher_ids: np.ndarray
    words: tuple[tuple[int, ...], ...] = ()
    added: dict[str, int] = field(default_factory=dict)
    custom: tuple[str, ...] = ()
    meanings: dict[str, str] = field(default_factory=dict)
    added_tokens: Sequence[AddedToken] = ()

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

    Control tokens of a byte-level BPE (``<|im_start|>`` and the like) are left out: they are text like any other.
    Other tokenizers keep their vocabulary as it is, because their unknown token is one of the special ones.

    :raises InputError: if the tokenizer is damaged, or an id is missing.
    """
    with as_input_error("the teacher's tokenizer is damaged", "download it again"):
        spec = json.loads(teacher.to_str())
        added: dict[str, int] = {}
        if spec["model"]["type"] == "BPE" and is_byte_level(teacher):
            ids, added = _without_added_tokens(spec)
        else:
            ids = np.arange(teacher.get_vocab_size(with_added_tokens=True))
            if sorted(teacher.get_vocab(with_added_tokens=True).values()) != ids.tolist():
                raise InputError("the teacher's token ids have gaps or repeats")
        spec["post_processor"] = spec["truncation"] = spec["padding"] = None
        tokenizer = Tokenizer.from_str(json.dumps(spec))
        return Vocabulary(_with_space(tokenizer) if _lacks_space(tokenizer) else tokenizer, ids, added=added)


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


def read_words(names: str | Path | Sequence[str | Path]) -> tuple[list[str], dict[str, str]]:
    """Read ``--vocabulary``: one word or phrase a line, and behind a tab, if there is one, what it means.

    A phrase with a meaning is found with a capital letter, too. Of a word that is there more than once the last line
    that says what it means counts.

    :param names: as for :func:`vocabulary_files`.
    :return: the words without a meaning, and word -> meaning of the others; each in order.
    :raises InputError: if a file cannot be read, or is not UTF-8.
    """
    words, meanings = dict[str, None](), dict[str, str]()
    for path in vocabulary_files(names):
        for line in read_lines(path, "vocabulary").lines:
            word, meaning = (" ".join(part.split()) for part in line.strip().partition("\t")[::2])
            if meaning:
                meanings[word] = meaning
            elif word:
                words[word] = None
    capitals = {word[0].upper() + word[1:]: meaning for word, meaning in meanings.items() if " " in word}
    meanings |= {word: meaning for word, meaning in capitals.items() if word not in meanings}
    return [word for word in words if word not in meanings], meanings


def with_words(vocabulary: Vocabulary, words: Sequence[str], meanings: Mapping[str, str]) -> Vocabulary:
    """Give each word or phrase, and each of the teacher's added words, a row of its own behind the tokens'.

    They are found after the teacher's own normalisation (letter case, accents), as whole words except in scripts that
    put no space between words; the longest first, and phrases with one space between their words: to look for others
    slows every text down. A word that is one token already keeps that row, unless its meaning is given; one with
    characters that the teacher does not know gets none.

    :param words: those whose row comes from the teacher.
    :param meanings: word -> what it means, of the others.
    """
    plain, unknown_id = vocabulary.tokenizer, unknown_row(vocabulary.tokenizer)
    names = plain.get_vocab()
    tokens = [AddedToken(word, normalized=True) for word in vocabulary.added]
    with_meaning, forms = list[AddedToken](), set[str]()
    pieces, explained, unknown = dict[str, list[int]](), dict[str, str](), list[str]()
    for word in [*words, *meanings]:
        ids, meant = (plain.encode(text, add_special_tokens=False).ids for text in (word, meanings.get(word, "")))
        form = _normalised(plain, word).strip(" \u2581")
        if unknown_id in [*ids, *meant]:
            unknown.append(word)
            continue
        has_row = word in vocabulary.added or (len(ids) == 1 and word not in meanings)
        if has_row or not form or form in forms:
            continue  # nothing is left of it; or it is another one in other letters
        forms.add(form)
        # lstrip takes the space before the word along, which would be left as a token of its own.
        how = {"single_word": not _is_unspaced(form), "lstrip": True, "normalized": True}
        if word in meanings:
            with_meaning.append(AddedToken(OWN + word, **how))
            explained[word] = meanings[word]
        else:
            tokens.append(AddedToken(word, **how))
            if word not in names:  # else that token's row, where the merges do not lead to it
                pieces[word] = vocabulary.teacher_ids[ids].tolist()
    if unknown:
        what = "words have characters that the teacher does not know, and are left out"
        count = len(words) + len(meanings)
        logger.info("    --vocabulary: %d of %d %s: %s", len(unknown), count, what, ", ".join(unknown[:20]))
    rows = [(i,) for word, i in vocabulary.added.items() if word not in names] + [tuple(ids) for ids in pieces.values()]
    return Vocabulary(
        with_added(plain, tokens),
        vocabulary.teacher_ids,
        tuple(rows),
        custom=tuple(pieces),
        meanings=explained,
        added_tokens=[*tokens, *with_meaning],
    )


def with_added(tokenizer: Tokenizer, tokens: Sequence[AddedToken]) -> Tokenizer:
    """Return the tokenizer with tokens added that are matched after normalisation; the rest of a text stays as it was.

    A text that is one such token and nothing else gets no space before it.
    """
    added = Tokenizer.from_str(tokenizer.to_str())
    added = _without_space(added, [token.content for token in tokens if OWN not in token.content])
    if any(OWN in token.content for token in tokens):
        # With the space before a text, as above: thousands of names in one pattern would slow every text down.
        added = _without(added, {"String": _normalised(added, OWN)})
    added.add_tokens(list(tokens))
    return added


def with_whole(tokenizer: Tokenizer, words: Sequence[str], numbers: Sequence[str] = ()) -> Tokenizer:
    """Return a byte-level BPE tokenizer that finds words whole, and groups of digits; their rows come last.

    What is in the vocabulary is taken as it is, without merges (``ignore_merges``). That costs a text nothing, where
    thousands of added tokens would slow it down. Marks belong to the letter before them: the pre-tokenizers of GPT-2
    and Qwen2.5 cut a word of Hindi at each vowel sign.

    :param words: with the space before them; none of them is a token already, or twice among them.
    :param numbers: those of ``NUMBERS`` that are found whole; without any, digits stay alone.
    """
    if not words and not numbers:
        return tokenizer
    spec = json.loads(tokenizer.to_str())
    model = spec["model"]
    model["ignore_merges"] = True
    for text in [*words, *numbers]:
        model["vocab"][byte_text(text)] = len(model["vocab"])
    for pattern in _patterns(tokenizer_steps(spec["pre_tokenizer"], "pretokenizers")):
        if words:
            pattern["Regex"] = pattern["Regex"].replace(r"\p{L}+", r"\p{L}[\p{L}\p{M}]*")
        if numbers and _DIGIT in pattern["Regex"]:
            pattern["Regex"] = _FIRST + _LAST + pattern["Regex"].replace(_DIGIT, _GROUPS)
    return Tokenizer.from_str(json.dumps(spec))


def splits_digits(tokenizer: Tokenizer) -> bool:
    """Whether a tokenizer's pattern takes digits one by one, as Qwen2.5's does, and can take groups instead."""
    return any(_DIGIT in pattern["Regex"] for pattern in _patterns(_cuts(tokenizer)))


def is_byte_level(tokenizer: Tokenizer) -> bool:
    """Whether a tokenizer spells text in bytes, so that no text is unknown to it."""
    return any(step["type"] == "ByteLevel" for step in _cuts(tokenizer))


def _cuts(tokenizer: Tokenizer) -> list[dict[str, Any]]:
    """Return the steps of a tokenizer's pre-tokenizer, in JSON."""
    bare = Tokenizer(models.BPE())  # to write out the vocabulary, too, would take a second
    if tokenizer.pre_tokenizer:
        bare.pre_tokenizer = tokenizer.pre_tokenizer
    return tokenizer_steps(json.loads(bare.to_str())["pre_tokenizer"], "pretokenizers")


def _patterns(steps: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Return the patterns that a pre-tokenizer's steps split a text by."""
    return [step["pattern"] for step in steps if step["type"] == "Split" and "Regex" in step["pattern"]]


def byte_text(text: str) -> str:
    """Return how a byte-level vocabulary writes a text's UTF-8 bytes."""
    return "".join(piece for piece, _ in _BYTES.pre_tokenize_str(text))


def _lacks_space(tokenizer: Tokenizer) -> bool:
    """Whether a space in front of a text changes its tokens; not where the normaliser puts one there itself."""
    if _normalised(tokenizer, "x") != "x":
        return False
    # Where runs of spaces become one, and words get one anyway, it is still missed before an added token.
    starts = ("", " ", *(token.content for token in tokenizer.get_added_tokens_decoder().values()))
    texts = [start + "word" for start in starts]
    return any(tokenizer.encode(text).tokens != tokenizer.encode(" " + text).tokens for text in texts)


def _with_space(tokenizer: Tokenizer) -> Tokenizer:
    """Return the tokenizer with a normaliser that puts a space before a text."""
    spec = json.loads(tokenizer.to_str())
    names = tokenizer.get_vocab(with_added_tokens=False)
    space = _normalised(tokenizer, " ")  # where it is marked, a text's own U+2581 cannot be told from it
    kept = []
    for token in spec["added_tokens"]:
        content = token["content"]
        if space != " " and not token["normalized"] and space in content and content in names:
            continue  # a row still, to which the merges lead
        # Matched before normalisation, a token would cut the text into pieces, each of which would get a space.
        if content.isspace() or _normalised(tokenizer, content) == content:
            token["normalized"] = True
        kept.append(token)
    spec["added_tokens"] = kept
    # Not ByteLevel's add_prefix_space: behind a Split step it hits every piece, not the first.
    prepend = {"type": "Prepend", "prepend": " "}
    theirs = [spec["normalizer"]] if spec["normalizer"] else []
    # In front, where the teacher's would meet it: SentencePiece-style ones turn spaces into U+2581. Those of byte-level
    # BPE leave spaces alone.
    steps = [*theirs, prepend] if is_byte_level(tokenizer) else [prepend, *theirs]
    spec["normalizer"] = {"type": "Sequence", "normalizers": steps}
    spaced = Tokenizer.from_str(json.dumps(spec))
    return _without_space(spaced, [token["content"] for token in kept if token["normalized"]])


def _without_space(tokenizer: Tokenizer, contents: list[str]) -> Tokenizer:
    """Put no space before a text that is an added token: these are normalised as texts are, and would begin with it."""
    space = _normalised(tokenizer, "x").removesuffix("x")
    forms = sorted({_normalised(tokenizer, content).removeprefix(space) for content in contents} - {""})
    if not space or not forms:
        return tokenizer
    # By first letter, because a list of thousands is searched in order.
    groups = {first: list(group) for first, group in itertools.groupby(forms, key=lambda form: form[0])}
    choice = "|".join(
        f"{_escaped(first)}(?:{'|'.join(_escaped(form[1:]) for form in group)})" for first, group in groups.items()
    )
    return _without(tokenizer, {"Regex": f"{_START}{_escaped(space)}(?=(?:{choice}){_END})"})


def _without(tokenizer: Tokenizer, pattern: dict[str, str]) -> Tokenizer:
    """Return a tokenizer whose normaliser takes a pattern out of what its other steps leave of a text."""
    spec = json.loads(tokenizer.to_str())
    theirs = [spec["normalizer"]] if spec["normalizer"] else []
    step = {"type": "Replace", "pattern": pattern, "content": ""}
    spec["normalizer"] = {"type": "Sequence", "normalizers": [*theirs, step]}
    return Tokenizer.from_str(json.dumps(spec))


def _normalised(tokenizer: Tokenizer, text: str) -> str:
    return str(tokenizer.normalizer.normalize_str(text)) if tokenizer.normalizer else text


def _without_added_tokens(spec: dict[str, Any]) -> tuple[np.ndarray, dict[str, int]]:
    """Take the added tokens out of a BPE tokenizer's JSON and number the others anew, in order.

    An added token that is a byte, or that merges lead to or start from (a pad token ``!``), is an ordinary one, too.

    :return: the teacher's id of each token that is left, and of each added word that is no control token or markup.
    """
    model = spec["model"]
    merges = [merge if isinstance(merge, list) else merge.split(" ") for merge in model["merges"]]
    ordinary = {part for left, right in merges for part in (left, right, left + right)}
    added = {token["content"]: token for token in spec["added_tokens"]}
    kept = sorted((i, t) for t, i in model["vocab"].items() if t not in added or len(t) == 1 or t in ordinary)
    model["vocab"] = {token: row for row, (_, token) in enumerate(kept)}
    model["unk_token"] = None
    spec["added_tokens"] = []
    words = {word: token["id"] for word, token in added.items() if not token["special"] and not _MARKUP.fullmatch(word)}
    return np.array([i for i, _ in kept], dtype=np.int64), words


def _is_unspaced(word: str) -> bool:
    """Whether a word begins or ends in a script that puts no space between words."""
    return any(unicodedata.name(letter, "").split(" ")[0] in _WITHOUT_SPACES for letter in (word[0], word[-1]))


def _escaped(text: str) -> str:
    """Return the pattern of a text, as both the tokenizers library's regular expressions and JavaScript's have it."""
    # re.escape escapes more than JavaScript allows.
    return re.sub(r"[\\^$.|?*+()\[\]{}/]", r"\\\g<0>", text)
