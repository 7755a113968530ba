"""Weights are found under any of the usual names, and what is wrong with them is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from teachers import LAYERS, PREFIX, VOCABULARY, change, check, make_teacher, states_of
from teachers import one_thread as one_thread  # the fixtures
from teachers import teacher as teacher

from qwen25.runtime.errors import InputError, PipelineError
from qwen25.states.jobs import Frame
from qwen25.teacher.teacher import Teacher


def test_bfloat16_weights_in_shards_with_an_index_are_computed_in_float32(tmp_path: Path) -> None:
    teacher = make_teacher(tmp_path / "sharded", dtype=torch.bfloat16, max_shard_size="20KB")
    assert (teacher.folder / "model.safetensors.index.json").exists()
    assert len(teacher.weight_files) > 2
    check(teacher, np.arange(VOCABULARY), Frame(PREFIX))


@pytest.mark.parametrize("root", ["", "model.language_model.", "language_model.model."])
def test_tensor_names_may_start_in_any_of_the_usual_ways(root: str, teacher: Teacher) -> None:
    expected = states_of(teacher, np.arange(9), Frame(PREFIX), [LAYERS])[LAYERS]
    path = teacher.folder / "model.safetensors"
    save_file({root + name.removeprefix("model."): t for name, t in load_file(path).items()}, path)
    np.testing.assert_array_equal(states_of(teacher, np.arange(9), Frame(PREFIX), [LAYERS])[LAYERS], expected)


def test_a_tied_table_may_be_stored_as_the_head_and_be_longer_than_the_vocabulary(teacher: Teacher) -> None:
    expected = states_of(teacher, np.arange(9), Frame(PREFIX), [0, LAYERS])
    path = teacher.folder / "model.safetensors"
    tensors = load_file(path)
    table = tensors.pop("model.embed_tokens.weight")
    save_file({**tensors, "lm_head.weight": torch.cat([table, torch.zeros(7, table.shape[1])])}, path)
    found = states_of(teacher, np.arange(9), Frame(PREFIX), [0, LAYERS])
    np.testing.assert_array_equal(found[LAYERS], expected[LAYERS])
    np.testing.assert_array_equal(found[0], expected[0])


def test_a_missing_tensor_is_named(teacher: Teacher) -> None:
    change(teacher, up_proj=None)
    with pytest.raises(PipelineError, match=r"lack model\.layers\.1\.mlp\.up_proj\.weight"):
        states_of(teacher, np.arange(5), Frame(), [LAYERS])


def test_a_tensor_of_the_wrong_shape_is_named(teacher: Teacher) -> None:
    change(teacher, up_proj=torch.zeros(41, 24))
    with pytest.raises(PipelineError, match=r"up_proj\.weight is of shape \(41, 24\), not \(40, 24\)"):
        states_of(teacher, np.arange(5), Frame(), [LAYERS])


@pytest.mark.parametrize("name", ["model.embed_tokens.weight", "lm_head.weight", "model.layers.1.mlp.up_proj.weight"])
@pytest.mark.parametrize("dtype", [torch.int8, torch.bool])
def test_weights_without_fractions_are_refused(teacher: Teacher, name: str, dtype: torch.dtype) -> None:
    path = teacher.folder / "model.safetensors"
    tensors = load_file(path)
    table = tensors["model.embed_tokens.weight"]
    if name == "lm_head.weight":
        del tensors["model.embed_tokens.weight"]
    save_file({**tensors, name: tensors.get(name, table).to(dtype)}, path)
    with pytest.raises(InputError, match=r"weight holds torch\.\w+, no floating-point numbers"):
        states_of(teacher, np.arange(5), Frame(), [0, LAYERS])


def test_a_truncated_shard_and_a_missing_one_are_named(tmp_path: Path) -> None:
    teacher = make_teacher(tmp_path / "sharded", max_shard_size="20KB")
    last = teacher.weight_files[-1]
    whole = last.read_bytes()
    last.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PipelineError, match=rf"{last.name} cannot be read .* download it again"):
        states_of(teacher, np.arange(5), Frame(), [LAYERS])
    last.unlink()
    with pytest.raises(PipelineError, match=rf"{last.name} is missing"):
        states_of(teacher, np.arange(5), Frame(), [LAYERS])
