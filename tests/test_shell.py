"""The shell commands: wrong use and an old Python get one clear line; nothing is installed here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

if sys.version_info >= (3, 11):
    import tomllib
else:
    from pip._vendor import tomli as tomllib

BASH = shutil.which("bash") or pytest.skip("no bash here", allow_module_level=True)


def run(script: Path, *arguments: str, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [BASH, str(script), *arguments]
    environ = {**os.environ, **variables}
    return subprocess.run(command, capture_output=True, text=True, env=environ, cwd=cwd, check=False)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what setup needs, in a folder with a space in its name."""
    folder = tmp_path / "with a space"
    shutil.copytree(ROOT / ".ci", folder / ".ci")
    for path in [*ROOT.glob("*.sh"), *ROOT.glob("*.t*ml"), *ROOT.glob("*.txt")]:
        shutil.copy(path, folder)
    return folder


def recording_python(checkout: Path, version: str = "Python 3.11.7") -> Path:
    """Stand in for Python: it makes a venv whose python records how it was called, and only runs ``-c``."""
    fake, record = checkout / "python", checkout / "record"
    record.write_text(
        "#!/bin/sh\n"
        f'[ "$1" = --version ] && echo "{version}" && exit\n'
        f'[ "$1" = -c ] && exec "{sys.executable}" "$@"\n'
        f'echo "$@" >>"{checkout}/calls"\n'
        'case "$*" in *install*) echo "a warning of pip" && ! [ -e "$0.fails" ] ;; esac\n'
    )
    fake.write_text(
        "#!/bin/sh\n"
        'if [ "$1" = -m ] && [ "$2" = venv ]; then\n'
        f'  mkdir -p "$3/bin" && cp "{record}" "$3/bin/python"\n'
        f'else\n  echo "{version}"\nfi\n'
    )
    for path in (fake, record):
        path.chmod(0o755)
    return fake


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("", "Python 3.9.1 is too old: Python 3.10 or newer is needed; set PYTHON to one"),
        ("no-such-python", "no no-such-python found: install Python 3.10 or newer, or set PYTHON to one"),
        ("true", "true is no Python that runs: set PYTHON to Python 3.10 or newer"),
    ],
)
def test_no_python_that_runs_is_one_clear_line(checkout: Path, program: str, said: str) -> None:
    if not program:
        program = str(checkout / "old python")
        Path(program).write_text("#!/bin/sh\necho Python 3.9.1\n")
        Path(program).chmod(0o755)
    for script, arguments in (("setup_qwen25.sh", []), ("run_qwen25.sh", ["eval"])):
        done = run(checkout / script, *arguments, PYTHON=program)
        assert done.returncode == 2 and done.stderr == f"error: {said}\n"
        assert not (checkout / "venv_qwen25").exists()


def test_a_phase_runs_where_the_user_is(checkout: Path, tmp_path: Path) -> None:
    """Even through a link, and where CDPATH makes cd print."""
    link = tmp_path / "link.sh"
    link.symlink_to(checkout / "run_qwen25.sh")
    setup = tmp_path / "setup.sh"
    setup.symlink_to(checkout / "setup_qwen25.sh")
    assert run(setup, PYTHON=str(recording_python(checkout))).returncode == 0
    (checkout / "venv_qwen25" / "bin" / "python").write_text('#!/bin/sh\npwd\necho "$@" $PYTHONDONTWRITEBYTECODE\n')
    odd = {"CDPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}  # the second is not kept
    done = run(Path("link.sh"), "eval", "--model", "mine", cwd=tmp_path, **odd)
    assert done.stderr == "" and done.returncode == 0
    assert done.stdout.splitlines() == [str(tmp_path), "-m qwen25.commands.main eval --model mine"]
    done = run(Path("with a space/setup_qwen25.sh"), "nonsense", cwd=tmp_path)
    assert done.returncode == 2 and "--with-extras" in done.stderr


def test_an_interrupted_setup_is_made_anew_and_pips_warnings_are_shown_when_it_fails(checkout: Path) -> None:
    """A venv whose Python does not run is replaced; pip is then called with the tested constraints."""
    broken = checkout / "venv_qwen25" / "bin"
    broken.mkdir(parents=True)
    (broken / "python").write_text("#!/bin/sh\nexit 1\n")
    (broken / "python").chmod(0o755)
    fake = str(recording_python(checkout))
    done = run(checkout / "setup_qwen25.sh", PYTHON=fake)
    assert done.returncode == 0 and "a warning of pip" not in done.stdout + done.stderr
    calls = (checkout / "calls").read_text().splitlines()
    assert any("-c .ci/constraints.txt torch" in call for call in calls)
    assert not any("--no-deps" in call for call in calls) and calls[-1] == "-m qwen25.runtime.provenance"
    (broken / "python.fails").touch()
    done = run(checkout / "setup_qwen25.sh", PYTHON=fake)
    assert done.returncode == 1 and "a warning of pip" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: pip could not install")
    assert not (checkout / "venv_qwen25" / ".ready").exists()


@pytest.mark.parametrize(("phase", "flag"), [("all", "--output"), ("demo", "--preset=tiny")])
def test_no_whole_run_ends_with_another_model_than_it_made(phase: str, flag: str, checkout: Path) -> None:
    """The later steps read the usual folder, whatever phase 1 was told; that is said before anything is installed."""
    done = run(checkout / "run_qwen25.sh", phase, "--overwrite", flag, "x", cwd=checkout)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {phase} takes no {flag.split('=')[0]}: ") and " distill" in line
    assert not (checkout / "venv_qwen25").exists() and not (checkout / "demo").exists()


def pinned(name: str, python: str) -> dict[str, str]:
    """Return the version of each library in a file of constraints, for a version of Python."""
    lines = [line for line in (ROOT / ".ci" / name).read_text().splitlines() if line and not line.startswith("#")]
    marked = {"python_version": python, "python_full_version": f"{python}.0"}
    chosen = [pin for pin in map(Requirement, lines) if pin.marker is None or pin.marker.evaluate(marked)]
    pins = {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in chosen}
    assert len(pins) == len(chosen), "a library with two versions"
    return pins


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13"])
def test_the_tested_versions_are_not_below_the_floors_and_the_oldest_are(python: str) -> None:
    lines = (ROOT / "requirements_qwen25.txt").read_text().splitlines()
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    # The setup does not install the other two by these files.
    lines += [line for part, more in extras.items() if part not in ("pylate", "scale") for line in more]
    needed = [Requirement(line) for line in lines if line and not line.startswith("#")]
    floors = {canonicalize_name(one.name): str(one.specifier).removeprefix(">=") for one in needed}
    tested, oldest = pinned("constraints.txt", python), pinned("constraints_oldest.txt", python)
    assert [name for name, floor in floors.items() if Version(tested[name]) < Version(floor)] == []
    if python != "3.13":
        assert [name for name, floor in floors.items() if Version(oldest[name]) != Version(floor)] == []
