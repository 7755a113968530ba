"""Output folders are replaced whole or not at all, by one run at a time; finished steps are kept."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

from qwen25.runtime.errors import InputError, PipelineError
from qwen25.runtime.folders import beside, check_output, locked, restore
from qwen25.runtime.steps import NO_CACHE, StepCache, key_of

#: Replaces a folder again and again; each version is two files with one content.
REPLACES = """
import sys
from pathlib import Path
from qwen25.runtime.folders import locked, replaced
folder = Path(sys.argv[1])
for number in range(10_000):
    with locked(folder), replaced(folder, lambda _: None) as new:
        for name in ("model.safetensors", "README.md"):
            (new / name).write_text(f"{number}")
    print(number, flush=True)
"""


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_a_run_killed_at_any_moment_leaves_a_whole_folder(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    chance = random.Random(0)  # noqa: S311, no secret is made
    for _ in range(4):
        run = subprocess.Popen([sys.executable, "-c", REPLACES, folder], stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert run.stdout and run.stdout.readline()
        time.sleep(chance.random() / 20)
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
        with locked(folder):
            restore(folder)
        first, second = (folder / name for name in ("model.safetensors", "README.md"))
        assert first.read_text() == second.read_text() != ""
        assert names(tmp_path) == ["model"]


def test_one_run_at_a_time(tmp_path: Path) -> None:
    with locked(tmp_path / "model"), pytest.raises(PipelineError, match="another run"), locked(tmp_path / "model"):
        pass
    with locked(tmp_path / "model"):
        pass
    assert names(tmp_path) == []
    with pytest.raises(InputError, match="cannot write into"), locked(Path(__file__) / "model"):
        pass


def test_what_may_be_replaced(tmp_path: Path) -> None:
    check_output(tmp_path / "new", overwrite=False)
    with pytest.raises(InputError, match="give another --output"):
        check_output(Path(__file__), overwrite=True)
    (tmp_path / "other").write_text("")
    with pytest.raises(InputError, match="add --overwrite"):
        check_output(tmp_path, overwrite=False)
    with pytest.raises(InputError, match="no model"):
        check_output(tmp_path, overwrite=True)
    (tmp_path / "model.safetensors").write_text("")
    check_output(tmp_path, overwrite=True)
    assert beside(tmp_path / "model", "steps") == tmp_path / ".model.steps"


def test_steps_are_kept_until_what_decides_them_changes(tmp_path: Path) -> None:
    cache = StepCache(tmp_path / "steps")
    rows = np.arange(6, dtype=np.float32).reshape(2, 3)
    key = key_of({"layers": [1, 2]}, rows)
    assert len({key, key_of({"layers": [1]}, rows), key_of({"layers": [1, 2]}, rows.T), key_of({}, rows + 1)}) == 4
    assert cache.load("states", key) is None
    cache.save("states", key, {"1": rows}, {"tokens": 2})
    loaded = cache.load("states", key)
    assert loaded is not None and (loaded[0]["1"] == rows).all() and loaded[1] == {"tokens": 2}
    cache.save("states", "other", {"1": rows})
    assert cache.load("states", key) is None and len(names(tmp_path / "steps")) == 1
    (tmp_path / "steps" / "states-other" / "1.npy").write_bytes(b"damaged")
    assert cache.load("states", "other") is None
    cache.discard()
    assert names(tmp_path) == []
    NO_CACHE.save("states", key, {"1": rows})
    assert NO_CACHE.load("states", key) is None
