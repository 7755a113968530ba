"""What a result says of its own making: versions, hardware, time and command.

``python -m qwen25.runtime.provenance``, the last step of setup, checks an installation.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shlex
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from qwen25 import __version__
from qwen25.runtime.errors import EXIT_FAILED, EXIT_OK, redact

#: Those that can change a result.
LIBRARIES = "model2vec torch transformers sentence-transformers tokenizers safetensors numpy scipy scikit-learn"


def library_versions() -> dict[str, str]:
    """Return the versions of Python, of this package, and of each library that can change a result."""
    versions = {"python": platform.python_version(), "qwen25-deposium": __version__}
    return versions | {name: importlib.metadata.version(name) for name in LIBRARIES.split()}


def hardware(device: str = "cpu") -> dict[str, Any]:
    """Return what the run was computed on: processor, cores, memory (bytes) and device."""
    name = platform.processor() or platform.machine()
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    facts = {"machine": platform.machine(), "processor": name, "cores": os.cpu_count(), "device": device}
    if hasattr(os, "sysconf"):
        facts["memory_bytes"] = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if device.startswith("cuda"):
        import torch

        facts["gpu"] = torch.cuda.get_device_name(device)
    return facts


class Clock:
    """Measures a run's wall time, and the time of its steps, in seconds."""

    def __init__(self) -> None:
        """Start the clock."""
        self.started = time.time()
        self._first = self._last = time.perf_counter()
        self.steps: dict[str, float] = {}

    def lap(self, step: str) -> None:
        """End ``step``, which began at the last lap."""
        now = time.perf_counter()
        self.steps[step] = round(now - self._last, 3)
        self._last = now

    @property
    def wall_seconds(self) -> float:
        """Seconds since the clock was made."""
        return round(time.perf_counter() - self._first, 3)


def command_line() -> str:
    """Return the command that was given, its paths to elsewhere cut to their names: results travel, folders do not."""
    # An absolute path, or one that climbs: after a flag's =, or a SPEC's : as well.
    elsewhere = re.compile(r"(?<![^=:])(?:(?:[^/=:]+/+)*?\.\.)?/+(?:[^/]+/+)*(?=[^/])")
    program = Path(sys.argv[0]).name
    words = ["qwen25" if program == "main.py" else program, *(elsewhere.sub("", word) for word in sys.argv[1:])]
    return redact(shlex.join(words))


def provenance(clock: Clock, seed: int | None, device: str = "cpu") -> dict[str, Any]:
    """Return the block that every result file carries about its run."""
    return {
        "command": command_line(),
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(clock.started)),
        "wall_seconds": clock.wall_seconds,
        "seed": seed,
        "versions": library_versions(),
        "hardware": hardware(device),
    }


def main() -> int:
    """Print the versions of the libraries that decide results, and where phase 1 will compute."""
    try:
        versions = library_versions()
        import torch
    except Exception as error:  # a broken native library can raise anything
        print(f"error: {error}: run setup_qwen25.sh again", file=sys.stderr)
        return EXIT_FAILED
    device = f"cuda ({torch.cuda.get_device_name(0)})" if torch.cuda.is_available() else "the CPU: there is no CUDA"
    print(f"setup: {', '.join(f'{name} {version}' for name, version in versions.items())}")
    print(f"setup: phase 1 will use {device}")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
