"""Embedding models' tokens are pooled as the models pool texts; neither code nor pickles of their folders are run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from teachers import EMBEDDERS, VOCABULARY, make_embedder

from qwen25.runtime.errors import InputError, PipelineError
from qwen25.runtime.files import sha256
from qwen25.teacher.pooling import pooled_states, pooled_weights_sha256
from qwen25.teacher.teacher import Teacher

#: The tokens whose text alone is that token; the special ones before them are no text.
TOKENS = np.arange(5, VOCABULARY)


@pytest.fixture(scope="module")
def embedders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Teacher]:
    folder = tmp_path_factory.mktemp("embedders")
    return {name: make_embedder(folder / name, name) for name in EMBEDDERS}


def encoded(teacher: Teacher, texts: list[str]) -> np.ndarray:
    """What sentence-transformers makes of texts when nothing normalises it at the end."""
    from sentence_transformers import SentenceTransformer

    *steps, last = SentenceTransformer(str(teacher.folder), device="cpu")
    assert type(last).__name__ == "Normalize"
    return SentenceTransformer(modules=steps, device="cpu").encode(texts)


@pytest.mark.parametrize("name", EMBEDDERS)
def test_tokens_and_words_are_pooled_as_the_teacher_pools_texts(name: str, embedders: dict[str, Teacher]) -> None:
    found = pooled_states(embedders[name], TOKENS)
    assert found.shape == (len(TOKENS), 16 if name == "gemma3-dense" else 24) and found.dtype == np.float32
    np.testing.assert_allclose(found, encoded(embedders[name], [f"w{i}" for i in TOKENS]), rtol=1e-4, atol=1e-5)
    words = [[7], [5, 9, 11], [8], [30, 6]]
    expected = encoded(embedders[name], [" ".join(f"w{i}" for i in word) for word in words])
    np.testing.assert_allclose(pooled_states(embedders[name], words), expected, rtol=1e-4, atol=1e-5)


def test_a_special_token_without_an_embedding_says_nothing(embedders: dict[str, Teacher]) -> None:
    teacher = embedders["gemma3-dense"]
    whole = pooled_states(teacher, np.arange(VOCABULARY + 1))
    np.testing.assert_allclose(whole[-1], whole[:-1].mean(axis=0), rtol=1e-5, atol=1e-6)
    with pytest.raises(InputError, match=f"token {VOCABULARY + 1} has no embedding"):
        pooled_states(teacher, np.arange(VOCABULARY + 2))


class TestWhatIsRefused:
    """Folders that are no embedding models, or whose code or pickles would have to be run."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return make_embedder(tmp_path / "embedder", "gemma3-dense").folder

    @staticmethod
    def refused(folder: Path, match: str) -> None:
        with pytest.raises(InputError, match=match):
            pooled_states(Teacher("tiny", "folder", folder), TOKENS)

    def test_no_modules_or_broken_ones(self, folder: Path) -> None:
        for text in ("{", "[]", '{"a": 1}', '[{"type": "x"}]'):
            (folder / "modules.json").write_text(text, encoding="utf-8")
            self.refused(folder, "modules.json")
        (folder / "modules.json").unlink()
        self.refused(folder, "modules.json.*use the default recipe")

    def test_code_of_the_folders_own_is_not_run(self, folder: Path) -> None:
        steps = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
        steps[2]["type"] = "own.Dense"
        (folder / "modules.json").write_text(json.dumps(steps), encoding="utf-8")
        self.refused(folder, "brings code of its own")

    def test_an_activation_function_of_anything(self, folder: Path) -> None:
        path = folder / "2_Dense" / "config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps(config | {"activation_function": "builtins.breakpoint"}), encoding="utf-8")
        self.refused(folder, "2_Dense has no activation function")

    def test_pickled_dense_layers(self, folder: Path) -> None:
        (folder / "3_Dense" / "model.safetensors").rename(folder / "3_Dense" / "pytorch_model.bin")
        self.refused(folder, "3_Dense has only pickled weights")

    def test_missing_and_damaged_weights(self, folder: Path) -> None:
        path = folder / "model.safetensors"
        tensors = load_file(path)
        save_file(
            {**tensors, "norm.weight": torch.full_like(tensors["norm.weight"], torch.nan)}, path, {"format": "pt"}
        )
        with pytest.raises(PipelineError, match="its pooling gives NaN or infinity"):
            pooled_states(Teacher("tiny", "folder", folder), TOKENS)
        del tensors["layers.1.mlp.up_proj.weight"]
        save_file(tensors, path, {"format": "pt"})
        with pytest.raises(PipelineError, match=r"lack layers\.1\.mlp\.up_proj"):
            pooled_states(Teacher("tiny", "folder", folder), TOKENS)

    def test_all_weights_are_hashed(self, folder: Path) -> None:
        files = ["model.safetensors", "2_Dense/model.safetensors", "3_Dense/model.safetensors"]
        assert pooled_weights_sha256(Teacher("tiny", "folder", folder)) == sha256(folder / file for file in files)
