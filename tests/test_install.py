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
    places = (
        (source, "*.py", "."),
        (source / "qwen25", "**/*", "qwen25"),
        (source / "examples", "*", "qwen25/data/examples"),
    )
    for folder, files, place in places:
        wanted = [path.relative_to(folder) for path in folder.glob(files) if path.is_file()]
        assert wanted and [path for path in wanted if not (site / place / path).is_file()] == []
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
