"""The steps that compute with PyTorch: token states, training a table on pairs, and saving a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer

from qwen25.distillation.asking import TERMS, words_to_ask
from qwen25.distillation.rows import Budget
from qwen25.distillation.vectors import Recipe
from qwen25.distillation.vocabulary import Vocabulary
from qwen25.evaluation.evaluate import training_effect
from qwen25.evaluation.models import random_control, static_encoder
from qwen25.evaluation.thresholds import measured_meaning
from qwen25.reports.card import model_card
from qwen25.reports.own_data import meaning_lines
from qwen25.runtime.display import progress
from qwen25.runtime.errors import logger
from qwen25.runtime.files import json_text, write_files
from qwen25.runtime.provenance import Clock, provenance
from qwen25.runtime.steps import StepCache
from qwen25.runtime.text import size_text
from qwen25.store.onnx_export import write_onnx
from qwen25.store.pairs import Pair, PairSet, write_training_texts
from qwen25.store.quantisation import Sharing, Stored
from qwen25.store.static_model import load_model, write_model
from qwen25.teacher.pooling import pooled_states
from qwen25.teacher.states import token_states
from qwen25.teacher.teacher import Teacher
from qwen25.training.batches import TrainingSettings, encode_sets
from qwen25.training.sources import write_held_out
from qwen25.training.trainer import ProjectedTable, Start, train_map, tune_rows

#: (request, its answer): each request is also compared with the next one's answer, which is unrelated.
QUESTIONS = [
    ("Explain why the sky turns red at dusk", "Low sunlight crosses more air, which scatters the blue away."),
    ("Find articles about pruning apple trees", "Further reading: three orchard guides on cutting back old wood."),
    ("How do I fix a dripping tap?", "Turn off the water, unscrew the handle and replace the worn washer."),
    ("Summarise the quarterly report", "In short: revenue rose, costs held steady and hiring resumes in spring."),
]


def questions_of(
    teacher: Teacher,
    recipe: Recipe,
    tokens: Vocabulary,
    vocabulary: Vocabulary,
    languages: Mapping[str, int],
    pairs: Sequence[PairSet],
) -> dict[str, list[str]]:
    """Return the words that the teacher is asked for, by language, and the user's own if it is a decoder."""
    questions = words_to_ask(tokens.tokenizer, languages, pairs)
    return questions | ({TERMS: list(vocabulary.custom)} if teacher.is_causal and not recipe.pooled else {})


def states_of(
    teacher: Teacher, vocabulary: Vocabulary, recipe: Recipe, *, device: str, dtype: torch.dtype, cache: StepCache
) -> list[np.ndarray]:
    """Return the states of a recipe's layers, or what an embedding model pools; each of shape (tokens, width)."""
    if recipe.pooled:
        return [pooled_states(teacher, vocabulary.sequences, device=device, dtype=dtype)]
    how: dict[str, Any] = {"prefix": recipe.prefix, "device": device, "dtype": dtype, "cache": cache}
    return list(token_states(teacher, vocabulary.sequences, recipe.layer_numbers(teacher.layers), **how).values())


def train(
    start: Start,
    tokenizer: Tokenizer,
    pairs: Sequence[PairSet],
    budget: Budget,
    tune: str,
    how: TrainingSettings,
    **where: Any,
) -> tuple[np.ndarray, Sharing | None, dict[str, Any]]:
    """Train the map, decide which tokens share a row, and then, if asked, tune the rows as they will be stored.

    :param tokenizer: the model's.
    :param tune: ``map`` or ``rows``.
    :param where: device and cache, as :func:`qwen25.training.trainer.train_map` takes them.
    :return: the table, float32 of shape (tokens, dims); which of its tokens share rows; and facts for the metadata.
    :raises PipelineError: if the disk is full.
    """
    with progress("the pairs' tokens"):
        sets = encode_sets(pairs, tokenizer)
    trained = train_map(start, sets, how, **where)
    sharing = budget.shared(trained.vectors)
    if tune == "rows":
        trained = tune_rows(trained, sharing, sets, how, **where)
    facts = {
        "calibration": training_effect(ProjectedTable(start).vectors(), trained.vectors, tokenizer),
        "sets": [one.summary() for one in pairs],
        **trained.facts,
    }
    return trained.vectors, sharing, facts


def save_model(
    folder: Path,
    stored: Stored,
    tokenizer: Tokenizer,
    metadata: dict[str, Any],
    pairs: Sequence[PairSet] = (),
    held_out: Sequence[Pair] = (),
    onnx: bool = False,
) -> dict[str, Any]:
    """Write a model into a new folder, load it as its users do and test it: has it collapsed? What do scores mean?

    :param pairs: what it was trained on; hashes of the texts are written beside it.
    :param held_out: pairs that it was not trained on, which are written there too.
    :return: the metadata with sizes, hashes, the test's result and what a score means.
    :raises PipelineError: if it cannot be written.
    """
    metadata = write_model(folder, stored, tokenizer, metadata)
    write_held_out(folder, held_out)
    if onnx:
        write_onnx(folder, folder)
    if pairs:
        write_training_texts(folder, (text for one in pairs for pair in one.pairs for text in pair[:2]))
    encoder = static_encoder("the model", load_model(folder))
    encode, control = encoder.encode, random_control(encoder, seed=0)
    left, right = (np.asarray(encode([pair[side] for pair in QUESTIONS])) for side in (0, 1))
    matching = (left * right).sum(axis=1)
    unrelated = (left * np.roll(right, -1, axis=0)).sum(axis=1)
    test = {
        "matching_cosine": round(float(matching.mean()), 4),
        "unrelated_cosine": round(float(unrelated.mean()), 4),
        "pairs_told_apart": int((matching > unrelated).sum()),
        "pairs": len(QUESTIONS),
    }
    size = size_text(metadata["sizes_bytes"]["model.safetensors"])
    logger.info("    %s tokens x %d, %s", f"{metadata['vocabulary']['tokens']:,}", metadata["dims"], size)
    logger.info("    a request's cosine with its answer %.3f, with another's %.3f; %d of %d told apart", *test.values())
    meaning = measured_meaning(encoder.matcher, control.matcher if control else None)
    read, asked = set(meaning["languages"]), set(meaning["translations"])
    logger.info("    reads %s; not %s", *(", ".join(sorted(some)) or "none" for some in (read, asked - read)))
    logger.info("    %s", " ".join(meaning_lines(meaning)))
    return {**metadata, "smoke_test": test, "score_meaning": meaning}


def finish(
    folder: Path, metadata: dict[str, Any], missing: Sequence[dict[str, Any]], clock: Clock, seed: int, device: str
) -> dict[str, Any]:
    """Write a model's metadata, with the run and the sets of pairs that could not be had, and its card."""
    if metadata["training"]:
        metadata["training"]["missing_sets"] = missing
    metadata |= {"step_seconds": clock.steps, **provenance(clock, seed, device)}
    write_files({folder / "metadata.json": json_text(metadata), folder / "README.md": model_card(metadata)})
    for one in missing:
        logger.warning("trained without %s: %s", one["name"], one["missing"])
    return metadata
