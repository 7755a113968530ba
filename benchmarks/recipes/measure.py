"""What the benchmark of recipes measures with: what the teacher gives, and a scorer of tables."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from model2vec import StaticModel

from qwen25.distillation.frequencies import teacher_frequencies
from qwen25.distillation.recipe import RECIPES
from qwen25.distillation.row_selection import first_merges
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
from qwen25.teacher.teacher import Teacher

LAYERS = (0.0, 0.125, 0.25, 0.5, 0.75, 1.0)
QUICK_ROWS, QUICK_TEXTS = 4096, 64
Row = dict[str, Any]


@dataclass
class Scorer:
    """Scores tables on the calibration items and on the public data.

    :ivar public: the public scorer's ``score``, or None.
    :ivar reference: the evaluation that differences are taken from, once there is one.
    """

    items: dict[str, list[Item]]
    public: Callable[[Any], dict[str, Any]] | None
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
        public = self._public(encoder)
        outside = f"public {public['overall']:.3f}  " if public else ""
        print(f"{ours.overall:.3f}  {outside}{encoder.name}", flush=True)
        return {
            "overall": {"score": ours.overall, "interval": list(ours.interval)},
            "difference": {"value": ours.overall - base.overall, "interval": list(difference)},
            "categories": {name: score.score for name, score in ours.categories.items()},
            "public": public,
        }

    def _public(self, encoder: Encoder) -> Row | None:
        if self.public is None:
            return None
        found = self.public(encoder.encode)
        return {"overall": found["overall"], "categories": found["categories"]}


def static(name: str, table: np.ndarray, vocab: Vocabulary) -> Encoder:
    """Return a table of vectors as a model; float16 is widened, which changes no value and saves time."""
    wide = table.astype(np.float32) if table.dtype == np.float16 else table
    model = StaticModel(wide, vocab.tokenizer, normalize=True, max_length=None)
    return static_encoder(name, model, size_bytes=table.nbytes)


@dataclass(frozen=True)
class Source:
    """What the teacher gives.

    :ivar states: layer -> state of each row, behind the default recipe's prefix.
    :ivar alone: the last state of each row without a prefix.
    :ivar texts: how many texts ``counts`` are from.
    :ivar counts: how often the teacher uses each of its tokens in the texts that it wrote.
    """

    teacher: Teacher
    vocab: Vocabulary
    states: dict[int, np.ndarray]
    alone: np.ndarray
    texts: int
    counts: np.ndarray

    def frequencies(self, vocab: Vocabulary, counts: np.ndarray) -> np.ndarray:
        """Return the tokens' probabilities as phase 1 takes them."""
        return teacher_frequencies(vocab, self.teacher.tokenizer(), counts)

    def rows_of(self, cut: Vocabulary) -> np.ndarray:
        """Return where the tokens of a cut vocabulary are in the uncut one."""
        return np.searchsorted(self.vocab.teacher_ids, cut.teacher_ids)


def load_source(args: argparse.Namespace, teacher: Teacher, clock: Clock) -> Source:
    """Compute the states and let the teacher write; what is done is kept in ``--work``."""
    vocab = static_vocabulary(teacher.tokenizer())
    if args.quick:
        vocab = first_merges(vocab, QUICK_ROWS)
    prefix = RECIPES["default"].prefix

    def compute(text: str, layers: list[int], name: str) -> dict[int, np.ndarray]:
        states = token_states(teacher, frame_for(teacher, text), layers)
        found = states.compute(vocab.sequences, Checkpointing(args.work / name))
        clock.lap(f"states {name}")
        return found

    numbers = replace(RECIPES["default"], layers=LAYERS).layer_numbers(teacher.layers)
    by_layer = compute(prefix, numbers, "prefixed")
    alone = compute(RECIPES["plain"].prefix, [teacher.layers], "alone")[teacher.layers]
    keep = Checkpointing(args.work / "texts")
    written = write_texts(teacher, args.texts, prefix=prefix, seed=args.seed, checkpointing=keep)
    clock.lap("texts")
    return Source(teacher, vocab, by_layer, alone, args.texts, written.counts)
