"""Steps of a long run, kept so that a killed run goes on: the hash of a step's inputs -> its arrays, in a folder.

A step is written into a temporary folder that takes its name when it is whole, so that what has a name can be used.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qwen25 import __version__
from qwen25.runtime.errors import PipelineError, logger

#: Part of every key: raise it with any change that can change a bit of what a step computes.
STEPS_VERSION = 3
#: What a step holds: its facts, and the names of its arrays.
_CONTENT = "content.json"


def key_of(facts: Mapping[str, Any], *arrays: np.ndarray) -> str:
    """Return a short hash of everything that decides what a step computes: facts (JSON) and the arrays' bytes."""
    content = {**facts, "steps": STEPS_VERSION, "version": __version__}
    digest = hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode())
    for array in arrays:
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:24]


@dataclass(frozen=True)
class StepCache:
    """The finished steps of one run, in a folder; None: nothing is kept."""

    folder: Path | None = None

    def load(self, step: str, key: str) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """Return a step's arrays, mapped and read-only, and its facts; None if it was not finished for this key."""
        if self.folder is None or not (place := self.folder / f"{step}-{key}").is_dir():
            return None
        try:
            content = json.loads((place / _CONTENT).read_text(encoding="utf-8"))
            paths = {name: place / f"{name}.npy" for name in content["arrays"]}
            # A view, because the type of a mapping is lost in arithmetic anyway.
            arrays = {name: np.load(path, mmap_mode="r").view(np.ndarray) for name, path in paths.items()}
            return arrays, content["facts"]
        except (OSError, ValueError) as error:
            logger.info("    the kept step %s cannot be read and is computed anew: %s", step, error)
            return None

    def save(
        self, step: str, key: str, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any] | None = None
    ) -> None:
        """Keep a step; what was kept of it before, under any key, is removed. Raises PipelineError if it cannot be."""
        with self.writing(step, key, facts) as place:
            for name, array in arrays.items():
                if place is not None:
                    np.save(place / f"{name}.npy", array)

    @contextlib.contextmanager
    def writing(self, step: str, key: str, facts: Mapping[str, Any] | None = None) -> Iterator[Path | None]:
        """Yield a folder to write ``.npy`` files into, for arrays that are made in parts; None: nothing is kept."""
        if self.folder is None:
            yield None
            return
        place = self.folder / f"{step}-{key}"
        new = self.folder / f".{step}.tmp"
        try:
            shutil.rmtree(new, ignore_errors=True)  # of a run that was killed
            new.mkdir(parents=True)
            yield new
            content = {"arrays": [path.stem for path in new.glob("*.npy")], "facts": facts or {}}
            (new / _CONTENT).write_text(json.dumps(content), encoding="utf-8")
            # The new one is whole before the old ones go; a step may be saved again under its own key.
            for path in self.folder.glob(f"{step}-*"):
                shutil.rmtree(path)
            new.replace(place)
        except OSError as error:
            what = f"cannot keep the step {step} in {self.folder}: {error.strerror or error}"
            raise PipelineError(what, "free some space and run again, which goes on from the last one kept") from error
        finally:
            shutil.rmtree(new, ignore_errors=True)
            with contextlib.suppress(OSError):  # others were kept
                self.folder.rmdir()

    def discard(self) -> None:
        """Remove everything that was kept, once the result is saved."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


#: Keeps nothing.
NO_CACHE = StepCache()
