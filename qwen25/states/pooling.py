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
from qwen25.states.batches import in_batches, not_finite
from qwen25.states.checkpoint import Checkpointing
from qwen25.states.device import Computing
from qwen25.states.jobs import Frame, Group, TokenIds, count_positions, count_rows, group_by_length
from qwen25.states.plan import LIBRARY_BYTES, Plan
from qwen25.states.whole_model import WHOLE_MODEL_BATCH
from qwen25.store.model_files import no_weights, steps_of
from qwen25.teacher.teacher import Teacher, hash_weights

#: The modules that a model may have behind its transformer, and those of them with weights of their own.
MODULES = ("Pooling", "Dense", "LayerNorm", "Normalize")
WITH_WEIGHTS = ("Dense", "LayerNorm")
#: Sequences that the estimate of the time is made from.
PROBE = 64


def weight_files(teacher: Teacher) -> list[Path]:
    """Return the files of all weights: the transformer's, then those of the modules behind it.

    :raises InputError: if it is no embedding model, or has a module that is not supported or has only pickled weights.
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
        if not known or not (name in MODULES if number else folder == teacher.folder):
            raise InputError(
                f"teacher {teacher.name}: step {number} of its modules.json, {kind}, is not supported: recipe pooled "
                f"takes a Transformer in the model's own folder, then {', '.join(MODULES)}"
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
    :ivar modules: transformer, pooling and what follows, but no closing normalisation.
    :ivar frame: the special tokens that its tokenizer puts around a text.
    :ivar added: the ids of its tokenizer's added tokens.
    """

    name: str
    modules: list[Any]
    frame: Frame
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
            for module in self.modules:
                features = module(features)
        return features["sentence_embedding"].float().cpu().numpy()


def load_embedder(teacher: Teacher, computing: Computing) -> Embedder:
    """Load an embedding model; neither code nor pickles of its folder are run.

    :raises InputError: if it is none; see :func:`weight_files`.
    :raises PipelineError: if its weights cannot be loaded, or not all are there.
    """
    weight_files(teacher)
    teacher.load(computing.dtype)  # only to learn of missing weights: sentence-transformers would make them up
    options = {"use_safetensors": True, "dtype": computing.dtype}
    try:
        from sentence_transformers import SentenceTransformer

        # Loading draws bars and notes of its own on standard error, even into a log.
        logging.getLogger("sentence_transformers").setLevel(logging.WARNING)
        with contextlib.redirect_stderr(io.StringIO()):
            model = SentenceTransformer(
                str(teacher.folder),
                device=computing.device,
                trust_remote_code=False,
                local_files_only=True,
                model_kwargs=options,
            )
    except Exception as error:  # many libraries lie behind this call
        raise PipelineError(f"teacher {teacher.name}: its pipeline cannot be loaded: {first_line(error)}") from error
    modules = list(model.eval())
    while type(modules[-1]).__name__ == "Normalize":
        modules.pop()
    encoded = model.tokenizer("a", return_special_tokens_mask=True)
    marks, ids = encoded["special_tokens_mask"], tuple(encoded["input_ids"])
    frame = Frame(ids[: marks.index(0)], ids[len(marks) - marks[::-1].index(0) :])
    added = frozenset(teacher.tokenizer().get_added_tokens_decoder())
    return Embedder(teacher.name, modules, frame, added, computing.device)


class PooledStates:
    """An embedding model's own vector of each token: see :class:`qwen25.states.token_states.TokenStates`."""

    def __init__(self, teacher: Teacher, computing: Computing) -> None:
        """Load the model.

        :raises InputError: if the teacher is no embedding model; see :func:`weight_files`.
        :raises PipelineError: if its weights cannot be loaded, or not all are there.
        """
        self.teacher, self.computing = teacher, computing
        self._embedder: Embedder | None = None
        self.width = self.embedder.width

    @property
    def embedder(self) -> Embedder:
        """The model, loaded again where ``compute`` has given back its memory."""
        self._embedder = self._embedder or load_embedder(self.teacher, self.computing)
        return self._embedder

    @cached_property
    def weights_sha256(self) -> str:
        """The SHA-256 of the weights of all modules."""
        return hash_weights(self.teacher.name, weight_files(self.teacher))

    def plan(self, token_ids: TokenIds, checkpointing: Checkpointing | None = None) -> Plan:
        """Return what ``compute`` would cost, after timing a small batch; it keeps no checkpoint."""
        groups, _ = _known(self.embedder, group_by_length(token_ids))
        memory = sum(weight.nbytes for module in self.embedder.modules for weight in module.parameters())
        if not self.computing.on_cuda:
            memory += LIBRARY_BYTES + len(token_ids) * self.width * 4
        return Plan(
            len(token_ids),
            (self.teacher.layers,),
            self.computing.device,
            seconds=_seconds(self.embedder, groups),
            memory_bytes=memory,
            disk_bytes=0,
            streams=False,
            reason="recipe pooled",
            dtype=self.computing.dtype,
        )

    def compute(self, token_ids: TokenIds, checkpointing: Checkpointing | None = None) -> dict[int, np.ndarray]:
        """Compute the vector of each token, or word, and give back the model's memory.

        A special token that has no embedding (Gemma's tokenizer has one, for images) gets the mean of the
        others: it says nothing. The vectors count as states of the last layer.
        """
        logger.info("%s", self.plan(token_ids, checkpointing))
        embedder, self._embedder = self.embedder, None
        groups, unknown = _known(embedder, group_by_length(token_ids))
        out = np.zeros((len(token_ids), self.width), dtype=np.float32)
        size = self.computing.batch_size or WHOLE_MODEL_BATCH
        with progress("token states", count_rows(groups)) as advance:
            for group in groups:
                size = in_batches(len(group.rows), size, partial(_put, embedder, group, out), advance)
        broken = int((~np.isfinite(out)).any(axis=1).sum())
        if broken:
            raise not_finite(self.teacher.name, "its pooling", f"{broken} tokens")
        if len(unknown):
            out[unknown] = out.sum(axis=0, dtype=np.float64) / max(1, len(out) - len(unknown))
        return {self.teacher.layers: out}


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


def _put(embedder: Embedder, group: Group, out: np.ndarray, batch: slice) -> None:
    out[group.rows[batch]] = embedder.vectors(group.ids[batch])


def _known(embedder: Embedder, groups: list[Group]) -> tuple[list[Group], np.ndarray]:
    """Return the groups without the sequences of a token that has no embedding, and the places of those.

    :raises InputError: if such a token is no special one.
    """
    rows = embedder.modules[0].auto_model.get_input_embeddings().num_embeddings
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
