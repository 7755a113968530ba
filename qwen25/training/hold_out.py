"""Pairs that training does not see, for an evaluation: none of their texts is on its side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from qwen25.runtime.errors import InputError, logger
from qwen25.runtime.files import write_text
from qwen25.store.pairs import Pair, PairSet, normalised

#: Beside the model; its columns are those that --on finds by themselves.
HELD_OUT = "held_out.jsonl"


def hold_out(sets: Sequence[PairSet], share: float, seed: int) -> tuple[list[PairSet], list[Pair]]:
    """Take about a share of all pairs out of their sets, so that no text is on both sides.

    Pairs that have a text in common, or are linked by others that have, stay together (the connected components of
    the graph of texts); groups are drawn at random, without those that would exceed the share.

    :param sets: changed in place; a set that loses all its pairs is left out.
    :return: the sets, and the pairs that were taken.
    :raises InputError: if no group is small enough.
    """
    if not share:
        return list(sets), []
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    pairs = [pair for one in sets for pair in one.pairs]
    texts: dict[str, int] = {}
    left, right = (
        np.array([texts.setdefault(normalised(pair[side]), len(texts)) for pair in pairs]) for side in (0, 1)
    )
    links = coo_array((np.ones(len(pairs)), (left, right)), (len(texts), len(texts)))
    group = connected_components(links, directed=False)[1][left]
    sizes, room, taken = np.bincount(group), share * len(pairs), set[int]()
    for drawn in np.random.default_rng(seed).permutation(len(sizes)).tolist():
        if 0 < sizes[drawn] <= room:
            taken.add(drawn)
            room -= sizes[drawn]
    if not taken:
        raise InputError(f"--hold-out {share:g}: the pairs' texts are all linked to each other; give separate files")
    is_held, start, held = np.isin(group, list(taken)), 0, []
    for one in sets:
        mine = is_held[start : start + len(one.pairs)]
        start += len(one.pairs)
        held += [pair for pair, out in zip(one.pairs, mine, strict=True) if out]
        one.pairs = [pair for pair, out in zip(one.pairs, mine, strict=True) if not out]
        one.dropped["held out"] = int(mine.sum())
    logger.info("    held out: %s of %s pairs, whose texts occur in no other", f"{len(held):,}", f"{len(pairs):,}")
    return [one for one in sets if one.pairs], held


def write_held_out(folder: Path, pairs: Sequence[Pair]) -> None:
    """Write the pairs that were held out, if there are any, as ``eval --on`` reads them."""
    if pairs:
        rows = ({"query": pair.left, "answer": pair.right, "language": pair.language} for pair in pairs)
        write_text(folder / HELD_OUT, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
