"""A corpus becomes Parquet with vectors: every format, bad rows and parts, kills, one process as several."""

from __future__ import annotations

import gzip
import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from model2vec import StaticModel

from qwen25.commands import encode

TEXTS = [f"the {word} sat on mat {i} of a house" for i, word in enumerate(["cat", "dog", "hen", "été"] * 30)]


@pytest.fixture(autouse=True)
def small_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode, "BATCH_ROWS", 16)


def write(path: Path, texts: Sequence[object] = TEXTS) -> Path:
    """Write a part with ids, numbers with gaps, and texts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"id": i, "score": i / 2 if i % 2 else None, "text": text} for i, text in enumerate(texts)]
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=50)
    elif path.suffix in (".csv", ".tsv"):
        options = pa_csv.WriteOptions(delimiter="\t" if path.suffix == ".tsv" else ",")
        pa_csv.write_csv(pa.Table.from_pylist(rows), path, options)
    else:
        lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
        path.write_bytes(gzip.compress(lines) if path.suffix == ".gz" else lines)
    return path


@pytest.fixture
def run(model: Path, tmp_path: Path) -> Callable[..., int]:
    """``qwen25 encode`` of the folder "in" into "out", in one process unless told otherwise."""

    def run(*flags: str, output: str = "out", given: str = "in") -> int:
        paths = [str(tmp_path / given), "--model", str(model), "--output", str(tmp_path / output)]
        return encode.main([*paths, "--workers", "1", *flags])

    return run


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() if path.is_file() else b"" for path in folder.iterdir()}


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl", "a.jsonl.gz", "a.csv", "a.tsv"])
def test_every_format_gets_the_vectors_of_model2vec(name: str, run: Callable, model: Path, tmp_path: Path) -> None:
    texts = [*TEXTS, 'two\nlines, "quoted"', "", "long " * 10_000]
    write(tmp_path / "in" / "deep" / name, texts)
    assert run(given="in/**/a.*") == 0
    table = pq.read_table(tmp_path / "out" / f"{name.removesuffix('.parquet')}.parquet")
    assert table["text"].to_pylist() == texts
    assert table["id"].to_pylist() == [str(i) if name.endswith("sv") else i for i in range(len(texts))]
    assert table.schema.field("vector").type == pa.list_(pa.float16(), 48)
    expected = StaticModel.from_pretrained(model).encode(texts)
    assert np.allclose(np.array(table["vector"].to_pylist()), expected, atol=1e-3)


def test_int8_says_its_scale_and_a_model_that_cuts_is_heeded(run: Callable, model: Path, tmp_path: Path) -> None:
    texts = [*TEXTS, "cat " * 10_000]
    write(tmp_path / "in" / "a.jsonl", texts)
    cutting = shutil.copytree(model, tmp_path / "cutting")
    config = json.loads((cutting / "config.json").read_text())
    (cutting / "config.json").write_text(json.dumps(config | {"max_length": 3}))
    assert run("--storage", "int8", "--model", str(cutting)) == 0
    expected = StaticModel.from_pretrained(cutting).encode(texts)
    facts = json.loads(pq.read_metadata(tmp_path / "out" / "a.jsonl.parquet").metadata[b"qwen25"])
    assert facts["max_length"] == 3
    table = pq.read_table(tmp_path / "out" / "a.jsonl.parquet")
    found = np.array(table["vector"].to_pylist()) * facts["scale"]
    assert (np.sum(found * expected, axis=1) > 0.99).all()


def test_bad_rows_and_parts_are_one_line_each(run: Callable, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    good = write(tmp_path / "in" / "a.jsonl", [None, "a", 7, "b", "\ud800"])
    good.write_bytes(good.read_bytes() + b'{"text": "c"\n[1]\n\n{"text": "d", "id": 2}\n{"text": "\xff"}\n')
    write(tmp_path / "in" / "b.csv").open("ab").write(b"1,2,\xff\n1,2\n1,2,3,4\n")
    (tmp_path / "in" / "c.jsonl.gz").write_bytes(gzip.compress(b'{"text": "a"}\n' * 1000)[:-9])
    (tmp_path / "in" / "d.parquet").write_bytes(b"PAR1, but no more")
    write(tmp_path / "in" / "e.parquet", [1, 2])
    pq.write_table(pa.table({"body": ["a"]}), tmp_path / "in" / "f.parquet")
    pq.write_table(pa.table({"text": ["a"], "vector": [1]}), tmp_path / "in" / "g.parquet")
    assert run() == 1
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == {"a.jsonl.parquet", "b.csv.parquet"}
    table = pq.read_table(out / "a.jsonl.parquet")
    assert table["vector"].is_valid().to_pylist() == [False, True, False, True, False, False, False, True, False]
    assert table["id"].to_pylist() == [0, 1, 2, 3, 4, None, None, 2, None]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 7
    assert lines[0].startswith("a.jsonl: 6 of 9 rows have no vector") and lines[0].endswith("rows 1, 3, 5, ...")
    assert lines[1].endswith("rows 121, 122, 123")
    for name, line in zip(["c.jsonl.gz", "d.parquet", "e.parquet"], lines[2:5], strict=True):
        assert line.startswith(f"{name} cannot be encoded (")
    assert "no column 'text', but body" in lines[5]
    assert "a column 'vector' already" in lines[6]


def test_what_is_done_is_kept_and_what_changed_is_refused(run: Callable, tmp_path: Path) -> None:
    first, second = write(tmp_path / "in" / "a.csv"), write(tmp_path / "in" / "b.parquet")
    assert run() == 0
    out = tmp_path / "out"
    (out / "b.parquet").unlink()
    before = (out / "a.csv.parquet").stat().st_ino
    assert run() == 0
    assert (out / "a.csv.parquet").stat().st_ino == before
    assert (out / "b.parquet").is_file()
    write(first, TEXTS[:5])
    assert run() == 1
    assert (out / "a.csv.parquet").stat().st_ino == before
    assert run("--storage", "int8") == 1
    assert run(output="in") == 2
    assert second.stat().st_size < (out / "b.parquet").stat().st_size


def test_a_killed_run_and_a_killed_worker_leave_the_bytes_of_one_process(
    run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    write(tmp_path / "in" / "a.jsonl"), write(tmp_path / "in" / "b.parquet")
    assert run(output="one") == 0
    mark, real = tmp_path / "killed", encode.with_vectors

    def killed(job: encode.Job, table: pa.Table) -> pa.Table:
        if "b.parquet" in job.source and 64 in table["id"].to_pylist() and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return real(job, table)

    killed.__module__, killed.__qualname__ = encode.__name__, "with_vectors"
    monkeypatch.setattr(encode, "with_vectors", killed)
    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert len(contents(tmp_path / "out")) == 2  # the first part, and what the kill left of the second
    mark.unlink()
    assert run("--workers", "2") == 1
    assert capsys.readouterr().err.startswith("error: b.parquet: a worker was killed; run again")
    assert run("--workers", "2") == 0
    assert "1 encoded, 1 there before" in capsys.readouterr().out
    assert contents(tmp_path / "out") == contents(tmp_path / "one")


@pytest.mark.skipif(find_spec("ray") is None, reason="pip install 'ray[data]' installs ray")
def test_ray_gives_the_bytes_and_lines_of_one_process(
    run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.undo()  # Ray's processes know nothing of it
    for i in range(3):
        write(tmp_path / "in" / f"{i}.parquet", [*TEXTS, None])
    (tmp_path / "in" / "4.parquet").write_bytes(b"broken")
    assert run(output="one") == 1
    lines = set(capsys.readouterr().err.splitlines())
    assert run("--ray", "local") == 1
    assert lines <= set(capsys.readouterr().err.splitlines())
    assert contents(tmp_path / "out") == contents(tmp_path / "one")
