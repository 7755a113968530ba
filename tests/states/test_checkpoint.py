"""A run that was cut off, in whatever way, goes on where it was and gives the same bytes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from teachers import LAYERS, PREFIX, SUFFIX, VOCABULARY, WORDS, make_teacher, states_of
from teachers import one_thread as one_thread  # the fixtures
from teachers import teacher as teacher

from qwen25.runtime.errors import PipelineError
from qwen25.states import checkpoint, jobs
from qwen25.states.checkpoint import Checkpointing, discard_checkpoint
from qwen25.states.jobs import Frame
from qwen25.states.prefetch import Prefetch
from qwen25.states.token_states import token_states
from qwen25.teacher.teacher import Teacher

IDS = np.arange(VOCABULARY)
RUN = """
import os, signal, sys
from pathlib import Path
import numpy as np, torch
from qwen25.states import checkpoint, streaming
from qwen25.states.device import Computing
from qwen25.states.jobs import Frame
from qwen25.states.token_states import token_states
from qwen25.teacher.teacher import Teacher

torch.set_num_threads(1)
teacher, folder, moment = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
checkpoint.CHECKPOINT_SHARE = float("inf")  # after every layer
saved, calls = 0, {"computing": 0}
real_save, real_json = checkpoint.Checkpoint.save, checkpoint.write_json
real_forward = streaming.layer_forward

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def save(self, *args):
    global saved
    real_save(self, *args)
    saved += 1
    if moment == "after a save" and saved == 2:
        die()

def write_json(*args):
    if moment == "before the manifest" and saved == 2:
        die()
    real_json(*args)

def forward(*args, **options):
    if moment == "within a layer" and saved == 2 and not options.get("keep"):
        calls["computing"] += 1
        if calls["computing"] == 3:
            die()
    return real_forward(*args, **options)

checkpoint.Checkpoint.save, checkpoint.write_json, streaming.layer_forward = save, write_json, forward
states = token_states(Teacher("t", "folder", teacher), Frame((5, 9, 5)), [0, 1, 3, 4], Computing(batch_size=16))
states.compute(np.arange(61), checkpoint.Checkpointing(folder))
"""


def states_with(teacher: Teacher, folder: Path | None, **options: Any) -> dict[int, np.ndarray]:
    """Compute what RUN computes."""
    return states_of(teacher, IDS, Frame((5, 9, 5)), [0, 1, 3, 4], folder=folder, **{"batch_size": 16, **options})


@pytest.fixture
def every_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Save after every layer."""
    monkeypatch.setattr(checkpoint, "CHECKPOINT_SHARE", float("inf"))


def layers_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the list that the layers' numbers go to as they are read for computing."""
    read: list[int] = []
    real = Prefetch._load

    def load(self: Any, index: int) -> Any:
        read.append(index)
        return real(self, index)

    monkeypatch.setattr(Prefetch, "_load", load)
    return read


def cut_off(teacher: Teacher, folder: Path, monkeypatch: pytest.MonkeyPatch, layer: int = 2) -> None:
    """Leave the checkpoint of a run that failed in ``layer``."""
    real = Prefetch._load

    def load(self: Any, index: int) -> Any:
        if index == layer:
            raise PipelineError("cut off")
        return real(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(Prefetch, "_load", load)
        with pytest.raises(PipelineError, match="cut off"):
            states_with(teacher, folder)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize("moment", ["after a save", "before the manifest", "within a layer"])
def test_a_killed_run_goes_on_and_gives_the_same_bytes(
    moment: str,
    teacher: Teacher,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    every_layer: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    undisturbed = states_with(teacher, None)
    folder = tmp_path / "checkpoint"
    path = os.pathsep.join([str(Path(checkpoint.__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-c", RUN, str(teacher.folder), str(folder), moment]
    killed = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    read = layers_read(monkeypatch)
    with caplog.at_level("INFO", logger="qwen25"):
        resumed = states_with(teacher, folder)
    assert caplog.messages[-1] == "going on from checkpoint checkpoint, after layer 2 of 4"
    assert read == [2, 3]  # two layers had been saved, whatever came after
    for layer, expected in undisturbed.items():
        assert resumed[layer].tobytes() == expected.tobytes()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_run_in_waves_goes_on_within_its_wave(
    dtype: torch.dtype, teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every_layer: None
) -> None:
    monkeypatch.setattr(jobs, "WAVE_BYTES", 24 * dtype.itemsize * 25)  # three waves of up to 25 positions
    options: dict[str, Any] = {"at": "last", "dtype": dtype, "batch_size": 4}
    run = lambda folder: states_of(teacher, WORDS * 3, Frame(PREFIX, SUFFIX), [1, 4], folder=folder, **options)  # noqa: E731
    undisturbed = run(None)
    real, count = Prefetch.next, 0

    def fail(self: Any) -> Any:
        nonlocal count
        count += 1
        if count == 7:
            raise PipelineError("cut off")
        return real(self)

    with monkeypatch.context() as patch:
        patch.setattr(Prefetch, "next", fail)
        with pytest.raises(PipelineError, match="cut off"):
            run(tmp_path / "checkpoint")
    read = layers_read(monkeypatch)
    resumed = run(tmp_path / "checkpoint")
    assert read[:3] == [2, 3, 0]
    for layer, expected in undisturbed.items():
        assert resumed[layer].tobytes() == expected.tobytes()


def test_a_finished_checkpoint_is_read_back_until_it_is_discarded(
    teacher: Teacher,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    every_layer: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = tmp_path / "checkpoint"
    first = states_with(teacher, folder)
    read = layers_read(monkeypatch)
    with caplog.at_level("INFO", logger="qwen25"):
        again = states_with(teacher, folder)
    assert read == []
    assert caplog.messages[-1] == "checkpoint checkpoint holds all states already"
    with pytest.raises(ValueError, match="read-only"):  # the files are what a run goes on from
        first[1][:] = 0.0
    np.testing.assert_array_equal(states_with(teacher, folder)[1], again[1])
    (folder / "notes.txt").write_text("not ours")
    for name in ("states-0-2.tmp", ".manifest.json.1.tmp"):
        (folder / name).write_text("half")  # of a run that was killed
    discard_checkpoint(folder)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    np.testing.assert_array_equal(again[4], states_with(teacher, None)[4])  # the mapping outlives its file


def test_resume_false_starts_anew(
    teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every_layer: None
) -> None:
    cut_off(teacher, tmp_path / "checkpoint", monkeypatch)
    read = layers_read(monkeypatch)
    states_with(teacher, tmp_path / "checkpoint", resume=False)
    assert read == [0, 1, 2, 3]


@pytest.mark.parametrize("options", [{"seed": 1}, {"dtype": torch.float16}, {"batch_size": 7}])
def test_a_checkpoint_of_another_run_is_discarded(
    options: dict[str, Any],
    teacher: Teacher,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    every_layer: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = tmp_path / "checkpoint"
    cut_off(teacher, folder, monkeypatch)
    if "seed" in options:
        teacher = make_teacher(tmp_path / "other", seed=options.pop("seed"))
    read = layers_read(monkeypatch)
    with caplog.at_level("INFO", logger="qwen25"):
        found = states_with(teacher, folder, **options)
    assert read == [0, 1, 2, 3]
    assert sum("of another teacher, of other settings" in line for line in caplog.messages) == 1
    np.testing.assert_array_equal(found[4], states_with(teacher, None, **options)[4])


@pytest.mark.parametrize("damage", ["states", "layer", "manifest", "manifest type"])
def test_a_damaged_checkpoint_is_discarded(
    damage: str,
    teacher: Teacher,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    every_layer: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = tmp_path / "checkpoint"
    cut_off(teacher, folder, monkeypatch)
    if damage == "manifest type":
        (folder / "manifest.json").write_text("[1]")
    else:
        (path,) = list(folder.glob({"states": "states-*.npy", "layer": "layer-3.npy"}.get(damage, "manifest.json")))
        path.write_bytes(path.read_bytes()[:-9])
    read = layers_read(monkeypatch)
    with caplog.at_level("INFO", logger="qwen25"):
        found = states_with(teacher, folder)
    assert read == [0, 1, 2, 3]
    assert sum("starting anew" in line for line in caplog.messages) == 1
    np.testing.assert_array_equal(found[4], states_with(teacher, None)[4])


def test_too_little_disk_is_said_before_the_work_starts(
    teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda _: usage)
    states, checkpointing = token_states(teacher, Frame(), [1, 4]), Checkpointing(tmp_path / "checkpoint")
    needed = states.plan(IDS, checkpointing).disk_bytes
    assert needed == 2 * IDS.size * 24 * 4 + 2 * IDS.size * 24 * 4
    with pytest.raises(PipelineError, match=f"need {needed:,} bytes .* another disk"):
        states.compute(IDS, checkpointing)
    assert not (tmp_path / "checkpoint").exists()


def test_a_full_disk_keeps_the_last_checkpoint(
    teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every_layer: None
) -> None:
    folder = tmp_path / "checkpoint"
    real, calls = os.fsync, 0

    def fsync(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 20:
            raise OSError(28, "No space left on device")
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.os, "fsync", fsync)
        with pytest.raises(PipelineError, match="No space left on device; free some space and run again"):
            states_with(teacher, folder)
    at = json.loads((folder / "manifest.json").read_text())["layer"]
    read = layers_read(monkeypatch)
    found = states_with(teacher, folder)
    assert at > 0
    assert read == list(range(at, LAYERS))
    np.testing.assert_array_equal(found[4], states_with(teacher, None)[4])
