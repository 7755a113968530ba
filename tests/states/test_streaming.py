"""Batches and waves change no state, and what goes wrong on the way through the layers is said."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from teachers import LAYERS, PREFIX, SUFFIX, VOCABULARY, WORDS, change, check, states_of
from teachers import one_thread as one_thread  # the fixtures
from teachers import teacher as teacher

from qwen25.runtime.errors import InputError, PipelineError
from qwen25.states import estimate, jobs, streaming
from qwen25.states.jobs import Frame
from qwen25.teacher.teacher import Teacher


def test_only_what_is_asked_for_is_returned_and_a_subset_equals_the_whole(teacher: Teacher) -> None:
    whole = check(teacher, np.arange(VOCABULARY), Frame(PREFIX))
    some = states_of(teacher, np.array([40, 7, 7]), Frame(PREFIX), [2, 1, 2])
    assert sorted(some) == [1, 2]
    np.testing.assert_allclose(some[2], whole[2][[40, 7, 7]], rtol=1e-4, atol=1e-4)
    nothing = np.array([], dtype=np.int64)
    for folder in (None, teacher.folder / "checkpoint"):
        assert states_of(teacher, nothing, Frame(), [1], folder=folder)[1].shape == (0, 24)


def test_more_than_fits_in_memory_goes_in_waves(teacher: Teacher, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = states_of(teacher, WORDS * 5, Frame(PREFIX, SUFFIX), [0, 2, LAYERS], at="last")
    monkeypatch.setattr(jobs, "WAVE_BYTES", 24 * 4 * 11)
    waves = states_of(teacher, WORDS * 5, Frame(PREFIX, SUFFIX), [0, 2, LAYERS], at="last")
    for layer, array in expected.items():
        np.testing.assert_allclose(waves[layer], array, rtol=1e-4, atol=1e-4)


def out_of_memory_above(limit: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Have layers that get more than ``limit`` sequences run out of memory; return the sizes that were tried."""
    tried, real = [], streaming.layer_forward

    def forward(layer: Any, shape: Any, x: torch.Tensor, *args: Any, **options: Any) -> Any:
        if not options.get("keep"):
            tried.append(len(x))
            if len(x) > limit:
                raise torch.cuda.OutOfMemoryError("no room")
        return real(layer, shape, x, *args, **options)

    monkeypatch.setattr(streaming, "layer_forward", forward)
    monkeypatch.setattr(estimate, "_probe", lambda *_: (1.0, 1.0))
    return tried


def test_running_out_of_gpu_memory_halves_the_batch(teacher: Teacher, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = states_of(teacher, np.arange(VOCABULARY), Frame(PREFIX), [1, LAYERS])
    tried = out_of_memory_above(9, monkeypatch)
    found = states_of(teacher, np.arange(VOCABULARY), Frame(PREFIX), [1, LAYERS])
    assert tried[:4] == [61, 30, 15, 7]
    assert set(tried[4:]) == {7, 61 % 7}
    for layer in (1, LAYERS):
        np.testing.assert_allclose(found[layer], expected[layer], rtol=1e-4, atol=1e-4)


def test_one_token_that_does_not_fit_says_how_to_go_on(teacher: Teacher, monkeypatch: pytest.MonkeyPatch) -> None:
    out_of_memory_above(0, monkeypatch)
    with pytest.raises(PipelineError, match="--device cpu"):
        states_of(teacher, np.arange(5), Frame(), [LAYERS])


def test_not_a_number_is_reported_with_its_layer(teacher: Teacher) -> None:
    change(teacher, down_proj=torch.full((24, 40), torch.nan))
    states_of(teacher, np.arange(5), Frame(PREFIX), [1])
    with pytest.raises(PipelineError, match=r"layer 2 gives NaN or infinity for 5 tokens.*float32"):
        states_of(teacher, np.arange(5), Frame(PREFIX), [LAYERS])


@pytest.mark.parametrize("ids", [np.array([3, VOCABULARY]), np.array([-1, 3]), [[3], [4, VOCABULARY]]])
def test_a_token_without_an_embedding_is_refused(ids: Any, teacher: Teacher) -> None:
    with pytest.raises(InputError, match="has no embedding"):
        states_of(teacher, ids, Frame(), [LAYERS])
