"""What is held out of training shares no text with what is not."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from qwen25.evaluation.own_pairs import read_own
from qwen25.runtime.errors import InputError
from qwen25.store.pairs import Pair, PairSet, normalised
from qwen25.training.sources import HELD_OUT, hold_out, write_held_out


def texts(pairs: list[Pair]) -> set[str]:
    return {normalised(text) for pair in pairs for text in pair[:2]}


def test_no_text_is_on_both_sides(tmp_path: Path) -> None:
    draw = random.Random(0)  # noqa: S311
    pairs = [Pair(f"Q{draw.randrange(900)}", f"A {draw.randrange(900)}", "en") for _ in range(400)]
    pairs += [Pair(pair.left.lower(), f"other {i}", "") for i, pair in enumerate(pairs[::4])]
    sets = [PairSet("a", pairs[:300]), PairSet("b", pairs[300:])]
    kept, held = hold_out(sets, 0.2, seed=1)
    assert not texts(held) & texts([pair for one in kept for pair in one.pairs])
    assert sorted([*held, *(pair for one in kept for pair in one.pairs)]) == sorted(pairs)
    assert 0.18 * len(pairs) <= len(held) <= 0.2 * len(pairs)
    assert sum(one.dropped["held out"] for one in kept) == len(held)
    write_held_out(tmp_path, held)
    assert read_own(tmp_path / HELD_OUT).facts["rows"] == len(set(held))


def test_pairs_that_are_all_linked_cannot_be_parted() -> None:
    with pytest.raises(InputError, match="all linked"):
        hold_out([PairSet("a", [Pair("hub", f"{i}", "") for i in range(50)])], 0.1, seed=0)
