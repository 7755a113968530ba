"""Semantic similarity: is the paraphrase found among all, and before sentences that share its words?"""

from __future__ import annotations

from qwen25.evaluation.category import (
    Category,
    CategoryScore,
    cosine_protocol,
    mean_score,
    passed_items,
    scores_by_tier,
)
from qwen25.evaluation.example import QUERIES, Example
from qwen25.evaluation.fields import MAX_WRONG, Item, check_list, check_text
from qwen25.evaluation.matching import Matcher
from qwen25.evaluation.retrieval import retrieval
from qwen25.evaluation.statistics import mean_of
from qwen25.runtime.errors import InputError

NEGATIVE_KINDS = ("role_swap", "negation", "number", "other_sense", "same_topic")


def check_item(item: Item, where: str) -> None:
    """Check the fields of an item.

    :raises InputError: if one is missing or wrong.
    """
    check_text(item, "anchor", where)
    check_text(item, "paraphrase", where)
    for negative in check_list(item, "negatives", where, 1, MAX_WRONG):
        if not isinstance(negative, dict) or negative.get("kind") not in NEGATIVE_KINDS:
            raise InputError(f"{where}: the kind of a negative must be one of {', '.join(NEGATIVE_KINDS)}")
        check_text(negative, "text", where)


def score(matcher: Matcher, items: list[Item], seed: int) -> CategoryScore:
    """Find each anchor's paraphrase among all paraphrases and the anchor's own hard negatives."""
    anchors, paraphrases = ([item[side] for item in items] for side in ("anchor", "paraphrase"))
    texts = [[n["text"] for n in item["negatives"]] for item in items]
    found = retrieval(matcher, anchors, paraphrases, texts)
    by_kind: dict[str, list[float]] = {kind: [] for kind in NEGATIVE_KINDS}
    for item, right, hard in zip(items, found.right, found.hard, strict=True):
        for negative, cosine in zip(item["negatives"], hard, strict=True):
            by_kind[negative["kind"]].append(float(right > cosine) + 0.5 * float(right == cosine))
    sub_scores = {
        **found.sub_scores(),
        "by_tier": scores_by_tier(found.units, items),
        "preferred_to_negative": {kind: mean_of(won) for kind, won in by_kind.items() if won},
    }
    similar, unrelated = float(found.right.mean()), found.unrelated
    protocol = cosine_protocol("(similar - dissimilar + 1) / 2", (similar - unrelated + 1) / 2, unrelated)
    worst = found.worst(items, anchors, paraphrases, texts)
    passed = passed_items(items, found.reciprocal == 1, anchors, paraphrases)
    return mean_score(found.units, seed, sub_scores, protocol, worst, passed)


def fill_example(example: Example, items: list[Item]) -> None:
    """Ask with anchors; paraphrases and hard negatives are the documents."""
    for item in items[:QUERIES]:
        example.ask(item["anchor"], [example.add(item["paraphrase"])])
        for negative in item["negatives"]:
            example.add(negative["text"])


SEMANTIC_SIMILARITY = Category(
    name="semantic_similarity",
    weight=0.20,
    text_fields=("anchor", "paraphrase"),
    check_item=check_item,
    score=score,
    good_for="finding paraphrases and duplicates among short texts",
    asks="Paraphrases",
    question="Which sentence says the same? Others share its words and say something else.",
    fill_example=fill_example,
)
