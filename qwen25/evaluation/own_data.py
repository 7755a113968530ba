"""Models on the user's own pairs: what each finds, beside words alone and random directions, and how far they differ.

Every model sees the same queries, documents and resamples, so that differences are paired.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qwen25.evaluation.category import WORST_ITEMS, interval, resampled_means
from qwen25.evaluation.judgement import SAME, word_of
from qwen25.evaluation.models import CONTROL, Encoder, load_encoder, random_control
from qwen25.evaluation.own_pairs import Direction, OwnData, Source, read_among, read_own
from qwen25.evaluation.search import METRICS, Found, find
from qwen25.evaluation.thresholds import score_meaning
from qwen25.runtime.display import progress
from qwen25.runtime.errors import InputError
from qwen25.store.pairs import shared_texts

DIRECTIONS = ("forward", "back")
#: The metric of the first direction by which the best model is named.
DECIDING = METRICS.index("mrr@10")
UNDECIDED = "undecided"
#: Standard errors at which 4 of 5 samples show a difference at 95 %: 1.96 + 0.84 (Cohen 1988, power of 80 %).
DECIDES = 2.8


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
            low, high = interval(replicates[:, i])
            score: dict[str, Any] = {"score": _round(values[:, i].mean()), "interval": [_round(low), _round(high)]}
            if len(self._values) > 1:
                score["difference"] = difference(values[:, i] - base[:, i], replicates[:, i] - base_replicates[:, i])
            scores[metric] = score
        return scores

    def result(self) -> dict[str, Any]:
        """Return the file's entry in a result: what was read, each system, and the best with those not told from it."""
        rivals = [i for i, system in enumerate(self.systems) if system["kind"] != "control"]
        (best, *_), means = sorted(rivals, key=lambda i: -self.systems[i]["forward"]["mrr@10"]["score"]), self._values
        tied = [
            self.systems[i]["name"]
            for i in rivals
            if i != best and word_of(interval(means[best][0][1][:, DECIDING] - means[i][0][1][:, DECIDING])) == SAME
        ]
        chosen = {"name": self.systems[best]["name"], "tied": tied}
        return {**self.data.facts, "best": chosen, "systems": self.systems}


def difference(values: np.ndarray, replicates: np.ndarray) -> dict[str, Any]:
    """Return a paired difference: its value, interval, word, and how many more queries would decide.

    :param values: the difference for each query; shape (queries,).
    :param replicates: its mean on each resample.
    :return: with ``more_queries``, so many that 4 of 5 samples would show a difference of this size; None: it is
        decided, or nothing differs.
    """
    low, high = interval(replicates)
    word, mean = word_of((low, high)), float(values.mean())
    more = None
    if word == SAME:
        word = UNDECIDED
        if abs(mean) > 1e-9 and len(values) > 1:
            more = max(1, math.ceil((DECIDES * float(values.std(ddof=1)) / mean) ** 2) - len(values))
    return {"value": _round(mean), "interval": [_round(low), _round(high)], "word": word, "more_queries": more}


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


def _round(value: float) -> float:
    return round(float(value), 6)


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
