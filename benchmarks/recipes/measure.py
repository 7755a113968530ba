"""What the benchmark of recipes measures with: what the teacher gives, and a scorer of tables."""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from model2vec import StaticModel

from benchmarks.public_data import PublicScore
from qwen25.distillation.frequencies import teacher_frequencies
from qwen25.distillation.recipe import RECIPES
from qwen25.distillation.row_selection import most_used_rows, never_in_text
from qwen25.distillation.settings import Settings
from qwen25.distillation.token_use import token_use
from qwen25.distillation.vocabulary import Vocabulary, static_vocabulary
from qwen25.distillation.writing import write_texts
from qwen25.evaluation.encoder import Encoder, static_encoder
from qwen25.evaluation.evaluate import Evaluation, evaluate
from qwen25.evaluation.fields import Item
from qwen25.evaluation.statistics import interval
from qwen25.runtime.provenance import Clock
from qwen25.states.checkpoint import Checkpointing
from qwen25.states.jobs import frame_for
from qwen25.states.token_states import token_states
from qwen25.store.quantisation import rows_within
from qwen25.teacher.teacher import Teacher

#: The layers of all variants, as shares of the depth; deeper ones brought nothing (docs/LOG.md).
LAYERS = (0.0, 0.125, 0.25, 0.5)
#: Of a quick run: 10^6 bytes, and texts.
QUICK_MB, QUICK_TEXTS = 4.0, 64
Row = dict[str, Any]


@dataclass
class Scorer:
    """Scores tables on the calibration items and on the public data.

    :ivar public: the public scorer, or None.
    :ivar reference: the evaluation that differences are taken from, once there is one.
    """

    items: dict[str, list[Item]]
    public: PublicScore | None
    seed: int
    reference: Evaluation | None = None

    def table(self, name: str, table: np.ndarray, vocab: Vocabulary) -> Row:
        """Return the scores of a table of vectors."""
        return self.encoder(static(name, table, vocab))

    def encoder(self, encoder: Encoder) -> Row:
        """Return a model's scores; the first model of all is the reference."""
        ours = evaluate(encoder, self.items, self.seed, with_control=False, with_health=False)
        base = self.reference = self.reference or ours
        difference = interval(ours.replicates - base.replicates)
        public = self.public(encoder.encode) if self.public else None
        outside = f"public {public['overall']:.3f}  " if public else ""
        print(f"{ours.overall:.3f}  {outside}{encoder.name}", flush=True)
        return {
            "overall": {"score": ours.overall, "interval": list(ours.interval)},
            "difference": {"value": ours.overall - base.overall, "interval": list(difference)},
            "categories": {name: score.score for name, score in ours.categories.items()},
            "public": public,
        }


def static(name: str, table: np.ndarray, vocab: Vocabulary) -> Encoder:
    """Return a table of float32 vectors as a model."""
    model = StaticModel(table, vocab.tokenizer, normalize=True, max_length=None)
    return static_encoder(name, model, size_bytes=table.nbytes)


@dataclass(frozen=True)
class Source:
    """What the teacher gives.

    :ivar states: layer -> state of each row, behind the default recipe's prefix.
    :ivar alone: the last state of each row without a prefix.
    :ivar texts: how many texts ``counts`` are from.
    :ivar counts: how often the teacher uses each of its tokens in the texts that it wrote; None: it wrote none.
    """

    teacher: Teacher
    vocab: Vocabulary
    states: dict[int, np.ndarray]
    alone: np.ndarray
    texts: int
    counts: np.ndarray | None

    def text_frequencies(self) -> np.ndarray:
        """Return the tokens' probabilities in the texts, as phase 1 takes them."""
        if self.counts is None:
            raise ValueError("the teacher wrote no texts")
        return teacher_frequencies(self.vocab, self.teacher.tokenizer(), self.counts)


def chosen_vocabulary(teacher: Teacher, max_size_mb: float) -> Vocabulary:
    """Return the tokens that phase 1 keeps for int8 vectors of its default dimensions in a size (10^6 bytes)."""
    vocab = static_vocabulary(teacher.tokenizer())
    if not math.isfinite(max_size_mb):
        return vocab
    use = token_use(vocab.tokenizer)
    use[list(never_in_text(vocab.tokenizer))] = 0
    return most_used_rows(vocab, use, rows_within(max_size_mb, Settings.dims, "int8"))


def load_source(args: argparse.Namespace, teacher: Teacher, clock: Clock) -> Source:
    """Compute the states and let the teacher write; what is done is kept in ``--work``."""
    vocab = chosen_vocabulary(teacher, args.max_size_mb)
    prefix = RECIPES["default"].prefix

    def compute(text: str, layers: list[int], name: str) -> dict[int, np.ndarray]:
        states = token_states(teacher, frame_for(teacher, text), layers)
        found = states.compute(vocab.sequences, Checkpointing(args.work / name))
        clock.lap(f"states {name}")
        return found

    numbers = replace(RECIPES["default"], layers=LAYERS).layer_numbers(teacher.layers)
    by_layer = compute(prefix, numbers, "prefixed")
    alone = compute(RECIPES["plain"].prefix, [teacher.layers], "alone")[teacher.layers]
    counts = None
    if args.texts:
        keep = Checkpointing(args.work / "texts")
        counts = write_texts(teacher, args.texts, prefix=prefix, seed=args.seed, checkpointing=keep).counts
        clock.lap("texts")
    return Source(teacher, vocab, by_layer, alone, args.texts, counts)
