"""Phase 1, teacher -> static model, in eight steps: :func:`distil` runs them, :func:`plan` says what they take."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from qwen25.distillation.custom_words import read_words, with_words
from qwen25.distillation.language import (
    NO_CORPUS,
    Corpus,
    Language,
    frequency_source,
    learn_language,
    read_corpus,
    spread_over,
)
from qwen25.distillation.recipe import Recipe, recipe_named
from qwen25.distillation.row_selection import most_used_rows, never_in_text, require_room
from qwen25.distillation.row_sharing import share_rows
from qwen25.distillation.selection import Trial, candidate_layers, select
from qwen25.distillation.settings import Settings
from qwen25.distillation.size_advice import better_dims
from qwen25.distillation.smoke_test import smoke_test
from qwen25.distillation.token_use import text_use, token_use
from qwen25.distillation.training_stage import TrainingFiles, plan_training, read_pairs, trained_vectors
from qwen25.distillation.vectors import distil_vectors
from qwen25.distillation.vocabulary import Vocabulary, static_vocabulary
from qwen25.distillation.writing import discard_texts, plan_texts, require_writer
from qwen25.evaluation.items import calibration_folder
from qwen25.runtime.display import working
from qwen25.runtime.errors import InputError, as_input_error
from qwen25.runtime.files import write_json, write_text
from qwen25.runtime.folders import OutputFolder, beside, check_output, output_folder
from qwen25.runtime.log import logger
from qwen25.runtime.provenance import Clock, provenance
from qwen25.runtime.wording import size_text
from qwen25.states.checkpoint import Checkpointing, discard_checkpoint
from qwen25.states.device import Computing, choose_device, choose_dtype, format_name, threads
from qwen25.states.jobs import frame_for
from qwen25.states.plan import pace
from qwen25.states.pooling import PooledStates
from qwen25.states.token_states import TokenStates, token_states
from qwen25.store.model_card import model_card
from qwen25.store.onnx_export import write_onnx
from qwen25.store.quantisation import Sharing, quantise, rows_within
from qwen25.store.static_model import load_model, write_model
from qwen25.teacher.teacher import Teacher, find_teacher
from qwen25.training.pairs import PairSet


def distil(settings: Settings) -> dict[str, Any]:
    """Distil a teacher into a static model: a folder that model2vec and sentence-transformers load.

    A run that was cut off is gone on with by the next one of the same settings.

    :return: what the model's ``metadata.json`` holds.
    :raises InputError: if the settings, or something that they name, cannot be used.
    :raises PipelineError: if the run fails: memory, disk, network, damaged weights, another run on the same folder.
    """
    clock = Clock()
    settings = settings.completed()
    settings.check()
    corpus = _corpus(settings)
    with output_folder(settings.output, lambda folder: check_output(folder, settings.overwrite)) as output:
        pairs = read_pairs(settings)  # before hours of work that a bad file would waste
        return _distil(settings, output, corpus, pairs, clock)


def plan(settings: Settings) -> list[str]:
    """Return what :func:`distil` would take with these settings, in lines; a batch is timed for it.

    :raises InputError: if the settings, or something that they name, cannot be used.
    :raises PipelineError: if the teacher cannot be had.
    """
    settings = settings.completed()
    settings.check()
    corpus = _corpus(settings)
    source = _load(settings)
    vocabulary, _ = choose_vocabulary(settings, source, corpus)
    checkpointing = Checkpointing(beside(settings.output, "states"))
    estimate = source.states.plan(vocabulary.sequences, checkpointing)
    lines = [str(estimate)]
    if source.recipe.frequencies == "teacher":
        lines.append(plan_texts(source.teacher, settings.texts_to_write, estimate, source.computing.dtype))
    if settings.pairs or settings.sentence_vectors:
        width = len(source.layers) * source.states.width
        lines.append(plan_training(settings, width, source.judge, pace(source.teacher, estimate)))
    if settings.select:
        lines.append("not included: --select")
    return lines


@dataclass(frozen=True)
class Source:
    """A teacher, and how it is read.

    :ivar judge: the decoder whose sentence vectors are trained on, if any are; by default the teacher itself.
    :ivar layers: the numbers of the layers whose states are needed, ascending.
    :ivar computing: how the whole teacher computes, where it does.
    :ivar states: the way to them.
    """

    teacher: Teacher
    judge: Teacher
    recipe: Recipe
    layers: list[int]
    computing: Computing
    states: TokenStates


def _distil(
    settings: Settings, output: OutputFolder, corpus: Corpus, pairs: list[PairSet], clock: Clock
) -> dict[str, Any]:
    logger.info("1/8 load: teacher %s", settings.teacher)
    source = _load(settings)
    teacher, recipe = source.teacher, source.recipe
    logger.info(
        "    %d layers x %d, weights %s, on %s",
        teacher.layers,
        teacher.hidden_size,
        source.states.weights_sha256[:12],
        source.computing.device,
    )
    clock.lap("load")

    logger.info("2/8 vocabulary")
    vocabulary, use = choose_vocabulary(settings, source, corpus)
    logger.info("    %s tokens", f"{len(vocabulary):,}")
    clock.lap("vocabulary")

    if recipe.pooled:
        logger.info("3/8 token states: the teacher's own pooling, each token alone")
    else:
        place = f"after {recipe.prefix!r}" if teacher.is_causal else "between the encoder's own special tokens"
        logger.info("3/8 token states: layers %s, each token %s", source.layers, place)
    checkpoint = output.beside("states")
    states = source.states.compute(vocabulary.sequences, Checkpointing(checkpoint, settings.resume))
    clock.lap("token_states")

    logger.info("4/8 language: how often does each token occur?")
    written = output.beside("texts")
    language = learn_language(
        settings,
        teacher,
        vocabulary,
        recipe,
        corpus,
        source.computing,
        Checkpointing(written, settings.resume),
    )
    logger.info("    %s", ", ".join(f"{key}: {value}" for key, value in language.source.items()))
    clock.lap("language")

    trials = _select(settings, source, states, language, vocabulary)
    if trials:
        recipe = trials[0].recipe
        clock.lap("selection")
    layers = recipe.layer_numbers(teacher.layers)

    logger.info("5/8 PCA and SIF: recipe %s, layers %s, SIF %g", recipe.name, layers, recipe.sif)
    used = [states[layer] for layer in layers]
    training: dict[str, Any] | None = None
    files = TrainingFiles.beside(output)
    share = partial(_sharing, settings, use)
    if pairs or language.sentences:
        lessons = ["pairs"] * bool(pairs) + ["a teacher's sentence vectors"] * bool(settings.sentence_vectors)
        logger.info("6/8 training: from %s", " and ".join(lessons))
        trained, training = trained_vectors(
            settings,
            recipe,
            used,
            language.frequencies,
            vocabulary,
            pairs,
            language.sentences,
            source.judge,
            source.computing,
            files,
            share,
        )
        table, sharing = trained.vectors, trained.sharing
        clock.lap("training")
    else:
        table = distil_vectors(used, language.frequencies, recipe, settings.dims)
        sharing = share(table)
        logger.info("6/8 training: nothing to learn from was given (--pairs, --sentence-vectors)")
        clock.lap("vectors")
    dims = table.shape[1]
    if dims < settings.dims:
        logger.info(
            "    the states of %d layer(s) x %d span only %d directions: the model has %d dimensions, not %d",
            len(layers),
            source.states.width,
            dims,
            dims,
            settings.dims,
        )

    stored = quantise(table, str(settings.storage), sharing)

    logger.info("7/8 save: %s", settings.output)
    metadata = {
        "name": settings.name or settings.output.resolve().name,
        "preset": settings.preset,
        "teacher": {
            "name": teacher.name,
            "origin": teacher.origin,
            "revision": teacher.revision,
            "layers": teacher.layers,
            "hidden_size": teacher.hidden_size,
            "weights_sha256": source.states.weights_sha256,
        },
        "recipe": recipe.as_dict(),
        "layers": layers,
        "dims": dims,
        "dims_requested": settings.dims,
        "vocabulary": {
            "tokens": len(vocabulary),
            "rows": len(stored.table),
            "custom_words": len(vocabulary.words),
            "max_size_mb": _size(settings) if math.isfinite(_size(settings)) else None,
            "rare_tokens": settings.rare_tokens if math.isfinite(_size(settings)) else None,
            "languages": list(settings.languages),
        },
        "frequencies": language.source,
        "sentence_vectors": training["sentence_vectors"] if training else 0,
        "training": training,
        "selection": [
            {"layers": list(t.recipe.layers), "sif": t.recipe.sif, "score": round(t.score, 4)} for t in trials
        ],
        "dtype": format_name(source.states.computing.dtype),
        "storage": settings.storage,
        "threads": threads(),
    }
    with output.replaced() as new:
        metadata = write_model(new, stored, vocabulary.tokenizer, metadata, settings.float16_copy)
        if settings.onnx:
            write_onnx(new, new)
        clock.lap("save")

        logger.info("8/8 smoke test: does a request come nearer to its answer than to another's?")
        smoke = smoke_test(load_model(new).encode)
        clock.lap("smoke_test")
        logger.info(
            "    cosine %.3f with its own answer, %.3f with another's; %d of %d told apart",
            smoke["matching_cosine"],
            smoke["unrelated_cosine"],
            smoke["pairs_told_apart"],
            smoke["pairs"],
        )
        run = provenance(clock, settings.seed, source.computing.device)
        metadata = {**metadata, "smoke_test": smoke, "step_seconds": clock.steps, **run}
        write_json(new / "metadata.json", metadata)
        write_text(new / "README.md", model_card(metadata))
    discard_checkpoint(checkpoint)
    discard_texts(written)
    files.discard()

    what = f"{len(vocabulary):,} tokens x {dims}, {size_text(metadata['sizes_bytes']['model.safetensors'])}"
    logger.info("done in %.0f s: %s (%s)", clock.wall_seconds, settings.output, what)
    _advise(settings, len(vocabulary), dims)
    return metadata


def _advise(settings: Settings, tokens: int, dims: int) -> None:
    """Say which dimensions would keep more, where the size left few rows."""
    size, storage = _size(settings), str(settings.storage)
    shared_by = tokens if settings.rare_tokens == "nearest" else 0
    if math.isinf(size):
        return
    fit = rows_within(size, dims, storage, shared_by)
    # Where tokens were taken out, as many are left as fit.
    is_cut = fit < tokens if shared_by else fit <= tokens
    if is_cut and (better := better_dims(size, dims, storage, shared_by)):
        logger.info("    at %g MB, %d dimensions would keep more: --dims %d", size, better, better)


def _corpus(settings: Settings) -> Corpus:
    corpus = read_corpus(settings.corpus) if settings.corpus else NO_CORPUS
    spread_over(corpus, settings.sentence_vectors)  # refuses now what would fail hours later
    return corpus


def _size(settings: Settings) -> float:
    """Return the size limit in 10^6 bytes, of settings that are completed."""
    return math.inf if settings.max_size_mb is None else settings.max_size_mb


def _load(settings: Settings) -> Source:
    """Find the teacher and decide how it is read."""
    recipe = recipe_named(settings.recipe, settings.sif)
    device = choose_device(settings.device)
    # One short pass through the whole model costs little: it may as well be exact.
    exact = recipe.pooled and settings.dtype == "auto"
    dtype = choose_dtype("float32" if exact else settings.dtype, device)
    teacher = find_teacher(settings.teacher, settings.revision, settings.offline)
    judge = teacher
    if settings.sentence_teacher:
        judge = find_teacher(settings.sentence_teacher, None, settings.offline)
    if settings.sentence_vectors and not judge.is_causal:
        raise InputError(f"teacher {judge.name} is an encoder: --sentence-vectors needs a decoder")
    recipe = recipe_named(settings.recipe, settings.sif, frequency_source(settings, teacher))
    if recipe.frequencies == "teacher":
        require_writer(teacher)
    if not teacher.is_causal:
        recipe = replace(recipe, prefix="")  # its own special tokens stand around each token
    layers = set(recipe.layer_numbers(teacher.layers))
    if settings.select:
        layers.update(candidate_layers(teacher.layers))
    computing = Computing(device, dtype, settings.batch_size)
    states: TokenStates
    if recipe.pooled:
        states = PooledStates(teacher, computing)
    else:
        frame, fast = frame_for(teacher, recipe.prefix), settings.dtype == "auto"
        states = token_states(teacher, frame, sorted(layers), computing, fast=fast)
    return Source(teacher, judge, recipe, sorted(layers), computing, states)


def choose_vocabulary(settings: Settings, source: Source, corpus: Corpus) -> tuple[Vocabulary, np.ndarray | None]:
    """Return the model's tokens: the teacher's, or as many as the size allows, and the custom words.

    Where the size allows fewer rows than tokens and the rare ones are to share them, there is also how much text
    needs each token.

    :raises InputError: if the teacher's tokenizer is damaged, or the size leaves no room.
    """
    teacher = source.teacher
    with as_input_error(f"teacher {teacher.name}: its tokenizer is damaged", "download it again"):
        vocabulary = static_vocabulary(teacher.tokenizer())
    added = vocabulary.added
    words = read_words(settings.vocabulary) if settings.vocabulary else []
    use = None
    if math.isfinite(_size(settings)):
        dims = min(settings.dims, len(source.layers) * source.states.width)  # the states span no more directions
        extra = len(words) + len(added)
        rows = rows_within(_size(settings), dims, str(settings.storage)) - extra
        if rows < len(vocabulary):
            is_shared = settings.rare_tokens == "nearest"
            if is_shared:
                tokens = len(vocabulary) + extra
                rows = rows_within(_size(settings), dims, str(settings.storage), shared_by=tokens) - extra
            require_room(vocabulary, rows)  # before the word lists are read, which takes its time
            use = _use(settings, vocabulary, corpus)
            if not is_shared:
                vocabulary, use = most_used_rows(vocabulary, use, rows), None
    if words or added:
        vocabulary = with_words(vocabulary, words, added)
        # These have a row in any case.
        use = None if use is None else np.append(use, np.full(len(vocabulary) - len(use), np.inf))
    return vocabulary, use


def _sharing(settings: Settings, use: np.ndarray | None, table: np.ndarray) -> Sharing | None:
    """Return which tokens share a row so that the file keeps to its size; None: none do."""
    if use is None:
        return None
    tokens, dims = table.shape
    rows = rows_within(_size(settings), dims, str(settings.storage), shared_by=tokens)
    logger.info(
        "    %s rows for %s tokens: the rarest take the direction of the most similar", f"{rows:,}", f"{tokens:,}"
    )
    with working("shared rows"):
        return share_rows(table, use, rows)


def _use(settings: Settings, vocabulary: Vocabulary, corpus: Corpus) -> np.ndarray:
    """Return how much text needs each token: the user's own, or that of the languages."""
    if corpus.texts:
        use = text_use(vocabulary.tokenizer, corpus.texts)
    else:
        use = token_use(vocabulary.tokenizer, settings.languages)
    use[list(never_in_text(vocabulary.tokenizer))] = 0
    return use


def _select(
    settings: Settings, source: Source, states: dict[int, np.ndarray], language: Language, vocabulary: Vocabulary
) -> list[Trial]:
    """Return the variants of the recipe that were tried, the chosen one first; none if none were asked for."""
    if not settings.select:
        return []
    logger.info("    selection: variants of the recipe on the calibration items")
    return select(
        source.recipe,
        source.teacher.layers,
        states,
        language.frequencies,
        vocabulary.tokenizer,
        settings.dims,
        calibration_folder(),
    )
