"""Phases 2 and 3, as scripts and from Python: each system is honest about how it was obtained."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import NEEDS_PYLATE
from fake_hub import FakeHub, Fault, use_hub
from model2vec import StaticModel

import compare_qwen25_vs_all as compare_script
import quick_eval_qwen25_1024d as eval_script
import qwen25
from qwen25.evaluation.matching import Bm25, LateInteraction
from qwen25.evaluation.models import OURS, PEERS, load_encoder
from qwen25.runtime.console import MODEL
from qwen25.runtime.files import read_json, schema_fault

pytestmark = pytest.mark.usefixtures("on_few_items")


def rows_of(comparison: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in comparison["models"]}


class TestEvaluation:
    def test_from_python(self, model: Path) -> None:
        result = qwen25.evaluate(str(model))
        assert schema_fault(result, "evaluation") is None
        assert result["model"]["name"] == "mine" and len(result["categories"]) == 6
        assert result == json.loads(json.dumps(result))
        again = qwen25.evaluate(model, seed=42)
        assert (again["overall"], again["categories"]) == (result["overall"], result["categories"])
        assert qwen25.evaluate(model, seed=7)["overall"]["control"] != result["overall"]["control"]

    def test_the_page_is_written_beside_the_result(self, model: Path, tmp_path: Path) -> None:
        output = tmp_path / "demo" / "eval_results.json"
        assert eval_script.main(["--model", str(model), "--output", str(output), "-q"]) == 0
        assert schema_fault(read_json(output), "evaluation") is None
        assert {path.name for path in output.parent.iterdir()} == {"eval_results.json", "eval_report.html"}

    @pytest.mark.parametrize(
        ("limit", "score", "verdict", "is_below"),
        [
            ("0.5", 0.5, "Poor", False),
            ("0.5", 0.4, "Good", True),
            ("good", 0.4, "Good", False),
            ("Good", 0.9, "Fair", True),
            ("poor", 0.9, None, True),
        ],
    )
    def test_fail_under(self, limit: str, score: float, verdict: str | None, is_below: bool) -> None:
        result = {"overall": {"score": score}, "verdict": {"verdict": verdict}}
        assert eval_script.is_below(result, eval_script.fail_under(limit)) == is_below


class Runner:
    """Runs phase 3 with a model as ours."""

    def __init__(self, model: Path, folder: Path) -> None:
        self.output = folder / "out" / "comparison_results.json"
        self.arguments = ["--model", f"OURS={model}", "--output", str(self.output), "-q"]

    def __call__(self, *arguments: str) -> dict[str, Any]:
        assert self.code(*arguments) == 0
        comparison = read_json(self.output)
        assert schema_fault(comparison, "comparison") is None
        return comparison

    def code(self, *arguments: str) -> int:
        return compare_script.main([*self.arguments, "--no-peers", *arguments])


@pytest.fixture
def run(model: Path, tmp_path: Path) -> Runner:
    return Runner(model, tmp_path)


class TestRows:
    def test_the_control_stands_beside_ours_and_a_twin_does_not_differ(self, run: Runner, model: Path) -> None:
        comparison = run("--model", f"TWIN={model}")
        rows = rows_of(comparison)
        assert list(rows) == ["OURS", "random directions", "TWIN"]
        ours, control, twin = rows.values()
        assert control["result"]["overall"]["score"] == ours["result"]["overall"]["control"]["score"]
        assert control["result"]["health"]["sentences_per_second"] > 0
        same = {"value": 0.0, "interval": [0.0, 0.0], "word": "no difference shown"}
        assert twin["difference_to_ours"]["overall"] == same
        assert all(found == same for found in twin["difference_to_ours"]["categories"].values())
        health = ours["result"]["health"]
        assert health["size_bytes"] == sum((model / f).stat().st_size for f in ("model.safetensors", "tokenizer.json"))
        assert health["memory_bytes"] == StaticModel.from_pretrained(model).embedding.nbytes
        written = {path.name for path in run.output.parent.iterdir()}
        assert written == {run.output.name, *(f"comparison.{kind}" for kind in ("png", "md", "html"))}

    def test_from_python_bm25_is_scored_where_a_category_is_retrieval(self, model: Path) -> None:
        comparison = qwen25.compare(f"MINE={model}", {"WORDS": "bm25"}, peers=False)
        assert comparison["ours"] == "MINE" and set(rows_of(comparison)) == {"MINE", "random directions", "WORDS"}
        row = rows_of(comparison)["WORDS"]
        assert "topic_clustering" not in row["result"]["categories"] and len(row["result"]["categories"]) == 5
        assert row["difference_to_ours"]["overall"] is None
        assert len(row["difference_to_ours"]["categories"]) == 5

    def test_sentence_transformers_gives_the_same_scores(self, run: Runner, model: Path) -> None:
        row = rows_of(run("--model", f"ST=st:{model}"))["ST"]
        assert row["kind"] == "sentence-transformers"
        assert abs(row["difference_to_ours"]["overall"]["value"]) < 1e-3

    def test_every_peer_is_there_or_says_how_to_get_it(
        self, model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.chdir(tmp_path)  # where no model was made yet
        for slow in ("all-MiniLM-L6-v2", "all-MiniLM-L6-v2 by model2vec"):
            monkeypatch.delitem(PEERS, slow)
        comparison = qwen25.compare(model, offline=True)
        assert schema_fault({**comparison, "ours": "mine"}, "comparison") is None
        rows = rows_of(comparison)
        for name in ("Gemma-768D", "Qwen3-256D", "Qwen3-1024D"):
            assert rows[name]["obtained"] == "published" and f"--preset {name.lower()}" in rows[name]["how"]
            assert rows[name]["published"]["source"] and "cosine" in rows[name]["published"]["protocol"]
        assert rows["ColBERT 32M"]["published"]["latency_ms"] == 5.94
        assert rows["plain recipe"]["obtained"] == "unavailable" and "--recipe plain" in rows["plain recipe"]["how"]
        assert rows["WordLlama-256"]["obtained"] == "measured" and rows["BM25"]["obtained"] == "measured"


class TestNames:
    def test_a_model_without_a_name_has_its_own(self, model: Path, tmp_path: Path) -> None:
        named = tmp_path / "folder=1"
        shutil.copytree(model, named)
        assert compare_script.named_spec(str(named)) == ("folder=1", str(named))
        (named / "metadata.json").write_text('{"name": "Ada"}')
        assert compare_script.named_spec(str(named)) == ("Ada", str(named))
        assert compare_script.named_spec(str(MODEL)) == (OURS, str(MODEL))
        assert compare_script.named_spec("bm25") == ("BM25", "bm25")
        assert compare_script.named_spec("X=st:owner/name") == ("X", "st:owner/name")

    @pytest.mark.parametrize(
        "names", [["OURS=bm25"], ["A=bm25", "A=bm25"], ["random directions=bm25"], ["=bm25"], ["a\nb=bm25"]]
    )
    def test_names_must_differ_and_be_printable(self, run: Runner, names: list[str]) -> None:
        assert run.code(*(word for name in names for word in ("--model", name))) == 2


def test_a_model_the_user_names_must_load(run: Runner, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.code("--model", f"X={tmp_path}") == 2
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("error: ")
    assert not run.output.exists()


class TestMatchers:
    def test_late_interaction_is_the_mean_of_the_best_cosines(self) -> None:
        generator = np.random.default_rng(0)
        found = {
            text: generator.standard_normal((n, 8)).astype(np.float32) for text, n in zip("abc", (2, 3, 1), strict=True)
        }
        found = {text: tokens / np.linalg.norm(tokens, axis=1, keepdims=True) for text, tokens in found.items()}
        matcher = LateInteraction(lambda texts, _: [found[t] for t in texts])
        expected = np.array([[np.mean([max(q @ d for d in found[b]) for q in found[a]]) for b in "abc"] for a in "abc"])
        np.testing.assert_allclose(matcher.similarity("abc", "abc"), expected, rtol=1e-5)
        np.testing.assert_allclose(matcher.pairwise("ab", "cb"), [expected[0, 2], expected[1, 1]], rtol=1e-5)

    @NEEDS_PYLATE
    def test_colbert_ranks_as_pylate_does(self, tmp_path: Path, tiny_bert: Path) -> None:
        from pylate import models, rank

        model = models.ColBERT(str(tiny_bert), device="cpu", embedding_size=16)
        model.save_pretrained(str(tmp_path / "colbert"))
        encoder = load_encoder(f"colbert:{tmp_path / 'colbert'}")
        queries, documents = ["the old house", "how to cook"], ["a house", "cook rice slowly", "the old dog", "to"]
        theirs = rank.rerank(
            documents_ids=[list(range(4))] * 2,
            queries_embeddings=model.encode(queries, is_query=True, show_progress_bar=False),
            documents_embeddings=[model.encode(documents, is_query=False, show_progress_bar=False)] * 2,
        )
        ours = encoder.matcher.similarity(queries, documents)
        for scores, ranking in zip(ours, theirs, strict=True):
            assert np.argsort(-scores, kind="stable").tolist() == [found["id"] for found in ranking]
        assert encoder.dims == 16 and encoder.kind == "late interaction"

    def test_bm25_prefers_rare_shared_words(self) -> None:
        scores = Bm25().similarity(
            ["a red lamp", "nothing shared"], ["a chair", "a lamp", "a red red house", "a b", ""]
        )
        assert scores[0].argmax() in (1, 2) and scores[0, 1] > scores[0, 0] > scores[0, 4] == 0
        assert not scores[1].any()


def test_a_hub_model_is_measured_and_a_failure_of_the_hub_costs_the_row_alone(
    run: Runner, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeHub() as hub:
        use_hub(monkeypatch, hub.url, tmp_path / "home")
        hub.add("tiny/static", model)
        hub.faults = [Fault("broken", lambda request: "tiny/other" in request)]
        rows = rows_of(run("--model", "HUB=tiny/static", "--model", "OTHER=tiny/other"))
    assert rows["HUB"]["obtained"] == "measured"
    assert rows["HUB"]["result"]["health"]["size_bytes"] > (model / "model.safetensors").stat().st_size
    assert rows["OTHER"]["obtained"] == "unavailable" and "500" in rows["OTHER"]["reason"]


def test_libraries_are_imported_late_but_before_the_clock_starts(model: Path) -> None:
    code = (
        "import sys, qwen25; print('numpy' in sys.modules); qwen25.evaluate; before = set(sys.modules)\n"
        "from qwen25.evaluation import models\n"
        f"models.load_model(models.Path({str(model)!r})); print(*set(sys.modules) - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, *late = done.stdout.split()
    assert first == "False" and not [n for n in late if n.startswith(("model2vec", "tokenizers", "safetensors"))]
    assert {"distil", "evaluate", "compare", "Settings"} <= set(dir(qwen25))
    with pytest.raises(AttributeError):
        _ = qwen25.nothing
