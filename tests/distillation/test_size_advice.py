"""Where a size leaves few rows, phase 1 says which dimensions would keep more."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from qwen25.distillation import size_advice
from qwen25.distillation.pipeline import distil
from qwen25.distillation.settings import MAX_SIZE_MB, PRESETS, Settings


@pytest.mark.parametrize(
    ("size_mb", "dims", "storage", "better"),
    [
        (8, 1024, "int8", 256),  # 7,781 tokens, then 15,501, then 30,765
        (8, 400, "int8", None),  # half of it is fewer than was measured
        (33, 1024, "int8", 512),  # 32,100 tokens, then 63,951
        (MAX_SIZE_MB, Settings.dims, "float16", 512),
        (MAX_SIZE_MB, Settings.dims, "int8", None),
        (PRESETS["tiny"]["max_size_mb"], PRESETS["tiny"]["dims"], "int8", None),
    ],
)
def test_dimensions_are_halved_while_few_tokens_fit(
    size_mb: float, dims: int, storage: str, better: int | None
) -> None:
    assert size_advice.better_dims(size_mb, dims, storage) == better


@pytest.mark.parametrize(("size_mb", "better"), [(8, 512), (16, 512), (33, 512), (65, None)])
def test_shared_rows_are_best_at_half_the_dimensions_where_they_are_few(size_mb: float, better: int | None) -> None:
    assert size_advice.better_dims(size_mb, 1024, "int8", shared_by=151_643) == better
    assert size_advice.better_dims(size_mb, 512, "int8", shared_by=151_643) is None


@pytest.mark.parametrize("rare_tokens", ["pieces", "nearest"])
@pytest.mark.parametrize(("size_mb", "is_said"), [(0.06, True), (50, False)])
def test_phase_1_says_so_where_tokens_were_left_out(
    tiny_teacher: Path,
    tmp_path: Path,
    size_mb: float,
    is_said: bool,
    rare_tokens: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(size_advice, "LEAST_DIMS", 16)
    monkeypatch.setattr(size_advice, "LEAST_SHARED_DIMS", 16)
    caplog.set_level(logging.INFO, "qwen25")
    pieces = Settings(str(tiny_teacher), tmp_path / "model", dims=64, max_size_mb=size_mb, rare_tokens=rare_tokens)
    distil(replace(pieces, device="cpu", languages=("en",)))
    assert ("--dims" in caplog.text) == is_said
