"""How much text needs each token: from word frequencies of some languages, and the merge order for everything else.

A merge order is an order of frequency in the texts that the tokenizer was trained on, mostly English and code: its
first merges leave out most of what other languages need. Word lists with frequencies say what those need.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from tokenizers import Tokenizer, normalizers

from qwen25.distillation.frequencies import zipf_frequencies
from qwen25.runtime.errors import InputError

#: The six official languages of the United Nations, and six more that the teachers and their users speak.
LANGUAGES = ("en", "zh", "es", "fr", "de", "pt", "it", "ru", "ja", "ko", "ar", "hi")
#: English is written and asked in more than any other; measured against once, six and twelve times in docs/LOG.md.
ENGLISH_TIMES = 3
#: Languages that write no space between words.
UNSPACED = ("zh", "ja")
#: The share of Zipf's law over the merge order, which stands for code and all that word lists do not hold.
MERGE_ORDER_SHARE = 0.3
#: How often a word is written with a capital letter, of 1.
CAPITALISED = 0.1
#: The most frequent of a list; its small form, down to one in a million, is read in a tenth of the time.
WORDS = 50_000
#: Texts that are encoded at a time.
BATCH = 10_000


def known_languages() -> list[str]:
    """Return the codes of all languages that have a word list."""
    from wordfreq import available_languages

    return sorted(available_languages("small"))


def check_languages(languages: Sequence[str]) -> None:
    """Refuse languages without a word list.

    :raises InputError: if there is one, or none at all is given.
    """
    known = known_languages()
    if not languages:
        raise InputError(f"--languages names none; there are {', '.join(known)}")
    unknown = [code for code in languages if code not in known]
    if unknown:
        raise InputError(f"--languages: no word list for {', '.join(unknown)}; there are {', '.join(known)}")


def token_use(tokenizer: Tokenizer, languages: Sequence[str] = LANGUAGES) -> np.ndarray:
    """Return the share of running text that each token makes up; shape (tokens,), sum 1.

    English counts ``ENGLISH_TIMES``, every other language once. Word frequencies are wordfreq's (Speer 2022,
    doi:10.5281/zenodo.7199437).

    :param tokenizer: a static model's, whose ids are row numbers in merge order.
    :param languages: ISO 639-1 codes.
    """
    bare = Tokenizer.from_str(tokenizer.to_str())
    bare.normalizer = normalizers.Sequence([])  # words inside a text have no space of the model's own before them
    counts = [ENGLISH_TIMES if language == "en" else 1 for language in languages]
    return _with_merge_order(np.average([_in_language(bare, one) for one in languages], axis=0, weights=counts))


def text_use(tokenizer: Tokenizer, texts: Sequence[str]) -> np.ndarray:
    """Return the same from the tokens that texts are made of; shape (tokens,), sum 1.

    :raises InputError: if the texts hold no token.
    """
    counts = np.zeros(tokenizer.get_vocab_size())
    for start in range(0, len(texts), BATCH):
        counts += _counted(tokenizer, texts[start : start + BATCH])
    if not counts.any():
        raise InputError("the texts hold none of the model's tokens")
    return _with_merge_order(counts / counts.sum())


def _with_merge_order(use: np.ndarray) -> np.ndarray:
    return (1 - MERGE_ORDER_SHARE) * use + MERGE_ORDER_SHARE * zipf_frequencies(len(use))


def _in_language(tokenizer: Tokenizer, language: str) -> np.ndarray:
    """Return each token's share of a language's words."""
    from wordfreq import get_frequency_dict

    found = get_frequency_dict(language, "small")
    words = sorted(found, key=lambda word: (-found[word], word))[:WORDS]
    space = "" if language in UNSPACED else " "
    use = np.zeros(tokenizer.get_vocab_size())
    for spelt, share in ((str, 1 - CAPITALISED), (str.capitalize, CAPITALISED)):
        weights = np.array([share * found[word] for word in words])
        use += _counted(tokenizer, [space + spelt(word) for word in words], weights)
    return use / use.sum()


def _counted(tokenizer: Tokenizer, texts: Sequence[str], weights: np.ndarray | None = None) -> np.ndarray:
    """Return how often each token occurs in the texts, each text counted ``weights`` times."""
    encoded = [encoding.ids for encoding in tokenizer.encode_batch(list(texts), add_special_tokens=False)]
    ids = np.fromiter(itertools.chain.from_iterable(encoded), dtype=np.int64)
    each = np.ones(len(texts)) if weights is None else weights
    return np.bincount(ids, np.repeat(each, [len(one) for one in encoded]), minlength=tokenizer.get_vocab_size())
