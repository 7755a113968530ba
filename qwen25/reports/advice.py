"""What to use a model for and what to use instead, said from the numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qwen25.evaluation.categories.all import CATEGORIES
from qwen25.evaluation.recommendations import is_useful, ours_of
from qwen25.evaluation.results import BETTER, Comparison, EvaluationFile, Row, Score
from qwen25.evaluation.standing import Reference, references
from qwen25.evaluation.verdict import MAX_UNRELATED_COSINE
from qwen25.runtime.wording import size_text

#: The kinds that run a network over the text and so cost far more a sentence than a table does.
TRANSFORMERS = ("sentence-transformers", "late interaction")


@dataclass(frozen=True)
class Rival:
    """Another model, as the advice needs it.

    :ivar about: what it is, in a few words.
    :ivar is_transformer: whether a network runs over each text.
    :ivar scores: category -> its score.
    :ivar better_at: the categories at which it is shown to be better.
    """

    name: str
    about: str
    is_transformer: bool
    scores: Mapping[str, Score]
    better_at: frozenset[str]


def evaluation_advice(result: EvaluationFile) -> list[str]:
    """Return what an evaluated model is for, beside the reference models measured on the same items.

    A reference is better where the intervals of the two scores do not overlap.
    """
    own = result["categories"]
    rivals = [_reference(r, own) for r in references(result["items_sha256"]) if r["kind"] != "control"]
    cosine, overall = result["health"]["unrelated_cosine"], result["overall"]
    collapsed = cosine is not None and cosine >= MAX_UNRELATED_COSINE
    proven = [name for name, found in own.items() if not collapsed and _beats(found, found["control"])]
    if collapsed or not _beats(overall, overall["control"]):
        return ["Use another model: this one is not shown to do more than match words.", *_instead(own, rivals)]
    undecided = {name: ahead for name in proven if (ahead := _ahead(name, own[name], rivals))}
    decided = [name for name in proven if name not in undecided]
    return [*_advice("it", own, rivals, decided), *_undecided(own, undecided)]


def _ahead(category: str, score: Score, rivals: Sequence[Rival]) -> Rival | None:
    """Return the best of the rivals that score higher without being shown to be better.

    None where there is none, or where one without a transformer is shown to be better.
    """
    rivals = [rival for rival in rivals if category in rival.scores]
    if any(category in rival.better_at for rival in rivals if not rival.is_transformer):
        return None
    higher = [r for r in rivals if category not in r.better_at and r.scores[category]["score"] > score["score"]]
    return max(higher, key=lambda rival: rival.scores[category]["score"], default=None)


def _undecided(own: Mapping[str, Score], undecided: Mapping[str, Rival]) -> list[str]:
    """Return where another model scores higher, and the intervals of the two overlap."""
    return [
        f"{rival.name} may be better for {CATEGORIES[c].good_for} "
        f"({rival.scores[c]['score']:.3f} against {own[c]['score']:.3f}): their intervals overlap, and only "
        "phase 3, which pairs the items, can tell."
        for c, rival in undecided.items()
    ]


def comparison_advice(comparison: Comparison) -> list[str]:
    """Return what ours is for, beside the models measured in the same run, by paired intervals."""
    ours = ours_of(comparison)
    own = ours["result"]["categories"]
    others = [row for row in comparison["models"] if "difference_to_ours" in row and row["kind"] != "control"]
    rivals = [_peer(row) for row in others]
    if not is_useful(ours):
        about = f"Use another model than {ours['name']}: it is not shown to do more than match words."
        return [about, *_instead(own, rivals)]
    return _advice(ours["name"], own, rivals, [name for name, found in own.items() if _beats(found, found["control"])])


def alternatives(comparison: Comparison) -> list[str]:
    """Return which models are to be used instead of ours, and for what, by paired intervals."""
    others = [row for row in comparison["models"] if "difference_to_ours" in row and row["kind"] != "control"]
    return _instead(ours_of(comparison)["result"]["categories"], [_peer(row) for row in others])


def _advice(name: str, own: Mapping[str, Score], rivals: Sequence[Rival], proven: Sequence[str]) -> list[str]:
    """Return what a model is good for, and what is better where.

    :param proven: the categories at which it is shown to do more than match words.
    """
    unbeaten = [c for c in proven if not any(c in rival.better_at for rival in rivals)]
    beaten = [
        c for c in proven if c not in unbeaten and not any(c in r.better_at for r in rivals if not r.is_transformer)
    ]
    lines = []
    for categories, why in (
        (unbeaten, "nothing measured beside it is better" if rivals else "it does more than match words"),
        (beaten, "no model without a transformer is better"),
    ):
        if categories:
            uses = ", ".join(f"{CATEGORIES[c].good_for} ({own[c]['score']:.3f})" for c in categories)
            lines.append(f"Use {name} for {uses}: {why}.")
    return [*lines, *_instead(own, rivals)]


def _instead(own: Mapping[str, Score], rivals: Sequence[Rival]) -> list[str]:
    """Return, of the transformers and of the others, the best one for each category at which one is better."""
    lines = []
    for is_transformer, start in ((False, "Use"), (True, "Where a transformer can run, use")):
        group = [rival for rival in rivals if rival.is_transformer == is_transformer]
        chosen: dict[str, list[str]] = {}
        for category, score in own.items():
            if better := [rival for rival in group if category in rival.better_at]:
                best = max(better, key=lambda rival: rival.scores[category]["score"])
                numbers = f"{best.scores[category]['score']:.3f} against {score['score']:.3f}"
                about = f"{best.name} ({best.about})"
                chosen.setdefault(about, []).append(f"{CATEGORIES[category].good_for} ({numbers})")
        lines += [f"{start} {about} instead for {', '.join(uses)}." for about, uses in chosen.items()]
    return lines


def _beats(score: Score, control: Score | None) -> bool:
    """Whether a score lies above its control's, by intervals that do not overlap; True without a control."""
    return control is None or score["interval"][0] > control["interval"][1]


def _reference(reference: Reference, own: Mapping[str, Score]) -> Rival:
    scores = reference["categories"]
    better = frozenset(c for c in own if c in scores and _beats(scores[c], own[c]))
    about = _about(reference["what"], reference["size_bytes"])
    return Rival(reference["name"], about, reference["kind"] in TRANSFORMERS, scores, better)


def _peer(row: Row) -> Rival:
    result = row["result"]
    differences = row["difference_to_ours"]["categories"]
    better = frozenset(c for c, found in differences.items() if found["word"] == BETTER)
    about = _about(row["what"] or row["kind"], result["health"]["size_bytes"])
    return Rival(row["name"], about, row["kind"] in TRANSFORMERS, result["categories"], better)


def _about(what: str, size_bytes: int | None) -> str:
    return f"{what}, {size_text(size_bytes)}" if size_bytes else what
