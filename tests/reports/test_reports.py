"""What a reader sees: pages, figures, tables on a terminal; one voice in all of them."""

from __future__ import annotations

import base64
import copy
import hashlib
import html
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from tiny_results import ours, plain_tokenizer, read_demo, set_score, unmeasured, write_results
from tokenizers import Tokenizer

from benchmarks.render_readme import demo_markdown
from qwen25.evaluation import judgement
from qwen25.evaluation.categories import CATEGORIES
from qwen25.evaluation.judgement import BETTER, REFERENCE, WORSE
from qwen25.reports import plots
from qwen25.reports.card import render
from qwen25.reports.page import write_page
from qwen25.reports.results import (
    comparison_html,
    comparison_markdown,
    comparison_sections,
    evaluation_html,
    print_comparison,
    print_evaluation,
)
from qwen25.runtime.files import read_json, write_json

Result = dict[str, Any]


@pytest.fixture(scope="module")
def pages() -> list[str]:
    """Return the two pages, of a model with a hostile name."""
    found = read_demo()
    found["evaluation"]["model"]["name"] = "<img src=x>"
    return [evaluation_html(found["evaluation"]), comparison_html(found["comparison"])]


class TestPages:
    def test_nothing_but_their_own_script_may_run(self, pages: list[str]) -> None:
        for page in pages:
            (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
            digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
            assert f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in page
            tables = re.findall(r"<table.*?</table>", page, re.DOTALL)
            assert tables and all("<caption>" in t and '<thead><tr><th scope="col"' in t for t in tables)
            assert "<img src=x>" not in page

    def test_ours_is_marked_and_the_best_are_bold_with_their_ties(self, comparison: Result, pages: list[str]) -> None:
        (row,) = re.findall(r'<tr class="ours">.*?</tr>', pages[1], re.DOTALL)[:1]
        assert comparison["ours"] in row and "this model" in row
        sections = {section.title: section for section in comparison_sections(comparison)}
        assert (0, 1) in sections["Quality"].best
        cost = sections["Cost"]
        best = [cost.rows[y][0] for y, x in cost.best if cost.header[x] == "on disk"]
        sizes = {row["name"]: row["result"]["health"]["size_bytes"] for row in comparison["models"] if "result" in row}
        assert best == [min((name for name, size in sizes.items() if size), key=lambda name: sizes[name])]

    def test_what_was_not_measured_has_a_list_of_its_own(self, comparison: Result, pages: list[str]) -> None:
        titles = re.findall(r"<h2>(.*?)</h2>", pages[1])
        assert titles[0] == "In short" and titles[-2:] == ["Not measured, and how to", "Published figures"]
        assert "<details><summary><h2>Published figures" in pages[1] and pages[1].index("In short") < pages[1].index(
            "<img"
        )
        assert re.search(r"<li>Gemma-768D: .*distill --preset gemma-768d</li>", pages[1])
        quality = next(section for section in comparison_sections(comparison) if section.title == "Quality")
        assert not [row for row in quality.rows if row[0] == "Gemma-768D"]
        unmeasured(comparison, "all-MiniLM-L6-v2")
        first = comparison_sections(comparison)[1].rows[0]
        assert first[0] == f"all-MiniLM-L6-v2\n{REFERENCE}" and re.fullmatch(r"\+0\.\d+ better", first[2])
        assert f"all-MiniLM-L6-v2 <small>{REFERENCE}</small>" in comparison_html(comparison)


CLAIM = re.compile(r"(Use it|Undecided|Not) for ([a-z -]+) \((-?\d\.\d{3})\)([^.:]*: (?:[^.]|\.\d)*)\.")


def plain(text: str) -> str:
    """Return a text on one line, without what Markdown and HTML escape."""
    return " ".join(html.unescape(text).replace("\\", "").split())


def claims(text: str) -> dict[str, tuple[str, ...]]:
    """Return what a text says of each category: the word, the score and the reason."""
    found: dict[str, set[tuple[str, ...]]] = {}
    for word, use, *why in CLAIM.findall(plain(text)):
        found.setdefault(use, set()).add((word, *why))
    assert all(len(said) == 1 for said in found.values()), found
    return {use: said.pop() for use, said in found.items()}


class TestOneVoice:
    """Terminal, Markdown, HTML, card, benchmarks, document and page say the same of each model and category."""

    @pytest.mark.parametrize("fresh", [False, True], ids=["all peers", "a fresh machine"])
    def test_of_a_comparison(
        self, fresh: bool, tmp_path: Path, tiny_tokenizer: Tokenizer, capsys: pytest.CaptureFixture[str]
    ) -> None:
        results = write_results(tmp_path, plain_tokenizer(tiny_tokenizer))
        comparison = read_json(results["comparison"])
        if fresh:
            for name in ("all-MiniLM-L6-v2", "all-MiniLM-L6-v2 by model2vec"):
                unmeasured(comparison, name)
            write_json(results["comparison"], comparison)
        print_comparison(comparison)
        render(tmp_path / "publication", *results.values())
        texts = [capsys.readouterr().out, comparison_markdown(comparison), comparison_html(comparison)]
        texts += [
            (tmp_path / "publication" / name).read_text(encoding="utf-8") for name in ("README.md", "BENCHMARKS.md")
        ]
        texts.append(demo_markdown(read_json(results["model"] / "metadata.json"), comparison))
        expected = claims("\n".join(judgement.advice(comparison).lines))
        assert set(expected) == {category.good_for for category in CATEGORIES.values()}
        for text in texts:
            assert claims(text) == expected
            assert all(line in plain(text) for line in judgement.overall_lines(comparison))
        write_page(results["model"], tmp_path / "page.html")
        assert claims((tmp_path / "page.html").read_text(encoding="utf-8")).items() <= expected.items()

    def test_an_evaluation_never_says_the_opposite(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Its references are not paired: it may leave undecided what a comparison decides."""
        found = read_demo()
        print_evaluation(found["evaluation"])
        alone, beside = (judgement.standing(found[name])[1:] for name in ("evaluation", "comparison"))
        paired = {row["name"]: row for row in beside}
        for row in alone:
            for category in [*row["result"]["categories"], "overall"]:
                words = {judgement.against_ours(r, category) for r in (row, paired[row["name"]])}
                assert not {BETTER, WORSE} <= words, (row["name"], category)
        assert claims(evaluation_html(found["evaluation"])) == claims(capsys.readouterr().out)


def test_a_terminal_is_told_in_lines_of_80_columns_and_bullets_of_two(
    evaluation: Result, comparison: Result, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    unmeasured(comparison, "all-MiniLM-L6-v2")
    print_evaluation(evaluation)
    print_comparison(comparison)
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert not re.search(r"\n- .*\n  .*\n  ", shown)


class TestFigures:
    @pytest.mark.parametrize("sizes", [(10, 20, 30), (18, 15, 90), (60, 60, 60)])
    def test_names_stand_apart_and_inside_the_plot(self, comparison: Result, sizes: tuple[int, ...]) -> None:
        rows = [copy.deepcopy(ours(comparison)) for _ in sizes]
        for row, name, size, score in zip(rows, ("ours", "one", "other"), sizes, (0.5, 0.6, 0.4), strict=True):
            row["name"] = f"a model that is called {name}"
            row["result"]["health"]["size_bytes"] = size * 1_000_000
            set_score(row["result"]["overall"], score)
        shown = {**comparison, "ours": rows[0]["name"], "models": rows, "items_sha256": {}}
        figure = plots.quality_against_size(shown)
        FigureCanvasAgg(figure).draw()
        (axes,) = figure.axes
        boxes, frame = [text.get_window_extent() for text in axes.texts], axes.get_window_extent()
        assert len(boxes) == len(sizes)
        assert all(frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 for box in boxes)
        assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))

    def test_a_dark_figure_is_another_one_and_the_same_twice(self, comparison: Result) -> None:
        light, dark, again = (
            plots.png(plots.quality_against_size(comparison, c)) for c in (plots.LIGHT, plots.DARK, plots.LIGHT)
        )
        assert dark != light == again
