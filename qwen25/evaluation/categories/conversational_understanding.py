"""Conversational understanding: is the meaning of a turn found, and before a misreading?"""

from __future__ import annotations

import numpy as np

from qwen25.evaluation.category import (
    Category,
    CategoryScore,
    cosine_protocol,
    mean_score,
    passed_items,
    scores_by_tier,
)
from qwen25.evaluation.example import QUERIES, Example
from qwen25.evaluation.fields import Item, check_name, check_text
from qwen25.evaluation.matching import Matcher
from qwen25.evaluation.retrieval import retrieval
from qwen25.evaluation.statistics import mean_of


def check_item(item: Item, where: str) -> None:
    """Check the fields of an item.

    :raises InputError: if one is missing or wrong.
    """
    check_name(item, "language", where)
    for field in ("text", "meaning", "distractor"):
        check_text(item, field, where)


def score(matcher: Matcher, items: list[Item], seed: int) -> CategoryScore:
    """Find what each turn means among all meanings and the turn's own distractor, often a literal misreading."""
    turns, meanings = ([item[side] for item in items] for side in ("text", "meaning"))
    texts = [[item["distractor"]] for item in items]
    found = retrieval(matcher, turns, meanings, texts)
    english = np.array([item["language"] == "en" for item in items])
    sub_scores = {
        **found.sub_scores(),
        "by_tier": scores_by_tier(found.units, items),
        "english": mean_of(found.units[english]),
        "other_languages": mean_of(found.units[~english]),
        "preferred_to_distractor": mean_of(found.right > np.array([h[0] for h in found.hard])),
    }
    protocol = cosine_protocol("mean cosine of turn and meaning", float(found.right.mean()), found.unrelated)
    worst = found.worst(items, turns, meanings, texts)
    passed = passed_items(items, found.reciprocal == 1, turns, meanings)
    return mean_score(found.units, seed, sub_scores, protocol, worst, passed)


def fill_example(example: Example, items: list[Item]) -> None:
    """Ask with turns in English and one of each other language; distractors are documents too."""
    languages = dict.fromkeys(item["language"] for item in items)
    english = [item for item in items if item["language"] == "en"]
    others = [next(item for item in items if item["language"] == name) for name in languages if name != "en"]
    for item in [*english[: max(1, QUERIES - len(others))], *others]:
        example.ask(item["text"], [example.add(item["meaning"], item["language"])], item["language"])
        example.add(item["distractor"], item["language"])


CONVERSATIONAL_UNDERSTANDING = Category(
    name="conversational_understanding",
    weight=0.10,
    text_fields=("text", "meaning"),
    check_item=check_item,
    score=score,
    good_for="matching conversational turns to what they mean",
    asks="Turns of phrase",
    question="What is meant? Beside each meaning stands something that it could be taken for.",
    fill_example=fill_example,
)
