"""The package as pip installs it: every module and all data inside, and a command."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from conftest import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    from pip._vendor import tomli as tomllib


def test_every_folder_of_modules_is_listed() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    folders = {path.parent.relative_to(ROOT).as_posix() for path in (ROOT / "qwen25").rglob("*.py")}
    assert {*setuptools["packages"]} == {name.replace("/", ".") for name in folders} | {"qwen25.data.examples"}
    assert {f"{name}.py" for name in setuptools["py-modules"]} == {path.name for path in ROOT.glob("*.py")}


def test_a_wheel_works_away_from_the_checkout(tmp_path: Path) -> None:
    pytest.importorskip("setuptools", minversion="77")
    source, site = tmp_path / "source", tmp_path / "site"
    source.mkdir()
    names = ("pyproject.toml", "README.md", "LICENSE", "requirements_qwen25.txt")
    for path in [*ROOT.glob("*.py"), *map(ROOT.joinpath, names)]:
        shutil.copy(path, source)
    for name in ("qwen25", "examples"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--no-build-isolation"]
    done = subprocess.run([*pip, "--target", str(site), str(source)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for folder, data in (("qwen25", "qwen25"), ("examples", "qwen25/data/examples")):
        files = [path for path in (source / folder).rglob("*") if path.is_file()]
        assert [p for p in files if not (site / data / p.relative_to(source / folder)).is_file()] == []
    shutil.rmtree(source)
    code = "from qwen25.runtime.files import resource; print(resource('examples'), resource('data/schema'))"
    environment = {**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{sysconfig.get_path('purelib')}"}
    for words in (["-c", code], [str(site / "bin" / "qwen25"), "eval", "--help"]):
        done = subprocess.run(
            [sys.executable, *words], capture_output=True, text=True, check=False, cwd=tmp_path, env=environment
        )
        assert done.returncode == 0, done.stderr
        if words[0] == "-c":
            assert done.stdout.split() == [f"{site}/qwen25/data/examples", f"{site}/qwen25/data/schema"]
