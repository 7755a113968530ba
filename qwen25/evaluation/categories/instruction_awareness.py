"""Instruction-awareness: of all topics and intents, is the document found that answers the request?"""

from __future__ import annotations

from typing import Any

import numpy as np

from qwen25.evaluation.category import (
    WORST_ITEMS,
    Category,
    CategoryScore,
    Item,
    against_chance,
    interval,
    mean_of,
    passed_items,
    resampled_means,
    shown_item,
)
from qwen25.evaluation.matching import Matcher

INTENTS = ("explain", "summarise", "find_articles", "advantages", "compare", "how_to")


def score(matcher: Matcher, items: list[Item], seed: int) -> CategoryScore:
    """Find the document that answers each request, in the grid of topics and intents.

    The headline asks for both at once: the right cell must be nearest among the documents of the
    same topic (which differ in intent) and of the same intent (which differ in topic). Sub-scores
    take them one by one; the controls drop or shuffle the instruction.
    """
    topics = list(dict.fromkeys(item["topic"] for item in items))
    grid = sorted(items, key=lambda item: (topics.index(item["topic"]), INTENTS.index(item["intent"])))
    shape = (len(topics), len(INTENTS))
    documents = [item["document"] for item in grid]
    requests = [r["text"] for item in grid for r in item["requests"]]
    cosines = matcher.similarity(requests, documents).reshape(*shape, 3, *shape)
    bare = matcher.similarity([item["topic_name"] for item in grid], documents).reshape(*shape, 1, *shape)
    lexical = np.array([r["lexical"] for item in grid for r in item["requests"]]).reshape(*shape, 3)

    both, intent, topic = _cell_credits(cosines)
    both_chance = 1 / (sum(shape) - 1)
    # The request of another intent on the same topic, judged by the cell it was not written for.
    shuffled = [_cell_credits(np.roll(cosines, k, axis=1)) for k in range(1, len(INTENTS))]
    both_shuffled, intent_shuffled = (np.mean([s[part] for s in shuffled], axis=0) for part in (0, 1))
    units = against_chance(both.mean(axis=(1, 2)), both_chance)
    gains = zip(intent - intent_shuffled, ~lexical, strict=True)
    gain = np.array([of_topic[mask].mean() if mask.any() else 0.0 for of_topic, mask in gains])
    gain_interval = interval(resampled_means(gain, seed))
    sub_scores = {
        "intent_among_same_topic": mean_of(against_chance(intent, 1 / shape[1])),
        "topic_among_same_intent": mean_of(against_chance(topic, 1 / shape[0])),
        "intent_lexical_requests": mean_of(against_chance(intent[lexical], 1 / shape[1])),
        "intent_non_lexical_requests": mean_of(against_chance(intent[~lexical], 1 / shape[1])),
        "worst_of_three_phrasings": mean_of(both.min(axis=2)),
        "controls": {
            "no_instruction": mean_of(against_chance(_cell_credits(bare)[0], both_chance)),
            "shuffled_instruction": mean_of(against_chance(both_shuffled, both_chance)),
        },
        "non_lexical_gain_over_shuffled": {"value": mean_of(gain), "interval": list(gain_interval)},
        "follows_instructions": bool(gain_interval[0] > 0),
    }
    worst = _worst_cells(grid, cosines.reshape(len(requests), len(grid)))
    passed = passed_items(grid, both.min(axis=2).ravel() == 1, requests[::3], documents)
    return CategoryScore(float(units.mean()), resampled_means(units, seed), sub_scores, worst, passed)


def _cell_credits(cosines: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return how far the right cell is nearest among row and column, among the row (intent), among the column (topic).

    A credit is 1 if it is, its share of the first place if it is tied, else 0.

    :param cosines: of each cell's requests with each cell's document; shape (topics, intents, phrasings,
        topics, intents).
    :return: three arrays of shape (topics, intents, phrasings).
    """
    row, column = np.einsum("tirtj->tirj", cosines), np.einsum("tirsi->tirs", cosines)
    own = np.einsum("tirti->tir", cosines)

    def credit(best: np.ndarray, *pools: np.ndarray) -> np.ndarray:
        tied = sum((pool == best[..., None]).sum(axis=-1) for pool in pools)
        return (own == best) / (tied - (len(pools) - 1) * (own == best))  # the right cell is in every pool

    in_row, in_column = row.max(axis=-1), column.max(axis=-1)
    both = credit(np.maximum(in_row, in_column), row, column)
    return both, credit(in_row, row), credit(in_column, column)


def _worst_cells(grid: list[Item], cosines: np.ndarray) -> list[dict[str, Any]]:
    """Return the requests whose own document is furthest behind the best one of its row and column.

    :param cosines: shape (requests, documents), in the grid's order.
    """
    topics, intents = (np.array([item[part] for item in grid]) for part in ("topic", "intent"))
    is_rival = (topics[:, None] == topics) != (intents[:, None] == intents)
    cell = np.arange(len(cosines)) // 3
    rivals = np.where(is_rival[cell], cosines, -np.inf)
    margins = cosines[np.arange(len(cosines)), cell] - rivals.max(axis=1)
    worst = []
    for k in np.argsort(margins, kind="stable")[:WORST_ITEMS]:
        item, chosen = grid[cell[k]], grid[rivals[k].argmax()]
        worst.append(shown_item(item, item["requests"][k % 3]["text"], item["document"], chosen["document"]))
    return [row for row, margin in zip(worst, np.sort(margins), strict=False) if margin < 0]


CATEGORY = Category(
    name="instruction_awareness",
    weight=0.30,
    text_fields=("document",),
    score=score,
    good_for="routing requests to documents that answer",
)
