"""What a card may claim: only what the evaluation, the comparison and the published examples all bear out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qwen25.evaluation.categories.all import CATEGORIES
from qwen25.evaluation.categories.multilingual_alignment import LANGUAGES
from qwen25.evaluation.peers import PLAIN
from qwen25.evaluation.recommendations import ours_of
from qwen25.evaluation.results import BETTER, WORSE, ComparisonFile, EvaluationFile, Row
from qwen25.publication.examples import ANSWERED, FOLLOWED, Count
from qwen25.reports.advice import TRANSFORMERS

#: A language has no interval of its own: this much above the control counts as clear.
LANGUAGE_MARGIN = 0.1
#: Category -> the example that shows the same use on a set of its own.
EXAMPLE_OF = {
    "instruction_awareness": ANSWERED,
    "conversational_understanding": "idioms",
    "code_understanding": "code",
}
#: Kinds of sentences that share nearly all words with another and say something else -> what differs.
NEAR_COPIES = {"number": "another number", "negation": "a negation", "role_swap": "swapped roles"}


@dataclass(frozen=True)
class Claims:
    """The witnesses, and what they allow to say.

    :ivar examples: of ``example_counts``.
    """

    evaluation: EvaluationFile
    comparison: ComparisonFile
    examples: Mapping[str, Count]

    def baselines(self) -> list[Row]:
        """Return the measured rows that need no model worth the name: control, words alone, the plain recipe."""
        rows = [row for row in self.comparison["models"] if "difference_to_ours" in row]
        return [row for row in rows if row["kind"] in ("control", "bm25") or row["name"] == PLAIN]

    def beats_control(self, category: str) -> bool:
        """Whether the paired interval of the difference to the random-direction control lies above 0."""
        return self._not_worse_than(category, [row for row in self.baselines() if row["kind"] == "control"]) == []

    def is_use(self, category: str) -> bool:
        """Whether it is shown to be better than every baseline, and its example does not say otherwise."""
        example = EXAMPLE_OF.get(category)
        return not self._not_worse_than(category, self.baselines()) and (
            example is None or self.examples[example].better
        )

    def is_beaten(self, category: str) -> bool:
        """Whether a model without a transformer is shown to be better at it, by the paired interval."""
        rows = [row for row in self.comparison["models"] if "difference_to_ours" in row]
        found = [
            row["difference_to_ours"]["categories"].get(category) for row in rows if row["kind"] not in TRANSFORMERS
        ]
        return any(difference["word"] == BETTER for difference in found if difference)

    def uses(self) -> list[str]:
        """Return what it can be used for, the strongest first, each with its score and the baselines'."""
        scores = self.evaluation["categories"]
        lines = []
        used = [category for category in CATEGORIES if self.is_use(category) and not self.is_beaten(category)]
        for category in sorted(used, key=lambda c: -scores[c]["score"]):
            beside = ", ".join(
                f"{row['name']} {row['result']['categories'][category]['score']:.3f}"
                for row in self.baselines()
                if category in row["result"]["categories"]
            )
            lines.append(f"{CATEGORIES[category].good_for} ({scores[category]['score']:.3f}; {beside})")
        return lines

    def no_uses(self) -> list[str]:
        """Return what it is not claimed to be good for, and which baseline or example says so."""
        lines = []
        for category in (c for c in CATEGORIES if not self.is_use(c)):
            why = [f"{name} is not shown to be worse" for name in self._not_worse_than(category, self.baselines())]
            example = EXAMPLE_OF.get(category)
            if example is not None and not self.examples[example].better:
                why.append(f"the example of {example} does not show it")
            lines.append(f"{CATEGORIES[category].good_for} ({', '.join(why)})")
        return lines

    @property
    def follows_instructions(self) -> bool:
        """Whether both witnesses confirm it on requests that share no word with their answer."""
        found = self.evaluation["categories"]["instruction_awareness"]["sub_scores"]
        gain = found["non_lexical_gain_over_shuffled"]["interval"][0] > 0
        return gain and self.beats_control("instruction_awareness") and self.examples[FOLLOWED].better

    def languages(self) -> list[str]:
        """Return English and the languages whose translations are found clearly more often than by the control."""
        if not self.beats_control("multilingual_alignment"):
            return ["en"]
        control = next(row for row in self.baselines() if row["kind"] == "control")
        ours, random = (
            row["result"]["categories"]["multilingual_alignment"]["sub_scores"]["by_language"]
            for row in (ours_of(self.comparison), control)
        )
        return ["en", *(name for name in LANGUAGES[1:] if ours[name] > random[name] + LANGUAGE_MARGIN)]

    def duplicates(self) -> str:
        """Return in a sentence whether duplicates can be told from near copies that say something else."""
        found = self.evaluation["categories"]["semantic_similarity"]["sub_scores"]["preferred_to_negative"]
        told = {what: found[kind] for kind, what in NEAR_COPIES.items() if kind in found}
        numbers = ", ".join(f"with {what} {share:.0%}" for what, share in told.items())
        if min(told.values(), default=0.0) > 0.5:
            return f"Duplicates are told from near copies: a paraphrase is nearer than a copy {numbers} of the time."
        return (
            "Not for deciding whether two near copies say the same: a paraphrase is nearer than a copy "
            f"{numbers} of the time. As duplicates it finds what shares words and topic; check them by other means."
        )

    def _not_worse_than(self, category: str, baselines: list[Row]) -> list[str]:
        """Return the baselines that have the category and are not shown to be worse at it."""
        found = {row["name"]: row["difference_to_ours"]["categories"].get(category) for row in baselines}
        return [name for name, difference in found.items() if difference and difference["word"] != WORSE]
