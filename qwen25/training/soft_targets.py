"""The teacher's own sentence vectors, which a static table's similarities are to follow.

Asked to put a sentence into one word, a decoder's state before the answer sums the sentence up (PromptEOL:
Jiang et al. 2023, "Scaling Sentence Embeddings with Large Language Models", arXiv:2307.16645).
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np
import torch

from qwen25.runtime.display import progress
from qwen25.runtime.errors import InputError
from qwen25.runtime.log import logger
from qwen25.states.batches import not_finite
from qwen25.states.device import Computing
from qwen25.teacher.teacher import Teacher
from qwen25.training.bags import Bags
from qwen25.training.checkpoint import load_checkpoint, run_key, save_checkpoint
from qwen25.training.pairs import PairSet

PROMPT = ('This sentence: "', '" means in one word: "')
#: Of pairs, texts of at most so many characters are drawn: the prompt is about a sentence.
SENTENCE = 200
#: Longer sentences are cut to this many tokens.
MAX_TOKENS = 64
BATCH = 128
#: After so many batches what there is of the vectors is saved.
SAVED_EVERY = 4
#: Principal directions of the vectors that are kept: the others are mostly noise.
DIRECTIONS = 256
#: The power of the eigenvalues that the directions are divided by: half of a full whitening.
WHITENING = 0.25


@dataclass(frozen=True)
class SoftTargets:
    """Texts with the teacher's vectors of them.

    :ivar bags: the texts; none is empty.
    :ivar vectors: unit vectors; float32, shape (texts, directions).
    """

    bags: Bags
    vectors: np.ndarray


def texts_of(sets: Sequence[PairSet], count: int, seed: int) -> list[str]:
    """Draw ``count`` different texts of the pairs, of either side, from each set as many while it has any.

    Of texts longer than a sentence few say one thing, and they take the teacher most of its time.

    :return: fewer, if there are not so many.
    """
    drawn = (_shuffled(pairs, seed) for pairs in sets)
    texts = dict.fromkeys(text for text in chain.from_iterable(zip_longest(*drawn)) if text is not None)
    return list(texts)[:count]


def _shuffled(pairs: PairSet, seed: int) -> Iterator[str]:
    """Yield one text of each pair that is no longer than a sentence, in random order."""
    generator = random.Random(f"{seed} {pairs.name}")  # noqa: S311, no secret
    for pair in generator.sample(pairs.pairs, len(pairs.pairs)):
        text = generator.choice((pair.left, pair.right))
        if len(text) <= SENTENCE:
            yield text


def sentence_vectors(
    teacher: Teacher,
    sentences: Sequence[str],
    computing: Computing | None = None,
    *,
    checkpoint: Path | None = None,
    resume: bool = True,
) -> np.ndarray:
    """Return the teacher's PromptEOL vector of each sentence; float32, shape (sentences, hidden size).

    :param checkpoint: a file to go on from; the caller removes it once the result is used.
    :raises InputError: if the teacher is no causal language model.
    :raises PipelineError: if it cannot be loaded, or a vector is not finite.
    """
    if not teacher.is_causal:
        raise InputError(f"teacher {teacher.name} is an encoder: --sentence-vectors needs a decoder")
    computing = computing or Computing()
    tokenizer = teacher.tokenizer()
    before, behind = (tokenizer.encode(text, add_special_tokens=False).ids for text in PROMPT)
    ids = [
        before + encoding.ids[:MAX_TOKENS] + behind
        for encoding in tokenizer.encode_batch(list(sentences), add_special_tokens=False)
    ]
    out = np.zeros((len(ids), teacher.hidden_size), dtype=np.float32)
    by_length = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    facts = {"weights": teacher.weights_sha256, "dtype": str(computing.dtype), "device": computing.device, "ids": ids}
    key = run_key(facts, []) if checkpoint else ""
    done = 0
    if checkpoint and resume and (found := load_checkpoint(checkpoint, key)):
        out, done = found[0]["vectors"].numpy().copy(), found[1]["done"]
        logger.info("    going on from text %d", done)
    if done < len(ids):
        model = teacher.load(computing.dtype).to(computing.device)  # type: ignore[arg-type]
    with torch.inference_mode(), progress("sentence vectors", len(ids)) as advance:
        advance(done)
        for number, first in enumerate(range(done, len(ids), BATCH), 1):
            rows = by_length[first : first + BATCH]
            lengths = [len(ids[i]) for i in rows]
            # A causal model does not look ahead: padding behind a sentence changes nothing before it.
            padded = torch.tensor([ids[i] + [0] * (max(lengths) - len(ids[i])) for i in rows], device=computing.device)
            hidden = model(input_ids=padded, use_cache=False).last_hidden_state
            last = hidden[torch.arange(len(rows)), torch.tensor(lengths) - 1]
            out[rows] = last.float().cpu().numpy()
            advance(len(rows))
            done = first + len(rows)
            if checkpoint and (number % SAVED_EVERY == 0 or done == len(ids)):
                save_checkpoint(checkpoint, key, {"vectors": torch.from_numpy(out)}, {"done": done})
    if not np.isfinite(out).all():
        raise not_finite(teacher.name, "its last layer", "whole texts")
    return out


def soft_targets(bags: Bags, vectors: np.ndarray) -> SoftTargets:
    """Make targets of the teacher's sentence vectors: centred, partly whitened, on their main directions.

    :param bags: the texts; empty ones are left out.
    :param vectors: the teacher's; shape (texts, hidden size).
    :raises InputError: if fewer than 2 texts are left.
    """
    kept = np.flatnonzero(bags.lengths() > 0)
    if len(kept) < 2:
        raise InputError("--sentence-vectors needs at least 2 texts with tokens of the model")
    centred = vectors[kept].astype(np.float64)
    centred -= centred.mean(axis=0)
    _, values, axes = np.linalg.svd(centred, full_matrices=False)
    variances = values**2
    directions = min(DIRECTIONS, int((variances > variances[0] * 1e-9).sum()))
    targets = centred @ axes[:directions].T * variances[:directions] ** -WHITENING
    lengths = np.linalg.norm(targets, axis=1, keepdims=True)
    return SoftTargets(bags.take(kept), (targets / np.maximum(lengths, 1e-12)).astype(np.float32))
