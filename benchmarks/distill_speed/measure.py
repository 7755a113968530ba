"""One section of the benchmark: both sides, each in a process of its own, and what follows from their figures."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.distill_speed.sides import ROOT, layer_shapes
from benchmarks.make_random_teacher import SHAPES
from qwen25.distillation.recipe import RECIPES
from qwen25.runtime.errors import PipelineError
from qwen25.runtime.files import read_json, write_json
from qwen25.runtime.log import logger
from qwen25.runtime.provenance import Clock, command_line, provenance
from qwen25.states.device import choose_dtype, fast_dtype, format_name

#: How many tokens a section measures for our side and for model2vec's; all where it is not named.
PEER_ROWS = {"coder05": 16384, "coder15": 2048}
BUDGET_ROWS = {"coder05": 16384, "coder15": 4096, "qwen7": 4096}


#: The size that the whole of phase 1 is timed at: the announced model's. It needs the states of all tokens.
PHASE1_SIZE = "65"


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
    return {**read_json(answer), "dtype": task["dtype"], "wall_seconds": wall, "peak_bytes": usage.ru_maxrss * unit}


def measure_phase1(teacher: str, output: Path) -> dict[str, Any]:
    """Run the whole of phase 1 with a packaged teacher; return its wall time (s), peak memory and file size (bytes).

    :raises PipelineError: if it fails.
    """
    flags = ["--teacher", teacher, "--max-size-mb", PHASE1_SIZE, "--device", "cpu"]
    command = [sys.executable, str(ROOT / "distill_qwen25_1024d.py"), *flags, "--overwrite"]
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


def summary(
    result: dict[str, Any], config: dict[str, Any], machine: dict[str, Any], whole_rows: int, whole_layer: int
) -> dict[str, Any]:
    """Add to a side's measurement the rate it reached and, if it did a part, the projection of the whole.

    The projection keeps what is fixed (start, loading) and scales the computation with rows and layers.

    :param machine: the rates of the machine's products, by number format.
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
        "share_of_machine": reached / machine[result["dtype"]]["rate"],
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
    name: str,
    folder: Path,
    args: argparse.Namespace,
    *,
    device: str = "cpu",
    whole_depth: int | None = None,
    packaged: str | None = None,
) -> dict[str, Any]:
    """Measure one teacher.

    :param whole_depth: the layers of the whole model, if this one is cut.
    :param packaged: the packaged teacher that the folder was unpacked from, for the whole of phase 1.
    """
    config = read_json(folder / "config.json")
    depth = config["num_hidden_layers"]
    batch = 2048 if device == "cpu" else 16384
    # The plain recipe is compared with model2vec's states, which are exact; the default one is what phase 1 does.
    exact, fast = format_name(choose_dtype("auto", device)), format_name(fast_dtype(device))
    formats = {"plain": exact, "default": fast}
    clock = Clock()
    sides: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as output:
        task = {"teacher": str(folder.resolve()), "output": output, "device": device}
        machine = {
            dtype: measure(
                "products", {**task, "dtype": dtype, "shapes": layer_shapes(config), "batch": batch}, args.threads
            )
            for dtype in sorted({exact, fast})
        }
        read_files(folder)
        rows, whole = args.rows or BUDGET_ROWS.get(name), vocabulary_rows(folder)
        for recipe, dtype in formats.items():
            wanted = RECIPES[recipe].layer_numbers(whole_depth or depth)
            layers = sorted({min(layer, depth) for layer in wanted})
            one = {**task, "rows": rows, "recipe": recipe, "layers": layers, "dtype": dtype}
            found = measure("ours", one, args.threads)
            sides[f"ours, {recipe} recipe"] = summary(found, config, machine, whole, wanted[-1])
        if whole_depth is None:  # a cut teacher stands for one that the other side cannot hold
            peer_rows = args.peer_rows or PEER_ROWS.get(name)
            found = measure("model2vec", {**task, "rows": peer_rows, "dtype": exact}, args.threads)
            sides["model2vec.distill"] = summary(found, config, machine, whole, depth)
        same = agreement(Path(output), depth)
        phase1 = [measure_phase1(packaged, Path(output))] if packaged else []
    shape = {key: config[key] for key in SHAPES["tiny"]}
    return {
        "teacher": {"name": packaged or folder.name, **shape, "whole_layers": whole_depth or depth},
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


def unpacked(name: str, folder: Path) -> Path:
    """Write a packaged teacher as a safetensors folder, which both sides read, in bfloat16 as releases are."""
    import torch
    from safetensors.torch import save_file

    from qwen25.teacher.teacher import find_teacher

    teacher = find_teacher(name)
    model = teacher.load(torch.bfloat16)
    folder.mkdir()
    tensors = {key: tensor.contiguous() for key, tensor in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    causal = type(model).__name__.removesuffix("Model") + "ForCausalLM"
    config = {**teacher.config.to_dict(), "architectures": [causal], "dtype": "bfloat16"}
    config.pop("quantization_config", None)
    write_json(folder / "config.json", config)
    teacher.tokenizer().save(str(folder / "tokenizer.json"))
    # Without it transformers guesses a tokenizer from the architecture, and a wrong one.
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"})
    return folder
