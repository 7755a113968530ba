"""Where results may be written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from qwen25.evaluation.categories.all import WEIGHTS
from qwen25.evaluation.items import items_file
from qwen25.runtime.errors import InputError
from qwen25.runtime.files import check_file
from qwen25.runtime.summary import STDOUT
from qwen25.store.model_files import CONFIGURATION, files_in, model_folder


def check_outputs(outputs: Sequence[Path], specs: Iterable[str], items: Path | None = None) -> None:
    """Refuse, before the work, a place for a result that has no room for one or is taken.

    :param specs: the models that the run reads; see ``loading.SPECS``.
    :param items: the folder of the items that it reads.
    :raises InputError: if no file can be written there, or it is that of another result or of what the run reads.
    """
    folders = [folder for spec in specs if (folder := model_folder(spec))]
    # By their names, not all that is there: a result that an earlier run wrote beside a model may be replaced.
    kept = (*CONFIGURATION, "*.safetensors", "*.onnx", "metadata.json", "README.md")
    read = [path for folder in folders for path in files_in(folder, kept)]
    read += [items_file(items, category) for category in WEIGHTS] if items else []
    taken = dict.fromkeys((path.resolve() for path in read), "a file of the model or of the items")
    for path in outputs:
        if path == STDOUT:
            continue
        check_file(path)
        if what := taken.get(path.resolve()):
            raise InputError(f"{path} is {what}: give another path")
        taken[path.resolve()] = "the place of another result, too"
