"""Multilingual alignment: is the translation found, both ways?"""

from __future__ import annotations

import numpy as np

from qwen25.evaluation.category import (
    WORST_ITEMS,
    Category,
    CategoryScore,
    Item,
    against_chance,
    cosine_protocol,
    mean_cosine_of_neighbours,
    mean_of,
    mean_score,
    passed_items,
    scores_by_tier,
    shown_item,
)
from qwen25.evaluation.matching import Matcher

LANGUAGES = ("en", "fr", "es", "de", "it", "zh", "ru", "ar")


def score(matcher: Matcher, items: list[Item], seed: int) -> CategoryScore:
    """Find each sentence's translation, from English and into English, in seven languages.

    The same-language control asks more: is the translation nearer than every other sentence of the
    query's own language? A model that groups texts by language, not meaning, fails it.
    """
    texts = {language: [item[language] for item in items] for language in LANGUAGES}
    here, chance = np.arange(len(items)), 1 / len(items)
    units = np.zeros(len(items))
    from_english = {language: matcher.similarity(texts["en"], texts[language]) for language in LANGUAGES[1:]}
    credits: dict[str, np.ndarray] = {}
    by_language, aligned, translated, same_language, unrelated = {}, [], [], [], []
    for language, forth in from_english.items():
        back = matcher.similarity(texts[language], texts["en"])
        credit = credits[language] = (_top_credits(forth) + _top_credits(back)) / 2
        units += against_chance(credit, chance) / (len(LANGUAGES) - 1)
        by_language[language] = float(against_chance(credit.mean(), chance))
        translated.append(forth[here, here].mean())
        unrelated.append(mean_cosine_of_neighbours(forth))
        for name, cosines in (("en", forth), (language, back)):
            own = matcher.similarity(texts[name], texts[name])
            np.fill_diagonal(own, -np.inf)
            aligned.append((cosines[here, here] > own.max(axis=1)).mean())
            same_language.append(own[np.isfinite(own)].mean())
    worst = [
        shown_item(items[i], items[i]["en"], items[i][lang], items[j][lang])
        for i in np.argsort(units, kind="stable")[:WORST_ITEMS]
        for lang, j in [_first_miss(from_english, int(i))]
    ]
    sub_scores = {
        "by_tier": scores_by_tier(items, lambda rows: mean_of(units[rows])),
        "by_language": by_language,
        "same_language_control": {
            "translation_nearer_than_own_language": mean_of(aligned),
            "cosine_of_translations": mean_of(translated),
            "cosine_of_unrelated_same_language": mean_of(same_language),
        },
    }
    protocol = cosine_protocol("mean cosine of translations", mean_of(translated), mean_of(unrelated))
    # The first language in which it was found both ways, for the sentences that have one.
    found = [next((name for name, credit in credits.items() if credit[i] == 1), None) for i in here]
    answers = [item[name or "en"] for item, name in zip(items, found, strict=True)]
    passed = passed_items(items, np.array([name is not None for name in found]), texts["en"], answers)
    return mean_score(units, seed, sub_scores, protocol, worst, passed)


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


CATEGORY = Category(
    name="multilingual_alignment",
    weight=0.15,
    text_fields=LANGUAGES,
    score=score,
    good_for="matching translations",
    languages=LANGUAGES,
)
