"""Topic clustering: does k-means find the topics?"""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path

import numpy as np

from qwen25.evaluation.category import WORST_ITEMS, Category, CategoryScore, cosine_protocol, passed_items, rows_of_tier
from qwen25.evaluation.example import QUERIES, Example
from qwen25.evaluation.fields import TIERS, Item, check_name, check_text
from qwen25.evaluation.matching import Matcher
from qwen25.evaluation.statistics import half_samples, mean_of
from qwen25.runtime.errors import InputError

#: Sentences of a topic, beside the one asked for, in the example.
EXAMPLE_SENTENCES = 3


def check_item(item: Item, where: str) -> None:
    """Check the fields of an item.

    :raises InputError: if one is missing or wrong.
    """
    check_name(item, "topic", where)
    check_text(item, "text", where)


def check_file(items: list[Item], path: Path) -> None:
    """There must be topics to tell apart, and sentences that belong together."""
    sizes = Counter(item["topic"] for item in items)
    if len(sizes) < 2:
        raise InputError(f"{path} holds one topic: at least 2 are needed")
    if alone := [topic for topic, size in sizes.items() if size < 2]:
        raise InputError(f"{path}: the topic {alone[0]!r} has one sentence, and at least 2 are needed")


KMEANS_SEEDS = 5


def score(matcher: Matcher, items: list[Item], seed: int) -> CategoryScore:
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

    def mean_agreement(rows: np.ndarray) -> float:
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
        score=mean_agreement(everything),
        # Each resample takes one fit in turn, so the interval holds the spread of the k-means seeds as well.
        replicates=np.array(
            [agreement(rows, fits[k % KMEANS_SEEDS]) for k, rows in enumerate(half_samples(len(labels), seed))]
        ),
        sub_scores={
            "by_tier": {tier: mean_agreement(rows) for tier in TIERS if len(rows := rows_of_tier(items, tier))},
            "nearest_centroid_accuracy": mean_of(own > others.max(axis=1)),
            "nearest_neighbour_accuracy": mean_of(labels[cosines.argmax(axis=1)] == labels),
            "purity": float(purity),
        },
        cosine_protocol=cosine_protocol(
            "(silhouette + purity) / 2", (silhouette + float(purity)) / 2, mean_of(cosines[~same])
        ),
        worst=worst,
        passed=passed_items(items, own > others.max(axis=1), [i["text"] for i in items], [i["topic"] for i in items]),
    )


def _leave_one_out_centroids(vectors: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return each text's cosine with every topic's centroid, its own topic's taken without the text."""
    sums = np.stack([vectors[labels == c].sum(axis=0) for c in range(labels.max() + 1)])
    cosines = vectors @ (sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9)).T
    for i, label in enumerate(labels):
        rest = sums[label] - vectors[i]
        cosines[i, label] = vectors[i] @ rest / max(float(np.linalg.norm(rest)), 1e-9)
    return cosines


def fill_example(example: Example, items: list[Item]) -> None:
    """Ask with a sentence of each topic for the others."""
    topics = dict.fromkeys(item["topic"] for item in items)
    for number, topic in enumerate(topics):
        texts = [item["text"] for item in items if item["topic"] == topic]
        answers = [example.add(text, topic) for text in texts[1 : 1 + EXAMPLE_SENTENCES]]
        if number < QUERIES:
            example.ask(texts[0], answers, topic)


TOPIC_CLUSTERING = Category(
    name="topic_clustering",
    weight=0.15,
    text_fields=("text",),
    check_item=check_item,
    score=score,
    good_for="grouping texts by topic",
    check_file=check_file,
    needs_vectors=True,
    asks="Topics",
    question="Which sentences are about the same topic? They seldom name it.",
    fill_example=fill_example,
)
