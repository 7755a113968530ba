"""Which of a byte-level BPE's tokens become rows: those that text needs most, with every merge that leads to them.

A set of tokens that holds both halves of each of its tokens is closed under its merges, and a closed set is itself a
consistent tokenizer: any text still encodes, and a text whose tokens in the full tokenizer are all kept gets the
same tokens. (The merges inside a token are the same wherever it stands, none of them is left out, and what is left
out was never applied to such a text.) The first N merges are one such set of many.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders

from qwen25.distillation.static_tokenizer import is_byte_level
from qwen25.distillation.vocabulary import Vocabulary
from qwen25.runtime.errors import InputError

#: Longer runs of white space are hardly met in text; they fall into shorter ones.
LONGEST_SPACE = 16


def most_used_rows(vocabulary: Vocabulary, use: np.ndarray, rows: int) -> Vocabulary:
    """Keep the ``rows`` tokens of a byte-level BPE that text needs most, closed under their merges.

    Control tokens are not in the vocabulary. Tokens that the tokenizer never produces, and long runs of white
    space, are only kept where another token is made of them.

    :param use: the share of text that each token makes up; shape (tokens,).
    :raises InputError: if the tokenizer is another kind, or ``rows`` leaves no merge at all.
    """
    if rows >= len(vocabulary):
        return vocabulary
    model = require_room(vocabulary, rows)
    halves = _halves(model)
    kept = _basic(vocabulary, halves)
    absent = never_in_text(vocabulary.tokenizer)
    for token in sorted(model["vocab"], key=lambda token: (-use[model["vocab"][token]], model["vocab"][token])):
        if model["vocab"][token] in absent:
            continue
        needed = _ancestors(token, halves, kept)
        if len(kept) + len(needed) <= rows:
            kept |= needed
        if len(kept) == rows:
            break
    return keep_tokens(vocabulary, kept)


def require_room(vocabulary: Vocabulary, rows: int) -> dict[str, Any]:
    """Return the model of a byte-level BPE's JSON, if ``rows`` are more than its single characters.

    :raises InputError: if they are not, or the tokenizer is another kind.
    """
    spec = json.loads(vocabulary.tokenizer.to_str())
    if spec["model"]["type"] != "BPE" or not is_byte_level(spec):
        raise InputError("only a byte-level BPE vocabulary can be cut to a size: use --max-size-mb none")
    basic = len(_basic(vocabulary, _halves(spec["model"])))
    if rows <= basic:
        raise InputError(f"the size allows {rows} tokens, but {basic} single characters come first: allow more")
    model: dict[str, Any] = spec["model"]
    return model


def _basic(vocabulary: Vocabulary, halves: dict[str, set[str]]) -> set[str]:
    """Return the tokens that are kept in any case: single characters, and added tokens."""
    added = {token.content for token in vocabulary.tokenizer.get_added_tokens_decoder().values()}
    plain = vocabulary.tokenizer.get_vocab(with_added_tokens=False)
    return added | {token for token in plain if token not in halves and len(token) == 1}


def first_merges(vocabulary: Vocabulary, rows: int) -> Vocabulary:
    """Keep the first ``rows`` tokens of a byte-level BPE: its bytes and its first merges, for comparison."""
    return most_used_rows(vocabulary, -np.arange(len(vocabulary), dtype=float), rows)


def keep_tokens(vocabulary: Vocabulary, kept: set[str]) -> Vocabulary:
    """Return the vocabulary of the tokens ``kept`` alone, numbered in their old order; the set must be closed."""
    spec = json.loads(vocabulary.tokenizer.to_str())
    model = spec["model"]
    old = vocabulary.tokenizer.get_vocab(with_added_tokens=True)
    tokens = sorted(kept, key=old.__getitem__)
    old_rows = [old[token] for token in tokens]
    rows = {token: row for row, token in enumerate(tokens)}
    merges = [pair for pair in _pairs(model) if {*pair, pair[0] + pair[1]} <= kept]
    model["merges"] = [list(pair) for pair in merges]
    model["vocab"] = {token: rows[token] for token in tokens if token in model["vocab"]}
    for token in spec["added_tokens"]:
        token["id"] = rows[token["content"]]
    return Vocabulary(Tokenizer.from_str(json.dumps(spec)), vocabulary.teacher_ids[old_rows])


def _pairs(model: dict[str, Any]) -> list[tuple[str, str]]:
    return [tuple(pair) if isinstance(pair, list) else tuple(pair.split(" ")) for pair in model["merges"]]


def _halves(model: dict[str, Any]) -> dict[str, set[str]]:
    """Return, for each token that merges make, what they make it of."""
    halves: dict[str, set[str]] = {}
    for left, right in _pairs(model):
        halves.setdefault(left + right, set()).update((left, right))
    return halves


def _ancestors(token: str, halves: dict[str, set[str]], kept: set[str]) -> set[str]:
    """Return the token and all that it is made of, without what is kept already."""
    found: set[str] = set()
    open_tokens = [token]
    while open_tokens:
        one = open_tokens.pop()
        if one not in kept and one not in found:
            found.add(one)
            open_tokens.extend(halves.get(one, ()))
    return found


def never_in_text(tokenizer: Tokenizer) -> set[int]:
    """Return the tokens of a byte-level BPE that no text has, by its own normaliser, pre-tokenizer or merges.

    Qwen's has two thousand, such as Thai words that its pre-tokenizer takes apart at their tone marks. Long runs of
    white space count as absent too.
    """
    normalizer, pre_tokenizer, model = tokenizer.normalizer, tokenizer.pre_tokenizer, tokenizer.model
    decoder = decoders.ByteLevel()
    absent = set()
    for token, i in tokenizer.get_vocab(with_added_tokens=False).items():
        text = decoder.decode([token])
        if text.isspace():
            if len(text) > LONGEST_SPACE:
                absent.add(i)
        elif len(token) > 1 and "\ufffd" not in text:  # part of a character stands inside others
            apart = pre_tokenizer is not None and len(pre_tokenizer.pre_tokenize_str(text)) > 1
            # A static model's normaliser also puts a space before the text.
            changed = normalizer is not None and normalizer.normalize_str(text).lstrip(" ") != text.lstrip(" ")
            if apart or changed or [piece.value for piece in model.tokenize(token)] != [token]:
                absent.add(i)
    return absent
