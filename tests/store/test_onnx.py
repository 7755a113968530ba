"""ONNX: onnxruntime, fastembed and transformers.js give the vectors that Python gives, whatever a model's form is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model2vec import StaticModel
from tokenizers import Tokenizer, models, pre_tokenizers

from qwen25.store.onnx_export import ONNX_FILES, onnx_model, write_onnx

onnxruntime = pytest.importorskip("onnxruntime", reason="setup_qwen25.sh --with-tests installs onnxruntime")

TEXTS = [
    "How do I reset my password?",
    "def f(x):\n\treturn x[1:]  # I'LL",
    "cafe\u0301 ﬁ Ⅷ ½ \u017f İ \u0085 \ufeff",
    "你好世界 مرحبا नमस्ते 👩‍👩‍👧",
]
#: model2vec's own sum of its tokens in float32 is off by 1e-5.
LONG = "a long text, which is not cut " * 400


def vectors(graph: Any, ids: list[list[int]]) -> np.ndarray:
    """Run the graph as fastembed and transformers.js do: padded to the longest text."""
    session = onnxruntime.InferenceSession(graph if isinstance(graph, bytes) else graph.SerializeToString())
    padded = np.ones((len(ids), max(1, *map(len, ids))), dtype=np.int64)
    mask = np.zeros_like(padded)
    for row, one in enumerate(ids):
        padded[row, : len(one)], mask[row, : len(one)] = one, 1
    inputs = {"input_ids": padded, "attention_mask": mask}
    tokens, found = session.run(["last_hidden_state", "sentence_embedding"], inputs)
    means = tokens.sum(axis=1) / np.maximum(mask.sum(axis=1, keepdims=True), 1)
    lengths = np.linalg.norm(means, axis=1) * np.linalg.norm(found, axis=1)
    assert np.allclose((means * found).sum(axis=1), lengths, rtol=1e-4)  # a mean over the mask has its direction
    return found


def static(tokenizer: Tokenizer, kind: Any = np.float32, dims: int = 48, **more: Any) -> StaticModel:
    table = np.random.default_rng(0).standard_normal((tokenizer.get_vocab_size(), dims)) * 20
    return StaticModel(table.astype(kind), tokenizer, max_length=None, **{"normalize": True, **more})


@pytest.mark.parametrize("kind", [np.float32, np.float16, np.int8])
@pytest.mark.parametrize("form", ["plain", "weights", "mapping"])
def test_the_same_vectors_as_python(tiny_tokenizer: Tokenizer, kind: Any, form: str) -> None:
    tokens = tiny_tokenizer.get_vocab_size()
    generator = np.random.default_rng(1)
    more: dict[str, Any] = {}
    if form in ("weights", "mapping"):
        more["weights"] = generator.random(tokens).astype(np.float32)
    if form == "mapping":
        more["token_mapping"] = generator.integers(0, tokens, tokens)
    model = static(tiny_tokenizer, kind, **more)
    texts, graph = ["", *TEXTS, "", ""], onnx_model(model).SerializeToString()
    model.embedding = model.embedding.astype(np.float32)  # model2vec computes in the number format of the table
    found, expected = vectors(graph, model.tokenize(texts)), model.encode(texts)
    np.testing.assert_allclose(found, expected, atol=1e-6, rtol=0)
    assert not found[0].any() and not found[-2:].any()
    alone, long = (vectors(graph, model.tokenize([text])) for text in (texts[1], LONG))
    np.testing.assert_allclose(alone, expected[1:2], atol=1e-6, rtol=0)
    np.testing.assert_allclose(long, model.encode([LONG]), atol=3e-5, rtol=0)


def test_an_unknown_token_is_left_out_as_in_model2vec() -> None:
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "one": 1, "two": 2}, unk_token="[UNK]"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    model = static(tokenizer, dims=3)
    ids = [tokenizer.encode(text).ids for text in ("one who", "who", "two one")]
    assert 0 in ids[0]
    np.testing.assert_allclose(vectors(onnx_model(model), ids), model.encode(["one who", "who", "two one"]), atol=1e-5)


def test_the_file_is_as_large_as_the_model_and_always_the_same(tiny_tokenizer: Tokenizer, tmp_path: Path) -> None:
    static(tiny_tokenizer, np.int8, dims=256).save_pretrained(tmp_path / "model")
    for name in ("one", "two"):
        write_onnx(tmp_path / "model", tmp_path / name)
    contents = [[(tmp_path / name / file).read_bytes() for file in ONNX_FILES] for name in ("one", "two")]
    assert contents[0] == contents[1]
    assert len(contents[0][0]) - (tmp_path / "model" / "model.safetensors").stat().st_size < 4096


@pytest.fixture
def exported(tiny_model: Path, tmp_path: Path) -> tuple[Path, list[str], np.ndarray]:
    """Return a folder with the ONNX file of a model, texts of several lengths, and their vectors in float32."""
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    write_onnx(folder, folder)
    model, texts = StaticModel.from_pretrained(folder), [*TEXTS, "short", LONG[:3000]]
    model.embedding = model.embedding.astype(np.float32)
    return folder, texts, model.encode(texts)


def test_transformers_reads_the_tokenizer_files(exported: tuple[Path, list[str], np.ndarray]) -> None:
    from transformers import AutoTokenizer

    folder, texts, _ = exported
    found = AutoTokenizer.from_pretrained(folder)(texts, add_special_tokens=False)["input_ids"]
    assert found == StaticModel.from_pretrained(folder).tokenize(texts)


def test_fastembed_gives_the_same_vectors(exported: tuple[Path, list[str], np.ndarray]) -> None:
    fastembed = pytest.importorskip("fastembed", reason="pip install fastembed")
    from fastembed.common.model_description import ModelSource, PoolingType

    folder, texts, expected = exported
    source = ModelSource(hf="OWNER/NAME")
    fastembed.TextEmbedding.add_custom_model("ours", PoolingType.MEAN, True, source, dim=expected.shape[1])
    model = fastembed.TextEmbedding("ours", specific_model_path=str(folder))
    np.testing.assert_allclose(np.stack(list(model.embed(texts))), expected, atol=1e-6)
    np.testing.assert_allclose(
        np.stack([*model.embed(texts[0]), *model.embed([""])]), [expected[0], 0 * expected[0]], atol=1e-6
    )


@pytest.mark.skipif(
    not (shutil.which("node") and "QWEN25_NODE_MODULES" in os.environ),
    reason="npm install --ignore-scripts @huggingface/transformers; QWEN25_NODE_MODULES=.../node_modules",
)
def test_transformers_js_gives_the_same_vectors(exported: tuple[Path, list[str], np.ndarray]) -> None:
    folder, texts, expected = exported
    program = str(Path(__file__).with_name("transformers.mjs"))
    done = subprocess.run(
        [shutil.which("node"), program, str(folder)],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        check=True,
    )
    for found in json.loads(done.stdout.splitlines()[-1]).values():
        np.testing.assert_allclose(found, expected, atol=1e-6)
