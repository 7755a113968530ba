"""Texts of programs -> plain sentences: without markup, and none with places to be filled in."""

from __future__ import annotations

import re

#: A row of a set of pairs: its sides ``a`` and ``b``, and its language or languages ``lang``.
Row = dict[str, str]
#: A text with one of these is a pattern, an address or a name, and no sentence.
PATTERN = re.compile(r"[{}%|]|\$t\(|://|\\n|__\w+__")
#: Markup that leaves its text behind: links, tags, emphasis, code.
LINK, TAG, EMPHASIS = re.compile(r"\[([^]]+)\]\([^)]*\)"), re.compile(r"<[^<>]*>"), re.compile(r"\*\*|``?")
#: Shorter texts are labels: they name things of a program rather than say something.
MIN_WORDS = 3
#: Code and descriptions are cut to this many characters: a mean of all of a long text says little.
MAX_LENGTH = 400


def plain(text: str) -> str:
    """Return a text without markup, on one line; empty if it holds places to be filled in."""
    text = EMPHASIS.sub("", TAG.sub("", LINK.sub(r"\1", text)))
    return "" if PATTERN.search(text) else " ".join(text.split())


def is_sentence(english: str) -> bool:
    """Whether an English text says something: a few words, rather than a label."""
    return len(english.split()) >= MIN_WORDS
