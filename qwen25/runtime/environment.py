"""Check an installation by importing it: ``python -m qwen25.runtime.environment``, the last step of setup."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

#: The floors: what the pipeline needs, and from which version on.
REQUIREMENTS = Path(__file__).resolve().parents[2] / "requirements_qwen25.txt"
#: Where the library's name is not that of its module.
MODULES = {"scikit-learn": "sklearn"}
#: Those whose versions tell the most.
SHOWN = ("model2vec", "torch", "transformers", "tokenizers", "safetensors", "sentence-transformers")


def faults() -> list[str]:
    """Return one line for each library that is missing, broken or too old."""
    from packaging.requirements import Requirement

    found = []
    for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        needed = Requirement(line)
        try:
            importlib.import_module(MODULES.get(needed.name, needed.name.replace("-", "_")))
            version = importlib.metadata.version(needed.name)
        except Exception as error:  # a broken native library can raise anything
            found.append(f"{needed.name} cannot be imported ({error}): run setup_qwen25.sh again")
            continue
        if not needed.specifier.contains(version, prereleases=True):
            found.append(f"{needed.name} {version} is not {needed.specifier}: run setup_qwen25.sh again")
    return found


def main() -> int:
    """Print the versions, and where phase 1 will compute; return 1 if something is wrong."""
    broken = faults()
    for line in broken:
        print(f"error: {line}", file=sys.stderr)
    if broken:
        return 1
    import torch

    print(f"setup: {', '.join(f'{name} {importlib.metadata.version(name)}' for name in SHOWN)}")
    if torch.cuda.is_available():
        print(f"setup: CUDA {torch.version.cuda} found: phase 1 will use cuda ({torch.cuda.get_device_name(0)})")
    else:
        print("setup: CUDA not found: phase 1 will use the CPU")
    return 0


if __name__ == "__main__":
    sys.exit(main())
