"""The states of every architecture that is computed here are those of the plain forward pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from teachers import CONFIGS, LAYERS, PREFIX, SUFFIX, VOCABULARY, WORDS, check, make_teacher, states_of
from teachers import one_thread as one_thread  # the fixtures
from teachers import teacher as teacher

from qwen25.states.jobs import Frame
from qwen25.teacher.teacher import Teacher


@pytest.mark.parametrize("name", CONFIGS)
def test_states_are_those_of_the_plain_forward_pass(name: str, tmp_path: Path) -> None:
    teacher = make_teacher(tmp_path / name, name)
    check(teacher, np.arange(VOCABULARY), Frame())
    check(teacher, np.arange(10, 20), Frame(PREFIX), batch_size=3)
    check(teacher, np.arange(10, 20), Frame(PREFIX[:1]))
    check(teacher, np.arange(10, 20), Frame(PREFIX, SUFFIX), at="last")
    check(teacher, np.arange(10, 20), Frame((), SUFFIX), at="last", batch_size=4)
    check(teacher, WORDS, Frame(PREFIX, SUFFIX), batch_size=2)
    check(teacher, WORDS, Frame(PREFIX, SUFFIX), at="last")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_near_float32(teacher: Teacher, dtype: torch.dtype) -> None:
    exact = states_of(teacher, np.arange(VOCABULARY), Frame(PREFIX), [LAYERS])[LAYERS]
    half = states_of(teacher, np.arange(VOCABULARY), Frame(PREFIX), [LAYERS], dtype=dtype)[LAYERS]
    cosine = (exact * half).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(half, axis=1)
    assert half.dtype == np.float32
    assert cosine.min() > 0.98


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_large_biases_and_numbers_of_a_state_survive_half_precision(teacher: Teacher, dtype: torch.dtype) -> None:
    """As in Qwen2.5, whose keys have biases of a hundred and whose states have numbers of thousands."""
    path = teacher.folder / "model.safetensors"
    weights = load_file(path)
    for name, tensor in weights.items():
        if name.endswith(("q_proj.bias", "k_proj.bias")):
            tensor.mul_(20)
    weights["model.embed_tokens.weight"][:, 3] = 1000.0
    save_file(weights, path)
    run = lambda **options: states_of(teacher, np.arange(VOCABULARY), Frame(PREFIX), [0, LAYERS - 1], **options)  # noqa: E731
    exact, half = run(), run(dtype=dtype)
    added, rounded = (states[LAYERS - 1] - states[0] for states in (exact, half))
    assert (np.linalg.norm(added - rounded, axis=1) / np.linalg.norm(added, axis=1)).max() < 0.05


def test_a_shared_prefix_gives_what_repeating_it_in_every_sequence_gives(teacher: Teacher) -> None:
    shared = states_of(teacher, np.arange(20), Frame(PREFIX), [LAYERS])[LAYERS]
    repeated = states_of(teacher, [[*PREFIX, i] for i in range(20)], Frame(), [LAYERS])[LAYERS]
    np.testing.assert_allclose(shared, repeated, rtol=1e-4, atol=1e-4)


def test_a_suffix_changes_nothing_at_the_token_itself(teacher: Teacher) -> None:
    without = states_of(teacher, np.arange(20), Frame(PREFIX), [LAYERS])[LAYERS]
    before = states_of(teacher, np.arange(20), Frame(PREFIX, SUFFIX), [LAYERS])[LAYERS]
    behind = states_of(teacher, np.arange(20), Frame(PREFIX, SUFFIX), [LAYERS], at="last")[LAYERS]
    np.testing.assert_array_equal(before, without)
    assert not np.allclose(behind, without, atol=0.1)
