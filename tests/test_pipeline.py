"""Phase 1 as a user runs it, on a tiny teacher; and what phases 2 and 3 make of the model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model2vec import StaticModel
from teachers import EMBEDDERS, make_embedder
from tokenizers import Tokenizer, processors

import distill_qwen25_1024d as phase1
from qwen25.distillation.settings import Settings
from qwen25.distillation.vocabulary import NUMBERS
from qwen25.evaluation.categories import WEIGHTS
from qwen25.evaluation.models import load_encoder
from qwen25.evaluation.own_data import OwnRun
from qwen25.evaluation.own_pairs import read_own
from qwen25.runtime.files import schema_fault
from qwen25.training.sources import HELD_OUT

#: Of the tiny teacher's model: its own tokens, and groups of digits.
TOKENS = 2000 + len(NUMBERS)
TEXTS = ["How do I reset my password?", "Forgotten login", "", "  indented\n\tcode()", "数学 ωμέγα é"]


def distil(teacher: Path, output: Path, *flags: Any) -> int:
    words = ["--teacher", teacher, "--output", output, "--device", "cpu", "--log-file", output.with_suffix(".log")]
    return phase1.main([str(word) for word in (*words, *flags)])


def metadata_of(model: Path) -> dict[str, Any]:
    metadata = json.loads((model / "metadata.json").read_text(encoding="utf-8"))
    assert schema_fault(metadata, "metadata") is None
    return metadata


def bytes_of(model: Path) -> bytes:
    return (model / "model.safetensors").read_bytes()


def cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return (left * right).sum(axis=1) / (np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Questions and answers that share nothing but their number, in words."""
    ones = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    rows = []
    for number in (f"{i:04d}" for i in range(1200)):
        question = " ".join(ones[int(digit)] for digit in number)
        rows.append(json.dumps({"a": f"Which number is {question}?", "b": f"It is {' '.join(number)}."}))
    path = tmp_path_factory.mktemp("pairs") / "numbers.jsonl"
    path.write_text("\n".join(rows))
    return path


class TestModel:
    def test_the_folder(self, tiny_model: Path, tiny_teacher: Path) -> None:
        names = {path.name for path in tiny_model.iterdir()}
        wanted = {"model.safetensors", "config.json", "tokenizer.json", "modules.json", "metadata.json", "README.md"}
        assert wanted <= names
        metadata = metadata_of(tiny_model)
        assert metadata["teacher"]["name"] == tiny_teacher.name
        assert metadata["vocabulary"]["tokens"] == StaticModel.from_pretrained(tiny_model).embedding.shape[0] == TOKENS
        assert (metadata["frequencies"], metadata["recipe"]["sif"]) == ({"from": "zipf"}, 1e-4)
        assert (metadata["layers"], metadata["training"], metadata["storage"]) == ([0, 1], None, "float32")
        assert all((tiny_model / name).stat().st_size == size for name, size in metadata["sizes_bytes"].items())
        assert str(Path.home()) not in json.dumps(metadata)
        readme = (tiny_model / "README.md").read_text(encoding="utf-8")
        assert f"`{tiny_teacher.name}`" in readme and f"{TOKENS:,} tokens" in readme

    def test_a_second_run_gives_the_same_bytes(self, tiny_model: Path, tiny_teacher: Path, tmp_path: Path) -> None:
        assert distil(tiny_teacher, tmp_path / "again", "-q") == 0
        for name in ("model.safetensors", "tokenizer.json", "config.json"):
            assert (tmp_path / "again" / name).read_bytes() == (tiny_model / name).read_bytes()

    def test_from_python(self, tiny_model: Path, tiny_teacher: Path, tmp_path: Path) -> None:
        settings = Settings(teacher=str(tiny_teacher), device="cpu", name="A name", output=tmp_path / "here")
        metadata = phase1.distil(settings, output=tmp_path / "there", dims=16)
        assert (metadata["name"], metadata["dims"]) == ("A name", 16) and not (tmp_path / "here").exists()
        assert "# A name\n" in (tmp_path / "there" / "README.md").read_text(encoding="utf-8")

    def test_custom_words(self, tiny_teacher: Path, tmp_path: Path) -> None:
        (tmp_path / "words.txt").write_text("kubernetes\nmachine learning\n", encoding="utf-8")
        assert distil(tiny_teacher, tmp_path / "words", "--vocabulary", tmp_path / "words.txt") == 0
        model = StaticModel.from_pretrained(tmp_path / "words")
        assert model.embedding.shape[0] == TOKENS + 2
        direction = model.embedding[-1] / np.linalg.norm(model.embedding[-1])
        np.testing.assert_allclose(model.encode("machine learning"), direction, atol=1e-5)

    def test_words_with_a_meaning(self, tiny_bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "words.tsv").write_text("SS\tstainless steel\n", encoding="utf-8")
        flags = ("--vocabulary", "idioms", "--vocabulary", tmp_path / "words.tsv")
        assert distil(tiny_bert, tmp_path / "words", "--dims", 4, *flags) == 0
        assert metadata_of(tmp_path / "words")["vocabulary"]["custom_words"] > 3000
        model = StaticModel.from_pretrained(tmp_path / "words")
        np.testing.assert_allclose(*model.encode(["an SS bolt", "an stainless steel bolt"]), atol=1e-5)
        assert distil(tiny_bert, tmp_path / "none", "--vocabulary", "idiom") == 2
        assert "error: no vocabulary 'idiom': give a file, or idioms or abbreviations" in capsys.readouterr().err

    def test_a_corpus_sets_the_weights(self, tiny_model: Path, tiny_teacher: Path, tmp_path: Path) -> None:
        """A word that the corpus repeats weighs less than in a model that never saw it."""
        (tmp_path / "cats.txt").write_text("cat " * 500, encoding="utf-8")
        assert distil(tiny_teacher, tmp_path / "cats", "--corpus", tmp_path / "cats.txt") == 0
        metadata = metadata_of(tmp_path / "cats")
        assert (metadata["frequencies"]["from"], metadata["recipe"]["frequencies"]) == ("corpus", "corpus")
        assert metadata["recipe"]["sif"] == 5e-4
        norms = []
        for model in map(StaticModel.from_pretrained, (tmp_path / "cats", tiny_model)):
            ids = model.tokenizer.encode("cat", add_special_tokens=False).ids
            norms.append(np.linalg.norm(model.embedding[ids[0]]) / np.median(np.linalg.norm(model.embedding, axis=1)))
        assert norms[0] < norms[1] / 2

    def test_an_encoder_by_the_plain_recipe(self, tiny_bert: Path, tmp_path: Path) -> None:
        assert distil(tiny_bert, tmp_path / "encoder", "--dims", 4, "--recipe", "plain") == 0
        metadata = metadata_of(tmp_path / "encoder")
        assert metadata["recipe"]["prefix"] == ""  # its own special tokens stand around each token
        assert (metadata["layers"], metadata["dtype"]) == ([1], "float32")

    def test_an_embedding_model_by_a_preset(self, tmp_path: Path, tiny_tokenizer: Tokenizer) -> None:
        """Like Qwen3-Embedding: a byte-level BPE that puts one special token behind a text."""
        assert "qwen3-last" in EMBEDDERS
        tokenizer = Tokenizer.from_str(tiny_tokenizer.to_str())
        end = ("<|endoftext|>", tokenizer.token_to_id("<|endoftext|>"))
        tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {end[0]}", special_tokens=[end])
        teacher = make_embedder(tmp_path / "teacher", "qwen3-last", tokenizer)
        (tmp_path / "words.txt").write_text("machine learning\n", encoding="utf-8")
        flags = ("--preset", "qwen3-256d", "--dims", 16, "--vocabulary", tmp_path / "words.txt")
        assert distil(teacher.folder, tmp_path / "peer", *flags) == 0
        metadata = metadata_of(tmp_path / "peer")
        assert (metadata["preset"], metadata["dims"], metadata["storage"]) == ("qwen3-256d", 16, "float32")
        assert metadata["recipe"]["name"] == "pooled"
        assert StaticModel.from_pretrained(tmp_path / "peer").embedding.shape == (2001, 16)


class TestSize:
    """The tiny teacher's 2,000 tokens x 128 in less than what they take; the texts say which are used."""

    def test_the_file_keeps_to_its_size_and_text_that_is_used_its_vector(
        self, tiny_teacher: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "corpus.txt").write_text("\n".join(TEXTS * 3), encoding="utf-8")
        for name, size in {"whole": "none", "small": 0.2}.items():
            flags = ("--corpus", tmp_path / "corpus.txt", "--max-size-mb", size)
            assert distil(tiny_teacher, tmp_path / name, *flags) == 0
        assert 0.99 * 0.2e6 < len(bytes_of(tmp_path / "small")) <= 0.2e6
        facts = metadata_of(tmp_path / "small")["vocabulary"]
        assert (facts["tokens"], facts["max_size_mb"]) == (TOKENS, 0.2) and facts["rows"] < TOKENS
        whole, small = (StaticModel.from_pretrained(tmp_path / name) for name in ("whole", "small"))
        assert small.embedding.shape == (facts["rows"], 128) and len(small.tokens) == TOKENS
        texts = [text for text in TEXTS if text]
        assert cosines(small.encode(texts), whole.encode(texts)).min() > 0.9995


class TestTraining:
    FLAGS = ("--dims", 32, "--tune", "rows", "--epochs", 8)

    def margin(self, folder: Path) -> float:
        """Return by how much a question's cosine with its own answer exceeds that with another's."""
        model = StaticModel.from_pretrained(folder)
        left, right = model.encode(["Which number is one two three four?", "It is 1 2 3 4."])
        return float(left @ right - left @ model.encode("It is 9 8 7 6."))

    def test_pairs_bring_an_answer_nearer_to_its_question(
        self, tiny_teacher: Path, tmp_path: Path, pairs: Path
    ) -> None:
        assert distil(tiny_teacher, tmp_path / "plain", "--dims", 32) == 0
        assert distil(tiny_teacher, tmp_path / "trained", *self.FLAGS, "--pairs", pairs) == 0
        assert self.margin(tmp_path / "trained") > self.margin(tmp_path / "plain") + 0.3
        training = metadata_of(tmp_path / "trained")["training"]
        (found,) = training["sets"]
        assert found["name"] == "numbers" and found["rows"] == 1200 and len(found["sha256"]) == 64
        assert training["trained"]["loss"] < training["untrained"]["loss"]
        assert set(training["calibration"]) == set(WEIGHTS)
        assert training["settings"]["tune"] == "rows"

    def test_an_evaluation_knows_the_texts_of_training_from_those_held_out(
        self, tiny_teacher: Path, tmp_path: Path, pairs: Path
    ) -> None:
        folder = tmp_path / "trained"
        assert distil(tiny_teacher, folder, "--dims", 32, "--pairs", pairs, "--hold-out", 0.1) == 0
        metadata = metadata_of(folder)
        assert schema_fault(metadata, "metadata") is None and metadata["score_meaning"]["right"]["pairs"]
        assert metadata["training"]["sets"][0]["dropped"] == {"held out": 120}
        encoder = load_encoder(str(folder))
        for file, seen, of in ((pairs, 2160, 2400), (folder / HELD_OUT, 0, 240)):
            run = OwnRun(read_own(file), 42)
            run.add(encoder)
            assert run.systems[0]["shared_with_training"] == {"texts": seen, "of": of}


class TestOutput:
    def test_existing_files_are_kept_unless_they_are_a_model_to_overwrite(
        self, tiny_model: Path, tiny_teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        shutil.copytree(tiny_model, tmp_path / "model")
        (tmp_path / "model" / "stale.txt").write_text("old")
        assert distil(tiny_teacher, tmp_path / "model") == 2
        assert "--overwrite" in capsys.readouterr().err and (tmp_path / "model" / "stale.txt").exists()
        assert distil(tiny_teacher, tmp_path / "model", "--overwrite", "--dims", "16") == 0
        assert StaticModel.from_pretrained(tmp_path / "model").dim == 16
        assert not (tmp_path / "model" / "stale.txt").exists()
        assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []

    def test_a_dry_run_says_what_it_takes_and_writes_nothing(
        self, tiny_teacher: Path, tmp_path: Path, pairs: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        flags = ("--pairs", pairs, "--storage", "int8", "--dry-run")
        assert distil(tiny_teacher, tmp_path / "dry", *flags) == 0
        said = " ".join(capsys.readouterr().err.split())
        assert "2,000 tokens" in said and f"trained on {pairs};" in said and "3/8" not in said
        assert [path.name for path in tmp_path.iterdir()] == ["dry.log"]

    def test_pairs_that_are_not_there_are_one_line(
        self, tiny_teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert distil(tiny_teacher, tmp_path / "model", "--pairs", "nothing.jsonl") == 2
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert "no such file" in line and not (tmp_path / "model").exists()
