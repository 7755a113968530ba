"""``run_qwen25.sh all`` for the hub's teacher, on a hub of this machine that serves a tiny Qwen2 and the mixture."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from conftest import ROOT
from fake_hub import FakeHub, Fault, weights_body
from pyarrow import parquet
from teachers import make_teacher

import compare_qwen25_vs_all
import distill_qwen25_1024d
import quick_eval_qwen25_1024d
from qwen25.runtime.errors import InputError
from qwen25.runtime.files import schema_fault
from qwen25.teacher.teacher import find_teacher
from qwen25.training.sources import MIXTURES, read_mixture

#: What is added to the commands, so that they take seconds.
SHORTER = {
    distill_qwen25_1024d: "--device cpu",
    quick_eval_qwen25_1024d: "",
    compare_qwen25_vs_all: "--no-peers",
}
GATED, MOVED = "databricks/databricks-dolly-15k", "CohereLabs/aya_dataset"


def serve(hub: FakeHub, folder: Path, number: int, entry: dict[str, Any]) -> None:
    """Serve 60 rows of a set of the mixture, in the layout that it has on the hub."""
    table = {column: [f"{column} {i} of {number}" for i in range(60)] for column in entry.get("columns") or ["a", "b"]}
    table["lang"] = table["language_code"] = ["yo"] * 60
    path = folder / entry.get("subset", "data") / "train-00000-of-00001.parquet"
    path.parent.mkdir(parents=True)
    parquet.write_table(pyarrow.table(table), path, row_group_size=20)
    repo = f"datasets/{'CohereForAI/aya_dataset' if entry['repo'] == MOVED else entry['repo']}"
    if "copy only" in entry["checked"]:
        (folder.parent / "main").mkdir(exist_ok=True)
        (folder.parent / "main" / "data.jsonl").write_text("{}")
        hub.add(repo, folder.parent / "main")
        hub.add(repo, folder, "refs/convert/parquet")
    else:
        hub.add(repo, folder)


def commands_of_all(folder: Path) -> list[list[str]]:
    """Return what ``run_qwen25.sh all`` calls Python with, where all is installed."""
    shutil.copytree(ROOT / ".ci", folder / ".ci")
    for name in ("run_qwen25.sh", "requirements_qwen25.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    (folder / "setup_qwen25.sh").touch()
    python = folder / "venv_qwen25" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\necho "$@" >>"{folder}/calls"\n')
    python.chmod(0o755)
    subprocess.run(["bash", str(folder / "run_qwen25.sh"), "all"], check=True, capture_output=True)
    return [shlex.split(line) for line in (folder / "calls").read_text().splitlines()]


@pytest.mark.usefixtures("on_few_items")
def test_all_steps_run_from_the_hub_though_a_set_is_gated_and_another_has_moved(
    hub: FakeHub,
    tiny_teacher: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    hub.add("Qwen/Qwen2.5-1.5B-Instruct", tiny_teacher)
    for number, entry in enumerate(read_mixture(MIXTURES["recommended"])):
        serve(hub, tmp_path / "sets" / entry["repo"], number, entry)
    hub.moved[f"datasets/{MOVED}"] = "datasets/CohereForAI/aya_dataset"
    hub.faults.append(Fault("gated", lambda request: GATED in request and "/resolve/" in request))
    (tmp_path / "checkout").mkdir()
    monkeypatch.chdir(tmp_path / "checkout")
    calls = commands_of_all(tmp_path / "checkout")
    for (script, *words), (module, shorter) in zip(calls, SHORTER.items(), strict=True):
        assert script == f"{module.__name__}.py"
        assert module.main([*words, *shorter.split()]) == 0, capsys.readouterr().err
    said = capsys.readouterr().err
    assert "40 sets of pairs, at most 284.8 MB" in said
    assert f"trained without {GATED}: --pairs: data set {GATED} is gated" in said[said.index("8/8") :]
    metadata = json.loads(Path("models/qwen25-deposium-1024d/metadata.json").read_text())
    assert schema_fault(metadata, "metadata") is None
    training = metadata["training"]
    assert [one["name"] for one in training["missing_sets"]] == [GATED]
    assert training["settings"]["tune"] == "rows"
    languages = {one["name"]: one["languages"] for one in training["sets"]}
    assert len(languages) == 39 and languages[MOVED] == ["yo"] and languages["nthakur/swim-ir-monolingual/hi"] == ["hi"]
    for name in ("qwen25_1024d_eval_results.json", "model_comparison_results.json"):
        assert Path(name).is_file()


@pytest.mark.parametrize("save", [{}, {"max_shard_size": "20KB"}], ids=["one file", "shards"])
@pytest.mark.parametrize("trouble", ["moved", "busy", "cut", "gated"])
def test_a_teacher_is_fetched_whole_or_refused(
    hub: FakeHub, tmp_path: Path, save: dict[str, Any], trouble: str
) -> None:
    made = make_teacher(tmp_path / "made", **save)
    hub.add("Qwen/Tiny", tmp_path / "made")
    hub.moved |= {"Qwen/Old": "Qwen/Tiny"} if trouble == "moved" else {}
    times = None if trouble == "gated" else 1
    hub.faults += [Fault(trouble, weights_body, times)] if trouble != "moved" else []
    spec = "Qwen/Old" if trouble == "moved" else "Qwen/Tiny"
    if trouble == "gated":
        with pytest.raises(InputError, match="is gated: accept its terms"):
            find_teacher(spec)
        return
    found = find_teacher(spec)
    weights = {path.name: path.read_bytes() for path in made.folder.glob("*.safetensors")}
    assert {path.name: path.read_bytes() for path in found.folder.glob("*.safetensors")} == weights
    assert (len(weights) > 1) == bool(save)
