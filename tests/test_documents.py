"""Numbers in documents come from result files, and links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from benchmarks import evaluation_validity, render_readme, render_reliability
from benchmarks.distill_speed import __main__ as speed
from benchmarks.distill_speed.document import JSON, REPORT
from benchmarks.recipes import document as recipes
from benchmarks.sizes import document as sizes
from benchmarks.sizes.plot import plot
from qwen25.runtime.files import read_json

DOCUMENTS = sorted(
    path for pattern in ("*.md", "docs/**/*.md", "*_data/*.md", "models/*.md") for path in ROOT.glob(pattern)
)


def test_the_readme_says_what_the_demo_measured() -> None:
    command = [sys.executable, "-m", "benchmarks.render_readme", "--check"]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0


def test_the_readme_check_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    documents = render_readme.rendered()
    assert all(path.read_text(encoding="utf-8") == content for path, content in documents.items())
    real = render_readme.read_json

    def changed(path: object) -> dict:
        result = real(path)
        if "overall" in result:
            result["overall"]["score"] = 0.987
        return result

    monkeypatch.setattr(render_readme, "read_json", changed)
    assert "0.987" in render_readme.rendered()[render_readme.DEMO]


def test_the_evaluation_document_is_rendered() -> None:
    result = read_json(evaluation_validity.RESULT)
    assert evaluation_validity.DOCUMENT.read_text(encoding="utf-8") == evaluation_validity.document(result)


def test_the_performance_document_is_rendered(tmp_path: Path) -> None:
    report = tmp_path / "report.md"
    assert speed.main(["--render", "--json", str(ROOT / JSON), "--report", str(report)]) == 0
    assert (ROOT / REPORT).read_bytes() == report.read_bytes()


def test_the_guide_says_what_the_page_measured() -> None:
    sys.path.insert(0, str(ROOT))
    from benchmarks.page_speed import GUIDE, rendered

    assert GUIDE.read_text(encoding="utf-8") == rendered()


def test_the_recipes_document_is_rendered() -> None:
    written = recipes.RESULT.with_name(recipes.DOCUMENT).read_text(encoding="utf-8")
    assert written == recipes.document(read_json(recipes.RESULT))


def drawer(svg: str) -> str:
    """Return which matplotlib drew it."""
    return re.search(r"Matplotlib v\S+", svg)[0]


def words(svg: str) -> list[str]:
    """Return what the plot says: titles, ticks, labels."""
    return re.findall(r"<text[^>]*>([^<]*)<", svg)


def test_the_sizes_document_and_its_plot_are_rendered() -> None:
    result = read_json(sizes.RESULT)
    assert sizes.DOCUMENT.read_text(encoding="utf-8") == sizes.document(result)
    if result["models"]:
        kept, drawn = sizes.PLOT.read_text(encoding="utf-8"), plot(result)
        if drawer(kept) != drawer(drawn):  # another version lays the same plot out otherwise
            kept, drawn = words(kept), words(drawn)
        assert kept == drawn


def test_the_reliability_document_is_rendered() -> None:
    assert render_reliability.DOCUMENT.read_text(encoding="utf-8") == render_reliability.document(
        read_json(render_reliability.RESULT)
    )


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (path.parent / target).exists(), target
