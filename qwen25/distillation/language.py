"""The language that a model will meet: how often each of its tokens occurs, and texts to fit sentence vectors to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from qwen25.distillation.frequencies import rank_frequencies, teacher_frequencies, text_frequencies
from qwen25.distillation.recipe import Frequencies, Recipe
from qwen25.distillation.settings import Settings
from qwen25.distillation.vocabulary import Vocabulary
from qwen25.distillation.writing import write_texts
from qwen25.runtime.errors import InputError
from qwen25.runtime.log import logger
from qwen25.runtime.text_files import read_lines
from qwen25.states.checkpoint import Checkpointing
from qwen25.states.device import Computing
from qwen25.teacher.teacher import Teacher


class Corpus(NamedTuple):
    """A user's own texts.

    :ivar sha256: of the bytes that they were read from.
    """

    texts: list[str]
    sha256: str


NO_CORPUS = Corpus([], "")


def read_corpus(path: Path) -> Corpus:
    """Read a user's own texts, one a line, or JSON Lines with a field ``text``; gzip is inflated.

    What was read is logged, so that a file of another kind is noticed.

    :raises InputError: if the file cannot be read, is not UTF-8 or holds no text.
    """
    file = read_lines(path, "corpus")
    lines = [line.strip() for line in file.lines if line.strip()]
    if not lines:
        raise InputError(f"the corpus {path} holds no text: it needs one a line")
    kind, texts = "lines", lines
    if _is_json_lines(lines):
        kind, texts = "lines of JSON", _fields(path, lines)
    elif _is_json("\n".join(lines)):
        raise InputError(f'the corpus {path} is one JSON document: give JSON Lines with a field "text", or plain text')
    logger.info(
        "    corpus: %s %s, %s characters; the first: %.60s",
        f"{len(texts):,}",
        kind,
        f"{sum(map(len, texts)):,}",
        texts[0],
    )
    return Corpus(texts, file.sha256)


def _is_json_lines(lines: list[str]) -> bool:
    """Whether the first lines are JSON objects."""
    try:
        return all(isinstance(json.loads(line), dict) for line in lines[:10])
    except (ValueError, RecursionError):
        return False


def _is_json(text: str) -> bool:
    """Whether a text is a JSON array or object as a whole."""
    try:
        return text[0] in "[{" and isinstance(json.loads(text), (dict, list))
    except (ValueError, RecursionError):
        return False


def _fields(path: Path, lines: list[str]) -> list[str]:
    """Return the field ``text`` of each line of JSON, less those without a word in it."""
    texts = []
    for number, line in enumerate(lines, 1):
        try:
            text = json.loads(line)["text"].strip()
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(
                f'the corpus {path} is JSON Lines, and its text {number} has no string "text": '
                "name the field so, or give one text a line"
            ) from error
        texts.append(" ".join(text.split()))
    if not any(texts):
        raise InputError(f'the corpus {path} holds no text: every field "text" is empty')
    return [text for text in texts if text]


def spread_over(corpus: Corpus, count: int) -> list[str]:
    """Return ``count`` texts of a corpus, or all if it has fewer, spread evenly over it.

    :raises InputError: if fewer than two of them differ.
    """
    places = np.linspace(0, len(corpus.texts) - 1, min(count, len(corpus.texts))).astype(int)
    chosen = [corpus.texts[i] for i in places]
    if corpus.texts and count and len(set(chosen)) < 2:
        raise InputError("--sentence-vectors needs at least 2 different texts; --corpus has 1")
    return chosen


class Language(NamedTuple):
    """What is known of the language that the model will meet.

    :ivar frequencies: the probability of each of the model's tokens; shape (tokens,).
    :ivar sentences: texts to fit sentence vectors to.
    :ivar source: for the metadata.
    """

    frequencies: np.ndarray
    sentences: list[str]
    source: dict[str, Any]


def frequency_source(settings: Settings, teacher: Teacher) -> Frequencies | None:
    """Return where token frequencies are from; None: from where the recipe takes them."""
    if settings.corpus:
        return "corpus"
    return "zipf" if not teacher.is_causal or settings.texts_to_write == 0 else None


def learn_language(
    settings: Settings,
    teacher: Teacher,
    vocabulary: Vocabulary,
    recipe: Recipe,
    corpus: Corpus,
    computing: Computing,
    checkpointing: Checkpointing,
) -> Language:
    """Find how often each token occurs: in a corpus, in what the teacher writes, or by Zipf's law.

    :param computing: how the teacher writes texts.
    :param checkpointing: where it keeps those that are written.
    """
    if recipe.frequencies == "corpus":
        frequencies = text_frequencies(vocabulary, corpus.texts)
        facts = {"from": "corpus", "texts": len(corpus.texts), "sha256": corpus.sha256}
        return Language(frequencies, spread_over(corpus, settings.sentence_vectors), facts)
    if recipe.frequencies == "zipf":
        return Language(rank_frequencies(vocabulary), [], {"from": "zipf"})
    count = settings.texts_to_write
    written = write_texts(
        teacher, count, prefix=recipe.prefix, seed=settings.seed, computing=computing, checkpointing=checkpointing
    )
    frequencies = teacher_frequencies(vocabulary, teacher.tokenizer(), written.counts)
    lines = written.lines(teacher, settings.sentence_vectors)
    return Language(frequencies, lines, {"from": "teacher", "texts": count, "tokens": int(written.texts.size)})
