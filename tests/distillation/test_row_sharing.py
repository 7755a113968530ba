"""Rare tokens take the direction of the most similar token that has a row, in model2vec's own format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from model2vec import StaticModel

import distill_qwen25_1024d
from qwen25.distillation.row_sharing import nearest, share_rows
from qwen25.runtime.files import read_json
from qwen25.store.quantisation import STORAGES, quantise, rows_within
from qwen25.store.static_model import FLOAT16_COPY

TEXTS = ["How do I reset my password?", "the mean of a list", "x = [1, 2]", "Les chats dorment"]


def cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return (left * right).sum(axis=1) / (np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1))


@pytest.fixture
def vectors() -> np.ndarray:
    """Pairs of similar vectors, the second of each pair longer."""
    generator = np.random.default_rng(0)
    first = generator.standard_normal((200, 64), dtype=np.float32)
    second = 3 * (first + 0.1 * generator.standard_normal(first.shape, dtype=np.float32))
    return np.stack([first, second], axis=1).reshape(400, 64)


@pytest.mark.parametrize("storage", STORAGES)
def test_a_token_without_a_row_takes_its_likes_direction_at_its_own_length(vectors: np.ndarray, storage: str) -> None:
    use = np.tile([1.0, 0.0], 200)
    sharing = share_rows(vectors, use, 200)
    found = quantise(vectors, storage, sharing)
    assert found.table.shape == (200, 64) and (sharing.kept == np.arange(0, 400, 2)).all()
    assert cosines(found.vectors()[1::2], vectors[::2]).min() > 0.9995
    assert np.linalg.norm(found.vectors(), axis=1) == pytest.approx(np.linalg.norm(vectors, axis=1), rel=0.01)


def test_of_tokens_used_alike_the_first_have_rows(vectors: np.ndarray) -> None:
    assert share_rows(vectors, np.zeros(400), 10).kept.tolist() == list(range(10))


def test_the_shortlist_finds_what_a_full_search_finds() -> None:
    generator = np.random.default_rng(1)
    rows = generator.standard_normal((500, 512), dtype=np.float32)
    queries = rows[generator.integers(0, 500, 300)] + generator.standard_normal((300, 512), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    assert (nearest(queries, rows) == (queries @ rows.T).argmax(axis=1)).all()


class TestPhase1:
    """The tiny teacher's 2,000 tokens x 128 in less than what they take; the texts say which are used."""

    SIZE_MB = 0.2

    @pytest.fixture(scope="class")
    def made(self, tiny_teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
        folder = tmp_path_factory.mktemp("sizes")
        (folder / "corpus.txt").write_text("\n".join(TEXTS * 3), encoding="utf-8")
        size = ["--max-size-mb", str(self.SIZE_MB), "--languages", "en"]
        runs: dict[str, list[str]] = {"whole": [], "nearest": size, "pieces": [*size, "--rare-tokens", "pieces"]}
        for name, flags in runs.items():
            command = ["--teacher", str(tiny_teacher), "--output", str(folder / name), "--device", "cpu"]
            command += ["--corpus", str(folder / "corpus.txt"), "--log-file", str(folder / "log"), *flags]
            assert distill_qwen25_1024d.main(command) == 0
        return {name: folder / name for name in runs}

    def test_the_file_keeps_to_its_size_and_all_tokens_remain(self, made: dict[str, Path]) -> None:
        size = (made["nearest"] / "model.safetensors").stat().st_size
        assert 0.99 * self.SIZE_MB * 1e6 < size <= self.SIZE_MB * 1e6
        facts = read_json(made["nearest"] / "metadata.json")["vocabulary"]
        assert facts["tokens"] == 2000 and facts["rare_tokens"] == "nearest"
        assert facts["rows"] == rows_within(self.SIZE_MB, 128, "int8", shared_by=2000) < 2000
        model = StaticModel.from_pretrained(made["nearest"])
        assert model.embedding.shape == (facts["rows"], 128) and len(model.tokens) == 2000

    def test_text_that_is_used_keeps_its_vector(self, made: dict[str, Path]) -> None:
        exact, shared = (StaticModel.from_pretrained(made[name]).encode(TEXTS) for name in ("whole", "nearest"))
        assert cosines(shared, exact).min() > 0.9995

    def test_pieces_take_the_rare_tokens_out_of_the_tokenizer(self, made: dict[str, Path]) -> None:
        facts = read_json(made["pieces"] / "metadata.json")["vocabulary"]
        assert facts["tokens"] == facts["rows"] == rows_within(self.SIZE_MB, 128, "int8")
        assert len(StaticModel.from_pretrained(made["pieces"]).tokens) == facts["tokens"]

    def test_sentence_transformers_gives_the_same_vectors(self, made: dict[str, Path], tmp_path: Path) -> None:
        from sentence_transformers import SentenceTransformer

        ours = StaticModel.from_pretrained(made["nearest"]).encode(TEXTS)
        theirs = SentenceTransformer(str(made["nearest"]), device="cpu")
        assert (made["nearest"] / FLOAT16_COPY).is_dir()
        assert cosines(theirs.encode(TEXTS).astype(np.float32), ours).min() > 0.9995
        theirs.save(str(tmp_path / "saved"))
        again = SentenceTransformer(str(tmp_path / "saved"), device="cpu").encode(TEXTS).astype(np.float32)
        assert cosines(again, ours).min() > 0.9995
