"""How large the page of a model is, how fast it opens and answers in a browser that is installed, and its picture.

python -m benchmarks.page_speed MODEL [MODEL ...]   # measure with Debian's Chromium, then render docs/GUIDE.md
python -m benchmarks.page_speed                     # render again from the results kept
python -m benchmarks.page_speed MODEL --dims 64     # only the first dimensions of each
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.render_readme import with_block
from qwen25.reports.page import page_model, write_page
from qwen25.runtime.files import read_json, write_files, write_json
from qwen25.runtime.provenance import Clock, provenance
from qwen25.runtime.text import size_text, table
from qwen25.store.static_model import load_model, model_name

ROOT = Path(__file__).resolve().parent.parent
RESULT, DOCUMENT = ROOT / "docs" / "results" / "page_speed.json", ROOT / "docs" / "GUIDE.md"
#: README's picture: the translations of the first model's page.
PICTURE = ROOT / "docs" / "page.png"
#: How often a page is opened, each time by a browser that has never seen it.
OPENED = 5
#: What a keystroke costs: from the event to the ranking that stands in the page, laid out.
TYPE = """(texts) => texts.map((text) => {
  const query = document.getElementById("query"), started = performance.now();
  query.value = text;
  query.dispatchEvent(new Event("input", { bubbles: true }));
  document.getElementById("columns").getBoundingClientRect();
  return performance.now() - started;
})"""


def measure(browser: Any, folder: Path, dims: int | None) -> dict[str, Any]:
    """Write a model's page, open it several times and type every prefix of an example in it."""
    started = time.perf_counter()
    whole = load_model(folder)
    loaded = time.perf_counter() - started
    dims = min(dims, whole.dim) if dims else None
    model = page_model(folder, dims)
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "page.html"
        started = time.perf_counter()
        write_page(folder, file, dims)
        written = time.perf_counter() - started
        ready, keys = [], []
        for _ in range(OPENED):
            context = browser.new_context()
            page = context.new_page()
            page.goto(file.as_uri())
            page.wait_for_selector("html[data-ready]")
            ready.append(float(page.evaluate("document.documentElement.dataset.ready")))
            text = page.input_value("#query")
            keys.append(page.evaluate(TYPE, [text[:end] for end in range(1, len(text) + 1)]))
            context.close()
        size = file.stat().st_size
    return {
        "name": model_name(folder),
        "tokens": len(model.tokens),
        "rows": len(model.embedding),
        "dims": model.dim,
        "model_bytes": (folder / "model.safetensors").stat().st_size,
        "page_bytes": size,
        "load_in_python_seconds": round(loaded, 3),
        "write_seconds": round(written, 2),
        "ready_ms": round(median(ready)),
        "first_key_ms": round(median(times[0] for times in keys), 1),
        "key_ms": round(median(t for times in keys for t in times), 1),
        "slowest_key_ms": round(max(t for times in keys for t in times), 1),
    }


def take_picture(browser: Any, folder: Path, dims: int | None) -> None:
    """Write the picture of a model's page as it first looks, with the set of translations chosen."""
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "page.html"
        write_page(folder, file, dims)
        page = browser.new_page(viewport={"width": 1100, "height": 760}, color_scheme="light", reduced_motion="reduce")
        page.goto(file.as_uri())
        page.wait_for_selector("html[data-ready]")
        page.click("#sets label:nth-of-type(3)")
        page.wait_for_timeout(500)  # colours change slowly
        page.screenshot(path=PICTURE)


def block(result: dict[str, Any]) -> str:
    """Return the table of the guide."""
    header = ["model", "vectors", "page", "written", "opens", "first key", "a key", "slowest key", "loads in Python"]
    rows = [
        [
            f"{row['name']}: {row['tokens']:,} x {row['dims']}",
            size_text(row["rows"] * row["dims"]),
            size_text(row["page_bytes"]),
            *(f"{seconds:.1f} s" for seconds in (row["write_seconds"], row["ready_ms"] / 1000)),
            *(f"{row[key]:.0f} ms" for key in ("first_key_ms", "key_ms", "slowest_key_ms")),
            f"{row['load_in_python_seconds']:.1f} s",
        ]
        for row in result["pages"]
    ]
    about = (
        f"Chromium {result['browser']} on {result['hardware']['processor']}, {result['created'][:10]}, medians of "
        f"{OPENED} browsers that had never seen the page; a key is timed from the event to three rankings laid out."
    )
    return "\n".join([*table(header, rows), "", about])


def document(result: dict[str, Any]) -> str:
    """Return the guide with its block drawn from a result."""
    return with_block(DOCUMENT.read_text(encoding="utf-8"), "page", block(result))


def main() -> int:
    """Run the command line and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=Path, help="folders of static models (default: only render)")
    parser.add_argument("--dims", type=int, help="keep only the first N dimensions (default: all)", metavar="N")
    args = parser.parse_args()
    if args.models:
        from playwright.sync_api import sync_playwright

        clock = Clock()
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
            pages = [measure(browser, folder, args.dims) for folder in args.models]
            take_picture(browser, args.models[0], args.dims)
            result = {"schema_version": 1, "browser": browser.version, "pages": pages}
            browser.close()
        write_json(RESULT, result | provenance(clock, None))
    write_files({DOCUMENT: document(read_json(RESULT))})
    return 0


if __name__ == "__main__":
    sys.exit(main())
