"""Phase 3: every system in one comparison, each honest about how it was obtained."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from conftest import NEEDS_PYLATE, ROOT, empty_before
from fake_hub import FakeHub, Fault, run_as_user
from model2vec import StaticModel

from qwen25.commands import compare as compare_command
from qwen25.distillation import Settings, distil
from qwen25.evaluation.categories.all import WEIGHTS
from qwen25.evaluation.comparison import Measured, compare, difference
from qwen25.evaluation.items import items_sha256, load_categories
from qwen25.evaluation.loading import load_encoder
from qwen25.evaluation.matching import Bm25, LateInteraction
from qwen25.evaluation.peers import PEERS, PUBLISHED, Peer
from qwen25.evaluation.recommendations import frontier, recommendations
from qwen25.reports.comparison_report import (
    comparison_markdown,
    comparison_png,
    comparison_remarks,
    published_rows,
    quality_rows,
)
from qwen25.runtime.errors import InputError
from qwen25.runtime.files import read_json


def check(comparison: dict[str, Any]) -> None:
    jsonschema.validate(comparison, read_json(ROOT / "docs" / "schema" / "comparison.schema.json"))


def rows_of(comparison: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in comparison["models"]}


class Runner:
    """Runs phase 3 on a few items, with ours the tiny model."""

    def __init__(self, model: Path, items: Path, folder: Path) -> None:
        self.output = folder / "out" / "comparison_results.json"
        self.arguments = ["--ours", f"OURS={model}", "--items", str(items), "--output", str(self.output)]

    def __call__(self, *arguments: str, peers: bool = False) -> dict[str, Any]:
        assert self.code(*arguments, peers=peers) == 0
        comparison = read_json(self.output)
        check(comparison)
        return comparison

    def code(self, *arguments: str, peers: bool = False) -> int:
        return compare_command.main([*self.arguments, *arguments, *([] if peers else ["--no-peers"])])

    def text(self, kind: str) -> str:
        return self.output.with_name(f"comparison.{kind}").read_text(encoding="utf-8")


@pytest.fixture
def run(tiny_model: Path, small_items: Path, tmp_path: Path) -> Runner:
    return Runner(tiny_model, small_items, tmp_path)


@pytest.fixture(scope="session")
def collapsed(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with nearly the same vector for every token: it should lose to everything."""
    model = StaticModel.from_pretrained(tiny_model)
    table = np.asarray(model.embedding, dtype=np.float32)
    flat = np.ones_like(table) + 1e-4 * table
    folder = tmp_path_factory.mktemp("models") / "collapsed"
    StaticModel(flat, model.tokenizer, config=model.config).save_pretrained(folder)
    return folder


class TestRows:
    def test_the_control_stands_beside_ours_and_a_twin_does_not_differ(self, run: Runner, tiny_model: Path) -> None:
        comparison = run("--model", f"TWIN={tiny_model}")
        rows = rows_of(comparison)
        assert list(rows) == ["OURS", "random directions", "TWIN"]
        ours, control, twin = rows.values()
        assert control["result"]["overall"]["score"] == ours["result"]["overall"]["control"]["score"]
        same = {"value": 0.0, "interval": [0.0, 0.0], "word": "no difference shown"}
        assert twin["difference_to_ours"]["overall"] == same
        assert all(found == same for found in twin["difference_to_ours"]["categories"].values())
        assert ours["quality_per_mb"] == pytest.approx(
            ours["result"]["overall"]["score"] / ours["result"]["health"]["size_bytes"] * 1e6, abs=1e-5
        )

    def test_sizes_are_read_from_the_files_and_the_arrays(self, run: Runner, tiny_model: Path) -> None:
        health = rows_of(run())["OURS"]["result"]["health"]
        on_disk = [(tiny_model / name).stat().st_size for name in ("model.safetensors", "tokenizer.json")]
        assert health["size_bytes"] == sum(on_disk)
        assert health["memory_bytes"] == StaticModel.from_pretrained(tiny_model).embedding.nbytes

    def test_a_collapsed_model_is_worse_and_never_recommended(self, run: Runner, collapsed: Path) -> None:
        comparison = run("--model", f"FLAT={collapsed}")
        flat = rows_of(comparison)["FLAT"]
        assert flat["result"]["health"]["unrelated_cosine"] > 0.9
        assert not [
            r for r in recommendations(comparison) if r["model"] == "FLAT" and r["need"] in ("smallest", "fastest")
        ]

    def test_bm25_is_scored_where_a_category_is_retrieval(self, run: Runner) -> None:
        comparison = run("--model", "WORDS=bm25")
        row = rows_of(comparison)["WORDS"]
        assert "topic_clustering" not in row["result"]["categories"] and len(row["result"]["categories"]) == 5
        assert row["difference_to_ours"]["overall"] is None
        assert len(row["difference_to_ours"]["categories"]) == 5
        assert row["result"]["cosine_protocol"] == {}
        assert "| WORDS | - | " in run.text("md")  # no overall beside complete ones

    def test_every_peer_of_the_issue_is_there_or_says_how_to_get_it(
        self, run: Runner, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.chdir(tmp_path)  # where no model was made yet
        for slow in ("all-MiniLM-L6-v2", "all-MiniLM-L6-v2 by model2vec"):
            monkeypatch.delitem(PEERS, slow)
        rows = rows_of(run("--offline", peers=True))
        for name, folder in (
            ("Gemma-768D", "gemma-768d"),
            ("Qwen3-256D", "qwen3-256d"),
            ("Qwen3-1024D", "qwen3-1024d"),
        ):
            assert rows[name]["obtained"] == "published" and folder in rows[name]["how"]
            assert rows[name]["published"]["source"] and "cosine" in rows[name]["published"]["protocol"]
        assert rows["ColBERT 32M"]["published"]["latency_ms"] == 5.94
        assert rows["plain recipe"]["obtained"] == "unavailable" and "--recipe plain" in rows["plain recipe"]["how"]
        assert rows["WordLlama-256"]["obtained"] == "measured" and rows["BM25"]["obtained"] == "measured"
        for kind in ("md", "html"):
            assert "--preset gemma-768d" in run.text(kind)

    def test_published_figures_never_stand_among_measured_ones(self, run: Runner) -> None:
        comparison = run()
        comparison["models"].append(
            {
                "name": "Gemma-768D",
                "obtained": "published",
                "what": "",
                "reason": "absent",
                "how": "distil it",
                "published": PUBLISHED["Gemma-768D"].as_json(),
            }
        )
        check(comparison)
        assert [row for row in quality_rows(comparison) if row[0] == "Gemma-768D"] == [
            ["Gemma-768D", "not measured", *["-"] * 8, "published"]
        ]
        assert ["Gemma-768D", "0.659"] in [row[:2] for row in published_rows(comparison)]
        assert "not measured here" in comparison_markdown(comparison)

    @pytest.mark.parametrize("names", [["OURS=bm25"], ["A=bm25", "A=bm25"], ["random directions=bm25"]])
    def test_names_must_differ(self, run: Runner, names: list[str]) -> None:
        assert run.code(*(word for name in names for word in ("--model", name))) == 2

    def test_a_model_the_user_names_must_load(
        self, run: Runner, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run.code("--model", f"X={tmp_path}") == 2
        assert capsys.readouterr().err.strip().splitlines()[-1].startswith("error: ")
        assert not run.output.exists()

    def test_pickled_weights_are_refused(self, run: Runner, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        folder = tmp_path / "pickled"
        folder.mkdir()
        (folder / "pytorch_model.bin").write_bytes(b"x")
        for kind in ("st:", "colbert:", "model2vec:"):
            assert run.code("--model", f"X={kind}{folder}") == 2
            assert "pickled" in capsys.readouterr().err

    @pytest.mark.parametrize("kind", ["st:", "colbert:"])
    def test_code_in_the_folder_is_never_run(
        self, run: Runner, tiny_bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
    ) -> None:
        folder = tmp_path / "trojan"
        shutil.copytree(tiny_bert, folder)
        (folder / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": "", "type": "trojan.Step"}]))
        (folder / "trojan.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Step: pass\n")
        assert run.code("--model", f"X={kind}{folder}") == 2
        assert "code of its own" in capsys.readouterr().err and not (tmp_path / "ran").exists()


class TestReports:
    def test_a_better_model_is_named_first(self, run: Runner, tiny_model: Path, collapsed: Path) -> None:
        run.arguments[1] = f"OURS={collapsed}"
        comparison = run("--model", f"GOOD={tiny_model}")
        word = rows_of(comparison)["GOOD"]["difference_to_ours"]["overall"]["word"]
        assert word == "better"
        assert "GOOD is better than OURS" in comparison_remarks(comparison)[0] or (
            "random directions is better than OURS" in comparison_remarks(comparison)[0]
        )
        assert any("a baseline, is better than OURS" in line for line in comparison_remarks(comparison))

    def test_recommendations_follow_the_numbers(self, run: Runner, tiny_model: Path) -> None:
        comparison = run("--model", f"TWIN={tiny_model}")
        ours, _, twin = comparison["models"]
        for row, overall, size, speed, code in ((ours, 0.5, 10**6, 10.0, 0.2), (twin, 0.4, 10**5, 99.0, 0.9)):
            row["result"]["overall"] |= {"score": overall, "interval": [overall - 0.01, overall + 0.01]}
            row["result"]["overall"]["control"] = {"score": 0.1, "interval": [0.05, 0.15]}
            row["result"]["health"] |= {"size_bytes": size, "sentences_per_second": speed, "unrelated_cosine": 0.0}
            row["result"]["categories"]["code_understanding"]["score"] = code
        chosen = {found["need"]: found["model"] for found in recommendations(comparison)}
        assert chosen["best quality"] == "OURS"
        assert chosen["smallest"] == chosen["fastest"] == chosen["code"] == "TWIN"
        assert [row["name"] for row in frontier(comparison)] == ["TWIN", "OURS"]
        ours["result"]["overall"]["score"] = 0.3  # larger and worse
        assert [row["name"] for row in frontier(comparison)] == ["TWIN"]
        ours["result"]["health"]["sentences_per_second"] = 95.0  # as fast as one run can tell, and better
        ours["result"]["overall"]["score"] = 0.5
        fastest = next(found for found in recommendations(comparison) if found["need"] == "fastest")
        assert fastest["model"] == "OURS" and "TWIN, 99 sentences/s" in fastest["because"]
        twin["result"]["overall"]["control"] = {"score": 0.4, "interval": [0.39, 0.41]}  # now it only matches words
        chosen = {found["need"]: found["model"] for found in recommendations(comparison)}
        assert chosen["smallest"] == chosen["fastest"] == "OURS"
        assert [row["name"] for row in frontier(comparison)] == ["OURS"]

    def test_the_page_is_self_contained_and_escapes_names(self, run: Runner, tiny_model: Path) -> None:
        run("--model", f"<script>alert(1)</script>={tiny_model}")
        page = run.text("html")
        assert page.count("<script") == 1 and "<script>alert" not in page and "&lt;script&gt;" in page
        assert 'src="data:image/png;base64,' in page
        assert not re.findall(r"(?:src|srcset|href)=\"(?!data:)", page)

    def test_the_plot_is_a_png_and_the_same_for_the_same_result(self, run: Runner) -> None:
        comparison = run("--model", "WORDS=bm25")
        drawn = run.output.with_name("comparison.png").read_bytes()
        assert drawn.startswith(b"\x89PNG") and drawn == comparison_png(comparison)
        comparison["models"][0]["result"]["overall"]["score"] += 0.1
        assert comparison_png(comparison) != drawn


class TestWriting:
    """What is read, what is replaced, and when."""

    def contents(self, run: Runner) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in run.output.parent.iterdir()}

    @pytest.mark.parametrize("what", ["comparison_html", "comparison_png"])
    def test_a_run_that_ends_while_it_draws_leaves_the_old_files(
        self, run: Runner, monkeypatch: pytest.MonkeyPatch, what: str
    ) -> None:
        run()
        before = self.contents(run)

        def interrupted(_: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(compare_command, what, interrupted)
        assert run.code("--seed", "7") == 130
        assert self.contents(run) == before

    def test_a_disk_that_fills_up_leaves_the_old_files(self, run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
        run()
        before, sync, calls = self.contents(run), os.fsync, []

        def full(descriptor: int) -> None:
            calls.append(descriptor)
            if len(calls) == 4:  # png, md and html are written
                raise OSError(28, "No space left on device")
            sync(descriptor)

        monkeypatch.setattr(os, "fsync", full)
        assert run.code("--seed", "7") == 1 and len(calls) == 4
        assert self.contents(run) == before

    def test_items_are_hashed_as_they_were_read(
        self, run: Runner, small_items: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        items = tmp_path / "items"
        shutil.copytree(small_items, items)
        hashes = items_sha256(items, WEIGHTS)
        empty_before(monkeypatch, compare_command, "compare", items / "code_understanding.jsonl")
        assert run("--items", str(items))["items_sha256"] == hashes

    @pytest.mark.parametrize(
        "place",
        [
            "model/model.safetensors",
            "model/1_Normalize/config.json",
            "items/code_understanding.jsonl",
            "x/../a/comparison.md",
        ],
    )
    def test_what_is_read_or_written_is_not_replaced(
        self,
        run: Runner,
        tiny_model: Path,
        small_items: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        place: str,
    ) -> None:
        shutil.copytree(tiny_model, tmp_path / "model")
        shutil.copytree(small_items, tmp_path / "items")
        before = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}
        flags = ["--model", f"X={tmp_path / 'model'}", "--items", str(tmp_path / "items")]
        assert run.code(*flags, "--output", str(tmp_path / place)) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ") and "give another path" in line
        assert {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()} == before

    @pytest.mark.parametrize("place", [".", "/"])
    def test_a_folder_is_no_place_for_the_result(
        self, run: Runner, capsys: pytest.CaptureFixture[str], place: str
    ) -> None:
        assert run.code("--output", place) == 2
        assert capsys.readouterr().err.startswith("error: ")


class TestMatchers:
    def test_late_interaction_is_the_mean_of_the_best_cosines(self) -> None:
        generator = np.random.default_rng(0)
        found = {
            text: generator.standard_normal((n, 8)).astype(np.float32) for text, n in zip("abc", (2, 3, 1), strict=True)
        }
        found = {text: tokens / np.linalg.norm(tokens, axis=1, keepdims=True) for text, tokens in found.items()}
        matcher = LateInteraction(lambda texts: [found[t] for t in texts], lambda texts: [found[t] for t in texts])
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


SCRIPT = """
import sys
from qwen25.commands import compare as compare_command
from qwen25.evaluation import statistics
from qwen25.store import hub
hub.WAIT_SECONDS, statistics.BOOTSTRAP_RESAMPLES = 0, 50
sys.exit(compare_command.main(sys.argv[1:]))
"""


class TestHub:
    @pytest.fixture
    def hub(self, tiny_model: Path) -> Any:
        with FakeHub() as hub:
            hub.add("tiny/static", tiny_model)
            yield hub

    def row(self, run: Runner, hub: FakeHub, home: Path, *arguments: str, spec: str = "tiny/static") -> dict[str, Any]:
        command = ["-c", SCRIPT, *run.arguments, "--no-peers", "--model", f"HUB={spec}", *arguments]
        done = run_as_user(hub.url, home, command)
        assert done.returncode == 0, done.stderr
        comparison = read_json(run.output)
        check(comparison)
        return rows_of(comparison)["HUB"]

    def test_a_hub_model_is_measured_with_its_size_and_then_offline(
        self, run: Runner, hub: FakeHub, tmp_path: Path, tiny_model: Path
    ) -> None:
        row = self.row(run, hub, tmp_path / "home")
        assert row["obtained"] == "measured"
        assert row["result"]["health"]["size_bytes"] > (tiny_model / "model.safetensors").stat().st_size
        hub.requests.clear()
        row = self.row(run, hub, tmp_path / "home", "--offline")
        assert row["obtained"] == "measured" and hub.requests == []

    def test_sentence_transformers_gets_the_copy_that_it_needs(
        self, run: Runner, hub: FakeHub, tmp_path: Path, tiny_teacher: Path
    ) -> None:
        folder = tmp_path / "int8"
        distil(Settings(teacher=str(tiny_teacher), output=folder, dims=32, storage="int8", device="cpu"))
        hub.add("tiny/int8", folder)
        assert self.row(run, hub, tmp_path / "home", spec="tiny/int8")["obtained"] == "measured"
        assert not any("static_embedding" in path for path in hub.requests)
        assert self.row(run, hub, tmp_path / "home", spec="st:tiny/int8")["obtained"] == "measured"

    def test_a_hub_failure_costs_the_row_not_the_run(self, run: Runner, hub: FakeHub, tmp_path: Path) -> None:
        hub.faults.append(Fault("broken"))
        row = self.row(run, hub, tmp_path / "home")
        assert row["obtained"] == "unavailable" and "500" in row["reason"]

    def test_offline_without_a_cache_costs_the_row_and_no_request(
        self, run: Runner, hub: FakeHub, tmp_path: Path
    ) -> None:
        row = self.row(run, hub, tmp_path / "home", "--offline")
        assert row["obtained"] == "unavailable" and "cache" in row["reason"] and hub.requests == []


def test_a_difference_needs_the_same_categories() -> None:
    def measured(score: float, names: list[str]) -> Measured:
        replicates = {name: score + np.linspace(-0.01, 0.01, 1000) for name in names}
        result = {"overall": {"score": score}, "categories": {name: {"score": score} for name in names}}
        return Measured(result, score + np.linspace(-0.01, 0.01, 1000), replicates, None)

    ours = measured(0.5, ["a", "b"])
    assert difference(measured(0.6, ["a", "b"]), ours)["overall"]["word"] == "better"
    assert difference(measured(0.4, ["a", "b"]), ours)["overall"]["word"] == "worse"
    part = difference(measured(0.6, ["a"]), ours)
    assert part["overall"] is None and part["categories"]["a"]["word"] == "better"


class TestFromPython:
    """``compare`` without a command line."""

    def test_a_missing_peer_is_a_row_and_a_missing_model_is_an_error(
        self, tiny_model: Path, small_items: Path, tmp_path: Path
    ) -> None:
        items = load_categories(small_items, ["code_understanding"])
        peers = {"GONE": Peer(str(tmp_path / "gone"), "a model", "make it")}
        found = compare(("OURS", str(tiny_model)), {"WORDS": "bm25"}, items, 42, peers=peers)
        assert [row["obtained"] for row in found["models"]] == ["measured"] * 3 + ["unavailable"]
        assert found["models"][-1]["name"] == "GONE" and found["models"][-1]["reason"]
        with pytest.raises(InputError, match="no such model folder"):
            compare(("OURS", str(tiny_model)), {"GONE": str(tmp_path / "gone")}, items, 42, peers={})

    def test_names_must_differ_before_anything_is_loaded(self) -> None:
        with pytest.raises(InputError, match="a name of its own"):
            compare(("OURS", "nowhere"), {"OURS": "bm25"}, {}, 42, peers={})


def test_two_models_are_tied_where_the_paired_interval_says_so(run: Runner, tiny_model: Path) -> None:
    comparison = run("--model", f"TWIN={tiny_model}")
    chosen = {found["need"]: found for found in recommendations(comparison)}
    assert {chosen["code"]["model"], *chosen["code"]["tied"]} >= {"OURS", "TWIN"}
    twin = rows_of(comparison)["TWIN"]
    twin["result"]["categories"]["code_understanding"] |= {"score": 0.99, "interval": [0.98, 1.0]}
    twin["difference_to_ours"]["categories"]["code_understanding"]["word"] = "better"
    chosen = {found["need"]: found for found in recommendations(comparison)}
    assert chosen["code"]["model"] == "TWIN" and chosen["code"]["tied"] == []


def test_a_model_that_was_not_made_yet_is_never_asked_for_at_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"make it with qwen25 distill$"):
        load_encoder("models/qwen25-deposium-1024d")
