"""Result files, checked on reading against their JSON Schemas."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from qwen25.runtime.errors import InputError
from qwen25.runtime.files import read_json
from qwen25.runtime.resources import resource

SCHEMAS = resource("docs/schema")
#: Messages quote the value that is wrong, which may be a whole result.
LONGEST_MESSAGE = 120


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
    from jsonschema.exceptions import best_match

    error = best_match(_validator(schema).iter_errors(result))
    if error is None:
        return None
    place = ".".join(map(str, error.absolute_path))
    message = " ".join(error.message.split())
    if len(message) > LONGEST_MESSAGE:
        message = f"breaks the schema's {error.validator!r}"
    return f"{place}: {message}" if place else message


@cache
def _validator(schema: str) -> Any:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(read_json(SCHEMAS / f"{schema}.schema.json"))
