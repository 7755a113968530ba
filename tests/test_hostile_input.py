"""Broken models, items and result files: one line that says what is wrong, and nothing that was good is lost."""

from __future__ import annotations

import copy
import json
import os
import pickle
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import NEEDS_PYLATE, ROOT
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from model2vec import StaticModel
from safetensors.numpy import save_file

from qwen25.commands import compare as compare_command
from qwen25.commands import evaluate as evaluate_command
from qwen25.commands import publish as publish_command
from qwen25.evaluation import items
from qwen25.evaluation.categories.all import CATEGORIES, WEIGHTS
from qwen25.evaluation.categories.instruction_awareness import INTENTS
from qwen25.evaluation.encoder import static_encoder
from qwen25.evaluation.evaluate import evaluate
from qwen25.evaluation.items import items_file, load_items
from qwen25.evaluation.loading import load_encoder
from qwen25.evaluation.results import as_json
from qwen25.publication import publication as publication_module
from qwen25.publication.contents import BENCHMARKS
from qwen25.publication.publication import Publication
from qwen25.reports import plots
from qwen25.reports.demo import main
from qwen25.runtime.errors import InputError, PipelineError, as_input_error
from qwen25.runtime.files import read_json, write_json
from qwen25.store import static_model
from qwen25.store.static_model import load_model, static_encode

EXAMPLES = ROOT / "examples"
OLD = '{"good": "before"}\n'
Change = Callable[[Path], Any]


class Run:
    """Runs phase 2 or 3 where an earlier result lies."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.output = folder / "results" / "result.json"
        self.output.parent.mkdir()
        self.output.write_text(OLD)
        self._capsys = capsys

    def refusal_of(self, script: Any, *arguments: str) -> str:
        """Return the one line in which a run is refused; what was there before must still be there, and alone."""
        self._capsys.readouterr()
        assert script.main([*arguments, "--output", str(self.output)]) == 2
        lines = self._capsys.readouterr().err.strip().splitlines()
        assert lines[-1].startswith("error: ") and "Traceback" not in "".join(lines)
        # Before the error there is only what the log says of the progress.
        assert not [line for line in lines[:-1] if "rror" in line or "Warning" in line]
        assert [path.name for path in self.output.parent.iterdir()] == [self.output.name]
        assert self.output.read_text() == OLD
        return lines[-1]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(tmp_path, capsys)


def write(name: str, content: str | bytes) -> Change:
    return lambda folder: (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


def weights(change: Callable[[bytes], bytes]) -> Change:
    def apply(folder: Path) -> None:
        path = folder / "model.safetensors"
        path.write_bytes(change(path.read_bytes()))

    return apply


def table(change: Callable[[np.ndarray], np.ndarray], **parts: Callable[[int], np.ndarray]) -> Change:
    """Change the table; ``parts`` are made from the number of tokens."""

    def apply(folder: Path) -> None:
        rows = np.asarray(StaticModel.from_pretrained(folder).embedding)
        made = {name: part(len(rows)) for name, part in parts.items()}
        save_file({"embeddings": np.ascontiguousarray(change(rows)), **made}, folder / "model.safetensors")

    return apply


def row(value: float) -> Callable[[np.ndarray], np.ndarray]:
    """Put ``value`` into one row."""

    def change(rows: np.ndarray) -> np.ndarray:
        rows = rows.copy()
        rows[5] = value
        return rows

    return change


def same(rows: np.ndarray) -> np.ndarray:
    return rows


def tokenizer(change: Callable[[dict[str, Any]], Any]) -> Change:
    def apply(folder: Path) -> None:
        spec = read_json(folder / "tokenizer.json")
        change(spec)
        (folder / "tokenizer.json").write_text(json.dumps(spec), encoding="utf-8")

    return apply


def with_a_hole(spec: dict[str, Any]) -> None:
    """Give a token an id far behind the others."""
    vocabulary = spec["model"]["vocab"]
    vocabulary[max(vocabulary, key=vocabulary.get)] += 500


def emptied(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def no_model(folder: Path) -> None:
    emptied(folder)
    (folder / "thesis.tex").write_text("years of work")


def a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("no folder")


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").replace(folder / "pytorch_model.bin")


BAD_MODELS: dict[str, tuple[Change, str]] = {
    "cut": (weights(lambda b: b[:-100]), "no static model that loads"),
    "cut in the header": (weights(lambda b: b[:20]), "no static model that loads"),
    "empty file": (weights(lambda b: b""), "no static model that loads"),
    "lying header length": (weights(lambda b: (2**60).to_bytes(8, "little") + b[8:]), "no static model that loads"),
    "lying shape": (weights(lambda b: b.replace(b'"shape":[2', b'"shape":[9', 1)), "no static model that loads"),
    "random bytes": (write("model.safetensors", np.random.default_rng(0).bytes(5000)), "no static model that loads"),
    "a pickle": (write("model.safetensors", pickle.dumps([1] * 100)), "no static model that loads"),
    "only a pickle": (pickled, "pickled"),
    "another tensor": (lambda f: save_file({"x": np.ones(3)}, f / "model.safetensors"), "embeddings"),
    "fewer rows": (table(lambda rows: rows[:-3]), r"tokens \(2000\).*vectors \(1997\)"),
    "more rows": (table(lambda rows: np.vstack([rows, rows[:3]])), r"tokens \(2000\).*vectors \(2003\)"),
    "no rows": (table(lambda rows: rows[:0]), r"vectors \(0\)"),
    "no columns": (table(lambda rows: rows[:, :0]), "no table of vectors"),
    "only zeros": (table(np.zeros_like), "only zero vectors"),
    "NaN": (table(row(np.nan)), "NaN or infinite"),
    "infinity": (table(row(np.inf)), "NaN or infinite"),
    "overflow": (table(row(3e38)), "NaN or infinite"),
    "float64 overflow": (table(lambda rows: row(1e300)(rows.astype(np.float64))), "NaN or infinite"),
    "one dimension": (table(lambda rows: rows[:, 0]), "no table of vectors"),
    "three dimensions": (table(lambda rows: rows[:, :, None]), "no table of vectors"),
    "integers": (table(lambda rows: (100 * rows).astype(np.int32)), "int32"),
    "truth values": (table(lambda rows: rows > 0), "bool"),
    "no config": (lambda f: (f / "config.json").unlink(), "no static model that loads"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "no static model that loads"),
    "config not JSON": (write("config.json", "{"), "no static model that loads"),
    "config an array": (write("config.json", "[]"), "no static model that loads"),
    "no length left": (write("config.json", '{"max_length": 0}'), "max_length"),
    "length no number": (write("config.json", '{"max_length": "x"}'), "max_length"),
    "tokenizer not JSON": (write("tokenizer.json", "nope"), "no static model that loads"),
    "tokenizer an array": (write("tokenizer.json", "[]"), "no static model that loads"),
    "tokenizer not text": (write("tokenizer.json", b"\xff\xfe\x00"), "no static model that loads"),
    "tokenizer empty": (write("tokenizer.json", "{}"), "no static model that loads"),
    "ids with a hole": (tokenizer(with_a_hole), "the id 2[0-9]{3}, but only 2000 rows"),
    "weights too few": (table(same, weights=lambda n: np.ones(n - 1, np.float32)), "weighs its tokens"),
    "weights a table": (table(same, weights=lambda n: np.ones((n, 2), np.float32)), "weighs its tokens"),
    "weights NaN": (table(same, weights=lambda n: np.full(n, np.nan, np.float32)), "weighs its tokens"),
    "mapping too short": (table(same, mapping=lambda n: np.arange(3)), "maps its tokens"),
    "mapping too far": (table(same, mapping=lambda n: np.full(n, n)), "rows that are not there"),
    "mapping negative": (table(same, mapping=lambda n: np.full(n, -1)), "rows that are not there"),
    "mapping of fractions": (table(same, mapping=lambda n: np.ones(n, np.float32)), "maps its tokens"),
    "an empty folder": (emptied, "no .safetensors weights"),
    "no model": (no_model, "no .safetensors weights"),
    "a file": (a_file, "no such model folder"),
    "nothing": (shutil.rmtree, "no such model folder"),
}


class TestModels:
    @pytest.mark.parametrize("name", BAD_MODELS)
    def test_a_broken_model_is_refused(
        self, name: str, tiny_model: Path, few_items: Path, tmp_path: Path, run: Run
    ) -> None:
        change, reason = BAD_MODELS[name]
        folder = tmp_path / "model"
        shutil.copytree(tiny_model, folder)
        change(folder)
        common = ["--items", str(few_items)]
        for script, spec in (
            (evaluate_command, ["--model", str(folder)]),
            (compare_command, ["--no-peers", "--ours", f"BAD={folder}"]),
        ):
            line = run.refusal_of(script, *spec, *common)
            with pytest.raises(InputError, match=reason):
                raise InputError(line)

    @pytest.mark.parametrize("kind", ["st:", pytest.param("colbert:", marks=NEEDS_PYLATE), "model2vec:"])
    @pytest.mark.parametrize("name", ["cut", "random bytes", "tokenizer an array", "no model", "a file"])
    def test_a_broken_peer_is_refused(
        self, kind: str, name: str, tiny_bert: Path, few_items: Path, tmp_path: Path, run: Run
    ) -> None:
        folder = tmp_path / "bert"
        shutil.copytree(tiny_bert, folder)
        BAD_MODELS[name][0](folder)
        line = run.refusal_of(evaluate_command, "--model", f"{kind}{folder}", "--items", str(few_items))
        assert "give a" in line  # what to do

    @pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json", "1_Normalize/config.json"])
    @pytest.mark.parametrize("kind", ["", "st:"])
    def test_what_never_ends_is_not_read(self, kind: str, name: str, tiny_model: Path, tmp_path: Path) -> None:
        """A pipe, or a link to a device."""
        folder = Path(shutil.copytree(tiny_model, tmp_path / "model"))
        (folder / name).unlink()
        for make in (os.mkfifo, lambda path: path.symlink_to("/dev/zero")):
            make(folder / name)
            with pytest.raises(InputError, match="is a pipe or a device"):
                load_encoder(f"{kind}{folder}")
            (folder / name).unlink()

    def test_a_panic_of_the_tokenizer_is_an_error_like_others(self, tiny_model: Path, tmp_path: Path) -> None:
        folder = tmp_path / "model"
        shutil.copytree(tiny_model, folder)
        empty_prefix = {"type": "Prepend", "prepend": ""}
        tokenizer(lambda spec: spec.update(normalizer=empty_prefix))(folder)
        with pytest.raises(InputError, match="cannot encode"):
            static_encode(load_model(folder))(["some text"])

    def test_only_errors_of_the_input_become_one(self) -> None:
        for error in (KeyboardInterrupt(), MemoryError(), PipelineError("the disk is full")):
            with pytest.raises(type(error)) as raised, as_input_error("a file", "repair it"):
                raise error
            assert raised.value is error
        with pytest.raises(InputError, match=r"a file \(no 'x'\): repair it"), as_input_error("a file", "repair it"):
            {}["x"]

    def test_equal_rows_are_a_collapse(self, tiny_model: Path, few_items: Path, tmp_path: Path, run: Run) -> None:
        folder = tmp_path / "model"
        shutil.copytree(tiny_model, folder)
        table(np.ones_like)(folder)
        arguments = ["--model", str(folder), "--items", str(few_items), "--output", str(run.output)]
        assert evaluate_command.main(arguments) == 0
        verdict = read_json(run.output)["verdict"]
        assert verdict["verdict"] == "Poor" and any("collapsed" in reason for reason in verdict["reasons"])

    @pytest.mark.parametrize(
        "change",
        [
            table(lambda rows: rows * (np.arange(len(rows)) % 2)[:, None]),
            table(lambda rows: np.clip(100 * rows, -127, 127).astype(np.int8)),
            table(lambda rows: rows[:99], mapping=lambda n: np.arange(n) % 99, weights=lambda n: np.ones(n, "f4")),
        ],
        ids=["some zero rows", "int8", "quantised vocabulary"],
    )
    def test_what_looks_odd_but_is_sound_is_scored(
        self, change: Change, tiny_model: Path, few_items: Path, tmp_path: Path, run: Run
    ) -> None:
        folder = tmp_path / "model"
        shutil.copytree(tiny_model, folder)
        change(folder)
        arguments = ["--model", str(folder), "--items", str(few_items), "--output", str(run.output)]
        assert evaluate_command.main([*arguments, "--categories", "semantic_similarity"]) == 0
        assert read_json(run.output)["categories"]["semantic_similarity"]["score"] <= 1

    def test_long_texts_are_encoded_a_few_at_a_time(self, monkeypatch: pytest.MonkeyPatch, tiny_model: Path) -> None:
        model, sizes = load_model(tiny_model), []
        encode = model._encode_batch

        def noted(texts: list[str], normalize: bool) -> np.ndarray:
            sizes.append(len(texts))
            return encode(texts, normalize)

        monkeypatch.setattr(model, "_encode_batch", noted)
        static_encode(model)(["short"] * 2000)
        assert sizes == [1024, 976]
        sizes.clear()
        monkeypatch.setattr(static_model, "BATCH_CHARACTERS", 4000)
        static_encode(model)(["x" * 1000] * 6)
        assert sizes == [4, 2]

    @pytest.mark.parametrize("place", [".", "folder", "file.txt/result.json"])
    def test_an_output_that_cannot_be_written_is_refused_before_the_work(
        self, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Path("folder").mkdir()
        Path("file.txt").write_text("mine")
        for script, work in ((evaluate_command, "load_encoder"), (compare_command, "compare")):
            monkeypatch.setattr(script, work, lambda *_: pytest.fail("it was begun"))
            assert script.main(["--output", place]) == 2
            assert capsys.readouterr().err.startswith("error: ")

    def test_no_report_takes_the_place_of_the_result(self, tmp_path: Path, run: Run) -> None:
        run.output = run.output.replace(run.output.with_name("comparison.md"))
        assert "place of another result" in run.refusal_of(compare_command)
        assert "place of another result" in run.refusal_of(evaluate_command, "--report", str(run.output))


def lines_of(category: str, folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in items_file(folder, category).read_text(encoding="utf-8").splitlines()]


def put(folder: Path, category: str, rows: list[dict[str, Any]], **how: Any) -> None:
    text = "\n".join(json.dumps(row, **how) for row in rows)
    (folder / f"{category}.jsonl").write_text(text, encoding="utf-8")


#: Right to left, combining marks, a null byte, line ends inside a text, joiners, private characters.
ODD_TEXTS = [
    "שלום עולם \u202eabc",
    "e\u0301\u0323 Z\u0337\u0322a\u0337l",
    "null\x00byte",
    "line\u2028end\x85x\x0by",
    "\U0001f469\u200d\U0001f467\ufe0f",
    "\ue000\U0010ffff",
    "\ufeff",
    "a\r\nb\tc",
    "\u200b",
]


class TestItems:
    @pytest.fixture
    def folder(self, few_items: Path, tmp_path: Path) -> Path:
        shutil.copytree(few_items, tmp_path / "items")
        return tmp_path / "items"

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"", "0 items"),
            (b"\n \n\t\n", "0 items"),
            (b"[", "line 1: not JSON"),
            (b"id,text\n1,2\n", "line 1: not JSON"),
            (b"\xff\xfei\x00", "not UTF-8"),
            (b"null\n", "not a JSON object"),
            (b'{"id": ' + b"9" * 5000 + b"}", "not JSON"),
        ],
    )
    def test_a_bad_file_is_one_line(
        self, content: bytes, reason: str, folder: Path, tiny_model: Path, run: Run
    ) -> None:
        (folder / "code_understanding.jsonl").write_bytes(content)
        for script, spec in ((evaluate_command, "--model"), (compare_command, "--ours")):
            model = str(tiny_model) if spec == "--model" else f"OURS={tiny_model}"
            line = run.refusal_of(script, spec, model, "--items", str(folder))
            assert reason in line and "code_understanding.jsonl" in line

    @pytest.mark.parametrize("category", WEIGHTS)
    @pytest.mark.parametrize("value", [None, 7, True, [], ["x"], {}, "", " \u2003\n", "y" * 1_000_000, "\ud800"])
    def test_every_text_of_every_category_is_checked(self, category: str, value: Any, folder: Path) -> None:
        rows = lines_of(category, folder)
        for field in ("id", *CATEGORIES[category].text_fields):
            changed = copy.deepcopy(rows)
            changed[1][field] = value
            put(folder, category, changed)
            with pytest.raises(InputError, match=f"line 2: '{field}'"):
                load_items(folder, category)
            del changed[1][field]
            put(folder, category, changed)
            with pytest.raises(InputError, match=f"line 2: '{field}'"):
                load_items(folder, category)

    def test_duplicates_and_a_name_that_is_no_name(self, folder: Path) -> None:
        rows = lines_of("topic_clustering", folder)
        put(folder, "topic_clustering", [*rows, rows[0]])
        with pytest.raises(InputError, match="two items have the id"):
            load_items(folder, "topic_clustering")
        put(folder, "topic_clustering", [*rows, rows[0] | {"id": "new", "topic": "t" * 201}])
        with pytest.raises(InputError, match="'topic' has 201 characters"):
            load_items(folder, "topic_clustering")

    def test_what_cannot_be_told_apart_is_refused(self, folder: Path) -> None:
        """One topic, or as many topics as sentences, would score as if it were found; one topic of a grid by chance."""
        rows = lines_of("topic_clustering", folder)
        put(folder, "topic_clustering", [row | {"topic": "the same"} for row in rows])
        with pytest.raises(InputError, match="one topic"):
            load_items(folder, "topic_clustering")
        put(folder, "topic_clustering", [row | {"topic": row["id"]} for row in rows])
        with pytest.raises(InputError, match="one sentence"):
            load_items(folder, "topic_clustering")
        rows = lines_of("instruction_awareness", folder)
        put(folder, "instruction_awareness", rows[: len(INTENTS)])
        with pytest.raises(InputError, match="one topic"):
            load_items(folder, "instruction_awareness")
        put(folder, "instruction_awareness", rows[1:])
        with pytest.raises(InputError, match="each of the"):
            load_items(folder, "instruction_awareness")

    def test_a_huge_file_is_refused_before_it_fills_the_memory(self, folder: Path, tiny_model: Path, run: Run) -> None:
        row = lines_of("semantic_similarity", folder)[0]
        path = items_file(folder, "semantic_similarity")
        with path.open("w", encoding="utf-8") as file:
            for i in range(100_000):
                row["id"] = str(i)
                file.write(json.dumps(row) + "\n")
        size = path.stat().st_size
        tracemalloc.start()
        line = run.refusal_of(evaluate_command, "--model", str(tiny_model), "--items", str(folder))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert "more than 5,000 items" in line
        assert peak < size / 2  # the file itself was never read as a whole

    def test_limits_are_the_largest_that_are_read(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        row = lines_of("semantic_similarity", folder)[0]
        monkeypatch.setattr(items, "MAX_ITEMS", 50)
        put(folder, "semantic_similarity", [row | {"id": str(i)} for i in range(50)])
        assert len(load_items(folder, "semantic_similarity")) == 50
        put(folder, "semantic_similarity", [row | {"negatives": (row["negatives"] * 6)[:10]}, row | {"id": "2"}])
        assert len(load_items(folder, "semantic_similarity")[0]["negatives"]) == 10
        put(folder, "semantic_similarity", [row | {"negatives": (row["negatives"] * 6)[:11]}, row | {"id": "2"}])
        with pytest.raises(InputError, match="1 to 10"):
            load_items(folder, "semantic_similarity")
        monkeypatch.setattr(items, "MAX_FILE_MB", 1e-4)
        with pytest.raises(InputError, match="take a sample"):
            load_items(folder, "semantic_similarity")

    @pytest.mark.parametrize(("before", "end"), [(b"\xef\xbb\xbf", b"\n"), (b"", b"\r\n"), (b"", b"\n\n")])
    def test_what_editors_add_does_not_matter(self, folder: Path, before: bytes, end: bytes) -> None:
        path = items_file(folder, "semantic_similarity")
        wanted = load_items(folder, "semantic_similarity")
        path.write_bytes(before + path.read_bytes().replace(b"\n", end) + end)
        assert load_items(folder, "semantic_similarity") == wanted

    @pytest.mark.parametrize("ascii_only", [True, False])
    def test_odd_texts_are_scored_and_reported(
        self, ascii_only: bool, folder: Path, tiny_model: Path, tmp_path: Path
    ) -> None:
        row = lines_of("semantic_similarity", folder)[0]
        # Fields that are not of the category are nobody's business, whatever they hold.
        extra = {"code": 7, "document": None, "en": ["x"], "text": "\ud800" if ascii_only else {}}
        rows = [row | extra | {"id": text, "anchor": text, "paraphrase": f"{text} {text}"} for text in ODD_TEXTS]
        put(folder, "semantic_similarity", rows, ensure_ascii=ascii_only)
        output, report = tmp_path / "result.json", tmp_path / "report.html"
        arguments = ["--model", str(tiny_model), "--items", str(folder), "--output", str(output)]
        arguments += ["--categories", "semantic_similarity", "--report", str(report)]
        assert evaluate_command.main(arguments) == 0
        result = read_json(output)
        assert {item["id"] for item in result["categories"]["semantic_similarity"]["worst_items"]} <= set(ODD_TEXTS)
        assert "שלום" in report.read_text(encoding="utf-8")

    def test_the_fewest_items_give_a_whole_result(self, few_items: Path, tiny_model: Path) -> None:
        rows = {category: load_items(few_items, category) for category in WEIGHTS}
        result = as_json(evaluate(static_encoder("tiny", load_model(tiny_model)), rows, 42))
        json.dumps(result, allow_nan=False)
        assert set(result["categories"]) == set(WEIGHTS)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["<b>", "é|`x`"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
DELETED = object()


def paths_in(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to every part of a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inner:
        yield (*before, key)
        yield from paths_in(part, (*before, key))


def mutated(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """Return a copy with one part replaced, or deleted."""
    value = copy.deepcopy(value)
    inner = value
    for key in path[:-1]:
        inner = inner[key]
    if new is DELETED:
        del inner[path[-1]]
    else:
        inner[path[-1]] = new
    return value


def fuzzed(examples: int) -> Any:
    health = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    return settings(max_examples=examples, deadline=None, derandomize=True, suppress_health_check=health)


class TestFuzz:
    @pytest.mark.parametrize("category", WEIGHTS)
    def test_items_are_refused_or_scored(
        self, category: str, few_items: Path, tmp_path: Path, tiny_model: Path
    ) -> None:
        rows = lines_of(category, few_items)
        encoder = static_encoder("tiny", load_model(tiny_model))
        outcomes = {"refused": 0, "scored": 0}

        @fuzzed(60)
        @given(path=st.sampled_from(list(paths_in(rows))), new=st.just(DELETED) | json_values | st.text(min_size=1))
        def check(path: tuple[Any, ...], new: Any) -> None:
            put(tmp_path, category, mutated(rows, path, new))
            try:
                found = load_items(tmp_path, category)
            except InputError:
                outcomes["refused"] += 1
                return
            result = evaluate(encoder, {category: found}, 42, with_control=False)
            json.dumps(as_json(result), allow_nan=False)
            outcomes["scored"] += 1

        check()
        assert all(outcomes.values()), outcomes

    @fuzzed(150)
    @example(content=b'{"score": NaN}')
    @example(content=b"[1, -Infinity]")
    @example(content=b"[" * 100_000)
    @given(content=st.binary(max_size=60) | json_values.map(lambda v: json.dumps(v).encode()))
    def test_no_file_breaks_the_reader_of_json(self, content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
        path = tmp_path_factory.getbasetemp() / "any.json"
        path.write_bytes(content)
        try:
            json.dumps(read_json(path), allow_nan=False)
        except InputError as error:
            assert str(path) in str(error)


class TestResults:
    @pytest.fixture(scope="class")
    def results(self, tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, few_items: Path) -> dict[str, Path]:
        """The results of phases 1 to 3, as phase 4 and the demo's report read them."""
        folder = tmp_path_factory.mktemp("demo")
        shutil.copytree(tiny_model, folder / "model")
        paths = {
            "metadata": folder / "model" / "metadata.json",
            "evaluation": folder / "eval_results.json",
            "comparison": folder / "comparison_results.json",
        }
        common = ["--items", str(few_items)]
        arguments = ["--model", str(folder / "model"), *common, "--output", str(paths["evaluation"]), "--json-only"]
        assert evaluate_command.main(arguments) == 0
        arguments = ["--ours", f"TINY={folder / 'model'}", "--model", "WORDS=bm25", "--no-peers", *common]
        assert compare_command.main([*arguments, "--output", str(paths["comparison"])]) == 0
        return paths

    @pytest.fixture
    def folder(self, results: dict[str, Path], tmp_path: Path) -> Path:
        shutil.copytree(results["evaluation"].parent, tmp_path / "demo")
        return tmp_path / "demo"

    @staticmethod
    def path(folder: Path, name: str) -> Path:
        places = {"metadata": "model/metadata.json", "evaluation": "eval_results.json"}
        return folder / places.get(name, "comparison_results.json")

    @pytest.fixture(autouse=True)
    def without_waiting_for_the_disk(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "fsync", lambda _: None)

    def publication(self, folder: Path, examples: Path = EXAMPLES) -> Publication:
        evaluation, comparison = self.path(folder, "evaluation"), self.path(folder, "comparison")
        return Publication(folder / "model", evaluation, comparison, examples)

    @pytest.mark.parametrize("with_figures", [False, True])
    def test_a_changed_result_is_rendered_or_refused(
        self, with_figures: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if not with_figures:  # they take most of the time
            for name in ("category_bars", "comparison", "png"):
                monkeypatch.setattr(plots, name, lambda _: b"")
        counts = publication_module.example_counts(folder / "model", EXAMPLES)  # of the model, not of the results
        monkeypatch.setattr(publication_module, "example_counts", lambda *_: counts)
        originals = {name: read_json(self.path(folder, name)) for name in ("metadata", "evaluation", "comparison")}
        ways = [(name, path) for name, original in originals.items() for path in paths_in(original)]
        # Every field once, and the long lists of items not again and again.
        ways = [(name, path) for name, path in ways if not any(isinstance(key, int) and key > 2 for key in path)]
        output = folder / "publication"
        self.publication(folder).render(output)
        outcomes = {"refused": 0, "rendered": 0}

        # One of either outcome, whatever few are drawn.
        @fuzzed(6 if with_figures else 150)
        @example(way=("metadata", ("dims",)), new=originals["metadata"]["dims"])
        @example(way=("metadata", ("teacher",)), new=DELETED)
        @given(way=st.sampled_from(ways), new=st.just(DELETED) | json_values)
        def check(way: tuple[str, tuple[Any, ...]], new: Any) -> None:
            name, path = way
            before = {p: p.read_bytes() for p in output.iterdir() if p.is_file()}
            self.path(folder, name).write_text(json.dumps(mutated(originals[name], path, new)), encoding="utf-8")
            try:
                self.publication(folder).render(output)
                outcomes["rendered"] += 1
            except InputError as error:
                assert len(str(error).splitlines()) == 1
                outcomes["refused"] += 1
                assert {p: p.read_bytes() for p in output.iterdir() if p.is_file()} == before
            finally:
                write_json(self.path(folder, name), originals[name])
            assert not [p for p in folder.iterdir() if p.name.startswith(".")]

        check()
        assert all(outcomes.values()), outcomes

    @pytest.mark.parametrize("name", ["metadata", "evaluation", "comparison"])
    def test_anything_else_than_a_result_is_refused(self, name: str, folder: Path) -> None:
        @fuzzed(60)
        @given(value=json_values | st.dictionaries(st.sampled_from(["models", "ours", "model", "name"]), json_values))
        def check(value: Any) -> None:
            self.path(folder, name).write_text(json.dumps(value), encoding="utf-8")
            with pytest.raises(InputError):
                self.publication(folder)

        check()

    def test_the_demos_report_is_written_or_refused(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        originals = {name: read_json(self.path(folder, name)) for name in ("metadata", "evaluation", "comparison")}
        ways = [(n, path) for n, original in originals.items() for path in paths_in(original) if len(path) <= 4]
        assert main([str(folder)]) == 0
        codes = set()

        @fuzzed(60)
        @given(way=st.sampled_from(ways), new=st.just(DELETED) | json_values)
        def check(way: tuple[str, tuple[Any, ...]], new: Any) -> None:
            name, path = way
            self.path(folder, name).write_text(json.dumps(mutated(originals[name], path, new)), encoding="utf-8")
            before = (folder / "report.md").read_text(encoding="utf-8")
            capsys.readouterr()
            codes.add(code := main([str(folder)]))
            error = capsys.readouterr().err
            write_json(self.path(folder, name), originals[name])
            assert code in (0, 2)
            if code:
                assert error.startswith("error: ") and len(error.strip().splitlines()) == 1
                assert (folder / "report.md").read_text(encoding="utf-8") == before

        check()
        assert codes == {0, 2}

    @pytest.mark.parametrize(
        "path",
        [
            ("metadata", "layers"),
            ("metadata", "dims"),
            ("metadata", "command"),
            ("evaluation", "verdict"),
            ("evaluation", "health"),
            ("comparison", "hardware"),
        ],
    )
    def test_a_card_never_has_a_gap(self, path: tuple[str, str], folder: Path) -> None:
        name, field = path
        result = read_json(self.path(folder, name))
        del result[field]
        write_json(self.path(folder, name), result)
        arguments = ["--model", str(folder / "model"), "--evaluation", str(self.path(folder, "evaluation"))]
        arguments += ["--comparison", str(self.path(folder, "comparison")), "--output", str(folder / "publication")]
        assert publish_command.main(arguments) == 2
        assert not (folder / "publication").exists()

    def test_only_a_publication_is_replaced(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(plots, "png", lambda _: b"")
        output = folder / "publication"
        publication = self.publication(folder)
        publication.render(output)
        (output / ".git").mkdir()
        (output / ".git" / "HEAD").write_text("years of work")
        with pytest.raises(InputError, match=r"something else than a publication \(\.git\)"):
            publication.render(output)
        assert (output / ".git" / "HEAD").exists() and (output / BENCHMARKS).exists()
        with pytest.raises(InputError, match="is a file"):
            publication.render(self.path(folder, "metadata"))
        assert self.path(folder, "metadata").is_file()

    def test_a_failure_leaves_the_old_publication(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(plots, "png", lambda _: b"")
        output = folder / "publication"
        publication = self.publication(folder)
        publication.render(output)
        replace = Path.replace

        def fails_at_the_end(self: Path, target: Path) -> Path:
            if target == output and self.name.endswith(".new"):
                raise OSError(28, "No space left on device")
            return replace(self, target)

        monkeypatch.setattr(Path, "replace", fails_at_the_end)
        with pytest.raises(PipelineError, match="No space left"):
            publication.render(output)
        assert (output / BENCHMARKS).is_file()
        assert not [p for p in folder.iterdir() if p.name.startswith(".")]

    @pytest.mark.parametrize("what", ["publication", "model"])
    def test_what_a_killed_run_moved_aside_comes_back(
        self, what: str, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(plots, "png", lambda _: b"")
        output, examples = folder / "publication", folder / "examples"
        shutil.copytree(EXAMPLES, examples)
        publication = self.publication(folder, examples)
        publication.render(output)
        shutil.rmtree(examples)
        if what == "model":
            shutil.rmtree(output)
            shutil.copytree(folder / "model", output)
        before = {p: p.read_bytes() for p in output.rglob("*") if p.is_file()}
        output.replace(folder / ".publication.old")  # where a kill between the two renames leaves it
        # A model is not replaced though nothing was there; a publication is, but here the new one cannot be written.
        with pytest.raises(PipelineError, match="No such file" if what == "publication" else "something else"):
            publication.render(output)
        assert {p: p.read_bytes() for p in output.rglob("*") if p.is_file()} == before
        assert not [p for p in folder.iterdir() if p.name.startswith(".")]


def test_figures_without_a_place_for_their_cache() -> None:
    """Matplotlib says so in two lines, which is noise."""
    code = "from qwen25.reports import plots; print(plots._figure())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "MPLCONFIGDIR": "/proc/self/none"},
    )
    assert done.stdout.startswith("Figure") and not done.stderr


class TestTexts:
    def test_any_text_has_one_finite_vector(self, tiny_model: Path) -> None:
        encode = static_encode(load_model(tiny_model))
        texts: set[str] = set()

        @fuzzed(300)
        @given(batch=st.lists(st.text(max_size=12), min_size=40, max_size=40))
        def check(batch: list[str]) -> None:
            vectors = encode(batch)
            lengths = np.linalg.norm(vectors, axis=1)
            assert vectors.shape[0] == len(batch) and np.isfinite(vectors).all()
            assert ((lengths == 0) | (abs(lengths - 1) < 1e-5)).all()
            np.testing.assert_array_equal(encode(batch[::-1])[::-1], vectors)
            np.testing.assert_array_equal(encode(batch[:1])[0], vectors[0])
            checked.append(len(batch))
            texts.update(batch)

        checked: list[int] = []
        check()
        assert sum(checked) >= 10_000 and len(texts) > 1000

    def test_nothing_is_nothing_and_long_is_no_trouble(self, tiny_model: Path) -> None:
        encode = static_encode(load_model(tiny_model))
        vectors = encode(["", *ODD_TEXTS, "word " * 20_000])
        assert not vectors[0].any() and np.isfinite(vectors).all()
        np.testing.assert_allclose(vectors[-1], encode(["word " * 10_000])[0], atol=1e-3)

    def test_half_a_character_is_refused(self, tiny_model: Path) -> None:
        with pytest.raises(InputError, match="cannot encode"):
            static_encode(load_model(tiny_model))(["a \ud800 b"])
