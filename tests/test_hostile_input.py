"""Broken models, teachers and result files: one line that says what is wrong, and nothing is written."""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Phases
from model2vec import StaticModel
from safetensors.numpy import save_file

import compare_qwen25_vs_all as compare_script
import quick_eval_qwen25_1024d as evaluate_script
from qwen25.commands import publish
from qwen25.reports import plots
from qwen25.runtime.errors import InputError
from qwen25.runtime.files import read_json, write_json
from qwen25.store.static_model import load_model, static_encode

Change = Callable[[Path], Any]


@pytest.fixture
def refusal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a phase that must fail on its input; returns its one line. Nothing may be left at its output."""

    def run(script: Any, *arguments: object, code: int = 2) -> str:
        capsys.readouterr()
        output = tmp_path / "output" / "out"
        found = script.main([*map(str, arguments), "--output", str(output)])
        lines = capsys.readouterr().err.strip().splitlines()
        assert found == code, lines
        assert [line for line in lines if line.startswith("error: ")] == lines[-1:]
        assert "Traceback" not in "".join(lines) and "--debug" not in lines[-1]
        assert not output.parent.exists() or not list(output.parent.iterdir())
        return lines[-1]

    return run


def write(name: str, content: bytes) -> Change:
    return lambda folder: (folder / name).write_bytes(content)


def cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def table(change: Callable[[np.ndarray], np.ndarray]) -> Change:
    def apply(folder: Path) -> None:
        rows = np.array(StaticModel.from_pretrained(folder).embedding)
        save_file({"embeddings": np.ascontiguousarray(change(rows))}, folder / "model.safetensors")

    return apply


BAD_MODELS: dict[str, tuple[Change, str]] = {
    "cut": (cut, "no static model that loads"),
    "random bytes": (write("model.safetensors", np.random.default_rng(0).bytes(5000)), "no static model that loads"),
    "only a pickle": (pickled, "pickled"),
    "fewer rows": (table(lambda rows: rows[:-3]), "no static model that loads"),
    "only zeros": (table(np.zeros_like), "zero, NaN or infinite"),
    "NaN": (table(lambda rows: np.where(rows == rows[5], np.nan, rows)), "zero, NaN or infinite"),
    "config an array": (write("config.json", b"[]"), "no static model that loads"),
    "nothing": (shutil.rmtree, "no such model folder"),
}


@pytest.mark.parametrize("name", BAD_MODELS)
def test_a_broken_model_is_refused(
    name: str, tiny_model: Path, on_few_items: Path, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    change, reason = BAD_MODELS[name]
    folder = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    change(folder)
    assert reason in refusal(evaluate_script, "--model", folder)
    assert reason in refusal(compare_script, "--no-peers", "--model", f"BAD={folder}")


def test_any_text_has_one_finite_vector(tiny_model: Path) -> None:
    encode = static_encode(load_model(tiny_model))
    random = np.random.default_rng(0)
    for _ in range(50):
        batch = ["".join(map(chr, random.integers(0xD800, size=random.integers(12)))) for _ in range(40)]
        vectors = encode(batch)
        lengths = np.linalg.norm(vectors, axis=1)
        assert vectors.shape[0] == len(batch) and ((lengths == 0) | (abs(lengths - 1) < 1e-5)).all()
        np.testing.assert_array_equal(encode(batch[::-1])[::-1], vectors)
    np.testing.assert_allclose(encode(["word " * 20_000]), encode(["word " * 10_000]), atol=1e-3)
    with pytest.raises(InputError, match="cannot encode"):
        encode(["half a character: \ud800"])


DELETED = object()


def paths_in(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to every part of a JSON value, of long lists to the first items."""
    inner = value.items() if isinstance(value, dict) else enumerate(value[:3]) if isinstance(value, list) else ()
    for key, part in inner:
        yield (*before, key)
        yield from paths_in(part, (*before, key))


def mutated(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """Return a copy with one part replaced, or deleted."""
    value = inner = copy.deepcopy(value)
    for key in path[:-1]:
        inner = inner[key]
    if new is DELETED:
        del inner[path[-1]]
    else:
        inner[path[-1]] = new
    return value


def test_a_changed_result_is_published_or_refused(
    tiny_model: Path,
    on_few_items: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whatever one of its fields becomes; when refused, what was published before stays."""
    phases = Phases(tmp_path)
    shutil.copytree(tiny_model, phases.model)
    assert phases.evaluate() == phases.compare("TINY", "--model", "WORDS=bm25") == 0
    for module, name in ((plots, "category_bars"), (plots, "quality_against_size"), (plots, "png"), (os, "fsync")):
        monkeypatch.setattr(module, name, lambda *_: b"")  # they take most of the time
    monkeypatch.setattr(publish, "check", lambda *_: [])
    originals = {
        path: read_json(path) for path in (phases.model / "metadata.json", phases.evaluation, phases.comparison)
    }
    ways = [(path, way) for path, original in originals.items() for way in paths_in(original)]
    random, codes, before = np.random.default_rng(0), [], {}
    for place in random.choice(len(ways), 20, replace=False):
        path, way = ways[place]
        new = [DELETED, None, -1, 1e300, "", "<b>é|`x`", [], {"a": [0]}][random.integers(8)]
        path.write_text(json.dumps(mutated(originals[path], way, new)), encoding="utf-8")
        capsys.readouterr()
        codes.append(code := phases.publish())
        write_json(path, originals[path])
        error = capsys.readouterr().err.splitlines()
        found = {p: p.read_bytes() for p in phases.publication.rglob("*") if p.is_file()}
        assert code == 0 or (code == 2 and error[-1].startswith("error: ") and len(error) == 1), error
        assert code == 0 or found == before
        before = found
    assert set(codes) == {0, 2}
