"""Text files as people have them."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from qwen25.runtime.errors import InputError
from qwen25.runtime.text_files import read_lines

LINES = ["naïve café", "", "数学 🎬", "one\u2028line"]


@pytest.mark.parametrize(
    "content",
    [
        "\n".join(LINES).encode(),
        "\r\n".join(LINES).encode(),
        "\r".join(LINES).encode(),
        "\n".join(LINES).encode("utf-8-sig"),
        gzip.compress("\n".join(LINES).encode("utf-8-sig"), mtime=0),
        gzip.compress("\n".join(LINES[:2]).encode(), mtime=0)
        + gzip.compress(("\n" + "\n".join(LINES[2:])).encode(), mtime=0),
    ],
    ids=["plain", "CRLF", "CR", "byte order mark", "gzip", "gzip in two"],
)
def test_the_same_lines(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "texts").write_bytes(content)
    assert read_lines(tmp_path / "texts", "corpus").lines == LINES


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("word".encode("utf-16"), "is UTF-16: save it as UTF-8"),
        ("word".encode("utf-32"), "is UTF-32: save it as UTF-8"),
        ("word\nword".encode("utf-16-le"), "save it as UTF-8"),
        ("word\ncafé".encode("latin-1"), r"is not UTF-8 \(line 2\): save it as UTF-8"),
        (gzip.compress(b"word", mtime=0)[:-4], "damaged gzip"),
        (b"\x1f\x8bnothing", "damaged gzip"),
        (gzip.compress(bytes(10_000_000), mtime=0), "inflates to more than"),
    ],
    ids=["UTF-16", "UTF-32", "UTF-16 without a mark", "Latin-1", "cut gzip", "no gzip", "bomb"],
)
def test_others_are_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "texts").write_bytes(content)
    with pytest.raises(InputError, match=f"^the corpus .*{reason}"):
        read_lines(tmp_path / "texts", "corpus")


def test_no_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(InputError, match="cannot read the corpus"):
            read_lines(path, "corpus")
