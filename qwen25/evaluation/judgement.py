"""What is said from numbers: the verdict, who is better, what a model is for. The only owner of these rules.

Every function takes the content of result files (their schemas are in ``qwen25/data/schema``) and computes no score.
A model stands among those measured with it and, where one was not, its stored reference score on the same items.
Two scores are compared by one rule everywhere: by the paired interval of their difference where it was measured, else
by whether their own intervals overlap. The sentences are those of terminal, reports, card and page alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from qwen25.evaluation.categories import CATEGORIES, WEIGHTS
from qwen25.evaluation.models import CONTROL, PLAIN
from qwen25.runtime.files import read_json, resource
from qwen25.runtime.text import difference_text, rate_text, size_text

Result = dict[str, Any]

#: The words for a difference of two scores.
BETTER, WORSE, SAME = "better", "worse", "no difference shown"
#: How the row of a reference model was obtained that this run did not measure.
REFERENCE = "reference (same items, kept run)"
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
#: The kinds that run a network over the text and so cost far more a sentence than a table does.
TRANSFORMERS = ("sentence-transformers", "late interaction")
#: Kinds of sentences that share nearly all words with another and say something else -> what differs.
NEAR_COPIES = {"number": "another number", "negation": "a negation", "role_swap": "swapped roles"}


def word_of(interval: Sequence[float]) -> str:
    """Return the word for a difference with this 95 % interval."""
    low, high = interval
    return BETTER if low > 0 else WORSE if high < 0 else SAME


def difference(score: Result, other: Result) -> Result:
    """Return a score minus another, with the interval of two that are not paired, which is wide, and its word."""
    low, high = score["interval"][0] - other["interval"][1], score["interval"][1] - other["interval"][0]
    return {"value": score["score"] - other["score"], "interval": [low, high], "word": word_of([low, high])}


def beats_control(score: Result) -> bool:
    """Whether a score is better than that of its random-direction control; True if it has none.

    :param score: with its ``control``, and in that, where it was measured, their paired ``difference``.
    """
    control = score.get("control")
    return control is None or (control.get("difference") or difference(score, control))["word"] == BETTER


def is_collapsed(result: Result) -> bool:
    """Whether a model gives unrelated texts similar vectors."""
    cosine = result["health"].get("unrelated_cosine")
    return cosine is not None and cosine >= MAX_UNRELATED_COSINE


def is_useful(row: Result) -> bool:
    """Whether a row, as a whole, does more than match words."""
    return row["kind"] != "control" and beats_control(row["result"]["overall"]) and not is_collapsed(row["result"])


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


def references(items_sha256: Mapping[str, str]) -> list[Result]:
    """Return the stored scores of reference models, best first; none if they were measured on other items.

    :param items_sha256: category -> SHA-256 of its items, as a result holds it.
    """
    stored = read_json(resource("data/evaluation") / "reference_standing.json")
    same = bool(items_sha256) and items_sha256.items() <= stored["items_sha256"].items()
    # The control of another model is none of this one's.
    return [model for model in stored["models"] if model["kind"] != "control"] if same else []


def ours_of(result: Result) -> Result:
    """Return the row that the others are compared with; an evaluation is one alone."""
    alone = {"name": result.get("model", {}).get("name"), "kind": "", "what": "ours", "result": result}
    return next((row for row in result.get("models", ()) if row["name"] == result["ours"]), alone)


def standing(result: Result) -> list[Result]:
    """Return the rows that a model stands among: its own, those measured beside it, then references that were not.

    :param result: an evaluation or a comparison.
    :return: rows as a comparison has them; all but the first have their ``difference_to_ours``. Overall scores
        of other categories than ours would not compare, and are None.
    """
    ours = ours_of(result)
    own = ours["result"]
    measured = [row for row in result.get("models", ()) if "result" in row and row is not ours]
    rows = [{**row, "result": _comparable(row["result"], own)} for row in measured]
    if "models" not in result and own["overall"]["control"]:
        control = {"name": CONTROL, "what": "", "kind": "control", "size_bytes": None}
        categories = {name: score["control"] for name, score in own["categories"].items()}
        rows.append(_row({**control, "overall": own["overall"]["control"], "categories": categories}, own))
    names = {row["name"] for row in [ours, *rows]}
    kept = [model for model in references(result["items_sha256"]) if model["name"] not in names]
    return [ours, *rows, *({**_row(model, own), "obtained": REFERENCE} for model in kept)]


def _comparable(found: Result, own: Result) -> Result:
    """Return a result without an overall score if it was not measured on just the categories of ours."""
    return found if set(found["categories"]) == set(own["categories"]) else {**found, "overall": None}


def _row(model: Result, own: Result) -> Result:
    """Return the row of a model of which only the scores are there, beside our result."""
    model, mine = _comparable(model, own), scores_of(own)
    differences = {c: _beside(score, mine[c]) for c, score in scores_of(model).items() if c in mine and score}
    overall = differences.pop("overall", None)
    found = {**model, "health": {"size_bytes": model["size_bytes"]}}
    return {**model, "result": found, "difference_to_ours": {"overall": overall, "categories": differences}}


def _beside(score: Result, own: Result) -> Result:
    """Return a score minus ours; that of our own control is paired."""
    if not score.get("difference"):
        return difference(score, own)
    low, high = score["difference"]["interval"]
    return {"value": -score["difference"]["value"], "interval": [-high, -low], "word": word_of([-high, -low])}


def ranked(result: Result) -> list[Result]:
    """Return the rows that a model stands among and that have every category, best first."""
    return _by_score(standing(result), "overall")


def _by_score(rows: Iterable[Result], category: str) -> list[Result]:
    """Return the rows that have a score in a category, or ``overall``, best first."""
    scored = [row for row in rows if scores_of(row["result"]).get(category)]
    return sorted(scored, key=lambda row: -score_of(row, category))


def scores_of(found: Result) -> dict[str, Result]:
    """Return what a result, or a difference to ours, has for each category and, last, ``overall``."""
    return {**found["categories"], "overall": found["overall"]}


def score_of(row: Result, category: str) -> float:
    """Return a row's score in a category, or ``overall``."""
    return float(scores_of(row["result"])[category]["score"])


def against_ours(row: Result, category: str) -> str | None:
    """Return the word for a row beside ours in a category, or ``overall``; None if it has no score there."""
    found = scores_of(row["difference_to_ours"]).get(category)
    return str(found["word"]) if found else None


def _named(rows: Sequence[Result], category: str, most: int = 3) -> str:
    """Return the names of rows with their scores, and how many more there are."""
    names = [f"{row['name']} ({score_of(row, category):.3f})" for row in rows[:most]]
    return ", ".join(names) + (f" and {len(rows) - most} more" if len(rows) > most else "")


class Advice(NamedTuple):
    """What a model is for, and what is better or not claimed: sentences, by falling score."""

    uses: list[str]
    others: list[str]

    @property
    def lines(self) -> list[str]:
        """The sentences in this order."""
        return [*self.uses, *self.others]


def advice(result: Result) -> Advice:
    """Return what a model is for, category by category.

    It is for what nothing without a transformer is better at, or may be: random directions, words alone and the plain
    recipe if they are not shown to be worse, and whatever has a higher score.

    :param result: an evaluation or a comparison.
    """
    ours, *others = standing(result)
    said = []
    for category, own in ours["result"]["categories"].items():
        rows = _by_score(others, category)
        better = [row for row in rows if against_ours(row, category) == BETTER]
        tables = [row for row in better if row["kind"] not in TRANSFORMERS]
        transformers = [row for row in better if row["kind"] in TRANSFORMERS]
        rivals = [row for row in rows if against_ours(row, category) == SAME and _is_rival(row, category, own)]
        about = f"{CATEGORIES[category].good_for} ({own['score']:.3f})"
        first = _named(transformers[:1], category)
        if tables:
            also = f", and the transformer {first}" if first else ""
            sentence = f"Not for {about}: {_named(tables[:1], category)} is better{also}."
        elif rivals:
            also = f"; {first} is better" if first else ""
            sentence = f"Undecided for {about}: {_named(rivals, category, 1)} may be as good{also}."
        elif first:
            sentence = f"Use it for {about} where no transformer can run: {first} is better."
        else:
            sentence = f"Use it for {about}: nothing beside it is better."
        said.append((bool(tables or rivals), bool(first), -own["score"], sentence))
    said.sort()
    uses, more = ([sentence for is_other, *_, sentence in said if is_other is wanted] for wanted in (False, True))
    if is_useful(ours):
        return Advice(uses, more)
    return Advice([], ["Use another model: it is not shown to do more than match words.", *more])


def _is_rival(row: Result, category: str, own: Result) -> bool:
    """Whether a row that is not shown to differ from ours stands in the way of a claim."""
    is_baseline = row["kind"] in ("control", "bm25") or row["name"] == PLAIN
    return is_baseline or score_of(row, category) > own["score"]


def summary(result: Result) -> list[str]:
    """Return all that is said of a model in short: verdict, overall standing, advice, instructions, cost.

    :param result: an evaluation or a comparison.
    """
    own = ours_of(result)["result"]
    cost = frontier_lines(result) if "models" in result else []
    instruction = [instruction_line(own)] if DECISIVE in own["categories"] else []
    return [verdict_line(own), *overall_lines(result), *advice(result).lines, *instruction, health_line(own), *cost]


def verdict_line(result: Result) -> str:
    """Return the verdict of an evaluation, its scale and its reasons."""
    scale = ", ".join([POOR, *(name for name, _, _ in reversed(DECISION_TABLE))])
    reasons = "; ".join(result["verdict"]["reasons"])
    return f"Verdict: {result['verdict']['verdict'] or 'none'}, on the scale {scale} ({reasons})."


def overall_lines(result: Result) -> list[str]:
    """Return what is better overall, undecided and worse, each in a sentence."""
    ours, *others = standing(result)
    ranking = _by_score(others, "overall")
    groups = {w: [row for row in ranking if against_ours(row, "overall") == w] for w in (BETTER, SAME, WORSE)}
    better = f"better than it: {_named(groups[BETTER], 'overall')}" if groups[BETTER] else "nothing beside it is better"
    lines = [f"Overall {score_of(ours, 'overall'):.3f} (0 is chance, 1 perfect); {better}."]
    told = {SAME: "Undecided whether better or worse overall", WORSE: "Worse than it overall"}
    return lines + [f"{what}: {_named(groups[word], 'overall')}." for word, what in told.items() if groups[word]]


def instruction_line(result: Result) -> str:
    """Return whether an evaluated model follows instructions or matches words, with the numbers that say so."""
    found = result["categories"][DECISIVE]["sub_scores"]
    gain = difference_text(found["non_lexical_gain_over_shuffled"])
    numbers = f"{found['intent_non_lexical_requests']:.3f}, {gain} over shuffled instructions"
    if follows_instructions(result):
        return f"Instruction-awareness confirmed on requests without shared words: {numbers}."
    return f"It matches words, not instructions; requests without shared words: {numbers}."


def duplicates_line(result: Result) -> str:
    """Return how often an evaluated model tells a paraphrase from a near copy that says something else."""
    found = result["categories"]["semantic_similarity"]["sub_scores"]["preferred_to_negative"]
    told = ", ".join(f"{found[kind]:.0%} ({what})" for kind, what in NEAR_COPIES.items() if kind in found)
    return f"Not for telling a paraphrase from a near copy that says something else: right in {told}."


def health_line(result: Result) -> str:
    """Return what an evaluated model looks like and costs, in a sentence."""
    health, half = result["health"], result.get("half")
    facts = [f"{rate_text(health['sentences_per_second'])}, {health['latency_p50_ms']:.2f} ms a query"]
    if health["unrelated_cosine"] is not None:  # BM25 has no cosines, and takes nothing on disk
        facts.insert(0, f"Unrelated texts: cosine {health['unrelated_cosine']:.3f}")
    if health["size_bytes"] is not None:
        facts[-1] += f", {size_text(health['size_bytes'])} on disk"
    facts += [f"its first {half['dims']} dimensions alone score {half['score']:.3f}"] if half else []
    return f"{'; '.join(facts)}."


def frontier(result: Result) -> list[Result]:
    """Return the useful rows that no smaller (or equally small) one beats, smallest first (Pareto)."""
    found: list[Result] = []
    rows = [row for row in ranked(result) if row["result"]["health"]["size_bytes"] and is_useful(row)]
    for row in sorted(rows, key=lambda row: row["result"]["health"]["size_bytes"]):
        if not found or score_of(row, "overall") > score_of(found[-1], "overall"):
            found.append(row)
    return found


def frontier_lines(result: Result) -> list[str]:
    """Return which models are the best for their size, and the fastest that does more than match words."""
    edge = ", ".join(row["name"] for row in frontier(result))
    lines = [f"Best for its size, smallest first: {edge}."] if edge else []
    if fastest := fastest_rows([row for row in ranked(result) if is_useful(row)]):
        also = f"; within a tenth: {', '.join(row['name'] for row in fastest[1:])}" if fastest[1:] else ""
        lines.append(f"Fastest measured here: {fastest[0]['name']} ({rate_text(_speed(fastest[0]))}){also}.")
    return lines


def best_rows(rows: Iterable[Result], category: str) -> list[Result]:
    """Return the row with the best score in a category, or ``overall``, and those tied with it, best first."""
    scored = _by_score((row for row in rows if row["kind"] != "control"), category)
    return [row for row in scored if row is scored[0] or _are_tied(scored[0], row, category)]


def _are_tied(first: Result, row: Result, category: str) -> bool:
    """Whether the numbers do not tell two rows apart: paired where one of them is ours."""
    others = [r for r in (first, row) if "difference_to_ours" in r]
    if len(others) == 1:
        return against_ours(others[0], category) == SAME
    one, other = (scores_of(found["result"])[category] for found in (first, row))
    return difference(one, other)["word"] == SAME


def fastest_rows(rows: Sequence[Result]) -> list[Result]:
    """Return the rows that are as fast as the fastest, within what runs differ by, in the order given."""
    rows = [row for row in rows if row["kind"] != "control" and _speed(row)]
    limit = (1 - SPEED_NOISE) * max(map(_speed, rows), default=0.0)
    return [row for row in rows if _speed(row) >= limit]


def _speed(row: Result) -> float:
    return float(row["result"]["health"].get("sentences_per_second", 0.0))
