"""The three phases as a user runs them, on a tiny teacher."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from conftest import EVAL_DATA, ROOT, empty_before
from model2vec import StaticModel
from tokenizers import Tokenizer

from qwen25.commands import compare as compare_command
from qwen25.commands import distill as distill_command
from qwen25.commands import distill_flags
from qwen25.commands import evaluate as evaluate_command
from qwen25.commands import mteb as mteb_command
from qwen25.commands import publish as publish_command
from qwen25.evaluation.categories.all import WEIGHTS
from qwen25.evaluation.items import calibration_folder, items_sha256, load_items
from qwen25.evaluation.loading import load_encoder
from qwen25.publication.check import quick_start

SCRIPTS = [evaluate_command, compare_command, publish_command, mteb_command]
TEXTS = ["How do I reset my password?", "Forgotten login", "", "  indented\n\tcode()", "数学 ωμέγα é"]


def load_json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def check_schema(result: dict, name: str) -> None:
    jsonschema.validate(result, load_json(ROOT / "docs" / "schema" / f"{name}.schema.json"))


def distil(teacher: Path, output: Path, *flags: str) -> int:
    log = output.with_suffix(".log")
    return distill_command.main(
        ["--teacher", str(teacher), "--output", str(output), "--log-file", str(log), "--texts", "64", *flags]
    )


class TestDistil:
    def test_writes_the_promised_files(self, tiny_model: Path) -> None:
        names = {path.name for path in tiny_model.iterdir()}
        wanted = {"model.safetensors", "config.json", "tokenizer.json", "modules.json", "metadata.json", "README.md"}
        assert wanted <= names

    def test_the_folders_readme_loads_it_and_speaks_of_it(self, tiny_model: Path) -> None:
        readme = (tiny_model / "README.md").read_text(encoding="utf-8")
        metadata = load_json(tiny_model / "metadata.json")
        assert f"`{metadata['teacher']['name']}`" in readme and f"{metadata['vocabulary']['tokens']:,} tokens" in readme
        code = quick_start(readme).replace("path/to/this/folder", str(tiny_model))
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0 and done.stdout.startswith(f"(2, {metadata['dims']})")

    def test_metadata_says_what_was_done(self, tiny_model: Path, tiny_teacher: Path) -> None:
        metadata = load_json(tiny_model / "metadata.json")
        check_schema(metadata, "metadata")
        assert metadata["teacher"]["name"] == tiny_teacher.name
        assert metadata["vocabulary"]["tokens"] == StaticModel.from_pretrained(tiny_model).embedding.shape[0]
        for name, size in metadata["sizes_bytes"].items():
            assert (tiny_model / name).stat().st_size == size
        assert str(Path.home()) not in json.dumps(metadata)

    def test_model2vec_and_sentence_transformers_agree(self, tiny_model: Path) -> None:
        from sentence_transformers import SentenceTransformer

        long_text = "a much longer text than any limit of tokens " * 200
        static = StaticModel.from_pretrained(tiny_model).encode([*TEXTS, long_text])
        sentence = SentenceTransformer(str(tiny_model), device="cpu").encode([*TEXTS, long_text])
        np.testing.assert_allclose(static, sentence, atol=1e-6)
        assert not static[TEXTS.index("")].any()

    def test_same_inputs_give_the_same_bytes(self, tiny_model: Path, tiny_teacher: Path, tmp_path: Path) -> None:
        assert distil(tiny_teacher, tmp_path / "again") == 0
        for name in ("model.safetensors", "tokenizer.json", "config.json"):
            assert (tmp_path / "again" / name).read_bytes() == (tiny_model / name).read_bytes()

    def test_fewer_directions_than_dims_is_said(
        self, tiny_teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert distil(tiny_teacher, tmp_path / "wide", "--dims", "1536") == 0
        assert load_json(tmp_path / "wide" / "metadata.json")["dims"] == 128
        assert "not 1536" in capsys.readouterr().err

    def test_dims_below_the_hidden_size(self, tiny_teacher: Path, tmp_path: Path) -> None:
        assert distil(tiny_teacher, tmp_path / "narrow", "--dims", "16", "--name", "A name") == 0
        assert (tmp_path / "narrow" / "README.md").read_text(encoding="utf-8").count("# A name\n") == 1
        assert load_encoder(str(tmp_path / "narrow")).name == "A name"
        assert StaticModel.from_pretrained(tmp_path / "narrow").dim == 16

    def test_existing_output_is_refused_and_kept(
        self, tiny_teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "model").mkdir()
        precious = tmp_path / "model" / "precious.txt"
        precious.write_text("mine")
        assert distil(tiny_teacher, tmp_path / "model") == 2
        assert "--overwrite" in capsys.readouterr().err
        assert precious.read_text() == "mine"

    def test_overwrite_replaces_the_old_model(self, tiny_model: Path, tiny_teacher: Path, tmp_path: Path) -> None:
        shutil.copytree(tiny_model, tmp_path / "model")
        (tmp_path / "model" / "stale.txt").write_text("old")
        assert distil(tiny_teacher, tmp_path / "model", "--overwrite", "--dims", "16") == 0
        assert StaticModel.from_pretrained(tmp_path / "model").dim == 16
        assert not (tmp_path / "model" / "stale.txt").exists()
        leftovers = [p.name for p in tmp_path.iterdir() if p.name.startswith(".")]
        assert leftovers == []

    def test_a_failed_save_keeps_the_old_model(
        self, tiny_model: Path, tiny_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:

        def no_space(*_args: object, **_kwargs: object) -> None:
            raise OSError(28, "No space left on device")

        shutil.copytree(tiny_model, tmp_path / "model")
        monkeypatch.setattr("qwen25.store.static_model.save_pretrained", no_space)
        assert distil(tiny_teacher, tmp_path / "model", "--overwrite") == 1
        assert (tmp_path / "model" / "model.safetensors").read_bytes() == (
            tiny_model / "model.safetensors"
        ).read_bytes()

    def test_plain_recipe_uses_the_last_layer_alone(self, tiny_teacher: Path, tmp_path: Path) -> None:
        assert distil(tiny_teacher, tmp_path / "plain", "--recipe", "plain") == 0
        metadata = load_json(tmp_path / "plain" / "metadata.json")
        assert metadata["layers"] == [2]
        assert metadata["recipe"]["prefix"] == ""
        assert metadata["dims"] == 64

    def test_a_size_is_kept(self, tiny_teacher: Path, tmp_path: Path) -> None:
        """600 kB hold 1,138 rows of 128 float32 numbers and which of them each token has, and all rows of float16."""
        for storage, rows in (("float32", 1138), ("float16", 2000)):
            folder = tmp_path / storage
            flags = ["--max-size-mb", "0.6", "--storage", storage, "--languages", "en"]
            assert distil(tiny_teacher, folder, *flags) == 0
            model = StaticModel.from_pretrained(folder)
            assert model.embedding.shape[0] == rows and model.embedding.dtype == storage
            assert (folder / "model.safetensors").stat().st_size <= 600_000
            assert np.isfinite(model.encode(TEXTS)).all()

    def test_custom_words(self, tiny_teacher: Path, tmp_path: Path) -> None:
        words = tmp_path / "words.txt"
        words.write_text("kubernetes\nmachine learning\n", encoding="utf-8")
        assert distil(tiny_teacher, tmp_path / "words", "--vocabulary", str(words)) == 0
        model = StaticModel.from_pretrained(tmp_path / "words")
        assert model.embedding.shape[0] == 2002
        direction = model.embedding[2001] / np.linalg.norm(model.embedding[2001])
        np.testing.assert_allclose(model.encode("machine learning"), direction, atol=1e-5)

    def test_the_teachers_own_frequencies_are_used(self, tiny_model: Path) -> None:
        metadata = load_json(tiny_model / "metadata.json")
        assert metadata["frequencies"] == {"from": "teacher", "texts": 64, "tokens": 2048}
        assert metadata["recipe"]["sif"] == 5e-4

    def test_zipfs_law_without_texts(self, tiny_model: Path, tiny_teacher: Path, tmp_path: Path) -> None:
        assert distil(tiny_teacher, tmp_path / "zipf", "--texts", "0") == 0
        metadata = load_json(tmp_path / "zipf" / "metadata.json")
        assert metadata["frequencies"] == {"from": "zipf"}
        assert metadata["recipe"]["sif"] == 1e-4
        assert metadata["model_sha256"] != load_json(tiny_model / "metadata.json")["model_sha256"]

    def test_a_corpus_sets_the_weights(self, tiny_teacher: Path, tmp_path: Path) -> None:
        """A word that the corpus repeats weighs less than in a model that never saw it."""
        norms = []
        for name, text in (("cats", "cat " * 500), ("none", "every other sentence speaks of many things\n" * 100)):
            corpus = tmp_path / f"{name}.txt"
            corpus.write_text(text, encoding="utf-8")
            assert distil(tiny_teacher, tmp_path / name, "--corpus", str(corpus), "--sif", "1e-3") == 0
            assert load_json(tmp_path / name / "metadata.json")["frequencies"]["from"] == "corpus"
            model = StaticModel.from_pretrained(tmp_path / name)
            ids = model.tokenizer.encode("cat", add_special_tokens=False).ids
            norms.append(np.linalg.norm(model.embedding[ids[0]]) / np.median(np.linalg.norm(model.embedding, axis=1)))
        assert norms[0] < norms[1] / 2

    def test_sentence_vectors_change_the_space(self, tiny_model: Path, tiny_teacher: Path, tmp_path: Path) -> None:
        assert distil(tiny_teacher, tmp_path / "bent", "--sentence-vectors", "64") == 0
        metadata = load_json(tmp_path / "bent" / "metadata.json")
        assert metadata["sentence_vectors"] == 64
        assert metadata["model_sha256"] != load_json(tiny_model / "metadata.json")["model_sha256"]
        assert np.isfinite(StaticModel.from_pretrained(tmp_path / "bent").encode(TEXTS)).all()

    def test_an_encoder_takes_zipfs_law(self, tmp_path: Path) -> None:
        from states.test_states import save, word_tokenizer
        from transformers import BertConfig, BertModel

        tokenizer = word_tokenizer()
        sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
        config = BertConfig(vocab_size=tokenizer.get_vocab_size(), max_position_embeddings=32, **sizes)
        encoder = save(tmp_path / "bert", BertModel(config), tokenizer)
        assert distil(encoder.folder, tmp_path / "encoder", "--dims", "4") == 0
        metadata = load_json(tmp_path / "encoder" / "metadata.json")
        assert metadata["frequencies"] == {"from": "zipf"}
        assert metadata["recipe"]["prefix"] == ""  # its own special tokens stand around each token

    def test_a_decoder_without_a_head_distils_but_writes_nothing(
        self, tmp_path: Path, tiny_tokenizer: Tokenizer, capsys: pytest.CaptureFixture[str]
    ) -> None:
        from transformers import Qwen2Config, Qwen2Model

        sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
        sizes |= {"vocab_size": tiny_tokenizer.get_vocab_size(), "num_key_value_heads": 2}
        config = Qwen2Config(tie_word_embeddings=False, **sizes)
        Qwen2Model(config).save_pretrained(tmp_path / "headless")
        tiny_tokenizer.save(str(tmp_path / "headless" / "tokenizer.json"))
        assert distil(tmp_path / "headless", tmp_path / "written") == 2
        assert "headless has no language-model head, and so writes nothing" in capsys.readouterr().err
        assert distil(tmp_path / "headless", tmp_path / "model", "--texts", "0", "--dims", "8") == 0

    def test_select_says_what_it_tried(self, tiny_teacher: Path, tmp_path: Path) -> None:
        assert distil(tiny_teacher, tmp_path / "selected", "--select") == 0
        metadata = load_json(tmp_path / "selected" / "metadata.json")
        check_schema(metadata, "metadata")
        assert len(metadata["selection"]) > 3
        assert metadata["recipe"]["layers"] == metadata["selection"][0]["layers"]
        assert metadata["recipe"]["sif"] == metadata["selection"][0]["sif"]

    def test_the_default_teacher_is_cut_to_a_size(self) -> None:
        parser = distill_command.build_parser()
        for flags, size, storage in (
            ([], 65, "int8"),
            (["--max-size-mb", "none"], math.inf, "float32"),
            (["--teacher", "smollm2-135m"], math.inf, "float32"),
            (["--teacher", "smollm2-135m", "--max-size-mb", "20"], 20, "int8"),
        ):
            settings = distill_flags.settings_of(parser.parse_args(flags)).completed()
            assert (settings.max_size_mb, settings.storage) == (size, storage)

    def test_a_dry_run_says_what_it_takes_and_writes_nothing(
        self, tiny_teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert distil(tiny_teacher, tmp_path / "dry", "--dry-run") == 0
        assert "of memory" in capsys.readouterr().err
        assert not (tmp_path / "dry").exists()

    @pytest.mark.parametrize(
        "flags",
        [
            ("--dims", "0"),
            ("--dims", "-3"),
            ("--sif", "0"),
            ("--sif", "nan"),
            ("--batch-size", "0"),
            ("--texts", "-1"),
            ("--sentence-vectors", "-5"),
        ],
    )
    def test_impossible_numbers_are_refused(
        self, flags: tuple[str, str], tiny_teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert distil(tiny_teacher, tmp_path / "model", *flags) == 2
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert error.startswith("error: ") and flags[0] in error
        assert not (tmp_path / "model").exists()


class TestEvaluate:
    def test_result_file(self, tiny_model: Path, small_items: Path, tmp_path: Path) -> None:
        output = tmp_path / "result.json"
        arguments = ["--model", str(tiny_model), "--items", str(small_items), "--output", str(output)]
        assert evaluate_command.main(arguments) == 0
        result = load_json(output)
        check_schema(result, "evaluation")
        assert set(result["categories"]) == set(WEIGHTS)
        weighted = sum(c["score"] * c["weight"] for c in result["categories"].values())
        assert result["overall"]["score"] == pytest.approx(weighted, abs=1e-5)

    def test_a_random_teacher_gets_no_good_verdict(
        self, tiny_model: Path, small_items: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        common = ["--model", str(tiny_model), "--items", str(small_items), "--output", str(tmp_path / "r.json")]
        assert evaluate_command.main([*common, "--fail-under", "Fair"]) == 1
        assert evaluate_command.main([*common, "--fail-under", "-1"]) == 0
        capsys.readouterr()
        for flag in ("--json-only", "-q"):
            assert evaluate_command.main([*common, flag]) == 0
            printed = capsys.readouterr()
            assert printed.out.strip() == str(tmp_path / "r.json") and printed.err == ""

    def test_the_result_goes_to_standard_output_alone(
        self, tiny_model: Path, small_items: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        common = ["--items", str(small_items), "--output", "-"]
        assert evaluate_command.main(["--model", str(tiny_model), *common]) == 0
        printed = capsys.readouterr()
        check_schema(json.loads(printed.out), "evaluation")
        assert "Verdict: " in printed.err
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(tmp_path)
            assert compare_command.main(["--ours", f"TINY={tiny_model}", "--no-peers", "-q", *common]) == 0
        printed = capsys.readouterr()
        check_schema(json.loads(printed.out), "comparison")
        assert printed.err == "" and not list(tmp_path.iterdir())  # no reports, as there is no place beside it

    def test_same_seed_same_scores(self, tiny_model: Path, small_items: Path, tmp_path: Path) -> None:
        results = []
        for name in ("a.json", "b.json"):
            output = tmp_path / name
            arguments = ["--model", str(tiny_model), "--items", str(small_items), "--output", str(output)]
            assert evaluate_command.main([*arguments, "--json-only"]) == 0
            results.append(load_json(output))
        assert results[0]["categories"] == results[1]["categories"]
        assert results[0]["items_sha256"] == results[1]["items_sha256"]

    def test_some_categories_give_scores_but_no_verdict(
        self, tiny_model: Path, small_items: Path, tmp_path: Path
    ) -> None:
        output = tmp_path / "some.json"
        arguments = ["--model", str(tiny_model), "--items", str(small_items), "--output", str(output)]
        arguments += ["--categories", "code_understanding", "semantic_similarity"]
        assert evaluate_command.main(arguments) == 0
        result = load_json(output)
        assert list(result["categories"]) == ["semantic_similarity", "code_understanding"]
        assert result["verdict"]["verdict"] is None
        assert evaluate_command.main([*arguments, "--fail-under", "Poor"]) == 1

    def test_words_alone_are_scored_where_a_category_is_retrieval(
        self, small_items: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        output, report = tmp_path / "words.json", tmp_path / "words.html"
        arguments = ["--model", "bm25", "--items", str(small_items), "--output", str(output), "--report", str(report)]
        assert evaluate_command.main(arguments) == 0
        result = load_json(output)
        check_schema(result, "evaluation")
        assert set(result["categories"]) == {*WEIGHTS} - {"topic_clustering"}
        assert result["verdict"]["verdict"] is None and "topic_clustering" in result["verdict"]["reasons"][0]
        assert "Verdict: none" in capsys.readouterr().out and "sentences/s" in report.read_text(encoding="utf-8")

    def test_report_is_one_page_and_escapes_items(self, tiny_model: Path, small_items: Path, tmp_path: Path) -> None:
        items = tmp_path / "items"
        shutil.copytree(small_items, items)
        path = items / "semantic_similarity.jsonl"
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for row in rows:
            row["anchor"] = "<script>alert(1)</script> " + row["anchor"]
        path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        report = tmp_path / "report.html"
        arguments = ["--model", str(tiny_model), "--items", str(items), "--output", str(tmp_path / "r.json")]
        assert evaluate_command.main([*arguments, "--report", str(report)]) == 0
        page = report.read_text(encoding="utf-8")
        assert page.count("<script") == 1 and "<script>alert" not in page and "&lt;script&gt;" in page
        assert 'src="data:image/png;base64,' in page and "http" not in page.replace("http-equiv", "")

    @pytest.mark.parametrize("flag", ["--output", "--report"])
    @pytest.mark.parametrize("place", ["model/model.safetensors", "items/code_understanding.jsonl", "sub/../r"])
    def test_what_is_read_or_written_is_not_replaced(
        self,
        tiny_model: Path,
        few_items: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        flag: str,
        place: str,
    ) -> None:
        shutil.copytree(tiny_model, tmp_path / "model")
        shutil.copytree(few_items, tmp_path / "items")
        (tmp_path / "sub").mkdir()
        before = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}
        arguments = ["--model", str(tmp_path / "model"), "--items", str(tmp_path / "items")]
        other = "--report" if flag == "--output" else "--output"
        arguments += [other, str(tmp_path / "r"), flag, str(tmp_path / place)]
        assert evaluate_command.main(arguments) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ") and "give another path" in line
        assert {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()} == before

    def test_items_are_hashed_as_they_were_read(
        self, tiny_model: Path, few_items: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        items = tmp_path / "items"
        shutil.copytree(few_items, items)
        hashes = items_sha256(items, WEIGHTS)
        empty_before(monkeypatch, evaluate_command, "load_encoder", items / "code_understanding.jsonl")
        arguments = ["--model", str(tiny_model), "--items", str(items), "--output", str(tmp_path / "r.json")]
        assert evaluate_command.main(arguments) == 0
        assert load_json(tmp_path / "r.json")["items_sha256"] == hashes

    def test_a_result_may_lie_beside_its_model(self, tiny_model: Path, few_items: Path, tmp_path: Path) -> None:
        shutil.copytree(tiny_model, tmp_path / "model")
        arguments = ["--model", str(tmp_path / "model"), "--items", str(few_items), "--json-only"]
        (tmp_path / "link").symlink_to(tmp_path / "model" / "eval.json")
        assert evaluate_command.main([*arguments, "--output", str(tmp_path / "link")]) == 0
        assert evaluate_command.main([*arguments, "--output", str(tmp_path / "model" / "eval.json")]) == 0
        assert (tmp_path / "link").is_symlink()

    @pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
    def test_wrong_usage_is_one_line(self, script: Any, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as stopped:
            script.main(["--no-such-flag"])
        (line,) = capsys.readouterr().err.splitlines()
        assert stopped.value.code == 2 and line.startswith("error: ") and "--no-such-flag" in line

    def test_no_model_there(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert evaluate_command.main(["--model", str(tmp_path), "--output", str(tmp_path / "r.json")]) == 2
        assert capsys.readouterr().err.strip().splitlines()[-1].startswith("error: ")
        assert not (tmp_path / "r.json").exists()


@pytest.mark.parametrize("folder", [EVAL_DATA, calibration_folder()], ids=["eval", "calibration"])
def test_items_are_the_frozen_ones(folder: Path) -> None:
    frozen = dict(reversed(line.split()) for line in (folder / "SHA256SUMS").read_text().splitlines())
    assert {f"{name}.jsonl": digest for name, digest in items_sha256(folder, WEIGHTS).items()} == frozen


def test_nothing_is_calibrated_on_what_is_reported() -> None:
    def texts(value: object) -> Iterator[str]:
        if isinstance(value, dict):
            value = [v for key, v in value.items() if key not in ("id", "tier", "kind", "language", "intent", "topic")]
        if isinstance(value, list):
            for part in value:
                yield from texts(part)
        elif isinstance(value, str):
            yield value.strip().lower()

    reported, chosen_on = (
        {text for category in WEIGHTS for text in texts(load_items(folder, category))}
        for folder in (EVAL_DATA, calibration_folder())
    )
    assert len(chosen_on) > 1000
    assert not reported & chosen_on
