"""The teacher's tokenizer -> the static model's, and how often each of its tokens occurs.

A static model must segment text as its teacher does, save for one space before the first word:
without it a word at the start of a text would get another token than everywhere else.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import AddedToken, Tokenizer

from qwen25.runtime.errors import InputError


@dataclass(frozen=True)
class Vocabulary:
    """The static model's tokenizer and where its rows come from.

    :ivar tokenizer: maps a text to row numbers.
    :ivar teacher_ids: row number -> the teacher's token id; shape (tokens,).
    :ivar words: the teacher's ids of each custom word; their rows come behind the tokens'.
    """

    tokenizer: Tokenizer
    teacher_ids: np.ndarray
    words: tuple[tuple[int, ...], ...] = ()

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
    """Derive the static model's vocabulary from the teacher's tokenizer.

    Control tokens of a byte-level BPE (``<|im_start|>`` and the like) are left out: text that
    spells one out is segmented as text. Other tokenizers keep their vocabulary as it is, because
    their unknown token is one of the special ones.

    :raises InputError: if two tokens share an id or an id is missing.
    """
    spec = json.loads(teacher.to_str())
    model = spec["model"]
    if model["type"] == "BPE" and is_byte_level(spec):
        ids = _drop_added_tokens(spec)
    else:
        ids = np.arange(teacher.get_vocab_size(with_added_tokens=True))
        if sorted(teacher.get_vocab(with_added_tokens=True).values()) != ids.tolist():
            raise InputError("the teacher's token ids have gaps or repeats")
    spec["post_processor"] = spec["truncation"] = spec["padding"] = None
    tokenizer = Tokenizer.from_str(json.dumps(spec))
    if tokenizer.encode("word").tokens != tokenizer.encode(" word").tokens:
        # Not ByteLevel's add_prefix_space: behind a Split step it hits every piece, not the first.
        prepend = {"type": "Prepend", "prepend": " "}
        before = spec["normalizer"]
        spec["normalizer"] = {"type": "Sequence", "normalizers": [*([before] if before else []), prepend]}
        tokenizer = Tokenizer.from_str(json.dumps(spec))
    return Vocabulary(tokenizer, ids)


def read_words(path: Path) -> list[str]:
    """Read a custom vocabulary: one word or phrase a line, without repeats, in order.

    :raises InputError: if the file cannot be read or holds nothing.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the vocabulary {path}: {error}") from error
    words = list(dict.fromkeys(" ".join(line.split()) for line in lines if line.strip()))
    if not words:
        raise InputError(f"{path} holds no word")
    return words


def with_words(vocabulary: Vocabulary, words: list[str]) -> Vocabulary:
    """Give each word or phrase a row of its own, behind the tokens'.

    :raises InputError: if a word is a token already.
    """
    spec = json.loads(vocabulary.tokenizer.to_str())
    if (spec["normalizer"] or {}).get("type") == "Sequence":
        # A word splits the text, and what follows it would get a second space before its own.
        spec["normalizer"]["normalizers"].append({"type": "Replace", "pattern": {"Regex": r"\A  "}, "content": " "})
    tokenizer = Tokenizer.from_str(json.dumps(spec))
    pieces = [vocabulary.teacher_ids[vocabulary.tokenizer.encode(word).ids].tolist() for word in words]
    # lstrip takes the space before the word along, which would be left as a token of its own.
    tokenizer.add_tokens([AddedToken(word, single_word=True, lstrip=True, normalized=False) for word in words])
    if tokenizer.get_vocab_size() != len(vocabulary) + len(words):
        known = vocabulary.tokenizer.get_vocab()
        twice = next(word for word in words if word in known)
        raise InputError(f"--vocabulary: {twice!r} is one of the teacher's tokens already; leave it out")
    return Vocabulary(tokenizer, vocabulary.teacher_ids, tuple(map(tuple, pieces)))


def is_byte_level(spec: dict[str, Any]) -> bool:
    """Whether a tokenizer, from its JSON, is a byte-level one."""
    pre = spec["pre_tokenizer"] or {}
    steps = pre.get("pretokenizers", [pre])
    return any(step.get("type") == "ByteLevel" for step in steps)


def _drop_added_tokens(spec: dict[str, Any]) -> np.ndarray:
    """Take the added tokens out of a BPE tokenizer's JSON and number the others anew, in order."""
    model = spec["model"]
    added = {token["content"] for token in spec["added_tokens"]}
    kept = sorted(((i, t) for t, i in model["vocab"].items() if t not in added))
    if len({i for i, _ in kept}) != len(kept):
        raise InputError("the teacher's tokenizer gives two tokens one id")
    model["vocab"] = {token: row for row, (_, token) in enumerate(kept)}
    model["unk_token"] = None
    spec["added_tokens"] = []
    return np.array([i for i, _ in kept], dtype=np.int64)
