"""A user's own texts."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

from qwen25.runtime.errors import InputError
from qwen25.runtime.files import require_regular


class Corpus(NamedTuple):
    """A user's own texts.

    :ivar sha256: of the bytes that they were read from.
    """

    texts: list[str]
    sha256: str


def read_corpus(path: Path) -> Corpus:
    """Read a user's own texts, one a line.

    :raises InputError: if the file cannot be read or holds no text.
    """
    require_regular(path, or_pipe=True)
    try:
        content = path.read_bytes()  # once: a pipe is empty then
        lines = [line.strip() for line in content.decode("utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the corpus {path}: {error}") from error
    texts = [line for line in lines if line]
    if not texts:
        raise InputError(f"the corpus {path} holds no text: it needs one a line")
    return Corpus(texts, hashlib.sha256(content).hexdigest())
