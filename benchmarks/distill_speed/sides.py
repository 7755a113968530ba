"""What is measured: token states by this project and by model2vec, and the machine's matrix products.

Each runs in a process of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from qwen25.distillation.recipe import RECIPES
from qwen25.runtime.errors import PipelineError
from qwen25.runtime.files import write_json

ROOT = Path(__file__).resolve().parents[2]


def ours(task: dict[str, Any]) -> dict[str, Any]:
    """Compute the states with this project, save them and return what the parent cannot see."""
    from qwen25.distillation.vocabulary import static_vocabulary
    from qwen25.states.device import DTYPES, Computing
    from qwen25.states.jobs import frame_for
    from qwen25.states.token_states import token_states
    from qwen25.teacher.teacher import find_teacher

    teacher = find_teacher(task["teacher"])
    vocabulary = static_vocabulary(teacher.tokenizer())
    ids = vocabulary.teacher_ids[: task["rows"]]
    layers, frame = task["layers"], frame_for(teacher, RECIPES[task["recipe"]].prefix)
    computing = Computing(task["device"], DTYPES[task["dtype"]])
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
    from model2vec.distill import distillation
    from transformers import AutoModel, AutoTokenizer

    from qwen25.states.device import DTYPES

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
    model = AutoModel.from_pretrained(task["teacher"], dtype=DTYPES[task["dtype"]])
    tokenizer = AutoTokenizer.from_pretrained(task["teacher"], use_fast=True)
    try:
        distillation.distill_from_model(model, tokenizer, device=task["device"], pca_dims=None, sif_coefficient=None)
    except _StatesDone:
        return {**found, "layers": [model.config.num_hidden_layers], "prefix_tokens": 0}
    raise PipelineError("model2vec.distill did not come to its states")


def products(task: dict[str, Any]) -> dict[str, Any]:
    """Measure the machine's rate of matrix products at the layer's shapes, in operations a second."""
    import torch

    from qwen25.states.device import DTYPES

    device, dtype = task["device"], DTYPES[task["dtype"]]

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
    "products": products,
}


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
