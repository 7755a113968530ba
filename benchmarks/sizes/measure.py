"""What each form of each size scores, beside the whole table and the product's own form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.public_data import PublicScore
from benchmarks.sizes.forms import DEFAULT, FORMS, Made, Whole, make
from qwen25.evaluation.encoder import static_encoder
from qwen25.evaluation.evaluate import Evaluation, evaluate
from qwen25.evaluation.fields import Item
from qwen25.evaluation.statistics import interval
from qwen25.store.quantisation import Stored

#: In 10^6 bytes: what a page takes, up to twice what the model was announced with, and the whole table as float16.
BUDGETS_MB = (8.0, 16.0, 33.0, 65.0, 130.0, 311.0)
QUICK_BUDGETS_MB = (8.0, 65.0)
#: The sizes that are scored on public data too, and that the summary speaks of.
TINY_MB, SHOWN_MB = 8.0, 65.0
PUBLIC_MB = (TINY_MB, SHOWN_MB)
#: The name of the row that differences are taken from.
WHOLE = "whole"
Row = dict[str, Any]


@dataclass
class Scores:
    """What one model scores.

    :ivar ours: set of items -> its evaluation.
    :ivar public: what the public scorer says of it, if it was asked.
    """

    ours: dict[str, Evaluation]
    public: Row | None = None


@dataclass(frozen=True)
class Scorer:
    """Scores models on sets of items and on the public data.

    :ivar sets: name -> category -> items.
    """

    sets: dict[str, dict[str, list[Item]]]
    public: PublicScore | None
    seed: int

    def score(self, name: str, made: Made, with_public: bool, known: Scores | None = None) -> Scores:
        """Score a model, but for what is known of it already."""
        encoder = static_encoder(name, made.model())
        found = known or Scores(
            {
                kind: evaluate(encoder, items, self.seed, with_control=False, with_health=False)
                for kind, items in self.sets.items()
            }
        )
        if with_public and self.public is not None and found.public is None:
            found.public = self.public(encoder.encode)
        return found


def measure(whole: Whole, scorer: Scorer, budgets: tuple[float, ...]) -> list[Row]:
    """Score the whole table, then every form at every size, as rows of the result."""
    table = Made(Stored(whole.vectors), whole.vocabulary.tokenizer)
    reference = scorer.score(whole.name, table, True)
    rows = [{**_facts(WHOLE, None, table), **_scores(reference, reference, reference)}]
    # Where all rows are kept, forms and sizes give one model: it is scored once.
    complete: dict[tuple[str, int], Scores] = {}
    for budget in budgets:
        facts, scores = {}, {}
        for form in FORMS:
            made = make(whole, FORMS[form], budget)
            shape = (FORMS[form].storage, made.stored.table.shape[1])
            keeps_all = len(made.stored.table) == len(whole.vectors)
            known = complete.get(shape) if keeps_all else None
            scores[form] = scorer.score(f"{whole.name}, {FORMS[form].label}", made, budget in PUBLIC_MB, known)
            if keeps_all:
                complete[shape] = scores[form]
            facts[form] = _facts(form, budget, made)
            print(f"{scores[form].ours['evaluation'].overall:.3f}  {budget:g} MB, {FORMS[form].label}", flush=True)
        rows += [{**facts[form], **_scores(scores[form], reference, scores[DEFAULT])} for form in FORMS]
    return rows


def _facts(form: str, budget: float | None, made: Made) -> Row:
    rows, dims = made.stored.table.shape
    size = sum(part.nbytes for part in made.stored if part is not None)
    return {"form": form, "budget_mb": budget, "tokens": made.tokens, "rows": rows, "dims": dims, "bytes": size}


def _scores(scores: Scores, reference: Scores, default: Scores) -> Row:
    """Return scores with their differences from the whole table's and from those of the product's form."""
    found: Row = {"public": scores.public}
    for kind, one in scores.ours.items():
        base, ours = reference.ours[kind], default.ours[kind]
        found[kind] = {
            "score": one.overall,
            "interval": one.interval,
            "difference": _difference(one.overall, one.replicates, base.overall, base.replicates),
            "beside_default": _difference(one.overall, one.replicates, ours.overall, ours.replicates),
            "categories": {
                name: {
                    "score": mine.score,
                    "difference": _difference(
                        mine.score, mine.replicates, base.categories[name].score, base.categories[name].replicates
                    ),
                }
                for name, mine in one.categories.items()
            },
        }
    return found


def _difference(score: float, replicates: np.ndarray, base: float, base_replicates: np.ndarray) -> Row:
    """Return the difference of two scores on the same resamples of the items, with its 95 % interval."""
    return {"value": score - base, "interval": interval(replicates - base_replicates)}
