"""Documented Python code: what a function does, and the function. It is parsed, never run."""

from __future__ import annotations

import ast
import textwrap
import warnings
import zipfile
from collections.abc import Iterator
from fnmatch import fnmatchcase

from qwen25.training.readers.wording import MAX_LENGTH, Row, is_sentence


def read_code(wheel: zipfile.ZipFile, members: str) -> Iterator[Row]:
    """Yield the first paragraph of each docstring with the function that it describes, without the docstring.

    :param members: which modules are read; those of tests never are.
    """
    for name in sorted(wheel.namelist()):
        if fnmatchcase(name, members) and "/tests/" not in name:
            source = wheel.read(name).decode(errors="replace")
            for node in _functions(source):
                summary = " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
                if is_sentence(summary) and len(node.body) > 1:
                    yield {"a": summary, "b": _code(source, node), "lang": "en-python"}


def _functions(source: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield the functions of a module; none of one that this Python's parser does not know."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of their escapes
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _code(source: str, node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    lines = source.split("\n")
    head = lines[node.lineno - 1 : node.body[0].lineno - 1]
    return textwrap.dedent("\n".join(head + lines[node.body[1].lineno - 1 : node.end_lineno]))[:MAX_LENGTH]
