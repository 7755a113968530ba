"""The static peers of the comparison: embedding models pooled as they pool themselves, and the presets."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from conftest import ROOT
from model2vec import StaticModel
from teachers import EMBEDDERS, LAYERS, VOCABULARY, make_embedder
from teachers import one_thread as one_thread  # a fixture
from tokenizers import Tokenizer, processors

from qwen25.commands import distill as distill_command
from qwen25.commands import distill_flags
from qwen25.distillation import Settings
from qwen25.distillation.settings import PEERS
from qwen25.runtime.errors import InputError, PipelineError
from qwen25.states.device import Computing
from qwen25.states.jobs import Frame
from qwen25.states.pooling import PooledStates, weight_files
from qwen25.teacher.teacher import Teacher

#: The tokens whose text alone is that token; the special ones before them are no text.
TOKENS = np.arange(5, VOCABULARY)
FRAMES = {"bert": Frame((1,), (2,)), "qwen3": Frame((), (2,)), "gemma3_text": Frame((1,), (2,))}


@pytest.fixture(scope="module")
def embedders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Teacher]:
    folder = tmp_path_factory.mktemp("embedders")
    return {name: make_embedder(folder / name, name) for name in EMBEDDERS}


def pooled(teacher: Teacher, ids: Any = TOKENS) -> np.ndarray:
    return PooledStates(teacher, Computing()).compute(ids)[LAYERS]


def encoded(teacher: Teacher, texts: list[str]) -> np.ndarray:
    """What sentence-transformers makes of texts when nothing normalises it at the end."""
    from sentence_transformers import SentenceTransformer

    whole = SentenceTransformer(str(teacher.folder), device="cpu")
    *steps, last = whole
    assert type(last).__name__ == "Normalize"
    return SentenceTransformer(modules=steps, device="cpu").encode(texts)


@pytest.mark.parametrize("name", EMBEDDERS)
def test_tokens_are_pooled_as_the_teacher_pools_texts(name: str, embedders: dict[str, Teacher]) -> None:
    states = PooledStates(embedders[name], Computing())
    assert states.embedder.frame == FRAMES[EMBEDDERS[name][0]]
    found = states.compute(TOKENS)[LAYERS]
    assert found.shape == (len(TOKENS), 16 if name == "gemma3-dense" else 24) and found.dtype == np.float32
    expected = encoded(embedders[name], [f"w{i}" for i in TOKENS])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    again = states.compute(TOKENS)[LAYERS]  # by the model loaded once more
    assert found.tobytes() == again.tobytes()


@pytest.mark.parametrize("name", ["bert-mean", "qwen3-last"])
def test_words_of_several_tokens_are_pooled_whole(name: str, embedders: dict[str, Teacher]) -> None:
    words = [[7], [5, 9, 11], [8], [30, 6]]
    found = PooledStates(embedders[name], Computing(batch_size=2)).compute(words)[LAYERS]
    expected = encoded(embedders[name], [" ".join(f"w{i}" for i in word) for word in words])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_the_poolings_differ(embedders: dict[str, Teacher]) -> None:
    mean, cls = (pooled(embedders[f"bert-{p}"]) for p in ("mean", "cls"))
    assert np.abs(mean - cls).max() > 0.01


def test_a_special_token_without_an_embedding_says_nothing(embedders: dict[str, Teacher]) -> None:
    teacher = embedders["gemma3-dense"]
    whole = pooled(teacher, np.arange(VOCABULARY + 1))
    np.testing.assert_array_equal(whole[:-1], pooled(teacher, np.arange(VOCABULARY)))
    np.testing.assert_allclose(whole[-1], whole[:-1].mean(axis=0), rtol=1e-5, atol=1e-6)
    with pytest.raises(InputError, match=f"token {VOCABULARY + 1} has no embedding"):
        pooled(teacher, np.arange(VOCABULARY + 2))
    with pytest.raises(InputError, match="item 1 has no tokens"):
        pooled(teacher, [[5], []])


def test_damaged_weights_are_reported(embedders: dict[str, Teacher]) -> None:
    states = PooledStates(embedders["bert-mean"], Computing())
    states.embedder.modules[0].auto_model.get_input_embeddings().weight.data[9] = torch.nan
    with pytest.raises(PipelineError, match="NaN or infinity for 1 tokens"):
        states.compute(TOKENS)


def test_a_gpu_that_runs_out_of_memory_gets_smaller_batches(
    embedders: dict[str, Teacher],
) -> None:
    states = PooledStates(embedders["bert-mean"], Computing())
    expected = states.compute(TOKENS)[LAYERS]
    sizes: list[int] = []

    def refuse(_: Any, inputs: tuple[dict[str, torch.Tensor]]) -> None:
        sizes.append(len(inputs[0]["input_ids"]))
        if sizes[-1] > limit:
            raise torch.cuda.OutOfMemoryError("no room")

    limit = 7
    states.embedder.modules[0].register_forward_pre_hook(refuse)
    np.testing.assert_allclose(states.compute(TOKENS)[LAYERS], expected, rtol=1e-4, atol=1e-5)
    assert {56, 28, 14, 7} <= set(sizes)
    limit = 0
    states.embedder.modules[0].register_forward_pre_hook(refuse)
    with pytest.raises(PipelineError, match="--device cpu"):
        states.compute(TOKENS)


def test_the_plan_is_one_line(embedders: dict[str, Teacher]) -> None:
    found = PooledStates(embedders["bert-mean"], Computing()).plan(TOKENS)
    assert found.tokens == len(TOKENS)
    assert found.seconds is not None and found.seconds > 0
    assert "recipe pooled" in str(found) and "\n" not in str(found)


class TestWhatIsRefused:
    """Folders that are no embedding models, or whose code or pickles would have to be run."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return make_embedder(tmp_path / "embedder", "gemma3-dense").folder

    @staticmethod
    def refused(folder: Path, match: str) -> None:
        with pytest.raises(InputError, match=match):
            PooledStates(Teacher("tiny", "folder", folder), Computing())

    @staticmethod
    def change(folder: Path, step: int, **values: str) -> None:
        path = folder / "modules.json"
        steps = json.loads(path.read_text(encoding="utf-8"))
        steps[step] |= values
        path.write_text(json.dumps(steps), encoding="utf-8")

    def test_no_modules(self, folder: Path) -> None:
        (folder / "modules.json").unlink()
        self.refused(folder, "modules.json.*use the default recipe")

    @pytest.mark.parametrize("text", ["{", "[]", '{"a": 1}', "[3]", '[{"type": "x"}]', "null"])
    def test_broken_modules(self, folder: Path, text: str) -> None:
        (folder / "modules.json").write_text(text, encoding="utf-8")
        self.refused(folder, "modules.json")

    @pytest.mark.parametrize("kind", ["own.Dense", "sentence_transformers.models.other--own.Dense"])
    def test_code_of_the_folders_own_is_not_run(self, kind: str, folder: Path, tmp_path: Path) -> None:
        ran = tmp_path / "ran"
        code = f"from pathlib import Path\nPath({str(ran)!r}).touch()\nfrom sentence_transformers.models import Dense\n"
        (folder / "own.py").write_text(code, encoding="utf-8")
        self.change(folder, 2, type=kind)
        self.refused(folder, f"step 2 of its modules.json, {kind}, is not supported")
        assert not ran.exists()

    def test_an_activation_function_of_anything(self, folder: Path) -> None:
        path = folder / "2_Dense" / "config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps(config | {"activation_function": "builtins.breakpoint"}), encoding="utf-8")
        self.refused(folder, "2_Dense has no activation function")

    def test_pickled_dense_layers(self, folder: Path) -> None:
        (folder / "3_Dense" / "model.safetensors").rename(folder / "3_Dense" / "pytorch_model.bin")
        self.refused(folder, "3_Dense has only pickled weights")

    def test_missing_weights_are_not_made_up(self, folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        tensors = load_file(folder / "model.safetensors")
        del tensors["layers.1.mlp.up_proj.weight"]
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(PipelineError, match=r"lack layers\.1\.mlp\.up_proj"):
            PooledStates(Teacher("tiny", "folder", folder), Computing())

    def test_all_weights_are_hashed(self, folder: Path) -> None:
        names = [str(path.relative_to(folder)) for path in weight_files(Teacher("tiny", "folder", folder))]
        assert names == ["model.safetensors", "2_Dense/model.safetensors", "3_Dense/model.safetensors"]


class TestPresets:
    @pytest.mark.parametrize("name", list(PEERS))
    def test_a_preset_sets_its_flags(self, name: str) -> None:
        args = self.parsed("--preset", name)
        for flag, value in PEERS[name].items():
            assert getattr(args, flag) == value
        assert (args.recipe, args.max_size_mb) == ("pooled", math.inf)
        assert args.output.name == name.replace("-", "-deposium-")

    @pytest.mark.parametrize(
        ("flag", "text", "value"),
        [
            ("--teacher", "mine", "mine"),
            ("--dims", "1024", 1024),  # the default of another teacher: given all the same
            ("--recipe", "default", "default"),
            ("--storage", "float32", "float32"),
            ("--max-size-mb", "20", 20),
            ("--output", "mine", Path("mine")),
        ],
    )
    def test_a_flag_wins_over_the_preset_on_either_side(self, flag: str, text: str, value: object) -> None:
        preset = PEERS["gemma-768d"]
        for line in ((flag, text, "--preset", "gemma-768d"), ("--preset", "gemma-768d", flag, text)):
            args = vars(self.parsed(*line))
            name = flag.removeprefix("--").replace("-", "_")
            assert args[name] == value
            assert {k: args[k] for k in preset if k != name} == {k: v for k, v in preset.items() if k != name}
            assert args["preset"] == "gemma-768d"

    def test_tiny_is_small_for_any_teacher(self) -> None:
        settings = self.parsed("--preset", "tiny", "--teacher", "qwen2.5-coder-0.5b")
        assert (settings.teacher, settings.dims, settings.storage) == ("qwen2.5-coder-0.5b", 256, "int8")
        assert settings.max_size_mb == 8

    def test_none_changes_nothing(self) -> None:
        args = self.parsed()
        assert (args.preset, args.recipe, args.dims, args.storage) == (None, "default", 1024, "int8")

    @staticmethod
    def parsed(*flags: str) -> Settings:
        parser = distill_command.build_parser(distill_flags.preset_named(flags))
        return distill_flags.settings_of(parser.parse_args(flags)).completed()


def distil(output: Path, *flags: str) -> int:
    common = ["--output", str(output), "--log-file", str(output.with_suffix(".log")), "--device", "cpu"]
    return distill_command.main([*common, *flags])


def metadata_of(folder: Path) -> dict[str, Any]:
    metadata = json.loads((folder / "metadata.json").read_text(encoding="utf-8"))
    schema = json.loads((ROOT / "docs" / "schema" / "metadata.schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(metadata, schema)
    return metadata


class TestRuns:
    """The whole script."""

    @pytest.fixture(scope="class")
    def qwen3(self, tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: Tokenizer) -> Path:
        """Like Qwen3-Embedding: a byte-level BPE that puts one special token behind a text."""
        tokenizer = Tokenizer.from_str(tiny_tokenizer.to_str())
        end = ("<|endoftext|>", tokenizer.token_to_id("<|endoftext|>"))
        tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {end[0]}", special_tokens=[end])
        return make_embedder(tmp_path_factory.mktemp("qwen3") / "tiny", "qwen3-last", tokenizer).folder

    def test_a_preset_makes_a_model(self, qwen3: Path, tmp_path: Path) -> None:
        words = tmp_path / "words.txt"
        words.write_text("machine learning\n", encoding="utf-8")
        flags = ("--preset", "qwen3-256d", "--teacher", str(qwen3), "--dims", "16", "--vocabulary", str(words))
        assert distil(tmp_path / "peer", *flags) == 0
        metadata = metadata_of(tmp_path / "peer")
        assert (metadata["preset"], metadata["dims"], metadata["storage"]) == ("qwen3-256d", 16, "float32")
        assert metadata["recipe"]["name"] == "pooled" and metadata["frequencies"] == {"from": "zipf"}
        model = StaticModel.from_pretrained(tmp_path / "peer")
        assert model.embedding.shape == (2001, 16)
        assert np.linalg.norm(model.encode("a forgotten password")) == pytest.approx(1, abs=1e-5)
        assert distil(tmp_path / "again", *flags) == 0
        assert metadata_of(tmp_path / "again")["model_sha256"] == metadata["model_sha256"]

    def test_a_peer_with_dense_layers_is_as_wide_as_they_are(
        self, embedders: dict[str, Teacher], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        teacher = embedders["gemma3-dense"]
        assert distil(tmp_path / "peer", "--preset", "gemma-768d", "--teacher", str(teacher.folder)) == 0
        assert "1 layer(s) x 16 span only" in capsys.readouterr().err
        metadata = metadata_of(tmp_path / "peer")
        assert (metadata["dims"], metadata["storage"], metadata["vocabulary"]["tokens"]) == (16, "float16", 62)
        assert metadata["teacher"]["weights_sha256"] != teacher.weights_sha256  # the dense layers' too

    def test_the_metadata_names_the_corpus_as_the_source_of_frequencies(self, qwen3: Path, tmp_path: Path) -> None:
        corpus = tmp_path / "corpus.txt"
        corpus.write_text("one text\nanother text\n", encoding="utf-8")
        for recipe, sif in (("pooled", 1e-4), ("default", 5e-4)):
            flags = ("--teacher", str(qwen3), "--recipe", recipe, "--corpus", str(corpus))
            assert distil(tmp_path / recipe, *flags) == 0
            found = metadata_of(tmp_path / recipe)
            assert (found["recipe"]["frequencies"], found["frequencies"]["from"]) == ("corpus", "corpus")
            assert (found["recipe"]["sif"], found["preset"]) == (sif, None)

    def test_a_dry_run_says_what_it_takes(
        self, qwen3: Path, tiny_teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert distil(tmp_path / "peer", "--preset", "qwen3-256d", "--teacher", str(qwen3), "--dry-run") == 0
        said = capsys.readouterr().err
        assert "2,000 tokens" in said and "recipe pooled" in said and "written texts" not in said
        assert (
            distil(tmp_path / "model", "--teacher", str(tiny_teacher), "--texts", "1024", "--dry-run", "--select") == 0
        )
        said = capsys.readouterr().err
        assert "written texts: 1,024 of 32 tokens" in said and "not included: --select" in said
        assert not (tmp_path / "peer").exists() and not (tmp_path / "model").exists()

    @pytest.mark.parametrize(
        ("flags", "why"),
        [
            (("--recipe", "pooled"), "no modules.json"),
            (("--recipe", "pooled", "--select"), "--select varies"),
            (("--recipe", "pooled", "--sentence-vectors", "64"), "recipe pooled is for embedding models"),
            (("--recipe", "plain", "--sentence-vectors", "64"), "add --corpus FILE"),
            (("--sentence-vectors", "1"), "at least 2"),
            (("--sentence-vectors", "64", "--corpus", "CORPUS"), "at least 2 different texts"),
            (("--sentence-vectors", "64", "--teacher", "BERT"), "is an encoder"),
            (("--sentence-vectors", "64", "--teacher", "BERT", "--corpus", "README"), "is an encoder"),
        ],
    )
    def test_flags_that_would_have_no_effect(
        self,
        flags: tuple[str, ...],
        why: str,
        tiny_teacher: Path,
        embedders: dict[str, Teacher],
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        corpus = tmp_path / "corpus.txt"
        corpus.write_text("the same\nthe same\n", encoding="utf-8")
        places = {"CORPUS": str(corpus), "README": str(ROOT / "README.md"), "BERT": str(embedders["bert-mean"].folder)}
        line = ["--teacher", str(tiny_teacher), *(places.get(flag, flag) for flag in flags)]
        assert distil(tmp_path / "model", *line) == 2
        errors = [said for said in capsys.readouterr().err.splitlines() if said.startswith("error: ")]
        assert len(errors) == 1 and why in errors[0]
        assert not (tmp_path / "model").exists()

    def test_sentence_vectors_of_a_corpus_stay(self, tiny_teacher: Path, tmp_path: Path) -> None:
        """A recipe that has no texts written takes them from the corpus."""
        flags = ("--teacher", str(tiny_teacher), "--recipe", "plain", "--corpus", str(ROOT / "README.md"))
        assert distil(tmp_path / "plain", *flags, "--sentence-vectors", "20") == 0
        assert metadata_of(tmp_path / "plain")["sentence_vectors"] == 20
