"""Models on the user's own pairs: what each finds, beside words alone and random directions, and how far they differ.

Every model sees the same queries, documents and resamples, so that differences are paired.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from qwen25.evaluation.category import WORST_ITEMS, interval, resampled_means
from qwen25.evaluation.judgement import SAME, word_of
from qwen25.evaluation.matching import Matcher
from qwen25.evaluation.models import CONTROL, Encoder, load_encoder, random_control
from qwen25.evaluation.own_pairs import Direction, OwnData, Source, read_among, read_own
from qwen25.evaluation.results import paired_difference, rounded
from qwen25.evaluation.thresholds import score_meaning
from qwen25.runtime.display import progress
from qwen25.runtime.errors import InputError
from qwen25.store.pairs import shared_texts

DIRECTIONS = ("forward", "back")
METRICS = ("recall@1", "recall@10", "mrr@10")
DEPTH = 10
#: Scores in memory at once: 64 MB.
BLOCK = 1 << 24
#: Scores that differ by less, as a share, are ties: the order of a sum depends on the machine.
TIE = 1e-6
#: Scores of unrelated texts that are kept.
UNRELATED = 100_000
#: Standard errors at which 4 of 5 samples show a difference at 95 %: 1.96 + 0.84 (Cohen 1988, power of 80 %).
DECIDES = 2.8


class Found(NamedTuple):
    """What one model found for the queries of a direction.

    :ivar values: shape (queries, metrics).
    :ivar place: of the first right answer, from 1; shape (queries,).
    :ivar shown: the right answer that came first, and the document that did; shape (queries, 2).
    :ivar right: the score of each right answer.
    :ivar unrelated: the scores of documents drawn at random that are no answers, and the mean length of both texts.
    """

    values: np.ndarray
    place: np.ndarray
    shown: np.ndarray
    right: np.ndarray
    unrelated: tuple[np.ndarray, np.ndarray]


def find(matcher: Matcher, way: Direction, advance: Callable[[int], None]) -> Found:
    """Search every query's right answers among all documents; a document that is the query itself is left out.

    A right answer stands behind the right ones and the wrong documents that score higher, and behind half of the wrong
    ones tied with it. Of a query with n right answers, recall at k is their share among the first k, of the k or n that
    can be there (capped recall, Thakur et al. 2021, BEIR, arXiv:2104.08663).
    """
    search = matcher.index(way.documents, advance)
    place_of = {text: i for i, text in enumerate(way.documents)}
    lengths = np.array([len(text) for text in way.documents])
    generator, size = np.random.default_rng(0), len(way.documents)
    count, parts = -(-UNRELATED // len(way.queries)), []
    step = max(1, min(4096, BLOCK // size))
    for start in range(0, len(way.queries), step):
        queries = way.queries[start : start + step]
        scores = search(queries)
        itself = [(i, place_of[query]) for i, query in enumerate(queries) if query in place_of]
        scores[tuple(np.array(itself, dtype=int).reshape(-1, 2).T)] = -np.inf
        mine = slice(*np.searchsorted(way.asked, [start, start + step]))
        rows, columns = way.asked[mine] - start, way.right[mine]
        right, chosen = scores[rows, columns], scores.argmax(axis=1)
        scores[rows, columns] = -np.inf  # only wrong documents are left
        order = np.lexsort((-right, rows))
        first = np.searchsorted(rows, np.arange(len(queries)))
        slack = TIE * np.maximum(1, np.abs(right))
        above, least = (
            np.array([np.count_nonzero(scores[row] > bound) for row, bound in zip(rows, bounds, strict=True)])
            for bounds in (right + slack, right - slack)
        )
        places = np.empty(len(rows))
        places[order] = np.arange(len(rows)) - first[rows] + 1
        places += (above + least) / 2
        best = order[first]
        answers = np.bincount(rows)
        recalls = [np.bincount(rows, places <= k) / np.minimum(k, answers) for k in (1, DEPTH)]
        values = np.stack([*recalls, np.where(places[best] <= DEPTH, 1 / places[best], 0)], axis=1)
        drawn = np.tile(np.arange(size), (len(queries), 1))
        if count < size:
            drawn = generator.integers(0, size, (len(queries), count))
        others = np.take_along_axis(scores, drawn, axis=1)
        kept = np.isfinite(others)
        both = (np.array([len(query) for query in queries])[:, None] + lengths[drawn]) / 2
        shown = np.stack([columns[best], chosen], axis=1)
        parts.append((values, places[best], shown, right, others[kept], both[kept]))
        advance(len(queries))
    values, place, shown, right, unrelated, both = map(np.concatenate, zip(*parts, strict=True))
    return Found(values, place, shown, right, (unrelated, both))


class OwnRun:
    """One file's outcome for several models. The first is the user's own: the others' differences are to it."""

    def __init__(self, data: OwnData, seed: int) -> None:
        """Start without a model."""
        self.data, self._seed = data, seed
        self.systems: list[dict[str, Any]] = []
        #: Per system and direction: the metrics of each query, and their means on each resample.
        self._values: list[list[tuple[np.ndarray, np.ndarray]]] = []

    def add(self, encoder: Encoder, name: str | None = None) -> None:
        """Search with one more model."""
        ways = self.data.ways
        total = sum(len(way.queries) + len(way.documents) for way in ways)
        with progress(f"{name or encoder.name} on {self.data.facts['name']}", total) as advance:
            found = [find(encoder.matcher, way, advance) for way in ways]
        self._values.append([(one.values, resampled_means(one.values, self._seed)) for one in found])
        system: dict[str, Any] = {"name": name or encoder.name, "kind": encoder.kind}
        system |= {way: self._scores(i) for i, way in enumerate(DIRECTIONS)}
        if encoder.learnt is not None:
            shared, told = shared_texts(encoder.learnt, [*ways[0].queries, *ways[1].queries])
            system["shared_with_training"] = {"texts": shared, "of": told}
        forward = found[0]
        if encoder.kind != "bm25" and len(forward.unrelated[0]):
            system["score_meaning"] = score_meaning(*forward.unrelated, forward.right)
        self.systems.append({**system, "worst": _worst(ways[0], forward)})

    def _scores(self, way: int) -> dict[str, Any]:
        """Return the metrics of the model that was added last, each beside its difference to the first."""
        (values, replicates), (base, base_replicates) = self._values[-1][way], self._values[0][way]
        scores = {}
        for i, metric in enumerate(METRICS):
            scores[metric] = rounded({"score": values[:, i].mean(), "interval": interval(replicates[:, i])})
            if len(self._values) > 1:
                gain = difference(values[:, i] - base[:, i], replicates[:, i] - base_replicates[:, i])
                scores[metric]["difference"] = gain
        return scores

    def result(self) -> dict[str, Any]:
        """Return the file's entry in a result: what was read, each system, and the best with those not told from it."""
        rivals = [i for i, system in enumerate(self.systems) if system["kind"] != "control"]
        best = max(rivals, key=lambda i: self.systems[i]["forward"]["mrr@10"]["score"])
        means = [ways[0][1][:, METRICS.index("mrr@10")] for ways in self._values]
        tied = [i for i in rivals if i != best and word_of(interval(means[best] - means[i])) == SAME]
        chosen = {"name": self.systems[best]["name"], "tied": [self.systems[i]["name"] for i in tied]}
        return {**self.data.facts, "best": chosen, "systems": self.systems}


def difference(values: np.ndarray, replicates: np.ndarray) -> dict[str, Any]:
    """Return a paired difference, and how many more queries would decide where it is undecided.

    :param values: the difference for each query; shape (queries,).
    :param replicates: its mean on each resample.
    :return: with ``more_queries``, so many that 4 of 5 samples would show a difference of this size; None: it is
        decided, or nothing differs.
    """
    mean, more = float(values.mean()), None
    found = paired_difference(mean, replicates)
    if found["word"] == SAME:
        found["word"] = "undecided"
        if abs(mean) > 1e-9 and len(values) > 1:
            more = max(1, math.ceil((DECIDES * float(values.std(ddof=1)) / mean) ** 2) - len(values))
    return {**found, "more_queries": more}


def _worst(way: Direction, found: Found) -> list[dict[str, Any]]:
    """Return the queries whose first right answer came last, with the document that was found instead."""
    order = np.argsort(-found.place, kind="stable")[:WORST_ITEMS]
    missed = [i for i in order.tolist() if found.values[i, 0] < 1 and found.shown[i, 0] != found.shown[i, 1]]
    return [
        {
            "asked": way.queries[i],
            "right": way.documents[found.shown[i, 0]],
            "chosen": way.documents[found.shown[i, 1]],
            "place": math.ceil(found.place[i]),
        }
        for i in missed
    ]


def start_runs(
    on: Sequence[Source] | str | Path, among: Sequence[str | Path] | str | Path = (), seed: int = 42
) -> list[OwnRun]:
    """Read the files of --on, each with the documents of --among.

    :raises InputError: if one cannot be read, holds no pairs, or there are documents and no pairs.
    """
    sources = [on] if isinstance(on, str | Path) else list(on)
    files = [among] if isinstance(among, str | Path) else list(among)
    if files and not sources:
        raise InputError("--among adds documents to those of --on: add --on FILE")
    read = [read_among(file) for file in files]
    runs = [OwnRun(read_own(source, [text for texts, _ in read for text in texts]), seed) for source in sources]
    for run in runs:
        run.data.facts["among"] = [facts for _, facts in read]
    return runs


def add_model(runs: Iterable[OwnRun], encoder: Encoder, seed: int, with_control: bool = False) -> None:
    """Search with a model, and with its random directions if it has a table and they are asked for."""
    for run in runs:
        run.add(encoder)
    if with_control and (control := random_control(encoder, seed) if runs else None):
        for run in runs:
            run.add(control, CONTROL)


def results_of(runs: Sequence[OwnRun]) -> list[dict[str, Any]]:
    """Return the entries of all files, each with BM25 beside the models."""
    results = []
    for run in runs:
        if all(system["kind"] != "bm25" for system in run.systems):
            run.add(load_encoder("bm25"))
        results.append(run.result())
    return results
