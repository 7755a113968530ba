"""Single files, read with checks and written whole or not at all."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from qwen25.runtime.errors import InputError, PipelineError


def sha256(paths: Iterable[Path]) -> str:
    """Return the SHA-256 of the files' contents, one after another in the order given."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def check_file(path: Path) -> None:
    """Refuse a path at which no file can be written, before the work whose result it is for.

    :raises InputError: if there is something else than a file, or the place for it cannot be written to.
    """
    target = path.resolve()  # what a link leads to is replaced
    if path.is_dir():
        raise InputError(f"{path} is a folder: give a file")
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is a device or a pipe, which a file would replace: give a file")
    parent = next(p for p in target.parents if p.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise InputError(f"cannot write into {parent}: give another path")
    if len(os.fsencode(_temporary(target).name)) > os.pathconf(parent, "PC_NAME_MAX"):
        raise InputError(f"the name {target.name} is too long: give a shorter one")


def require_regular(path: Path, or_pipe: bool = False) -> None:
    """Refuse to read a pipe or a device, which may never end; what is not there is for the reader to say.

    :param or_pipe: take a pipe: a shell gives one for ``<(command)``.
    :raises InputError: if ``path`` is there and is no file.
    """
    if path.exists() and not path.is_dir() and not path.is_file() and not (or_pipe and path.is_fifo()):
        raise InputError(f"{path} is a pipe or a device: give a file")


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` as ``write_files`` does."""
    write_files({path: content})


def write_files(contents: Mapping[Path, bytes | str]) -> None:
    """Write files that belong together atomically: each is the old one or the whole new one; text is in UTF-8.

    Every new file is written in full before the first old one is replaced. Only a run that is stopped between the
    renames leaves a mixture: the first of ``contents`` are new then, the last still old.
    What processes that were killed while they wrote left beside them is removed.

    :raises PipelineError: if one cannot be written (no space, no right).
    """
    contents = {path.resolve(): content for path, content in contents.items()}  # a link's target, not the link
    temporaries = {path: _temporary(path) for path in contents}
    try:
        for path, content in contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
                if not _is_alive(left.name.split(".")[-2]):
                    left.unlink(missing_ok=True)
            with temporaries[path].open("wb") as file:
                # A file's name on a command line may hold bytes that are no character.
                file.write(content.encode(errors="backslashreplace") if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
        for path, temporary in temporaries.items():
            temporary.replace(path)
    except OSError as error:
        raise PipelineError(f"cannot write {path}: {error.strerror}; free some space or choose another path") from error
    finally:
        for temporary in temporaries.values():
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)  # there if it failed or was interrupted


def _temporary(path: Path) -> Path:
    """Return where this process writes a file until it is whole."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def _is_alive(number: str) -> bool:
    """Whether there is a process of this number; True for what is no number."""
    try:
        os.kill(int(number), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except (PermissionError, ValueError):
        pass
    return True


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` as ``write_files`` does."""
    write_files({path: text})


def write_json(path: Path, data: Any) -> None:
    """Write ``data`` as JSON, atomically; NaN and infinity are refused because JSON has neither.

    :raises PipelineError: if the file cannot be written.
    :raises ValueError: if ``data`` holds a number that is not finite.
    """
    write_text(path, json_text(data))


def json_text(data: Any) -> str:
    """Return what ``write_json`` writes.

    :raises ValueError: if ``data`` holds a number that is not finite.
    """
    return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_json(path: Path) -> Any:
    """Read a JSON file.

    :raises InputError: if it does not exist or is not JSON; NaN and infinity are not.
    """
    require_regular(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number)
    except FileNotFoundError as error:
        raise InputError(f"no such file: {path}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON: {error}") from error


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number in JSON")
