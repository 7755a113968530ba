"""The states that are done: in memory, or in a folder that a run which was cut off goes on from."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import torch

from qwen25.runtime.errors import InputError, PipelineError
from qwen25.runtime.files import read_json, write_json
from qwen25.runtime.log import logger
from qwen25.states.architecture import Architecture
from qwen25.states.jobs import WAVE_BYTES, Job

#: Part of a checkpoint's key: raise it with any change that can change a bit of the states.
CODE_VERSION = 2
#: Writing checkpoints takes at most about this share of the time.
CHECKPOINT_SHARE = 0.05
#: What a disk is taken to write in a second until it has been measured.
ASSUMED_WRITE_RATE = 200e6
#: How many rows are copied between memory and a file at a time.
COPY_ROWS = 4096


class Results:
    """The wanted layers' states, in memory or, with a checkpoint, in its folder.

    :ivar files: layer -> file; empty where they are kept in memory.
    """

    def __init__(self, job: Job, hidden: int, folder: Path | None) -> None:
        """Make room in memory; the files are made by ``create``, unless they are there."""
        self._shape = (job.tokens, hidden)
        self._arrays: dict[int, np.ndarray] = {}
        self.files: dict[int, Path] = {}
        if folder is None:
            self._arrays = {layer: np.empty(self._shape, dtype=np.float32) for layer in job.layers}
        else:
            self.files = {layer: folder / f"layer-{layer}.npy" for layer in job.layers}

    def create(self) -> None:
        """Make the files, each as long as it will be."""
        rows, hidden = self._shape
        for path in self.files.values():
            with _writing(path), path.open("wb") as file:
                file.truncate(_write_header(file, np.dtype(np.float32), self._shape) + rows * hidden * 4)

    def put(self, layer: int, rows: np.ndarray, states: torch.Tensor) -> None:
        """Store states, (sequences, hidden), as float32 in the rows given."""
        values = states.float().cpu().numpy()
        if not self.files:
            self._arrays[layer][rows] = values
            return
        # Written, not mapped: a mapping would count as memory, and a full disk would kill the process.
        path, size = self.files[layer], values[:1].nbytes
        values = np.ascontiguousarray(values)
        with _writing(path), path.open("r+b") as file:
            begin = path.stat().st_size - self._shape[0] * size
            cuts = np.flatnonzero(np.diff(rows) != 1) + 1
            for run, block in zip(np.split(rows, cuts), np.split(values, cuts), strict=True):
                file.seek(begin + int(run[0]) * size)
                file.write(_bytes(block))

    def sync(self) -> None:
        """Have everything on the disk."""
        for path in self.files.values():
            with _writing(path), path.open("r+b") as file:
                os.fsync(file.fileno())

    def arrays(self) -> dict[int, np.ndarray]:
        """Return layer -> states; those on disk are mapped, and cannot be changed."""
        mapped = {layer: np.load(path, mmap_mode="r").view(np.ndarray) for layer, path in self.files.items()}
        return mapped or self._arrays


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise PipelineError(
            f"cannot write the checkpoint {path.name}: {error.strerror}; free some space and run again, "
            "which goes on from the last layer that was saved"
        ) from error


class Place(NamedTuple):
    """Where a run goes on: before a layer of a wave, with the states in a file (None: the embedding)."""

    wave: int = 0
    layer: int = 0
    states: Path | None = None


@dataclass(frozen=True)
class Checkpointing:
    """Where a long run keeps what is done, so that it can go on there after it was cut off.

    :ivar resume: go on with what the folder holds; otherwise start anew.
    """

    folder: Path
    resume: bool = True


class Checkpoint:
    """A folder that a run can go on from: the states after a layer, the layers collected, a manifest.

    The manifest is replaced last, in one step, so that at any moment it names files that are whole.
    """

    def __init__(self, checkpointing: Checkpointing, key: str) -> None:
        """Use a folder for the run that ``key`` identifies."""
        self.folder, self.key = checkpointing.folder, key
        self._resume = checkpointing.resume
        self._manifest = self.folder / "manifest.json"
        self._saved = time.perf_counter()
        self._cost = 0.0

    def open(self, results: Results) -> Place:
        """Return where to go on.

        What does not belong to this run or is not whole is discarded, with one line in the log.
        """
        found = self._read() if self._resume else None
        if found is not None:
            return found
        discard_checkpoint(self.folder)
        with _writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        results.create()
        return Place()

    def _read(self) -> Place | None:
        if not self._manifest.exists():
            return None
        try:
            manifest = read_json(self._manifest)
            if manifest["key"] != self.key:
                raise ValueError("it is of another teacher, of other settings or of another number of threads")
            for name, size in manifest["files"].items():
                file = self.folder / Path(name).name
                if not file.is_file() or file.stat().st_size != size:
                    raise ValueError(f"{name} is missing or cut short")
            states = self.folder / Path(manifest["states"]).name if manifest["states"] else None
            return Place(int(manifest["wave"]), int(manifest["layer"]), states)
        except (InputError, KeyError, TypeError, ValueError, AttributeError) as error:
            logger.info("checkpoint %s is not used: %s; starting anew", self.folder.name, error)
            return None

    def due(self, size: int) -> bool:
        """Whether enough has been computed since the last save for one of ``size`` bytes to be cheap."""
        cost = self._cost or size / ASSUMED_WRITE_RATE
        return time.perf_counter() - self._saved >= cost / CHECKPOINT_SHARE

    def save(self, results: Results, wave: int, layer: int = 0, states: Sequence[torch.Tensor] = ()) -> None:
        """Have the run go on before ``layer`` of ``wave``, from ``states``, if it ends now.

        :raises PipelineError: if the disk is full; the last checkpoint stays.
        """
        started = time.perf_counter()
        results.sync()
        path = self.folder / f"states-{wave}-{layer}.npy" if states else None
        if path is not None:
            _write_states(path, states)
        files = [*results.files.values(), *([path] if path else [])]
        manifest = {
            "key": self.key,
            "wave": wave,
            "layer": layer,
            "states": path.name if path else None,
            "files": {file.name: file.stat().st_size for file in files},
        }
        write_json(self._manifest, manifest)
        for old in self.folder.glob("states-*.npy"):
            if old != path:
                old.unlink()
        self._saved = time.perf_counter()
        if states:
            self._cost = self._saved - started


def _bytes(array: np.ndarray) -> memoryview:
    """Return a contiguous array's memory, not a copy of it."""
    return memoryview(array.reshape(-1).view(np.uint8).data)


def _write_header(file: BinaryIO, dtype: np.dtype, shape: tuple[int, ...]) -> int:
    """Start an .npy file and return the header's length."""
    np.lib.format.write_array_header_1_0(file, {"descr": dtype.str, "fortran_order": False, "shape": shape})
    return file.tell()


def _write_states(path: Path, states: Sequence[torch.Tensor]) -> None:
    """Write float32 tensors one after another as one flat .npy file, atomically, without a copy of them in memory."""
    temporary = path.with_suffix(".tmp")
    with _writing(path), temporary.open("wb") as file:
        _write_header(file, np.dtype(np.float32), (sum(tensor.numel() for tensor in states),))
        for tensor in states:
            for part in tensor.split(COPY_ROWS):
                if part.numel():
                    file.write(_bytes(part.cpu().contiguous().numpy()))
        file.flush()
        os.fsync(file.fileno())
        temporary.replace(path)


def read_states(path: Path, states: Sequence[torch.Tensor]) -> None:
    """Fill tensors from the file that ``_write_states`` made of them."""
    flat = np.load(path, mmap_mode="r", allow_pickle=False)
    start = 0
    for tensor in states:
        for part in tensor.split(COPY_ROWS):
            stop = start + part.numel()
            part.copy_(torch.from_numpy(np.array(flat[start:stop])).view_as(part))
            start = stop


def discard_checkpoint(folder: Path) -> None:
    """Remove a checkpoint's files, and its folder if nothing else is in it."""
    manifest = folder / "manifest.json"
    manifest.unlink(missing_ok=True)  # first: without it the others are nothing
    for pattern in ("states-*.npy", "states-*.tmp", "layer-*.npy", ".manifest.json.*.tmp"):
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def run_key(architecture: Architecture, job: Job, weights_hash: str) -> str:
    """Return the SHA-256 over everything that determines a job's bytes, but for the machine itself."""
    digest = hashlib.sha256()
    facts = {
        "code": CODE_VERSION,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),  # in how many parts a sum is computed shows in its last bit
        "weights": weights_hash,
        "architecture": asdict(architecture),
        "prefix": list(job.prefix),
        "layers": list(job.layers),
        "device": job.computing.device.split(":")[0],
        "dtype": str(job.computing.dtype),
        "batches": [job.batch(architecture, group.ids.shape[1]) for group in job.groups],
        "wave_bytes": WAVE_BYTES,
        "groups": [list(group.ids.shape) for group in job.groups],
    }
    digest.update(json.dumps(facts, sort_keys=True, default=str).encode())
    for group in job.groups:
        digest.update(np.ascontiguousarray(group.rows, dtype=np.int64).tobytes())
        digest.update(np.ascontiguousarray(group.ids).tobytes())
    return digest.hexdigest()


def require_space(folder: Path, needed: int) -> None:
    """Check that ``needed`` bytes fit beside what is there, counting what the folder's own files will give back.

    :raises PipelineError: if they do not.
    """
    there = folder
    while not there.exists():
        there = there.parent
    own = sum(p.stat().st_size for pattern in ("states-*", "layer-*.npy") for p in folder.glob(pattern))
    free = shutil.disk_usage(there).free + own
    if free < needed:
        raise PipelineError(
            f"checkpoints need {needed:,} bytes ({needed / 1e9:.1f} GB) of disk and {free:,} are free: free some "
            "space, or give an --output on another disk"
        )
