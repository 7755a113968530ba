"""Phase 5 on tasks that the tests make through mteb's own classes: nothing is downloaded."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset, DatasetDict
from model2vec import StaticModel
from mteb.abstasks.sts import AbsTaskSTS
from mteb.abstasks.task_metadata import TaskMetadata
from safetensors.numpy import load_file, save_file
from scipy.stats import spearmanr

from qwen25.commands import mteb as mteb_command
from qwen25.commands.mteb import BENCHMARKS, QUICK, tasks_named
from qwen25.runtime.files import schema_fault

pytest.importorskip("mteb", reason="phase 5 is optional: bash setup_qwen25.sh --with-extras")
PAIRS = {
    "eng": [
        ("a cat sleeps on the sofa", "the cat is asleep on a couch", 4.5),
        ("a cat sleeps on the sofa", "a dog barks in the garden", 1.0),
        ("how do I reset my password", "I forgot my login", 4.0),
        ("the stock market fell", "the stock market fell today", 4.8),
        ("the stock market fell", "he fell from a horse", 0.3),
    ],
    "deu": [
        ("die Katze schläft", "der Kater schlummert", 4.0),
        ("die Katze schläft", "das Haus ist rot", 0.5),
        ("das Haus ist rot", "das Haus ist groß und rot", 3.0),
        ("guten Morgen", "guten Tag", 3.5),
        ("guten Morgen", "wo ist der Bahnhof", 1.5),
    ],
}


def metadata(name: str, **languages: list[str]) -> TaskMetadata:
    return TaskMetadata(
        name=name,
        type="STS",
        main_score="cosine_spearman",
        description="Made by a test.",
        dataset={"path": f"local/{name}", "revision": "1"},
        eval_langs=languages,
        eval_splits=["test"],
        category="t2t",
    )


class Similarity(AbsTaskSTS):
    """Pairs in two languages."""

    metadata = metadata("TestSimilarity", eng=["eng-Latn"], deu=["deu-Latn"])

    def load_data(self, **_: Any) -> None:
        columns = ("sentence1", "sentence2", "score")
        self.dataset = {
            language: DatasetDict({"test": Dataset.from_list([dict(zip(columns, p, strict=True)) for p in pairs])})
            for language, pairs in PAIRS.items()
        }
        self.data_loaded = True


class English(Similarity):
    metadata = metadata("TestEnglish", eng=["eng-Latn"])


class NoData(Similarity):
    metadata = metadata("TestNoData", eng=["eng-Latn"])

    def load_data(self, **_: Any) -> None:
        raise ConnectionError("not asked\nsecond line")


class Broken(Similarity):
    def _evaluate_subset(self, *_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("inside the task")


Run = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def run(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs phase 5 with its cache and result in ``tmp_path``."""
    mine = model

    def go(*tasks: Any, flags: tuple[str, ...] = (), model: Path = mine) -> tuple[int, dict[str, Any]]:
        output = tmp_path / "result.json"
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(mteb_command, "tasks_named", lambda _: list(tasks))
        code = mteb_command.main(["--model", str(model), "--output", str(output), *flags])
        result = json.loads(output.read_text(encoding="utf-8"))
        assert schema_fault(result, "mteb") is None
        return code, result

    return go


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Every text that a static model encodes during the test."""
    texts: list[str] = []
    encode = StaticModel.encode

    def counted(self: StaticModel, sentences: Any, *rest: Any, **more: Any) -> np.ndarray:
        texts.extend(sentences)
        return encode(self, sentences, *rest, **more)

    monkeypatch.setattr(StaticModel, "encode", counted)
    return texts


def spearman(model: Path, language: str) -> float:
    """What the task must give, computed without mteb."""
    static = StaticModel.from_pretrained(model)
    left, right = (static.encode([pair[i] for pair in PAIRS[language]]) for i in (0, 1))
    return 100 * float(spearmanr((left * right).sum(axis=1), [pair[2] for pair in PAIRS[language]])[0])


def test_scores_are_what_the_vectors_give(run: Run, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, result = run(Similarity(), English())
    similarity, english = result["tasks"]
    assert code == 0 and result["complete"]
    expected = [np.mean([spearman(model, language) for language in PAIRS]), spearman(model, "eng")]
    assert [similarity["score"], english["score"]] == pytest.approx(expected, abs=1e-3)
    assert all(0 < abs(score) < 100 for score in expected)  # neither is right by accident
    assert similarity["languages"] == ["deu", "eng"]
    assert similarity["dataset"] == {"path": "local/TestSimilarity", "revision": "1"}
    assert result["means"]["over_tasks"] == pytest.approx(np.mean(expected), abs=1e-3)
    printed = capsys.readouterr()
    assert f"{similarity['score']:.2f}" in printed.out and "error" not in printed.err


def test_what_is_finished_is_not_computed_again(run: Run, encoded: list[str]) -> None:
    first = run(Similarity(), English())[1]
    assert encoded
    encoded.clear()
    second = run(Similarity(), English())[1]
    assert not encoded and second["tasks"] == first["tasks"]


def test_another_model_gets_no_kept_result(run: Run, model: Path, tmp_path: Path) -> None:
    """Same name and files but for one table."""
    run(Similarity())
    other = tmp_path / "other" / model.name
    shutil.copytree(model, other)
    tables = load_file(other / "model.safetensors")
    save_file({name: table[::-1].copy() for name, table in tables.items()}, other / "model.safetensors")
    expected = np.mean([spearman(other, language) for language in PAIRS])
    assert run(Similarity(), model=other)[1]["tasks"][0]["score"] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("task", "step", "line"),
    [
        (NoData, "data", "error: TestNoData failed in its data (not asked); run again"),
        (Broken, "evaluation", "error: TestSimilarity failed in its evaluation (inside the task); run again"),
    ],
)
def test_a_failed_task_costs_the_others_nothing(
    task: type[Similarity], step: str, line: str, run: Run, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, result = run(task(), English())
    failed, finished = result["tasks"]
    assert code == 1 and not result["complete"]
    assert failed["failed"]["step"] == step and "\n" not in failed["failed"]["reason"]
    assert finished["score"] == pytest.approx(spearman(model, "eng"), abs=1e-3)
    assert result["means"]["over_tasks"] == finished["score"]
    errors = capsys.readouterr().err
    assert errors.splitlines()[-1].startswith(line) and "finished tasks are in" in errors
    assert errors.count("error") == 1 and "Traceback" not in errors


def test_published_averages_stand_apart_and_beside_english_v2_only(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run(English(), flags=("--tasks", "english-v2"))[1]
    rows = {row["model"]: row for row in result["published"]}
    assert rows["potion-base-32M"]["average"] == 52.13 and "model2vec" in rows["potion-base-32M"]["source"]
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "potion-base-32M" in line)
    assert [cell.strip() for cell in line.split("|")[1:-1]] == ["potion-base-32M", "52.13"]
    run(English(), flags=("--tasks", "quick"))
    assert "potion" not in capsys.readouterr().out


def test_names_and_sets_of_tasks() -> None:
    assert len({task.metadata.type for task in tasks_named(["quick"])}) == 7  # those of English v2
    named = tasks_named(["SciFact", "quick", "STS12"])
    assert named[0].metadata.name == "SciFact" and len(named) == len(QUICK) + 1
    assert len(tasks_named(list(BENCHMARKS))) > len(tasks_named(["english-v2"]))


def test_mteb_is_not_installed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "mteb", None)
    assert mteb_command.main([]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: mteb is not installed") and "setup_qwen25.sh --with-extras" in line
