#!/usr/bin/env python3
"""Measure phase 1's token states beside model2vec's in the same run, and render docs/PERFORMANCE.md.

    python -m benchmarks.distill_speed smollm2-135m
    python -m benchmarks.distill_speed qwen2.5-coder-1.5b --rows 4096 --peer-rows 2048
    python -m benchmarks.distill_speed path/to/teacher --device cuda
    python -m benchmarks.distill_speed                     # render again from the results kept

Both sides load the same teacher from the same safetensors files, compute a state for each token and save the
array, each in a process of its own. Packaged teachers are unpacked to bfloat16 safetensors for it. Run it on a
quiet machine.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from qwen25.distillation.vectors import RECIPES
from qwen25.runtime.console import Parser, command
from qwen25.runtime.errors import EXIT_OK, InputError, logger
from qwen25.runtime.files import read_json, sha256, write_files, write_json
from qwen25.runtime.provenance import Clock, provenance
from qwen25.runtime.text import table
from qwen25.store.packaged import PACKAGED

DOCS = Path(__file__).resolve().parents[1] / "docs"
RESULT, DOCUMENT = DOCS / "performance.json", DOCS / "PERFORMANCE.md"
PEER = "model2vec.distill"


def ours(teacher: Path, output: Path, rows: int | None, recipe: str, device: str, dtype: str) -> dict[str, Any]:
    """Compute the states of a teacher's first ``rows`` tokens with this project; save the deepest ones."""
    import torch

    from qwen25.distillation.vocabulary import static_vocabulary
    from qwen25.teacher.states import token_states
    from qwen25.teacher.teacher import find_teacher

    found = find_teacher(str(teacher))
    ids = static_vocabulary(found.tokenizer()).teacher_ids
    layers, prefix = RECIPES[recipe].layer_numbers(found.layers), RECIPES[recipe].prefix
    started = time.perf_counter()
    states = token_states(found, ids[:rows], layers, prefix=prefix, device=device, dtype=getattr(torch, dtype))
    seconds = time.perf_counter() - started
    np.save(output, states[layers[-1]])
    return {"whole_rows": len(ids), "rows": len(ids[:rows]), "layer": layers[-1], "compute_seconds": seconds}


def theirs(teacher: Path, output: Path, rows: int | None, device: str, dtype: str) -> dict[str, Any]:
    """Compute the states as ``model2vec.distill`` does, with the last layer and no prefix."""
    import torch
    from model2vec.distill.inference import create_embeddings
    from transformers import AutoModel

    from qwen25.distillation.vocabulary import static_vocabulary
    from qwen25.teacher.teacher import find_teacher

    ids = static_vocabulary(find_teacher(str(teacher)).tokenizer()).teacher_ids
    # In the bfloat16 of the files, which transformers would keep, processors without units for it are far slower.
    model = AutoModel.from_pretrained(teacher, dtype=getattr(torch, dtype))
    chosen = [[token] for token in ids[:rows].tolist()]
    started = time.perf_counter()
    states = create_embeddings(model, chosen, device, pad_token_id=0)
    seconds = time.perf_counter() - started
    np.save(output, states)
    layers = model.config.num_hidden_layers
    return {"whole_rows": len(ids), "rows": len(chosen), "layer": layers, "compute_seconds": seconds}


def in_own_process(function: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Return what a function returns, with the wall time (s) and peak memory (bytes) of a process of its own.

    On Linux a process's peak includes what its parent held when it started it, so this one never loads a model.
    """
    logger.info("measuring %s", function.__name__)
    started = time.perf_counter()
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = pool.submit(function, *arguments).result()
        wall = time.perf_counter() - started
        peak = pool.submit(peak_bytes).result()
    return {**found, "wall_seconds": wall, "peak_bytes": peak}


def peak_bytes() -> int:
    """Return this process's peak memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def unpack(name: str, folder: Path) -> dict[str, Any]:
    """Write a packaged teacher as a folder of bfloat16 safetensors, which both sides read."""
    import torch

    from qwen25.teacher.teacher import find_teacher

    teacher = find_teacher(name)
    teacher.load(torch.bfloat16, with_head=True).save_pretrained(folder)
    teacher.tokenizer().save(str(folder / "tokenizer.json"))
    return {}


def measure(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Measure one teacher: both recipes of ours, model2vec, and their agreement.

    :raises InputError: if ``name`` is no packaged teacher and no folder.
    """
    if name not in PACKAGED and not Path(name, "config.json").is_file():
        raise InputError(f"{name} is no packaged teacher and no folder of a teacher")
    from qwen25.teacher.states import fast_dtype, format_name

    clock = Clock()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "teacher") if name in PACKAGED else Path(name).resolve()
        if name in PACKAGED:
            in_own_process(unpack, name, folder)
        sha256(sorted(folder.glob("*.safetensors")))  # reads them once, so that no side pays for a cold disk
        # The plain recipe is compared with exact states; the default one is what phase 1 does.
        exact = "bfloat16" if args.device.startswith("cuda") else "float32"
        fast = format_name(fast_dtype(args.device))
        mine, default, peer = (Path(scratch, f"{side}.npy") for side in ("plain", "default", "peer"))
        sides = {
            "ours, plain recipe": in_own_process(ours, folder, mine, args.rows, "plain", args.device, exact),
            "ours, default recipe": in_own_process(ours, folder, default, args.rows, "default", args.device, fast),
            PEER: in_own_process(theirs, folder, peer, args.peer_rows, args.device, exact),
        }
        same = agreement(np.load(mine, mmap_mode="r"), np.load(peer, mmap_mode="r"))
        for side, found in sides.items():
            # To all tokens: what is fixed stays, the computation grows with the rows.
            more = found["compute_seconds"] * (found["whole_rows"] / found["rows"] - 1)
            found |= {"dtype": fast if "default" in side else exact, "whole_wall_seconds": found["wall_seconds"] + more}
    title = Path(name).name + (", CUDA" if args.device == "cuda" else "")
    result = {"title": title, "sides": sides, "agreement": same}
    return result | provenance(clock, None, args.device)


def agreement(mine: np.ndarray, peer: np.ndarray) -> dict[str, Any]:
    """Compare both sides' last states of the tokens that both computed; shapes (tokens, hidden size)."""
    count = min(len(mine), len(peer))
    left, right = (side[:count] / np.linalg.norm(side[:count], axis=1, keepdims=True) for side in (mine, peer))
    return {"tokens": count, "least_cosine": float((left * right).sum(axis=1).min())}


def document(sections: dict[str, Any]) -> str:
    """Render docs/PERFORMANCE.md; every number in it is one of the measurements."""
    lines = [
        "# How long phase 1's token states take",
        "",
        "Rendered by `python -m benchmarks.distill_speed` from [`performance.json`](performance.json).",
        "",
        "Both sides load the same files, compute one state a token and save the array, each in a process of its own;",
        "memory is the peak that the kernel counted. *plain recipe*: each token alone, the last layer, which is what",
        "model2vec computes; *default recipe*: what phase 1 does unless told otherwise. *products in*: the number",
        "format of products with weights. *projected*: from the rows that were measured.",
    ]
    for section in sections.values():
        lines += ["", f"## {section['title']}", "", *_section_lines(section)]
    return "\n".join(lines) + "\n"


def _section_lines(section: dict[str, Any]) -> list[str]:
    sides = dict(section["sides"])
    rows = []
    for name, side in sides.items():
        mark = ", projected" if side["rows"] < side["whole_rows"] else ""
        cells = [name, side["dtype"], f"{side['rows']:,}", str(side["layer"]), _clock(side["wall_seconds"])]
        rows.append([*cells, _clock(side["whole_wall_seconds"]) + mark, f"{side['peak_bytes'] / 1e9:.2f} GB"])
    lines = [*table(["side", "products in", "rows", "last layer", "time", "all tokens", "peak memory"], rows), ""]
    peer, same = sides.pop(PEER), section["agreement"]
    for name, side in sides.items():
        times, memory = (peer[key] / side[key] for key in ("whole_wall_seconds", "peak_bytes"))
        lines.append(f"- Beside {name}: model2vec takes {times:.1f} times the time, {memory:.1f} the memory.")
    lines += ["", f"The last states of {same['tokens']:,} tokens agree: least cosine {same['least_cosine']:.6f}.", ""]
    hardware, versions = section["hardware"], section["versions"]
    used = ", ".join(f"{name} {versions[name]}" for name in ("torch", "transformers", "model2vec"))
    machine = f"{hardware.get('gpu') or hardware['processor']}, {hardware['cores']} cores"
    return [*lines, f"Measured {section['created'][:10]} on {machine}, with {used}."]


def _clock(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def body(args: argparse.Namespace) -> int:
    """Measure the teachers that are named, then render."""
    for name in args.teachers:
        found = measure(name, args)
        write_json(RESULT, {**read_json(RESULT), found["title"]: found})
    write_files({DOCUMENT: document(read_json(RESULT))})
    print(DOCUMENT)
    return EXIT_OK


def build_parser() -> Parser:
    """Return the command line's parser."""
    parser = Parser(story=__doc__)
    add = parser.add_argument
    add("teachers", nargs="*", metavar="TEACHER", help="a packaged name or a folder (default: only render)")
    add("--rows", type=int, help="tokens for our side (default: all)")
    add("--peer-rows", type=int, help="tokens for model2vec's side (default: all)")
    add("--device", choices=("cpu", "cuda"), default="cpu", help="of both sides (default: %(default)s)")
    return parser


main = command(build_parser, body)


if __name__ == "__main__":
    sys.exit(main())
