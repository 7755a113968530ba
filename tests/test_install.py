"""The package as pip installs it: a wheel that works from another folder, its data inside."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

LEFT_OUT = shutil.ignore_patterns(
    "venv*", ".*", "models", "demo", "docs", "tests", "benchmarks", "build", "__pycache__"
)


def test_a_wheel_works_away_from_the_checkout(tmp_path: Path, tiny_model: Path) -> None:
    pytest.importorskip("setuptools", minversion="77")
    source, site = tmp_path / "source", tmp_path / "site"
    shutil.copytree(ROOT, source, ignore=LEFT_OUT)
    shutil.copytree(ROOT / "docs" / "schema", source / "docs" / "schema")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--no-build-isolation"]
    done = subprocess.run([*pip, "--target", str(site), str(source)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in site.iterdir()} <= {"bin", "qwen25", *(p.name for p in site.glob("*.dist-info"))}
    shutil.rmtree(source)
    evaluate = ["eval", "--model", str(tiny_model), "--categories", "semantic_similarity"]
    for words in (["--version"], evaluate, ["page", str(tiny_model), "--output", str(tmp_path / "page.html")]):
        done = subprocess.run(
            [sys.executable, str(site / "bin" / "qwen25"), *words],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(site)},
        )
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "qwen25_1024d_eval_results.json").is_file()
