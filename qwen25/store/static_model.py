"""The model folder on disk: written, read back as its users do, and refused if it is broken, pickled or brings code."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from model2vec import StaticModel
from model2vec.persistence import save_pretrained
from safetensors.numpy import save_file
from tokenizers import Tokenizer

from qwen25.runtime.console import command_of
from qwen25.runtime.errors import InputError, PipelineError, as_input_error, first_line
from qwen25.runtime.files import read_json, sha256, write_json
from qwen25.runtime.text import is_name
from qwen25.store.quantisation import Stored, without

SCHEMA_VERSION = 1
#: The folder of the copy for sentence-transformers. Not a name that model2vec downloads.
FLOAT32_COPY = "static_embedding_float32"
#: The most tokens of a text, for those who ask for a number: texts are never cut, so that all runtimes agree.
NO_LIMIT = 1_000_000
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle")
#: Of one batch of texts; with one token each, their vectors of 1024 dimensions take 4 GB.
BATCH_CHARACTERS = 1 << 20

#: Texts -> one vector a text; shape (texts, dims).
Encode = Callable[[Sequence[str]], np.ndarray]


def write_model(folder: Path, stored: Stored, tokenizer: Tokenizer, metadata: dict[str, Any]) -> dict[str, Any]:
    """Write a model into a new folder, all but its ``metadata.json`` and ``README.md``.

    An unknown token's vector is written as zero: model2vec leaves such tokens out of the mean, sentence-transformers
    includes them, and only if they add nothing do both give a text the same direction.

    :return: the metadata with sizes and hashes.
    :raises PipelineError: if it cannot be written.
    """
    config: Any = {
        "model_type": "model2vec",
        "architectures": ["StaticModel"],
        "tokenizer_name": metadata["teacher"]["name"],
        "apply_pca": stored.table.shape[1],
        "sif_coefficient": metadata["recipe"]["sif"],
        "hidden_dim": stored.table.shape[1],
        "seq_length": NO_LIMIT,
        "normalize": True,
        "max_length": None,
        # What text-embeddings-inference reads of every model.
        "hidden_size": stored.table.shape[1],
        "num_hidden_layers": 0,
        "max_position_embeddings": NO_LIMIT,
    }
    if (unknown := unknown_row(tokenizer)) is not None:
        stored = without(stored, unknown)
    table, weights, mapping = stored.table, stored.weights, stored.row_of
    try:
        save_pretrained(folder, table, tokenizer, config, create_model_card=False, weights=weights, mapping=mapping)
        if stored.weights is not None or table.dtype != np.float32:
            _write_float32_copy(folder, stored, tokenizer)
    except Exception as error:  # of a full disk, safetensors and tokenizers have errors of their own
        raise PipelineError(f"cannot write the model: {first_line(error)}; free some space and run again") from error
    (folder / "1_Normalize").mkdir(exist_ok=True)
    write_json(folder / "1_Normalize" / "config.json", {})
    for path in folder.rglob("*.safetensors"):
        path.chmod(0o644)  # safetensors makes it readable by its owner alone
    files = [path for path in sorted(folder.rglob("*.*")) if path.is_file() and path.parent.name != "1_Normalize"]
    return {
        "schema_version": SCHEMA_VERSION,
        **metadata,
        "sizes_bytes": {path.relative_to(folder).as_posix(): path.stat().st_size for path in files},
        "model_sha256": sha256([folder / "model.safetensors"]),
        "tokenizer_sha256": sha256([folder / "tokenizer.json"]),
    }


def _write_float32_copy(folder: Path, stored: Stored, tokenizer: Tokenizer) -> None:
    """Write the model as sentence-transformers holds it.

    In version 5 its StaticEmbedding has neither int8, weights nor shared rows, and computes and learns in the number
    format of the file: in float16 an empty text gives NaN, and so does training.
    """
    copy = folder / FLOAT32_COPY
    copy.mkdir()
    save_file({"embedding.weight": stored.vectors()}, copy / "model.safetensors")
    tokenizer.save(str(copy / "tokenizer.json"), pretty=False)
    steps = ((FLOAT32_COPY, "StaticEmbedding"), ("1_Normalize", "Normalize"))
    package = "sentence_transformers.models"
    modules = [{"idx": i, "name": f"{i}", "path": p, "type": f"{package}.{kind}"} for i, (p, kind) in enumerate(steps)]
    write_json(folder / "modules.json", modules)


def tokenizer_steps(step: dict[str, Any] | None, inner: str) -> list[dict[str, Any]]:
    """Return a normaliser or pre-tokenizer of a tokenizer's JSON as steps: those of a sequence (of sequences), or one.

    :param inner: where a sequence holds its steps: ``normalizers`` or ``pretokenizers``.
    """
    if step is None:
        return []
    return (
        [one for part in step[inner] for one in tokenizer_steps(part, inner)] if step["type"] == "Sequence" else [step]
    )


def unknown_row(tokenizer: Tokenizer) -> int | None:
    """Return the row of the token that stands for whatever a tokenizer does not know, or None if it knows all text."""
    model = json.loads(tokenizer.to_str())["model"]
    if model["type"] == "Unigram":
        return model["unk_id"]
    return tokenizer.token_to_id(model["unk_token"]) if model.get("unk_token") else None


def load_model(folder: Path) -> StaticModel:
    """Load a static model from its folder; raises InputError if model2vec does not, or its vectors are broken."""
    weight_files(folder)  # refuses pickles
    with as_input_error(f"{folder} is no static model that loads", "distil it again, or give another"):
        model = StaticModel.from_pretrained(folder)
    table, weights = np.asarray(model.embedding), np.ones(1) if model.weights is None else model.weights
    # model2vec's own quantisation is int8; the mean of other integers would be cut to an integer.
    is_table = table.ndim == 2 and (table.dtype.kind == "f" or table.dtype == np.int8)
    with np.errstate(over="ignore"):
        # Not linalg.norm: it would hold the table in float32 three times.
        how: dict[str, Any] = {"dtype": np.float32, "casting": "same_kind"}
        squares = np.einsum("ij,ij->i", table, table, **how) if is_table else np.zeros(1)
    if not (squares.any() and np.isfinite(squares).all() and np.isfinite(weights).all()):
        what = f"holds zero, NaN or infinite vectors, or none (shape {table.shape}, {table.dtype})"
        raise InputError(f"{folder} {what}", "distil it again, or give another")
    return model


def models_here() -> str:
    """Return the advice to give a model of those in the folders of phase 1 and the demo."""
    paths = (path for place in ("demo", "models") for path in sorted(Path(place).glob("*/model.safetensors")))
    found = [str(path.parent) for path in paths]
    return f"give one of those here: {', '.join(found)}" if found else "give another"


def model_name(folder: Path) -> str:
    """Return a model's name: that of its ``metadata.json``, else its folder's."""
    with suppress(InputError, KeyError, TypeError):  # there may be none, and another tool's file may hold anything
        name = read_json(folder / "metadata.json")["name"]
        if isinstance(name, str) and is_name(name):
            return name
    return folder.resolve().name


def static_encode(model: StaticModel) -> Encode:
    """Return the model's ``encode`` for evaluation, in one thread, so that timings compare."""

    def encode(texts: Sequence[str]) -> np.ndarray:
        # Texts of one length are looked up together, and a character may be a token: long ones go in small batches.
        longest = max(map(len, texts), default=0)
        batch_size = max(1, min(1024, BATCH_CHARACTERS // max(1, longest)))
        with as_input_error("the model cannot encode the texts", "distil it again, or give another"):
            return model.encode(list(texts), use_multiprocessing=False, batch_size=batch_size)

    return encode


def weight_files(folder: Path) -> list[Path]:
    """Return the files of a model folder's weights, those of its steps (2_Dense) too; InputError if there are none."""
    if not folder.is_dir():
        how = f"{models_here()}, a hub id or a packaged name, or make it with {command_of('distill', output=folder)}"
        raise InputError(f"no such model folder: {folder}", how)
    files = sorted([*folder.glob("*.safetensors"), *folder.glob("[0-9]*/*.safetensors")])
    if not files:
        raise no_weights(str(folder), [path.name for path in folder.iterdir()])
    return files


def no_weights(what: str, files: list[str]) -> InputError:
    """Return the error for a model whose ``files`` have no safetensors among them."""
    if any(file.endswith(PICKLES) for file in files):
        why = "which can run code when opened; convert them to safetensors first"
        return InputError(f"{what} has only pickled weights (.bin), {why}")
    return InputError(f"{what} has no .safetensors weights: give another model")


def on_disk(folder: Path) -> dict[str, Any]:
    """Return the size of a model folder's weights and tokenizer, and the hash of its weights."""
    files = weight_files(folder)
    size = sum(path.stat().st_size for path in [*files, *folder.glob("tokenizer.json")])
    return {"size_bytes": size, "sha256": sha256(files)}


def refuse_code_and_pickles(folder: Path) -> None:
    """Raise InputError for what sentence-transformers would run or unpickle: code, or weights without safetensors."""
    steps = [("sentence_transformers.models.Transformer", folder)]
    if (folder / "modules.json").is_file():
        steps = steps_of(folder, folder.name)
    # Of these libraries, and neither a file beside the weights (pylate.Step) nor another repository's (pylate--a.Step).
    known = re.compile(r"(sentence_transformers|pylate\.models)(\.\w+)+")
    if foreign := [kind for kind, _ in steps if not known.fullmatch(kind)]:
        raise InputError(f"{folder.name} brings code of its own ({foreign[0]}), which is never run")
    for kind, place in steps:
        names = [path.name for path in place.iterdir()] if place.is_dir() else []
        if any(name.endswith(PICKLES) for name in names) and not any(n.endswith(".safetensors") for n in names):
            raise no_weights(f"{folder.name}: {place.name}", names)
        if kind.endswith(".StaticEmbedding") and "model.safetensors" not in names:
            raise InputError(f"{folder.name} lacks {place.name}/model.safetensors, which sentence-transformers reads")
        # sentence-transformers imports and calls whatever a dense layer names as its activation function.
        config = read_json(place / "config.json") if kind.endswith(".Dense") and "config.json" in names else {}
        if not str(config.get("activation_function", "torch.nn.")).startswith("torch.nn."):
            raise InputError(f"{folder.name}: {place.name} has no activation function of PyTorch's")


def steps_of(folder: Path, what: str) -> list[tuple[str, Path]]:
    """Return the class and the folder of each step of a sentence-transformers model; InputError if they are none."""
    with as_input_error(f"{what}: its modules.json is no list of steps", "download the model again"):
        return [(str(step["type"]), folder / step["path"]) for step in read_json(folder / "modules.json")]


def model_folder(spec: str) -> Path | None:
    """Return the folder that a model's SPEC names, or None for a model from elsewhere."""
    kind, _, rest = spec.partition(":")
    folder = Path(rest or kind).expanduser()
    return folder if folder.is_dir() else None
