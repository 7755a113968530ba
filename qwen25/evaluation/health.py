"""What a model is like apart from its scores: speed, size, cosines of unrelated texts, tokens never reached."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from qwen25.evaluation.categories.all import CATEGORIES
from qwen25.evaluation.encoder import Encoder
from qwen25.evaluation.fields import Item
from qwen25.evaluation.matching import Cosine, Matcher

LATENCY_QUERIES = 200
#: Speed is the median of this many runs, or of as many as end within the budget: a slow model is timed less often.
SPEED_RUNS = 5
SPEED_SECONDS = 5.0


def health(encoder: Encoder, items: dict[str, list[Item]]) -> dict[str, Any]:
    """Measure the space (does it collapse?) and the speed (is it worth being static?).

    ``isotropy`` is min Z(c) / max Z(c) over the principal directions c of the texts' vectors, with
    Z(c) = sum of exp(c . v) (Mu and Viswanath 2018, arXiv:1702.01417): 1 when no direction is special.
    """
    matcher = encoder.matcher
    texts = sorted(
        {item[field] for category, rows in items.items() for item in rows for field in CATEGORIES[category].text_fields}
    )
    runs = _run_seconds(lambda: matcher.index(texts))
    order = np.random.default_rng(0).permutation(len(texts))
    shuffled = [texts[i] for i in order]
    facts: dict[str, Any] = {
        "unrelated_cosine": None,
        "unrelated_cosine_across_languages": None,
        "isotropy": None,
        "variance_of_top_direction": None,
        "tokens_never_reached": _never_reached(encoder),
        "sentences_per_second": round(len(texts) / float(np.median(runs)), 1),
        "speed_runs": len(runs),
        "load_seconds": round(encoder.load_seconds, 3),
        "size_bytes": encoder.size_bytes,
        "memory_bytes": encoder.memory_bytes,
        "dims": encoder.dims,
    }
    if matcher.has_cosines:
        facts["unrelated_cosine"] = float(matcher.pairwise(shuffled, [*shuffled[-1:], *shuffled[:-1]]).mean())
        facts["unrelated_cosine_across_languages"] = _across_languages(matcher, items)
    if isinstance(matcher, Cosine):
        vectors = matcher.vectors(texts)
        partition = np.exp(vectors @ np.linalg.svd(vectors, full_matrices=False)[2].T).sum(axis=0)
        centred = np.linalg.svd(vectors - vectors.mean(axis=0), compute_uv=False) ** 2
        facts["isotropy"] = float(partition.min() / partition.max())
        facts["variance_of_top_direction"] = float(centred[0] / max(float(centred.sum()), 1e-12))
    return facts | _latency(matcher, shuffled[:LATENCY_QUERIES])


def _across_languages(matcher: Matcher, items: dict[str, list[Item]]) -> float | None:
    """Return the mean cosine of an English sentence with another sentence's translation."""
    means = []
    for category, rows in items.items():
        # Each sentence beside the translations of the one before it.
        for language in CATEGORIES[category].languages[1:]:
            english = [item[CATEGORIES[category].languages[0]] for item in rows]
            others = [item[language] for item in [*rows[-1:], *rows[:-1]]]
            means.append(matcher.pairwise(english, others).mean())
    return float(np.mean(means)) if means else None


def _never_reached(encoder: Encoder) -> float | None:
    """Return the share of a static model's tokens that its tokenizer never produces from their own text."""
    if encoder.static is None:
        return None
    model = encoder.static.tokenizer.model
    tokens = encoder.static.tokens
    return float(np.mean([[t.value for t in model.tokenize(token)] != [token] for token in tokens]))


def _run_seconds(run: Callable[[], None]) -> list[float]:
    """Return the seconds of up to ``SPEED_RUNS`` runs; no further one begins after ``SPEED_SECONDS``."""
    seconds: list[float] = []
    while not seconds or (len(seconds) < SPEED_RUNS and sum(seconds) < SPEED_SECONDS):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return seconds


def _latency(matcher: Matcher, queries: list[str]) -> dict[str, float]:
    for query in queries[:5]:  # the first calls set things up
        matcher.encode_query(query)
    times = []
    for query in queries:
        started = time.perf_counter()
        matcher.encode_query(query)
        times.append(1000 * (time.perf_counter() - started))
    p50, p95 = np.percentile(times, [50, 95])
    return {"latency_p50_ms": round(float(p50), 4), "latency_p95_ms": round(float(p95), 4)}
