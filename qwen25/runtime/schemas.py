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


def read_result(path: Path, schema: str, advice: str) -> Any:
    """Read a result file that a phase wrote.

    :param schema: the name of its schema, such as ``evaluation``.
    :param advice: what to do about a file of another version.
    :raises InputError: if the file is missing, is not JSON, or is not what the schema says.
    """
    result = read_json(path)
    if fault := schema_fault(result, schema):
        raise InputError(f"{path} is not of this version ({fault}): {advice}")
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
