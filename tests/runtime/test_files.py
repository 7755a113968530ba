"""Files: written whole or not at all, read as people have them, results checked against their schemas."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from conftest import ROOT

from qwen25.runtime import files
from qwen25.runtime.errors import InputError, PipelineError
from qwen25.runtime.files import check_file, read_json, read_lines, read_result, write_files, write_json

LINES = ["naïve café", "", "数学 🎬", "one\u2028line"]
RESULT = ROOT / "docs" / "results" / "demo" / "eval_results.json"


def test_json_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, other = tmp_path / "result.json", tmp_path / "report.html"
    write_json(path, {"value": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"value": float("nan")})

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(PipelineError, match="free some space"):
        write_files({other: "text", path: "text"})
    assert read_json(path) == {"value": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]


def test_unreadable_json_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "half.json").write_text('{"value": ')
    (tmp_path / "nan.json").write_text("[NaN]")
    for name in ("half.json", "nan.json", "absent.json"):
        with pytest.raises(InputError):
            read_json(tmp_path / name)


def test_where_no_file_can_be_written(tmp_path: Path) -> None:
    check_file(tmp_path / "new" / "result.json")
    for path in (tmp_path, Path(__file__) / "result.json", Path("/dev/null")):
        with pytest.raises(InputError, match="give a"):
            check_file(path)


@pytest.mark.parametrize(
    "content",
    [
        "\n".join(LINES).encode(),
        "\r\n".join(LINES).encode("utf-8-sig"),
        "\r".join(LINES).encode(),
        gzip.compress("\n".join(LINES).encode("utf-8-sig"), mtime=0),
    ],
    ids=["plain", "CRLF and mark", "CR", "gzip"],
)
def test_the_same_lines(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "texts").write_bytes(content)
    assert read_lines(tmp_path / "texts", "corpus").lines == LINES


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("word".encode("utf-16"), r"is not UTF-8 \(line 1\): save it as UTF-8"),
        ("word\ncafé".encode("latin-1"), r"is not UTF-8 \(line 2\): save it as UTF-8"),
        (gzip.compress(b"word", mtime=0)[:-4], "end-of-stream"),
        (gzip.compress(bytes(10_000_000), mtime=0), "inflates to more than"),
    ],
    ids=["UTF-16", "Latin-1", "cut gzip", "bomb"],
)
def test_other_bytes_are_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "texts").write_bytes(content)
    with pytest.raises(InputError, match=f"the corpus .*{reason}"):
        read_lines(tmp_path / "texts", "corpus")
    with pytest.raises(InputError, match="cannot read the corpus"):
        read_lines(tmp_path, "corpus")


def test_a_result_of_another_version_is_refused_with_the_place(tmp_path: Path) -> None:
    result = read_result(RESULT, "evaluation", "qwen25 eval")
    path = tmp_path / "result.json"
    del result["categories"]["code_understanding"]["interval"]
    for content, said in ((result, "categories.code_understanding: 'interval'"), (["x" * 999], "breaks the schema")):
        write_json(path, content)
        with pytest.raises(InputError) as caught:
            read_result(path, "evaluation", "qwen25 eval")
        message = str(caught.value)
        assert message.startswith(f"{path} is not of this version (") and said in message
        assert message.endswith("make it anew with qwen25 eval") and len(message) < len(str(path)) + 320
