"""Phrases in a tokenizer: found whatever white space stands between their words, and only where they end with a word.

The tokenizers library looks for added tokens in the normalised text, the longest first, and asks only then whether one
ends with a word: where it does not ("heart attacks"), a shorter one in it ("heart") is not looked for. So the
normaliser finds a whole phrase first, and marks the spaces in it. The phrase's token is normalised as texts are, so
that it holds the marks: it is in no text that was not marked.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

#: Before a phrase's spaces. Unicode keeps it for a program's own use: no text has it.
MARK = "\ufdd0"
_SPACE = "[\\s\u2581]"
_LETTER = r"[\p{L}\p{M}\p{N}_]"


def mark_phrases(spec: dict[str, Any], phrases: Mapping[str, bool], space: str) -> None:
    """Add steps to a tokenizer's JSON that mark the spaces in phrases, and take the marks away where no token has them.

    :param phrases: a phrase as the normaliser leaves it -> whether it stands between spaces or signs, as words do.
    :param space: what the normaliser makes of a space.
    """
    split = [(re.split(f"{_SPACE}+", phrase), whole) for phrase, whole in phrases.items()]
    gaps = max((len(words) - 1 for words, _ in split), default=0)
    if not gaps:
        return
    # One step for each place of a gap, because what stands before it must be of fixed length: its own gaps are by then.
    steps = [
        {
            "type": "Replace",
            "pattern": {"Regex": _gaps([(words, whole) for words, whole in split if len(words) > at], at, space)},
            "content": MARK + space,
        }
        for at in range(1, gaps + 1)
    ]
    theirs = [spec["normalizer"]] if spec["normalizer"] else []
    spec["normalizer"] = {"type": "Sequence", "normalizers": [*theirs, *steps]}
    # Two phrases that share a word are both marked, and one is taken: the other's spaces become plain ones again.
    unmark = {"type": "Split", "pattern": {"String": MARK}, "behavior": "Removed", "invert": False}
    cuts = [spec["pre_tokenizer"]] if spec["pre_tokenizer"] else []
    spec["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [unmark, *cuts]}


def _gaps(phrases: list[tuple[list[str], bool]], at: int, space: str) -> str:
    """Return the pattern of the white space before word number ``at`` of each phrase."""
    by_letter: dict[str, list[str]] = defaultdict(list)  # a long list is searched in order
    for words, whole in phrases:
        before = escaped((MARK + space).join(words[:at]))
        behind = f"{_SPACE}+".join(map(escaped, words[at:]))
        starts, ends = (f"(?<!{_LETTER}{before})", f"(?!{_LETTER})") if whole else ("", "")
        by_letter[words[at][0]].append(f"(?<={before}){starts}{_SPACE}+(?={behind}{ends})")
    groups = (f"(?={_SPACE}+{escaped(letter)})(?:{'|'.join(group)})" for letter, group in by_letter.items())
    return f"(?={_SPACE})(?:{'|'.join(groups)})"


def escaped(text: str) -> str:
    """Return the pattern of a text, as both the tokenizers library's regular expressions and JavaScript's have it."""
    # re.escape escapes more than JavaScript allows.
    return re.sub(r"[\\^$.|?*+()\[\]{}/]", r"\\\g<0>", text)
