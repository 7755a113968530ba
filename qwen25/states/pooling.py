"""An embedding model -> its own vector of each token, computed by sentence-transformers.

Each token stands alone between the special tokens that the teacher's tokenizer puts around a text, and
goes through the teacher's whole pipeline: transformer, its own pooling, its own dense layers. Only a
closing normalisation is left out: distillation needs the lengths.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
import time
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from qwen25.runtime.display import progress
from qwen25.runtime.errors import InputError, PipelineError, first_line
from qwen25.runtime.files import read_json
from qwen25.runtime.log import logger
from qwen25.states.batches import in_batches
from qwen25.states.costs import LIBRARY_BYTES, Plan
from qwen25.states.jobs import Frame, Group, TokenIds, count_positions, count_rows, group_by_length
from qwen25.states.whole_model import WHOLE_MODEL_BATCH
from qwen25.store.model_files import no_weights, steps_of
from qwen25.teacher.teacher import Teacher

#: The steps that a pipeline may have behind its transformer, and those of them with weights of their own.
STEPS = ("Pooling", "Dense", "LayerNorm", "Normalize")
WITH_WEIGHTS = ("Dense", "LayerNorm")
#: Sequences that the estimate of the time is made from.
PROBE = 64


def weight_files(teacher: Teacher) -> list[Path]:
    """Return the files of all weights: the transformer's, then those of the steps behind it.

    :raises InputError: if it is no embedding model, or has a step that is not supported or has only pickled weights.
    """
    if teacher.gguf or not (teacher.folder / "modules.json").is_file():
        raise InputError(
            f"teacher {teacher.name} has no modules.json: recipe pooled needs an embedding model "
            "(sentence-transformers); use the default recipe"
        )
    steps = steps_of(teacher.folder, f"teacher {teacher.name}")
    if [kind.rpartition(".")[2] for kind, _ in steps[:2]] != ["Transformer", "Pooling"]:
        raise InputError(f"teacher {teacher.name}: its modules.json does not begin with a Transformer and a Pooling")
    files = list(teacher.weight_files)
    for number, (kind, folder) in enumerate(steps):
        name = kind.rpartition(".")[2]
        # Of any other library, sentence-transformers would run the code that lies in the folder; of a name with
        # dashes in it, another repository's.
        known = re.fullmatch(r"sentence_transformers(\.\w+)+", kind)
        if not known or not (name in STEPS if number else folder == teacher.folder):
            raise InputError(
                f"teacher {teacher.name}: step {number} of its modules.json, {kind}, is not supported: recipe pooled "
                f"takes a Transformer in the model's own folder, then {', '.join(STEPS)}"
            )
        if name == "Dense" and not _activation(folder).startswith("torch.nn."):
            raise InputError(f"teacher {teacher.name}: {folder.name} has no activation function of PyTorch's")
        if name in WITH_WEIGHTS:
            files.append(folder / "model.safetensors")
            if not files[-1].is_file():
                found = [path.name for path in folder.iterdir()] if folder.is_dir() else []
                raise no_weights(f"teacher {teacher.name}: {folder.name}", found)
    return files


def _activation(folder: Path) -> str:
    """Return the name of a dense layer's activation function, which sentence-transformers imports."""
    config = read_json(folder / "config.json")
    return str(config.get("activation_function")) if isinstance(config, dict) else ""


@dataclass(frozen=True)
class Embedder:
    """An embedding model, ready to compute.

    :ivar name: what reports call it.
    :ivar steps: transformer, pooling and what follows, but no closing normalisation.
    :ivar frame: the special tokens that its tokenizer puts around a text.
    :ivar layers: the number of its transformer's layers.
    :ivar added: the ids of its tokenizer's added tokens.
    """

    name: str
    steps: list[Any]
    frame: Frame
    layers: int
    added: frozenset[int]
    device: str

    @cached_property
    def width(self) -> int:
        """The dimensions of its vectors."""
        return self.vectors(np.zeros((1, 1), dtype=np.int64)).shape[1]

    def vectors(self, ids: np.ndarray) -> np.ndarray:
        """Return the vector of each sequence in the frame; float32, shape (sequences, width).

        :param ids: the token ids, shape (sequences, length).
        """
        before, behind = (
            np.tile(np.array(part, dtype=np.int64), (len(ids), 1)) for part in (self.frame.prefix, self.frame.suffix)
        )
        inputs = torch.from_numpy(np.hstack([before, ids, behind])).to(self.device)
        features = {"input_ids": inputs, "attention_mask": torch.ones_like(inputs)}
        with torch.inference_mode():
            for step in self.steps:
                features = step(features)
        return features["sentence_embedding"].float().cpu().numpy()


def load_embedder(teacher: Teacher, device: str, dtype: torch.dtype) -> Embedder:
    """Load an embedding model; neither code nor pickles of its folder are run.

    :raises InputError: if it is none; see :func:`weight_files`.
    :raises PipelineError: if its weights cannot be loaded, or not all are there.
    """
    weight_files(teacher)
    teacher.load(dtype)  # only to learn of missing weights: sentence-transformers would make them up
    options = {"use_safetensors": True, "dtype": dtype}
    try:
        from sentence_transformers import SentenceTransformer

        # Loading draws bars and notes of its own on standard error, even into a log.
        logging.getLogger("sentence_transformers").setLevel(logging.WARNING)
        with contextlib.redirect_stderr(io.StringIO()):
            model = SentenceTransformer(
                str(teacher.folder), device=device, trust_remote_code=False, local_files_only=True,
                model_kwargs=options)  # fmt: skip
    except Exception as error:  # many libraries lie behind this call
        raise PipelineError(f"teacher {teacher.name}: its pipeline cannot be loaded: {first_line(error)}") from error
    steps = list(model.eval())
    while type(steps[-1]).__name__ == "Normalize":
        steps.pop()
    encoded = model.tokenizer("a", return_special_tokens_mask=True)
    marks, ids = encoded["special_tokens_mask"], tuple(encoded["input_ids"])
    frame = Frame(ids[: marks.index(0)], ids[len(marks) - marks[::-1].index(0) :])
    added = frozenset(teacher.tokenizer().get_added_tokens_decoder())
    return Embedder(teacher.name, steps, frame, teacher.layers, added, device)


def plan(embedder: Embedder, token_ids: TokenIds) -> Plan:
    """Return what ``pooled_states`` would cost, after timing a small batch.

    :raises InputError: if an item has no tokens, or one that is no special token has no embedding.
    """
    groups, _ = _known(embedder, group_by_length(token_ids))
    tokens, memory = len(token_ids), sum(weight.nbytes for step in embedder.steps for weight in step.parameters())
    if not embedder.device.startswith("cuda"):
        memory += LIBRARY_BYTES + tokens * embedder.width * 4
    seconds = _seconds(embedder, groups)
    return Plan(tokens, (embedder.layers,), embedder.device, seconds, memory, 0, streams=False, reason="recipe pooled")


def _seconds(embedder: Embedder, groups: list[Group]) -> float | None:
    """Return the time that all groups take, from that of a small batch the second time; None if that fails."""
    if not groups:
        return 0.0
    probe = max(groups, key=lambda group: group.ids.size).ids[:PROBE]
    try:
        embedder.vectors(probe)
        started = time.perf_counter()
        embedder.vectors(probe)
    except torch.cuda.OutOfMemoryError:
        return None
    return (time.perf_counter() - started) / probe.size * count_positions(groups)


def pooled_states(embedder: Embedder, token_ids: TokenIds, batch_size: int | None = None) -> np.ndarray:
    """Compute the vector of each token, or word, in a sequence of its own.

    A special token that has no embedding (Gemma's tokenizer has one, for images) gets the mean of the
    others: it says nothing.

    :param token_ids: the teacher's ids, shape (tokens,); or a list of ids for each word.
    :param batch_size: sequences at a time (None: what suits the device).
    :return: float32 array of shape (tokens, width).
    :raises InputError: if an item has no tokens, or one that is no special token has no embedding.
    :raises PipelineError: if memory runs out, or a vector is not finite.
    """
    logger.info("%s", plan(embedder, token_ids))
    groups, unknown = _known(embedder, group_by_length(token_ids))
    out = np.zeros((len(token_ids), embedder.width), dtype=np.float32)
    size = batch_size or WHOLE_MODEL_BATCH
    with progress("token states", count_rows(groups)) as advance:
        for group in groups:
            size = in_batches(len(group.rows), size, partial(_put, embedder, group, out), advance)
    broken = int((~np.isfinite(out)).any(axis=1).sum())
    if broken:
        raise PipelineError(
            f"teacher {embedder.name} gives NaN or infinity for {broken} tokens; try --dtype float32, "
            "and if it was that already, its weights are damaged"
        )
    if len(unknown):
        out[unknown] = out.sum(axis=0, dtype=np.float64) / max(1, len(out) - len(unknown))
    return out


def _put(embedder: Embedder, group: Group, out: np.ndarray, batch: slice) -> None:
    out[group.rows[batch]] = embedder.vectors(group.ids[batch])


def _known(embedder: Embedder, groups: list[Group]) -> tuple[list[Group], np.ndarray]:
    """Return the groups without the sequences of a token that has no embedding, and the places of those.

    :raises InputError: if such a token is no special one.
    """
    rows = embedder.steps[0].auto_model.get_input_embeddings().num_embeddings
    kept, unknown = [], [np.empty(0, dtype=np.int64)]
    for group in groups:
        outside = (group.ids >= rows).any(axis=1)
        strange = set(group.ids[group.ids >= rows].tolist()) - embedder.added
        if strange:
            raise InputError(
                f"teacher {embedder.name}: token {min(strange)} has no embedding (the table has {rows} rows)"
            )
        unknown.append(group.rows[outside])
        if not outside.all():
            kept.append(Group(group.rows[~outside], group.ids[~outside]))
    return kept, np.concatenate(unknown)
