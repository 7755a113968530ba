#!/usr/bin/env python3
"""Measure phase 1's token states against model2vec's, and write docs/PERFORMANCE.md from what was measured.

    python -m benchmarks.distill_speed smollm2
    python -m benchmarks.distill_speed qwen15 --tokenizer path/to/qwen2.5 --rows 16384
    python -m benchmarks.distill_speed qwen7 --tokenizer path/to/qwen2.5 --layers 2 --rows 4096
    python -m benchmarks.distill_speed cuda --tokenizer path/to/qwen2.5
    python -m benchmarks.distill_speed --render

Each section is measured on its own and kept in --json beside the others. Run it on a quiet machine.

Both sides do the same: load the teacher from the same files, compute a state for each token, save
the array. Each is a process of its own, timed from start to end, with its peak memory as the
kernel counted it; the files are read once beforehand, so that both find them cached. model2vec's
side is ``model2vec.distill`` itself up to the array of states, without PCA and saving the model.
Ours calls the functions of phase 1's step 3; to time whole phases instead, let ``child_command``
start ``distill_qwen25_1024d.py --recipe plain`` and the other side run on.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.make_random_teacher import SHAPES, make_random_teacher
from qwen25.distillation.recipe import RECIPES
from qwen25.runtime.console import run
from qwen25.runtime.errors import EXIT_OK, InputError, PipelineError
from qwen25.runtime.files import read_json, write_json, write_text
from qwen25.runtime.log import logger
from qwen25.runtime.provenance import Clock, command_line, provenance

JSON = Path("docs/performance.json")
REPORT = Path("docs/PERFORMANCE.md")
ROOT = Path(__file__).resolve().parents[1]
SECTIONS = ("smollm2", "qwen15", "qwen7", "cuda")
PEER_ROWS = 2048
BUDGET_ROWS = {"qwen15": 16384, "qwen7": 4096, "cuda": None, "smollm2": None}
QWEN7_LAYERS = 2


def ours(task: dict[str, Any]) -> dict[str, Any]:
    """Compute the states with this project, save them and return what the parent cannot see."""
    from qwen25.distillation.vocabulary import static_vocabulary
    from qwen25.states.device import Computing, choose_dtype
    from qwen25.states.jobs import frame_for
    from qwen25.states.token_states import token_states
    from qwen25.teacher.teacher import find_teacher

    teacher = find_teacher(task["teacher"])
    vocabulary = static_vocabulary(teacher.tokenizer())
    ids = vocabulary.teacher_ids[: task["rows"]]
    layers, frame = task["layers"], frame_for(teacher, RECIPES[task["recipe"]].prefix)
    computing = Computing(task["device"], choose_dtype("auto", task["device"]))
    started = time.perf_counter()
    states = token_states(teacher, frame, layers, computing).compute(ids)
    seconds = time.perf_counter() - started
    for layer in layers:
        np.save(Path(task["output"]) / f"ours-{task['recipe']}-{layer}.npy", states[layer])
    write_json(
        Path(task["output"]) / "ours-tokens.json", [vocabulary.tokenizer.id_to_token(i) for i in range(len(ids))]
    )
    return {"rows": len(ids), "layers": layers, "prefix_tokens": len(frame.prefix), "compute_seconds": seconds}


class _StatesDone(Exception):
    """Raised to leave model2vec.distill once it has its states."""


def model2vec_side(task: dict[str, Any]) -> dict[str, Any]:
    """Compute the states with model2vec.distill, save them and return what the parent cannot see.

    The model is loaded in float32 on the CPU: in the bfloat16 of the files, which recent
    transformers keep, processors without units for it are far slower.
    """
    import torch
    from model2vec.distill import distillation
    from transformers import AutoModel, AutoTokenizer

    found: dict[str, Any] = {}
    tokens: list[str] = []
    real, real_ids = (vars(distillation)[name] for name in ("create_embeddings", "turn_tokens_into_ids"))

    def create_embeddings(tokenized: list[list[int]], **options: Any) -> np.ndarray:
        chosen = tokenized[: task["rows"]]
        started = time.perf_counter()
        states = real(tokenized=chosen, **options)
        found.update(rows=len(chosen), compute_seconds=time.perf_counter() - started)
        np.save(Path(task["output"]) / "model2vec.npy", states)
        # It numbers the tokens anew, so they are told by their text; other than single ones are left out.
        names = [name if len(ids) == 1 else None for name, ids in zip(tokens, chosen, strict=False)]
        write_json(Path(task["output"]) / "model2vec-tokens.json", names)
        raise _StatesDone

    def turn_tokens_into_ids(names: list[str], *rest: Any) -> list[list[int]]:
        tokens.extend(names)
        ids: list[list[int]] = real_ids(names, *rest)
        return ids

    vars(distillation).update(create_embeddings=create_embeddings, turn_tokens_into_ids=turn_tokens_into_ids)
    dtype = torch.bfloat16 if task["device"] == "cuda" else torch.float32
    model = AutoModel.from_pretrained(task["teacher"], dtype=dtype)
    tokenizer = AutoTokenizer.from_pretrained(task["teacher"], use_fast=True)
    try:
        distillation.distill_from_model(model, tokenizer, device=task["device"], pca_dims=None, sif_coefficient=None)
    except _StatesDone:
        return {**found, "layers": [model.config.num_hidden_layers], "prefix_tokens": 0}
    raise PipelineError("model2vec.distill did not come to its states")


def sgemm(task: dict[str, Any]) -> dict[str, Any]:
    """Measure the machine's rate of matrix products at the layer's shapes, in operations a second."""
    import torch

    from qwen25.states.device import choose_dtype

    device, dtype = task["device"], choose_dtype("auto", task["device"])

    def finished() -> float:
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    rates, spent, operations = {}, 0.0, 0
    for name, (inputs, outputs) in task["shapes"].items():
        x = torch.randn(task["batch"], inputs).to(device, dtype)
        weight = torch.randn(outputs, inputs).to(device, dtype)
        result = torch.empty(task["batch"], outputs, dtype=dtype, device=device)
        best = float("inf")
        for _ in range(5):
            started = finished()
            torch.mm(x, weight.t(), out=result)
            best = min(best, finished() - started)
        count = 2 * task["batch"] * inputs * outputs
        rates[name], spent, operations = count / best, spent + best, operations + count
    return {"rates": rates, "rate": operations / spent, "threads": torch.get_num_threads()}


CHILDREN: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "ours": ours,
    "model2vec": model2vec_side,
    "sgemm": sgemm,
}


def child_command(side: str, task: dict[str, Any]) -> list[str]:
    """Return the command that runs one side."""
    return [sys.executable, "-m", "benchmarks.distill_speed", "--child", json.dumps({"side": side, **task})]


def measure(side: str, task: dict[str, Any], threads: int | None) -> dict[str, Any]:
    """Run one side and return what it says, with its wall time (s) and peak memory (bytes).

    :raises PipelineError: if it fails.
    """
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    if threads:
        env["OMP_NUM_THREADS"] = str(threads)
    answer = Path(task["output"]) / f"{side}.json"
    answer.unlink(missing_ok=True)
    logger.info("measuring %s, %s rows", side, task.get("rows") or "all")
    started = time.perf_counter()
    process = subprocess.Popen(child_command(side, task), env=env, cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode or not answer.exists():
        raise PipelineError(f"the side {side} ended with exit code {process.returncode}; its messages are above")
    unit = 1 if sys.platform == "darwin" else 1024  # what ru_maxrss counts in
    return {**read_json(answer), "wall_seconds": wall, "peak_bytes": usage.ru_maxrss * unit}


def measure_phase1(folder: Path, output: Path) -> dict[str, Any]:
    """Run the whole of phase 1 with a budget of 65 MB; return its wall time (s), peak memory and file size (bytes).

    :raises PipelineError: if it fails.
    """
    flags = ["--texts", "0", "--max-size-mb", "65", "--storage", "float16", "--device", "cpu"]
    command = [sys.executable, str(ROOT / "distill_qwen25_1024d.py"), "--teacher", str(folder), *flags]
    command += ["--output", str(output / "model"), "--log-file", str(output / "phase1.log")]
    logger.info("measuring phase 1 with %s", " ".join(flags))
    started = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise PipelineError(f"phase 1 ended with exit code {process.returncode}")
    metadata = read_json(output / "model" / "metadata.json")
    return {
        "flags": flags,
        "wall_seconds": time.perf_counter() - started,
        "peak_bytes": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        "rows": metadata["vocabulary"]["tokens"],
        "dims": metadata["dims"],
        "layers": metadata["layers"],
        "file_bytes": metadata["sizes_bytes"]["model.safetensors"],
        "step_seconds": metadata["step_seconds"],
    }


def own_command() -> str:
    """Return the command line that was given, as a module is started."""
    return "python -m benchmarks.distill_speed " + command_line().partition(" ")[2]


def read_files(folder: Path) -> None:
    """Read the weights once, so that no side pays for a cold disk."""
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            while file.read(1 << 24):
                pass


def layer_shapes(config: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """Return the (inputs, outputs) of a layer's matrix products."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    head = config.get("head_dim") or hidden // config["num_attention_heads"]
    queries, keys = head * config["num_attention_heads"], head * config["num_key_value_heads"]
    return {
        "q, k, v": (hidden, queries + 2 * keys),
        "output": (queries, hidden),
        "gate, up": (hidden, 2 * inner),
        "down": (inner, hidden),
    }


def summary(
    result: dict[str, Any], config: dict[str, Any], rate: float, whole_rows: int, whole_layer: int
) -> dict[str, Any]:
    """Add to a side's measurement the rate it reached and, if it did a part, the projection of the whole.

    The projection keeps what is fixed (start, loading) and scales the computation with rows and layers.

    :param whole_layer: the deepest layer that the whole model's states need.
    """
    layers = result["layers"][-1]
    operations = 2 * sum(i * o for i, o in layer_shapes(config).values()) * result["rows"] * layers
    reached = operations / result["compute_seconds"]
    more = whole_rows / result["rows"] * whole_layer / layers
    projected = result["wall_seconds"] + result["compute_seconds"] * (more - 1.0)
    return {
        **result,
        "operations_per_second": reached,
        "share_of_machine": reached / rate,
        "projected": more > 1.0,
        "whole_wall_seconds": projected,
        "whole_rows": whole_rows,
    }


def agreement(folder: Path, depth: int) -> dict[str, Any] | None:
    """Compare the two sides' last states of the tokens that both computed."""
    names = (f"ours-plain-{depth}.npy", "model2vec.npy", "ours-tokens.json", "model2vec-tokens.json")
    paths = [folder / name for name in names]
    if not all(path.exists() for path in paths):
        return None
    mine, theirs, my_tokens, their_tokens = (np.load(p) if p.suffix == ".npy" else read_json(p) for p in paths)
    places = {token: row for row, token in enumerate(my_tokens)}
    pairs = [(places[token], row) for row, token in enumerate(their_tokens) if token in places]
    left, right = np.array(pairs).T
    mine, theirs = mine[left].astype(np.float64), theirs[right].astype(np.float64)
    scale = np.linalg.norm(theirs, axis=1)
    cosines = (mine * theirs).sum(axis=1) / (np.linalg.norm(mine, axis=1) * scale)
    off = np.linalg.norm(mine - theirs, axis=1) / scale
    return {"tokens": len(pairs), "least_cosine": float(cosines.min()), "largest_relative_error": float(off.max())}


def measure_section(
    name: str, folder: Path, args: argparse.Namespace, *, device: str = "cpu", whole_depth: int | None = None
) -> dict[str, Any]:
    """Measure one teacher; ``whole_depth``: the layers of the whole model, if this one is cut."""
    config = read_json(folder / "config.json")
    depth = config["num_hidden_layers"]
    batch = 2048 if device == "cpu" else 16384
    clock = Clock()
    sides: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as output:
        task = {"teacher": str(folder.resolve()), "output": output, "device": device}
        machine = measure("sgemm", {**task, "shapes": layer_shapes(config), "batch": batch}, args.threads)
        read_files(folder)
        rows, whole = args.rows or BUDGET_ROWS[name], vocabulary_rows(folder)
        for recipe in ("plain", "default"):
            wanted = RECIPES[recipe].layer_numbers(whole_depth or depth)
            layers = sorted({min(layer, depth) for layer in wanted})
            found = measure("ours", {**task, "rows": rows, "recipe": recipe, "layers": layers}, args.threads)
            sides[f"ours, {recipe} recipe"] = summary(found, config, machine["rate"], whole, wanted[-1])
        if whole_depth is None:  # a cut teacher stands for one that the other side cannot hold
            peer_rows = args.peer_rows or (None if name in {"smollm2", "cuda"} else PEER_ROWS)
            found = measure("model2vec", {**task, "rows": peer_rows}, args.threads)
            sides["model2vec.distill"] = summary(found, config, machine["rate"], whole, depth)
        same = agreement(Path(output), depth)
        phase1 = measure_phase1(folder, Path(output)) if name == "qwen15" else None
    shape = {key: config[key] for key in SHAPES["tiny"]}
    return {
        "teacher": {"name": folder.name, **shape, "whole_layers": whole_depth or depth},
        "device": device,
        "machine": machine,
        "sides": sides,
        "agreement": same,
        "phase1": phase1,
        "provenance": {**provenance(clock, None, device), "command": own_command()},
    }


def vocabulary_rows(folder: Path) -> int:
    """Return the number of rows of the static model of a teacher."""
    from qwen25.distillation.vocabulary import static_vocabulary
    from qwen25.teacher.teacher import find_teacher

    return len(static_vocabulary(find_teacher(str(folder)).tokenizer()))


def in_own_process(function: Callable[..., Path], *arguments: Any) -> Path:
    """Call a function in a process of its own.

    What this process holds when it starts a side counts as that side's peak memory on Linux, so it
    must not have held a model.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def unpacked_smollm2(folder: Path) -> Path:
    """Write the packaged teacher as a safetensors folder, which both sides read."""
    import torch
    from safetensors.torch import save_file

    from qwen25.teacher.teacher import find_teacher

    teacher = find_teacher("smollm2-135m")
    model = teacher.load(torch.float32)
    folder.mkdir()
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = {**teacher.config.to_dict(), "architectures": ["LlamaForCausalLM"]}
    config.pop("quantization_config", None)
    write_json(folder / "config.json", config)
    teacher.tokenizer().save(str(folder / "tokenizer.json"))
    # Without it transformers guesses a tokenizer from the architecture, and a wrong one.
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"})
    return folder


def section(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Measure the section that the command line names.

    :raises InputError: if it needs a flag that is missing.
    """
    if name == "smollm2":
        with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
            folder = args.teacher or in_own_process(unpacked_smollm2, Path(scratch) / "smollm2-135m")
            return measure_section(name, folder, args)
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
        return measure_section(name, folder, args, device="cuda" if name == "cuda" else "cpu")


HEADINGS = {
    "smollm2": "SmolLM2-135M, the whole vocabulary",
    "qwen15": "Qwen2.5-1.5B's shape, random weights",
    "qwen7": "Qwen2.5-7B's shape, random weights, a few layers",
    "cuda": "CUDA, Qwen2.5-1.5B's shape, random weights",
}


def render(data: dict[str, Any]) -> str:
    """Turn the measurements into Markdown; every number in it is one of theirs."""
    lines = [
        "# How long phase 1's token states take",
        "",
        "Written by `python -m benchmarks.distill_speed --render` from "
        "[`performance.json`](performance.json): do not edit.",
        "",
        "Both sides load the same files, compute one state a token and save the array; each is a process of its own,",
        "timed from start to end, and its memory is the kernel's peak. *plain recipe*: each token alone, the last",
        "layer, which is what model2vec computes; *default recipe*: what phase 1 does unless told otherwise.",
        "The rate is that of the plain forward pass's operations, also where some of them are left out.",
        "A time marked with * is projected: measured on fewer rows or layers, its computation scaled to the whole.",
    ]
    for name in SECTIONS:
        if name in data:
            lines += ["", f"## {HEADINGS[name]}", "", *_section_lines(data[name])]
    return "\n".join(lines) + "\n"


def _section_lines(found: dict[str, Any]) -> list[str]:
    if "skipped" in found:
        return [f"Not measured: {found['skipped']}. To measure it:", "", "```bash", found["command"], "```"]
    teacher, machine, run_facts = found["teacher"], found["machine"], found["provenance"]
    hardware, versions = run_facts["hardware"], run_facts["versions"]
    lines = [
        "| side | rows | last layer | wall time | whole | peak memory | rate | of the machine's |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for side, result in found["sides"].items():
        mark = "*" if result["projected"] else ""
        lines.append(
            f"| {side} | {result['rows']:,} | {result['layers'][-1]} | {result['wall_seconds']:.1f} s "
            f"| {_clock(result['whole_wall_seconds'])}{mark} | {result['peak_bytes'] / 1e9:.2f} GB "
            f"| {result['operations_per_second'] / 1e9:.0f} GFLOP/s | {result['share_of_machine']:.0%} |"
        )
    lines.append("")
    mine, peer = found["sides"].get("ours, plain recipe"), found["sides"].get("model2vec.distill")
    if mine and peer:
        quick = found["sides"]["ours, default recipe"]
        for what, side in (("the same states, our plain recipe", mine), ("our default recipe", quick)):
            times, memory = (peer[key] / side[key] for key in ("whole_wall_seconds", "peak_bytes"))
            lines.append(f"- Against {what}: model2vec takes {times:.1f} times as long, {memory:.1f} times the memory.")
    elif mine:
        lines.append(
            f"Measured with {teacher['num_hidden_layers']} of {teacher['whole_layers']} layers; "
            "the other side would have to hold the whole model, and is not measured."
        )
    if found["agreement"]:
        same = found["agreement"]
        lines.append("")
        lines.append(
            f"Both sides' last states of {same['tokens']:,} tokens agree: least cosine {same['least_cosine']:.6f}, "
            f"largest relative error {same['largest_relative_error']:.1e}."
        )
    if found["phase1"]:
        whole = found["phase1"]
        lines += [
            "",
            f"The whole of phase 1 with `{' '.join(whole['flags'])}`, default recipe:",
            f"{_clock(whole['wall_seconds'])} and {whole['peak_bytes'] / 1e9:.2f} GB at its peak, for "
            f"{whole['rows']:,} rows x {whole['dims']} ({whole['file_bytes'] / 1e6:.2f} MB);",
            f"token states take {_clock(whole['step_seconds']['token_states'])} of it.",
        ]
        if "--texts" not in whole["flags"]:
            lines.append(
                "Measured before the teacher wrote texts: their time and the whole teacher's memory are extra."
            )
    rates = ", ".join(f"{name} {rate / 1e9:.0f}" for name, rate in machine["rates"].items())
    lines += [
        "",
        f"Machine: {hardware.get('gpu') or hardware['processor']}, {machine['threads']} thread(s); its matrix products",
        f"at this layer's shapes: {machine['rate'] / 1e9:.0f} GFLOP/s ({rates}).",
        f"Measured {run_facts['created'][:10]} with torch {versions['torch']}, "
        f"transformers {versions['transformers']}, model2vec {versions['model2vec']}: `{run_facts['command']}`.",
    ]
    return lines


def _clock(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("sections", nargs="*", metavar="SECTION", help=f"what to measure: {', '.join(SECTIONS)} (default: nothing)")
    add("--teacher", type=Path, help="smollm2: folder of its safetensors (default: unpack the packaged one)")
    add("--tokenizer", type=Path, help="qwen15, qwen7, cuda: folder of a Qwen2.5 tokenizer (no default)")
    add("--rows", type=int, help="tokens for our side (default: all; qwen15 16384, qwen7 4096)")
    add("--peer-rows", type=int, help=f"tokens for model2vec's side (default: all; qwen15 {PEER_ROWS})")
    add("--layers", type=int, help=f"cut the random teachers (default: qwen15 not at all, qwen7 {QWEN7_LAYERS})")
    add("--threads", type=int, help="threads of either side (default: the libraries' own choice)")
    add("--scratch", type=Path, help="folder for random teachers, deleted afterwards (default: the system's)")
    add("--json", type=Path, default=JSON, help="the measurements (default: %(default)s)")
    add("--render", action="store_true", help="write --report from --json (default: off)")
    add("--report", type=Path, default=REPORT, help="the report (default: %(default)s)")
    add("--child", help=argparse.SUPPRESS)
    add("--debug", action="store_true", help="show the traceback of an error (default: one line)")
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
