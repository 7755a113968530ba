"""A phase that is run before what it reads was made names the command that makes it, as the user runs the phases."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from conftest import ROOT

import quick_eval_qwen25_1024d as evaluate_script
from qwen25.commands.main import main
from qwen25.runtime.console import COMMAND_VARIABLE, MODEL, SCRIPTS


def start_as(way: str, phase: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Have ``phase`` started in that way; returns what each phase's command begins with (a script: its folder)."""
    monkeypatch.delenv(COMMAND_VARIABLE, raising=False)
    if way == "script":
        monkeypatch.setattr(sys, "argv", [str(ROOT / SCRIPTS[phase])])
        monkeypatch.setattr(sys, "orig_argv", ["python3", *sys.argv])
        return f"python3 {ROOT}/"
    monkeypatch.setattr(sys, "argv", ["/usr/bin/qwen25", phase])
    if way != "qwen25":
        monkeypatch.setenv(COMMAND_VARIABLE, way)
    return f"{way} "


@pytest.mark.parametrize(
    ("phase", "way"),
    [
        ("eval", "script"),
        ("compare", "bash run_qwen25.sh"),
        ("publish", "qwen25"),
        ("page", "qwen25"),
    ],
)
def test_without_a_model_phase_1_is_named(
    phase: str, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    start = start_as(way, phase, monkeypatch)
    assert main([phase]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert line.endswith(f" with {start}{SCRIPTS['distill'] if way == 'script' else 'distill'}")


def test_publishing_names_what_is_missing_in_turn(
    tmp_path: Path,
    tiny_model: Path,
    on_few_items: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_model, MODEL)
    start = start_as("bash run_qwen25.sh", "publish", monkeypatch)
    assert main(["publish"]) == 2
    assert capsys.readouterr().err.endswith(f"make it with {start}eval\n")
    assert evaluate_script.main(["--quiet"]) == 0
    assert main(["publish"]) == 2
    assert capsys.readouterr().err.endswith(f"make it with {start}compare\n")
