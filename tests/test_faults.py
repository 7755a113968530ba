"""Runs that are killed, interrupted or out of space at any moment: nothing that was good before is lost.

A moment is a change of the disk: each opening for writing, renaming and removing in the folder at work, counted by an
audit hook in a process forked for the run. So no test names a place in the code.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import use_items

import distill_qwen25_1024d as distill_script
from qwen25.runtime.files import read_json
from qwen25.runtime.folders import beside, locked

#: All that phase 1 can make: trained rows, shared, in int8, with the copy for sentence-transformers and ONNX.
FLAGS = ["--tune", "rows", "--epochs", "0.2", "--max-size-mb", "0.13", "--languages", "vi"]
FLAGS += ["--onnx", "--device", "cpu", "--quiet"]
#: Files of a model that say when and how it was made.
ABOUT = {"metadata.json", "README.md"}
FULL = -28  # no signal, but the error that there is no space left on the device


@dataclass
class Disk:
    """An audit hook: counts what this process changes in a folder, and strikes before one of the changes.

    :ivar number: strike at this change, the first being 1.
    :ivar blow: a signal, or FULL: then nothing can be made from there on.
    """

    folder: Path
    number: int = 0
    blow: int = 0
    changes: list[str] = field(default_factory=list)

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        makes = event == "os.mkdir" or (event == "open" and (args[2] or 0) & (os.O_WRONLY | os.O_RDWR))
        removes = event in ("os.remove", "os.rmdir")
        if not (makes or removes or event == "os.rename"):
            return
        in_a_tree = removes and args[-1] != -1  # shutil.rmtree removes by names within an open folder
        if not in_a_tree and not str(args[0]).startswith(f"{self.folder}/"):
            return
        self.changes.append(f"{event} {args[0]}")
        if self.blow == FULL and makes and len(self.changes) >= self.number:
            raise OSError(28, os.strerror(28), args[0])
        if self.blow > 0 and len(self.changes) == self.number:
            os.kill(os.getpid(), self.blow)


@dataclass
class Ended:
    """How a run ended: its exit code (negative: the signal), what it said, and what it changed unless it was killed."""

    code: int
    errors: list[str]
    changes: list[str]

    @property
    def failure(self) -> str:
        """The one line that says why."""
        assert [line for line in self.errors if line.startswith("error: ")] == self.errors[-1:], self.errors
        assert not any("Traceback" in line for line in self.errors)
        return self.errors[-1]


def run(script: Any, argv: list[object], disk: Disk) -> Ended:
    """Run a phase as the only thing that a forked process does."""
    notes = disk.folder.with_name("notes")
    notes.mkdir(exist_ok=True)
    (notes / "changes").write_text("[]")
    process = os.fork()
    if not process:
        code = 99
        try:
            signal.alarm(200)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            sys.stderr = sys.stdout = (notes / "errors").open("w", buffering=1)
            torch.set_num_threads(1)  # makes its thread pool anew, which the threads of a loader would do at once
            sys.addaudithook(disk)
            code = script.main([str(word) for word in argv])
            (notes / "changes").write_text(json.dumps(disk.changes))
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    return Ended(code, (notes / "errors").read_text().splitlines(), read_json(notes / "changes"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def moments(changes: list[str], count: int) -> list[int]:
    """Return the number of the change before which the old folder is aside, if there is one, and random others."""
    between = [n for n, change in enumerate(changes, 1) if change.startswith("os.rename") and change.endswith(".new")]
    return [*between, *(1 + np.random.default_rng(0).permutation(len(changes))[:count]).tolist()]


@dataclass
class Bench:
    """A folder to work in, and what the runs in it start from and come to.

    :ivar teacher: its folder, and in it the pairs to train on.
    :ivar old: a model, to be replaced.
    :ivar whole: the files of the model of a run that nothing disturbed, and ``changes`` what it did to the disk.
    """

    teacher: Path
    old: Path
    folder: Path
    whole: dict[str, bytes] = field(default_factory=dict)
    changes: list[str] = field(default_factory=list)

    @property
    def model(self) -> Path:
        return self.folder / "model"

    def flags(self, output: Path) -> list[object]:
        return [*FLAGS, "--teacher", self.teacher, "--pairs", self.teacher / "pairs.jsonl", "--output", output]

    def distil(self, *flags: object, number: int = 0, blow: int = 0) -> Ended:
        argv = [*self.flags(self.model), "--log-file", self.folder.with_name("run.log"), *flags]
        return run(distill_script, argv, Disk(self.folder, number, blow))

    def put_old(self) -> None:
        shutil.rmtree(self.model, ignore_errors=True)
        shutil.copytree(self.old, self.model)

    def holds(self) -> str:
        """Say what the output folder holds, if it is whole."""
        if not self.model.exists():
            assert contents(beside(self.model, "old")) == contents(self.old)
            return "nothing"
        found = contents(self.model)
        if found == contents(self.old):
            return "old"
        assert found.keys() == self.whole.keys() >= {"onnx/model.onnx", "static_embedding_float32/model.safetensors"}
        assert {name for name in found if found[name] != self.whole[name]} <= ABOUT
        return "new"

    def assert_goes_on(self) -> None:
        """Check that the next run is as good as one that nothing disturbed, and leaves nothing else."""
        assert self.distil("--overwrite").code == 0
        assert self.holds() == "new" and [path.name for path in self.folder.iterdir()] == ["model"]


@pytest.fixture(scope="module")
def made(tiny_teacher: Path, few_items: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """The models that tests start from and come to, made with the libraries that forked runs then know."""
    folder = tmp_path_factory.mktemp("made")
    bench = Bench(Path(shutil.copytree(tiny_teacher, folder / "teacher")), folder / "old", folder / "work")
    rows = [{"a": f"Which number is {i}?", "b": f"It is {i + 1} less 1."} for i in range(1100)]
    (bench.teacher / "pairs.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    with pytest.MonkeyPatch.context() as monkeypatch:
        use_items(monkeypatch, few_items)
        flags = [*bench.flags(bench.old), "--dims", 8, "--log-file", folder / "run.log"]
        assert distill_script.main([str(flag) for flag in flags]) == 0
        bench.put_old()
        ended = bench.distil("--overwrite")
        assert ended.code == 0, ended.errors
        bench.whole, bench.changes = contents(bench.model), ended.changes
        yield bench


@pytest.fixture
def bench(made: Bench, tmp_path: Path) -> Bench:
    (tmp_path / "work").mkdir()
    return Bench(made.teacher, made.old, tmp_path / "work", made.whole, made.changes)


class TestPhase1:
    @pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGINT])
    def test_stopped_at_any_moment_it_loses_nothing_and_goes_on(self, blow: signal.Signals, bench: Bench) -> None:
        bench.put_old()
        seen = set()
        for moment in moments(bench.changes, 4 if blow == signal.SIGKILL else 2):
            ended = bench.distil("--overwrite", number=moment, blow=blow)
            # What an earlier run kept leaves less to change: this one may be over before the moment.
            assert ended.code in (0, -9 if blow == signal.SIGKILL else 130), ended.errors
            seen.add(bench.holds())
            if ended.code == 130:
                assert ended.errors[-1].startswith("interrupted: ") and "Traceback" not in "".join(ended.errors)
                assert bench.model.exists()
            if bench.holds() == "new":
                bench.put_old()
        assert seen >= ({"old", "nothing"} if blow == signal.SIGKILL else {"old"})
        bench.assert_goes_on()

    def test_what_was_computed_is_not_computed_again(self, bench: Bench) -> None:
        saving = next(n for n, change in enumerate(bench.changes, 1) if change.endswith("/.model.new"))
        assert bench.distil(number=saving, blow=signal.SIGKILL).code == -signal.SIGKILL
        again = bench.distil()
        assert again.code == 0 and bench.holds() == "new"
        steps = "/.model.steps/."  # where each is written
        assert any(steps in change for change in bench.changes) and not any(steps in c for c in again.changes)

    def test_a_full_disk_is_one_line_and_the_next_run_goes_on(self, bench: Bench) -> None:
        bench.put_old()
        for moment in moments(bench.changes, 2):
            ended = bench.distil("--overwrite", number=moment, blow=FULL)
            if ended.code:  # else all was on the disk by then
                assert ended.code in (1, 2) and "No space left on device" in ended.failure
                assert bench.holds() == "old"
            bench.put_old()
        bench.assert_goes_on()

    def test_a_second_run_at_once_is_refused(self, bench: Bench) -> None:
        bench.put_old()
        with locked(bench.model):
            ended = bench.distil("--overwrite")
            assert ended.code == 1 and "another run is at work on" in ended.failure
        assert bench.holds() == "old"
        beside(bench.model, "lock").write_text("of a process that was killed")
        bench.assert_goes_on()
