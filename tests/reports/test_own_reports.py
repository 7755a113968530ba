"""One's own pairs, and what a score means, in every report: the same sentences, and nobody's texts in a publication."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_results import plain_tokenizer, read_demo, write_results
from tokenizers import Tokenizer

from qwen25.evaluation.matching import Cosine
from qwen25.evaluation.models import Encoder
from qwen25.evaluation.own_data import OwnRun, results_of
from qwen25.evaluation.own_pairs import read_own
from qwen25.evaluation.thresholds import measured_meaning
from qwen25.reports.card import model_card, render
from qwen25.reports.own_data import meaning_lines, own_lines
from qwen25.reports.page import write_page
from qwen25.reports.results import (
    comparison_html,
    comparison_markdown,
    evaluation_html,
    print_comparison,
    print_evaluation,
)
from qwen25.runtime.files import read_json, write_json

Result = dict[str, Any]
PAIRS = [(f"is <b>{i}</b> free?", f"yes, {i} is") for i in range(30)]


def noise(text: str) -> np.ndarray:
    return np.random.default_rng(list(text.encode())).standard_normal(24)


def encode(texts: Any) -> np.ndarray:
    return np.stack([noise("".join(filter(str.isdigit, text))) + 0.9 * noise(text) for text in texts])


@pytest.fixture(scope="module")
def own() -> list[Result]:
    run = OwnRun(read_own(PAIRS), 42)
    run.add(Encoder("mine", "static", Cosine(encode), 24, learnt=np.empty(0, np.uint64)))
    run.systems[0]["shared_with_training"] = {"texts": 12, "of": 60}
    return results_of([run])


@pytest.fixture(scope="module")
def meaning() -> Result:
    return measured_meaning(Cosine(lambda texts: np.stack([noise(text) for text in texts])))


def test_every_report_has_the_table_and_the_sentences(own: list[Result], meaning: Result, capsys: Any) -> None:
    found = {name: result | {"own_data": own} for name, result in read_demo().items()}
    found["evaluation"]["score_meaning"] = meaning
    print_evaluation(found["evaluation"])
    print_comparison(found["comparison"])
    pages = [evaluation_html(found["evaluation"]), comparison_html(found["comparison"])]
    pages += [comparison_markdown(found["comparison"]), capsys.readouterr().out]
    lines = own_lines(own[0])
    assert lines[0].startswith("12 of 60 texts of pairs that were looked up are among those that mine was trained on")
    assert lines[1].startswith("For pairs, ")
    for page in pages:
        assert f"{own[0]['systems'][0]['forward']['mrr@10']['score']:.3f}" in page
        words = " ".join(page.replace("\n  ", " ").split())
        assert all(line in words for line in lines)
    assert "<b>" not in pages[0] and "found instead" in pages[0] and pages[0].count("data:image/png") == 2


def test_a_card_says_what_a_score_means_and_holds_none_of_ones_own_texts(
    own: list[Result], meaning: Result, tiny_tokenizer: Tokenizer, tmp_path: Path
) -> None:
    results = write_results(tmp_path, tiny_tokenizer)
    for path in (results["evaluation"], results["comparison"]):
        write_json(path, read_json(path) | {"own_data": own})
    metadata = read_json(results["model"] / "metadata.json") | {"score_meaning": meaning}
    write_json(results["model"] / "metadata.json", metadata)
    render(tmp_path / "public", **results)
    published = [path.read_text(encoding="utf-8") for path in (tmp_path / "public").glob("*.md")]
    for card in (model_card(metadata), *(text for text in published if "Quick start" in text)):
        assert all(line in card for line in meaning_lines(meaning)) and "cut nowhere" in card
        assert f"| right answers | {meaning['right']['pairs']} |" in card
    assert len(published) == 2 and not any("free?" in text for text in published)


@pytest.mark.parametrize(("parts", "dims", "cuts"), [(True, None, [0.2, 0.3]), (False, None, None), (True, 32, None)])
def test_a_page_knows_the_cuts_of_its_model_where_there_are_any(
    parts: bool, dims: int | None, cuts: list[float] | None, tiny_tokenizer: Tokenizer, tmp_path: Path
) -> None:
    model = write_results(tmp_path, plain_tokenizer(tiny_tokenizer))["model"]
    meaning = {"parts": parts, "cuts": {"near": {"cosine": 0.2}, "match": {"cosine": 0.3}}}
    write_json(model / "metadata.json", read_json(model / "metadata.json") | {"score_meaning": meaning})
    write_page(model, tmp_path / "page.html", dims)
    assert f'"cuts":{json.dumps(cuts, separators=(",", ":"))}' in (tmp_path / "page.html").read_text(encoding="utf-8")
