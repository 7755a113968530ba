"""What a result says of its own making: versions, hardware, time and command."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shlex
import sys
import time
from pathlib import Path
from typing import Any

from qwen25 import __version__
from qwen25.runtime.errors import redact

LIBRARIES = (
    "model2vec",
    "torch",
    "transformers",
    "sentence-transformers",
    "tokenizers",
    "safetensors",
    "numpy",
    "scipy",
    "scikit-learn",
)


def library_versions() -> dict[str, str]:
    """Return the installed version of each library that can change a result."""
    versions = {"python": platform.python_version(), "qwen25-deposium": __version__}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def hardware(device: str = "cpu") -> dict[str, Any]:
    """Return what the run was computed on: processor, cores, memory (bytes) and device."""
    name = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    except OSError:
        pass
    facts: dict[str, Any] = {
        "machine": platform.machine(),
        "processor": name,
        "cores": os.cpu_count(),
        "device": device,
    }
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
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
        self._last = time.perf_counter()
        self._first = self._last
        self.steps: dict[str, float] = {}

    def lap(self, step: str) -> float:
        """End ``step``, which began at the last lap, and return its seconds."""
        now = time.perf_counter()
        self.steps[step] = round(now - self._last, 3)
        self._last = now
        return self.steps[step]

    @property
    def wall_seconds(self) -> float:
        """Seconds since the clock was made."""
        return round(time.perf_counter() - self._first, 3)


def command_line() -> str:
    """Return the command that was given, its paths to elsewhere cut to their names: results travel, folders do not."""
    # An absolute path, or one that climbs: after a flag's =, or a SPEC's : as well.
    elsewhere = re.compile(r"(?<![^=:])(?:(?:[^/=:]+/+)*?\.\.)?/+(?:[^/]+/+)*(?=[^/])")
    words = [Path(sys.argv[0]).name, *(elsewhere.sub("", word) for word in sys.argv[1:])]
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
