"""What training did to each category, measured on the calibration items: pairs that lower one are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from model2vec import StaticModel
from tokenizers import Tokenizer

from qwen25.evaluation.categories.all import CATEGORIES, WEIGHTS
from qwen25.evaluation.category import CategoryScore
from qwen25.evaluation.items import load_items
from qwen25.evaluation.matching import Cosine
from qwen25.evaluation.statistics import interval
from qwen25.runtime.log import logger
from qwen25.store.static_model import static_encode

_SEED = 42


def training_effect(before: np.ndarray, after: np.ndarray, tokenizer: Tokenizer, folder: Path) -> dict[str, Any]:
    """Return each category's score before and after training; a fall beyond its interval is logged as a warning.

    :param before: the untrained table; float32, shape (tokens, dims).
    :param after: the trained one.
    :param folder: of the calibration items, one file a category.
    :return: category -> ``untrained``, ``trained`` and the 95 % ``interval`` of their difference, from the same
        resamples of the items.
    """
    items = {category: load_items(folder, category) for category in WEIGHTS}

    def scores(table: np.ndarray) -> dict[str, CategoryScore]:
        matcher = Cosine(static_encode(StaticModel(table, tokenizer, normalize=True, max_length=None)))
        return {category: CATEGORIES[category].score(matcher, rows, _SEED) for category, rows in items.items()}

    old, new = scores(before), scores(after)
    effect = {}
    for category in WEIGHTS:
        low, high = interval(new[category].replicates - old[category].replicates)
        effect[category] = {
            "untrained": round(old[category].score, 4),
            "trained": round(new[category].score, 4),
            "interval": [round(low, 4), round(high, 4)],
        }
        if high < 0:
            logger.warning(
                "    training lowers %s on the calibration items: %.3f -> %.3f [%+.3f, %+.3f]; other pairs, or fewer "
                "of a kind, would keep it",
                category.replace("_", " "),
                old[category].score,
                new[category].score,
                low,
                high,
            )
    gains = sum(WEIGHTS[c] * (new[c].score - old[c].score) for c in WEIGHTS)
    logger.info("    calibration items: %+.3f overall by training", gains)
    return effect
