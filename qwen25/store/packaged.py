"""Models and pairs that lie inside wheels of a package index: fetched once into a cache folder and checked.

pip fetches the wheels, with whatever its own environment variables say. They are never installed and nothing in
them is run: a wheel is a zip archive, and only the wanted members are read out of it. Where a user has installed one
with pip, its files are taken from there. Where the index fails, a model's files are taken from its repository on the
hub: the same bytes, or they are refused as well.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from qwen25.runtime.display import progress
from qwen25.runtime.errors import PipelineError, first_line, logger
from qwen25.runtime.files import read_json, resource, sha256
from qwen25.runtime.folders import beside, locked
from qwen25.runtime.text import size_text
from qwen25.store.hub import ask

_OTHER_CACHE = "set QWEN25_CACHE to another folder"
#: Teachers of the hub whose weights are Apache-2.0.
APACHE_TEACHERS = {"Qwen/Qwen2.5-0.5B-Instruct", "Qwen/Qwen2.5-1.5B-Instruct", "Qwen/Qwen2.5-7B-Instruct"}
#: What reading a damaged archive raises. RuntimeError: a password; NotImplementedError (one too): an unknown packing.
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, FileNotFoundError)


class PackagedFile(NamedTuple):
    """A file of a packaged model.

    :ivar sha256: of the whole file, as in the official release.
    :ivar wheel: the requirement of its parts' wheels; ``{}`` stands for the part's number, from 1.
    :ivar member: the parts' path inside their wheels; ``{}`` as well.
    :ivar sizes: of its parts, in bytes.
    """

    path: str
    sha256: str
    wheel: str
    member: str
    sizes: Sequence[int]


class PackagedModel(NamedTuple):
    """A model that package indexes carry: the hub ``repository`` has the same files, at ``revision``.

    :ivar base_model: the hub repository of the model that was packed into them.
    """

    repository: str
    revision: str
    licence: str
    files: tuple[PackagedFile, ...]
    base_model: str = ""

    @property
    def size(self) -> int:
        """All files' bytes."""
        return sum(sum(file.sizes) for file in self.files)

    @property
    def parts(self) -> list[tuple[str, str, int, str]]:
        """The files' parts in order: the requirement of its wheel, the path in there, its bytes, the file's path."""
        numbered = [(file, *part) for file in self.files for part in enumerate(file.sizes, 1)]
        return [(file.wheel.format(n), file.member.format(n), size, file.path) for file, n, size in numbered]


#: What ``--teacher`` and the SPECs of the comparison take by name.
PACKAGED = {
    name: PackagedModel(**{**facts, "files": tuple(PackagedFile(**file) for file in facts["files"])})
    for name, facts in read_json(resource("data") / "packaged_models.json").items()
}


def described() -> str:
    """Return the packaged names, each with its size and licence, for ``--help``."""
    return ", ".join(f"{name} ({size_text(model.size)}, {model.licence})" for name, model in PACKAGED.items())


def licence_of(teacher: str) -> str:
    """Return the licence of a teacher's weights, which its static model inherits; ``other`` if it is not known."""
    packaged = {name for name, model in PACKAGED.items() if model.licence == "Apache-2.0"}
    return "apache-2.0" if teacher in packaged | APACHE_TEACHERS else "other"


def cache_folder() -> Path:
    """Return the cache's folder: ``$QWEN25_CACHE``, or one in the user's cache folder."""
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("QWEN25_CACHE") or f"{caches}/qwen25-deposium").expanduser().absolute()


def packaged_path(name: str, offline: bool = False) -> Path:
    """Return where the packaged model ``name`` lies on this disk, after fetching it if it is not there yet.

    :param offline: fetch nothing: it is in the cache, or its wheels are installed.
    :return: the GGUF file, or the folder of a model of several files.
    :raises PipelineError: if it cannot be fetched.
    """
    model = PACKAGED[name]
    offline = offline and not all(_installed(requirement) for requirement, *_ in model.parts)
    folder = cache_folder() / name
    _keep(folder, name, lambda: is_complete(folder, model), lambda: _fetch_model(name, model, folder), offline)
    return folder / model.files[0].path if len(model.files) == 1 else folder


def is_complete(folder: Path, model: PackagedModel) -> bool:
    """Whether a folder holds all files at their full size; their hashes were checked when they came."""
    sizes = {folder / file.path: sum(file.sizes) for file in model.files}
    return all(path.is_file() and path.stat().st_size == size for path, size in sizes.items())


def _keep(place: Path, what: str, is_there: Callable[[], bool], fetch: Callable[[], None], offline: bool) -> None:
    """Have something in its place in the cache; two runs at once fetch it once.

    :raises PipelineError: if it is not there offline, cannot be fetched, or cannot be written.
    """
    if is_there():
        return
    if offline:
        raise PipelineError(f"{what} is not in {place.parent}: run once without --offline, which fetches it")
    try:
        with locked(place, wait=True, advice=_OTHER_CACHE):
            if not is_there():  # by the run that this one waited for
                fetch()
    except OSError as error:
        how = f"({error.strerror or first_line(error)}): free some space, or {_OTHER_CACHE}"
        raise PipelineError(f"{what} cannot be kept in {place.parent} {how}") from error


def _fetch_model(name: str, model: PackagedModel, folder: Path) -> None:
    """Fetch a model's files into a folder beside ``folder``, check their hashes and rename it."""
    joined = beside(folder, "partial")
    logger.info("    %s is fetched once: %s into %s", name, size_text(model.size), folder)
    try:
        _join_wheels(name, model, joined)
    except PipelineError as error:
        elsewhere = f"the hub's {model.repository}, revision {model.revision}"
        logger.warning("%s; taking the same files from %s", error, elsewhere)
        try:
            _fetch_from_hub(name, model, joined)
        except PipelineError as second:
            raise PipelineError(f"{error}; nor does {elsewhere}, help: {second}") from second
    shutil.rmtree(folder, ignore_errors=True)  # damaged
    joined.replace(folder)


def _fetch_from_hub(name: str, model: PackagedModel, folder: Path) -> None:
    """Download a model's files from the hub; an interrupted download resumes within the file."""
    from huggingface_hub import hf_hub_download

    for file in model.files:
        fetch = partial(hf_hub_download, model.repository, file.path, revision=model.revision, local_dir=folder)
        ask(model.repository, model.revision, fetch)
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # the client's notes
    _check_files(name, model, folder)


def _check_files(name: str, model: PackagedModel, folder: Path) -> None:
    for file in model.files:
        if sha256([folder / file.path]) != file.sha256:
            shutil.rmtree(folder)
            what = f"{name}: {file.path} is not the official release's (its sha256 differs) and was removed"
            raise PipelineError(f"{what}: run again to fetch it anew")


def _join_wheels(name: str, model: PackagedModel, folder: Path) -> None:
    """Join the parts of a model's files that its wheels hold; of a part no more is read than its declared bytes."""
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
    for requirement, inside in itertools.groupby(model.parts, lambda part: part[0]):
        logger.info("    %s", requirement)
        try:
            with _wheel(requirement, folder.with_suffix(".wheel")) as wheel:
                for _, member, size, path in inside:
                    with (wheel / member).open("rb") as source:
                        content = source.read(size + 1)
                    if len(content) != size:
                        raise zipfile.BadZipFile(f"{member} has not {size:,} bytes")
                    (folder / path).parent.mkdir(parents=True, exist_ok=True)
                    with (folder / path).open("ab") as target:
                        target.write(content)
        except _ZIP_ERRORS as error:
            what = f"{name}: {requirement} of the package index is damaged"
            raise PipelineError(f"{what} ({first_line(error)})") from error
    _check_files(name, model, folder)


def _installed(requirement: str) -> Path | None:
    """Return the folder into which pip unpacked a wheel of this exact version, or None."""
    name, _, version = requirement.partition("==")
    found = next(iter(metadata.distributions(name=name)), None)
    return Path(str(found.locate_file(""))) if found and found.version == version else None


@contextlib.contextmanager
def _wheel(requirement: str, scratch: Path) -> Iterator[Path | zipfile.Path]:
    """Yield the top of a wheel's files: as pip unpacked an installed one, else inside the archive that it downloads."""
    if found := _installed(requirement):
        yield found
    else:
        with _downloaded(requirement, scratch) as path, zipfile.ZipFile(path) as archive:
            yield zipfile.Path(archive)


@contextlib.contextmanager
def _downloaded(requirement: str, scratch: Path) -> Iterator[Path]:
    """Have pip download one wheel, yield its path and remove it."""
    shutil.rmtree(scratch, ignore_errors=True)  # of a run that was killed
    scratch.mkdir(parents=True)
    command = [sys.executable, "-I", "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-cache-dir"]
    command += ["--ignore-requires-python", "--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
    try:
        with progress(requirement):
            how: dict[str, Any] = {"capture_output": True, "text": True, "errors": "replace", "check": False}
            done = subprocess.run([*command, "--dest", str(scratch), requirement], **how)  # noqa: S603, no user's word
        found = list(scratch.glob("*.whl"))
        if done.returncode != 0 or len(found) != 1:
            said = done.stderr.strip().splitlines() or ["no reason"]
            reason = next((line for line in said if "rror" in line), said[-1])[:200]
            raise PipelineError(
                f"pip cannot fetch {requirement} ({reason}): check the network and pip's settings (PIP_INDEX_URL, "
                "PIP_PROXY) and run again"
            )
        yield found[0]
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def opened_wheel(requirement: str, digest: str, offline: bool = False) -> Iterator[zipfile.ZipFile]:
    """Open a wheel to read its members, after fetching it if it is not there yet; its hash is checked each time.

    :param requirement: the package and its exact version, as pip is asked for it.
    :param digest: the wheel's SHA-256.
    :raises PipelineError: if it cannot be fetched, or is another.
    """
    path = cache_folder() / "wheels" / f"{requirement.replace('==', '-')}.whl"

    def fetch() -> None:
        logger.info("    %s is fetched once into %s", requirement, path.parent)
        with _downloaded(requirement, beside(path, "wheel")) as fetched:
            if sha256([fetched]) != digest:
                what = "of the package index is not the wheel that was declared (its sha256 differs)"
                raise PipelineError(f"{requirement} {what}: leave it out by another --pairs")
            fetched.replace(path)

    _keep(path, requirement, lambda: path.is_file() and sha256([path]) == digest, fetch, offline)
    with zipfile.ZipFile(path) as archive:
        yield archive
