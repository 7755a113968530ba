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
from tokenizers import Tokenizer

from qwen25.distillation.static_tokenizer import is_byte_level
from qwen25.distillation.vocabulary import Vocabulary
from qwen25.runtime.errors import InputError

#: Longer runs of white space are hardly met in text; they fall into shorter ones.
LONGEST_SPACE = 16
#: What stands for white space in a byte-level BPE's tokens: space, tab, line feed, carriage return.
_WHITE_SPACE = "ĠĉĊč"


def most_used_rows(vocabulary: Vocabulary, use: np.ndarray, rows: int) -> Vocabulary:
    """Keep the ``rows`` tokens of a byte-level BPE that text needs most, closed under their merges.

    Control tokens are not in the vocabulary. Tokens that the tokenizer never produces, and long runs of white
    space, are only kept where another token is made of them.

    :param use: the share of text that each token makes up; shape (tokens,).
    :raises InputError: if the tokenizer is another kind, or ``rows`` leaves no merge at all.
    """
    if rows >= len(vocabulary):
        return vocabulary
    spec = json.loads(vocabulary.tokenizer.to_str())
    if spec["model"]["type"] != "BPE" or not is_byte_level(spec):
        raise InputError("only a byte-level BPE vocabulary can be cut to a size: use --max-size-mb none")
    model = spec["model"]
    halves = _halves(model)
    added = {token["content"] for token in spec["added_tokens"]}
    kept = added | {token for token in model["vocab"] if token not in halves and len(token) == 1}
    if rows <= len(kept):
        raise InputError(f"the size allows {rows} tokens, but {len(kept)} single characters come first: allow more")
    unreached = _unreached(vocabulary.tokenizer)
    for token in sorted(model["vocab"], key=lambda token: (-use[model["vocab"][token]], model["vocab"][token])):
        if token in unreached or (len(token) > LONGEST_SPACE and not token.strip(_WHITE_SPACE)):
            continue
        needed = _ancestors(token, halves, kept)
        if len(kept) + len(needed) <= rows:
            kept |= needed
        if len(kept) == rows:
            break
    return keep_tokens(vocabulary, kept)


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


def _unreached(tokenizer: Tokenizer) -> set[str]:
    """Return the tokens that the tokenizer's merges do not make of their own text."""
    model = tokenizer.model
    return {token for token in tokenizer.get_vocab() if [piece.value for piece in model.tokenize(token)] != [token]}
