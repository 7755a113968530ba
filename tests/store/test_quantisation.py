"""Number formats: as exact as need be, and the same in both libraries that load them, as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from model2vec import StaticModel
from tokenizers import Tokenizer

from qwen25.distillation.vocabulary import static_vocabulary
from qwen25.runtime.errors import InputError
from qwen25.store.quantisation import quantise, rows_within
from qwen25.store.static_model import write_model

TEXTS = ["How do I reset my password?", "the", "a b c", "Les chats dorment \U0001f63a", "x = [1, 2]"]
#: Texts that belong together and share no word.
PAIRS = [("a red lamp", "light from crimson glass"), ("the cat sleeps", "our animal rests"), ("open it", "read that")]


def cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return (left * right).sum(axis=1) / norms


@pytest.fixture
def table(tiny_tokenizer: Tokenizer) -> np.ndarray:
    """Vectors whose first rows are a thousandth of the others, as SIF weights make those of frequent tokens."""
    rows = len(static_vocabulary(tiny_tokenizer))
    vectors = np.random.default_rng(0).standard_normal((rows, 256), dtype=np.float32)
    vectors[: rows // 8] /= 1000
    return vectors


def written(folder: Path, table: np.ndarray, tokenizer: Tokenizer, storage: str) -> Path:
    metadata = {"teacher": {"name": "tiny"}, "recipe": {"sif": 5e-4}}
    folder.mkdir()
    write_model(folder, quantise(table, storage), static_vocabulary(tokenizer).tokenizer, metadata)
    return folder


def test_every_row_keeps_its_direction(table: np.ndarray) -> None:
    assert cosines(quantise(table, "int8").vectors(), table).min() > 0.9995
    assert not quantise(np.eye(2, 4, 1, dtype=np.float32) * [[0], [1]], "int8").vectors()[0].any()


def test_both_libraries_give_the_same_vectors(table: np.ndarray, tiny_tokenizer: Tokenizer, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    exact = StaticModel.from_pretrained(written(tmp_path / "float32", table, tiny_tokenizer, "float32")).encode(TEXTS)
    folder = written(tmp_path / "int8", table, tiny_tokenizer, "int8")
    ours = StaticModel.from_pretrained(folder).encode(TEXTS)
    theirs = SentenceTransformer(str(folder), device="cpu")
    assert cosines(ours, exact).min() > 0.9995
    found = theirs.encode(["", *TEXTS])
    assert found.dtype == np.float32 and not found[0].any()
    np.testing.assert_allclose(found[1:], ours, atol=1e-6)
    cut = SentenceTransformer(str(folder), device="cpu", truncate_dim=64).encode(TEXTS)
    assert cosines(cut, exact[:, :64]).min() > 0.9995
    theirs.save(str(tmp_path / "saved"))
    again = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    assert cosines(again.encode(TEXTS), exact).min() > 0.9995


def test_it_can_be_fine_tuned_as_loaded(table: np.ndarray, tiny_tokenizer: Tokenizer, tmp_path: Path) -> None:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
    from sentence_transformers import SentenceTransformerTrainingArguments as Arguments
    from sentence_transformers.losses import MultipleNegativesRankingLoss

    model = SentenceTransformer(str(written(tmp_path / "model", table, tiny_tokenizer, "int8")), device="cpu")
    questions, answers = (list(texts) for texts in zip(*PAIRS, strict=True))

    def agreement() -> float:
        return float(cosines(model.encode(questions), model.encode(answers)).mean())

    before = agreement()
    how = {"num_train_epochs": 20, "learning_rate": 0.05, "report_to": "none", "save_strategy": "no"}
    data = Dataset.from_dict({"anchor": questions, "positive": answers})
    SentenceTransformerTrainer(
        model, Arguments(str(tmp_path / "runs"), **how), data, loss=MultipleNegativesRankingLoss(model)
    ).train()
    assert agreement() > before + 0.1 and np.isfinite(model.encode(["", *TEXTS])).all()


@pytest.mark.parametrize("storage", ["float32", "float16", "int8"])
def test_rows_fit_into_the_size(storage: str) -> None:
    row = 1024 * np.dtype(storage).itemsize + (4 if storage == "int8" else 0)
    assert rows_within(65, 1024, storage) * row < 65e6 < (rows_within(65, 1024, storage) + 2) * row
    assert rows_within(0.0001, 1024, storage) == 0


def test_numbers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="too large or too small for float16"):
        quantise(np.full((2, 2), 1e6, dtype=np.float32), "float16")
    with pytest.raises(InputError, match="use --storage float32"):
        quantise(np.full((2, 2), 1e-12, dtype=np.float32), "float16")
