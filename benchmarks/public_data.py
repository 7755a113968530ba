"""The public scorer: any module with ``score(encode, data_folder) -> {"overall": ..., "categories": ...}``."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qwen25.runtime.errors import InputError

#: Texts -> their vectors, scored.
PublicScore = Callable[[Any], dict[str, Any]]


def public_score(folder: Path | None) -> PublicScore | None:
    """Return the public scorer on its development sets, its overall score and categories alone; None without a folder.

    :raises InputError: if the folder has no scorer.
    """
    if folder is None:
        return None
    spec = importlib.util.spec_from_file_location("public_score", folder / "score.py")
    if spec is None or spec.loader is None or not (folder / "score.py").is_file():
        raise InputError(f"{folder} has no score.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def score(encode: Any) -> dict[str, Any]:
        found = module.score(encode, folder / "dev")
        return {"overall": found["overall"], "categories": found["categories"]}

    return score
