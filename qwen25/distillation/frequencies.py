"""How often each token occurs: by Zipf's law, in texts, or in the teacher's own predictions."""

from __future__ import annotations

import re

import numpy as np
from tokenizers import Tokenizer

from qwen25.distillation.vocabulary import Vocabulary
from qwen25.runtime.errors import InputError

#: How much of Zipf's law is mixed into measured token frequencies.
ZIPF_SHARE = 0.1


def zipf_frequencies(rows: int) -> np.ndarray:
    """Return the token probabilities that Zipf's law gives to ranks in row order; shape (rows,).

    A BPE's merge order is an order of frequency, so the row number stands for the rank, as in
    model2vec: p(r) proportional to 1 / (r + 2), r from 0.
    """
    inverse = 1.0 / np.arange(2, rows + 2)
    return inverse / inverse.sum()


def rank_frequencies(vocabulary: Vocabulary) -> np.ndarray:
    """Return Zipf's probabilities of the tokens, by their order in the vocabulary; shape (rows,).

    A WordPiece vocabulary begins with special and unused tokens, which text never has: they come last.
    """
    tokenizer = vocabulary.tokenizer
    special = {i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    tokens = tokenizer.get_vocab(with_added_tokens=True)
    unused = re.compile(r"[\[<]unused\d+[\]>]")
    never = {row for token, row in tokens.items() if row in special or unused.fullmatch(token)}
    order = sorted(range(len(vocabulary)), key=lambda row: row in never)
    frequencies = np.empty(len(vocabulary))
    frequencies[order] = zipf_frequencies(len(vocabulary))
    return frequencies


def teacher_frequencies(vocabulary: Vocabulary, teacher: Tokenizer, counts: np.ndarray) -> np.ndarray:
    """Return the tokens' probabilities in text where the teacher's tokens occur ``counts`` times.

    A token that the static vocabulary lacks counts for the shorter ones that its text falls into. A
    tenth of Zipf's law is mixed in, so that no token that happens to be absent gets none.

    :param teacher: the teacher's own tokenizer, which names its tokens.
    :param counts: for each of the teacher's token ids, shape (teacher's vocabulary,).
    :return: shape (rows,); custom words have Zipf's share only.
    """
    rows = np.zeros(len(vocabulary))
    rows[: len(vocabulary.teacher_ids)] = counts[vocabulary.teacher_ids]
    model = vocabulary.tokenizer.model
    control = teacher.get_added_tokens_decoder()
    for dropped in np.setdiff1d(np.flatnonzero(counts), vocabulary.teacher_ids).tolist():
        token = teacher.id_to_token(dropped)
        if token is not None and dropped not in control:
            np.add.at(rows, [piece.id for piece in model.tokenize(token)], counts[dropped])
    return _with_zipf(vocabulary, rows)


def text_frequencies(vocabulary: Vocabulary, texts: list[str]) -> np.ndarray:
    """Return the tokens' probabilities in ``texts``, with a tenth of Zipf's law; shape (rows,).

    :raises InputError: if the texts hold none of the tokens.
    """
    rows = np.zeros(len(vocabulary))
    for start in range(0, len(texts), 10_000):
        for encoding in vocabulary.tokenizer.encode_batch(texts[start : start + 10_000], add_special_tokens=False):
            np.add.at(rows, encoding.ids, 1.0)
    if not rows.any():
        raise InputError("the corpus holds none of the model's tokens")
    return _with_zipf(vocabulary, rows)


def _with_zipf(vocabulary: Vocabulary, counts: np.ndarray) -> np.ndarray:
    return (1 - ZIPF_SHARE) * counts / counts.sum() + ZIPF_SHARE * rank_frequencies(vocabulary)
