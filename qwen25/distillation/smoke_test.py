"""A smoke test of a new model: has it collapsed?"""

from __future__ import annotations

from typing import Any

import numpy as np

from qwen25.store.static_model import Encode

#: (request, what answers it): each is also set beside the next one's answer, which is unrelated.
PAIRS = [
    ("Explain why the sky turns red at dusk", "Low sunlight crosses more air, which scatters the blue away."),
    ("Find articles about pruning apple trees", "Further reading: three orchard guides on cutting back old wood."),
    ("How do I fix a dripping tap?", "Turn off the water, unscrew the handle and replace the worn washer."),
    ("Summarise the quarterly report", "In short: revenue rose, costs held steady and hiring resumes in spring."),
]


def smoke_test(encode: Encode) -> dict[str, Any]:
    """Compare the cosine of matching pairs with that of unrelated ones.

    A model that gives both the same cosine has collapsed, however high that cosine is.
    """
    left, right = (np.asarray(encode([pair[side] for pair in PAIRS])) for side in (0, 1))
    matching = (left * right).sum(axis=1)
    unrelated = (left * np.roll(right, -1, axis=0)).sum(axis=1)
    return {
        "matching_cosine": round(float(matching.mean()), 4),
        "unrelated_cosine": round(float(unrelated.mean()), 4),
        "pairs_told_apart": int((matching > unrelated).sum()),
        "pairs": len(PAIRS),
    }
