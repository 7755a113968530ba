"""Topic clustering: does k-means find the topics?"""

from __future__ import annotations

import warnings

import numpy as np

from qwen25.evaluation.category import (
    WORST_ITEMS,
    Category,
    CategoryScore,
    Item,
    half_samples,
    mean_of,
    passed_items,
    shown_item,
)
from qwen25.evaluation.matching import Matcher

KMEANS_SEEDS = 5


def score(matcher: Matcher, items: list[Item], seed: int) -> CategoryScore:
    """Cluster the sentences with k-means and compare with their topics.

    The score is the V-measure adjusted for chance, that is adjusted mutual information with
    arithmetic normalisation (Vinh et al. 2010), the mean of several k-means seeds.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.metrics import adjusted_mutual_info_score

    names = sorted({item["topic"] for item in items})
    labels = np.array([names.index(item["topic"]) for item in items])
    vectors = matcher.vectors([item["text"] for item in items])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer vectors than topics: the score says it
        fits = [KMeans(len(names), n_init=4, random_state=seed + k).fit_predict(vectors) for k in range(KMEANS_SEEDS)]

    def agreement(rows: np.ndarray, *fits: np.ndarray) -> float:
        return float(np.mean([adjusted_mutual_info_score(labels[rows], fit[rows]) for fit in fits]))

    centroid_cosine = _leave_one_out_centroids(vectors, labels)
    own = centroid_cosine[np.arange(len(labels)), labels]
    others = np.where(np.eye(len(names), dtype=bool)[labels], -np.inf, centroid_cosine)
    worst = [
        shown_item(items[i], items[i]["text"], items[i]["topic"], names[int(others[i].argmax())])
        for i in np.argsort(own - others.max(axis=1), kind="stable")[:WORST_ITEMS]
    ]
    sub_scores = {"nearest_centroid_accuracy": mean_of(own > others.max(axis=1))}
    passed = passed_items(items, own > others.max(axis=1), [i["text"] for i in items], [i["topic"] for i in items])
    # Each resample takes one fit in turn, so the interval holds the spread of the k-means seeds as well.
    halves = enumerate(half_samples(len(labels), seed))
    replicates = np.array([agreement(rows, fits[k % KMEANS_SEEDS]) for k, rows in halves])
    return CategoryScore(agreement(np.arange(len(labels)), *fits), replicates, sub_scores, worst, passed)


def _leave_one_out_centroids(vectors: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return each text's cosine with every topic's centroid, its own topic's taken without the text."""
    sums = np.stack([vectors[labels == c].sum(axis=0) for c in range(labels.max() + 1)])
    cosines = vectors @ (sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9)).T
    for i, label in enumerate(labels):
        rest = sums[label] - vectors[i]
        cosines[i, label] = vectors[i] @ rest / max(float(np.linalg.norm(rest)), 1e-9)
    return cosines


CATEGORY = Category(
    name="topic_clustering",
    weight=0.15,
    text_fields=("text",),
    score=score,
    good_for="grouping texts by topic",
    needs_vectors=True,
)
