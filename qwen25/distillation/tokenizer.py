"""A teacher's tokenizer -> the static model's.

A static model must segment text as its teacher does, save for one space before the first word: without it a word at
the start of a text would get another token than everywhere else. So the static tokenizer of a text gives what the
teacher's gives of the text behind a space. A tokenizer that puts that space itself, with a normaliser of the kind
Prepend (Llama 2), is left as it is: a second one would be a token of its own in front of every text.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from tokenizers import AddedToken, Tokenizer, pre_tokenizers

from qwen25.runtime.errors import InputError
from qwen25.store.static_model import tokenizer_steps

#: Start and end of a text, as both the tokenizers library's regular expressions and JavaScript's have them.
_START, _END = r"(?<![\s\S])", r"(?![\s\S])"
#: An added token like this is markup of chats or documents (<tool_call>, [INST]), as control tokens are.
_MARKUP = re.compile(r"<.*>|\[.*\]", re.DOTALL)
#: Before a phrase's spaces. Unicode keeps it for a program's own use: no text has it.
MARK = "\ufdd0"
#: Before the name of an added token that is to have a row of its own although a token of that name may be there; no
#: text has it either.
OWN = "\ufdd1"
_SPACE = "[\\s\u2581]"
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
_LETTER = r"[\p{L}\p{M}\p{N}_]"


def static_tokenizer(teacher: Tokenizer) -> tuple[Tokenizer, np.ndarray, dict[str, int]]:
    """Derive the static model's tokenizer from the teacher's.

    Control tokens of a byte-level BPE (``<|im_start|>`` and the like) are left out: they are text like any other.
    Other tokenizers keep their vocabulary as it is, because their unknown token is one of the special ones.

    :return: the tokenizer; row number -> the teacher's token id, of shape (tokens,); and the words that the teacher's
        tokenizer never splits and this one does, with the teacher's id of each.
    :raises InputError: if an id is missing.
    """
    spec = json.loads(teacher.to_str())
    added: dict[str, int] = {}
    if spec["model"]["type"] == "BPE" and is_byte_level(spec):
        ids, added = _without_added_tokens(spec)
    else:
        ids = np.arange(teacher.get_vocab_size(with_added_tokens=True))
        if sorted(teacher.get_vocab(with_added_tokens=True).values()) != ids.tolist():
            raise InputError("the teacher's token ids have gaps or repeats")
    spec["post_processor"] = spec["truncation"] = spec["padding"] = None
    tokenizer = Tokenizer.from_str(json.dumps(spec))
    if _lacks_space(tokenizer, spec):
        _put_space(spec)
        tokenizer = Tokenizer.from_str(json.dumps(spec))
    return tokenizer, ids, added


def with_added(tokenizer: Tokenizer, tokens: Iterable[AddedToken], phrases: Mapping[str, bool]) -> Tokenizer:
    """Return the tokenizer with tokens added that are matched after normalisation; the rest of a text stays as it was.

    A text that is one such token and nothing else gets no space before it.

    :param phrases: those of more than one word, as the normaliser leaves them -> whether they are whole words.
    """
    tokens = list(tokens)
    spec = json.loads(tokenizer.to_str())
    _mark_phrases(spec, phrases, _normaliser(spec["normalizer"])("x y")[-2])
    _skip_space(spec, [token.content for token in tokens if OWN not in token.content])
    if any(OWN in token.content for token in tokens):
        # With the space before a text, as above: thousands of names in one pattern would slow every text down.
        mark = _normaliser(spec["normalizer"])(OWN)
        _append_steps(spec, [{"type": "Replace", "pattern": {"String": mark}, "content": ""}])
    tokenizer = Tokenizer.from_str(json.dumps(spec))
    tokenizer.add_tokens(tokens)
    return tokenizer


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
    for step in tokenizer_steps(spec["pre_tokenizer"], "pretokenizers"):
        if step["type"] == "Split" and "Regex" in step["pattern"]:
            pattern = step["pattern"]["Regex"]
            if words:
                pattern = pattern.replace(r"\p{L}+", r"\p{L}[\p{L}\p{M}]*")
            if numbers and _DIGIT in pattern:
                pattern = _FIRST + _LAST + pattern.replace(_DIGIT, _GROUPS)
            step["pattern"]["Regex"] = pattern
    return Tokenizer.from_str(json.dumps(spec))


def splits_digits(tokenizer: Tokenizer) -> bool:
    """Whether a tokenizer's pattern takes digits one by one, as Qwen2.5's does, and can take groups instead."""
    steps = tokenizer_steps(json.loads(tokenizer.to_str())["pre_tokenizer"], "pretokenizers")
    return any(step["type"] == "Split" and _DIGIT in step["pattern"].get("Regex", "") for step in steps)


def byte_text(text: str) -> str:
    """Return how a byte-level vocabulary writes a text's UTF-8 bytes."""
    return "".join(piece for piece, _ in _BYTES.pre_tokenize_str(text))


def is_byte_level(spec: dict[str, Any]) -> bool:
    """Whether a tokenizer's JSON is that of a byte-level one."""
    return "ByteLevel" in _kinds(spec["pre_tokenizer"], "pretokenizers")


def _kinds(step: dict[str, Any] | None, inner: str) -> list[str]:
    """Return the types of a step of a tokenizer's JSON, or of those in a sequence."""
    return [one["type"] for one in tokenizer_steps(step, inner)]


def _lacks_space(tokenizer: Tokenizer, spec: dict[str, Any]) -> bool:
    """Whether a space in front of a text changes its tokens; not where the tokenizer puts one there itself."""
    if "Prepend" in _kinds(spec["normalizer"], "normalizers"):
        return False
    # Where runs of spaces become one, and words get one anyway, it is still missed before an added token.
    starts = ("", " ", *(token["content"] for token in spec["added_tokens"]))
    texts = [start + "word" for start in starts]
    return any(tokenizer.encode(text).tokens != tokenizer.encode(" " + text).tokens for text in texts)


def _put_space(spec: dict[str, Any]) -> None:
    """Have the normaliser of a tokenizer's JSON put a space before a text."""
    # Not ByteLevel's add_prefix_space: behind a Split step it hits every piece, not the first.
    prepend = {"type": "Prepend", "prepend": " "}
    theirs = [spec["normalizer"]] if spec["normalizer"] else []
    # In front, where the teacher's would meet it: SentencePiece-style ones turn spaces into U+2581. Those of byte-level
    # BPE leave spaces alone.
    steps = [*theirs, prepend] if is_byte_level(spec) else [prepend, *theirs]
    normalise = _normaliser(spec["normalizer"])
    vocabulary = spec["model"]["vocab"]
    names = set(vocabulary) if isinstance(vocabulary, dict) else {token for token, _ in vocabulary}  # a Unigram's
    marks = normalise(" ") != " "  # how spaces are marked, a text's own U+2581 cannot be told from them
    kept = []
    for token in spec["added_tokens"]:
        content = token["content"]
        if marks and not token["normalized"] and normalise(" ") in content and content in names:
            continue  # a row still, to which the merges lead
        # Matched before normalisation, a token would cut the text into pieces, each of which would get a space.
        if content.isspace() or normalise(content) == content:
            token["normalized"] = True
        kept.append(token)
    spec["added_tokens"] = kept
    spec["normalizer"] = {"type": "Sequence", "normalizers": steps}
    _skip_space(spec, [token["content"] for token in kept if token["normalized"]])


def _skip_space(spec: dict[str, Any], contents: list[str]) -> None:
    """Put no space before a text that is an added token: these are normalised as texts are, and would begin with it."""
    normalise = _normaliser(spec["normalizer"])
    space = normalise("x").removesuffix("x")
    forms = sorted({normalise(content).removeprefix(space) for content in contents} - {""})
    if not space or not forms:
        return
    # By first letter, because a list of thousands is searched in order.
    groups = {first: list(group) for first, group in itertools.groupby(forms, key=lambda form: form[0])}
    choice = "|".join(
        f"{_escaped(first)}(?:{'|'.join(_escaped(form[1:]) for form in group)})" for first, group in groups.items()
    )
    pattern = f"{_START}{_escaped(space)}(?=(?:{choice}){_END})"
    _append_steps(spec, [{"type": "Replace", "pattern": {"Regex": pattern}, "content": ""}])


def _append_steps(spec: dict[str, Any], steps: list[dict[str, Any]]) -> None:
    """Put steps behind those of a tokenizer's JSON's normaliser."""
    theirs = [spec["normalizer"]] if spec["normalizer"] else []
    spec["normalizer"] = {"type": "Sequence", "normalizers": [*theirs, *steps]}


def _normaliser(step: dict[str, Any] | None) -> Callable[[str], str]:
    """Return what a normaliser, in JSON, does to a text."""
    if step is None:
        return lambda text: text
    empty = {"version": "1.0", "added_tokens": [], "model": {"type": "BPE", "vocab": {}, "merges": []}}
    found = Tokenizer.from_str(json.dumps({**empty, "normalizer": step})).normalizer
    return lambda text: str(found.normalize_str(text))


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


def _mark_phrases(spec: dict[str, Any], phrases: Mapping[str, bool], space: str) -> None:
    """Add steps to a tokenizer's JSON that mark the spaces in phrases, and take the marks away where no token has them.

    The tokenizers library looks for added tokens in the normalised text, the longest first, and asks only then whether
    one ends with a word: where it does not ("heart attacks"), a shorter one in it ("heart") is not looked for. So the
    normaliser finds a whole phrase first and marks the spaces in it, in the texts as in the phrase's token.

    :param phrases: as for :func:`with_added`.
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
    _append_steps(spec, steps)
    # Two phrases that share a word are both marked, and one is taken: the other's spaces become plain ones again.
    unmark = {"type": "Split", "pattern": {"String": MARK}, "behavior": "Removed", "invert": False}
    cuts = [spec["pre_tokenizer"]] if spec["pre_tokenizer"] else []
    spec["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [unmark, *cuts]}


def _gaps(phrases: list[tuple[list[str], bool]], at: int, space: str) -> str:
    """Return the pattern of the white space before word number ``at`` of each phrase."""
    by_letter: dict[str, list[str]] = defaultdict(list)  # a long list is searched in order
    for words, whole in phrases:
        before = _escaped((MARK + space).join(words[:at]))
        behind = f"{_SPACE}+".join(map(_escaped, words[at:]))
        starts, ends = (f"(?<!{_LETTER}{before})", f"(?!{_LETTER})") if whole else ("", "")
        by_letter[words[at][0]].append(f"(?<={before}){starts}{_SPACE}+(?={behind}{ends})")
    groups = (f"(?={_SPACE}+{_escaped(letter)})(?:{'|'.join(group)})" for letter, group in by_letter.items())
    return f"(?={_SPACE})(?:{'|'.join(groups)})"


def _escaped(text: str) -> str:
    """Return the pattern of a text, as both the tokenizers library's regular expressions and JavaScript's have it."""
    # re.escape escapes more than JavaScript allows.
    return re.sub(r"[\\^$.|?*+()\[\]{}/]", r"\\\g<0>", text)
