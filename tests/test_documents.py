"""Numbers in documents come from result files, and links lead somewhere."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
from conftest import ROOT

from benchmarks import render_readme
from qwen25.runtime.files import read_json

BENCHMARKS = "distill_speed encode_scale evaluation_validity page_speed pairs_curve recipes render_reliability sizes"
PATTERNS = ("*.md", ".github/*.md", "docs/*.md", "models/*.md", "qwen25/data/*/*.md")
DOCUMENTS = sorted(path for pattern in PATTERNS for path in ROOT.glob(pattern))


def test_the_readme_says_what_the_demo_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    documents = render_readme.rendered()
    assert all(path.read_text(encoding="utf-8") == content for path, content in documents.items())
    real = render_readme.read_json

    def changed(path: Path) -> dict:
        result = real(path)
        if "models" in result:
            result["models"][0]["result"]["overall"]["score"] = 0.987
        return result

    monkeypatch.setattr(render_readme, "read_json", changed)
    assert "0.987" in render_readme.rendered()[render_readme.DEMO]


@pytest.mark.parametrize("name", BENCHMARKS.split())
def test_documents_are_rendered(name: str) -> None:
    benchmark = importlib.import_module(f"benchmarks.{name}")
    assert benchmark.DOCUMENT.read_text(encoding="utf-8") == benchmark.document(read_json(benchmark.RESULT))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target
