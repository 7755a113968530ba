"""What is said from numbers, by one rule each, and the same in all reports."""

from __future__ import annotations

from typing import Any

import pytest
from tiny_results import read_demo, set_difference, set_score

from qwen25.evaluation import judgement
from qwen25.evaluation.categories import CATEGORIES, items_sha256
from qwen25.evaluation.judgement import BETTER, SAME, comparison_advice, evaluation_advice, verdict
from qwen25.reports.comparison_report import comparison_remarks
from qwen25.reports.evaluation_report import evaluation_remarks

Result = dict[str, Any]


@pytest.fixture
def evaluation() -> Result:
    return read_demo()["evaluation"]


@pytest.fixture
def comparison() -> Result:
    return read_demo()["comparison"]


def score(low: float, high: float, **more: Any) -> Result:
    return {"score": (low + high) / 2, "interval": [low, high], **more}


class TestCompared:
    def test_paired_numbers_decide(self) -> None:
        control = score(0.3, 0.5)
        assert not judgement.beats_control(score(0.4, 0.6, control=control))
        control["difference"] = {"value": 0.1, "interval": [0.05, 0.15], "word": BETTER}
        assert judgement.beats_control(score(0.4, 0.6, control=control))
        assert judgement.beats_control(score(0.4, 0.6, control=None))


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
        names = {model["name"] for model in judgement.standing(items_sha256())}
        assert {"all-MiniLM-L6-v2", "WordLlama-256", "random directions"} <= names

    def test_on_other_items_they_are_left_out(self, evaluation: Result) -> None:
        evaluation["items_sha256"]["code_understanding"] = "0" * 64
        assert judgement.standing(evaluation["items_sha256"]) == []
        assert not any("MiniLM" in line for line in evaluation_remarks(evaluation))


class TestAdvice:
    def test_of_an_evaluation(self, evaluation: Result) -> None:
        set_score(evaluation["categories"]["multilingual_alignment"], 0.9)
        set_score(evaluation["categories"]["topic_clustering"], 0.2)
        set_score(evaluation["categories"]["code_understanding"], 0.6)
        found = evaluation_advice(evaluation)
        assert "matching translations (0.900): nothing measured" in found.uses[0]
        assert "searching code by description (0.600)" in found.uses[1]  # only a transformer is better
        (table,) = [line for line in found.instead if line.startswith("Use ")]
        (transformer,) = [line for line in found.instead if line.startswith("Where a transformer can run")]
        assert "grouping texts by topic" in table and "against 0.600" in transformer

    def test_a_use_needs_to_beat_words_alone(self, comparison: Result) -> None:
        use = CATEGORIES["code_understanding"].good_for
        assert any(use in line for line in comparison_advice(comparison).uses)
        set_difference(comparison, "BM25", SAME, "code_understanding")
        found = comparison_advice(comparison)
        assert not any(use in line for line in found.uses)
        assert any(use in line and "BM25 (0.313) is not shown to be worse" in line for line in found.not_claimed)

    @pytest.mark.parametrize("gate", ["control", "collapse"])
    def test_a_model_that_only_matches_words_is_for_nothing(self, evaluation: Result, gate: str) -> None:
        if gate == "collapse":
            evaluation["health"]["unrelated_cosine"] = 0.9
        else:
            evaluation["overall"]["control"] = score(0.89, 0.91)
        found = evaluation_advice(evaluation)
        assert found.uses == ["Use another model than it: it is not shown to do more than match words."]
        assert found.instead and not found.not_claimed

    def test_instructions_need_both_the_gain_and_the_control(self, evaluation: Result) -> None:
        assert judgement.follows_instructions(evaluation)
        evaluation["categories"]["instruction_awareness"]["control"] = score(0.4, 0.6)
        assert not judgement.follows_instructions(evaluation)
        assert any("matches words, not instructions" in line for line in evaluation_remarks(evaluation))


class TestComparison:
    def test_ranked_by_overall_and_only_those_with_all_categories(self, comparison: Result) -> None:
        rows = judgement.ranked(comparison)
        scores = [row["result"]["overall"]["score"] for row in rows]
        assert scores == sorted(scores, reverse=True) and "BM25" not in {row["name"] for row in rows}

    def test_ties_with_ours_are_by_pairs(self, comparison: Result) -> None:
        best = {found["need"]: found for found in judgement.recommendations(comparison)}
        assert best["code"]["model"] == "all-MiniLM-L6-v2" and best["code"]["tied"] == []
        set_difference(comparison, "all-MiniLM-L6-v2", SAME, "code_understanding")
        best = {found["need"]: found for found in judgement.recommendations(comparison)}
        assert best["code"]["tied"] == [comparison["ours"]] and "tied with" in best["code"]["because"]

    def test_the_better_come_first_and_baselines_are_named(self, comparison: Result) -> None:
        set_difference(comparison, "BM25", BETTER, "topic_clustering")
        first, baseline, *_ = comparison_remarks(comparison)
        assert first.startswith("all-MiniLM-L6-v2 is better than") and baseline.startswith(
            "BM25, a baseline, is better"
        )
        for row in comparison["models"]:
            row.pop("difference_to_ours", None) if row["name"] == "all-MiniLM-L6-v2" else None
        assert comparison_remarks(comparison)[0].startswith("No model measured here is better")
