"""A phase that is run before what it reads was made names the command that makes it, as the user runs the phases."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from qwen25.commands.main import run_phase
from qwen25.runtime.invocation import COMMAND_VARIABLE, MODEL, SCRIPTS, command_of, extras_command

#: How a phase is started: what comes before its name or script, and whether it is a script.
WAYS = ["qwen25", "script", "bash run_qwen25.sh"]
READERS = ["eval", "compare", "publish", "mteb"]


def start_as(way: str, phase: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Have ``phase`` started in that way; returns each phase's command."""
    monkeypatch.delenv(COMMAND_VARIABLE, raising=False)
    if way == "script":
        monkeypatch.setattr(sys, "argv", [str(ROOT / SCRIPTS[phase])])
        monkeypatch.setattr(sys, "orig_argv", ["python3", *sys.argv])
        return {name: f"python3 {ROOT / script}" for name, script in SCRIPTS.items()}
    if way == "qwen25":
        monkeypatch.setattr(sys, "argv", ["/usr/bin/qwen25", phase])
    else:  # which starts a script
        monkeypatch.setattr(sys, "argv", [str(ROOT / SCRIPTS[phase])])
        monkeypatch.setenv(COMMAND_VARIABLE, way)
    return {name: f"{way} {name}" for name in SCRIPTS}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("phase", READERS)
def test_without_a_model_phase_1_is_named(
    phase: str, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if phase == "mteb" and importlib.util.find_spec("mteb") is None:
        pytest.skip("mteb is not installed")
    monkeypatch.chdir(tmp_path)
    commands = start_as(way, phase, monkeypatch)
    assert run_phase(phase, []) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert line.endswith(f"make it with {commands['distill']}")


def test_a_page_is_of_the_pipelines_model_unless_another_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_phase("page", []) == 2
    assert capsys.readouterr().err.startswith(f"error: no such model folder: {MODEL}; give another, or make it with ")


@pytest.mark.parametrize("way", WAYS)
def test_publishing_names_what_is_missing_in_turn(
    way: str, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_model, MODEL)
    commands = start_as(way, "publish", monkeypatch)
    assert run_phase("publish", []) == 2
    assert capsys.readouterr().err.endswith(f"make it with {commands['eval']}\n")
    shutil.copy(ROOT / "docs" / "results" / "demo" / "eval_results.json", "qwen25_1024d_eval_results.json")
    assert run_phase("publish", []) == 2
    assert capsys.readouterr().err.endswith(f"make it with {commands['compare']}\n")


def test_what_is_not_a_default_is_in_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    start_as("qwen25", "publish", monkeypatch)
    command = command_of("eval", model=Path("my models/a"), output=Path("a.json"))
    assert command == "qwen25 eval --model 'my models/a' --output a.json"


def test_a_missing_part_is_installed_with_pip_or_with_the_checkouts_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert extras_command("onnx") == "bash setup_qwen25.sh --with-extras"
    monkeypatch.chdir(tmp_path)
    assert extras_command("onnx") == f"bash {ROOT}/setup_qwen25.sh --with-extras"
    monkeypatch.setattr("qwen25.runtime.invocation.CHECKOUT", tmp_path)
    assert extras_command("onnx") == "pip install 'qwen25-deposium[onnx]'"


def test_a_python_without_the_libraries_is_told_commands_to_paste(tmp_path: Path) -> None:
    """From anywhere, and for a checkout whose path has a space."""
    checkout = tmp_path / "a b"
    shutil.copytree(ROOT / "qwen25", checkout / "qwen25", ignore=shutil.ignore_patterns("__pycache__"))
    for name in (SCRIPTS["compare"], "setup_qwen25.sh"):
        shutil.copy(ROOT / name, checkout / name)
    script = [sys.executable, "-S", str(checkout / SCRIPTS["compare"])]
    away = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, check=False)
    there = subprocess.run(script, cwd=checkout, capture_output=True, text=True, check=False)
    assert away.returncode == there.returncode == 1
    (line,) = away.stderr.splitlines()
    install, run = (f"bash '{checkout}/{name}'" for name in ("setup_qwen25.sh", "run_qwen25.sh"))
    assert line.endswith(f"{install} installs it, and {run} compare then runs this")
    assert there.stderr.endswith("bash setup_qwen25.sh installs it, and bash run_qwen25.sh compare then runs this\n")
