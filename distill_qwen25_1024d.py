#!/usr/bin/env python3
"""Phase 1: distil an instruction-tuned LLM into a static embedding model.

    python distill_qwen25_1024d.py                              # Qwen2.5-1.5B-Instruct, 1024 dimensions
    python distill_qwen25_1024d.py --dims 1536                  # the larger variant
    python distill_qwen25_1024d.py --teacher smollm2-135m --output demo/model
    python distill_qwen25_1024d.py --teacher path/to/folder --device cpu
    python distill_qwen25_1024d.py --recipe plain --output models/plain     # the recipe known to fail

Writes a folder that model2vec and sentence-transformers load. Exit codes: 0 ok, 1 the run failed,
2 wrong usage or input.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qwen25 import artifact, console, states, teacher, vectors, vocabulary
from qwen25.console import logger
from qwen25.encoders import Encode
from qwen25.provenance import Clock, provenance, write_json

OUTPUT = Path("models/qwen25-deposium-1024d")
LOG_FILE = Path("distill_qwen25_1024d.log")
DIMS = 1024
SEED = 42

#: (request, what answers it): each is also set beside the next one's answer, which is unrelated.
SMOKE_PAIRS = [
    ("Explain why the sky turns red at dusk", "Low sunlight crosses more air, which scatters the blue away."),
    ("Find articles about pruning apple trees", "Further reading: three orchard guides on cutting back old wood."),
    ("How do I fix a dripping tap?", "Turn off the water, unscrew the handle and replace the worn washer."),
    ("Summarise the quarterly report", "In short: revenue rose, costs held steady and hiring resumes in spring."),
]


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--teacher", default=teacher.DEFAULT_TEACHER, metavar="SPEC",
        help="hub id, local folder, .gguf file or packaged name: "
        f"{', '.join(sorted(teacher.PACKAGED))} (default: %(default)s)")  # fmt: skip
    add("--revision", help="branch, tag or commit of a hub id (default: its main branch)")
    add("--offline", action="store_true", help="use only what the hub's cache holds (default: off)")
    add("--dims", type=int, default=DIMS, help="dimensions of the vectors (default: %(default)s)")
    add("--recipe", choices=sorted(vectors.RECIPES), default="default", help="how (default: %(default)s)")
    add("--sif", type=float, help="SIF coefficient (default: the recipe's, 1e-4)")
    add("--device", choices=["auto", "cuda", "cpu"], default="auto", help="where to compute (default: %(default)s)")
    add("--dtype", choices=["auto", *states.DTYPES], default="auto",
        help="the teacher's number format (default: bfloat16 on CUDA, float32 on CPU)")  # fmt: skip
    add("--batch-size", type=int, default=1024, help="tokens a forward pass (default: %(default)s)")
    add("--seed", type=int, default=SEED, help="written into the metadata; no step is random (default: %(default)s)")
    add("--output", type=Path, default=OUTPUT, help="folder of the model (default: %(default)s)")
    add("--overwrite", action="store_true", help="replace what --output holds (default: refuse)")
    add("--log-file", type=Path, default=LOG_FILE, help="log with times (default: %(default)s)")
    console.add_common_flags(parser)
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


def distil(args: argparse.Namespace) -> int:
    """Run phase 1: load, vocabulary, token states, vectors, save, smoke test."""
    clock = Clock()
    recipe = vectors.recipe_named(args.recipe, args.sif)
    if args.dims < 1:
        raise console.InputError(f"--dims must be at least 1, not {args.dims}")
    if args.batch_size < 1:
        raise console.InputError(f"--batch-size must be at least 1, not {args.batch_size}")
    artifact.check_output(args.output, args.overwrite)
    console.set_up_logging(args.log_file)
    device = states.choose_device(args.device)
    dtype = states.choose_dtype(args.dtype, device)

    logger.info("1/6 load: teacher %s", args.teacher)
    source = teacher.find_teacher(args.teacher, args.revision, args.offline)
    weights_hash = source.weights_sha256()
    logger.info("    %d layers x %d, weights %s, on %s", source.layers, source.hidden_size, weights_hash[:12], device)
    clock.lap("load")

    logger.info("2/6 vocabulary")
    vocab = vocabulary.static_vocabulary(source.tokenizer())
    frequencies = vocabulary.zipf_frequencies(len(vocab))
    logger.info("    %d tokens", len(vocab))
    clock.lap("vocabulary")

    layers = recipe.layer_numbers(source.layers)
    logger.info("3/6 token states: layers %s, each token after %r", layers, recipe.prefix)
    frame = states.frame_for(source, recipe.prefix)
    by_layer = states.token_states(
        source, vocab.teacher_ids, frame, layers, device=device, dtype=dtype, batch_size=args.batch_size
    )
    clock.lap("token_states")

    logger.info("4/6 PCA and SIF: recipe %s", recipe.name)
    table = vectors.distil_vectors([by_layer[layer] for layer in layers], frequencies, recipe, args.dims)
    dims = table.shape[1]
    if dims < args.dims:
        logger.info(
            "    the states of %d layer(s) x %d span only %d directions: the model has %d dimensions, not %d",
            len(layers), source.hidden_size, dims, dims, args.dims)  # fmt: skip
    clock.lap("vectors")

    logger.info("5/6 save: %s", args.output)
    metadata = {
        "name": args.output.resolve().name,
        "teacher": {
            "name": source.name, "origin": source.origin, "revision": source.revision, "layers": source.layers,
            "hidden_size": source.hidden_size, "weights_sha256": weights_hash,
        },
        "recipe": recipe.as_dict(),
        "layers": layers,
        "dims": dims,
        "dims_requested": args.dims,
        "vocabulary": {"tokens": len(vocab)},
        "dtype": str(dtype).removeprefix("torch."),
    }  # fmt: skip
    metadata = artifact.save_model(args.output, table, vocab.tokenizer, metadata, overwrite=args.overwrite)
    clock.lap("save")

    logger.info("6/6 smoke test: does a request come nearer to its answer than to another's?")
    smoke = smoke_test(artifact.load_model(args.output).encode)
    clock.lap("smoke_test")
    logger.info(
        "    cosine %.3f with its own answer, %.3f with another's; %d of %d told apart",
        smoke["matching_cosine"], smoke["unrelated_cosine"], smoke["pairs_told_apart"], smoke["pairs"])  # fmt: skip
    run = provenance(clock, args.seed, device)
    write_json(args.output / "metadata.json", {**metadata, "smoke_test": smoke, "step_seconds": clock.steps, **run})

    size = metadata["sizes_bytes"]["model.safetensors"] / 1e6
    logger.info("done in %.0f s: %s (%d tokens x %d, %.1f MB)", clock.wall_seconds, args.output, len(vocab), dims, size)
    return console.EXIT_OK


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: the process's) and return the exit code."""
    return console.run(build_parser(), distil, argv)


if __name__ == "__main__":
    sys.exit(main())
