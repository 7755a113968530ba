"""Publication: every number and claim in what is published comes from the results, and the folder works."""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from fake_hub import FakeHub, run_as_user
from huggingface_hub import ModelCard
from safetensors.numpy import load_file

from qwen25.commands import compare as compare_command
from qwen25.commands import evaluate as evaluate_command
from qwen25.commands import publish as publish_command
from qwen25.publication import publication as publication_module
from qwen25.publication.check import check
from qwen25.publication.contents import EXAMPLES
from qwen25.publication.examples import ANSWERED, FOLLOWED, example_counts
from qwen25.publication.publication import MISSION_REPO, Imprint, Publication
from qwen25.reports.demo import main
from qwen25.runtime.errors import InputError
from qwen25.runtime.files import read_json
from qwen25.runtime.wording import count_text, size_text
from qwen25.store.static_model import FLOAT16_COPY

EXAMPLES_FOLDER = ROOT / "examples"
#: What a card without a repository loads the model from.
HERE = "path/to/this/folder"


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, small_items: Path) -> dict[str, Path]:
    """What phases 1 to 3 make of the tiny teacher."""
    folder = tmp_path_factory.mktemp("results")
    paths = {"model": tiny_model, "evaluation": folder / "evaluation.json", "comparison": folder / "comparison.json"}
    common = ["--items", str(small_items)]
    arguments = ["--model", str(tiny_model), *common, "--output", str(paths["evaluation"]), "--json-only"]
    assert evaluate_command.main(arguments) == 0
    arguments = ["--ours", f"TINY={tiny_model}", "--model", "WORDS=bm25", "--model", "LLAMA=wordllama:", "--no-peers"]
    assert compare_command.main([*arguments, *common, "--output", str(paths["comparison"])]) == 0
    return paths


COUNTED = (FOLLOWED, ANSWERED, "documentation", "support", "code", "idioms", "routing")


@dataclass(frozen=True)
class Outcome:
    """What an example might count."""

    better: bool
    right: float = 5
    of: int = 10
    control: float = 2
    chance: float = 1
    interval: tuple[float, float] = (0.3, 0.7)


#: Changes evaluation and comparison before they are rendered.
Change = Callable[[dict[str, Any], dict[str, Any]], None]


@pytest.fixture
def rendered(
    results: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, str]]:
    """Render the publication of changed results; returns card and benchmarks."""

    def render(
        change: Change = lambda evaluation, comparison: None,
        examples: bool | None = None,
        imprint: Imprint | None = None,
        **metadata: Any,
    ) -> dict[str, str]:
        if examples is not None:  # all of them say so
            counts = dict.fromkeys(COUNTED, Outcome(examples))
            monkeypatch.setattr(publication_module, "example_counts", lambda *_: counts)
        model = tmp_path / "tiny-model"
        shutil.copytree(results["model"], model, dirs_exist_ok=True)
        facts = read_json(model / "metadata.json")
        for key, value in metadata.items():
            facts[key] = {**(facts[key] or {}), **value} if isinstance(value, dict) else value
        (model / "metadata.json").write_text(json.dumps(facts))
        evaluation, comparison = read_json(results["evaluation"]), read_json(results["comparison"])
        change(evaluation, comparison)
        for name, result in (("evaluation", evaluation), ("comparison", comparison)):
            (tmp_path / f"{name}.json").write_text(json.dumps(result))
        paths = (tmp_path / "evaluation.json", tmp_path / "comparison.json")
        publication = Publication(model, *paths, EXAMPLES_FOLDER, imprint)
        publication.render(tmp_path / "publication")
        return {n: (tmp_path / "publication" / n).read_text(encoding="utf-8") for n in ("README.md", "BENCHMARKS.md")}

    return render


@pytest.fixture
def int8_publication(results: dict[str, Path], tiny_teacher: Path, tmp_path: Path) -> Callable[..., Publication]:
    """Publish an int8 model with the tiny model's results: only its hash is made theirs."""

    def publish(*flags: str) -> Publication:
        import distill_qwen25_1024d

        model = tmp_path / "int8-model"
        command = ["--teacher", str(tiny_teacher), "--output", str(model), "--storage", "int8", "--device", "cpu"]
        assert distill_qwen25_1024d.main([*command, "--log-file", str(tmp_path / "log"), *flags]) == 0
        digest = read_json(model / "metadata.json")["model_sha256"]
        evaluation, comparison = read_json(results["evaluation"]), read_json(results["comparison"])
        evaluation["model"]["sha256"] = digest
        ours = next(row for row in comparison["models"] if row["name"] == comparison["ours"])
        ours["result"]["model"]["sha256"] = digest
        for name, result in (("evaluation", evaluation), ("comparison", comparison)):
            (tmp_path / f"{name}.json").write_text(json.dumps(result))
        return Publication(model, tmp_path / "evaluation.json", tmp_path / "comparison.json", EXAMPLES_FOLDER)

    return publish


class TestInt8:
    def test_the_copy_for_sentence_transformers_is_published_and_works(
        self, int8_publication: Callable[..., Publication], tmp_path: Path
    ) -> None:
        publication = int8_publication()
        publication.render(tmp_path / "publication")
        assert check(tmp_path / "publication", publication.place) == []
        size = (tmp_path / "publication" / FLOAT16_COPY / "model.safetensors").stat().st_size
        card = (tmp_path / "publication" / "README.md").read_text(encoding="utf-8")
        assert f"`{FLOAT16_COPY}/model.safetensors` ({size_text(size)})" in card
        publication.render(tmp_path / "publication")  # over the first one

    def test_a_copy_that_is_gone_is_missed(self, int8_publication: Callable[..., Publication], tmp_path: Path) -> None:
        publication = int8_publication()
        (publication.model / FLOAT16_COPY / "model.safetensors").unlink()
        with pytest.raises(InputError, match=f"lacks {FLOAT16_COPY}/model.safetensors"):
            Publication(publication.model, tmp_path / "evaluation.json", tmp_path / "comparison.json", EXAMPLES_FOLDER)

    def test_without_the_copy_the_card_claims_nothing(
        self, int8_publication: Callable[..., Publication], tmp_path: Path
    ) -> None:
        publication = int8_publication("--no-float16-copy")
        publication.render(tmp_path / "publication")
        assert check(tmp_path / "publication", publication.place) == []
        card = (tmp_path / "publication" / "README.md").read_text(encoding="utf-8")
        assert "SentenceTransformer(" not in card and "sentence-transformers cannot load it" in card


def difference_is(word: str, *categories: str, kind: str | None = None) -> Change:
    """Have the baselines' differences say ``word``, those of the categories named the opposite; another model is worse.

    :param kind: of the one row whose categories named say the opposite (None: of all).
    """
    opposite = {"worse": "better", "better": "worse"}[word]

    def change(_: dict[str, Any], comparison: dict[str, Any]) -> None:
        for row in comparison["models"]:
            if row.get("kind") in ("control", "bm25"):
                for name, found in row["difference_to_ours"]["categories"].items():
                    found["word"] = opposite if name in categories and kind in (None, row["kind"]) else word
            elif "difference_to_ours" in row:
                for found in row["difference_to_ours"]["categories"].values():
                    found["word"] = "worse"

    return change


def instructions(low: float) -> Change:
    """Set the lower end of the gain over shuffled instructions, where all else speaks for the model."""

    def change(evaluation: dict[str, Any], comparison: dict[str, Any]) -> None:
        difference_is("worse")(evaluation, comparison)
        gain = evaluation["categories"]["instruction_awareness"]["sub_scores"]["non_lexical_gain_over_shuffled"]
        gain["interval"][0] = low

    return change


class TestNumbers:
    def test_changed_results_change_the_card_and_the_benchmarks(self, rendered: Any) -> None:
        def change(evaluation: dict[str, Any], comparison: dict[str, Any]) -> None:
            evaluation["overall"] |= {"score": 0.8765, "interval": [0.8611, 0.8922]}
            evaluation["categories"]["code_understanding"] |= {"score": 0.7654, "interval": [0.7111, 0.8222]}
            peer = next(row for row in comparison["models"] if row["name"] == "LLAMA")
            peer["result"]["overall"] |= {"score": 0.6543, "interval": [0.6111, 0.7222]}
            peer["difference_to_ours"]["overall"] = {"value": 0.4321, "interval": [0.41, 0.45], "word": "better"}

        before, after = rendered(), rendered(change)
        for text in ("0.876 [0.861, 0.892]", "0.765 [0.711, 0.822]", "+0.432 [+0.410, +0.450]"):
            assert text not in before["README.md"] and text in after["README.md"]
        for text in ("0.654 [0.611, 0.722]", "0.765 [0.711, 0.822]", "+0.432 [+0.410, +0.450]"):
            assert text not in before["BENCHMARKS.md"] and text in after["BENCHMARKS.md"]
        header = ModelCard(after["README.md"]).data
        assert {r.metric_name: r.metric_value for r in header.eval_results}["overall (0 chance, 1 perfect)"] == 0.8765

    def test_sizes_are_those_of_the_files(self, rendered: Any, results: dict[str, Path]) -> None:
        size = (results["model"] / "model.safetensors").stat().st_size
        assert f"{size / 1e6:.1f} MB" in rendered()["README.md"]

    def test_no_score_is_typed_into_a_template(self) -> None:
        for path in (ROOT / "qwen25" / "templates").glob("*.md"):
            assert not re.findall(
                r"(?<![\w.{])0?\.\d\d|\d+(?:\.\d+)? MB|\d sentences/s", path.read_text(encoding="utf-8")
            )

    def test_benchmarks_show_what_passed_and_what_failed(self, rendered: Any, results: dict[str, Path]) -> None:
        category = read_json(results["evaluation"])["categories"]["semantic_similarity"]
        text = rendered()["BENCHMARKS.md"].replace("\\", "")
        assert category["worst_items"][0]["chosen"] in text
        assert category["passed_items"] and category["passed_items"][0]["asked"] in text


class TestClaims:
    @pytest.mark.parametrize(
        ("low", "examples", "claimed"), [(0.01, True, True), (-0.01, True, False), (0.01, False, False)]
    )
    def test_instruction_awareness_needs_both_witnesses(
        self, low: float, examples: bool, claimed: bool, rendered: Any
    ) -> None:
        card = rendered(instructions(low), examples)["README.md"]
        assert ("instruction-aware" in ModelCard(card).data.tags) == claimed
        assert ("Both confirm" in card) == claimed and ("**not claimed**" in card) != claimed

    def test_a_use_needs_to_beat_every_baseline(self, rendered: Any) -> None:
        use = "searching code by description"
        assert f"- {use} (" in rendered(difference_is("worse"), True)["README.md"]
        for kind in ("control", "bm25"):
            card = rendered(difference_is("worse", "code_understanding", kind=kind), True)["README.md"]
            name = {"control": "random directions", "bm25": "WORDS"}[kind]
            assert f"- {use} (" not in card and f"Not claimed: {use} ({name} is not shown to be worse" in card
        assert "## Use it for" not in rendered(difference_is("better"), True)["README.md"]

    def test_what_another_static_model_is_better_at_is_no_use(self, rendered: Any) -> None:
        def beaten(evaluation: dict[str, Any], comparison: dict[str, Any]) -> None:
            difference_is("worse")(evaluation, comparison)
            llama = next(row for row in comparison["models"] if row["name"] == "LLAMA")
            for name, found in llama["difference_to_ours"]["categories"].items():
                found["word"] = "better" if name == "code_understanding" else found["word"]

        uses, _, others = rendered(beaten, True)["README.md"].partition("## Use something else for")
        assert "searching code by description" not in uses and "- matching translations (" in uses
        assert "Use LLAMA" in others and "searching code by description" in others

    def test_a_use_that_its_example_refutes_is_left_out(self, rendered: Any) -> None:
        card = rendered(difference_is("worse"), False)["README.md"]
        assert "Not claimed: searching code by description (the example of code does not show it)" in card
        assert "- matching translations (" in card  # of which there is no example

    def test_examples_are_counted_as_they_count(self, rendered: Any, results: dict[str, Path]) -> None:
        card = rendered()["README.md"]
        script = [sys.executable, str(EXAMPLES_FOLDER / "real_world_use_cases.py"), "--model", str(results["model"])]
        shown = subprocess.run(script, capture_output=True, text=True, check=True).stdout
        for name, count in example_counts(results["model"], EXAMPLES_FOLDER).items():
            row = next(line for line in card.splitlines() if line.startswith(f"| {name} |"))
            assert f"| {count_text(count.right)} of {count.of} [" in row
            if name in ("code", "idioms"):
                assert f"  {name:13} {count.right:4.1f} of {count.of}" in shown

    @pytest.mark.parametrize(("share", "said"), [(0.9, "Duplicates are told from"), (0.2, "Not for deciding whether")])
    def test_duplicates_have_a_verdict(self, share: float, said: str, rendered: Any) -> None:
        def change(evaluation: dict[str, Any], _: dict[str, Any]) -> None:
            found = evaluation["categories"]["semantic_similarity"]["sub_scores"]["preferred_to_negative"]
            found.update(dict.fromkeys(found, share))

        card = rendered(change)["README.md"]
        assert said in card and f"{share:.0%}" in card

    def test_languages_are_claimed_only_where_translations_are_found(self, rendered: Any) -> None:
        def fluent(evaluation: dict[str, Any], comparison: dict[str, Any]) -> None:
            difference_is("worse")(evaluation, comparison)
            multilingual = comparison["models"][0]["result"]["categories"]["multilingual_alignment"]
            for language in multilingual["sub_scores"]["by_language"]:
                multilingual["sub_scores"]["by_language"][language] = 0.9 if language == "fr" else -1

        assert ModelCard(rendered(fluent)["README.md"]).data.language == ["en", "fr"]
        assert ModelCard(rendered(difference_is("better"))["README.md"]).data.language == ["en"]

    def test_a_better_peer_is_named_before_the_others(self, rendered: Any) -> None:
        def change(_: dict[str, Any], comparison: dict[str, Any]) -> None:
            for row in comparison["models"][1:]:
                word = "better" if row["name"] == "LLAMA" else "worse"
                if row["difference_to_ours"]["overall"]:
                    row["difference_to_ours"]["overall"]["word"] = word

        card = rendered(change)["README.md"]
        name = ModelCard(card).data.model_name  # of the card, whatever the comparison called the model
        assert card.partition("### Beside others")[2].strip().startswith(f"- LLAMA is better than {name}")

    def test_the_model_has_one_name(self, rendered: Any) -> None:
        for text in rendered(imprint=Imprint(title="My Model")).values():
            assert "My Model" in text and "TINY" not in text.partition("## How to reproduce")[0]

    def test_the_base_model_is_named_only_if_the_hub_has_it(self, rendered: Any) -> None:
        local = ModelCard(rendered()["README.md"]).data
        assert local.base_model is None and local.license == "other" and "qwen2.5" not in local.tags
        teacher = {"name": "Qwen/Qwen2.5-1.5B-Instruct", "origin": "hub"}
        card = rendered(teacher=teacher)["README.md"]
        data = ModelCard(card).data
        assert (data.base_model, data.license) == ("Qwen/Qwen2.5-1.5B-Instruct", "apache-2.0")
        assert "qwen2.5" in data.tags and "Qwen2.5 Technical Report" in card
        assert "a Model2Vec model distilled from an instruction-tuned LLM" in card.replace("A Model2Vec", "a Model2Vec")

    def test_a_packaged_teacher_is_named_as_the_hub_has_it(self, rendered: Any) -> None:
        card = rendered(teacher={"name": "qwen2.5-coder-0.5b", "origin": "packaged"})["README.md"]
        assert ModelCard(card).data.base_model == "Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF"

    def test_the_training_is_told_with_its_sets_and_licences(self, rendered: Any) -> None:
        sets = [
            {
                "name": "nli",
                "rows": 1000,
                "languages": ["en"],
                "source": "hub:org/nli",
                "licence": "MIT",
                "dropped": {},
            },
            {"name": "mine", "rows": 2000, "languages": [], "source": "mine.jsonl", "dropped": {}},
            {"name": "web", "rows": 10, "languages": ["en-de", "en-fr"], "source": "web.jsonl", "dropped": {}},
        ]
        sets = [{**one, "dropped": {}} for one in sets]
        training = {"sets": sets, "settings": {}, "stages": [], "untrained": {}, "trained": {}}
        card = rendered(training=training)["README.md"]
        assert ModelCard(card).data.datasets == ["org/nli"]
        assert "| nli | 1,000 | en | org/nli | MIT |" in card
        assert "| mine | 2,000 | not stated | mine.jsonl | not stated |" in card
        assert "| web | 10 | en with de, fr | web.jsonl | not stated |" in card


class TestImprint:
    def test_what_the_publisher_chooses_is_printed(self, rendered: Any) -> None:
        authors = ("Ada Lovelace", "Grace Hopper")
        card = rendered(imprint=Imprint("me/tiny", "My Model", authors, "https://example.org/me/code"))["README.md"]
        assert "# My Model\n" in card and ModelCard(card).data.model_name == "My Model"
        assert 'from_pretrained("me/tiny")' in card and "https://huggingface.co/me/tiny" in card
        assert "author = {Ada Lovelace and Grace Hopper}" in card and "(https://example.org/me/code)" in card

    def test_nobody_elses_organisation_is_named(self, rendered: Any, tmp_path: Path) -> None:
        card = rendered()["README.md"]
        examples = [path.read_text(encoding="utf-8") for path in (tmp_path / "publication" / "examples").iterdir()]
        assert not any("tss-deposium" in text for text in (card, *examples)) and len(examples) == 2
        assert f'from_pretrained("{HERE}")' in card and "author = {Ada" not in card
        assert f'from_pretrained("{MISSION_REPO}")' in rendered(name="qwen25-deposium-1024d")["README.md"]

    @pytest.mark.parametrize(
        "imprint", [Imprint(code="javascript:alert(1)"), Imprint(title=" "), Imprint(authors=("a\nb",))]
    )
    def test_what_cannot_be_printed_is_refused(self, imprint: Imprint, rendered: Any) -> None:
        with pytest.raises(InputError):
            rendered(imprint=imprint)


class TestFolder:
    def test_it_works_as_its_users_will_use_it_and_faults_are_found(
        self, rendered: Any, tmp_path: Path, results: dict[str, Path]
    ) -> None:
        rendered()
        folder = tmp_path / "publication"
        assert check(folder, HERE) == []
        assert {path.name for path in (folder / "examples").iterdir()} == set(EXAMPLES)
        (folder / "comparison.png").unlink()
        (folder / "examples" / EXAMPLES[0]).write_text("raise SystemExit('broken example')")
        table = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(table[:-1])
        card = (folder / "README.md").read_text(encoding="utf-8")
        (folder / "README.md").write_text(card.replace("license:", "licence:"), encoding="utf-8")
        faults = " | ".join(check(folder, HERE))
        for found in (
            "quick start",
            "broken example",
            "comparison.png leads nowhere",
            "lacks license",
            "bytes",
            "hash",
        ):
            assert found in faults

    def test_something_else_is_not_replaced(self, rendered: Any, tmp_path: Path) -> None:
        (tmp_path / "publication").mkdir()
        (tmp_path / "publication" / "thesis.tex").write_text("years of work")
        with pytest.raises(InputError, match="something else"):
            rendered()
        assert (tmp_path / "publication" / "thesis.tex").exists()

    @pytest.mark.parametrize("name", ["examples/my_notes.txt", "1_Normalize/mine.txt", "examples/__pycache__/a.txt"])
    def test_files_of_its_users_in_its_folders_are_not_lost(self, rendered: Any, tmp_path: Path, name: str) -> None:
        rendered()
        cache = tmp_path / "publication" / "examples" / "__pycache__" / "example.cpython-310.pyc"
        cache.parent.mkdir()
        cache.touch()
        rendered()  # what running an example leaves is no reason to refuse
        mine = tmp_path / "publication" / name
        mine.parent.mkdir(exist_ok=True)
        mine.write_text("mine")
        with pytest.raises(InputError, match=name):
            rendered()
        assert mine.read_text() == "mine"

    def test_a_mount_point_is_refused(self, rendered: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("os.path.ismount", lambda path: path == tmp_path / "publication")
        monkeypatch.setattr("qwen25.reports.plots.png", None)  # before the work
        with pytest.raises(InputError, match="mount point"):
            rendered()

    def test_rendering_again_gives_the_same_bytes(self, rendered: Any, tmp_path: Path) -> None:
        def contents() -> dict[str, bytes]:
            folder = tmp_path / "publication"
            return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}

        rendered()
        first = contents()
        rendered()
        assert contents() == first

    def test_results_of_another_model_are_refused(self, rendered: Any) -> None:
        def other(evaluation: dict[str, Any], _: dict[str, Any]) -> None:
            evaluation["model"]["sha256"] = "0" * 64

        with pytest.raises(InputError, match="another model"):
            rendered(other)

    def test_old_results_are_refused(self, rendered: Any) -> None:
        def old(_: dict[str, Any], comparison: dict[str, Any]) -> None:
            comparison["models"] = [row for row in copy.deepcopy(comparison["models"]) if row.get("kind") != "control"]

        with pytest.raises(InputError, match="run phases 1 to 3"):
            rendered(old)

    @pytest.mark.parametrize("version", [99, 0, "x", None, True])
    @pytest.mark.parametrize("which", ["metadata", "evaluation", "comparison"])
    def test_results_of_another_version_are_refused(
        self, rendered: Any, results: dict[str, Path], tmp_path: Path, which: str, version: Any
    ) -> None:
        def other(*found: dict[str, Any]) -> None:
            for name, result in zip(("evaluation", "comparison"), found, strict=True):
                result["schema_version"] = version if name == which else result["schema_version"]

        facts = {"schema_version": version} if which == "metadata" else {}
        expected = rf"{which}.json is not of this version \(schema_version: \d was expected\); make it anew with "
        with pytest.raises(InputError, match=expected):
            rendered(other, **facts)

    def test_the_demo_refuses_another_version(
        self, results: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        shutil.copytree(results["model"], tmp_path / "model")
        shutil.copy(results["comparison"], tmp_path / "comparison_results.json")
        evaluation = read_json(results["evaluation"]) | {"schema_version": 0}
        (tmp_path / "eval_results.json").write_text(json.dumps(evaluation))
        assert main([str(tmp_path)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ") and "eval_results.json is not of this version" in line


class TestOnnx:
    def test_the_model_as_onnx_is_checked_and_replaced_like_the_rest(
        self, results: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        pytest.importorskip("onnxruntime", reason="setup_qwen25.sh --with-tests installs onnxruntime")
        folder = tmp_path / "publication"
        arguments = [part for flag, path in results.items() for part in (f"--{flag}", str(path))]
        assert publish_command.main([*arguments, "--output", str(folder), "--onnx", "--check"]) == 0
        assert "@huggingface/transformers" in (folder / "README.md").read_text(encoding="utf-8")
        whole = (folder / "onnx" / "model.onnx").read_bytes()
        table = load_file(folder / "model.safetensors")["embeddings"].tobytes()
        (folder / "onnx" / "model.onnx").write_bytes(whole.replace(table, bytes(len(table))))
        assert "onnx: AssertionError: the vectors differ from model2vec's" in check(folder, HERE)
        assert publish_command.main([*arguments, "--output", str(folder)]) == 0
        assert not (folder / "onnx").exists() and "transformers.js" not in (folder / "README.md").read_text()


class TestCommand:
    def test_nothing_is_uploaded_unless_somebody_agrees(self, results: dict[str, Path], tmp_path: Path) -> None:
        command = ["publish_qwen25.py", "--output", str(tmp_path / "publication")]
        for flag, path in results.items():
            command += [f"--{flag}", str(path)]
        with FakeHub() as hub:
            done = run_as_user(
                hub.url, tmp_path / "home", [*command, "--upload", "me/tiny"], {"HF_TOKEN": "hf_" + "a" * 20}
            )
            assert done.returncode == 2 and "--yes" in done.stderr and hub.requests == []
        assert "model.safetensors" in done.stdout  # what would go was shown
        assert (tmp_path / "publication" / "README.md").exists()

    def test_missing_results(self, tmp_path: Path, capsys: pytest.CaptureFixture[str], tiny_model: Path) -> None:
        arguments = [
            "--model",
            str(tiny_model),
            "--output",
            str(tmp_path / "p"),
            "--evaluation",
            str(tmp_path / "none"),
        ]
        assert publish_command.main(arguments) == 2
        assert capsys.readouterr().err.startswith("error: no such file")
