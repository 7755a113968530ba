"""The teacher's tokenizer -> the static model's, and how often each of its tokens occurs.

A static model must segment text as its teacher does, save for one space before the first word:
without it a word at the start of a text would get another token than everywhere else.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from qwen25.console import InputError


@dataclass(frozen=True)
class Vocabulary:
    """The static model's tokenizer and where its rows come from.

    :ivar tokenizer: maps a text to row numbers.
    :ivar teacher_ids: row number -> the teacher's token id; shape (rows,).
    """

    tokenizer: Tokenizer
    teacher_ids: np.ndarray

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.teacher_ids)


def static_vocabulary(teacher: Tokenizer) -> Vocabulary:
    """Derive the static model's vocabulary from the teacher's tokenizer.

    Control tokens of a byte-level BPE (``<|im_start|>`` and the like) are left out: text that
    spells one out is segmented as text. Other tokenizers keep their vocabulary as it is, because
    their unknown token is one of the special ones.

    :raises InputError: if two tokens share an id or an id is missing.
    """
    spec = json.loads(teacher.to_str())
    model = spec["model"]
    if model["type"] == "BPE" and _is_byte_level(spec):
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


def _is_byte_level(spec: dict[str, Any]) -> bool:
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


def zipf_frequencies(rows: int) -> np.ndarray:
    """Return the token probabilities that Zipf's law gives to ranks in row order; shape (rows,).

    A BPE's merge order is an order of frequency, so the row number stands for the rank, as in
    model2vec: p(r) proportional to 1 / (r + 2), r from 0.
    """
    inverse = 1.0 / np.arange(2, rows + 2)
    return inverse / inverse.sum()
