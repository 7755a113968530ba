"""Output folders: one run at a time, replaced whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from qwen25.runtime.errors import InputError, PipelineError
from qwen25.runtime.log import logger


def beside(folder: Path, kind: str) -> Path:
    """Return where something of ``kind`` that belongs to an output folder lies until the folder is whole."""
    folder = folder.resolve()  # "." has no name, and what a link leads to is replaced, not the link
    return folder.with_name(f".{folder.name}.{kind}")


def require_text(path: str) -> None:
    """Refuse a path that is no UTF-8: the libraries that read and write models take no other.

    :raises InputError: if it is none.
    """
    try:
        path.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(f"the path {path!a} is not UTF-8: rename it, or set LC_ALL=C.UTF-8") from error


def check_output(folder: Path, overwrite: bool) -> None:
    """Refuse an output folder that holds something, unless that is a model that may be overwritten.

    :raises InputError: if it may not be used.
    """
    require_text(str(folder.resolve()))
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file: give a folder as --output")
    if os.path.ismount(folder.resolve()):
        raise InputError(f"{folder} is a mount point, which cannot be replaced: give a folder in it as --output")
    if folder.is_dir() and any(folder.iterdir()):
        if not overwrite:
            raise InputError(f"{folder} already holds files: add --overwrite to replace them, or give another --output")
        if not (folder / "model.safetensors").is_file():
            raise InputError(f"{folder} holds files, but no model: --overwrite replaces models; give another --output")
    parent = next(p for p in folder.absolute().parents if p.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise InputError(f"cannot write into {parent}: give another --output")


@dataclass(frozen=True)
class OutputFolder:
    """An output folder that this run has for itself: see :func:`output_folder`.

    :ivar path: where it is, or will be.
    :ivar check: refuses it if what it holds may not be replaced.
    """

    path: Path
    check: Callable[[Path], None]

    def beside(self, kind: str) -> Path:
        """Return where something of ``kind`` that belongs to the folder lies until the folder is whole."""
        return beside(self.path, kind)

    @contextlib.contextmanager
    def replaced(self) -> Iterator[Path]:
        """Yield a new folder to write into, which takes the place of the old one if the block ends well.

        However block, process or machine end, the place holds what it held or what is new, whole. There is one
        exception: a process that is killed between the two renames leaves nothing there and the old folder
        beside it, from where the next run's :func:`output_folder` puts it back.

        :raises InputError: if what the folder holds by now may not be replaced.
        :raises PipelineError: if it cannot be written.
        """
        folder = self.path.resolve()  # "." is another place when its folder has been moved
        recover(folder)
        self.check(self.path)  # hours may have passed
        new = beside(folder, "new")
        try:
            new.parent.mkdir(parents=True, exist_ok=True)
            beside(folder, "replacing").touch()
            new.mkdir()
            yield new
            for path in filter(Path.is_file, new.rglob("*")):
                with path.open("rb") as file:
                    os.fsync(file.fileno())
            if folder.exists():
                folder.replace(beside(folder, "old"))
            new.replace(folder)
        except OSError as error:
            raise PipelineError(
                f"cannot write {folder}: {error.strerror or error}; free some space and run again"
            ) from error
        finally:
            _recover(folder)


@contextlib.contextmanager
def output_folder(path: Path, check: Callable[[Path], None]) -> Iterator[OutputFolder]:
    """Have an output folder for this run alone, in the state in which the last whole run left it.

    >>> with output_folder(path, check) as output:    # locked; what a killed run moved aside is back
    ...     work(output.beside("states"))
    ...     with output.replaced() as new:            # takes the place of the old one if all goes well
    ...         write_into(new)

    :param check: called with ``path`` before anything is done, and again whenever it may have changed; raises
        InputError if what is there may not be replaced.
    :raises InputError: if the folder may not be replaced, or something that is no run's lies where a run would write.
    :raises PipelineError: if another process is at work on it.
    """
    check(path)  # before a lock is left in a place that was not meant
    with held(beside(path, "lock"), str(path)):
        recover(path)
        check(path)  # what has come back may be something else
        yield OutputFolder(path, check)


def recover(folder: Path) -> None:
    """Put back what a run moved aside and did not replace, and remove what else it left.

    :raises InputError: if something that is not a run's lies where a run would write.
    """
    _recover(folder)
    for path in (beside(folder, "new"), beside(folder, "old")):
        if os.path.lexists(path):
            raise InputError(f"{path} lies where this writes, and may be yours: move it away, or remove it")


def _recover(folder: Path) -> None:
    new, old, mark = (beside(folder, kind) for kind in ("new", "old", "replacing"))
    # Earlier versions left no mark; what they moved aside was always a model.
    if old.is_dir() and not folder.exists() and (mark.exists() or (old / "model.safetensors").is_file()):
        old.replace(folder.resolve())
        logger.warning("%s is back: a run was stopped while it replaced it", folder)
    if not mark.exists():
        return  # what else lies there is no run's
    try:
        for left in (new, old):
            shutil.rmtree(left, ignore_errors=True)
    finally:
        if not (os.path.lexists(new) or os.path.lexists(old)):
            mark.unlink()


#: What ``flock`` fails with where a file system has no locks, as on some clusters.
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


@contextlib.contextmanager
def held(path: Path, what: str) -> Iterator[None]:
    """Hold the lock file ``path`` while the block runs, and remove it then.

    What counts is the kernel's lock on the file (flock), not that the file is there: the lock goes with
    its process, however that ends. What a killed run left is simply taken over, and no later process
    with the same number is taken for it. The number inside only tells a refused run whom it met.

    :param what: what the run works on, for the refusal.
    :raises InputError: if the file cannot be made.
    :raises PipelineError: if another process holds it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _locked(path, what)
    except OSError as error:
        raise InputError(f"cannot write into {path.parent}: {error.strerror}; give another --output") from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # before it is let go of: the next holder's file is another
        os.close(descriptor)


def _locked(path: Path, what: str) -> int:
    """Return the descriptor of the lock file, locked, with this process's number in it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _lock(descriptor, what)
            # Its last holder may have removed the file since it was opened: then its name is free for others.
            if _is_at(path, descriptor):
                os.ftruncate(descriptor, 0)
                os.write(descriptor, str(os.getpid()).encode())
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _lock(descriptor: int, what: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        process = os.read(descriptor, 20).decode(errors="replace") or "unknown"
        raise PipelineError(
            f"another run, process {process}, is at work on {what}: wait for it, or give another --output"
        ) from error
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        logger.warning("the file system of %s has no locks: start no second run on it", what)


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
