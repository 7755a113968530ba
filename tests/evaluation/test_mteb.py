"""Phase 5 on tasks that the tests make through mteb's own classes: nothing is downloaded."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from conftest import ROOT
from datasets import Dataset, DatasetDict
from forked import run_python
from model2vec import StaticModel
from mteb.abstasks import AbsTaskRetrieval
from mteb.abstasks.sts import AbsTaskSTS
from mteb.abstasks.task_metadata import TaskMetadata
from safetensors.numpy import load_file, save_file
from scipy.stats import spearmanr
from tqdm.auto import tqdm

from qwen25.commands import mteb as mteb_command
from qwen25.evaluation.loading import load_encoder
from qwen25.evaluation.mteb_tasks import BENCHMARKS, QUICK, as_mteb_model, fingerprint, tasks_named

pytest.importorskip("mteb", reason="phase 5 is optional: pip install -r requirements_extras.txt")
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
QUERIES = ["cat on a sofa", "hounds among the flowers", "shares are cheaper than yesterday"]
DOCUMENTS = ["the cat is asleep on a couch", "a dog barks in the garden", "the market fell", "a sofa and a cat bed", ""]


def metadata(name: str, kind: str, main_score: str, revision: str = "1", **more: Any) -> TaskMetadata:
    dataset = {"path": f"local/{name}", "revision": revision}
    languages = more.pop("eval_langs", ["eng-Latn"])
    return TaskMetadata(
        name=name,
        type=kind,
        main_score=main_score,
        description="Made by a test.",
        dataset=dataset,
        eval_langs=languages,
        eval_splits=["test"],
        category="t2t",
        **more,
    )


class Similarity(AbsTaskSTS):
    """Pairs in two languages."""

    metadata = metadata(
        "TestSimilarity", "STS", "cosine_spearman", eval_langs={"eng": ["eng-Latn"], "deu": ["deu-Latn"]}
    )

    def load_data(self, **_: Any) -> None:
        columns = ("sentence1", "sentence2", "score")
        self.dataset = {
            language: DatasetDict({"test": Dataset.from_list([dict(zip(columns, p, strict=True)) for p in pairs])})
            for language, pairs in PAIRS.items()
        }
        self.data_loaded = True


class LaterSimilarity(Similarity):
    metadata = metadata(
        "TestSimilarity", "STS", "cosine_spearman", "2", eval_langs={"eng": ["eng-Latn"], "deu": ["deu-Latn"]}
    )


class Retrieval(AbsTaskRetrieval):
    """Each query's own document is the one of its number."""

    metadata = metadata("TestRetrieval", "Retrieval", "ndcg_at_10")

    def load_data(self, **_: Any) -> None:
        split = {
            "queries": Dataset.from_list([{"id": f"q{i}", "text": text} for i, text in enumerate(QUERIES)]),
            "corpus": Dataset.from_list(
                [{"id": f"d{i}", "text": text, "title": ""} for i, text in enumerate(DOCUMENTS)]
            ),
            "relevant_docs": {f"q{i}": {f"d{i}": 1} for i in range(len(QUERIES))},
            "top_ranked": None,
        }
        self.dataset = {"default": {"test": split}}
        self.data_loaded = True


class NoData(Similarity):
    metadata = metadata("TestNoData", "STS", "cosine_spearman")

    def load_data(self, **_: Any) -> None:
        raise ConnectionError("not asked\nsecond line")


class BadData(Similarity):
    def load_data(self, **_: Any) -> None:
        raise ValueError("cannot be read\nsecond line")


class Broken(Similarity):
    def _evaluate_subset(self, *_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("inside the task")


class Constant(Similarity):
    """All right answers are the same number, so that no correlation is defined."""

    def load_data(self, **more: Any) -> None:
        super().load_data(**more)
        assert self.dataset
        for language, split in self.dataset.items():
            self.dataset[language] = split.map(lambda row: row | {"score": 1.0})


class Noisy(Similarity):
    def load_data(self, **more: Any) -> None:
        logging.getLogger("mteb.tasks").warning("noise")
        warnings.warn("noise", stacklevel=1)
        list(tqdm([1], desc="noise"))
        super().load_data(**more)


Run = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def run(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs phase 5 with its cache and result in ``tmp_path``."""

    def go(*tasks: Any, flags: tuple[str, ...] = (), model: Path = tiny_model) -> tuple[int, dict[str, Any]]:
        output = tmp_path / "result.json"
        output.unlink(missing_ok=True)
        monkeypatch.setattr(mteb_command, "tasks_named", lambda _: list(tasks))
        arguments = ["--model", str(model), "--cache", str(tmp_path / "cache"), "--output", str(output), *flags]
        code = mteb_command.main(arguments)
        result = json.loads(output.read_text(encoding="utf-8"))
        schema = json.loads((ROOT / "docs" / "schema" / "mteb.schema.json").read_text(encoding="utf-8"))
        jsonschema.validate(result, schema)
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


def ndcg(model: Path) -> float:
    """The same for retrieval: a query has one right document, whose gain is that of its rank."""
    static = StaticModel.from_pretrained(model)
    similarity = static.encode(QUERIES) @ static.encode(DOCUMENTS).T
    ranks = [int((row > row[i]).sum()) + 1 for i, row in enumerate(similarity)]
    return 100 * float(np.mean([1 / np.log2(rank + 1) for rank in ranks]))


def test_scores_are_what_the_vectors_give(run: Run, tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, result = run(Similarity(), Retrieval())
    similarity, retrieval = result["tasks"]
    assert code == 0 and result["complete"]
    expected = [np.mean([spearman(tiny_model, language) for language in PAIRS]), ndcg(tiny_model)]
    assert [similarity["score"], retrieval["score"]] == pytest.approx(expected, abs=1e-3)
    assert all(0 < abs(score) < 100 for score in expected)  # neither is right by accident
    assert similarity["languages"] == ["deu", "eng"]
    assert similarity["dataset"] == {"path": "local/TestSimilarity", "revision": "1"}
    assert result["means"]["types"] == {"STS": similarity["score"], "Retrieval": retrieval["score"]}
    assert result["means"]["over_types"] == pytest.approx(np.mean(expected), abs=1e-3)
    printed = capsys.readouterr()
    assert f"{similarity['score']:.2f}" in printed.out and "error" not in printed.err


def test_vectors_have_length_one(tiny_model: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    shutil.copytree(tiny_model, plain)
    config = json.loads((plain / "config.json").read_text())
    (plain / "config.json").write_text(json.dumps(config | {"normalize": False}))
    batches = [{"text": DOCUMENTS[:2]}, {"text": DOCUMENTS[2:]}]
    vectors = as_mteb_model(load_encoder(str(plain))).encode(batches)
    np.testing.assert_allclose(vectors, StaticModel.from_pretrained(tiny_model).encode(DOCUMENTS), atol=1e-6)
    assert vectors.dtype == np.float32 and DOCUMENTS[-1] == "" and not vectors[-1].any()


def test_what_mteb_says_is_held_back(
    run: Run, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    assert run(Noisy())[0] == 0
    assert "noise" not in capsys.readouterr().err + caplog.text
    assert not any("noise" in str(warning.message) for warning in recwarn)


def test_types_weigh_the_same_in_their_mean() -> None:
    rows = [{"type": "A", "score": 1.0}, {"type": "A", "score": 2.0}, {"type": "B", "score": 6.0}, {"type": "C"}]
    assert mteb_command.means(rows) == {"types": {"A": 1.5, "B": 6.0}, "over_types": 3.75, "over_tasks": 3.0}


def test_what_is_finished_is_not_computed_again(run: Run, encoded: list[str]) -> None:
    first = run(Similarity(), Retrieval())[1]
    assert encoded
    encoded.clear()
    second = run(Similarity(), Retrieval())[1]
    assert not encoded and second["tasks"] == first["tasks"]
    assert run(Similarity(), Retrieval(), flags=("--overwrite",))[0] == 0
    assert encoded


def test_another_model_gets_no_kept_result(run: Run, encoded: list[str], tiny_model: Path, tmp_path: Path) -> None:
    """Same name and files but for one table; then the same table with a config that changes its vectors."""
    run(Similarity())
    other = tmp_path / "other" / tiny_model.name
    shutil.copytree(tiny_model, other)
    tables = load_file(other / "model.safetensors")
    save_file({name: table[::-1].copy() for name, table in tables.items()}, other / "model.safetensors")
    expected = np.mean([spearman(other, language) for language in PAIRS])
    assert run(Similarity(), model=other)[1]["tasks"][0]["score"] == pytest.approx(expected, abs=1e-3)

    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"normalize": False}))
    encoded.clear()
    run(Similarity(), model=other)
    assert encoded


def test_another_configuration_of_the_same_weights_is_another_model(tiny_bert: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bert"
    shutil.copytree(tiny_bert, folder)
    encoder = load_encoder(f"st:{folder}")
    known = {fingerprint(encoder, folder)}
    for name in ("1_Pooling/config.json", "tokenizer_config.json", "sentence_bert_config.json", "vocab.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(f'{{"changed": "{name}"}}')
        known.add(fingerprint(encoder, folder))
    assert len(known) == 5
    (folder / "result.json").write_text("{}")  # and what lies beside it does not make it another
    assert fingerprint(encoder, folder) in known


@pytest.mark.parametrize("place", ["folder", "cache", "model/config.json"])
def test_a_result_without_a_place_is_refused_before_the_work(
    place: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(mteb_command, "tasks_named", None)
    shutil.copytree(tiny_model, tmp_path / "model")
    (tmp_path / "folder").mkdir()
    arguments = ["--model", str(tmp_path / "model"), "--cache", str(tmp_path / "cache")]
    assert mteb_command.main([*arguments, "--output", str(tmp_path / place)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and str(tmp_path.name) in line


def test_kept_results_of_earlier_data_are_not_used(run: Run, encoded: list[str]) -> None:
    run(Similarity())
    encoded.clear()
    assert run(LaterSimilarity())[1]["tasks"][0]["dataset"]["revision"] == "2"
    assert encoded


def test_a_result_that_was_cut_off_is_computed_again(run: Run, tmp_path: Path) -> None:
    first = run(Similarity())[1]["tasks"][0]
    (path,) = (tmp_path / "cache").rglob("TestSimilarity.json")
    path.write_bytes(path.read_bytes()[:100])
    code, result = run(Similarity())
    assert code == 0 and result["tasks"][0]["score"] == first["score"]


def test_a_kept_result_counts_only_in_the_languages_asked_for(run: Run, encoded: list[str], tiny_model: Path) -> None:
    run(Similarity())
    encoded.clear()
    (row,) = run(Similarity().filter_languages(["deu"]))[1]["tasks"]
    assert not encoded and row["languages"] == ["deu"]
    assert row["score"] == pytest.approx(spearman(tiny_model, "deu"), abs=1e-3)
    assert abs(row["score"] - spearman(tiny_model, "eng")) > 1


@pytest.mark.parametrize(
    ("task", "step", "line"),
    [
        (NoData, "data", "error: the data of TestNoData could not be downloaded (HF_HUB_OFFLINE is set): run"),
        (BadData, "data", "error: the data of TestSimilarity could not be downloaded (cannot be read): check"),
        (Broken, "evaluation", "error: TestSimilarity failed (inside the task): run again with --debug"),
        (Constant, "evaluation", "error: TestSimilarity failed (its score is no finite number): "),
    ],
)
def test_a_failed_task_costs_the_others_nothing(
    task: type[Similarity], step: str, line: str, run: Run, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, result = run(task(), Retrieval())
    failed, finished = result["tasks"]
    assert code == 1 and not result["complete"]
    assert failed["failed"]["step"] == step and "\n" not in failed["failed"]["reason"]
    assert finished["score"] == pytest.approx(ndcg(tiny_model), abs=1e-3)
    assert result["means"]["over_tasks"] == finished["score"]
    errors = capsys.readouterr().err
    assert errors.splitlines()[-1].startswith(line) and "finished tasks are kept in" in errors
    assert errors.count("error") == 1 and "Traceback" not in errors


def test_without_any_score_there_is_no_mean(run: Run) -> None:
    code, result = run(NoData())
    assert code == 1 and result["means"] == {"types": {}, "over_types": None, "over_tasks": None}


def test_published_averages_stand_apart_and_beside_english_v2_only(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run(Retrieval(), flags=("--tasks", "english-v2"))[1]
    rows = {row["model"]: row for row in result["published"]}
    assert rows["potion-base-32M"]["average"] == 52.13 and "model2vec" in rows["potion-base-32M"]["source"]
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "potion-base-32M" in line)
    assert [cell.strip() for cell in line.split("|")[1:-1]] == ["potion-base-32M", "-", "-", "52.13"]
    run(Retrieval(), flags=("--tasks", "quick"))
    assert "potion" not in capsys.readouterr().out


def test_names_and_sets_of_tasks() -> None:
    quick = tasks_named(["quick"])
    assert {task.metadata.name for task in quick} == set(QUICK)
    whole = {task.metadata.name: task for task in tasks_named(["english-v2"])}
    for task in quick:  # the same splits and languages, so that results are shared
        assert (task.hf_subsets, task.eval_splits) == (
            whole[task.metadata.name].hf_subsets,
            whole[task.metadata.name].eval_splits,
        )
    types = {"Classification", "Clustering", "PairClassification", "Reranking", "Retrieval", "STS", "Summarization"}
    assert {task.metadata.type for task in quick} == types
    named = tasks_named(["SciFact", "quick", "STS12"])
    assert named[0].metadata.name == "SciFact" and len(named) == len(QUICK) + 1
    assert len(tasks_named(list(BENCHMARKS))) > len(whole)


@pytest.mark.parametrize(
    ("name", "hint"), [("sts-12", "STS12"), ("Banking77Clasification", "Banking77Classification"), ("CIFAR10", "texts")]
)
def test_a_name_that_is_no_task_of_texts(
    name: str, hint: str, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--tasks", name, "--model", str(tiny_model), "--cache", str(tmp_path / "c")]
    assert mteb_command.main([*arguments, "--output", str(tmp_path / "r.json")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and hint in line
    assert not (tmp_path / "r.json").exists()


def test_a_model_without_one_vector_a_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mteb_command.main(["--tasks", "STS12", "--model", "bm25", "--cache", str(tmp_path)]) == 2
    assert "one vector a text" in capsys.readouterr().err


def test_mteb_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "mteb", None)
    assert mteb_command.main(["--cache", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: mteb is not installed") and "setup_qwen25.sh --with-extras" in line


@pytest.mark.parametrize("flags", [[], ["--offline"]], ids=["no answer", "offline"])
def test_no_network_is_one_line(flags: list[str], tiny_model: Path, tmp_path: Path) -> None:
    """In a process of its own: which hub is asked is settled when the libraries are imported."""
    asked: list[str] = []

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET

    with HTTPServer(("127.0.0.1", 0), Hub) as hub:
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        if not flags:
            hub.socket.close()
        address = f"http://127.0.0.1:{hub.server_port}"
        environment = os.environ | {"HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "hub")}
        arguments = ["--tasks", "STS12", "ArguAna", "--model", str(tiny_model), "--cache", str(tmp_path / "cache")]
        arguments += ["--output", str(tmp_path / "result.json"), *flags]
        command = [str(ROOT / "evaluate_qwen25_mteb.py"), *arguments]
        done = run_python(command, environment, ROOT, timeout=120)
        hub.shutdown()
    assert done.returncode == 1 and not asked
    *tasks, error = done.stderr.splitlines()
    reason, advice = ("--offline was given", "run again without it") if flags else ("the hub does not answer", "check")
    assert error.startswith("error: the data of STS12 could not be downloaded (")
    assert f"({reason}) and 1 more failed: {advice}" in error
    assert tasks == ["STS12 (1 of 2)", "ArguAna (2 of 2)"]
    result = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert [row["failed"]["step"] for row in result["tasks"]] == ["data", "data"]
