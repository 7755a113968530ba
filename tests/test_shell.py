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

from qwen25.runtime import environment
from qwen25.runtime.environment import faults

BASH = shutil.which("bash") or pytest.skip("no bash here", allow_module_level=True)


def run(script: Path, *arguments: str, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [BASH, str(script), *arguments]
    environ = {**os.environ, **variables}
    return subprocess.run(command, capture_output=True, text=True, env=environ, cwd=cwd, check=False)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what setup needs, in a folder with a space in its name."""
    folder = tmp_path / "with a space"
    folder.mkdir()
    for path in [*ROOT.glob("*.sh"), *ROOT.glob("*.txt")]:
        shutil.copy(path, folder)
    return folder


def recording_python(checkout: Path, version: str = "Python 3.11.7") -> Path:
    """Stand in for Python: it makes a venv whose python only records how it was called."""
    fake = checkout / "python"
    fake.write_text(
        "#!/bin/sh\n"
        'if [ "$1" = -m ] && [ "$2" = venv ]; then\n'
        '  mkdir -p "$3/bin"\n'
        f'  printf \'#!/bin/sh\\n[ "$1" = --version ] && echo "{version}" && exit\\necho "$@" >>"%s"\\n\' "$3/../calls"'
        ' >"$3/bin/python"\n'
        '  chmod +x "$3/bin/python"\n'
        f'else\n  echo "{version}"\nfi\n'
    )
    fake.chmod(0o755)
    return fake


def test_an_old_python_gets_one_clear_line(checkout: Path) -> None:
    old = checkout / "old python"
    old.write_text("#!/bin/sh\necho Python 3.9.1\n")
    old.chmod(0o755)
    done = run(checkout / "setup_qwen25.sh", PYTHON=str(old))
    assert done.returncode == 2
    assert done.stderr.strip() == "error: Python 3.9.1 is too old: Python 3.10 or newer is needed; set PYTHON to one"
    assert not (checkout / "venv_qwen25").exists()


def test_no_python_at_all(checkout: Path) -> None:
    done = run(checkout / "setup_qwen25.sh", PYTHON="no-such-python")
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("name", ["true", "false", "echo", "bash"])
def test_what_is_no_python_gets_one_clear_line(checkout: Path, name: str) -> None:
    program = shutil.which(name) or pytest.skip(f"no {name} here")
    for script, arguments in (("setup_qwen25.sh", []), ("run_qwen25.sh", ["eval"])):
        done = run(checkout / script, *arguments, PYTHON=program)
        assert done.returncode == 2 and not (checkout / "venv_qwen25").exists()
        assert done.stderr == f"error: {program} is no Python that runs: set PYTHON to Python 3.10 or newer\n"


def test_a_phase_runs_where_the_user_is(checkout: Path, tmp_path: Path) -> None:
    """Even through a link, and where CDPATH makes cd print."""
    link = tmp_path / "link.sh"
    link.symlink_to(checkout / "run_qwen25.sh")
    setup = tmp_path / "setup.sh"
    setup.symlink_to(checkout / "setup_qwen25.sh")
    assert run(setup, PYTHON=str(recording_python(checkout))).returncode == 0
    (checkout / "venv_qwen25" / "bin" / "python").write_text('#!/bin/sh\npwd\necho "$@"\n')
    done = run(Path("link.sh"), "eval", "--model", "mine", cwd=tmp_path, CDPATH=str(tmp_path))
    assert done.stderr == "" and done.returncode == 0
    assert done.stdout.splitlines() == [str(tmp_path), f"{checkout}/quick_eval_qwen25_1024d.py --model mine"]
    done = run(Path("link.sh"), "page", "mine", cwd=tmp_path)
    assert done.stdout.splitlines() == [str(tmp_path), "-m qwen25.commands.main page mine"]
    done = run(Path("../link.sh"), "nonsense", cwd=checkout)
    assert done.returncode == 2 and "run_qwen25.sh demo" in done.stderr
    done = run(Path("with a space/setup_qwen25.sh"), "nonsense", cwd=tmp_path)
    assert done.returncode == 2 and "--with-extras" in done.stderr


def test_an_interrupted_setup_is_made_anew(checkout: Path) -> None:
    """A venv whose Python does not run is replaced; pip is then called with the tested constraints."""
    broken = checkout / "venv_qwen25" / "bin"
    broken.mkdir(parents=True)
    (broken / "python").write_text("#!/bin/sh\nexit 1\n")
    (broken / "python").chmod(0o755)
    fake = recording_python(checkout)
    done = run(checkout / "setup_qwen25.sh", PYTHON=str(fake))
    assert done.returncode == 0, done.stderr
    calls = (checkout / "calls").read_text().splitlines()
    assert any("-c constraints_qwen25.txt torch" in call for call in calls)
    assert not any("--no-deps" in call for call in calls)
    assert calls[-1] == "-m qwen25.runtime.environment"
    again = len(calls)
    assert run(checkout / "setup_qwen25.sh", PYTHON=str(fake)).returncode == 0
    assert len((checkout / "calls").read_text().splitlines()) > again


@pytest.mark.parametrize("arguments", [(), ("nonsense",)])
def test_wrong_phase_shows_the_usage(arguments: tuple[str, ...]) -> None:
    done = run(ROOT / "run_qwen25.sh", *arguments)
    assert done.returncode == 2
    assert "run_qwen25.sh demo" in done.stderr and not done.stdout
    assert ("there is no phase 'nonsense'" in done.stderr) == bool(arguments)


@pytest.mark.parametrize("phase", ["all", "demo"])
@pytest.mark.parametrize("flag", ["--output", "--preset=tiny", "--dry-run", "--version"])
def test_no_whole_run_ends_with_another_model_than_it_made(phase: str, flag: str, checkout: Path) -> None:
    """The later steps read the usual folder, whatever phase 1 was told; that is said before anything is installed."""
    done = run(checkout / "run_qwen25.sh", phase, "--overwrite", flag, "x", cwd=checkout)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {phase} takes no {flag.split('=')[0]}: ") and " distill" in line
    assert not (checkout / "venv_qwen25").exists() and not (checkout / "demo").exists()
    helped = run(checkout / "run_qwen25.sh", phase, "--help", cwd=checkout)
    assert helped.returncode == 0 and "distill" in helped.stdout and not (checkout / "venv_qwen25").exists()


def test_help() -> None:
    done = run(ROOT / "run_qwen25.sh", "--help")
    assert done.returncode == 0 and "run_qwen25.sh demo" in done.stdout


def test_this_environment_is_sound() -> None:
    assert faults() == []
    done = subprocess.run(
        [sys.executable, "-m", "qwen25.runtime.environment"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0
    assert "phase 1 will use" in done.stdout


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wanted = tmp_path / "requirements.txt"
    wanted.write_text("# why\nno-such-library>=1.0\ntokenizers>=999.0\nscikit-learn>=1.0\nnumpy[extra]\n")
    monkeypatch.setattr(environment, "REQUIREMENTS", wanted)
    missing, old = faults()
    assert missing.startswith("no-such-library cannot be imported")
    assert old.startswith("tokenizers ") and "is not >=999.0" in old


class TestVersions:
    """Floors, and the exact versions that go with them, are three files that must not part."""

    @pytest.fixture(scope="class")
    def floors(self) -> dict[str, str]:
        """Library -> the least version that requirements_*.txt admit."""
        floors = {}
        for path in ROOT.glob("requirements_*.txt"):
            if path.name == "requirements_pylate.txt":
                continue  # installed at one version, beside the constraints
            for line in path.read_text().splitlines():
                if line and not line.startswith("#"):
                    needed = Requirement(line)
                    (specifier,) = needed.specifier
                    assert specifier.operator == ">="
                    floors[canonicalize_name(needed.name)] = specifier.version
        return floors

    @staticmethod
    def pins(name: str, python: str) -> dict[str, str]:
        lines = [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]
        chosen = [Requirement(line) for line in lines]
        marked = {"python_version": python, "python_full_version": f"{python}.0"}
        chosen = [pin for pin in chosen if pin.marker is None or pin.marker.evaluate(marked)]
        names = [canonicalize_name(pin.name) for pin in chosen]
        assert len(names) == len({*names}), "a library with two versions"
        return {name: str(pin.specifier).removeprefix("==") for name, pin in zip(names, chosen, strict=True)}

    @pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13"])
    def test_the_tested_versions_are_not_below_the_floors(self, floors: dict[str, str], python: str) -> None:
        pins = self.pins("constraints_qwen25.txt", python)
        assert {name for name in floors if name not in pins} == set()
        assert {name for name, floor in floors.items() if Version(pins[name]) < Version(floor)} == set()

    @pytest.mark.parametrize("python", ["3.10", "3.11", "3.12"])
    def test_the_oldest_versions_are_the_floors(self, floors: dict[str, str], python: str) -> None:
        pins = self.pins("constraints_oldest.txt", python)
        assert {name: pins[name] for name in floors if Version(pins[name]) != Version(floors[name])} == {}


def test_the_oldest_versions_go_into_a_venv_of_their_own(checkout: Path) -> None:
    fake = recording_python(checkout)
    done = run(checkout / "setup_qwen25.sh", "--oldest", PYTHON=str(fake))
    assert done.returncode == 0, done.stderr
    calls = (checkout / "calls").read_text()
    assert "-c constraints_oldest.txt torch" in calls and "constraints_qwen25.txt" not in calls
    assert (checkout / "venv_oldest" / ".ready").is_file() and not (checkout / "venv_qwen25").exists()


def test_another_python_makes_the_environment_anew(checkout: Path) -> None:
    assert run(checkout / "setup_qwen25.sh", PYTHON=str(recording_python(checkout, "Python 3.11.7"))).returncode == 0
    kept = checkout / "venv_qwen25" / "kept"
    kept.touch()
    done = run(checkout / "setup_qwen25.sh", PYTHON=str(recording_python(checkout, "Python 3.11.7")))
    assert done.returncode == 0 and kept.exists() and "anew" not in done.stdout
    done = run(checkout / "setup_qwen25.sh", PYTHON=str(recording_python(checkout, "Python 3.12.1")))
    assert done.returncode == 0 and not kept.exists()
    assert "has Python 3.11.7, not Python 3.12.1; making it anew" in done.stdout
