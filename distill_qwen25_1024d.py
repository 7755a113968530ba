#!/usr/bin/env python3
"""Phase 1: distil an instruction-tuned LLM into a static embedding model.

    python distill_qwen25_1024d.py                              # Qwen2.5-1.5B-Instruct, 1024 dimensions
    python distill_qwen25_1024d.py --dims 1536                  # the larger variant
    python distill_qwen25_1024d.py --teacher smollm2-135m --output demo/model
    python distill_qwen25_1024d.py --teacher path/to/folder --device cpu
    python distill_qwen25_1024d.py --recipe plain --output models/plain     # the recipe known to fail
    python distill_qwen25_1024d.py --max-size-mb none --storage float32     # every token, a large file
    python distill_qwen25_1024d.py --corpus texts.txt                       # token frequencies of your own text
    python distill_qwen25_1024d.py --sentence-vectors 4096                  # better still, and slower
    python distill_qwen25_1024d.py --preset qwen3-256d                      # a peer of the comparison
    python distill_qwen25_1024d.py --dry-run                                # what it would take

Writes a folder that model2vec and sentence-transformers load. Exit codes: 0 ok, 1 the run failed,
2 wrong usage or input.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from qwen25.distillation.frequencies import rank_frequencies, teacher_frequencies, text_frequencies
from qwen25.distillation.language import Corpus, read_corpus
from qwen25.distillation.recipe import RECIPES, Frequencies, Recipe, recipe_named
from qwen25.distillation.selection import Trial, candidate_layers, select
from qwen25.distillation.sentences import bend, sentence_vectors
from qwen25.distillation.vectors import distil_vectors
from qwen25.distillation.vocabulary import (
    Vocabulary,
    first_rows,
    read_words,
    rows_within,
    static_vocabulary,
    with_words,
)
from qwen25.distillation.writing import discard_texts, plan_texts, write_texts
from qwen25.evaluation.items import calibration_folder
from qwen25.runtime import console
from qwen25.runtime.console import Parser, add_common_flags, seed
from qwen25.runtime.errors import EXIT_OK, InputError, PipelineError, as_input_error
from qwen25.runtime.files import require_regular, sha256, write_json
from qwen25.runtime.folders import beside, check_output, held, placed, recover, require_text
from qwen25.runtime.log import logger, set_up_logging
from qwen25.runtime.provenance import Clock, provenance
from qwen25.runtime.wording import size_text
from qwen25.states import pooling
from qwen25.states.checkpoint import discard_checkpoint
from qwen25.states.compute import plan, token_states
from qwen25.states.device import DTYPES, choose_device, choose_dtype, threads
from qwen25.states.jobs import frame_for
from qwen25.states.pooling import Embedder, load_embedder, pooled_states, weight_files
from qwen25.store.packaged import PACKAGED
from qwen25.store.static_model import Encode, load_model, write_model
from qwen25.teacher.teacher import DEFAULT_TEACHER, Teacher, find_teacher

OUTPUT = Path("models/qwen25-deposium-1024d")
LOG_FILE = Path("distill_qwen25_1024d.log")
DIMS = 1024
SEED = 42
#: What the default teacher's model is cut to unless --max-size-mb says otherwise.
MAX_SIZE_MB = 65.0
TEXTS = 1024
#: More would take a small teacher a day.
MAX_TEXTS = 1_000_000
#: The static peers of the comparison, each from its own teacher, an embedding model.
PRESETS: dict[str, dict[str, Any]] = {
    name: {
        "teacher": spec, "dims": dims, "storage": storage, "output": Path("models", folder),
        "recipe": "pooled", "max_size_mb": math.inf,
    }
    for name, spec, dims, storage, folder in (
        ("gemma-768d", "google/embeddinggemma-300m", 768, "float16", "gemma-deposium-768d"),
        ("qwen3-256d", "Qwen/Qwen3-Embedding-0.6B", 256, "float32", "qwen3-deposium-256d"),
        ("qwen3-1024d", "Qwen/Qwen3-Embedding-0.6B", 1024, "float32", "qwen3-deposium-1024d"),
    )
}  # fmt: skip
#: (request, what answers it): each is also set beside the next one's answer, which is unrelated.
SMOKE_PAIRS = [
    ("Explain why the sky turns red at dusk", "Low sunlight crosses more air, which scatters the blue away."),
    ("Find articles about pruning apple trees", "Further reading: three orchard guides on cutting back old wood."),
    ("How do I fix a dripping tap?", "Turn off the water, unscrew the handle and replace the worn washer."),
    ("Summarise the quarterly report", "In short: revenue rose, costs held steady and hiring resumes in spring."),
]


def size_mb(text: str) -> float:
    """Parse --max-size-mb: a positive number, or ``none`` for infinity."""
    if text.lower() == "none":
        return math.inf
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value * 1e6) and value > 0):
        raise argparse.ArgumentTypeError(f"a number of megabytes above 0 or none, not {text!r}")
    return value


class Given(argparse.Action):
    """Store the value of a flag that presets set, and that it was given: no preset replaces it then."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        """Store ``values``."""
        setattr(namespace, self.dest, values)
        namespace.given |= {self.dest}


class Preset(argparse.Action):
    """Store a preset's name, and set its flags save for those given before it; those behind it replace it."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        """Set the flags of the preset ``values``."""
        namespace.preset = values
        for name, value in PRESETS[values].items():
            if name not in namespace.given:
                setattr(namespace, name, value)


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.set_defaults(given=frozenset())
    add = parser.add_argument
    presets = "; ".join(
        f"{name}: {preset['teacher']}, {preset['dims']} dimensions, {preset['storage']}, {preset['output']}"
        for name, preset in PRESETS.items()
    )
    add("--preset", choices=list(PRESETS), action=Preset,
        help="distil a peer of the comparison from its own teacher by recipe pooled, with all of its tokens: "
        f"{presets}; a flag that is given, before or after, wins over the preset (default: none)")  # fmt: skip
    add("--teacher", action=Given, default=DEFAULT_TEACHER, metavar="SPEC",
        help="hub id, local folder, .gguf file or packaged name: "
        f"{', '.join(sorted(PACKAGED))} (default: %(default)s)")  # fmt: skip
    add("--revision", help="branch, tag or commit of a hub id (default: its main branch)")
    add("--offline", action="store_true", help="use only what the hub's cache holds (default: off)")
    add("--dims", action=Given, type=int, default=DIMS, help="dimensions of the vectors (default: %(default)s)")
    add("--recipe", action=Given, choices=sorted(RECIPES), default="default",
        help="default: early layers, whitened; plain: the last layer; pooled: an embedding model's own pooling "
        "(default: %(default)s)")  # fmt: skip
    add("--sif", type=float,
        help="SIF coefficient (default: the recipe's; 5e-4, or 1e-4 where frequencies follow Zipf's law)")  # fmt: skip
    add("--texts", type=int, default=TEXTS, metavar="N",
        help="texts of 32 tokens that the teacher writes to show how often it uses each token, or 0 to take "
        "Zipf's law; encoders and the recipes plain and pooled always do (default: %(default)s; about 3 minutes "
        "for a teacher of 135M on 2 cores, in proportion to its size)")  # fmt: skip
    add("--corpus", type=Path, metavar="FILE",
        help="your own texts, one a line, instead of those that the teacher writes (default: none)")  # fmt: skip
    add("--sentence-vectors", type=int, default=0, metavar="N",
        help="also fit the space to a decoder's own vectors of N of the texts, writing more if need be, or of "
        "N lines of --corpus (default: 0; 4096 take 15 more minutes for a teacher of 135M on 2 cores)")  # fmt: skip
    add("--select", action="store_true",
        help="try variants of the recipe on the calibration items, which phase 2 never reports, and keep the best "
        "if it is clearly better (default: off; half the teacher's layers instead of a quarter, and a "
        "minute for a vocabulary of 49,000 on 2 cores)")  # fmt: skip
    add("--device", choices=["auto", "cuda", "cpu"], default="auto", help="where to compute (default: %(default)s)")
    add("--dtype", choices=["auto", *DTYPES], default="auto",
        help="the teacher's number format (default: float32 on CPU and for recipe pooled, else bfloat16)")  # fmt: skip
    add("--max-size-mb", action=Given, type=size_mb, metavar="MB",
        help="keep only as many tokens, the first merges, as fit into a model.safetensors of MB (10^6 bytes), or "
        f"none: all of them (default: {MAX_SIZE_MB:.0f} for {DEFAULT_TEACHER}, none for others)")  # fmt: skip
    add("--storage", action=Given, choices=["float32", "float16"],
        help="number format of the saved vectors (default: float16 where a size is set, else float32)")  # fmt: skip
    add("--vocabulary", type=Path, metavar="FILE",
        help="words or phrases, one a line, that get a vector of their own (default: none)")  # fmt: skip
    add("--batch-size", type=int, help="tokens a forward pass (default: what suits the device)")
    add("--seed", type=seed, default=SEED, help="of what the teacher writes (default: %(default)s)")
    add("--output", action=Given, type=Path, default=OUTPUT, help="folder of the model (default: %(default)s)")
    add("--overwrite", action="store_true", help="replace what --output holds (default: refuse)")
    add("--no-resume", action="store_true", help="start anew, whatever a run that was cut off left (default: go on)")
    add("--dry-run", action="store_true", help="stop after saying what the run would take (default: run)")
    add("--log-file", type=Path, default=LOG_FILE, help="log to append to (default: %(default)s)")
    add_common_flags(parser)
    return parser


def smoke_test(encode: Encode) -> dict[str, Any]:
    """Compare the cosine of matching pairs with that of unrelated ones.

    A model that gives both the same cosine has collapsed, however high that cosine is.
    """
    left, right = (np.asarray(encode([pair[side] for pair in SMOKE_PAIRS])) for side in (0, 1))
    matching = (left * right).sum(axis=1)
    unrelated = (left * np.roll(right, -1, axis=0)).sum(axis=1)
    return {
        "matching_cosine": round(float(matching.mean()), 4),
        "unrelated_cosine": round(float(unrelated.mean()), 4),
        "pairs_told_apart": int((matching > unrelated).sum()),
        "pairs": len(SMOKE_PAIRS),
    }


def choose_vocabulary(args: argparse.Namespace, source: Teacher, width: int) -> Vocabulary:
    """Return the rows of the model: the teacher's tokens, as many as the size allows, and the custom words.

    :param width: of all layers' states side by side: the model has no more dimensions.
    """
    with as_input_error(f"teacher {source.name}: its tokenizer is damaged", "download it again"):
        vocab = static_vocabulary(source.tokenizer())
    words = read_words(args.vocabulary) if args.vocabulary else []
    if math.isfinite(args.max_size_mb):
        rows = rows_within(args.max_size_mb, min(args.dims, width), np.dtype(args.storage).itemsize)
        vocab = first_rows(vocab, rows - len(words))
    return with_words(vocab, words) if words else vocab


def sums_of(table: np.ndarray, vocab: Vocabulary, texts: list[str]) -> np.ndarray:
    """Return the sum of the token vectors of each text; shape (texts, dims)."""
    return np.stack([table[e.ids].sum(axis=0) for e in vocab.tokenizer.encode_batch(texts, add_special_tokens=False)])


def fill_defaults(args: argparse.Namespace) -> None:
    """Check the numbers, and set the flags whose default depends on others."""
    for flag, value, least, most in (
        ("--dims", args.dims, 1, math.inf), ("--batch-size", args.batch_size, 1, math.inf),
        ("--texts", args.texts, 0, MAX_TEXTS), ("--sentence-vectors", args.sentence_vectors, 0, MAX_TEXTS),
    ):  # fmt: skip
        if value is not None and value < least:
            raise InputError(f"{flag} must be at least {least}, not {value}")
        if value is not None and value > most:
            raise InputError(f"{flag} must be at most {most}, not {value}")
    if args.max_size_mb is None:
        args.max_size_mb = MAX_SIZE_MB if args.teacher == DEFAULT_TEACHER else math.inf
    if args.storage is None:
        args.storage = "float16" if math.isfinite(args.max_size_mb) else "float32"


def check_combinations(args: argparse.Namespace, recipe: Recipe) -> None:
    """Refuse flags that would have no effect beside the others.

    :raises InputError: if there is one.
    """
    if recipe.pooled and args.select:
        raise InputError("--select varies the layers of a recipe, and recipe pooled has only the pooled states")
    if not args.sentence_vectors:
        return
    if args.sentence_vectors == 1:
        raise InputError("--sentence-vectors must be 0 or at least 2: one text shows no direction")
    if recipe.pooled:
        raise InputError("--sentence-vectors asks a decoder for them: recipe pooled is for embedding models")
    if recipe.frequencies == "zipf" and not args.corpus:
        raise InputError(
            f"--sentence-vectors needs texts, and recipe {recipe.name} has none written: "
            "add --corpus FILE, or use the default recipe"
        )


def choose_sentences(args: argparse.Namespace, corpus: list[str]) -> list[str]:
    """Return the texts of the corpus to fit sentence vectors to, spread evenly over it.

    :raises InputError: if there are too few.
    """
    places = np.linspace(0, len(corpus) - 1, min(args.sentence_vectors, len(corpus))).astype(int)
    chosen = [corpus[i] for i in places]
    if corpus and args.sentence_vectors and len(set(chosen)) < 2:
        raise InputError(f"--sentence-vectors needs at least 2 different texts; {args.corpus} has 1")
    return chosen


def texts_to_write(args: argparse.Namespace) -> int:
    """Return how many texts the teacher writes, if it is asked to."""
    return max(args.texts, args.sentence_vectors)


def frequency_source(args: argparse.Namespace, source: Teacher) -> Frequencies | None:
    """Return where token frequencies are from; None: from where the recipe takes them."""
    if args.corpus:
        return "corpus"
    return "zipf" if not source.is_causal or texts_to_write(args) == 0 else None


class Language(NamedTuple):
    """What is known of the language that the model will meet.

    :ivar frequencies: the probability of each of the model's tokens.
    :ivar sentences: texts to fit sentence vectors to.
    :ivar source: for the metadata.
    """

    frequencies: np.ndarray
    sentences: list[str]
    source: dict[str, Any]


def learn_language(
    args: argparse.Namespace, source: Teacher, vocab: Vocabulary, recipe: Recipe,
    corpus: Corpus, **how: Any,
) -> Language:  # fmt: skip
    """Find how often each token occurs: in a corpus, in what the teacher writes, or by Zipf's law."""
    if recipe.frequencies == "corpus":
        frequencies = text_frequencies(vocab, corpus.texts)
        facts = {"from": "corpus", "texts": len(corpus.texts), "sha256": corpus.sha256}
        return Language(frequencies, choose_sentences(args, corpus.texts), facts)
    if recipe.frequencies == "zipf":
        return Language(rank_frequencies(vocab), [], {"from": "zipf"})
    count = texts_to_write(args)
    written = write_texts(source, count, prefix=recipe.prefix, seed=args.seed, **how)
    frequencies = teacher_frequencies(vocab, source.tokenizer(), written.counts)
    lines = written.lines(source, args.sentence_vectors)
    return Language(frequencies, lines, {"from": "teacher", "texts": count, "tokens": int(written.texts.size)})


def compute_states(
    args: argparse.Namespace, source: Teacher, recipe: Recipe, embedder: Embedder | None,
    vocab: Vocabulary, layers: list[int], weights_hash: str, **how: Any,
) -> dict[int, np.ndarray] | None:  # fmt: skip
    """Return the states of all tokens, layer -> shape (tokens, width); None for a dry run, which says what it takes."""
    ids = vocab.sequences
    if embedder:
        logger.info("3/8 token states: the teacher's own pooling, each token alone")
        if not args.dry_run:
            return {source.layers: pooled_states(embedder, ids, args.batch_size)}
        estimate = pooling.plan(embedder, ids)
    else:
        logger.info("3/8 token states: layers %s, each token after %r", layers, recipe.prefix)
        frame, how = frame_for(source, recipe.prefix), {**how, "batch_size": args.batch_size}
        if not args.dry_run:
            how |= {"resume": not args.no_resume, "weights_hash": weights_hash}
            return token_states(source, ids, frame, layers, **how)
        estimate = plan(source, ids, frame, layers, **how)
    logger.info("%s", estimate)
    if recipe.frequencies == "teacher":
        logger.info("%s", plan_texts(source, texts_to_write(args), estimate, how["dtype"]))
    if later := [flag for flag in ("sentence_vectors", "select") if getattr(args, flag)]:
        logger.info("not included: %s", ", ".join(f"--{flag.replace('_', '-')}" for flag in later))
    return None


def check_paths(args: argparse.Namespace) -> None:
    """Refuse an output folder with something in it that the run reads or writes: it is replaced as a whole.

    :raises InputError: if there is such a thing, or a path is none that libraries take.
    """
    require_text(args.teacher)
    if args.vocabulary:
        require_regular(args.vocabulary, or_pipe=True)
    output = args.output.resolve()
    for flag, path in (
        ("--teacher", Path(args.teacher).expanduser()), ("--corpus", args.corpus), ("--vocabulary", args.vocabulary),
        ("--log-file", args.log_file),
    ):  # fmt: skip
        # A hub id is no path, whatever it looks like.
        if path and (path.exists() or flag == "--log-file") and path.resolve().is_relative_to(output):
            raise InputError(f"{flag} {path} lies in the --output folder, which is replaced: give another")


def sentence_targets(source: Teacher, texts: list[str], **how: Any) -> np.ndarray:
    """Return the teacher's own vectors of texts.

    :raises PipelineError: if they are not finite.
    """
    found = sentence_vectors(source, texts, **how)
    if not np.isfinite(found).all():
        raise PipelineError(
            f"teacher {source.name} gives NaN or infinity for whole texts; try --dtype float32, "
            "and if it was that already, its weights are damaged"
        )
    return found


def stored(table: np.ndarray, storage: str, sif: float) -> np.ndarray:
    """Return the vectors in the number format of the file.

    :raises InputError: if they are too large or too small for it.
    """
    with np.errstate(over="ignore"):
        kept = table.astype(storage)
    if not np.isfinite(kept).all():
        raise InputError(f"the vectors are too large for {storage}: use --storage float32")
    if not kept.any():
        raise InputError(f"--sif {sif:g} makes all vectors zero in {storage}: give a larger one")
    return kept


def distil(args: argparse.Namespace) -> int:
    """Check the arguments, and run phase 1 alone on its output folder."""
    clock = Clock()
    fill_defaults(args)
    # Before anything is loaded: a wrong flag is said at once.
    recipe = recipe_named(args.recipe, args.sif)
    check_combinations(args, recipe)
    check_paths(args)
    corpus = read_corpus(args.corpus) if args.corpus else Corpus([], "")
    choose_sentences(args, corpus.texts)
    check_output(args.output, args.overwrite)
    if args.dry_run:
        return distil_alone(args, clock, recipe, corpus)
    with held(beside(args.output, "lock"), str(args.output)):
        recover(args.output)
        return distil_alone(args, clock, recipe, corpus)


def distil_alone(args: argparse.Namespace, clock: Clock, recipe: Recipe, corpus: Corpus) -> int:
    """Run phase 1: load, vocabulary, token states, vectors, save, smoke test."""
    check_output(args.output, args.overwrite)
    set_up_logging(args.log_file)
    device = choose_device(args.device)
    # One short pass through the whole model costs little: it may as well be exact.
    dtype = choose_dtype("float32" if recipe.pooled and args.dtype == "auto" else args.dtype, device)

    logger.info("1/8 load: teacher %s", args.teacher)
    source = find_teacher(args.teacher, args.revision, args.offline)
    if args.sentence_vectors and not source.is_causal:
        raise InputError(f"teacher {source.name} is an encoder: --sentence-vectors needs a decoder")
    weights_hash = sha256(weight_files(source)) if recipe.pooled else source.weights_sha256()
    logger.info("    %d layers x %d, weights %s, on %s", source.layers, source.hidden_size, weights_hash[:12], device)
    recipe = recipe_named(args.recipe, args.sif, frequency_source(args, source))
    embedder = load_embedder(source, device, dtype) if recipe.pooled else None
    width = embedder.width if embedder else source.hidden_size
    clock.lap("load")

    logger.info("2/8 vocabulary")
    layers = recipe.layer_numbers(source.layers)
    if args.select:
        layers = sorted({*layers, *candidate_layers(source.layers)})
    vocab = choose_vocabulary(args, source, len(layers) * width)
    logger.info("    %d tokens", len(vocab))
    clock.lap("vocabulary")

    checkpoint = beside(args.output, "states")
    by_layer = compute_states(
        args, source, recipe, embedder, vocab, layers, weights_hash, device=device, dtype=dtype,
        checkpoint=checkpoint)  # fmt: skip
    if by_layer is None:
        return EXIT_OK
    embedder = None  # gives back its memory
    clock.lap("token_states")

    logger.info("4/8 language: how often does each token occur?")
    written = beside(args.output, "texts")
    language = learn_language(
        args, source, vocab, recipe, corpus, device=device, dtype=dtype, folder=written,
        resume=not args.no_resume, weights_hash=weights_hash)  # fmt: skip
    logger.info("    %s", ", ".join(f"{key}: {value}" for key, value in language.source.items()))
    clock.lap("language")

    trials: list[Trial] = []
    if args.select:
        logger.info("    selection: variants of the recipe on the calibration items")
        trials = select(
            recipe, source.layers, by_layer, language.frequencies, vocab.tokenizer, args.dims,
            calibration_folder())  # fmt: skip
        recipe = trials[0].recipe
        layers = recipe.layer_numbers(source.layers)
        clock.lap("selection")

    logger.info("5/8 PCA and SIF: recipe %s, layers %s, SIF %g", recipe.name, layers, recipe.sif)
    table = distil_vectors([by_layer[layer] for layer in layers], language.frequencies, recipe, args.dims)
    dims = table.shape[1]
    if dims < args.dims:
        logger.info(
            "    the states of %d layer(s) x %d span only %d directions: the model has %d dimensions, not %d",
            len(layers), width, dims, dims, args.dims)  # fmt: skip
    clock.lap("vectors")

    if language.sentences:
        logger.info("6/8 sentence vectors: the teacher's own of %d texts", len(language.sentences))
        targets = sentence_targets(source, language.sentences, device=device, dtype=dtype)
        table = bend(table, language.frequencies, sums_of(table, vocab, language.sentences), targets)
    else:
        logger.info("6/8 sentence vectors: none asked for (--sentence-vectors)")
    clock.lap("sentence_vectors")

    logger.info("7/8 save: %s", args.output)
    metadata = {
        "name": args.output.resolve().name,
        "preset": args.preset,
        "teacher": {
            "name": source.name, "origin": source.origin, "revision": source.revision, "layers": source.layers,
            "hidden_size": source.hidden_size, "weights_sha256": weights_hash,
        },
        "recipe": recipe.as_dict(),
        "layers": layers,
        "dims": dims,
        "dims_requested": args.dims,
        "vocabulary": {
            "tokens": len(vocab), "custom_words": len(vocab.words),
            "max_size_mb": args.max_size_mb if math.isfinite(args.max_size_mb) else None,
        },
        "frequencies": language.source,
        "sentence_vectors": len(language.sentences),
        "selection": [
            {"layers": list(t.recipe.layers), "sif": t.recipe.sif, "score": round(t.score, 4)} for t in trials
        ],
        "dtype": str(dtype).removeprefix("torch."),
        "storage": args.storage,
        "threads": threads(),
    }  # fmt: skip
    table = stored(table, args.storage, recipe.sif)
    check_output(args.output, args.overwrite)  # once more: hours may have passed
    with placed(args.output) as new:
        metadata = write_model(new, table, vocab.tokenizer, metadata)
        clock.lap("save")

        logger.info("8/8 smoke test: does a request come nearer to its answer than to another's?")
        smoke = smoke_test(load_model(new).encode)
        clock.lap("smoke_test")
        logger.info(
            "    cosine %.3f with its own answer, %.3f with another's; %d of %d told apart",
            smoke["matching_cosine"], smoke["unrelated_cosine"], smoke["pairs_told_apart"], smoke["pairs"])  # fmt: skip
        run = provenance(clock, args.seed, device)
        write_json(new / "metadata.json", {**metadata, "smoke_test": smoke, "step_seconds": clock.steps, **run})
    discard_checkpoint(checkpoint)
    discard_texts(written)

    size = size_text(metadata["sizes_bytes"]["model.safetensors"])
    logger.info("done in %.0f s: %s (%d tokens x %d, %s)", clock.wall_seconds, args.output, len(vocab), dims, size)
    return EXIT_OK


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: the process's) and return the exit code."""
    return console.run(build_parser(), distil, argv)


if __name__ == "__main__":
    sys.exit(main())
