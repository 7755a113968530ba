"""How fast `qwen25 encode` is in one process, in two and over Ray, and its peak memory; renders docs/SCALE.md.

python -m benchmarks.encode_scale MODEL     # measure (about half an hour on two cores), then render
python -m benchmarks.encode_scale           # render again from the result kept
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from wordfreq import top_n_list, word_frequency

from benchmarks.render_readme import with_block
from qwen25.runtime.files import read_json, write_files, write_json
from qwen25.runtime.provenance import Clock, provenance
from qwen25.runtime.text import size_text, table
from qwen25.store.static_model import load_model, model_name

ROOT = Path(__file__).resolve().parent.parent
RESULT, DOCUMENT = ROOT / "docs" / "results" / "encode_scale.json", ROOT / "docs" / "SCALE.md"
#: Of the corpus whose peak memory is taken; each turn of a way encodes a twentieth of it.
CHARACTERS, PARTS, TURNS = 100_000_000, 4, 2
SIZES = ("input_bytes", "output_bytes")
WAYS = {"one process": ["--workers", "1"], "two processes": ["--workers", "2"], "Ray, local": ["--ray", "local"]}


def write_corpus(path: Path, characters: int, seed: int = 0) -> int:
    """Write a Parquet file of texts of 40 words, drawn by their frequency in English; return the number of texts."""
    words = np.array(top_n_list("en", 30_000))
    chances = np.array([word_frequency(word, "en") for word in words])
    random, rows, written = np.random.default_rng(seed), 0, 0
    with pq.ParquetWriter(path, pa.schema({"id": pa.int64(), "text": pa.string()})) as writer:
        while written < characters:
            texts = [" ".join(row) for row in random.choice(words, (2000, 40), p=chances / chances.sum())]
            writer.write_table(pa.table({"id": range(rows, rows + len(texts)), "text": texts}))
            rows, written = rows + len(texts), written + sum(map(len, texts))
    return rows


def encode(model: Path, corpus: Path, output: Path, *flags: str) -> dict[str, Any]:
    """Run the command; return its seconds, and the most memory of its processes (a shared page counts once)."""
    command = [sys.executable, "-m", "qwen25.commands.main", "encode", str(corpus), "--model", str(model), *flags]
    load, started, peak = os.getloadavg()[0], time.perf_counter(), 0
    equal = os.environ | {"RAY_worker_niceness": "0"}  # Ray's own processes give way to others by default
    process = psutil.Popen([*command, "--output", str(output)], cwd=ROOT, env=equal)
    while process.poll() is None:
        with suppress(psutil.Error):  # one has just ended
            peak = max(peak, sum(one.memory_full_info().pss for one in [process, *process.children(recursive=True)]))
        time.sleep(0.5)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return {"seconds": round(time.perf_counter() - started, 2), "peak_bytes": peak, "load_before": load}


def measure(model: Path) -> dict[str, Any]:
    """Encode a small corpus in every way, in turn, and the large one once."""
    with tempfile.TemporaryDirectory() as scratch:
        small, large = Path(scratch) / "small", Path(scratch) / "large.parquet"
        small.mkdir()
        rows = sum(write_corpus(small / f"{i}.parquet", CHARACTERS // 20 // PARTS, i) for i in range(PARTS))
        runs: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS if way[0] != "R" or find_spec("ray")}
        for turn, way in product(range(TURNS), runs):
            output = Path(scratch) / f"{turn}-{way}"
            run = encode(model, small, output, *WAYS[way])
            runs[way].append(run | {"start_seconds": encode(model, small, output, *WAYS[way])["seconds"]})
        sizes = [sum(path.stat().st_size for path in folder.iterdir()) for folder in (small, output)]
        facts = {"rows": rows, "runs": runs, **dict(zip(SIZES, sizes, strict=True))}
        large_rows = write_corpus(large, CHARACTERS)
        whole = encode(model, large, Path(scratch) / "large", *WAYS["two processes"]) | {"rows": large_rows}
    return facts | {"characters": CHARACTERS // 20, "large": whole | {"characters": CHARACTERS}}


def block(result: dict[str, Any]) -> str:
    """Return the tables of docs/SCALE.md."""
    count, large, dims = result["rows"], result["large"], result["dims"]
    rates = {w: [count / (run["seconds"] - run["start_seconds"]) for run in rs] for w, rs in result["runs"].items()}
    ways = []
    for way, runs in result["runs"].items():
        ratios = [its / one for its, one in zip(rates[way], rates["one process"], strict=True)]
        start, peak, load = (median(run[key] for run in runs) for key in ("start_seconds", "peak_bytes", "load_before"))
        ratio = f"{median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"
        ways.append([way, f"{median(rates[way]):,.0f}", ratio, f"{start:.1f} s", size_text(int(peak)), f"{load:.1f}"])
    hours = 1e9 / 3600 / median(rates["one process"])
    what = f"{large['characters']:,} characters in one file, two processes"
    figures = [[what, f"{large['seconds']:,.0f} s, at most {size_text(large['peak_bytes'])}"]]
    figures += [["a billion rows: core-hours", f"{hours:,.0f}"]]
    figures += [[f"on {n} machines of 16 cores", f"{hours / 16 / n:,.1f} hours"] for n in (1, 10, 100)]
    figures += [["read and written", " and ".join(f"{result[key] / count:,.0f} GB" for key in SIZES)]]
    figures += [["vectors in float16, int8", f"{2 * dims:,} GB, {dims:,} GB"]]
    about = f"{count:,} texts of {result['characters'] // count} characters in {PARTS} files, {dims:,} dimensions; "
    about += f"{result['hardware']['processor']}, {result['hardware']['cores']} cores, {result['created'][:10]}. "
    about += f"Medians of {len(runs)} turns, in which the ways follow one another; [lowest, highest] ratio of a turn."
    header = ["", "rows a second", "against one process", "start", "memory", "load before"]
    return "\n".join([*table(header, ways), "", about, "", *table(["", ""], figures)])


def document(result: dict[str, Any]) -> str:
    """Return docs/SCALE.md with its block drawn from a result."""
    return with_block(DOCUMENT.read_text(encoding="utf-8"), "encode", block(result))


def main() -> int:
    """Run the command line and return the exit code."""
    if sys.argv[1:]:
        clock, model = Clock(), Path(sys.argv[1])
        facts = {"schema_version": 1, "model": model_name(model), "dims": int(load_model(model).dim)}
        write_json(RESULT, facts | measure(model) | provenance(clock, 0))
    write_files({DOCUMENT: document(read_json(RESULT))})
    return 0


if __name__ == "__main__":
    sys.exit(main())
