"""A tokenizer -> what the page's JavaScript needs to segment texts just as it does."""

from __future__ import annotations

import json
import re
from string import ascii_lowercase
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from qwen25.runtime.errors import InputError
from qwen25.store.static_model import tokenizer_steps

#: ByteLevel's own pattern, which it cuts by where ``use_regex`` is set.
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
#: Letters that a pattern without regard to case finds besides a letter's two cases.
OTHER_CASES = {"s": "\u017f", "k": "\u212a"}


def page_tokenizer(tokenizer: Tokenizer) -> tuple[dict[str, Any], np.ndarray]:
    """Return the facts of a byte-level BPE tokenizer, and its merges as pairs of ids, in order; shape (merges, 2).

    :raises InputError: if it is of another kind, or has a step that the page does not know.
    """
    spec = json.loads(tokenizer.to_str())
    model = spec["model"]
    steps = tokenizer_steps(spec["pre_tokenizer"], "pretokenizers")
    if model["type"] != "BPE" or not any(step["type"] == "ByteLevel" for step in steps):
        raise _unsupported(f"a {model['type']} tokenizer that is not byte-level")
    unknown = model["unk_token"] in model["vocab"] or model["continuing_subword_prefix"] or model["end_of_word_suffix"]
    if model["dropout"] or unknown or spec["added_tokens"]:
        raise _unsupported("a tokenizer with words of its own (--vocabulary), an unknown token, marks or dropout")
    normalizers = tokenizer_steps(spec["normalizer"], "normalizers")
    kinds = [step["type"] for step in normalizers]
    if kinds not in ([], ["NFC"], ["Prepend"], ["NFC", "Prepend"]):
        raise _unsupported(f"the normaliser {' and '.join(kinds)}")
    facts = {
        "nfc": "NFC" in kinds,
        "prepend": next((step["prepend"] for step in normalizers if step["type"] == "Prepend"), ""),
        "patterns": [pattern for step in steps for pattern in _patterns(step)],
        "tokens": sorted(model["vocab"], key=model["vocab"].get),
        "ignoreMerges": bool(model["ignore_merges"]),
    }
    return facts, _merges(model)


def _merges(model: dict[str, Any]) -> np.ndarray:
    """Return the merges as pairs of ids, checked to be in an order that lets all of one rank be applied at once."""
    ids, last = model["vocab"], dict.fromkeys(model["vocab"], -1)  # token -> the last merge that makes it
    found = np.empty((len(model["merges"]), 2), dtype=np.uint32)
    for rank, merge in enumerate(model["merges"]):
        left, right = merge if isinstance(merge, list) else merge.split(" ")
        last[left + right] = rank
        found[rank] = ids[left], ids[right]
    tokens = {row: token for token, row in ids.items()}
    for rank, pair in enumerate(found.tolist()):
        if any(last[tokens[part]] >= rank for part in pair):
            raise _unsupported("a tokenizer that uses a token before its merge")
    return found


def _patterns(step: dict[str, Any]) -> list[str]:
    """Return the JavaScript patterns by which a pre-tokenizer step cuts texts; matches become pieces of their own."""
    if step["type"] == "ByteLevel" and not step["add_prefix_space"]:
        return [javascript_pattern(GPT2)] if step["use_regex"] else []
    if step["type"] == "Digits":
        return [r"\p{N}" if step["individual_digits"] else r"\p{N}+"]
    if step["type"] == "Split" and step["behavior"] == "Isolated" and not step["invert"]:
        pattern = step["pattern"]
        return [javascript_pattern(pattern["Regex"] if "Regex" in pattern else re.escape(pattern["String"]))]
    raise _unsupported(f"the pre-tokenizer {step['type']}")


def javascript_pattern(pattern: str) -> str:
    r"""Translate a pattern of the tokenizers library to JavaScript's, with the flag u.

    ``\s`` is Unicode's White_Space there and another set in JavaScript, and ``(?i:...)`` is younger than many
    browsers.

    :raises InputError: if the pattern has something that is not known to mean the same.
    """
    pattern = re.sub(r"\(\?i:([^()\\\[\]]*)\)", _either_case, pattern)
    known = {r"\s": r"\p{White_Space}", r"\S": r"\P{White_Space}", r"\d": r"\p{Nd}"}
    unknown = re.search(r"\(\?(?!<?[=!]|:)|[+*?]\+|\d\}\+|\\(?![pP]\{\w+\}|[rnt sSd'/.])", pattern)
    if unknown:
        raise _unsupported(f"the pattern {pattern!r}")
    return re.sub(r"\\[sSd '/]", lambda match: known.get(match[0], match[0][1]), pattern)


def _either_case(group: re.Match[str]) -> str:
    """Return a group without regard to case as one in which each letter is the class of its cases."""
    classes = str.maketrans({c: f"[{c}{c.upper()}{OTHER_CASES.get(c, '')}]" for c in ascii_lowercase})
    return f"(?:{group[1].lower().translate(classes)})"


def _unsupported(what: str) -> InputError:
    return InputError(f"the page does not know {what}: give a model of a teacher with a byte-level BPE tokenizer")
