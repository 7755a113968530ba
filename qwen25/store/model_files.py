"""What a model folder may hold: which files, no pickles, no code."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from qwen25.runtime.errors import InputError
from qwen25.runtime.files import read_json, require_regular, sha256


def weight_files(folder: Path) -> list[Path]:
    """Return the files of a model folder's weights.

    :raises InputError: if there is no such folder, it has no safetensors weights, or a pipe lies in it.
    """
    if not folder.is_dir():
        raise InputError(f"no such model folder: {folder}; give a folder, a hub id or a packaged name")
    require_files(folder)
    # Beside the weights of sentence-transformers' steps (1_Dense) there may be other formats of the same ones.
    files = sorted([*folder.glob("*.safetensors"), *folder.glob("[0-9]*/*.safetensors")])
    if not files:
        raise no_weights(str(folder), [path.name for path in folder.iterdir()])
    return files


def on_disk(folder: Path) -> dict[str, Any]:
    """Return the size of a model folder's weights and tokenizer, and the hash of its weights.

    :raises InputError: if there is no such folder, or it has no safetensors weights.
    """
    files = weight_files(folder)
    sizes = [path.stat().st_size for path in [*files, *folder.glob("tokenizer.json")]]
    return {"size_bytes": sum(sizes), "sha256": sha256(files)}


def require_files(folder: Path) -> None:
    """Refuse a folder with a pipe or a device in it, or in those of its steps: a library would read it for ever.

    :raises InputError: if there is one.
    """
    for path in (*folder.glob("*"), *folder.glob("*/*")):
        require_regular(path)


def refuse_code_and_pickles(folder: Path) -> None:
    """Refuse what sentence-transformers would run or unpickle: code in a local folder, weights without safetensors.

    :raises InputError: if a step of the model is of that kind.
    """
    steps = [("sentence_transformers.models.Transformer", folder)]
    if (folder / "modules.json").is_file():
        steps = steps_of(folder, folder.name)
    # Of these libraries, and neither a file beside the weights (pylate.Step) nor another repository's (pylate--a.Step).
    known = re.compile(r"(sentence_transformers|pylate\.models)(\.\w+)+")
    foreign = [kind for kind, _ in steps if not known.fullmatch(kind)]
    if foreign:
        raise InputError(f"{folder.name} brings code of its own ({foreign[0]}), which is never run")
    for _, place in steps:
        names = [path.name for path in place.iterdir()] if place.is_dir() else []
        if any(name.endswith(PICKLES) for name in names) and not any(n.endswith(".safetensors") for n in names):
            raise no_weights(f"{folder.name}: {place.name}", names)


#: What decides a model's vectors besides its weights, in its folder and in those of its steps (1_Pooling).
CONFIGURATION = ("*config*.json", "modules.json", "*token*.json", "tokenizer*", "vocab*", "merges.txt", "*.model")


def model_folder(spec: str) -> Path | None:
    """Return the folder that ``spec`` (see ``loading.SPECS``) names, or None for a model from elsewhere."""
    kind, _, rest = spec.partition(":")
    folder = Path(rest or kind).expanduser()
    return folder if folder.is_dir() else None


def files_in(folder: Path, patterns: Iterable[str]) -> list[Path]:
    """Return a model's files of these names, in its folder and in those of its steps."""
    found = {path for name in patterns for path in (*folder.glob(name), *folder.glob(f"*/{name}")) if path.is_file()}
    return sorted(found)


PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle")


def no_weights(what: str, files: list[str]) -> InputError:
    """Return the error for a model whose ``files`` have no safetensors among them."""
    if any(file.endswith(PICKLES) for file in files):
        return InputError(
            f"{what} has only pickled weights (.bin), which can run code when opened; convert them to safetensors first"
        )
    return InputError(f"{what} has no .safetensors weights: give another model")


def steps_of(folder: Path, what: str) -> list[tuple[str, Path]]:
    """Return the steps of a sentence-transformers model: the class and the folder of each.

    :param what: the model, for messages.
    :raises InputError: if its modules.json cannot be read, or is no list of steps.
    """
    try:
        return [(str(step["type"]), folder / step["path"]) for step in read_json(folder / "modules.json")]
    except (KeyError, TypeError) as error:
        raise InputError(f"{what}: its modules.json is no list of steps: {error!r}") from error
