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
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from wordfreq import top_n_list, word_frequency

from qwen25.runtime.files import read_json, write_json, write_text
from qwen25.runtime.provenance import Clock, provenance
from qwen25.store.static_model import load_model, model_name

ROOT = Path(__file__).resolve().parent.parent
RESULT, DOCUMENT = ROOT / "docs" / "results" / "encode_scale.json", ROOT / "docs" / "SCALE.md"
#: Of the corpus whose peak memory is taken; each turn of a way encodes a tenth of it.
CHARACTERS, TURNS, BILLION = 100_000_000, 3, 10**9
WAYS = {"one process": ["--workers", "1"], "two processes": ["--workers", "2"], "Ray, local": ["--ray", "local"]}


def write_corpus(path: Path, characters: int) -> int:
    """Write a Parquet file of texts of 40 words, drawn by their frequency in English; return the number of texts."""
    words = np.array(top_n_list("en", 30_000))
    chances = np.array([word_frequency(word, "en") for word in words])
    random, rows, written = np.random.default_rng(42), 0, 0
    schema = pa.schema({"id": pa.int64(), "text": pa.string()})
    with pq.ParquetWriter(path, schema) as writer:
        while written < characters:
            texts = [" ".join(row) for row in random.choice(words, (2000, 40), p=chances / chances.sum())]
            writer.write_table(pa.table([pa.array(range(rows, rows + len(texts))), texts], schema))
            rows, written = rows + len(texts), written + sum(map(len, texts))
    return rows


def encode(model: Path, corpus: Path, output: Path, *flags: str) -> dict[str, Any]:
    """Run the command; return its seconds, and the most memory of its processes together (shared pages once each)."""
    command = [sys.executable, "-m", "qwen25.commands.main", "encode", str(corpus), "--model", str(model), *flags]
    load, started, peak = os.getloadavg()[0], time.perf_counter(), 0
    process = psutil.Popen([*command, "--output", str(output)], cwd=ROOT)
    while process.poll() is None:
        try:
            peak = max(peak, sum(one.memory_info().rss for one in [process, *process.children(recursive=True)]))
        except psutil.Error:
            continue  # one has just ended
        time.sleep(0.1)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return {"seconds": round(time.perf_counter() - started, 2), "peak_bytes": peak, "load_before": load}


def measure(model: Path) -> dict[str, Any]:
    """Encode a small corpus in every way, in turn, and the large one once."""
    with tempfile.TemporaryDirectory() as scratch:
        small, large = Path(scratch) / "small.parquet", Path(scratch) / "large.parquet"
        rows, ways = write_corpus(small, CHARACTERS // 10), [w for w in WAYS if w[0] != "R" or find_spec("ray")]
        runs: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
        for turn in range(TURNS):
            for way in ways:
                output = Path(scratch) / f"{turn}-{way}"
                run = encode(model, small, output, *WAYS[way])
                run["start_seconds"] = encode(model, small, output, *WAYS[way])["seconds"]  # nothing is left to do
                runs[way].append(run)
        output_bytes = (output / small.name).stat().st_size
        facts = {"rows": rows, "input_bytes": small.stat().st_size, "output_bytes": output_bytes, "runs": runs}
        large_rows = write_corpus(large, CHARACTERS)
        whole = encode(model, large, Path(scratch) / "large", *WAYS["two processes"]) | {"rows": large_rows}
    return facts | {"characters": CHARACTERS // 10, "large": whole | {"characters": CHARACTERS}}


def document(result: dict[str, Any]) -> str:
    """Render docs/SCALE.md."""
    return ""


def main() -> int:
    """Run the command line and return the exit code."""
    if sys.argv[1:]:
        clock, model = Clock(), Path(sys.argv[1])
        facts = {"schema_version": 1, "model": model_name(model), "dims": int(load_model(model).dim)}
        write_json(RESULT, facts | measure(model) | provenance(clock, 42))
    write_text(DOCUMENT, document(read_json(RESULT)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
