"""The stage of phase 1 that learns from pairs of texts and from the teacher's own sentence vectors."""

from __future__ import annotations

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
from qwen25.runtime.folders import OutputFolder
from qwen25.runtime.log import logger
from qwen25.states.device import Computing, fast_dtype
from qwen25.store.quantisation import Sharing
from qwen25.teacher.teacher import Teacher
from qwen25.training.bags import tokenise
from qwen25.training.batches import encode_sets
from qwen25.training.pairs import PairSet
from qwen25.training.soft_targets import sentence_vectors, soft_targets, texts_of
from qwen25.training.sources import parse_source, read_sources
from qwen25.training.table import ProjectedTable
from qwen25.training.trainer import Trained, TrainingSettings, train


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
    how = TrainingSettings(tune=settings.tune, epochs=settings.epochs, steps=settings.train_steps, seed=settings.seed)
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
