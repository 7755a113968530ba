"""One run at a time on an output folder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from qwen25.console import InputError, PipelineError, logger

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
