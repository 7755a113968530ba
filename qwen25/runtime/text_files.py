"""Text files that people bring: any line ends, compressed or not, and refused in one line where they are no UTF-8."""

from __future__ import annotations

import codecs
import gzip
import hashlib
import io
import re
import zlib
from pathlib import Path
from typing import NamedTuple

from qwen25.runtime.errors import InputError
from qwen25.runtime.files import require_regular

#: A gzip file of this many times its size is none of text.
_MOST_INFLATED = 200
_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


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
    require_regular(path, or_pipe=True)
    try:
        content = path.read_bytes()  # once: a pipe is empty then
    except OSError as error:
        raise InputError(f"cannot read the {what} {path}: {error.strerror}") from error
    digest = hashlib.sha256(content).hexdigest()
    if content.startswith(b"\x1f\x8b"):
        content = _inflated(content, f"the {what} {path}")
    content = content.removeprefix(codecs.BOM_UTF8)
    if found := next((name for mark, name in _MARKS.items() if content.startswith(mark)), None):
        raise InputError(f"the {what} {path} is {found}: save it as UTF-8")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"the {what} {path} is not UTF-8 (line {line}): save it as UTF-8") from error
    if "\0" in text:
        raise InputError(f"the {what} {path} is no text file, or UTF-16 without its mark: save it as UTF-8")
    return TextFile(re.split(r"\r\n|\n|\r", text), digest)


def _inflated(content: bytes, what: str) -> bytes:
    most = _MOST_INFLATED * len(content)
    try:
        with gzip.open(io.BytesIO(content)) as file:
            text = file.read(most + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{what} is a damaged gzip file: give it as plain text") from error
    if len(text) > most:
        raise InputError(f"{what} inflates to more than {_MOST_INFLATED} times its size: give it as plain text")
    return text
