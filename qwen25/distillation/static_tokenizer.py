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
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from tokenizers import AddedToken, Tokenizer

from qwen25.distillation.phrases import escaped, mark_phrases
from qwen25.runtime.errors import InputError

#: Start and end of a text, as both the tokenizers library's regular expressions and JavaScript's have them.
_START, _END = r"(?<![\s\S])", r"(?![\s\S])"
#: An added token like this is markup of chats or documents (<tool_call>, [INST]), as control tokens are.
_MARKUP = re.compile(r"<.*>|\[.*\]", re.DOTALL)


class StaticTokenizer(NamedTuple):
    """The static model's tokenizer.

    :ivar tokenizer: maps a text to row numbers.
    :ivar teacher_ids: row number -> the teacher's token id; shape (tokens,).
    :ivar added: words that the teacher's tokenizer never splits, with the teacher's id of each; the tokenizer does
        not know them as such.
    """

    tokenizer: Tokenizer
    teacher_ids: np.ndarray
    added: dict[str, int]


def static_tokenizer(teacher: Tokenizer) -> StaticTokenizer:
    """Derive the static model's tokenizer from the teacher's.

    Control tokens of a byte-level BPE (``<|im_start|>`` and the like) are left out: text that spells one out is
    segmented as text. Words that were added to it are handed back, to be put behind whichever tokens are kept.
    Other tokenizers keep their vocabulary as it is, because their unknown token is one of the special ones.

    :raises InputError: if two tokens share an id or an id is missing.
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
    return StaticTokenizer(tokenizer, ids, added)


def with_added(tokenizer: Tokenizer, tokens: Iterable[AddedToken], phrases: Mapping[str, bool]) -> Tokenizer:
    """Return the tokenizer with tokens added that are matched after normalisation; the rest of a text stays as it was.

    A text that is one such token and nothing else gets no space before it.

    :param phrases: those of more than one word, for :func:`qwen25.distillation.phrases.mark_phrases`.
    """
    tokens = list(tokens)
    spec = json.loads(tokenizer.to_str())
    mark_phrases(spec, phrases, _normaliser(spec["normalizer"])("x y")[-2])
    _spare(spec, [token.content for token in tokens])
    tokenizer = Tokenizer.from_str(json.dumps(spec))
    tokenizer.add_tokens(tokens)
    return tokenizer


def is_byte_level(spec: dict[str, Any]) -> bool:
    """Whether a tokenizer's JSON is that of a byte-level one."""
    return "ByteLevel" in _kinds(spec["pre_tokenizer"], "pretokenizers")


def normaliser(tokenizer: Tokenizer) -> Callable[[str], str]:
    """Return the tokenizer's normalisation of a text."""
    return _normaliser(json.loads(tokenizer.to_str())["normalizer"])


def _kinds(step: dict[str, Any] | None, inner: str) -> list[str]:
    """Return the types of a step of a tokenizer's JSON, or of those in a sequence."""
    if step is None:
        return []
    if step["type"] == "Sequence":
        return [kind for one in step[inner] for kind in _kinds(one, inner)]
    return [step["type"]]


def _lacks_space(tokenizer: Tokenizer, spec: dict[str, Any]) -> bool:
    """Whether a space in front of a text changes its tokens; not where the tokenizer puts one there itself."""
    if "Prepend" in _kinds(spec["normalizer"], "normalizers"):
        return False

    def tokens(text: str) -> list[str]:
        return tokenizer.encode(text, add_special_tokens=False).tokens

    # Where runs of spaces become one, and words get one anyway, it is still missed before an added token.
    starts = ("", " ", *(token["content"] for token in spec["added_tokens"]))
    return any(tokens(start + "word") != tokens(" " + start + "word") for start in starts)


def _put_space(spec: dict[str, Any]) -> None:
    """Have the normaliser of a tokenizer's JSON put a space before a text."""
    # Not ByteLevel's add_prefix_space: behind a Split step it hits every piece, not the first.
    prepend = {"type": "Prepend", "prepend": " "}
    theirs = [spec["normalizer"]] if spec["normalizer"] else []
    # In front, where the teacher's would meet it: SentencePiece-style ones turn spaces into U+2581. Those of byte-level
    # BPE leave spaces alone.
    steps = [*theirs, prepend] if is_byte_level(spec) else [prepend, *theirs]
    normalise = _normaliser(spec["normalizer"])
    marks = normalise(" ") != " "  # how spaces are marked, a text's own U+2581 cannot be told from them
    kept = []
    for token in spec["added_tokens"]:
        content = token["content"]
        if marks and not token["normalized"] and normalise(" ") in content and content in _names(spec["model"]):
            continue  # a row still, to which the merges lead
        # Matched before normalisation, a token would cut the text into pieces, each of which would get a space.
        if content.isspace() or normalise(content) == content:
            token["normalized"] = True
        kept.append(token)
    spec["added_tokens"] = kept
    spec["normalizer"] = {"type": "Sequence", "normalizers": steps}
    _spare(spec, [token["content"] for token in kept if token["normalized"]])


def _spare(spec: dict[str, Any], contents: list[str]) -> None:
    """Put no space before a text that is an added token: these are normalised as texts are, and would begin with it."""
    normalise = _normaliser(spec["normalizer"])
    space = normalise("x").removesuffix("x")
    forms = sorted({normalise(content).removeprefix(space) for content in contents} - {""})
    if not space or not forms:
        return
    # By first letter, because a list of thousands is searched in order.
    groups = {first: list(group) for first, group in itertools.groupby(forms, key=lambda form: form[0])}
    choice = "|".join(
        f"{escaped(first)}(?:{'|'.join(escaped(form[1:]) for form in group)})" for first, group in groups.items()
    )
    pattern = f"{_START}{escaped(space)}(?=(?:{choice}){_END})"
    spare = {"type": "Replace", "pattern": {"Regex": pattern}, "content": ""}
    ours = spec["normalizer"]
    steps = ours["normalizers"] if ours["type"] == "Sequence" else [ours]
    spec["normalizer"] = {"type": "Sequence", "normalizers": [*steps, spare]}


def _normaliser(step: dict[str, Any] | None) -> Callable[[str], str]:
    """Return what a normaliser, in JSON, does to a text."""
    if step is None:
        return lambda text: text
    empty = {"version": "1.0", "added_tokens": [], "model": {"type": "BPE", "vocab": {}, "merges": []}}
    found = Tokenizer.from_str(json.dumps({**empty, "normalizer": step})).normalizer
    return lambda text: str(found.normalize_str(text))


def _names(model: dict[str, Any]) -> set[str]:
    """Return the tokens of a tokenizer's model; a Unigram's are in a list, with their scores."""
    vocabulary = model["vocab"]
    return set(vocabulary) if isinstance(vocabulary, dict) else {token for token, _ in vocabulary}


def _without_added_tokens(spec: dict[str, Any]) -> tuple[np.ndarray, dict[str, int]]:
    """Take the added tokens out of a BPE tokenizer's JSON and number the others anew, in order.

    An added token that is a byte, or that merges lead to or start from (a pad token ``!``), is an ordinary one too
    and stays.

    :return: the teacher's id of each token that is left, and the added words that are neither control tokens nor
        markup, with their ids.
    """
    model = spec["model"]
    merges = [merge if isinstance(merge, list) else merge.split(" ") for merge in model["merges"]]
    ordinary = {part for left, right in merges for part in (left, right, left + right)}
    added = {token["content"]: token for token in spec["added_tokens"]}
    kept = sorted((i, t) for t, i in model["vocab"].items() if t not in added or len(t) == 1 or t in ordinary)
    if len({i for i, _ in kept}) != len(kept):
        raise InputError("the teacher's tokenizer gives two tokens one id")
    model["vocab"] = {token: row for row, (_, token) in enumerate(kept)}
    model["unk_token"] = None
    spec["added_tokens"] = []
    words = {word: token["id"] for word, token in added.items() if not token["special"] and not _MARKUP.fullmatch(word)}
    return np.array([i for i, _ in kept], dtype=np.int64), words
