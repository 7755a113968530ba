"""Instruction-awareness: of all topics and intents, is the document found that answers the request?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from qwen25.evaluation.category import WORST_ITEMS, Category, CategoryScore, cosine_protocol, mean_score, passed_items
from qwen25.evaluation.example import Example
from qwen25.evaluation.fields import Item, check_list, check_name, check_text
from qwen25.evaluation.matching import Matcher
from qwen25.evaluation.statistics import against_chance, interval, mean_of, mid_rank, resample, top_credit
from qwen25.runtime.errors import InputError

INTENTS = ("explain", "summarise", "find_articles", "advantages", "compare", "how_to")
#: Topics of the example; the document of each intent is there for each.
EXAMPLE_TOPICS = 3


def check_item(item: Item, where: str) -> None:
    """Check the fields of an item.

    :raises InputError: if one is missing or wrong.
    """
    check_name(item, "topic", where)
    for field in ("topic_name", "document"):
        check_text(item, field, where)
    if item.get("intent") not in INTENTS:
        raise InputError(f"{where}: 'intent' must be one of {', '.join(INTENTS)}")
    for request in check_list(item, "requests", where, 3, 3):
        if not isinstance(request, dict) or not isinstance(request.get("lexical"), bool):
            raise InputError(f"{where}: a request needs 'text' and 'lexical'")
        check_text(request, "text", where)


def check_file(items: list[Item], path: Path) -> None:
    """Every topic must have one document for every intent, and there must be topics to tell apart."""
    cells = {(item["topic"], item["intent"]) for item in items}
    topics = {item["topic"] for item in items}
    if len(cells) != len(items) or len(cells) != len(topics) * len(INTENTS):
        raise InputError(f"{path}: each of the {len(topics)} topics needs each of the {len(INTENTS)} intents once")
    if len(topics) < 2:
        raise InputError(f"{path} holds one topic: at least 2 are needed")


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
    shifts = range(1, len(INTENTS))
    shuffled = [_cell_credits(np.roll(cosines, k, axis=1)) for k in shifts]
    both_shuffled, intent_shuffled = (np.mean([s[part] for s in shuffled], axis=0) for part in (0, 1))
    units = against_chance(both.mean(axis=(1, 2)), both_chance)
    gain = _masked(intent - intent_shuffled, ~lexical)
    gain_interval = interval(gain[resample(len(topics), seed)].mean(axis=1))
    sub_scores = {
        "intent_among_same_topic": mean_of(against_chance(intent, 1 / shape[1])),
        "topic_among_same_intent": mean_of(against_chance(topic, 1 / shape[0])),
        "intent_lexical_requests": mean_of(against_chance(intent[lexical], 1 / shape[1])),
        "intent_non_lexical_requests": mean_of(against_chance(intent[~lexical], 1 / shape[1])),
        "worst_of_three_phrasings": mean_of(both.min(axis=2)),
        "p_mrr": _p_mrr(cosines),
        "controls": {
            "no_instruction": mean_of(against_chance(_cell_credits(bare)[0], both_chance)),
            "shuffled_instruction": mean_of(against_chance(both_shuffled, both_chance)),
        },
        "non_lexical_gain_over_shuffled": {"value": mean_of(gain), "interval": list(gain_interval)},
        "follows_instructions": bool(gain_interval[0] > 0),
    }
    right = np.einsum("tirti->tir", cosines)
    unrelated = np.einsum("tirti->tir", np.roll(cosines, 1, axis=3))  # the same intent on another topic
    protocol = cosine_protocol("mean cosine of request and document", float(right.mean()), float(unrelated.mean()))
    worst = _worst_cells(grid, cosines.reshape(len(requests), len(grid)))
    passed = passed_items(grid, both.min(axis=2).ravel() == 1, requests[::3], documents)
    return mean_score(units, seed, sub_scores, protocol, worst, passed)


def _cell_credits(cosines: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return who finds the right cell among row and column, among the row (intent), the column (topic).

    :param cosines: of each cell's requests with each cell's document; shape (topics, intents, phrasings,
        topics, intents).
    :return: three arrays of shape (topics, intents, phrasings).
    """
    row, column = np.einsum("tirtj->tirj", cosines), np.einsum("tirsi->tirs", cosines)
    both, intent, topic = np.empty(row.shape[:3]), np.empty(row.shape[:3]), np.empty(row.shape[:3])
    for t, i, r in np.ndindex(row.shape[:3]):
        intent[t, i, r] = top_credit(row[t, i, r], i)
        topic[t, i, r] = top_credit(column[t, i, r], t)
        cross = np.concatenate([row[t, i, r], np.delete(column[t, i, r], t)])
        both[t, i, r] = top_credit(cross, i)
    return both, intent, topic


def _p_mrr(cosines: np.ndarray) -> float:
    """Return p-MRR (Weller et al. 2024, FollowIR, arXiv:2403.15246) for swapped instructions, in -1..1.

    A document right under one instruction should fall when the same topic is asked with another: 1
    if it always falls from first to last, 0 if its rank does not move.
    """
    row = np.einsum("tirtj->tirj", cosines)
    values = []
    for t, i, r in np.ndindex(row.shape[:3]):
        before = mid_rank(np.delete(row[t, i, r], i), row[t, i, r, i])
        for other in range(row.shape[1]):
            if other != i:
                after = mid_rank(np.delete(row[t, other, r], i), row[t, other, r, i])
                values.append(after / before - 1 if before > after else 1 - before / after)
    return mean_of(values)


def _worst_cells(grid: list[Item], cosines: np.ndarray) -> list[dict[str, Any]]:
    """Return the requests whose own document is furthest behind the best one of its row and column.

    :param cosines: shape (requests, documents), in the grid's order.
    """
    rows = []
    for k, found in enumerate(cosines):
        cell = grid[k // 3]
        rivals = [
            j for j, item in enumerate(grid) if (item["topic"] == cell["topic"]) != (item["intent"] == cell["intent"])
        ]
        best = max(rivals, key=lambda j: found[j])
        rows.append((float(found[k // 3] - found[best]), k, best))
    return [
        {
            "id": grid[k // 3]["id"],
            "asked": grid[k // 3]["requests"][k % 3]["text"],
            "right": grid[k // 3]["document"],
            "chosen": grid[best]["document"],
        }
        for margin, k, best in sorted(rows)[:WORST_ITEMS]
        if margin < 0
    ]


def _masked(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return each topic's mean over the cells that ``mask`` keeps."""
    return np.array([v[m].mean() if m.any() else 0.0 for v, m in zip(values, mask, strict=True)])


def fill_example(example: Example, items: list[Item]) -> None:
    """Ask every second request of some topics, in words that its document does not share."""
    topics = list(dict.fromkeys(item["topic"] for item in items))[:EXAMPLE_TOPICS]
    for number, item in enumerate(item for item in items if item["topic"] in topics):
        intent = item["intent"].replace("_", " ")
        answer = example.add(item["document"], intent)
        asked = next((request for request in item["requests"] if not request["lexical"]), item["requests"][0])
        if number % 2 == 0:
            example.ask(asked["text"], [answer], intent)


INSTRUCTION_AWARENESS = Category(
    name="instruction_awareness",
    weight=0.30,
    text_fields=("document",),
    check_item=check_item,
    score=score,
    good_for="routing requests to the document that answers them",
    check_file=check_file,
    has_tiers=False,
    asks="Requests",
    question="Which document does what is asked? All intents are there for each topic, and no word gives it away.",
    fill_example=fill_example,
)
