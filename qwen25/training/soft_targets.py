"""The teacher's own sentence vectors, which a static table's similarities are to follow.

Asked to put a sentence into one word, a decoder's state before the answer sums the sentence up (PromptEOL:
Jiang et al. 2023, "Scaling Sentence Embeddings with Large Language Models", arXiv:2307.16645).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

import numpy as np
import torch

from qwen25.runtime.display import progress
from qwen25.runtime.errors import PipelineError, logger
from qwen25.runtime.steps import NO_CACHE, StepCache, key_of
from qwen25.store.pairs import PairSet
from qwen25.teacher.teacher import Teacher
from qwen25.training.batches import Bags

PROMPT = ('This sentence: "', '" means in one word: "')
#: A sentence has at most so many characters, and is cut to so many tokens.
SENTENCE, MAX_TOKENS = 200, 64
#: Sentences are read together, and after so many batches what there is of the vectors is saved.
BATCH, SAVED_EVERY = 128, 4
#: The principal directions that are kept, the others being mostly noise, and the power of their eigenvalues that they
#: are divided by: half of a full whitening.
DIRECTIONS, WHITENING = 256, 0.25


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

    :return: fewer, if there are not so many. Longer texts than sentences are left out: few say one thing.
    """
    sentences: list[list[str]] = []
    for pairs in sets:
        draw = random.Random(f"{seed} {pairs.name}")  # noqa: S311, no secret
        drawn = [draw.choice((pair.left, pair.right)) for pair in draw.sample(pairs.pairs, len(pairs.pairs))]
        sentences.append([text for text in drawn if len(text) <= SENTENCE])
    texts = dict.fromkeys(text for text in chain.from_iterable(zip_longest(*sentences)) if text is not None)
    return list(texts)[:count]


def sentence_vectors(
    teacher: Teacher,
    sentences: Sequence[str],
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    cache: StepCache = NO_CACHE,
) -> np.ndarray:
    """Return the teacher's PromptEOL vector of each sentence; float32, shape (sentences, hidden size).

    :param cache: keeps the vectors computed so far.
    :raises PipelineError: if it cannot be loaded, or a vector is not finite.
    """
    tokenizer = teacher.tokenizer()
    before, behind = (tokenizer.encode(text, add_special_tokens=False).ids for text in PROMPT)
    encoded = tokenizer.encode_batch(list(sentences), add_special_tokens=False)
    ids = [before + encoding.ids[:MAX_TOKENS] + behind for encoding in encoded]
    by_length = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    facts = {"weights": teacher.weights_sha256, "dtype": str(dtype), "device": device, "ids": ids}
    key = key_of({**facts, "torch": torch.__version__, "threads": torch.get_num_threads()})
    out, done = np.zeros((len(ids), teacher.hidden_size), dtype=np.float32), 0
    if kept := cache.load("sentence_vectors", key):
        out, done = np.array(kept[0]["vectors"]), kept[1]["done"]
        logger.info("    resuming at text %d", done)
    if done < len(ids):
        model = teacher.load(dtype).to(device)  # type: ignore[arg-type]
    with torch.inference_mode(), progress("sentence vectors", len(ids)) as advance:
        advance(done)
        for number, first in enumerate(range(done, len(ids), BATCH), 1):
            rows = by_length[first : first + BATCH]
            lengths = [len(ids[i]) for i in rows]
            # A causal model does not look ahead: padding behind a sentence changes nothing before it.
            padded = torch.tensor([ids[i] + [0] * (max(lengths) - len(ids[i])) for i in rows], device=device)
            hidden = model(input_ids=padded, use_cache=False).last_hidden_state
            last = hidden[torch.arange(len(rows)), torch.tensor(lengths) - 1]
            out[rows] = last.float().cpu().numpy()
            advance(len(rows))
            done = first + len(rows)
            if number % SAVED_EVERY == 0 or done == len(ids):
                cache.save("sentence_vectors", key, {"vectors": out}, {"done": done})
    if not np.isfinite(out).all():
        raise PipelineError(f"teacher {teacher.name} gives NaN or infinity", "try --dtype float32, or other weights")
    return out


def soft_targets(bags: Bags, vectors: np.ndarray) -> SoftTargets:
    """Make targets of the teacher's sentence vectors: centred, partly whitened, on their main directions.

    :param bags: the texts; empty ones are left out.
    :param vectors: the teacher's; shape (texts, hidden size).
    """
    kept = np.flatnonzero(bags.lengths() > 0)
    centred = vectors[kept].astype(np.float64)
    centred -= centred.mean(axis=0)
    _, values, axes = np.linalg.svd(centred, full_matrices=False)
    variances = values**2
    directions = min(DIRECTIONS, int((variances > variances[0] * 1e-9).sum()))
    targets = centred @ axes[:directions].T * variances[:directions] ** -WHITENING
    lengths = np.linalg.norm(targets, axis=1, keepdims=True)
    return SoftTargets(bags.take(kept), (targets / np.maximum(lengths, 1e-12)).astype(np.float32))
