"""Matcher + items -> one category's score, where 0 is chance and 1 is perfect.

No score is a mean cosine: in a collapsed space everything is similar. Each asks whether the right
text is found among others, so that a model can only win by telling texts apart. A score below 0
says that the model does worse than chance, which shared words can bring about.

Intervals are 95 % percentile bootstraps (Efron 1979) over items, over topics for the instruction
grid. The resamples depend on the seed and the number of items alone, so two models scored on the
same items have paired replicates.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from qwen25.items import INTENTS, LANGUAGES, NEGATIVE_KINDS, TIERS, Item
from qwen25.matching import Matcher

BOOTSTRAP_RESAMPLES = 1000
KMEANS_SEEDS = 5
WORST_ITEMS = 6
PASSED_ITEMS = 3
Interval = tuple[float, float]


@dataclass(frozen=True)
class CategoryScore:
    """One category's outcome for one model.

    :ivar score: the headline, 0 chance, 1 perfect.
    :ivar replicates: the headline on each bootstrap resample; shape (resamples,).
    :ivar sub_scores: the parts and controls it rests on.
    :ivar cosine_protocol: the old mean-cosine figure beside the cosine of unrelated pairs; never decides.
    :ivar worst: the items that went worst, each with what was asked, right and chosen.
    :ivar passed: some items that went right, spread evenly over all of them: no pick of the best.
    """

    score: float
    replicates: np.ndarray
    sub_scores: dict[str, Any]
    cosine_protocol: dict[str, Any]
    worst: list[dict[str, Any]] = field(default_factory=list)
    passed: list[dict[str, Any]] = field(default_factory=list)

    @property
    def interval(self) -> Interval:
        """The 95 % interval of the headline."""
        return interval(self.replicates)


def interval(replicates: np.ndarray) -> Interval:
    """Return the 2.5th and 97.5th percentile."""
    low, high = np.percentile(replicates, [2.5, 97.5])
    return float(low), float(high)


def resample(size: int, seed: int) -> np.ndarray:
    """Return the bootstrap's indices; shape (resamples, size)."""
    return np.random.default_rng(seed).integers(0, size, (BOOTSTRAP_RESAMPLES, size))


def half_samples(size: int, seed: int) -> np.ndarray:
    """Return random halves of the items, without repeats; shape (resamples, size // 2).

    For a score that is no mean of items: a repeated item would agree with itself and raise mutual
    information, while halves spread as the bootstrap does (delete-half jackknife, Shao and Wu 1989).
    """
    generator = np.random.default_rng(seed)
    return np.stack([generator.permutation(size)[: size // 2] for _ in range(BOOTSTRAP_RESAMPLES)])


def against_chance(value: np.ndarray | float, chance: float) -> Any:
    """Rescale so that chance is 0 and perfect 1: (value - chance) / (1 - chance)."""
    return (value - chance) / (1 - chance)


def mid_rank(candidates: np.ndarray, right: float) -> float:
    """Return the rank of the right one among the other candidates' cosines; ties share their places."""
    return 1 + float((candidates > right).sum()) + 0.5 * float((candidates == right).sum())


def top_credit(cosines: np.ndarray, right: int) -> float:
    """Return 1 if the right one is nearest; tied with others, its share of the first place."""
    best = cosines == cosines.max()
    return float(best[right]) / float(best.sum())


def semantic_similarity(matcher: Matcher, items: list[Item], seed: int) -> CategoryScore:
    """Find each anchor's paraphrase among all paraphrases and the anchor's own hard negatives."""
    anchors, paraphrases = ([item[side] for item in items] for side in ("anchor", "paraphrase"))
    texts = [[n["text"] for n in item["negatives"]] for item in items]
    found = _retrieval(matcher, anchors, paraphrases, texts)
    by_kind: dict[str, list[float]] = {kind: [] for kind in NEGATIVE_KINDS}
    for item, right, hard in zip(items, found.right, found.hard, strict=True):
        for negative, cosine in zip(item["negatives"], hard, strict=True):
            by_kind[negative["kind"]].append(float(right > cosine) + 0.5 * float(right == cosine))
    sub_scores = {
        **found.sub_scores(),
        "by_tier": _by_tier(found.units, items),
        "preferred_to_negative": {kind: _mean(won) for kind, won in by_kind.items() if won},
    }
    similar, unrelated = float(found.right.mean()), found.unrelated
    protocol = _protocol("(similar - dissimilar + 1) / 2", (similar - unrelated + 1) / 2, unrelated)
    worst = found.worst(items, anchors, paraphrases, texts)
    passed = _passed(items, found.reciprocal == 1, anchors, paraphrases)
    return _mean_score(found.units, seed, sub_scores, protocol, worst, passed)


def conversational_understanding(matcher: Matcher, items: list[Item], seed: int) -> CategoryScore:
    """Find what each turn means among all meanings and the turn's own distractor, often a literal misreading."""
    turns, meanings = ([item[side] for item in items] for side in ("text", "meaning"))
    texts = [[item["distractor"]] for item in items]
    found = _retrieval(matcher, turns, meanings, texts)
    english = np.array([item["language"] == "en" for item in items])
    sub_scores = {
        **found.sub_scores(),
        "by_tier": _by_tier(found.units, items),
        "english": _mean(found.units[english]),
        "other_languages": _mean(found.units[~english]),
        "preferred_to_distractor": _mean(found.right > np.array([h[0] for h in found.hard])),
    }
    protocol = _protocol("mean cosine of turn and meaning", float(found.right.mean()), found.unrelated)
    worst = found.worst(items, turns, meanings, texts)
    passed = _passed(items, found.reciprocal == 1, turns, meanings)
    return _mean_score(found.units, seed, sub_scores, protocol, worst, passed)


def code_understanding(matcher: Matcher, items: list[Item], seed: int) -> CategoryScore:
    """Find the code that does what each description says among all snippets and the code's own near misses."""
    descriptions, snippets = ([item[side] for item in items] for side in ("description", "code"))
    texts = [item["near_misses"] for item in items]
    found = _retrieval(matcher, descriptions, snippets, texts)
    languages = np.array([item["language"] for item in items])
    sub_scores = {
        **found.sub_scores(),
        "by_tier": _by_tier(found.units, items),
        "by_language": {name: _mean(found.units[languages == name]) for name in dict.fromkeys(languages.tolist())},
    }
    protocol = _protocol("mean cosine of description and code", float(found.right.mean()), found.unrelated)
    worst = found.worst(items, descriptions, snippets, texts)
    passed = _passed(items, found.reciprocal == 1, descriptions, snippets)
    return _mean_score(found.units, seed, sub_scores, protocol, worst, passed)


def topic_clustering(matcher: Matcher, items: list[Item], seed: int) -> CategoryScore:
    """Cluster the sentences with k-means and compare with their topics.

    The score is the V-measure adjusted for chance, that is adjusted mutual information with
    arithmetic normalisation (Vinh et al. 2010), the mean of several k-means seeds.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.metrics import adjusted_mutual_info_score, silhouette_score

    names = sorted({item["topic"] for item in items})
    labels = np.array([names.index(item["topic"]) for item in items])
    vectors = matcher.vectors([item["text"] for item in items])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer vectors than topics: the score says it
        fits = [KMeans(len(names), n_init=4, random_state=seed + k).fit_predict(vectors) for k in range(KMEANS_SEEDS)]

    def agreement(rows: np.ndarray, fit: np.ndarray) -> float:
        return float(adjusted_mutual_info_score(labels[rows], fit[rows]))

    def score(rows: np.ndarray) -> float:
        return float(np.mean([agreement(rows, fit) for fit in fits]))

    centroid_cosine = _leave_one_out_centroids(vectors, labels)
    own = centroid_cosine[np.arange(len(labels)), labels]
    others = np.where(np.eye(len(names), dtype=bool)[labels], -np.inf, centroid_cosine)
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -np.inf)
    purity = np.mean([sum(np.bincount(labels[fit == c]).max() for c in np.unique(fit)) / len(labels) for fit in fits])
    same = labels[:, None] == labels[None, :]
    distinct = len(np.unique(vectors, axis=0)) > 1
    silhouette = float(silhouette_score(vectors, fits[0])) if distinct and len(np.unique(fits[0])) > 1 else 0.0
    everything = np.arange(len(labels))
    worst = [
        {
            "id": items[i]["id"],
            "asked": items[i]["text"],
            "right": items[i]["topic"],
            "chosen": names[int(others[i].argmax())],
        }
        for i in np.argsort(own - others.max(axis=1), kind="stable")[:WORST_ITEMS]
    ]
    return CategoryScore(
        score=score(everything),
        # Each resample takes one fit in turn, so the interval holds the spread of the k-means seeds as well.
        replicates=np.array(
            [agreement(rows, fits[k % KMEANS_SEEDS]) for k, rows in enumerate(half_samples(len(labels), seed))]
        ),
        sub_scores={
            "by_tier": {tier: score(rows) for tier in TIERS if len(rows := _rows_of_tier(items, tier))},
            "nearest_centroid_accuracy": _mean(own > others.max(axis=1)),
            "nearest_neighbour_accuracy": _mean(labels[cosines.argmax(axis=1)] == labels),
            "purity": float(purity),
        },
        cosine_protocol=_protocol("(silhouette + purity) / 2", (silhouette + float(purity)) / 2, _mean(cosines[~same])),
        worst=worst,
        passed=_passed(items, own > others.max(axis=1), [i["text"] for i in items], [i["topic"] for i in items]),
    )


def multilingual_alignment(matcher: Matcher, items: list[Item], seed: int) -> CategoryScore:
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
        credit = np.array([(top_credit(forth[i], i) + top_credit(back[i], i)) / 2 for i in range(len(items))])
        credits[language] = credit
        units += against_chance(credit, chance) / (len(LANGUAGES) - 1)
        by_language[language] = float(against_chance(credit.mean(), chance))
        translated.append(forth[here, here].mean())
        unrelated.append(_shifted(forth))
        for name, cosines in (("en", forth), (language, back)):
            own = matcher.similarity(texts[name], texts[name])
            np.fill_diagonal(own, -np.inf)
            aligned.append((cosines[here, here] > own.max(axis=1)).mean())
            same_language.append(own[np.isfinite(own)].mean())
    worst = [
        {"id": items[i]["id"], "asked": items[i]["en"], "right": items[i][lang], "chosen": items[j][lang]}
        for i in np.argsort(units, kind="stable")[:WORST_ITEMS]
        for lang, j in [_first_miss(from_english, int(i))]
    ]
    sub_scores = {
        "by_tier": _by_tier(units, items),
        "by_language": by_language,
        "same_language_control": {
            "translation_nearer_than_own_language": _mean(aligned),
            "cosine_of_translations": _mean(translated),
            "cosine_of_unrelated_same_language": _mean(same_language),
        },
    }
    protocol = _protocol("mean cosine of translations", _mean(translated), _mean(unrelated))
    # The first language in which it was found both ways, for the sentences that have one.
    found = [next((name for name, credit in credits.items() if credit[i] == 1), None) for i in here]
    answers = [item[name or "en"] for item, name in zip(items, found, strict=True)]
    passed = _passed(items, np.array([name is not None for name in found]), texts["en"], answers)
    return _mean_score(units, seed, sub_scores, protocol, worst, passed)


def instruction_awareness(matcher: Matcher, items: list[Item], seed: int) -> CategoryScore:
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
        "intent_among_same_topic": _mean(against_chance(intent, 1 / shape[1])),
        "topic_among_same_intent": _mean(against_chance(topic, 1 / shape[0])),
        "intent_lexical_requests": _mean(against_chance(intent[lexical], 1 / shape[1])),
        "intent_non_lexical_requests": _mean(against_chance(intent[~lexical], 1 / shape[1])),
        "worst_of_three_phrasings": _mean(both.min(axis=2)),
        "p_mrr": _p_mrr(cosines),
        "controls": {
            "no_instruction": _mean(against_chance(_cell_credits(bare)[0], both_chance)),
            "shuffled_instruction": _mean(against_chance(both_shuffled, both_chance)),
        },
        "non_lexical_gain_over_shuffled": {"value": _mean(gain), "interval": list(gain_interval)},
        "follows_instructions": bool(gain_interval[0] > 0),
    }
    right = np.einsum("tirti->tir", cosines)
    unrelated = np.einsum("tirti->tir", np.roll(cosines, 1, axis=3))  # the same intent on another topic
    protocol = _protocol("mean cosine of request and document", float(right.mean()), float(unrelated.mean()))
    worst = _worst_cells(grid, cosines.reshape(len(requests), len(grid)))
    passed = _passed(grid, both.min(axis=2).ravel() == 1, requests[::3], documents)
    return _mean_score(units, seed, sub_scores, protocol, worst, passed)


CategoryFunction = Callable[[Matcher, list[Item], int], CategoryScore]
CATEGORIES: dict[str, CategoryFunction] = {
    "semantic_similarity": semantic_similarity,
    "topic_clustering": topic_clustering,
    "multilingual_alignment": multilingual_alignment,
    "instruction_awareness": instruction_awareness,
    "conversational_understanding": conversational_understanding,
    "code_understanding": code_understanding,
}


@dataclass(frozen=True)
class _Retrieval:
    """The ranks of a retrieval with hard negatives; ``units`` are reciprocal ranks against chance."""

    units: np.ndarray
    right: np.ndarray
    unrelated: float
    hard: list[np.ndarray]
    cosines: np.ndarray
    reciprocal: np.ndarray
    without_hard: np.ndarray

    def sub_scores(self) -> dict[str, Any]:
        """Return MRR as it is, with and without the hard negatives, and the share found first."""
        return {
            "mrr": _mean(self.reciprocal),
            "mrr_without_hard_negatives": _mean(self.without_hard),
            "found_first": _mean(self.reciprocal == 1),
        }

    def worst(
        self, items: list[Item], asked: list[str], right: list[str], hard: list[list[str]]
    ) -> list[dict[str, Any]]:
        """Return the items with the lowest rank, each with what the model chose instead."""
        rows = []
        for i in np.argsort(self.units, kind="stable")[:WORST_ITEMS]:
            candidates = np.concatenate([self.cosines[i], self.hard[i]])
            chosen = [*right, *hard[i]][int(candidates.argmax())]
            rows.append({"id": items[i]["id"], "asked": asked[i], "right": right[i], "chosen": chosen})
        return rows


def _retrieval(matcher: Matcher, queries: list[str], targets: list[str], hard: list[list[str]]) -> _Retrieval:
    """Rank each query's target among all targets and the query's own hard negatives.

    Mean reciprocal rank; by chance a pool of n gives H(n) / n, the n-th harmonic number over n.
    """
    everything = matcher.similarity(queries, [*targets, *(text for texts in hard for text in texts)])
    cosines, flat = everything[:, : len(targets)], everything[:, len(targets) :]
    ends = np.cumsum([0] + [len(texts) for texts in hard])
    own = [row[a:b] for row, (a, b) in zip(flat, itertools.pairwise(ends), strict=True)]
    here = np.arange(len(queries))
    right = cosines[here, here]
    reciprocal, without, units = np.empty(len(queries)), np.empty(len(queries)), np.empty(len(queries))
    for i in here:
        others = np.delete(cosines[i], i)
        without[i] = 1 / mid_rank(others, right[i])
        reciprocal[i] = 1 / mid_rank(np.concatenate([others, own[i]]), right[i])
        pool = len(targets) + len(own[i])
        units[i] = against_chance(reciprocal[i], float((1 / np.arange(1, pool + 1)).sum()) / pool)
    return _Retrieval(units, right, _shifted(cosines), own, cosines, reciprocal, without)


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
    return _mean(values)


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


def _passed(items: list[Item], right: np.ndarray, asked: list[str], answers: list[str]) -> list[dict[str, Any]]:
    """Return a few of the items that went right, spread evenly over all of them."""
    found = np.flatnonzero(right)
    places = np.linspace(0, len(found) - 1, min(PASSED_ITEMS, len(found))).round().astype(int)
    return [{"id": items[i]["id"], "asked": asked[i], "right": answers[i]} for i in found[places]]


def _rows_of_tier(items: list[Item], tier: str) -> np.ndarray:
    return np.flatnonzero([item["tier"] == tier for item in items])


def _by_tier(units: np.ndarray, items: list[Item]) -> dict[str, float]:
    """Return the mean of the units over the items of each tier that has any."""
    return {tier: _mean(units[rows]) for tier in TIERS if len(rows := _rows_of_tier(items, tier))}


def _masked(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return each topic's mean over the cells that ``mask`` keeps."""
    return np.array([v[m].mean() if m.any() else 0.0 for v, m in zip(values, mask, strict=True)])


def _leave_one_out_centroids(vectors: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return each text's cosine with every topic's centroid, its own topic's taken without the text."""
    sums = np.stack([vectors[labels == c].sum(axis=0) for c in range(labels.max() + 1)])
    cosines = vectors @ (sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9)).T
    for i, label in enumerate(labels):
        rest = sums[label] - vectors[i]
        cosines[i, label] = vectors[i] @ rest / max(float(np.linalg.norm(rest)), 1e-9)
    return cosines


def _first_miss(from_english: dict[str, np.ndarray], i: int) -> tuple[str, int]:
    """Return the first language in which sentence ``i`` is matched wrongly, and the sentence chosen."""
    for language, cosines in from_english.items():
        if (j := int(cosines[i].argmax())) != i:
            return language, j
    return LANGUAGES[1], i


def _mean_score(
    units: np.ndarray,
    seed: int,
    sub_scores: dict[str, Any],
    protocol: dict[str, Any],
    worst: list[dict[str, Any]],
    passed: list[dict[str, Any]],
) -> CategoryScore:
    """Return the outcome of a category whose headline is the mean of its units."""
    replicates = units[resample(len(units), seed)].mean(axis=1)
    return CategoryScore(float(units.mean()), replicates, sub_scores, protocol, worst, passed)


def _protocol(formula: str, value: float, unrelated: float) -> dict[str, Any]:
    return {"formula": formula, "value": value, "cosine_of_unrelated_pairs": unrelated}


def _shifted(cosines: np.ndarray) -> float:
    """Return the mean cosine of each text with what belongs to the one before it; of a square matrix."""
    return float(np.diag(np.roll(cosines, 1, axis=1)).mean())


def _mean(values: Any) -> float:
    return float(np.mean(values)) if np.size(values) else 0.0
