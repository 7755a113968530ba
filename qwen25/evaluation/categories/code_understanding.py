"""Code understanding: is the snippet found that does it, and before near misses?"""

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
from qwen25.evaluation.fields import MAX_WRONG, Item, check_is_text, check_list, check_name, check_text
from qwen25.evaluation.matching import Matcher
from qwen25.evaluation.retrieval import retrieval
from qwen25.evaluation.statistics import mean_of


def check_item(item: Item, where: str) -> None:
    """Check the fields of an item.

    :raises InputError: if one is missing or wrong.
    """
    check_name(item, "language", where)
    for field in ("description", "code"):
        check_text(item, field, where)
    for near_miss in check_list(item, "near_misses", where, 1, MAX_WRONG):
        check_is_text(near_miss, f"{where}: a near miss")


def score(matcher: Matcher, items: list[Item], seed: int) -> CategoryScore:
    """Find the code that does what each description says among all snippets and the code's own near misses."""
    descriptions, snippets = ([item[side] for item in items] for side in ("description", "code"))
    texts = [item["near_misses"] for item in items]
    found = retrieval(matcher, descriptions, snippets, texts)
    languages = np.array([item["language"] for item in items])
    sub_scores = {
        **found.sub_scores(),
        "by_tier": scores_by_tier(found.units, items),
        "by_language": {name: mean_of(found.units[languages == name]) for name in dict.fromkeys(languages.tolist())},
    }
    protocol = cosine_protocol("mean cosine of description and code", float(found.right.mean()), found.unrelated)
    worst = found.worst(items, descriptions, snippets, texts)
    passed = passed_items(items, found.reciprocal == 1, descriptions, snippets)
    return mean_score(found.units, seed, sub_scores, protocol, worst, passed)


def fill_example(example: Example, items: list[Item]) -> None:
    """Ask with descriptions; near misses are documents too."""
    for item in items[:QUERIES]:
        example.ask(item["description"], [example.add(item["code"], item["language"])], item["language"])
        for near_miss in item["near_misses"]:
            example.add(near_miss, item["language"])


CODE_UNDERSTANDING = Category(
    name="code_understanding",
    weight=0.10,
    text_fields=("description", "code"),
    check_item=check_item,
    score=score,
    good_for="searching code by description",
    need="code",
    asks="Code",
    question="Which code does it? Near misses share its names.",
    fill_example=fill_example,
    is_code=True,
)
