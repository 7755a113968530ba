"""A result file that is not of this version is refused in one line that says where it differs."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from qwen25.evaluation.results import read_comparison, read_evaluation
from qwen25.runtime.errors import InputError
from qwen25.runtime.files import read_json
from qwen25.runtime.schemas import LONGEST_MESSAGE

DEMO = ROOT / "docs" / "results" / "demo"


@pytest.fixture
def evaluation() -> dict[str, Any]:
    return copy.deepcopy(read_json(DEMO / "eval_results.json"))


def refusal(tmp_path: Path, result: Any) -> str:
    path = tmp_path / "result.json"
    path.write_text(json.dumps(result), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_evaluation(path)
    message = str(caught.value)
    assert message.startswith(f"{path} is not of this version (") and "\n" not in message
    assert message.endswith(f"make it anew with qwen25 eval --output {path}")
    return message


def test_results_of_this_version_are_read() -> None:
    assert read_evaluation(DEMO / "eval_results.json")["overall"]["score"] > 0
    assert read_comparison(DEMO / "comparison_results.json")["models"]


def test_another_version_is_named(tmp_path: Path, evaluation: dict[str, Any]) -> None:
    assert "schema_version" in refusal(tmp_path, evaluation | {"schema_version": 7})


def test_what_is_missing_or_of_another_type_is_named_with_its_place(tmp_path: Path, evaluation: dict[str, Any]) -> None:
    del evaluation["categories"]["code_understanding"]["interval"]
    assert "categories.code_understanding: 'interval'" in refusal(tmp_path, evaluation)
    evaluation["categories"]["code_understanding"]["interval"] = ["low", 0.5]
    assert "interval.0: 'low' is not of type 'number'" in refusal(tmp_path, evaluation)


def test_a_long_value_is_not_repeated(tmp_path: Path) -> None:
    assert len(refusal(tmp_path, ["x" * 10_000])) < LONGEST_MESSAGE + len(str(tmp_path)) + 200
