"""Publication: every number and claim in what is published comes from the results, and the folder works."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from huggingface_hub import ModelCard
from tiny_results import DEMO, ours, plain_tokenizer, set_difference, set_score, write_results
from tokenizers import Tokenizer

from qwen25.commands import publish as publish_command
from qwen25.evaluation.judgement import SAME
from qwen25.reports.card import EXAMPLES, HERE, MISSION_REPO, model_card, render
from qwen25.reports.publication import check
from qwen25.runtime.errors import InputError
from qwen25.runtime.files import read_json, write_json
from qwen25.runtime.text import size_text
from qwen25.store.static_model import FLOAT32_COPY

Result = dict[str, Any]
#: Changes metadata, evaluation and comparison before they are rendered.
Change = Callable[[Result, Result, Result], None]


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: Tokenizer) -> dict[str, Path]:
    return write_results(tmp_path_factory.mktemp("results"), plain_tokenizer(tiny_tokenizer))


@pytest.fixture(autouse=True)
def pictures_are_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests of figures are elsewhere, and drawing them takes most of the time."""
    monkeypatch.setattr("qwen25.reports.plots.png", lambda figure: b"a picture")


@pytest.fixture
def rendered(results: dict[str, Path], tmp_path: Path) -> Callable[..., dict[str, str]]:
    """Render the publication of changed results; returns card and benchmarks."""

    def changed(change: Change = lambda *_: None, **choices: Any) -> dict[str, str]:
        shutil.copytree(results["model"].parent, tmp_path, dirs_exist_ok=True)
        paths = [tmp_path / name for name in ("model/metadata.json", "evaluation.json", "comparison.json")]
        found = [read_json(path) for path in paths]
        change(*found)
        for path, result in zip(paths, found, strict=True):
            write_json(path, result)
        render(tmp_path / "publication", tmp_path / "model", *paths[1:], **choices)
        return {n: (tmp_path / "publication" / n).read_text(encoding="utf-8") for n in ("README.md", "BENCHMARKS.md")}

    return changed


def flags(results: dict[str, Path]) -> list[str]:
    return [part for flag, path in results.items() for part in (f"--{flag}", str(path))]


class TestCard:
    def test_changed_results_change_the_card_and_the_benchmarks(self, rendered: Any) -> None:
        def change(_: Result, __: Result, comparison: Result) -> None:
            own = ours(comparison)["result"]
            own["overall"] |= {"score": 0.8765, "interval": [0.8611, 0.8922]}
            own["categories"]["code_understanding"] |= {"score": 0.7654, "interval": [0.7111, 0.8222]}
            peer = next(row for row in comparison["models"] if row["name"] == "WordLlama-256")
            peer["result"]["overall"] |= {"score": 0.6543, "interval": [0.6111, 0.7222]}
            peer["difference_to_ours"]["overall"] = {"value": 0.4321, "interval": [0.41, 0.45], "word": "better"}

        before, after = rendered(), rendered(change)
        for text in ("0.876 [0.861, 0.892]", "0.765 [0.711, 0.822]", "WordLlama-256 (0.654)"):
            assert text not in before["README.md"] and text in after["README.md"]
        for text in ("0.654 [0.611, 0.722]", "0.765 [0.711, 0.822]", "+0.432 [+0.410, +0.450]"):
            assert text not in before["BENCHMARKS.md"] and text in after["BENCHMARKS.md"]
        header = ModelCard(after["README.md"]).data
        assert {r.metric_name: r.metric_value for r in header.eval_results}["overall (0 chance, 1 perfect)"] == 0.8765

    def test_no_score_is_typed_into_a_template(self) -> None:
        for path in (ROOT / "qwen25" / "templates").glob("*.md"):
            text = path.read_text(encoding="utf-8")
            assert not re.findall(r"(?<![\w.{])0?\.\d\d|\d+(?:\.\d+)? MB|\d sentences/s", text)

    def test_claims_follow_the_comparison(self, rendered: Any) -> None:
        def beaten(_: Result, __: Result, comparison: Result) -> None:
            instructions = ours(comparison)["result"]["categories"]["instruction_awareness"]
            instructions["sub_scores"]["follows_instructions"] = False
            set_difference(comparison, "WordLlama-256", "better")
            set_difference(comparison, "BM25", SAME)
            set_score(instructions, 0.3)

        before, after = rendered()["README.md"], rendered(beaten)["README.md"]
        uses, _, others = before.partition("## What it is not good for")
        assert "for matching translations (" in uses and "and the transformer all-MiniLM-L6-v2" in others
        assert "instruction-aware" in ModelCard(before).data.tags and "Instruction-awareness confirmed" in before
        assert "## What it is good for" not in after and "WordLlama-256 (0.399) is better" in after
        assert "instruction-aware" not in ModelCard(after).data.tags and "matches words, not instructions" in after

    def test_the_model_has_one_name(self, rendered: Any) -> None:
        found = rendered(repo="me/tiny", authors=("Ada Lovelace", "Grace Hopper"))
        demo = ours(read_json(DEMO / "comparison_results.json"))["name"]
        for text in found.values():
            assert "tiny" in text and demo not in text.replace(f"'{demo}", "")  # commands say it as it was given
        card, benchmarks = found.values()
        assert 'from_pretrained("me/tiny")' in card and "https://huggingface.co/me/tiny" in benchmarks
        assert "author = {Ada Lovelace and Grace Hopper}" in benchmarks

    def test_nobody_elses_organisation_is_named(self, rendered: Any, tmp_path: Path) -> None:
        card, benchmarks = rendered().values()
        examples = [path.read_text(encoding="utf-8") for path in (tmp_path / "publication" / "examples").iterdir()]
        assert not any("tss-deposium" in text for text in (card, benchmarks, *examples)) and len(examples) == 2
        assert f'from_pretrained("{HERE}")' in card and "author = {Ada" not in benchmarks
        mission = rendered(lambda metadata, *_: metadata.update(name="qwen25-deposium-1024d"))["README.md"]
        assert f'from_pretrained("{MISSION_REPO}")' in mission

    def test_the_base_model_is_named_only_if_the_hub_has_it(self) -> None:
        metadata = read_json(DEMO / "metadata.json")
        for name, origin, base in (
            ("tiny-qwen2", "folder", None),
            ("qwen2.5-coder-0.5b", "packaged", "Qwen/Qwen2.5-Coder-0.5B-Instruct"),
        ):
            metadata["teacher"] |= {"name": name, "origin": origin}
            data = ModelCard(model_card(metadata)).data
            assert (data.base_model, data.license) == (base, "apache-2.0" if base else "other")

    @pytest.mark.parametrize("onnx", [False, True])
    def test_it_is_short_and_begins_with_what_the_model_is(self, rendered: Any, onnx: bool) -> None:
        card = rendered(onnx=onnx)["README.md"].split("\n---\n", 1)[1].strip()
        assert len(card.splitlines()) <= 80
        parts = (
            "distilled from",
            "from_pretrained",
            "## What it is good for",
            "## What it is not good for",
            "Verdict: ",
        )
        places = [card.index(part) for part in parts]
        assert places == sorted(places)

    def test_the_training_is_told_with_its_sets_and_licences(self) -> None:
        metadata = read_json(DEMO / "metadata.json")
        nli = {"name": "nli", "rows": 1000, "languages": ["en"], "source": "hub:org/nli", "licence": "MIT"}
        metadata["training"]["sets"] = [nli, {"name": "mine", "rows": 20, "languages": [], "source": "mine.jsonl"}]
        card = model_card(metadata)
        assert ModelCard(card).data.datasets == ["org/nli"] and "| nli | 1,000 | en | org/nli | MIT |" in card
        assert "| mine | 20 | not stated | mine.jsonl | not stated |" in card


class TestFolder:
    def test_an_int8_model_works_as_its_users_will_use_it_and_faults_are_found(
        self, tmp_path: Path, tiny_tokenizer: Tokenizer
    ) -> None:
        folder, tokenizer = tmp_path / "publication", plain_tokenizer(tiny_tokenizer)
        results = write_results(tmp_path / "with", tokenizer, "int8")
        render(folder, *results.values())
        assert check(folder) == []
        assert {path.name for path in (folder / "examples").iterdir()} == set(EXAMPLES)
        copy = results["model"] / FLOAT32_COPY / "model.safetensors"
        card = (folder / "README.md").read_text(encoding="utf-8")
        assert f"from a float32 copy of {size_text(copy.stat().st_size)}" in card
        (folder / "modules.json").unlink()  # sentence-transformers takes seconds to load
        (folder / "examples" / EXAMPLES[0]).write_text("raise SystemExit('broken example')")
        (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-1])
        faults = " | ".join(check(folder))
        assert "quick start" in faults and "broken example" in faults
        copy.unlink()
        with pytest.raises(InputError, match=f"lacks {FLOAT32_COPY}/model.safetensors"):
            render(folder, *results.values())

    def test_files_of_its_users_are_not_lost(self, rendered: Any, tmp_path: Path) -> None:
        rendered()
        (tmp_path / "publication" / "1_Normalize" / "mine.txt").write_text("mine")
        with pytest.raises(InputError, match=r"1_Normalize/mine\.txt"):
            rendered()
        assert (tmp_path / "publication" / "1_Normalize" / "mine.txt").read_text() == "mine"

    def test_other_results_are_refused(self, rendered: Any) -> None:
        def of_another_model(_: Result, evaluation: Result, __: Result) -> None:
            evaluation["model"]["sha256"] = "0" * 64

        def in_part(_: Result, evaluation: Result, __: Result) -> None:
            evaluation["verdict"]["verdict"] = None

        def old(_: Result, __: Result, comparison: Result) -> None:
            comparison["schema_version"] = 0

        for change, said in ((of_another_model, "another model"), (in_part, "lacks categories"), (old, "make it anew")):
            with pytest.raises(InputError, match=said):
                rendered(change)

    def test_a_link_to_a_private_file_is_not_published(self, results: dict[str, Path], tmp_path: Path) -> None:
        folder = shutil.copytree(results["model"].parent, tmp_path / "results")
        (tmp_path / "private.json").write_text("{}")
        (folder / "model" / "config.json").unlink()
        (folder / "model" / "config.json").symlink_to(tmp_path / "private.json")
        with pytest.raises(InputError, match="is a link to elsewhere"):
            render(tmp_path / "publication", folder / "model", results["evaluation"], results["comparison"])


def test_the_command_renders_and_checks_and_uploads_nothing_unless_asked_to(
    results: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    pytest.importorskip("onnx", reason="setup_qwen25.sh --with-tests installs onnx")
    uploads: list[Any] = []
    monkeypatch.setattr(publish_command, "check", lambda *_: [])
    monkeypatch.setattr(publish_command, "upload", lambda *given, **_: uploads.append(given) or "an address")
    command = [*flags(results), "--output", str(tmp_path / "publication")]
    assert publish_command.main([*command, "--onnx"]) == 0 and uploads == []
    assert (tmp_path / "publication" / "onnx" / "model.onnx").is_file()
    assert capsys.readouterr().out.strip() == str(tmp_path / "publication")
    assert publish_command.main([*command, "--upload", "me/tiny@v1"]) == 0
    assert [given[1:] for given in uploads] == [("me/tiny", "model and card", "v1")]
    assert "an address" in capsys.readouterr().out
    monkeypatch.setattr(publish_command, "check", lambda *_: ["a fault"])
    assert publish_command.main([*command, "--upload", "me/tiny"]) == 1 and len(uploads) == 1
    assert "failed: a fault" in capsys.readouterr().err
