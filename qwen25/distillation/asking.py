"""Rows for words that the tokenizer spells in pieces: the teacher is asked what they mean in English.

A decoder that reads ``Hindi: पानी``, ``English: water`` a few times over and then ``Hindi: दोस्त``, ``English:`` names
the meaning next. A word's row is the mean of the predicted tokens' rows, weighted by their probabilities, so that it
stands where its translation does. The examples are read once; their keys and values serve every word of a language.
"""

from __future__ import annotations

import argparse
import copy
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import csr_array
from tokenizers import Tokenizer, pre_tokenizers

from qwen25.distillation.rows import LANGUAGES
from qwen25.distillation.vocabulary import byte_text, is_byte_level, with_whole
from qwen25.runtime.display import progress
from qwen25.runtime.errors import InputError, PipelineError, logger
from qwen25.runtime.files import read_json, resource
from qwen25.runtime.steps import NO_CACHE, StepCache, key_of
from qwen25.store.pairs import PairSet
from qwen25.teacher.teacher import Teacher

if TYPE_CHECKING:
    import torch

#: Predicted tokens that a row is made of.
PREDICTED = 10
#: Words a language where no number is given.
WORDS = 2_000
#: A word is left out if a language that many models read uses it more often than this share of its own frequency: the
#: long row of a Ukrainian word would outweigh the others in Russian. Measured: docs/LOG.md.
FOREIGN_SHARE = 0.3
#: In place of a language's code: custom words, in English.
TERMS = "terms"
_TERM, _MEANS = 'The term "', '" means, in one word: "'
#: Words that are read together, and after so many batches what there is of the answers is saved.
BATCH, SAVED_EVERY = 32, 16


@cache
def _examples() -> dict[str, Any]:
    content: dict[str, Any] = read_json(resource("data") / "asking.json")
    return content


def parse_languages(text: str) -> dict[str, int]:
    """Parse ``--ask``: language codes with commas between them, each with ``:N`` for N words or without."""
    wanted, known = {}, _examples()["languages"]
    if text.strip() == "none":
        return {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        code, _, count = part.partition(":")
        if code not in known:
            raise argparse.ArgumentTypeError(f"no language {code!r}: choose from {', '.join(sorted(known))}")
        if count and not (count.isdecimal() and int(count)):
            raise argparse.ArgumentTypeError(f"{part!r}: a number of words above 0 must follow the colon")
        wanted[code] = int(count or WORDS)
    return wanted


def words_to_ask(
    tokenizer: Tokenizer, languages: Mapping[str, int], pairs: Sequence[PairSet] = ()
) -> dict[str, list[str]]:
    """Return each language's most frequent words that the tokenizer splits: by wordfreq, or counted in the pairs.

    Those that wordfreq has in other languages, too, are left out.

    :param tokenizer: of the teacher's tokens.
    :param languages: language code -> the number of words.
    :raises InputError: if the tokenizer is no byte-level BPE, or a language has neither a word list nor pairs.
    """
    if not languages:
        return {}
    if not is_byte_level(tokenizer):
        raise InputError("--ask needs a teacher with a byte-level BPE tokenizer; leave it out")
    from wordfreq import available_languages, get_frequency_dict, top_n_list

    joined, found = with_whole(tokenizer, [" a"]), dict[str, list[str]]()
    others = [get_frequency_dict(one, "small") for one in LANGUAGES if one not in languages]
    for language, count in languages.items():
        if language in available_languages():
            own = get_frequency_dict(language)
            words = [
                word
                for word in top_n_list(language, 20 * count)
                if all(other.get(word, 0) <= FOREIGN_SHARE * own[word] for other in others)
            ]
        elif not (words := _words_of(pairs, language)):
            raise InputError(f"--ask {language}: there is no word list for it, and no pairs hold it; leave it out")
        found[language] = [word for word in words if _is_split(joined, word)][:count]
    return found


def _is_split(tokenizer: Tokenizer, word: str) -> bool:
    """Whether a word is a run of letters that the tokenizer could find whole, and spells in several tokens."""
    letters = all(unicodedata.category(letter)[0] in "LM" for letter in word)
    pieces = tokenizer.pre_tokenizer.pre_tokenize_str(" " + word)
    return letters and len(pieces) == 1 and len(tokenizer.model.tokenize(byte_text(" " + word))) > 1


def _words_of(pairs: Sequence[PairSet], language: str) -> list[str]:
    """Return the words of a language's pairs, the most frequent first; those in plain ASCII are taken for English."""
    split = pre_tokenizers.Whitespace()
    texts = (
        text for one in pairs for pair in one.pairs if pair.language == language for text in (pair.left, pair.right)
    )
    words = (word for text in texts for word, _ in split.pre_tokenize_str(text.lower()))
    return [word for word, _ in Counter(word for word in words if not word.isascii()).most_common()]


@dataclass(frozen=True)
class Answers:
    """What the teacher says that words mean.

    :ivar words: asked for in at least one language; without repeats.
    :ivar matrix: the probabilities of the predicted tokens, each word's with the sum 1; shape (words, tokens).
    """

    words: list[str]
    matrix: csr_array


def ask(
    teacher: Teacher,
    questions: Mapping[str, Sequence[str]],
    teacher_ids: np.ndarray,
    *,
    device: str = "cpu",
    dtype: torch.dtype | None = None,
    cache: StepCache = NO_CACHE,
) -> tuple[Answers, Answers]:
    """Ask a decoder what words mean; it is loaded once for all of them.

    :param questions: language code, or ``TERMS`` for custom words, -> words.
    :param teacher_ids: the teacher's token of each row of the static model; others are not predicted.
    :param dtype: the number format that it computes in; None: float32.
    :param cache: keeps the answers so far.
    :return: what the languages' words mean, and what the custom ones do.
    :raises InputError: if the teacher is no decoder.
    :raises PipelineError: if it cannot be loaded, or an answer is not finite.
    """
    if not any(questions.values()):
        none = Answers([], csr_array((0, len(teacher_ids)), dtype=np.float32))
        return none, none
    if not teacher.is_causal:
        raise InputError(f"teacher {teacher.name} is an encoder, and --ask needs a decoder; leave it out")
    import torch

    from qwen25.teacher.states import on_device

    tokenizer, dtype = teacher.tokenizer(), dtype or torch.float32
    asked = [(language, word) for language, words in questions.items() for word in words]
    facts = {"weights": teacher.weights_sha256, "dtype": str(dtype), "device": device, "asked": asked}
    key = key_of({**facts, "torch": torch.__version__, "threads": torch.get_num_threads()}, teacher_ids)
    ids, shares, done = np.zeros((len(asked), PREDICTED), np.int32), np.zeros((len(asked), PREDICTED), np.float32), 0
    if kept := cache.load("answers", key):
        ids, shares, done = np.array(kept[0]["ids"]), np.array(kept[0]["shares"]), kept[1]["done"]
        logger.info("    resuming at word %d", done)
    batches = _batches(tokenizer, asked)
    with on_device(), progress("asking", len(asked)) as advance:
        advance(done)
        model: Any = teacher.load(dtype, with_head=True).to(device) if done < len(asked) else None
        rows = torch.from_numpy(teacher_ids).to(device)
        frame: Any = None
        language, end = "", 0
        for number, (code, places, tokens) in enumerate(batches, 1):
            end += len(places)
            if end <= done:
                continue
            if code != language:
                language, before = code, tokenizer.encode(_frame(code), add_special_tokens=False).ids
                frame = model(input_ids=torch.tensor([before], device=device), use_cache=True).past_key_values
            past = copy.deepcopy(frame)
            past.batch_repeat_interleave(len(places))
            inputs = torch.tensor(tokens, device=device)
            logits = model(input_ids=inputs, past_key_values=past, logits_to_keep=1).logits[:, -1].float()
            top = logits.index_select(1, rows).softmax(dim=1).topk(PREDICTED)
            ids[places], shares[places] = top.indices.cpu().numpy(), top.values.cpu().numpy()
            advance(len(places))
            if number % SAVED_EVERY == 0 or end == len(asked):
                cache.save("answers", key, {"ids": ids, "shares": shares}, {"done": end})
    if not np.isfinite(shares).all():
        raise PipelineError(f"teacher {teacher.name} answers NaN or infinity", "try --dtype float32, or other weights")
    is_term = np.array([code == TERMS for code, _ in asked])
    said, meant = (_answers(asked, np.flatnonzero(kind), ids, shares, len(teacher_ids)) for kind in (~is_term, is_term))
    return said, meant


def _frame(language: str) -> str:
    """Return the examples, and the beginning of the question."""
    if language == TERMS:
        return "".join(f'{_TERM}{term}{_MEANS}{word}"\n' for term, word in _examples()["terms"]) + _TERM
    facts = _examples()["languages"][language]
    examples = zip(facts["words"], _examples()["english"], strict=True)
    lines = [f"{facts['name']}: {word}\nEnglish: {english}\n\n" for word, english in examples]
    return "".join(lines) + f"{facts['name']}:"


def _batches(tokenizer: Tokenizer, asked: Sequence[tuple[str, str]]) -> list[tuple[str, list[int], list[list[int]]]]:
    """Return batches of one language and length: the language, the places in ``asked``, and the questions' tokens."""
    texts = [word + _MEANS if code == TERMS else f" {word}\nEnglish:" for code, word in asked]
    encoded = tokenizer.encode_batch(texts, add_special_tokens=False)
    groups: dict[tuple[str, int], list[int]] = {}
    for place, (language, _) in enumerate(asked):
        groups.setdefault((language, len(encoded[place].ids)), []).append(place)
    parts = [
        (language, group[i : i + BATCH]) for (language, _), group in groups.items() for i in range(0, len(group), BATCH)
    ]
    order = list(dict.fromkeys(language for language, _ in asked))
    parts.sort(key=lambda part: order.index(part[0]))
    return [(language, places, [encoded[place].ids for place in places]) for language, places in parts]


def _answers(
    asked: Sequence[tuple[str, str]], places: np.ndarray, ids: np.ndarray, shares: np.ndarray, tokens: int
) -> Answers:
    """Return the answers at some places by word: of one that several languages have, the mean."""
    spelt = [asked[place][1] for place in places]
    words = {word: number for number, word in enumerate(dict.fromkeys(spelt))}
    rows = np.repeat(np.array([words[word] for word in spelt], dtype=np.int64), ids.shape[1])
    matrix = csr_array((shares[places].ravel(), (rows, ids[places].ravel())), shape=(len(words), tokens))
    return Answers(list(words), csr_array(matrix.multiply(1 / matrix.sum(axis=1)[:, None])))
