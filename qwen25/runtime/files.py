"""Files: the project's own data, results checked against their schemas, text that people bring, atomic writes."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import re
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from qwen25.runtime.errors import InputError, PipelineError


def sha256(paths: Iterable[Path]) -> str:
    """Return the SHA-256 of the files' contents, one after another."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def check_file(path: Path) -> None:
    """Raise InputError if no file can be written at a path, before the work whose result it is for."""
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is no file that can be replaced: give a file")
    check_parent(path)


def check_parent(path: Path) -> None:
    """Raise InputError if nothing can be made at a path, for want of the right to write into the folder there is."""
    parent = next(folder for folder in path.resolve().parents if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise InputError(f"cannot write into {parent}: give another --output")


def write_files(contents: Mapping[Path, bytes | str]) -> None:
    """Write files that belong together atomically: each is the old one or the whole new one; text is in UTF-8.

    Every new file is written in full before the first old one is replaced. Only a run that is killed between the
    renames leaves a mixture: the first of ``contents`` are new then, the last still old.

    :raises PipelineError: if one cannot be written (no space, no right).
    """
    contents = {path.resolve(): content for path, content in contents.items()}  # a link's target, not the link
    temporaries = {path: path.with_name(f".{path.name}.{os.getpid()}.tmp") for path in contents}
    try:
        for path, content in contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
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


def write_json(path: Path, data: Any) -> None:
    """Write ``json_text`` to ``path`` as ``write_files`` does."""
    write_files({path: json_text(data)})


def json_text(data: Any) -> str:
    """Return ``data`` as JSON; raises ValueError for NaN and infinity, because JSON has neither."""
    return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_json(path: Path) -> Any:
    """Read a JSON file; raises InputError if there is none, or it is not JSON, which NaN and infinity are not."""
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON: {error}") from error


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number in JSON")


_PACKAGE = Path(__file__).resolve().parents[1]
#: The folder of the checkout, if the package was not installed elsewhere.
CHECKOUT = _PACKAGE.parent


def resource(name: str) -> Path:
    """Return the path of a folder that comes with the package: ``data/evaluation``, or ``examples``."""
    # Installed, the examples are a part of the package's data; in a checkout they lie at its top.
    installed = _PACKAGE / "data" / name if name == "examples" else _PACKAGE / name
    return installed if installed.is_dir() else CHECKOUT / name


def read_result(path: Path, schema: str, command: str) -> Any:
    """Read a result file that a phase wrote.

    :param schema: the name of its schema, such as ``evaluation``.
    :param command: the one that makes it.
    :raises InputError: if the file is missing, is not JSON, or is not what the schema says.
    """
    if not path.exists():
        raise InputError(f"no such file: {path}", f"make it with {command}")
    result = read_json(path)
    if fault := schema_fault(result, schema):
        raise InputError(f"{path} is not of this version ({fault})", f"make it anew with {command}")
    return result


def schema_fault(result: Any, schema: str) -> str | None:
    """Return the first thing in which a result differs from its schema, in one line; None if it does not."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    validator = Draft202012Validator(read_json(resource("data/schema") / f"{schema}.schema.json"))
    error = best_match(validator.iter_errors(result))
    if error is None:
        return None
    # The message quotes the value that is wrong, which may be a whole result.
    message = error.message if len(error.message) <= 120 else f"breaks the schema's {error.validator!r}"
    return ": ".join([".".join(map(str, error.absolute_path)), message]).removeprefix(": ")


class TextFile(NamedTuple):
    """A text file's lines.

    :ivar lines: without their ends, empty ones too. Only line feeds and carriage returns end a line: other
        separators, such as U+2028, are characters of it.
    :ivar sha256: of the bytes in the file.
    """

    lines: list[str]
    sha256: str


def read_lines(path: Path, what: str) -> TextFile:
    """Read the lines of a text file in UTF-8, with or without a byte order mark; gzip is inflated.

    :param what: what the file is, for messages.
    :raises InputError: if it cannot be read, or is no text in UTF-8.
    """
    try:
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        if content.startswith(b"\x1f\x8b"):
            most = 200 * len(content)  # what inflates to more is no text
            with gzip.open(io.BytesIO(content)) as file:
                content = file.read(most + 1)
            if len(content) > most:
                raise InputError(f"the {what} {path} inflates to more than 200 times its size")
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"the {what} {path} is not UTF-8 (line {line}): save it as UTF-8") from error
    except (OSError, EOFError, zlib.error) as error:  # the last two are gzip's
        raise InputError(f"cannot read the {what} {path}: {error}") from error
    return TextFile(re.split(r"\r\n|\n|\r", text), digest)
