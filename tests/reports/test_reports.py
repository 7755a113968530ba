"""What a reader sees: pages, figures, tables on a terminal; one voice in all of them."""

from __future__ import annotations

import base64
import copy
import hashlib
import html
import re
from itertools import combinations
from typing import Any

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from tiny_results import ours, read_demo, set_score

from qwen25.evaluation.judgement import comparison_advice, evaluation_advice
from qwen25.reports import plots
from qwen25.reports.comparison_report import comparison_html, comparison_markdown, comparison_sections, print_comparison
from qwen25.reports.evaluation_report import evaluation_html, print_evaluation, scores_table

Result = dict[str, Any]


@pytest.fixture
def evaluation() -> Result:
    return read_demo()["evaluation"]


@pytest.fixture
def comparison() -> Result:
    return read_demo()["comparison"]


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
        assert titles[0] == "In short" and titles[-1] == "Not measured"
        assert "Gemma-768D was not measured" in pages[1]
        quality = next(section for section in comparison_sections(comparison) if section.title == "Quality")
        assert not [row for row in quality.rows if row[0] == "Gemma-768D"]

    def test_the_best_of_a_row_are_those_not_shown_to_differ(self, evaluation: Result) -> None:
        set_score(evaluation["categories"]["semantic_similarity"], 0.645)
        set_score(evaluation["categories"]["topic_clustering"], 0.2)
        header, rows, best = scores_table(evaluation)
        minilm = header.index("all-MiniLM-L6-v2")
        assert {(0, 1), (0, minilm)} <= best and [x for y, x in best if y == 1] == [minilm]
        assert {len(row) for row in rows} == {len(header)} and rows[-1][minilm].startswith("0.6")


def test_one_voice(
    evaluation: Result, comparison: Result, pages: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The sentences of advice are the same on terminal, in Markdown and in HTML."""
    print_evaluation(evaluation)
    print_comparison(comparison)
    shown = " ".join(capsys.readouterr().out.split())  # where lines end depends on the terminal
    places = [shown, html.unescape("".join(pages))]
    for line in evaluation_advice(evaluation).lines:
        assert all(line in place for place in places)
    for line in comparison_advice(comparison).lines:
        assert all(line in place for place in [*places, comparison_markdown(comparison)])


class TestFigures:
    @pytest.mark.parametrize("sizes", [(10, 20, 30), (18, 15, 90), (60, 60, 60)])
    def test_names_stand_apart_and_inside_the_plot(self, comparison: Result, sizes: tuple[int, ...]) -> None:
        rows = [copy.deepcopy(ours(comparison)) for _ in sizes]
        for row, name, size, score in zip(rows, ("ours", "one", "other"), sizes, (0.5, 0.6, 0.4), strict=True):
            row["name"] = f"a model that is called {name}"
            row["result"]["health"]["size_bytes"] = size * 1_000_000
            set_score(row["result"]["overall"], score)
        figure = plots.quality_against_size({**comparison, "ours": rows[0]["name"], "models": rows})
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
