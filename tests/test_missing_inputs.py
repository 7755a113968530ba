"""A phase that is run before what it reads was made names the command that makes it, as the user runs the phases."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from conftest import ROOT

from qwen25.commands.main import main
from qwen25.runtime.console import COMMAND_VARIABLE, SCRIPTS


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
