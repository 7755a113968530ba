"""Output folders: one run at a time, replaced whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from qwen25.runtime.errors import InputError, PipelineError, logger
from qwen25.runtime.files import check_parent


def beside(folder: Path, kind: str) -> Path:
    """Return the sibling path for something of ``kind`` that belongs to an output folder: ``.NAME.KIND``."""
    folder = folder.resolve()  # "." has no name, and a link's target is replaced, not the link
    return folder.with_name(f".{folder.name}.{kind}")


def check_output(folder: Path, overwrite: bool) -> None:
    """Raise InputError unless an output folder is empty, or holds a model that may be overwritten."""
    check_parent(folder)
    holds_files = folder.is_dir() and any(folder.iterdir())
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file, which cannot be replaced: give another --output")
    if holds_files and not overwrite:
        raise InputError(f"{folder} already holds files: add --overwrite to replace them, or give another --output")
    if holds_files and not (folder / "model.safetensors").is_file():
        raise InputError(f"{folder} holds files, but no model: give another --output")


@contextlib.contextmanager
def locked(path: Path, wait: bool = False, advice: str = "give another --output") -> Iterator[None]:
    """Hold the lock of a file or folder while the block runs; a killed process's lock goes with it.

    :param wait: wait for a run that holds it, and say so.
    :param advice: what to do if the lock cannot be had, for the message.
    :raises PipelineError: if another run holds it and ``wait`` is false; InputError if it cannot be made.
    """
    place = beside(path, "lock")
    lock = FileLock(place)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            if not wait:
                raise PipelineError(f"another run is at work on {path}: wait for it, or {advice}") from error
            logger.info("    another run is at work on %s: waiting for it", path.name)
            lock.acquire()
    except OSError as error:
        raise InputError(f"cannot write into {place.parent}: {error.strerror}; {advice}") from error
    try:
        yield
    finally:
        # While it is held: who waits for it notices, and makes the file anew.
        with contextlib.suppress(OSError):
            place.unlink()
        lock.release()


@contextlib.contextmanager
def replaced(folder: Path, check: Callable[[Path], None]) -> Iterator[Path]:
    """Yield a new folder to write into, which takes the place of the old one if the block ends well.

    However block or process end, the place holds the old folder or the whole new one. A process that is killed
    between the two renames leaves the old one beside the place, from where :func:`restore` puts it back.

    :param check: called with ``folder`` right before the work; raises InputError if its content may not be replaced.
    :raises PipelineError: if it cannot be written.
    """
    folder = folder.resolve()
    restore(folder)
    check(folder)
    new, old = beside(folder, "new"), beside(folder, "old")
    try:
        new.mkdir(parents=True)
        yield new
        for path in filter(Path.is_file, new.rglob("*")):
            with path.open("rb+") as file:
                os.fsync(file.fileno())
        if folder.exists():
            folder.replace(old)
        new.replace(folder)
    except OSError as error:
        reason = error.strerror or error
        raise PipelineError(f"cannot write {folder}: {reason}; free some space and run again") from error
    finally:
        restore(folder)


def restore(folder: Path) -> None:
    """Undo an unfinished replacement: put the old folder back, delete leftovers."""
    new, old = beside(folder, "new"), beside(folder, "old")
    if old.is_dir() and not folder.exists():
        old.replace(folder.resolve())
        logger.warning("%s is back: a run was stopped while it replaced it", folder)
    shutil.rmtree(new, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
