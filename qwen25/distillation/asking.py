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
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.sparse import csr_array
from tokenizers import Tokenizer, pre_tokenizers

from qwen25.distillation.rows import LANGUAGES
from qwen25.distillation.vocabulary import byte_text, is_byte_level, with_whole
from qwen25.runtime.display import progress
from qwen25.runtime.errors import InputError, PipelineError
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
#: Words that are read together.
BATCH = 32


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
    split, counts = pre_tokenizers.Whitespace(), Counter[str]()
    for pair in (pair for one in pairs for pair in one.pairs if pair.language == language):
        counts.update(word for word, _ in split.pre_tokenize_str(f"{pair.left}\n{pair.right}".lower()))
    return [word for word, _ in counts.most_common() if not word.isascii()]


class Answers(NamedTuple):
    """What the teacher says that words mean.

    :ivar asked: language code, or ``TERMS``, -> how many words it was asked for.
    :ivar words: asked for in at least one language; without repeats.
    :ivar matrix: the probabilities of the predicted tokens, with the sum 1 for each of the words and then for each of
        the custom words; shape (both, tokens).
    """

    asked: dict[str, int]
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
) -> Answers:
    """Ask a decoder what words mean; it is loaded once for all of them.

    :param questions: language code -> words; and, last, ``TERMS`` -> custom words.
    :param teacher_ids: the teacher's token of each row of the static model; others are not predicted.
    :param dtype: the number format that it computes in; None: float32.
    :param cache: keeps the answers of each language.
    :raises InputError: if the teacher is no decoder.
    :raises PipelineError: if it cannot be loaded, or an answer is not finite.
    """
    asked = [(language == TERMS, word) for language, words in questions.items() for word in words]
    if not asked:
        return Answers({}, [], csr_array((0, len(teacher_ids)), dtype=np.float32))
    if not teacher.is_causal:
        raise InputError(f"teacher {teacher.name} is an encoder, and --ask needs a decoder; leave it out")
    import torch

    from qwen25.teacher.states import on_device

    dtype = dtype or torch.float32
    facts: dict[str, Any] = {"weights": teacher.weights_sha256, "dtype": str(dtype), "device": device}
    facts |= {"torch": torch.__version__, "threads": torch.get_num_threads()}
    tokenizer, rows = teacher.tokenizer(), torch.from_numpy(teacher_ids).to(device)
    parts: list[dict[str, np.ndarray]] = []
    model: Any = None
    with on_device(), progress("asking", len(asked)) as advance:
        for language, words in questions.items():
            key = key_of({**facts, "asked": [language, *words]}, teacher_ids)
            if kept := cache.load(f"answers-{language}", key):
                parts.append(kept[0])
                advance(len(words))
                continue
            if model is None:
                model = teacher.load(dtype, with_head=True).to(device)
            parts.append(_answers_in(language, words, model, tokenizer, rows, advance))
            cache.save(f"answers-{language}", key, parts[-1])
    ids, shares = (np.concatenate([part[name] for part in parts]) for name in ("ids", "shares"))
    if not np.isfinite(shares).all():
        raise PipelineError(f"teacher {teacher.name} answers NaN or infinity", "try --dtype float32, or other weights")
    # A word that several languages have is one row, their mean.
    numbers = {one: number for number, one in enumerate(dict.fromkeys(asked))}
    rows_of = np.repeat([numbers[one] for one in asked], PREDICTED)
    matrix = csr_array((shares.ravel(), (rows_of, ids.ravel())), shape=(len(numbers), len(teacher_ids)))
    matrix = csr_array(matrix.multiply(1 / matrix.sum(axis=1)[:, None]))
    counts = {language: len(words) for language, words in questions.items() if words}
    return Answers(counts, [word for is_term, word in numbers if not is_term], matrix)


def _answers_in(
    language: str,
    words: Sequence[str],
    model: Any,
    tokenizer: Tokenizer,
    rows: torch.Tensor,
    advance: Callable[[int], None],
) -> dict[str, np.ndarray]:
    """Return what a model says of a language's words: ``ids`` and ``shares`` of the most probable of ``rows``.

    :param rows: the model's token of each row of the static model.
    :param advance: called with the number of words in each batch.
    :return: two arrays of shape (words, PREDICTED); the sum of a word's shares is below 1.
    """
    import torch

    before, questions = _questions(language, words)
    frame, *encoded = (one.ids for one in tokenizer.encode_batch([before, *questions], add_special_tokens=False))
    inputs = torch.tensor([frame], device=rows.device)
    read = model(input_ids=inputs, use_cache=True).past_key_values
    by_length: dict[int, list[int]] = {}
    for place, one in enumerate(encoded):
        by_length.setdefault(len(one), []).append(place)
    ids, shares = np.zeros((len(words), PREDICTED), np.int32), np.zeros((len(words), PREDICTED), np.float32)
    for alike in by_length.values():
        for start in range(0, len(alike), BATCH):
            places = alike[start : start + BATCH]
            past = copy.deepcopy(read)
            past.batch_repeat_interleave(len(places))
            inputs = torch.tensor([encoded[place] for place in places], device=rows.device)
            logits = model(input_ids=inputs, past_key_values=past, logits_to_keep=1).logits[:, -1].float()
            top = logits.index_select(1, rows).softmax(dim=1).topk(PREDICTED)
            ids[places], shares[places] = top.indices.cpu().numpy(), top.values.cpu().numpy()
            advance(len(places))
    return {"ids": ids, "shares": shares}


def _questions(language: str, words: Sequence[str]) -> tuple[str, list[str]]:
    """Return the examples with the beginning of a question, and each word with its end."""
    if language == TERMS:
        before, behind = 'The term "', '" means, in one word: "'
        examples = [f'{before}{term}{behind}{meaning}"\n' for term, meaning in _examples()["terms"]]
        return "".join(examples) + before, [word + behind for word in words]
    facts = _examples()["languages"][language]
    before, behind = f"{facts['name']}:", "\nEnglish:"
    both = zip(facts["words"], _examples()["english"], strict=True)
    examples = [f"{before} {word}{behind} {english}\n\n" for word, english in both]
    return "".join(examples) + before, [f" {word}{behind}" for word in words]
