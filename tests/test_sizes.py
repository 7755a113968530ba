"""The forms of the size frontier are models that fit into their bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.sizes.forms import FORMS, Whole, dims_within, make, read_whole
from qwen25.runtime.errors import InputError
from qwen25.runtime.files import read_json, write_json
from qwen25.store.static_model import load_model
from qwen25.training.pairs import Pair, PairSet

TEXTS = ["How do I reset my password?", "the mean of a list", "x = [1, 2]", "Les chats dorment"]


@pytest.fixture(scope="module")
def whole(tiny_model: Path) -> Whole:
    return read_whole("tiny", tiny_model)


@pytest.mark.parametrize("form", FORMS)
def test_a_form_fits_into_its_bytes_and_uses_them(whole: Whole, form: str, tmp_path: Path) -> None:
    budget_mb = whole.vectors.nbytes / 1e6 / 8
    made = make(whole, FORMS[form], budget_mb)
    made.save(tmp_path)
    size = (tmp_path / "model.safetensors").stat().st_size
    assert 0.8 * budget_mb * 1e6 < size <= budget_mb * 1e6
    saved = load_model(tmp_path).encode(TEXTS)
    assert np.isfinite(saved).all() and made.model().encode(TEXTS) == pytest.approx(saved, abs=1e-3)


@pytest.mark.parametrize("form", FORMS)
def test_a_form_that_fits_whole_keeps_the_vectors(whole: Whole, form: str) -> None:
    made = make(whole, FORMS[form], 1000)
    theirs = whole.vectors[:, : made.stored.table.shape[1]]
    assert made.stored.vectors() == pytest.approx(theirs, abs=0.01 * float(np.abs(theirs).max()))


def test_as_many_dimensions_as_fit(whole: Whole) -> None:
    assert dims_within(0.101024, 1000, "float16") == 50
    assert dims_within(0.101024, 1000, "int8") == 96


def copy_with(model: Path, folder: Path, **changes: Any) -> Path:
    """Copy a model with its metadata changed."""
    for path in model.glob("*.*"):
        if path.is_file():
            (folder / path.name).write_bytes(path.read_bytes())
    write_json(folder / "metadata.json", read_json(model / "metadata.json") | changes)
    return folder


def test_a_model_that_was_cut_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    vocabulary = read_json(tiny_model / "metadata.json")["vocabulary"]
    cut = copy_with(tiny_model, tmp_path, vocabulary={**vocabulary, "max_size_mb": 65.0})
    with pytest.raises(InputError, match="--max-size-mb none"):
        read_whole("cut", cut)


def test_it_is_told_what_a_model_was_trained_on(tiny_model: Path, tmp_path: Path) -> None:
    sets = [PairSet(name, [Pair("a", "b", "en")] * 2) for name in "xy"]
    training = {"sets": [one.summary() for one in sets], "sentence_vectors": 0}
    assert read_whole("trained", copy_with(tiny_model, tmp_path, training=training)).facts["pairs"] == 4
