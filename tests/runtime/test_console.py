"""Errors in one line, exit codes, and nothing secret in the log."""

from __future__ import annotations

import argparse
import importlib
import logging
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
from qwen25.runtime.console import Parser, add_common_flags
from qwen25.runtime.errors import InputError, PipelineError
from qwen25.runtime.files import read_json, write_json
from qwen25.runtime.log import logger, set_up_logging
from qwen25.runtime.provenance import command_line


def parser() -> argparse.ArgumentParser:
    made = Parser()
    add_common_flags(made)
    return made


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("bad value:\n give another"), 2),
        (PipelineError("disk full"), 1),
        (RuntimeError("deep inside"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def body(_: argparse.Namespace) -> int:
        raise error

    assert console.run(parser(), body, []) == code
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_debug_shows_where(capsys: pytest.CaptureFixture[str]) -> None:
    def body(_: argparse.Namespace) -> int:
        raise PipelineError("disk full")

    assert console.run(parser(), body, ["--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_tokens_and_home_never_reach_the_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "run.log"
    set_up_logging(log)
    secret = "hf_" + "a1B2c3D4e5" * 3
    logger.info("using %s from %s/models", secret, Path.home())
    set_up_logging()
    for text in (log.read_text(), capsys.readouterr().err):
        assert "using" in text and secret not in text and str(Path.home()) + "/models" not in text


def test_a_command_is_kept_without_the_folders_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["/opt/x/run.py", "--model", "A=/srv/secret/m 1", "--items", "/srv/items/", "--teacher", "Qwen/Qwen2.5"]
    monkeypatch.setattr("sys.argv", [*words, "st:/srv/p/q", "demo/model", "../../else/where"])
    assert command_line() == "run.py --model 'A=m 1' --items items/ --teacher Qwen/Qwen2.5 st:q demo/model where"


@pytest.mark.parametrize(
    "path", ["/srv//atk/M", "st:x=//srv//atk//M", "--model=./../M", "a/../../atk/M", ".././M", "//M"]
)
def test_no_spelling_of_a_path_to_elsewhere_is_kept(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["run.py", path])
    assert re.fullmatch(r"run\.py (st:x=|--model=)?M", command_line())


@pytest.mark.parametrize("path", ["models/a..b/M", "./M", "a:b/M", "Qwen/..M"])
def test_paths_below_are_kept(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["run.py", path])
    assert command_line() == f"run.py {path}"


def test_names_that_are_no_utf_8_can_be_logged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def body(_: argparse.Namespace) -> int:
        set_up_logging(tmp_path / "run.log")
        logger.info("the folder %s", "m\udcff")
        return 0

    assert console.run(parser(), body, []) == 0
    set_up_logging()
    assert "m\\udcff" in (tmp_path / "run.log").read_text(encoding="utf-8")
    assert "Logging error" not in capsys.readouterr().err


def test_pipes_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="--log-file"):
        set_up_logging(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(InputError, match="give a file"):
            read_json(path)


@pytest.mark.parametrize(
    "fail",
    [
        lambda folder: (folder / ("x" * 300)).read_text(),
        lambda folder: (folder / "loop").read_text(),
        lambda folder: (folder / "loop").resolve(strict=True),
        lambda _: Path("~no-such-user/x").expanduser(),
    ],
    ids=["long", "loop", "resolved loop", "no user"],
)
def test_a_path_that_the_system_refuses_is_wrong_usage(
    fail: Callable[[Path], object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "loop").symlink_to("loop")
    assert console.run(parser(), lambda _: bool(fail(tmp_path)), []) == 2
    line = capsys.readouterr().err
    assert re.fullmatch(r"error: .+: give another path\n", line) and "--debug" not in line


def test_a_folder_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert console.run(parser(), lambda _: 0, []) == 2
    assert capsys.readouterr().err.startswith("error: the folder ")


#: Prints a table, a name that is not ASCII and much more than a pipe holds.
PRINTS = """
import sys
from qwen25.runtime import console
from qwen25.runtime.display import print_table
def body(args):
    print_table("title", ["name"], [["r\u00e9\u65e5"]])
    print("r\u00e9\u65e5\\n" + "line\\n" * int(sys.argv[1]))
    return int(input() or 0) if sys.argv[2:] else 0
parser = console.Parser()
console.add_common_flags(parser)
sys.exit(console.run(parser, body, []))
"""


@pytest.mark.parametrize(
    ("streams", "code", "error"),
    [
        ("1 >&-", 0, ""),
        ("1 >&- 2>&-", 0, ""),
        ("1 read <&-", 1, "error: EOFError"),
        ("1 | true", 0, ""),
        ("99999 | head -1", 0, ""),
        ("1 >/dev/full", 1, "error: cannot write to standard output: No space left"),
        ("99999 >/dev/full", 1, "error: cannot write to standard output: No space left"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_streams_that_are_closed_full_or_not_utf_8(streams: str, code: int, error: str, encoding: str) -> None:
    command = f'set -o pipefail; "$0" -c "$1" {streams}'
    done = subprocess.run(
        ["bash", "-c", command, sys.executable, PRINTS],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        encoding="latin-1",
    )
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith(error) and len(done.stderr.splitlines()) == bool(error)


def test_a_log_that_cannot_be_written_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="--log-file"):
        set_up_logging(tmp_path / "file" / "run.log")
    assert all(not isinstance(h, logging.FileHandler) for h in logger.handlers)


def test_json_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_json(path, {"value": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"value": float("nan")})
    assert read_json(path) == {"value": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]


def test_unreadable_json_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "half.json").write_text('{"value": ')
    for name in ("half.json", "absent.json"):
        with pytest.raises(InputError):
            read_json(tmp_path / name)


@pytest.mark.parametrize("name", ["distill", "evaluate", "compare", "publish", "mteb"])
def test_help_states_every_default(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    script = importlib.import_module(f"qwen25.commands.{name}")
    flags = [action for action in script.build_parser()._actions if action.dest != "help"]
    assert all("default" in (action.help or "") for action in flags)
    assert all(flag == flag.lower() and "_" not in flag for action in flags for flag in action.option_strings)
    with pytest.raises(SystemExit) as stopped:
        script.main(["--no-such-flag"])
    assert stopped.value.code == 2
    line = capsys.readouterr().err
    assert line == "error: unrecognized arguments: --no-such-flag; see --help\n"


def test_a_log_goes_on(tmp_path: Path) -> None:
    """What a run that was killed wrote is not lost to the next, nor to one that runs beside it."""
    log = tmp_path / "run.log"
    for message in ("the first run", "the second run"):
        set_up_logging(log)
        logger.info(message)
    set_up_logging()
    first, second = log.read_text().splitlines()
    assert first.endswith(f"{os.getpid()} INFO the first run") and second.endswith("INFO the second run")


@pytest.mark.parametrize("content", ['{"a": "a pair", "b": "of texts"}\n', "2026 was a good year\n", "\x00"])
def test_nothing_is_added_to_a_file_that_is_no_log(tmp_path: Path, content: str) -> None:
    """It may be one that the run reads: the pairs, the corpus, the teacher's configuration."""
    (tmp_path / "mine").write_text(content)
    with pytest.raises(InputError, match="is no log of a run"):
        set_up_logging(tmp_path / "mine")
    assert (tmp_path / "mine").read_text() == content


def test_an_interrupt_while_libraries_load_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("qwen25.commands.main.importlib.import_module", interrupted)
    assert command.main(["eval"]) == 130
    assert capsys.readouterr().err == "interrupted: nothing was begun\n"


def test_missing_libraries_are_one_line_that_says_what_to_run() -> None:
    """As where a script is started with a Python that is not the environment's."""
    code = "import sys; import quick_eval_qwen25_1024d as q; sys.exit(q.main([]))"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, check=False, cwd=ROOT, env={}
    )
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert "bash setup_qwen25.sh" in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--version"], 0, __version__),
        (["eval", "--version"], 0, __version__),
        (["distil"], 2, "did you mean distill?"),
        (["eval", "--modle", "x"], 2, "did you mean --model?"),
        (["eval", "--mod", "x"], 2, "unrecognized arguments"),
    ],
)
def test_the_command(words: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        ended: object = command.main(words)
    except SystemExit as stopped:
        ended = stopped.code
    assert ended == code and said in "".join(capsys.readouterr())
