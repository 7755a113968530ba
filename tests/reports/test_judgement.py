"""What is said from numbers, by one rule each, and the same in all reports."""

from __future__ import annotations

import re
from typing import Any

import pytest
from conftest import EVAL_DATA
from tiny_results import ours, set_difference, set_score, unmeasured

from qwen25.evaluation import judgement
from qwen25.evaluation.categories import CATEGORIES, items_sha256
from qwen25.evaluation.judgement import REFERENCE, SAME, WORSE, advice, summary, verdict
from qwen25.runtime.files import read_json, schema_fault

Result = dict[str, Any]


def score(low: float, high: float, **more: Any) -> Result:
    return {"score": (low + high) / 2, "interval": [low, high], **more}


class TestVerdict:
    @pytest.mark.parametrize(
        ("overall", "instruction", "name"),
        [
            (0.76, 0.66, "Excellent"),
            (0.76, 0.61, "Very good"),
            (0.66, 0.9, "Good"),
            (0.61, 0.51, "Fair"),
            (0.9, 0.4, "Poor"),
        ],
    )
    def test_the_decision_table(self, evaluation: Result, overall: float, instruction: float, name: str) -> None:
        set_score(evaluation["overall"], overall)
        set_score(evaluation["categories"]["instruction_awareness"], instruction)
        assert verdict(evaluation)["verdict"] == name

    def test_two_gates(self, evaluation: Result) -> None:
        set_score(evaluation["overall"], 0.8)
        evaluation["overall"]["control"] = score(0.7, 0.9)
        evaluation["health"]["unrelated_cosine"] = 0.6
        found = verdict(evaluation)
        assert found["verdict"] == "Poor" and len(found["reasons"]) == 2
        assert "it matches words" in found["reasons"][0] and "collapsed" in found["reasons"][1]


class TestStanding:
    def test_the_references_were_measured_on_the_items_that_are_here(self) -> None:
        assert schema_fault(read_json(EVAL_DATA / "reference_standing.json"), "standing") is None
        names = {model["name"] for model in judgement.references(items_sha256())}
        assert {"all-MiniLM-L6-v2", "WordLlama-256"} <= names

    def test_on_other_items_they_are_left_out(self, evaluation: Result) -> None:
        evaluation["items_sha256"]["code_understanding"] = "0" * 64
        assert judgement.references(evaluation["items_sha256"]) == []
        assert not any("MiniLM" in line for line in summary(evaluation))

    def test_a_reference_stands_in_until_the_model_is_measured(self, comparison: Result) -> None:
        (found,) = [row for row in judgement.standing(comparison) if row["name"] == "all-MiniLM-L6-v2"]
        measured = dict(found)
        unmeasured(comparison, "all-MiniLM-L6-v2")
        (kept,) = [row for row in judgement.standing(comparison) if row["name"] == "all-MiniLM-L6-v2"]
        assert (measured["obtained"], kept["obtained"]) == ("measured", REFERENCE)
        paired, wide = (row["difference_to_ours"]["overall"] for row in (measured, kept))
        assert wide["value"] == pytest.approx(paired["value"], abs=1e-3)
        assert wide["interval"][0] < paired["interval"][0] and wide["interval"][1] > paired["interval"][1]

    def test_an_overall_of_a_part_of_the_categories_does_not_compare(self, evaluation: Result) -> None:
        del evaluation["categories"]["topic_clustering"]
        rows = judgement.standing(evaluation)
        assert {judgement.against_ours(row, "overall") for row in rows if row.get("obtained") == REFERENCE} == {None}

    def test_the_control_of_an_evaluation_is_paired(self, evaluation: Result) -> None:
        control = evaluation["overall"]["control"]
        control["difference"] = {"value": 0.2, "interval": [-0.1, 0.5], "word": SAME}
        (row,) = [row for row in judgement.standing(evaluation) if row["kind"] == "control"]
        assert row["difference_to_ours"]["overall"] == {"value": -0.2, "interval": [-0.5, 0.1], "word": SAME}


class TestAdvice:
    def test_of_an_evaluation(self, evaluation: Result) -> None:
        set_score(evaluation["categories"]["multilingual_alignment"], 0.9)
        set_score(evaluation["categories"]["topic_clustering"], 0.2)
        set_score(evaluation["categories"]["code_understanding"], 0.6)
        found = advice(evaluation)
        assert found.uses[0] == "Use it for matching translations (0.900): nothing beside it is better."
        assert found.uses[1].startswith("Use it for searching code by description (0.600) where no transformer can run")
        (topics,) = [line for line in found.others if "grouping texts by topic" in line]
        assert "all-MiniLM-L6-v2 by model2vec (0.484) is better, and the transformer all-MiniLM-L6-v2" in topics

    def test_a_use_needs_to_beat_words_alone_and_whatever_scores_higher(self, comparison: Result) -> None:
        use = CATEGORIES["code_understanding"].good_for
        assert any(use in line for line in advice(comparison).uses)
        set_difference(comparison, "BM25", SAME, "code_understanding")
        said = " ".join(advice(comparison).others)
        assert re.search(rf"Undecided for {use} \(0\.\d+\): BM25 \(0\.\d+\) may be as good; ", said)
        set_difference(comparison, "BM25", WORSE, "code_understanding")
        set_difference(comparison, "all-MiniLM-L6-v2", SAME, "code_understanding")
        said = " ".join(advice(comparison).others)
        assert re.search(rf"Undecided for {use} \(0\.\d+\): all-MiniLM-L6-v2 \(0\.755\) may be as good\.", said)

    @pytest.mark.parametrize("gate", ["control", "collapse"])
    def test_a_model_that_only_matches_words_is_for_nothing(self, evaluation: Result, gate: str) -> None:
        if gate == "collapse":
            evaluation["health"]["unrelated_cosine"] = 0.9
        else:
            evaluation["overall"]["control"] = score(0.89, 0.91)
        found = advice(evaluation)
        assert found.uses == [] and found.others[0].startswith("Use another model: it is not shown to do more")

    def test_instructions_need_both_the_gain_and_the_control(self, evaluation: Result) -> None:
        assert judgement.follows_instructions(evaluation)
        evaluation["categories"]["instruction_awareness"]["control"] = score(0.4, 0.6)
        assert not judgement.follows_instructions(evaluation)
        assert any("matches words, not instructions" in line for line in summary(evaluation))


class TestComparison:
    def test_ties_with_ours_are_by_pairs(self, comparison: Result) -> None:
        def best() -> list[str]:
            return [row["name"] for row in judgement.best_rows(judgement.standing(comparison), "code_understanding")]

        assert best() == ["all-MiniLM-L6-v2"]
        set_difference(comparison, "all-MiniLM-L6-v2", SAME, "code_understanding")
        assert best() == ["all-MiniLM-L6-v2", comparison["ours"]]

    def test_nothing_is_called_the_best_below_a_reference(self, comparison: Result) -> None:
        """On a fresh machine the peer with the highest score is not there."""
        for name in ("all-MiniLM-L6-v2", "all-MiniLM-L6-v2 by model2vec"):
            unmeasured(comparison, name)
        said = summary(comparison)
        assert any("better than it: all-MiniLM-L6-v2 (0.602)" in line for line in said)
        assert [line for line in said if "nothing beside it is better" in line] == [advice(comparison).uses[0]]
        assert judgement.frontier(comparison)[-1]["name"] == "all-MiniLM-L6-v2"
        set_score(ours(comparison)["result"]["overall"], 0.7)
        assert any("nothing beside it is better" in line for line in judgement.overall_lines(comparison))
