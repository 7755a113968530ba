"""The categories in which a query's target is found among all targets: paraphrases, turns, code, translations."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from qwen25.evaluation.category import (
    WORST_ITEMS,
    Category,
    CategoryScore,
    Item,
    against_chance,
    mean_of,
    mid_rank,
    passed_items,
    resampled_means,
    shown_item,
)
from qwen25.evaluation.matching import Matcher

LANGUAGES = ("en", "fr", "es", "de", "it", "zh", "ru", "ar")
NEGATIVE_KINDS = ("role_swap", "negation", "number", "other_sense", "same_topic")


class Found(NamedTuple):
    """What a retrieval found, for the sub-scores of its own that a category adds to the outcome.

    :ivar units: reciprocal ranks rescaled so that chance is 0; shape (queries,).
    :ivar right: the cosine of each query with its target; shape (queries,).
    :ivar hard: for each query, the cosines with its own hard negatives.
    """

    units: np.ndarray
    right: np.ndarray
    hard: list[np.ndarray]


def retrieval(
    matcher: Matcher, items: list[Item], query_field: str, target_field: str, hard: Sequence[Sequence[str]], seed: int
) -> tuple[CategoryScore, Found]:
    """Rank each query's target among all targets and the query's own hard negatives.

    The measure is the mean reciprocal rank; by chance a pool of n gives H(n) / n, the n-th harmonic number over n.

    :param hard: the hard negatives of each item.
    """
    queries, targets = ([item[field] for item in items] for field in (query_field, target_field))
    everything = matcher.similarity(queries, [*targets, *itertools.chain(*hard)])
    cosines, right = everything[:, : len(targets)], np.diag(everything).copy()
    ends = len(targets) + np.cumsum([0] + [len(texts) for texts in hard])
    own = [row[a:b] for row, (a, b) in zip(everything, itertools.pairwise(ends), strict=True)]
    reciprocal, units, chosen = np.empty(len(queries)), np.empty(len(queries)), []
    for i in range(len(queries)):
        pool = np.concatenate([cosines[i], own[i]])
        reciprocal[i] = 1 / mid_rank(np.delete(pool, i), right[i])
        units[i] = against_chance(reciprocal[i], float((1 / np.arange(1, len(pool) + 1)).mean()))
        chosen.append([*targets, *hard[i]][int(pool.argmax())])
    sub_scores = {"mrr": mean_of(reciprocal), "found_first": mean_of(reciprocal == 1)}
    worst_first = np.argsort(units, kind="stable")[:WORST_ITEMS]
    worst = [shown_item(items[i], queries[i], targets[i], chosen[i]) for i in worst_first]
    passed = passed_items(items, reciprocal == 1, queries, targets)
    score = CategoryScore(float(units.mean()), resampled_means(units, seed), sub_scores, worst, passed)
    return score, Found(units, right, own)


def score_paraphrases(matcher: Matcher, items: list[Item], seed: int) -> CategoryScore:
    """Find each anchor's paraphrase among all paraphrases and the anchor's own hard negatives."""
    negatives = [[negative["text"] for negative in item["negatives"]] for item in items]
    score, found = retrieval(matcher, items, "anchor", "paraphrase", negatives, seed)
    won: dict[str, list[float]] = {kind: [] for kind in NEGATIVE_KINDS}
    for item, right, hard in zip(items, found.right, found.hard, strict=True):
        for negative, cosine in zip(item["negatives"], hard, strict=True):
            won[negative["kind"]].append(float(right > cosine) + 0.5 * float(right == cosine))
    score.sub_scores["preferred_to_negative"] = {kind: mean_of(values) for kind, values in won.items() if values}
    return score


def score_turns(matcher: Matcher, items: list[Item], seed: int) -> CategoryScore:
    """Find what each turn means among all meanings and the turn's own distractor, often a literal misreading."""
    score, found = retrieval(matcher, items, "text", "meaning", [[item["distractor"]] for item in items], seed)
    english = np.array([item["language"] == "en" for item in items])
    score.sub_scores["english"] = mean_of(found.units[english])
    score.sub_scores["other_languages"] = mean_of(found.units[~english])
    score.sub_scores["preferred_to_distractor"] = mean_of(found.right > np.concatenate(found.hard))
    return score


def score_code(matcher: Matcher, items: list[Item], seed: int) -> CategoryScore:
    """Find the code that does what each description says, among all snippets and the code's own near misses."""
    return retrieval(matcher, items, "description", "code", [item["near_misses"] for item in items], seed)[0]


def score_translations(matcher: Matcher, items: list[Item], seed: int) -> CategoryScore:
    """Find each sentence's translation, from English and into English, in seven languages."""
    texts = {language: [item[language] for item in items] for language in LANGUAGES}
    here, chance = np.arange(len(items)), 1 / len(items)
    units = np.zeros(len(items))
    from_english = {language: matcher.similarity(texts["en"], texts[language]) for language in LANGUAGES[1:]}
    credits: dict[str, np.ndarray] = {}
    by_language = {}
    for language, forth in from_english.items():
        back = matcher.similarity(texts[language], texts["en"])
        credit = credits[language] = (_top_credits(forth) + _top_credits(back)) / 2
        units += against_chance(credit, chance) / (len(LANGUAGES) - 1)
        by_language[language] = float(against_chance(credit.mean(), chance))
    worst = [
        shown_item(items[i], items[i]["en"], items[i][lang], items[j][lang])
        for i in np.argsort(units, kind="stable")[:WORST_ITEMS]
        for lang, j in [_first_miss(from_english, int(i))]
    ]
    # The first language in which it was found both ways, for the sentences that have one.
    found = [next((name for name, credit in credits.items() if credit[i] == 1), None) for i in here]
    answers = [item[name or "en"] for item, name in zip(items, found, strict=True)]
    passed = passed_items(items, np.array([name is not None for name in found]), texts["en"], answers)
    return CategoryScore(float(units.mean()), resampled_means(units, seed), {"by_language": by_language}, worst, passed)


def _top_credits(cosines: np.ndarray) -> np.ndarray:
    """Return for each row 1 if its own column is nearest; tied with others, its share of the first place."""
    best = cosines == cosines.max(axis=1, keepdims=True)
    return np.diag(best) / best.sum(axis=1)


def _first_miss(from_english: dict[str, np.ndarray], i: int) -> tuple[str, int]:
    """Return the first language in which sentence ``i`` is matched wrongly, and the sentence chosen."""
    for language, cosines in from_english.items():
        if (j := int(cosines[i].argmax())) != i:
            return language, j
    return LANGUAGES[1], i


SEMANTIC_SIMILARITY = Category(
    name="semantic_similarity",
    weight=0.20,
    text_fields=("anchor", "paraphrase"),
    score=score_paraphrases,
    good_for="finding near-duplicates",
)
CONVERSATIONAL_UNDERSTANDING = Category(
    name="conversational_understanding",
    weight=0.10,
    text_fields=("text", "meaning"),
    score=score_turns,
    good_for="matching conversational turns to meanings",
)
CODE_UNDERSTANDING = Category(
    name="code_understanding",
    weight=0.10,
    text_fields=("description", "code"),
    score=score_code,
    good_for="searching code by description",
)
MULTILINGUAL_ALIGNMENT = Category(
    name="multilingual_alignment",
    weight=0.15,
    text_fields=LANGUAGES,
    score=score_translations,
    good_for="matching translations",
)
