"""The stage of phase 1 that learns from pairs of texts and from the teacher's own sentence vectors."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from qwen25.distillation.recipe import Recipe
from qwen25.distillation.settings import Settings
from qwen25.distillation.training_effect import training_effect
from qwen25.distillation.vectors import training_start
from qwen25.distillation.vocabulary import Vocabulary
from qwen25.evaluation.items import calibration_folder, default_items_folder
from qwen25.runtime.display import working
from qwen25.runtime.folders import OutputFolder
from qwen25.runtime.log import logger
from qwen25.states.device import Computing, fast_dtype
from qwen25.states.plan import weight_counts
from qwen25.store.quantisation import Sharing
from qwen25.teacher.teacher import Teacher
from qwen25.training.bags import tokenise
from qwen25.training.batches import encode_sets
from qwen25.training.objective import SOFT_BATCH
from qwen25.training.pairs import PairSet
from qwen25.training.soft_targets import sentence_vectors, soft_targets, texts_of
from qwen25.training.sources import parse_source, read_sources
from qwen25.training.table import ProjectedTable
from qwen25.training.trainer import ROW_PASSES, Trained, TrainingSettings, train

#: Tokens of a sentence and of the prompt around it, for estimates.
TOKENS_A_TEXT = 35


@dataclass(frozen=True)
class TrainingFiles:
    """What a training that was cut off goes on from.

    :ivar sentence_vectors: the teacher's vectors of the texts so far.
    :ivar training: parameters and the optimiser's moments.
    """

    sentence_vectors: Path
    training: Path

    @classmethod
    def beside(cls, output: OutputFolder) -> TrainingFiles:
        """Return those that belong to an output folder."""
        return cls(output.beside("sentence_vectors"), output.beside("training"))

    def discard(self) -> None:
        """Remove them."""
        self.sentence_vectors.unlink(missing_ok=True)
        self.training.unlink(missing_ok=True)


def read_pairs(settings: Settings) -> list[PairSet]:
    """Read all --pairs, without those that occur in the project's items or in a --keep-out folder.

    :raises InputError: if a source cannot be read, or there are too few pairs.
    :raises PipelineError: if the hub cannot be reached.
    """
    if not settings.pairs:
        return []
    logger.info("    pairs: reading %s", ", ".join(settings.pairs))
    return read_sources(
        [parse_source(text) for text in settings.pairs],
        [default_items_folder(), calibration_folder(), *settings.keep_out],
        seed=settings.seed,
        offline=settings.offline,
    )


def plan_training(settings: Settings, width: int, judge: Teacher, each: float | None) -> str:
    """Say in one line what training would take; files of pairs are read for it, nothing is downloaded.

    The pace of the matrix products is that of the token states, which gathering tokens does not reach: "at least".

    :param width: of the states of all layers side by side.
    :param each: the seconds of a multiply-add; None where nothing was timed.
    :raises InputError: if a file of pairs cannot be read.
    """
    how = TrainingSettings()
    most = sum(parse_source(text).most_pairs() for text in settings.pairs)
    steps = math.ceil(most * settings.epochs / how.batch_size) if most else settings.train_steps
    texts = (2 * how.batch_size if most else 0) + (SOFT_BATCH if settings.sentence_vectors else 0)
    work = 3 * steps * texts * width * settings.dims  # forwards, and backwards to the projection and to the weights
    parts = [f"at most {most:,} pairs" if most else "no pairs"]
    if settings.sentence_vectors:
        parts.append(f"vectors of {settings.sentence_vectors:,} texts by {judge.name}")
        work += settings.sentence_vectors * TOKENS_A_TEXT * judge.layers * weight_counts(judge)[0]
    rows = f" and {ROW_PASSES * steps:,} of the rows" if settings.tune == "rows" else ""
    parts.append(f"{steps:,} steps of the map{rows}")
    if each:
        parts.append(f"at least {max(1, round(work * each)):,} s more")
    return f"training: {', '.join(parts)}"


def trained_vectors(
    settings: Settings,
    recipe: Recipe,
    states: list[np.ndarray],
    frequencies: np.ndarray,
    vocabulary: Vocabulary,
    pairs: Sequence[PairSet],
    sentences: Sequence[str],
    judge: Teacher,
    computing: Computing,
    files: TrainingFiles,
    share: Callable[[np.ndarray], Sharing | None],
) -> tuple[Trained, dict[str, Any]]:
    """Return the trained table, and what the metadata says of its training.

    :param states: one array a layer, each of shape (tokens, width).
    :param sentences: the texts whose vectors the judge is asked for; none: those of the pairs.
    :param files: what a run which was cut off goes on from; the caller discards them once the result is saved.
    :param share: says of a table which of its tokens share rows.
    :raises InputError: if nothing can be learnt of the texts.
    :raises PipelineError: if the states are all alike, the teacher's vectors are not finite, or the disk is full.
    """
    with working("the space and the pairs' tokens"):
        start = training_start(states, frequencies, recipe, settings.dims)
        encoded = encode_sets(pairs, vocabulary.tokenizer)
    sentences = sentences or texts_of(pairs, settings.sentence_vectors, settings.seed)
    soft = None
    if sentences:
        logger.info("    vectors of %d texts by %s", len(sentences), judge.name)
        if settings.dtype == "auto":  # similarities bear rounding: the vectors' cosine with float32's is .9997
            computing = replace(computing, dtype=fast_dtype(computing.device))
        vectors = sentence_vectors(
            judge, sentences, computing, checkpoint=files.sentence_vectors, resume=settings.resume
        )
        soft = soft_targets(tokenise(vocabulary.tokenizer, sentences), vectors)
    how = TrainingSettings(
        tune=settings.tune,
        epochs=settings.epochs,
        steps=settings.train_steps,
        temperature=settings.set_temperature,
        seed=settings.seed,
    )
    trained = train(
        start,
        encoded,
        soft,
        how,
        device=computing.device,
        share=share,
        checkpoint=files.training,
        resume=settings.resume,
    )
    untrained = ProjectedTable(start).vectors()
    facts = {
        "calibration": training_effect(untrained, trained.vectors, vocabulary.tokenizer, calibration_folder()),
        "sets": [one.summary() for one in pairs],
        "sentence_vectors": len(sentences),
        "sentence_teacher": judge.name if sentences else None,
        **trained.facts,
    }
    return trained, facts
