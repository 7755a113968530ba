"""An embedding model -> its own vector of each token, computed by sentence-transformers.

Each token stands alone between the special tokens that the teacher's tokenizer puts around a text, and
goes through the teacher's whole pipeline: transformer, its own pooling, its own dense layers. Only a
closing normalisation is left out: distillation needs the lengths.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from qwen25.runtime.display import progress, quietly
from qwen25.runtime.errors import InputError, PipelineError, first_line
from qwen25.runtime.files import sha256
from qwen25.store.static_model import refuse_code_and_pickles, steps_of
from qwen25.teacher.states import CPU_ROWS, between, on_device, require_finite, words_of
from qwen25.teacher.teacher import Teacher

#: The modules that a model may have behind its transformer and its pooling.
MODULES = {"Dense", "LayerNorm", "Normalize"}


def pooled_states(
    teacher: Teacher,
    token_ids: np.ndarray | Sequence[Sequence[int]],
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> np.ndarray:
    """Compute the vector of each token, or word; float32, shape (tokens, width).

    A special token that has no embedding (Gemma's tokenizer has one, for images) gets the mean of the
    others: it says nothing.

    :param token_ids: as :func:`qwen25.teacher.states.token_states` takes them.
    :raises InputError: if the teacher is no embedding model, or a token has no embedding.
    :raises PipelineError: if weights are missing or damaged, memory runs out, or a vector is not finite.
    """
    model = _load(teacher, device, dtype)
    modules = list(model)
    while type(modules[-1]).__name__ == "Normalize":
        modules.pop()
    encoded = model.tokenizer("a", return_special_tokens_mask=True)
    marks, ids = encoded["special_tokens_mask"], encoded["input_ids"]
    around = ids[: marks.index(0)], ids[len(marks) - marks[::-1].index(0) :]
    words = words_of(token_ids)
    known = modules[0].auto_model.get_input_embeddings().num_embeddings
    strange = set(words.ids[words.ids >= known].tolist()) - set(teacher.tokenizer().get_added_tokens_decoder())
    if strange:
        raise InputError(f"teacher {teacher.name}: token {min(strange)} has no embedding (the table has {known} rows)")
    places, parts = [], []
    with on_device(), progress("token states", len(words.ids)) as advance:
        for rows, ids in words.batches(CPU_ROWS):
            inputs = torch.from_numpy(between(around[0], np.where(ids < known, ids, 0), around[1])).to(device)
            features = {"input_ids": inputs, "attention_mask": torch.ones_like(inputs)}
            for module in modules:
                features = module(features)
            places.append(rows)
            parts.append(features["sentence_embedding"].float().cpu().numpy())
            advance(ids.size)
    vectors = np.concatenate(parts)[np.argsort(np.concatenate(places))]
    require_finite(torch.from_numpy(vectors), teacher.name, "its pooling")
    unknown = np.unique(np.repeat(np.arange(len(vectors)), words.lengths)[words.ids >= known])
    if len(unknown):
        vectors[unknown] = np.delete(vectors, unknown, axis=0).mean(axis=0, dtype=np.float64)
    return vectors


def pooled_weights_sha256(teacher: Teacher) -> str:
    """Return the SHA-256 of the weights of all modules, one file after another.

    :raises InputError: if the teacher is no embedding model.
    """
    return sha256(weight_files(teacher))


def weight_files(teacher: Teacher) -> list[Path]:
    """Return the files of all weights: the transformer's, then those of the modules behind it.

    :raises InputError: if it is no embedding model, or has a module that is not supported or has only pickled weights.
    """
    if teacher.gguf or not (teacher.folder / "modules.json").is_file():
        raise InputError(
            f"teacher {teacher.name} has no modules.json: recipe pooled needs an embedding model "
            "(sentence-transformers); use the default recipe"
        )
    refuse_code_and_pickles(teacher.folder)
    steps = steps_of(teacher.folder, f"teacher {teacher.name}")
    names = [kind.rpartition(".")[2] for kind, _ in steps]
    if names[:2] != ["Transformer", "Pooling"] or steps[0][1] != teacher.folder or not set(names[2:]) <= MODULES:
        raise InputError(
            f"teacher {teacher.name}: the steps of its modules.json ({', '.join(names)}) are not supported: recipe "
            "pooled takes a Transformer in the model's own folder, a Pooling, and behind it dense layers and norms"
        )
    behind = (folder / "model.safetensors" for _, folder in steps[2:])
    return [*teacher.weight_files, *filter(Path.is_file, behind)]


def _load(teacher: Teacher, device: str, dtype: torch.dtype) -> Any:
    """Load an embedding model; neither code nor pickles of its folder are run."""
    weight_files(teacher)
    teacher.load(dtype)  # only to learn of missing weights: sentence-transformers would make them up
    try:
        from sentence_transformers import SentenceTransformer

        with quietly():
            return SentenceTransformer(
                str(teacher.folder),
                device=device,
                trust_remote_code=False,
                local_files_only=True,
                model_kwargs={"use_safetensors": True, "dtype": dtype},
            ).eval()
    except Exception as error:  # many libraries lie behind this call
        raise PipelineError(f"teacher {teacher.name}: its pipeline cannot be loaded: {first_line(error)}") from error
