"""Errors in one line, exit codes, tables that keep to the terminal, and nothing secret in the log."""

from __future__ import annotations

import argparse
import importlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT

from qwen25 import __version__
from qwen25.commands import main as command
from qwen25.runtime import console
from qwen25.runtime.display import print_table
from qwen25.runtime.errors import InputError, logger, set_up_logging
from qwen25.runtime.provenance import command_line


def run(body: Callable[[argparse.Namespace], int], *words: str) -> int:
    return console.command(console.Parser, body)(words)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("bad value:\n give another"), 2),
        (RuntimeError("deep inside"), 1),
        (OSError(36, "File name too long", "x"), 2),
        (KeyboardInterrupt(), 130),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def body(_: argparse.Namespace) -> int:
        raise error

    assert run(body) == code
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    if isinstance(error, Exception):
        assert run(body, "--debug") == code
        assert "Traceback" in capsys.readouterr().err


#: Prints a table, a name that is not ASCII and much more than a pipe holds.
PRINTS = """
import sys
from qwen25.runtime import console
from qwen25.runtime.display import print_table
def body(args):
    print_table("title", ["name"], [["r\u00e9\u65e5"]])
    print("r\u00e9\u65e5\\n" + "line\\n" * int(sys.argv[1]))
    return 0
sys.exit(console.command(console.Parser, body)([]))
"""


@pytest.mark.parametrize("streams", ["1", "99999 | head -1"])
def test_streams_that_end_early_or_are_not_utf_8(streams: str) -> None:
    shell = ["bash", "-c", f'set -o pipefail; "$0" -c "$1" {streams}', sys.executable, PRINTS]
    latin = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    done = subprocess.run(shell, capture_output=True, check=False, cwd=ROOT, env=latin, encoding="latin-1")
    assert done.returncode == 0 and not done.stderr


def test_tokens_keys_and_home_never_reach_the_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "run.log"
    secret = "hf_" + "a1B2c3D4e5" * 3
    for number in (1, 2):  # the second run adds to what the first wrote
        set_up_logging(log)
        logger.info("%d: %s from %s/models and https://cdn.example/a?Signature=s3cret", number, secret, Path.home())
    logger.info("m\udcff")  # a name of bytes that are no character
    set_up_logging()
    lines = log.read_text(encoding="utf-8").splitlines()
    assert [f"{os.getpid()} INFO {n}: hf_***" in line for n, line in enumerate(lines[:2], 1)] == [True, True]
    for text in (*lines, capsys.readouterr().err):
        assert secret not in text and "s3cret" not in text and f"{Path.home()}/models" not in text
    with pytest.raises(InputError):
        set_up_logging(log / "run.log")


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (["--model", "A=/srv/secret/m 1", "--pairs", "/srv/pairs/"], "--model 'A=m 1' --pairs pairs/"),
        (["st:/srv/p/q", "demo/model", "../../else/where", "Qwen/Qwen2.5"], "st:q demo/model where Qwen/Qwen2.5"),
        (["--model=./../M", "a/../../atk/M", "st:x=//srv//atk//M"], "--model=M M st:x=M"),
        (["models/a..b/M", "./M", "a:b/M"], "models/a..b/M ./M a:b/M"),
    ],
)
def test_a_command_is_kept_without_the_folders_of_this_machine(
    words: list[str], kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["/opt/x/run.py", *words])
    assert command_line() == f"run.py {kept}"


@pytest.mark.parametrize("phase", command.PHASES)
def test_help_states_every_default_and_fits_a_terminal(phase: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("QWEN25_COMMAND", "bash run_qwen25.sh")
    script = importlib.import_module(command.PHASES[phase][0])
    flags = [action for action in script.build_parser()._actions if action.dest != "help"]
    with_default = [action for action in flags if action.default not in (None, (), []) and action.nargs != 0]
    assert all("default" in (action.help or "") for action in with_default)
    assert all(flag == flag.lower() and "_" not in flag for action in flags for flag in action.option_strings)
    assert max(map(len, script.build_parser().format_help().splitlines())) <= 80


def test_a_mistyped_flag_is_answered_before_pytorch_loads() -> None:
    code = "import sys, distill_qwen25_1024d as phase; phase.build_parser(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_sigterm_leaves_no_lock(tmp_path: Path) -> None:
    code = f"""if True:
        import os, signal
        from pathlib import Path
        from qwen25.runtime import console, folders
        def body(args):
            with folders.locked(Path({str(tmp_path / "model")!r})):
                os.kill(os.getpid(), signal.SIGTERM)
                signal.pause()
        raise SystemExit(console.command(console.Parser, body)([]))"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 130 and "interrupted" in done.stderr and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--version"], 0, __version__),
        (["eval", "--version"], 2, "error: --version is gone: qwen25 --version prints it"),
        (["distil"], 2, "the phases are distill"),
        (["eval", "--modle", "x"], 2, "error: unrecognized arguments: --modle x; did you mean --model?"),
        (["eval", "--mod", "x"], 2, "unrecognized arguments"),
    ],
)
def test_the_command(words: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        ended: object = command.main(words)
    except SystemExit as stopped:
        ended = stopped.code
    assert ended == code and said in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("phase", "way", "phase1"),
    [
        ("eval", "script", f"python3 {ROOT}/distill_qwen25_1024d.py"),
        ("compare", "bash run_qwen25.sh", "bash run_qwen25.sh distill"),
        ("publish", "", "qwen25 distill"),
        ("page", "", "qwen25 distill"),
    ],
)
def test_without_a_model_phase_1_is_named_as_the_user_runs_the_phases(
    phase: str,
    way: str,
    phase1: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["/usr/bin/qwen25", phase])
    if way == "script":
        monkeypatch.setattr(sys, "argv", [str(ROOT / console.SCRIPTS[phase])])
        monkeypatch.setattr(sys, "orig_argv", ["python3", *sys.argv])
    elif way:
        monkeypatch.setenv(console.COMMAND_VARIABLE, way)
    assert command.main([phase]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert line.endswith(f" with {phase1}")


HEADER = ["Model", "Overall [95 % interval]", "Size", "Speed"]
ROWS = [["A name of many words", "0.480 [0.450, 0.510]", "65.0 MB", "9 s"], ["[red]日本", "-", "1 MB", "12,000 s"]]


@pytest.mark.parametrize("columns", ["", "120", "50", "20"])
def test_a_table_keeps_to_the_width(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns:
        monkeypatch.setenv("COLUMNS", columns)
    print_table("title", HEADER, ROWS)
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= int(columns or 80)
    assert "[red]日本" in shown
    assert ("A wider terminal also shows:" in shown.replace("\n  ", " ")) == (columns in ("50", "20"))
    assert columns == "20" or "0.480 [0.450, 0.510]" in shown


def test_missing_libraries_are_one_line_that_says_what_to_run() -> None:
    """As with a Python that is not the environment's."""
    code = "import sys; from qwen25.commands.main import main; sys.exit(main(['eval']))"
    for words in (["-c", code], ["-m", "qwen25.runtime.provenance"]):
        done = subprocess.run([sys.executable, "-S", *words], capture_output=True, text=True, check=False, cwd=ROOT)
        assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
        assert re.search(r"\bsetup_qwen25\.sh", done.stderr)
