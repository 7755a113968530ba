"""What a reader sees: pages, tables on a terminal, figures, and what the numbers say a model is for."""

from __future__ import annotations

import base64
import copy
import hashlib
import logging
import re
import sys
from itertools import combinations
from typing import Any

import pytest
from conftest import EVAL_DATA, ROOT
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb

from qwen25.evaluation.categories.all import CATEGORIES
from qwen25.evaluation.items import items_sha256
from qwen25.evaluation.results import ComparisonFile, EvaluationFile, read_comparison, read_evaluation
from qwen25.evaluation.standing import references
from qwen25.reports import plots
from qwen25.reports.advice import comparison_advice, evaluation_advice
from qwen25.reports.comparison_report import COST_HEADER, comparison_html, comparison_sections
from qwen25.reports.evaluation_report import (
    evaluation_html,
    evaluation_remarks,
    standing_best,
    standing_header,
    standing_importance,
    standing_rows,
)
from qwen25.runtime.display import print_lines, print_table
from qwen25.runtime.log import logger, set_up_logging

DEMO = ROOT / "docs" / "results" / "demo"


@pytest.fixture
def evaluation() -> EvaluationFile:
    return copy.deepcopy(read_evaluation(DEMO / "eval_results.json"))


@pytest.fixture
def comparison() -> ComparisonFile:
    return copy.deepcopy(read_comparison(DEMO / "comparison_results.json"))


def set_score(score: dict[str, Any], value: float) -> None:
    score |= {"score": value, "interval": [value - 0.01, value + 0.01]}


class TestStanding:
    def test_the_references_were_measured_on_the_items_that_are_here(self) -> None:
        found = references(items_sha256(EVAL_DATA, CATEGORIES))
        assert {"all-MiniLM-L6-v2", "WordLlama-256", "random directions"} <= {model["name"] for model in found}

    def test_a_verdict_stands_beside_them(self, evaluation: EvaluationFile) -> None:
        assert re.search(r"all-MiniLM-L6-v2 \(transformer\) 0\.6\d\d", evaluation_remarks(evaluation)[0])
        header, rows = standing_header(evaluation), standing_rows(evaluation)
        assert {len(row) for row in rows} == {len(header)} == {len(standing_importance(evaluation))}
        assert rows[-1][header.index("all-MiniLM-L6-v2")].startswith("0.6")

    def test_it_stands_at_its_place_above_its_own_control(self, evaluation: EvaluationFile) -> None:
        set_score(evaluation["overall"], 0.55)
        line = evaluation_remarks(evaluation)[0]
        names = ["all-MiniLM-L6-v2 (transformer)", "this model 0.550", "WordLlama-256", "random directions"]
        places = [line.index(name) for name in names]
        assert places == sorted(places)
        control = evaluation["overall"]["control"]
        assert control and line.endswith(f"random directions {control['score']:.3f}.")

    def test_the_best_of_a_row_are_those_whose_intervals_overlap(self, evaluation: EvaluationFile) -> None:
        set_score(evaluation["categories"]["semantic_similarity"], 0.645)
        set_score(evaluation["categories"]["topic_clustering"], 0.2)
        best, header = standing_best(evaluation), standing_header(evaluation)
        assert {(0, 2), (0, header.index("all-MiniLM-L6-v2"))} <= best
        assert [x for y, x in best if y == 1] == [header.index("all-MiniLM-L6-v2")]

    def test_on_other_items_they_are_left_out(self, evaluation: EvaluationFile) -> None:
        evaluation["items_sha256"]["code_understanding"] = "0" * 64
        assert "MiniLM" not in evaluation_html(evaluation)
        assert {len(row) for row in standing_rows(evaluation)} == {len(standing_header(evaluation))} == {4}


class TestAdvice:
    def test_what_nothing_beats_is_what_it_is_for(self, evaluation: EvaluationFile) -> None:
        set_score(evaluation["categories"]["multilingual_alignment"], 0.9)
        set_score(evaluation["categories"]["code_understanding"], 0.4)
        use, *instead = evaluation_advice(evaluation)
        assert "matching translations (0.900)" in use and "code" not in use
        (transformer,) = [line for line in instead if line.startswith("Where a transformer can run")]
        assert (
            "all-MiniLM-L6-v2" in transformer and "searching code by description (0.755 against 0.400)" in transformer
        )
        assert "translations" not in transformer

    def test_what_another_may_be_better_at_is_no_use(self, evaluation: EvaluationFile) -> None:
        set_score(evaluation["categories"]["semantic_similarity"], 0.6)
        lines = evaluation_advice(evaluation)
        paraphrases = "finding paraphrases and duplicates among short texts"
        assert not any(line.startswith("Use it") and paraphrases in line for line in lines)
        (undecided,) = [line for line in lines if "may be better" in line and paraphrases in line]
        assert "against 0.600" in undecided

    @pytest.mark.parametrize("gate", ["control", "collapse"])
    def test_a_model_that_only_matches_words_is_for_nothing(self, evaluation: EvaluationFile, gate: str) -> None:
        if gate == "collapse":
            evaluation["health"]["unrelated_cosine"] = 0.9
        else:
            evaluation["overall"]["control"] = {"score": 0.9, "interval": [0.89, 0.91]}
        first, *rest = evaluation_advice(evaluation)
        assert first.startswith("Use another model") and rest and not any(line.startswith("Use it") for line in rest)

    def test_a_comparison_advises_from_its_own_rows(self, comparison: ComparisonFile) -> None:
        for row in comparison["models"]:
            for found in row.get("difference_to_ours", {}).get("categories", {}).values():
                found["word"] = "worse"
        (line,) = comparison_advice(comparison)
        assert line.startswith(f"Use {comparison['ours']} for ") and "nothing measured beside it is better" in line


class TestPages:
    def test_nothing_but_their_own_script_may_run(self, evaluation: EvaluationFile, comparison: ComparisonFile) -> None:
        for page in (evaluation_html(evaluation), comparison_html(comparison)):
            (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
            digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
            assert f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in page

    def test_tables_have_heads_scopes_and_captions(
        self, evaluation: EvaluationFile, comparison: ComparisonFile
    ) -> None:
        for page in (evaluation_html(evaluation), comparison_html(comparison)):
            tables = re.findall(r"<table.*?</table>", page, re.DOTALL)
            assert tables and all("<caption>" in t and '<thead><tr><th scope="col"' in t for t in tables)
            assert "prefers-color-scheme: dark" in page

    def test_ours_is_marked_and_the_best_are_bold_with_their_ties(self, comparison: ComparisonFile) -> None:
        page = comparison_html(comparison)
        (row,) = re.findall(r'<tr class="ours">.*?</tr>', page, re.DOTALL)[:1]
        assert comparison["ours"] in row and "this model" in row
        quality = next(section for section in comparison_sections(comparison) if section["title"] == "Quality")
        assert (0, 1) in quality["best"]
        cost = next(section for section in comparison_sections(comparison) if section["title"] == "Cost")
        on_disk = [cost["rows"][y] for y, x in cost["best"] if x == COST_HEADER.index("on disk")]
        sizes = {row["name"]: row["result"]["health"]["size_bytes"] for row in comparison["models"] if "result" in row}
        assert [row[0] for row in on_disk] == [min((n for n, size in sizes.items() if size), key=lambda n: sizes[n])]

    def test_what_was_not_measured_comes_last_and_is_called_so(self, comparison: ComparisonFile) -> None:
        page = comparison_html(comparison)
        titles = re.findall(r"<h2>(.*?)</h2>", page)
        assert titles[0] == "In short" and titles[-1] == "Not measured"
        assert page.index("<img") < page.index("<h2>")
        assert re.search(r'Gemma-768D</th>\s*<td class="n whole">not measured', page)

    def test_sizes_are_in_megabytes(self, evaluation: EvaluationFile) -> None:
        size = evaluation["health"]["size_bytes"]
        page = evaluation_html(evaluation)
        assert f"{size / 1e6:.1f} MB" in page and str(size) not in page


class TestFigures:
    @pytest.mark.parametrize("colours", [plots.LIGHT, plots.DARK])
    def test_all_colours_stand_out(self, colours: plots.Colours) -> None:
        background = to_rgb(colours.background)
        for name in ("text", "ours", "others", "control"):
            assert plots.contrast(to_rgb(getattr(colours, name)), background) >= 4.5, name
        assert plots.contrast(to_rgb(colours.text), to_rgb(colours.others)) >= 3

    def test_numbers_on_the_heat_map_stand_out(self) -> None:
        for step in range(101):
            shade = colormaps["Blues"](step / 100)
            assert plots.contrast(to_rgb(plots.on_shade(shade)), shade) >= 4.5

    @pytest.mark.parametrize("sizes", [(10, 20, 30), (15, 70, 91), (18, 15, 90), (60, 60, 60)])
    def test_names_stand_apart_and_inside_the_plot(self, comparison: ComparisonFile, sizes: tuple[int, ...]) -> None:
        ours = next(row for row in comparison["models"] if row["name"] == comparison["ours"])
        rows = [copy.deepcopy(ours) for _ in sizes]
        for row, name, size, score in zip(rows, ("ours", "one", "other"), sizes, (0.5, 0.6, 0.4), strict=True):
            row["name"] = f"a model that is called {name}"
            row["result"]["health"]["size_bytes"] = size * 1_000_000
            set_score(row["result"]["overall"], score)
        figure = plots.quality_against_size({**comparison, "ours": rows[0]["name"], "models": rows})
        FigureCanvasAgg(figure).draw()
        (axes,) = figure.axes
        boxes = [text.get_window_extent() for text in axes.texts]
        frame = axes.get_window_extent()
        assert len(boxes) == len(sizes)
        assert all(frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 for box in boxes)
        assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))

    def test_a_dark_figure_is_another_one(self, comparison: ComparisonFile) -> None:
        light = plots.png(plots.comparison(comparison))
        with plots.dark_colours():
            assert plots.png(plots.comparison(comparison)) != light
        assert plots.png(plots.comparison(comparison)) == light

    def test_ticks_are_in_megabytes(self) -> None:
        assert [plots._megabytes(value) for value in (0.5, 20, 30, 1000)] == ["0.5 MB", "20 MB", "", "1,000 MB"]


class TestTerminal:
    HEADER = ("model", "score [95 % interval]", "speed", "weight")
    ROWS = (("a model with quite a long name of its own", "0.605 [0.566, 0.643]", "16,000 sentences/s", "20%"),)

    @pytest.mark.parametrize("width", [44, 60, 80, 200])
    def test_no_number_is_cut_and_no_line_is_too_long(
        self, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("COLUMNS", str(width))
        print_table("title", self.HEADER, self.ROWS, (0, 2, 1, 3))
        shown = capsys.readouterr().out
        assert all(len(line) <= width for line in shown.splitlines())
        for name, cell in zip(self.HEADER[1:], self.ROWS[0][1:], strict=True):
            is_left_out = name in " ".join(shown.partition("also shows:")[2].split())
            assert (cell in shown) != is_left_out
        assert "16,000 sentences/s" in shown  # the most important one

    def test_names_wrap_between_words(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("COLUMNS", "64")  # the speed would fit beside a name cut to 16 characters
        row = ("Qwen2.5-Coder-0.5B static", "0.605 [0.566, 0.643]", "16,000 sentences/s", "20%")
        print_table("title", self.HEADER, [row])
        shown = capsys.readouterr().out
        assert "| Qwen2.5-Coder-0.5B " in shown and " [95 % interval] |" in shown

    def test_an_interval_stays_on_its_line(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for width in range(30, 70):
            monkeypatch.setenv("COLUMNS", str(width))
            print_lines(["WordLlama-256 is worse than ours, 1, 2: overall -0.065 [-0.084, +0.045] and 0.5 [0.4, 0.6]."])
            shown = capsys.readouterr().out
            assert "[-0.084, +0.045]" in shown and "[0.4, 0.6]" in shown
            assert max(map(len, shown.splitlines())) <= width

    def test_remarks_wrap_between_words_where_a_person_looks(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        remark = "a remark of many words " * 10 + "and models/a-name-that-is-long"
        monkeypatch.setenv("COLUMNS", "40")
        print_lines([remark], "In short")
        lines = capsys.readouterr().out.splitlines()
        assert "In short" in lines and max(map(len, lines)) <= 40
        monkeypatch.delenv("COLUMNS")
        print_lines([remark])
        assert capsys.readouterr().out == f"- {remark}\n"  # a log keeps it on its line, to be searched

    def test_other_libraries_do_not_log_there(self, capsys: pytest.CaptureFixture[str]) -> None:
        theirs = logging.StreamHandler(sys.stderr)
        logging.getLogger().addHandler(theirs)  # as logging.basicConfig does
        try:
            set_up_logging()
            logging.getLogger("some.library").error("noise")
            logger.warning("ours")
        finally:
            logging.getLogger().removeHandler(theirs)
        assert capsys.readouterr().err.splitlines() == ["ours"]
