#!/usr/bin/env python3
"""Phase 1: distil an instruction-tuned LLM into a static embedding model.

    qwen25 distill                                          # Qwen2.5-1.5B-Instruct, 1024 dimensions
    qwen25 distill --pairs packaged --tune rows             # train on texts that belong together
    qwen25 distill --dry-run                                # what it would take

The folder loads in model2vec and sentence-transformers. Exit codes: 0 ok, 1 the run failed, 2 wrong usage or input.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from qwen25.distillation.asking import ask
from qwen25.distillation.derived import derived_rows
from qwen25.distillation.rows import Budget, frequencies_of, read_corpus, token_use
from qwen25.distillation.settings import Settings, settings_of
from qwen25.distillation.vectors import distil_vectors, recipe_for, training_start
from qwen25.distillation.vocabulary import read_words, static_vocabulary, with_words
from qwen25.runtime import console
from qwen25.runtime.errors import logger, set_up_logging
from qwen25.runtime.folders import beside, check_output, locked, replaced, restore
from qwen25.runtime.provenance import Clock
from qwen25.runtime.steps import StepCache
from qwen25.store.quantisation import quantise
from qwen25.teacher.teacher import find_teacher
from qwen25.training.sources import hold_out, read_pairs


def distil(settings: Settings | None = None, **fields: Any) -> dict[str, Any]:
    """Distil a teacher into a static model; an interrupted run resumes if it is started again with the same settings.

    :param fields: settings by name, such as ``teacher="path/to/folder", dims=512``; they win over ``settings``.
    :return: the content of the model's ``metadata.json``; nothing after a dry run.
    :raises PipelineError: if the run fails; as an InputError if the settings, or what they name, cannot be used.
    """
    settings = replace(settings, **fields) if settings else settings_of(fields)
    with locked(settings.output):
        restore(settings.output)  # a killed run may have left the old model beside its place
        settings.check()
        return _distil(settings, Clock(), StepCache(beside(settings.output, "steps")))


def _distil(settings: Settings, clock: Clock, cache: StepCache) -> dict[str, Any]:
    # What loads PyTorch: not before the flags are known to be right.
    from qwen25.distillation.steps import finish, questions_of, save_model, states_of, train
    from qwen25.teacher.states import choose_device, dry_run_line
    from qwen25.training.batches import TrainingSettings

    # 1 Load. Only safetensors and GGUF files: a pickle can run code when it is opened.
    logger.info("1/8 load: teacher %s", settings.teacher)
    (words, meanings), corpus = read_words(settings.vocabulary), read_corpus(settings.corpus)
    device = choose_device(settings.device)
    teacher = find_teacher(settings.teacher, settings.offline)
    recipe = recipe_for(settings.recipe, is_causal=teacher.is_causal, has_corpus=corpus is not None)
    layers = recipe.layer_numbers(teacher.layers)
    dtype, fast = settings.dtype_on(device, exact=recipe.pooled or not teacher.is_causal), settings.dtype_on(device)

    # 2 Vocabulary. The teacher's own tokens, so that text is segmented as by the teacher, and the user's words.
    tokens = static_vocabulary(teacher.tokenizer())
    vocabulary = with_words(tokens, words, meanings)
    logger.info("2/8 vocabulary: %s tokens", f"{len(vocabulary):,}")
    budget = Budget(settings.size_mb, settings.number_format)
    dims = settings.dims if recipe.pooled else min(settings.dims, len(layers) * teacher.hidden_size)
    budget.checked_rows(tokens.tokenizer, len(vocabulary), dims)
    if settings.dry_run:
        cost = dry_run_line(teacher, len(vocabulary), layers, device, dtype, sum(settings.languages_to_ask.values()))
        logger.info("    %s; %s", cost, settings.result_line(len(vocabulary)))
        return {}
    pairs, missing = read_pairs(settings.pairs, seed=settings.seed, offline=settings.offline)
    pairs, held_out = hold_out(pairs, settings.hold_out, settings.seed)
    questions = questions_of(teacher, recipe, tokens, vocabulary, settings.languages_to_ask, pairs)
    clock.lap("load")

    # 3 Token states of early layers, which hold meaning, each alone behind a newline: position 0 is an attention sink.
    logger.info("3/8 token states: recipe %s, layers %s, each token alone", recipe.name, layers)
    states = states_of(teacher, vocabulary, recipe, device=device, dtype=dtype, cache=cache)
    clock.lap("token_states")
    # Words that its tokenizer spells in pieces: a decoder is asked what they mean, and what the user's own words do.
    answers = ask(teacher, questions, tokens.teacher_ids, device=device, dtype=fast, cache=cache)
    derived = derived_rows(tokens, vocabulary, answers, recipe.numbers > 0)
    clock.lap("asking")

    # 4 Frequencies, for SIF, which weighs down what occurs everywhere, and for whitening, which is to hold for text.
    frequencies, source = frequencies_of(vocabulary.tokenizer, corpus)
    logger.info("4/8 frequencies: %s", source["from"])
    # 5 Size. Where the file has room for fewer rows than tokens, those that text needs most keep theirs.
    rows = budget.rows(len(derived), dims)
    logger.info("5/8 size: %s rows for %s tokens", f"{rows:,}", f"{len(derived):,}")
    if rows < len(derived):
        budget = budget.with_use(token_use(tokens.tokenizer, corpus, settings.languages), derived.needed)

    # 6 Whiten, PCA, SIF. A few directions of the states outweigh all others and say little: whitening levels them.
    # 7 Train that map and a weight a token, few numbers that few pairs teach, then, if asked, each row by itself.
    logger.info("6/8 vectors: whitening, PCA and SIF %g", recipe.sif)
    if pairs:
        start = training_start(states, frequencies, recipe, settings.dims, derived)
        logger.info("7/8 training: %s", settings.tune)
        how = TrainingSettings(epochs=settings.epochs, seed=settings.seed)
        where = {"device": device, "cache": cache}
        table, sharing, training = train(start, derived.tokenizer, pairs, budget, settings.tune, how, **where)
    else:
        table = derived.spread(distil_vectors(states, frequencies, recipe, settings.dims))
        sharing, training = budget.shared(table), None
    clock.lap("training" if training else "vectors")

    # 8 Save into a new folder, load it back as its users do, and ask it four questions: has it collapsed?
    logger.info("8/8 save: %s", settings.output)
    stored = quantise(derived.tell_numbers_apart(table, recipe.numbers, sharing), settings.number_format, sharing)
    facts = {"frequencies": source, "training": training, "asked": answers.asked}
    metadata = facts | settings.metadata(teacher, recipe, vocabulary, stored, dtype)
    with replaced(settings.output, lambda folder: check_output(folder, settings.overwrite)) as new:
        metadata = save_model(new, stored, derived.tokenizer, metadata, pairs, held_out, settings.onnx)
        clock.lap("save")
        metadata = finish(new, metadata, missing, clock, settings.seed, device)
    cache.discard()
    logger.info("done in %.0f s", clock.wall_seconds)
    return metadata


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = console.Parser("distill", __doc__)
    console.add_fields(parser, Settings)
    parser.add_argument("--log-file", type=Path, default="distill_qwen25_1024d.log", help="log (default: %(default)s)")
    return parser


def run(args: argparse.Namespace) -> int:
    """Run the phase with parsed flags."""
    settings = settings_of(console.given_fields(args, Settings))
    set_up_logging(args.log_file, args.quiet)
    distil(settings)
    return 0


main = console.command(build_parser, run)


if __name__ == "__main__":
    sys.exit(main())
