"""Check an installation by importing it: ``python -m qwen25.environment``, the last step of setup."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys

#: Library -> (least version, why).
FLOORS = {
    "model2vec": ("0.8.2", "0.8 is the first that keeps byte-level BPE tokenizers as they are"),
    "torch": ("2.6.0", "older versions can run code from weight files"),
    "transformers": ("4.50", "Qwen2.5 and Gemma 3"),
    "tokenizers": ("0.21", "needed by transformers"),
    "safetensors": ("0.5", "weights"),
    "sentence_transformers": ("3.4", "loads static models"),
}


def faults() -> list[str]:
    """Return one line for each library that is missing, broken or too old."""
    from packaging.version import Version

    found = []
    for module, (floor, why) in FLOORS.items():
        distribution = module.replace("_", "-")
        try:
            importlib.import_module(module)
            version = importlib.metadata.version(distribution)
        except Exception as error:  # a broken native library can raise anything
            found.append(f"{distribution} cannot be imported ({error}): run setup_qwen25.sh again")
            continue
        if Version(version) < Version(floor):
            found.append(f"{distribution} {version} is older than {floor} ({why}): run setup_qwen25.sh again")
    return found


def main() -> int:
    """Print the versions, and where phase 1 will compute; return 1 if something is wrong."""
    broken = faults()
    for line in broken:
        print(f"error: {line}", file=sys.stderr)
    if broken:
        return 1
    import torch

    versions = ", ".join(f"{m.replace('_', '-')} {importlib.metadata.version(m.replace('_', '-'))}" for m in FLOORS)
    print(f"setup: {versions}")
    if torch.cuda.is_available():
        print(f"setup: CUDA {torch.version.cuda} found: phase 1 will use cuda ({torch.cuda.get_device_name(0)})")
    else:
        print("setup: CUDA not found: phase 1 will use the CPU")
    return 0


if __name__ == "__main__":
    sys.exit(main())
