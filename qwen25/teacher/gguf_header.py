"""A GGUF file's header, checked before gguf's reader takes it.

That reader believes every count and length in the header: one of 2^62 would keep it reading for ever. Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import mmap
import re
import struct
from pathlib import Path

from qwen25.runtime.errors import InputError

#: Type of a value -> its struct format; strings and arrays are apart.
_SCALARS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True))
_STRING, _ARRAY = 8, 9


def check_header(path: Path) -> None:
    """Refuse a GGUF file whose header speaks of more than the file holds, or of a model that cannot be read.

    :raises InputError: if the file is damaged, a part of a split one, or has a SentencePiece vocabulary.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            _walk(content, path.name)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{path.name} is damaged ({reason}): fetch it again") from error


class _Cursor:
    """Goes through a file's bytes and never beyond their end, so that every loop over it ends."""

    def __init__(self, content: mmap.mmap) -> None:
        self.order = "<"
        self._content = content
        self.at = 0

    def skip(self, size: int) -> int:
        """Go on by ``size`` bytes; return where they began."""
        start = self.at
        self.at += size
        if self.at > len(self._content):
            raise ValueError("it ends before what its header announces")
        return start

    def number(self, form: str) -> int:
        form = self.order + form
        return struct.unpack_from(form, self._content, self.skip(struct.calcsize(form)))[0]

    def string(self) -> bytes:
        length = self.number("Q")
        start = self.skip(length)
        return self._content[start : start + length]

    def value(self, kind: int) -> int | bytes | None:
        """Return a scalar or a string; go past an array."""
        if kind in _SCALARS:
            return self.number(_SCALARS[kind])
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY:
            raise ValueError(f"its header has a value of the unknown type {kind}")
        inner, count = self.number("I"), self.number("Q")
        if inner in _SCALARS:
            self.skip(count * struct.calcsize("<" + _SCALARS[inner]))
        elif inner == _STRING:
            for _ in range(count):
                self.string()
        else:  # arrays in arrays are of the format, but of no model
            raise ValueError(f"its header has an array of the unknown type {inner}")
        return None


def _walk(content: mmap.mmap, name: str) -> None:
    from gguf import GGML_QUANT_SIZES

    cursor = _Cursor(content)
    if cursor.skip(4) or content[:4] != b"GGUF":
        raise ValueError("it is no GGUF file")
    version = cursor.number("I")
    if not version & 0xFFFF:  # of a machine of the other byte order
        cursor.order = ">"
    tensors, values = cursor.number("Q"), cursor.number("Q")
    layers, alignment = 0, 32
    for _ in range(values):
        key = cursor.string()
        value = cursor.value(cursor.number("I"))
        if key.endswith(b".block_count") and isinstance(value, int):
            layers = value or layers
        elif key == b"general.alignment" and isinstance(value, int):
            alignment = value or alignment
        elif key == b"split.count" and isinstance(value, int) and value > 1:
            raise InputError(
                f"{name} is one of the {value} parts of a split file: join them with llama.cpp's "
                "llama-gguf-split --merge FIRST-PART JOINED.gguf, and give the joined file"
            )
        elif key == b"tokenizer.ggml.model" and value != b"gpt2":
            kind = value.decode(errors="replace") if isinstance(value, bytes) else value
            raise InputError(
                f"{name} has a vocabulary of the kind {kind!r}, and GGUF files are read with byte-level BPE ('gpt2') "
                "alone: take the same model's folder with safetensors weights"
            )
    there, end = set(), 0
    for _ in range(tensors):
        tensor = cursor.string()
        shape = [cursor.number("Q") for _ in range(cursor.number("I"))]
        kind, offset = cursor.number("I"), cursor.number("Q")
        if kind not in GGML_QUANT_SIZES:
            raise ValueError(f"its tensors have the unknown type {kind}")
        numbers, size = GGML_QUANT_SIZES[kind]  # of a block
        end = max(end, offset + math.prod(shape) // numbers * size)
        if found := re.match(rb"blk\.(\d+)\.", tensor):
            there.add(int(found[1]))
    cursor.skip(-cursor.at % alignment + end)
    if layers - 1 > max(there, default=-1):
        raise ValueError(f"its header counts {layers} layers, its tensors {len(there)}")
