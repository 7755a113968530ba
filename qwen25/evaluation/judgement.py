"""What is said from numbers: the verdict, who is better, which model serves which need. The only owner of these rules.

Every function takes the content of result files (their schemas are in ``qwen25/data/schema``) and computes no score.
Two scores are compared by one rule everywhere: by the paired interval of their difference where it was measured, else
by whether their own intervals overlap. The sentences of advice are those of terminal, reports and card alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from qwen25.evaluation.categories import CATEGORIES, WEIGHTS
from qwen25.evaluation.models import PLAIN
from qwen25.runtime.files import read_result, resource
from qwen25.runtime.text import rate_text, size_text, with_interval

Result = dict[str, Any]

#: The words for a difference of two scores.
BETTER, WORSE, SAME = "better", "worse", "no difference shown"
#: The category that the decision table asks for beside the overall score.
DECISIVE = "instruction_awareness"
#: (verdict, least overall score, least instruction-awareness score), best first.
DECISION_TABLE = (
    ("Excellent", 0.75, 0.65),
    ("Very good", 0.70, 0.60),
    ("Good", 0.65, 0.55),
    ("Fair", 0.60, 0.50),
)
POOR = "Poor"
MAX_UNRELATED_COSINE = 0.5  # of a space that has not collapsed
#: Speeds that differ by less than this share are alike.
SPEED_NOISE = 0.1
#: A language has no interval of its own: this much above the control counts as clear.
LANGUAGE_MARGIN = 0.1
#: The kinds that run a network over the text and so cost far more a sentence than a table does.
TRANSFORMERS = ("sentence-transformers", "late interaction")


def word_of(interval: Sequence[float]) -> str:
    """Return the word for a difference with this 95 % interval."""
    low, high = interval
    return BETTER if low > 0 else WORSE if high < 0 else SAME


def compared(score: Result, other: Result, difference: Result | None = None) -> str:
    """Return whether a score is better or worse than another, or no difference is shown.

    :param difference: of the two (score minus other), paired by items; None: not measured.
    """
    if difference is not None:
        return str(difference["word"])
    return word_of([score["interval"][0] - other["interval"][1], score["interval"][1] - other["interval"][0]])


def beats_control(score: Result) -> bool:
    """Whether a score is better than that of its random-direction control; True if it has none.

    :param score: with its ``control``, and in that, where it was measured, their paired ``difference``.
    """
    control = score["control"]
    return control is None or compared(score, control, control.get("difference")) == BETTER


def is_collapsed(result: Result) -> bool:
    """Whether a model gives unrelated texts similar vectors."""
    cosine = result["health"].get("unrelated_cosine")
    return cosine is not None and cosine >= MAX_UNRELATED_COSINE


def is_baseline(kind: str, name: str) -> bool:
    """Whether a model must beat this row to be of any use: random directions, words alone, the plain recipe."""
    return kind in ("control", "bm25") or name == PLAIN


def is_useful(row: Result) -> bool:
    """Whether a measured row of a comparison, as a whole, does more than match words."""
    return row["kind"] != "control" and _is_more_than_words(row["result"])


def _is_more_than_words(result: Result) -> bool:
    return beats_control(result["overall"]) and not is_collapsed(result)


def follows_instructions(result: Result) -> bool:
    """Whether requests without a shared word find their answer, more often than with shuffled instructions."""
    found = result["categories"].get(DECISIVE)
    return found is not None and found["sub_scores"]["follows_instructions"] and beats_control(found)


def verdict(result: Result) -> Result:
    """Apply the decision table behind two gates: a model that only matches words, or has collapsed, is Poor.

    :param result: an evaluation with ``categories``, ``overall`` and ``health``.
    :return: ``verdict``, None if a category is missing, and ``reasons``.
    """
    scores, overall = result["categories"], result["overall"]
    if missing := [name for name in WEIGHTS if name not in scores]:
        return {"verdict": None, "reasons": [f"no verdict without all six categories (left out: {', '.join(missing)})"]}
    reasons = []
    if not beats_control(overall):
        reasons.append(
            f"overall {overall['score']:.3f} does not beat its random-direction control "
            f"({overall['control']['score']:.3f}) by more than the interval: it matches words"
        )
    if is_collapsed(result):
        cosine = result["health"]["unrelated_cosine"]
        reasons.append(f"unrelated texts have a mean cosine of {cosine:.2f} (limit {MAX_UNRELATED_COSINE}): collapsed")
    if reasons:
        return {"verdict": POOR, "reasons": reasons}
    for name, least, least_instruction in DECISION_TABLE:
        asked = f"overall >= {least} and instruction >= {least_instruction}"
        if overall["score"] >= least and scores[DECISIVE]["score"] >= least_instruction:
            return {"verdict": name, "reasons": [asked]}
    return {"verdict": POOR, "reasons": [f"below {DECISION_TABLE[-1][0]}, which asks for {asked}"]}


def standing(items_sha256: Mapping[str, str]) -> list[Result]:
    """Return the stored scores of reference models, best first; none if they were measured on other items.

    :param items_sha256: category -> SHA-256 of its items, as a result holds it.
    """
    stored = _standing_file()
    same = bool(items_sha256) and items_sha256.items() <= stored["items_sha256"].items()
    return list(stored["models"]) if same else []


@cache
def _standing_file() -> Result:
    path = resource("data/evaluation") / "reference_standing.json"
    return dict(read_result(path, "standing", "python -m benchmarks.reference_standing"))


class Advice(NamedTuple):
    """What a model is for, what to use instead, and what is not claimed: sentences."""

    uses: list[str]
    instead: list[str]
    not_claimed: list[str]

    @property
    def lines(self) -> list[str]:
        """The sentences in this order."""
        return [*self.uses, *self.instead, *self.not_claimed]


def evaluation_advice(evaluation: Result) -> Advice:
    """Return what an evaluated model is for, beside the reference models that were measured on the same items."""
    rows = [
        {
            **model,
            "result": {"categories": model["categories"], "health": {"size_bytes": model["size_bytes"]}},
            "difference_to_ours": {"categories": {}},
        }
        for model in standing(evaluation["items_sha256"])
    ]
    return _advice("it", evaluation, rows)


def comparison_advice(comparison: Result) -> Advice:
    """Return what the first model of a comparison is for, beside the others that were measured with it."""
    rows = [row for row in comparison["models"] if "difference_to_ours" in row]
    return _advice(comparison["ours"], ours_of(comparison)["result"], rows)


def _advice(name: str, result: Result, rows: Sequence[Result]) -> Advice:
    """Return the advice for a model with this result.

    :param rows: the others; their ``difference_to_ours`` holds the categories that were paired.
    """
    own, others = result["categories"], [row for row in rows if row["kind"] != "control"]
    instead = _instead(own, others)
    if not _is_more_than_words(result):
        return Advice([f"Use another model than {name}: it is not shown to do more than match words."], instead, [])
    doubts = {c: _doubts(c, own[c], others) for c in own}
    better = {c: [row for row in others if _against(row, c, own[c]) == BETTER] for c in own}
    # Those at which only transformers are better, if anything is.
    first = [c for c in own if all(map(_is_transformer, better[c]))]
    best = [c for c in first if not better[c] and not doubts[c]]
    of_tables = [c for c in first if better[c] and not doubts[c]]
    unbeaten = "nothing measured beside it is better" if others else "it does more than match words"
    uses = []
    for categories, why in ((best, unbeaten), (of_tables, "no model without a transformer is better")):
        if categories:
            by_score = sorted(categories, key=lambda c: -own[c]["score"])
            named = ", ".join(f"{CATEGORIES[c].good_for} ({own[c]['score']:.3f})" for c in by_score)
            uses.append(f"Use {name} for {named}: {why}.")
    not_claimed = [
        f"Not claimed for {CATEGORIES[c].good_for} ({own[c]['score']:.3f}): {'; '.join(doubts[c])}."
        for c in first  # elsewhere another model is advised instead
        if doubts[c]
    ]
    return Advice(uses, instead, not_claimed)


def _is_transformer(row: Result) -> bool:
    return row["kind"] in TRANSFORMERS


def _against(row: Result, category: str, score: Result) -> str | None:
    """Return the word for another model beside our score in a category; None if it has no score there."""
    if category not in row["result"]["categories"]:
        return None
    paired = row["difference_to_ours"]["categories"]
    return compared(score_of(row, category), score, paired.get(category))


def _doubts(category: str, score: Result, others: Sequence[Result]) -> list[str]:
    """Return why a model is not claimed to be good at a category, apart from others that are better."""
    doubts = [] if beats_control(score) else ["random directions are not shown to be worse"]
    higher = []
    for row in others:
        if _against(row, category, score) == SAME:
            named = f"{row['name']} ({score_of(row, category)['score']:.3f})"
            if is_baseline(row["kind"], row["name"]):
                doubts.append(f"{named} is not shown to be worse")
            elif (
                category not in row["difference_to_ours"]["categories"]
                and score_of(row, category)["score"] > score["score"]
            ):
                higher.append(named)
    if higher:
        doubts.append(f"{', '.join(higher)} may be better, which only phase 3, by pairing the items, can tell")
    return doubts


def _instead(own: Mapping[str, Result], others: Sequence[Result]) -> list[str]:
    """Return, of the transformers and of the others, the best one for each category at which one is better."""
    lines = []
    for is_transformer, start in ((False, "Use"), (True, "Where a transformer can run, use")):
        chosen: dict[str, list[str]] = {}
        for category, score in own.items():
            group = [row for row in others if _is_transformer(row) == is_transformer]
            if better := [row for row in group if _against(row, category, score) == BETTER]:
                best = max(better, key=lambda row: score_of(row, category)["score"])
                about, size = best["what"] or best["kind"], size_of(best)
                numbers = f"{score_of(best, category)['score']:.3f} against {score['score']:.3f}"
                chosen.setdefault(f"{best['name']} ({about}{f', {size_text(size)}' if size else ''})", []).append(
                    f"{CATEGORIES[category].good_for} ({numbers})"
                )
        lines += [f"{start} {about} instead for {', '.join(uses)}." for about, uses in chosen.items()]
    return lines


def ours_of(comparison: Result) -> Result:
    """Return the row that the others are compared with."""
    found: Result = next(row for row in comparison["models"] if row["name"] == comparison["ours"])
    return found


def is_complete(row: Result, ours: Result) -> bool:
    """Whether a row was measured on every category that ours was, so that their overalls compare."""
    return "result" in row and set(row["result"]["categories"]) == set(ours["result"]["categories"])


def ranked(comparison: Result) -> list[Result]:
    """Return the rows measured on every category, best first."""
    rows = [row for row in comparison["models"] if is_complete(row, ours_of(comparison))]
    return sorted(rows, key=lambda row: -row["result"]["overall"]["score"])


def size_of(row: Result) -> int | None:
    """Return the size of a measured row's files in bytes, or None if it takes nothing on disk."""
    size: int | None = row["result"]["health"]["size_bytes"]
    return size


def _smallest_first(comparison: Result) -> list[Result]:
    """Return the useful rows that have a size; of one size, the best first."""
    return sorted((row for row in ranked(comparison) if size_of(row) and is_useful(row)), key=lambda r: size_of(r) or 0)


def frontier(comparison: Result) -> list[Result]:
    """Return the useful rows that no smaller (or equally small) one beats, smallest first (Pareto)."""
    found: list[Result] = []
    for row in _smallest_first(comparison):
        if not found or row["result"]["overall"]["score"] > found[-1]["result"]["overall"]["score"]:
            found.append(row)
    return found


def score_of(row: Result, category: str | None) -> Result:
    """Return a measured row's score in a category; None: overall."""
    found: Result = row["result"]["overall"] if category is None else row["result"]["categories"][category]
    return found


def are_tied(first: Result, row: Result, category: str | None) -> bool:
    """Whether the numbers do not tell two rows apart: paired where one of them is ours."""
    paired = [r["difference_to_ours"] for r in (first, row) if "difference_to_ours" in r]
    difference = None
    if len(paired) == 1:
        difference = paired[0]["overall"] if category is None else paired[0]["categories"].get(category)
    return compared(score_of(first, category), score_of(row, category), difference) == SAME


def best_rows(rows: Sequence[Result], category: str | None) -> list[Result]:
    """Return the row with the best score in a category and those tied with it, best first; None: overall."""
    scored = [row for row in rows if "result" in row and row["kind"] != "control"]
    scored = [row for row in scored if category is None or category in row["result"]["categories"]]
    scored.sort(key=lambda row: -score_of(row, category)["score"])
    return [row for row in scored if row is scored[0] or are_tied(scored[0], row, category)]


def fastest_rows(rows: Sequence[Result]) -> list[Result]:
    """Return the rows that are as fast as the fastest, within what runs differ by, in the order given."""
    rows = [row for row in rows if "result" in row and row["kind"] != "control"]
    limit = (1 - SPEED_NOISE) * max(map(_speed, rows), default=0.0)
    return [row for row in rows if _speed(row) >= limit]


def _speed(row: Result) -> float:
    return float(row["result"]["health"]["sentences_per_second"])


def recommendations(comparison: Result) -> list[Result]:
    """Return, for each need, the ``model`` that serves it best, those ``tied`` with it, and ``because``, the numbers.

    Only models that do more than match words are recommended as a whole; for a single category anything measured
    may win, BM25 too.
    """
    useful = [row for row in ranked(comparison) if is_useful(row)]
    found = _best("best quality", useful, None)
    if sized := _smallest_first(comparison):
        first, *others = sized
        because = f"{size_text(size_of(first))}; overall {with_interval(score_of(first, None))}"
        because += f"; next {others[0]['name']}, {size_text(size_of(others[0]))}" if others else ""
        found.append(_recommendation("smallest", [first], because))
    if useful:
        first, *tied = fastest = fastest_rows(useful)  # ranked: the best one is first
        because = f"{rate_text(_speed(first))}; overall {with_interval(score_of(first, None))}"
        speeds = ", ".join(f"{row['name']}, {rate_text(_speed(row))}" for row in tied)
        because += f"; tied within a tenth with {speeds}" if tied else ""
        found.append(_recommendation("fastest", fastest, because))
    for name, category in CATEGORIES.items():
        if category.need:
            found += _best(category.need, comparison["models"], name)
    return found


def _recommendation(need: str, rows: Sequence[Result], because: str) -> Result:
    first, *tied = (row["name"] for row in rows)
    return {"need": need, "model": first, "tied": tied, "because": because}


def _best(need: str, rows: Sequence[Result], category: str | None) -> list[Result]:
    """Recommend the best of the rows, with its score and those of the rows tied with it, else of the next one."""
    best = best_rows(rows, category)
    if not best:
        return []
    beside = best[1:] or best_rows([row for row in rows if row is not best[0]], category)[:1]
    names = ", ".join(f"{row['name']} {with_interval(score_of(row, category))}" for row in beside)
    because = with_interval(score_of(best[0], category))
    because += f"; {'tied with' if best[1:] else 'next'} {names}" if beside else ""
    return [_recommendation(need, best, because)]


def languages(comparison: Result) -> list[str]:
    """Return English and the languages whose translations ours finds clearly more often than the control."""
    name, ours = "multilingual_alignment", ours_of(comparison)["result"]["categories"]
    control = next((row["result"]["categories"] for row in comparison["models"] if row.get("kind") == "control"), None)
    if control is None or not beats_control(ours[name]):
        return ["en"]
    own, random = (scores[name]["sub_scores"]["by_language"] for scores in (ours, control))
    return ["en", *(code for code in own if own[code] > random[code] + LANGUAGE_MARGIN)]
