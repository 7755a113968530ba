"""What can go wrong with phase 1, and that nothing that was good before is lost by it.

Runs that are killed or meet a full disk are forked from a process that has imported everything, so that
each takes a moment: see ``serve``.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import numpy as np
import pytest
import torch
from conftest import ROOT, write_few_items
from model2vec import StaticModel
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from qwen25.commands import compare as compare_command
from qwen25.commands import distill as distill_command
from qwen25.commands import evaluate as evaluate_command
from qwen25.distillation import training_stage, writing
from qwen25.distillation.writing import _key
from qwen25.evaluation import comparison
from qwen25.publication import page
from qwen25.runtime import folders
from qwen25.runtime.errors import InputError, PipelineError
from qwen25.runtime.files import check_file, read_json, write_json
from qwen25.runtime.folders import beside, check_output, held, recover
from qwen25.states import checkpoint
from qwen25.states.checkpoint import run_key
from qwen25.states.device import Computing
from qwen25.states.jobs import Frame
from qwen25.states.streaming import StreamedStates
from qwen25.states.token_states import token_states
from qwen25.store.static_model import load_model

SCRIPTS = {"1": distill_command, "2": evaluate_command, "3": compare_command, "page": page}
FLAGS = ["--texts", "64", "--sentence-vectors", "16", "--tune", "rows", "--epochs", "4", "--device", "cpu"]
#: In the teacher's folder: what is trained on.
PAIRS = "pairs.jsonl"
#: int8 rows that tokens share, with the copy for sentence-transformers and ONNX beside them.
SMALL = ["--max-size-mb", "0.13", "--languages", "vi", "--onnx", "--device", "cpu"]
#: Files of a model that say when and how it was made.
ABOUT = {"metadata.json", "README.md"}
NO_SPACE = 28


class Moment(NamedTuple):
    """A call of a function in a run.

    :ivar function: ``module:name``, as the caller finds it.
    :ivar behind: strike when the call is over, not before it.
    :ivar number: which of the calls.
    :ivar having: count only calls with this in their arguments.
    """

    function: str
    behind: bool = False
    number: int = 1
    having: str = ""


def renaming(what: str) -> str:
    """Return what the arguments of renaming a path that ends with ``what`` have in them."""
    return f"{what}')"


SAVED = "pathlib:Path.replace"
#: Moments of phase 1 in their order, and what lies in the output folder's place after a SIGKILL then.
MOMENTS: dict[str, tuple[Moment, str]] = {
    "teacher found": (Moment("qwen25.distillation.pipeline:find_teacher", behind=True), "old"),
    "weights hashed": (Moment("qwen25.teacher.teacher:sha256", behind=True), "old"),
    "pairs": (Moment("qwen25.distillation.pipeline:read_pairs", behind=True), "old"),
    "vocabulary": (Moment("qwen25.distillation.pipeline:static_vocabulary", behind=True), "old"),
    "files for states": (Moment("qwen25.states.checkpoint:Results.create", behind=True), "old"),
    "embeddings": (Moment("qwen25.states.streaming:_Run._embed", behind=True), "old"),
    "layer 1": (Moment("qwen25.states.streaming:layer_forward", number=2), "old"),
    "layer 1 is saved": (Moment(SAVED, having="states-0-1.npy"), "old"),
    "manifest": (Moment(SAVED, having="manifest.json'", number=1), "old"),
    "layer 2": (Moment("qwen25.states.streaming:_Run._layer", number=2), "old"),
    "all layers": (Moment("qwen25.states.streaming:StreamedStates.compute", behind=True), "old"),
    "writer loaded": (Moment("qwen25.distillation.writing:_load", behind=True), "old"),
    "texts": (Moment("qwen25.distillation.writing:_write_batch", number=2), "old"),
    "texts are saved": (Moment(SAVED, having="batch-00002"), "old"),
    "all texts": (Moment("qwen25.distillation.language:write_texts", behind=True), "old"),
    "PCA": (Moment("qwen25.distillation.vectors:principal_axes", number=3), "old"),
    "sentence vectors are saved": (Moment(SAVED, having=".model.sentence_vectors'"), "old"),
    "sentence vectors": (Moment("qwen25.distillation.training_stage:sentence_vectors", behind=True), "old"),
    "training": (Moment("qwen25.training.trainer:_Run._step", number=3), "old"),
    "training is saved": (Moment(SAVED, having=".model.training'", number=2), "old"),
    "rows": (Moment("qwen25.training.trainer:FreeTable"), "old"),
    "vectors": (Moment("qwen25.distillation.pipeline:trained_vectors", behind=True), "old"),
    "save": (Moment("qwen25.store.static_model:save_pretrained"), "old"),
    "config.json": (Moment("json:dump"), "old"),
    "modules.json": (Moment("json:dump", number=2), "old"),
    "README.md": (Moment(SAVED, having="README.md'"), "old"),
    "smoke test": (Moment("qwen25.distillation.pipeline:smoke_test"), "old"),
    "metadata.json": (Moment(SAVED, having="metadata.json'"), "old"),
    "old one aside": (Moment(SAVED, having=".model.old'", behind=True), "nothing"),
    "new one in place": (Moment(SAVED, having=".model.new'", behind=True), "new"),
    "old one removed": (Moment("shutil:rmtree", having=".model.old'", behind=True), "new"),
    "checkpoint": (Moment("pathlib:Path.unlink", having="/layer-1.npy"), "new"),
    "kept texts": (Moment("pathlib:Path.unlink", having="/batch-00002"), "new"),
    "kept training": (Moment("pathlib:Path.unlink", having=".model.sentence_vectors'", behind=True), "new"),
    "end": (Moment("pathlib:Path.unlink", having=".model.lock", behind=True), "new"),
}


#: Those of a run with ``SMALL`` that others do not have.
SMALL_MOMENTS = {
    "word lists": Moment("qwen25.distillation.pipeline:token_use", behind=True),
    "shared rows": Moment("qwen25.distillation.pipeline:share_rows", behind=True),
    "int8": Moment("qwen25.distillation.pipeline:quantise", behind=True),
    "float16 copy": Moment("qwen25.store.static_model:_write_float16_copy"),
    "modules.json": Moment(SAVED, having="modules.json'"),
    "ONNX": Moment(SAVED, having="model.onnx'"),
}


def serve() -> None:
    """Run what standard input asks for, one JSON object a line, in a child each; answer in kind.

    ``argv`` are a phase and its arguments; ``warm``: in this process, which so gets to know all libraries;
    ``strike``: a moment, and the signal then sent or (negative) the error number then raised; ``limit``:
    the longest file in bytes; ``threads``: their number; ``here``: the folder to run in; ``wait``: not for a new
    child, but for one that stopped.
    """
    checkpoint.CHECKPOINT_SHARE = float("inf")  # after every layer
    writing.BATCH, writing.TEXT_TOKENS = 16, 4
    torch.set_num_threads(1)
    for module in (evaluate_command, comparison):
        remember(module, "evaluate")
    few = write_few_items(Path(tempfile.mkdtemp(dir=".")).resolve())
    training_stage.calibration_folder = lambda: few
    for line in sys.stdin:
        request = json.loads(line)
        if request.get("warm"):
            answer = {"code": run_script(request["argv"])}
        else:
            process = request.get("wait") or os.fork()
            if not process:
                child(request)
            _, status = os.waitpid(process, os.WUNTRACED)
            stopped = os.WIFSTOPPED(status)
            answer = {"stopped": process} if stopped else {"code": os.waitstatus_to_exitcode(status)}
        print(json.dumps(answer), file=sys.__stdout__, flush=True)


def run_script(argv: list[str]) -> int:
    sys.argv = argv
    with contextlib.redirect_stdout(sys.stderr):  # the answers have the other one for themselves
        return SCRIPTS[argv[0]].main(argv[1:])


def remember(script: Any, name: str) -> None:
    """Have a script call a function only once; children know its result."""
    real, known = getattr(script, name), {}

    def function(model: Any, *args: Any, **options: Any) -> Any:
        if model.name not in known:
            known[model.name] = real(model, *args, **options)
        return known[model.name]

    setattr(script, name, function)


def child(request: dict[str, Any]) -> None:
    """Run a script as the only thing that this process does, and end it."""
    code = 99
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with Path(request["errors"]).open("wb") as errors:
            os.dup2(errors.fileno(), 1)
            os.dup2(errors.fileno(), 2)
        # Two threads that ask at once for the pool that a fork has lost may find none: it is made anew before.
        threads = request.get("threads")
        torch.set_num_threads(threads or torch.get_num_threads())
        if threads:
            from threadpoolctl import threadpool_limits

            threadpool_limits(threads)
        os.chdir(request.get("here", "."))
        if request.get("strike"):
            *moment, what = request["strike"]
            strike(Moment(*moment), what)
        if limit := request.get("limit"):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        code = run_script(request["argv"])
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def strike(moment: Moment, what: int) -> None:
    """Have this process get the signal ``what``, or the error number ``-what``, at a moment."""
    module, _, path = moment.function.partition(":")
    *owners, name = path.split(".")
    owner: Any = importlib.import_module(module)
    for part in owners:
        owner = getattr(owner, part)
    real, calls = getattr(owner, name), 0

    def struck(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += moment.having in repr(args)
        now = calls == moment.number and moment.having in repr(args)
        if now and not moment.behind:
            hit()
        result = real(*args, **options)
        if now and moment.behind:
            hit()
        return result

    def hit() -> None:
        if what < 0:
            raise OSError(-what, os.strerror(-what))
        os.kill(os.getpid(), what)

    setattr(owner, name, struck)


@dataclass
class Ended:
    """How a run ended: its exit code (negative: the signal that ended it), and what it said on standard error."""

    code: int
    errors: list[str]

    @property
    def failure(self) -> str:
        """The one line that says why."""
        assert [line for line in self.errors if line.startswith("error: ")] == self.errors[-1:], self.errors
        assert not any("Traceback" in line for line in self.errors)
        return self.errors[-1]


class Runs:
    """Starts phases from a process that has imported everything."""

    def __init__(self, folder: Path) -> None:
        self._errors = folder / "errors.txt"
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
        self._server = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
            env={**environment, "PYTHONPATH": str(ROOT)},
            stderr=(folder / "server.txt").open("w"),
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        assert self._server.stdin and self._server.stdout
        self._server.stdin.write(json.dumps({**request, "errors": str(self._errors)}) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())

    def run(self, phase: str, *argv: object, **request: Any) -> Ended:
        answer = self.ask(argv=[phase, *map(str, argv)], **request)
        return Ended(answer["code"], self._errors.read_text().splitlines() if "warm" not in request else [])

    def close(self) -> None:
        self._server.communicate()


@dataclass
class Bench:
    """A folder to work in, and what the runs in it start from and come to.

    :ivar old: a model, to be replaced.
    :ivar whole: the model of a run that nothing disturbed.
    """

    runs: Runs
    teacher: Path
    old: Path
    whole: Path
    folder: Path

    @property
    def model(self) -> Path:
        return self.folder / "model"

    def put_old(self) -> None:
        shutil.copytree(self.old, self.model)

    def distil(self, *flags: object, **request: Any) -> Ended:
        argv = [*FLAGS, "--pairs", self.teacher / PAIRS, "--teacher", self.teacher, "--output", self.model]
        argv += ["--log-file", self.folder / "run.log"]
        return self.runs.run("1", *argv, *flags, **request)

    def holds(self) -> str:
        """Say what the output folder holds, if it is whole."""
        if not self.model.exists():
            return "nothing"
        if contents(self.model) == contents(self.old):
            return "old"
        self.assert_whole()
        return "new"

    def assert_whole(self) -> None:
        """Check that the model is that of an undisturbed run."""
        for name in ("model.safetensors", "tokenizer.json", "config.json", "modules.json", "1_Normalize/config.json"):
            assert (self.model / name).read_bytes() == (self.whole / name).read_bytes(), name
        schema = json.loads((ROOT / "docs" / "schema" / "metadata.schema.json").read_text())
        jsonschema.validate(json.loads((self.model / "metadata.json").read_text()), schema)

    def assert_goes_on(self) -> None:
        """Check that the next run is as good as one that nothing disturbed, and leaves nothing else."""
        again = self.distil("--overwrite")
        assert again.code == 0, again.errors
        self.assert_whole()
        assert sorted(path.name for path in self.folder.iterdir()) == ["model", "run.log"]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def deep_teacher(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: Tokenizer) -> Path:
    """A teacher of which two layers are computed, and pairs."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    folder = tmp_path_factory.mktemp("teachers") / "deep-qwen2"
    torch.manual_seed(0)
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 8, "vocab_size": 2035}
    Qwen2ForCausalLM(Qwen2Config(**size, **heads, tie_word_embeddings=True)).save_pretrained(folder)
    tiny_tokenizer.save(str(folder / "tokenizer.json"))
    rows = [{"a": f"Which number is {i}?", "b": f"It is {i + 1} less 1."} for i in range(1100)]
    (folder / PAIRS).write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    if not hasattr(os, "fork"):
        pytest.skip("needs os.fork")
    runs = Runs(tmp_path_factory.mktemp("runs"))
    yield runs
    runs.close()


@pytest.fixture(scope="module")
def models(runs: Runs, deep_teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return an old model and a new one."""
    folder = tmp_path_factory.mktemp("models")
    argv = [*FLAGS, "--pairs", deep_teacher / PAIRS, "--teacher", deep_teacher, "--log-file", folder / "run.log"]
    assert runs.run("1", *argv, "--output", folder / "old", "--dims", 8, warm=True).code == 0
    assert runs.run("1", *argv, "--output", folder / "whole").code == 0
    return folder / "old", folder / "whole"


@pytest.fixture
def bench(runs: Runs, deep_teacher: Path, models: tuple[Path, Path], tmp_path: Path) -> Bench:
    return Bench(runs, deep_teacher, *models, tmp_path)


class TestKilled:
    @pytest.mark.parametrize("name", MOMENTS)
    def test_old_model_stays_until_the_new_one_is_whole(self, name: str, bench: Bench) -> None:
        moment, left = MOMENTS[name]
        bench.put_old()
        assert bench.distil("--overwrite", strike=[*moment, signal.SIGKILL]).code == -signal.SIGKILL
        assert bench.holds() == left
        bench.assert_goes_on()

    @pytest.mark.parametrize("name", MOMENTS)
    def test_interrupt_cleans_up(self, name: str, bench: Bench) -> None:
        moment, left = MOMENTS[name]
        bench.put_old()
        ended = bench.distil("--overwrite", strike=[*moment, signal.SIGINT])
        assert ended.code == 130
        assert ended.errors[-1].startswith("interrupted: ") and not any("Traceback" in line for line in ended.errors)
        # It was put back before the process ended.
        assert bench.holds() == ("old" if left == "nothing" else left)
        kept = {path.name for path in bench.folder.iterdir()} - {"model", "run.log"}
        assert kept <= {".model.states", ".model.texts", ".model.sentence_vectors", ".model.training"}
        bench.assert_goes_on()

    @pytest.mark.parametrize("name", ["all texts", "config.json", "metadata.json", "new one in place"])
    def test_where_nothing_was_there_is_nothing_or_all(self, name: str, bench: Bench) -> None:
        moment, left = MOMENTS[name]
        assert bench.distil(strike=[*moment, signal.SIGKILL]).code == -signal.SIGKILL
        assert bench.holds() == ("nothing" if left == "old" else left)
        bench.assert_goes_on()

    def test_old_model_is_put_back_even_if_the_next_run_is_refused(self, bench: Bench) -> None:
        moment, _ = MOMENTS["old one aside"]
        bench.put_old()
        assert bench.distil("--overwrite", strike=[*moment, signal.SIGKILL]).code == -signal.SIGKILL
        with pytest.raises(InputError, match="run it again, which puts it back"):
            load_model(bench.model)
        ended = bench.distil()
        assert ended.code == 2 and "already holds files" in ended.failure
        assert bench.holds() == "old"

    def test_a_model_that_an_earlier_version_moved_aside_comes_back(self, bench: Bench) -> None:
        """It left no mark beside it."""
        shutil.copytree(bench.old, bench.folder / ".model.old")
        recover(bench.model)
        assert bench.holds() == "old"
        assert [path.name for path in bench.folder.iterdir()] == ["model"]

    def test_a_run_that_is_killed_again_and_again_gets_there(self, bench: Bench) -> None:
        for name in ("layer 2", "texts", "texts are saved", "sentence vectors", "training is saved", "smoke test"):
            ended = bench.distil(strike=[*MOMENTS[name][0], signal.SIGKILL])
            assert ended.code == -signal.SIGKILL
        assert any("holds all states already" in line for line in ended.errors)
        bench.assert_goes_on()


class TestKilledWithEveryForm:
    """A model of int8, shared rows, copy and ONNX."""

    @pytest.fixture(scope="class")
    def whole(self, runs: Runs, deep_teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """The model of a run that nothing disturbed."""
        folder = tmp_path_factory.mktemp("small")
        argv = [*SMALL, "--teacher", deep_teacher, "--log-file", folder / "run.log", "--output", folder / "model"]
        assert runs.run("1", *argv, warm=True).code == 0
        return folder / "model"

    @pytest.mark.parametrize("name", SMALL_MOMENTS)
    def test_each_is_there_or_the_old_model(
        self, name: str, runs: Runs, deep_teacher: Path, whole: Path, tmp_path: Path
    ) -> None:
        model = Path(shutil.copytree(whole, tmp_path / "model"))
        (model / "README.md").write_text("the old one")
        old = contents(model)
        argv = [*SMALL, "--teacher", deep_teacher, "--log-file", tmp_path / "run.log", "--output", model, "--overwrite"]
        for signalled, code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)):
            assert runs.run("1", *argv, strike=[*SMALL_MOMENTS[name], signalled]).code == code
            assert contents(model) == old
        assert runs.run("1", *argv).code == 0
        found, expected = contents(model), contents(whole)
        assert found.keys() == expected.keys() >= {"onnx/model.onnx", "static_embedding_float16/model.safetensors"}
        assert {file for file in found if found[file] != expected[file]} <= ABOUT
        assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "run.log"]


class TestResultFiles:
    """Phases 2 and 3, killed while they write."""

    @pytest.fixture
    def evaluate(self, bench: Bench, small_items: Path) -> Callable[..., Ended]:
        def evaluate(phase: str, **request: Any) -> Ended:
            spec = bench.whole if phase == "2" else f"OURS={bench.whole}"
            argv: list[object] = ["--model" if phase == "2" else "--ours", spec, "--items", small_items]
            argv += ["--report", bench.folder / "report.html"] if phase == "2" else ["--no-peers"]
            return bench.runs.run(phase, *argv, "--output", bench.folder / "result.json", **request)

        assert evaluate("2", warm=True).code == evaluate("3", warm=True).code == 0
        for path in bench.folder.iterdir():
            path.unlink()
        return evaluate

    def test_never_a_half_file_nor_one_left_over(self, bench: Bench, evaluate: Callable[..., Ended]) -> None:
        files = {"2": ["report.html", "result.json"], "3": ["comparison.html", "comparison.md", "comparison.png"]}
        files["3"].append("result.json")
        for phase, names in files.items():
            assert evaluate(phase).code == 0
            assert sorted(path.name for path in bench.folder.iterdir()) == names
            for name in ("result.json", names[0]):
                before = contents(bench.folder)
                killed = evaluate(phase, strike=[*Moment(SAVED, having=f"/{name}'"), signal.SIGKILL])
                assert killed.code == -signal.SIGKILL
                left = [path.name for path in bench.folder.iterdir() if path.name not in names]
                # Of a file that is written with others, theirs as well, and nothing else.
                assert all(path.endswith(".tmp") for path in left)
                unfinished = {path.rsplit(".", 2)[0] for path in left}
                assert f".{name}" in unfinished and unfinished <= {f".{other}" for other in names}
                json.loads((bench.folder / "result.json").read_text())
                assert (bench.folder / name).read_bytes() == before[name]
                assert evaluate(phase).code == 0
                assert sorted(path.name for path in bench.folder.iterdir()) == names
            interrupted = evaluate(phase, strike=[*Moment(SAVED, having=f"/{name}'"), signal.SIGINT])
            assert interrupted.code == 130 and interrupted.errors[-1].startswith("interrupted: ")
            assert sorted(path.name for path in bench.folder.iterdir()) == names
            shutil.rmtree(bench.folder)
            bench.folder.mkdir()

    def test_a_page_is_whole_or_the_old_one(self, bench: Bench) -> None:
        def write(**request: Any) -> Ended:
            return bench.runs.run("page", bench.whole, "--output", bench.folder / "page.html", **request)

        assert write().code == 0
        before = contents(bench.folder)
        moment = Moment(SAVED, having="/page.html'")
        assert write(strike=[*moment, signal.SIGKILL]).code == -signal.SIGKILL
        assert (bench.folder / "page.html").read_bytes() == before["page.html"]
        full = write(strike=[*moment, -NO_SPACE])
        assert full.code == 1 and "free some space" in full.failure
        assert write(strike=[*moment, signal.SIGINT]).code == 130
        assert contents(bench.folder) == before

    def test_devices_are_not_replaced(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(InputError, match="a pipe"):
            check_file(tmp_path / "pipe")

    def test_a_name_that_is_too_long_until_the_file_is_whole(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="too long"):
            check_file(tmp_path / ("x" * 249))
        check_file(tmp_path / ("x" * 200))

    def test_a_link_to_a_file_is_followed(self, tmp_path: Path) -> None:
        (tmp_path / "link.json").symlink_to("real.json")
        for number in range(2):
            write_json(tmp_path / "link.json", number)
            assert (tmp_path / "link.json").is_symlink() and read_json(tmp_path / "real.json") == number

    def test_only_what_dead_processes_left_is_removed(self, tmp_path: Path) -> None:
        dead = subprocess.Popen([sys.executable, "-c", ""])
        dead.wait()
        kept = {f".r.json.{os.getppid()}.tmp", ".r.json.notes.tmp", f".other.json.{dead.pid}.tmp", ".r.json.0.tmp"}
        for name in {*kept, f".r.json.{dead.pid}.tmp", f".r.json.{10**30}.tmp"}:
            (tmp_path / name).write_text("half")
        write_json(tmp_path / "r.json", {})
        assert {path.name for path in tmp_path.iterdir()} == {*kept, "r.json"}


class TestDisk:
    @pytest.mark.parametrize(
        ("moment", "what"),
        [
            (Moment("os:fsync", number=2), "checkpoint layer-1.npy"),
            (Moment(SAVED, having="manifest.json'", number=2), "manifest.json"),
            (Moment(SAVED, having="batch-00001"), "batch-00001.safetensors"),
            (Moment(SAVED, having=".model.sentence_vectors'"), ".model.sentence_vectors"),
            (Moment(SAVED, having=".model.training'"), ".model.training"),
            (Moment("json:dump", number=2), "cannot write the model"),
            (Moment(SAVED, having="metadata.json'"), "metadata.json"),
            (Moment(SAVED, having=".model.old'"), "model"),
            (Moment(SAVED, having=".model.new'"), "model"),
        ],
        ids=[
            "states",
            "manifest",
            "texts",
            "vectors",
            "training",
            "model",
            "metadata",
            "old one aside",
            "new one in place",
        ],
    )
    def test_full(self, moment: Moment, what: str, bench: Bench) -> None:
        bench.put_old()
        ended = bench.distil("--overwrite", strike=[*moment, -NO_SPACE])
        assert ended.code == 1 and what in ended.failure
        assert "No space left on device" in ended.failure and "free some space" in ended.failure
        assert bench.holds() == "old"
        bench.assert_goes_on()

    @pytest.mark.parametrize(("limit", "what"), [(100_000, "checkpoint layer-0.npy"), (400_000, "the model")])
    def test_libraries_that_cannot_write(self, limit: int, what: str, bench: Bench) -> None:
        """A limit on the length of files fails as a full disk does, in whatever language it is written from."""
        bench.put_old()
        ended = bench.distil("--overwrite", limit=limit)
        assert ended.code == 1 and what in ended.failure
        assert "File too large" in ended.failure and "free some space" in ended.failure
        assert bench.holds() == "old"
        bench.assert_goes_on()

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
    def test_a_log_without_space_ends_and_the_run_does_not(self, bench: Bench) -> None:
        ended = bench.distil("--log-file", "/dev/full")
        assert ended.code == 0
        assert ended.errors.count("the log /dev/full ends here: No space left on device") == 1
        assert not any("Traceback" in line or "Logging error" in line for line in ended.errors)
        assert bench.holds() == "new"

    @pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
    def test_a_place_where_nobody_may_write(self, bench: Bench) -> None:
        ended = bench.distil("--output", "/proc/self/model")
        assert ended.code == 2 and "cannot write into /proc" in ended.failure

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
    def test_a_folder_that_is_read_only(self, bench: Bench) -> None:
        bench.put_old()
        bench.folder.chmod(0o555)
        try:
            ended = bench.distil("--overwrite")
        finally:
            bench.folder.chmod(0o755)
        assert ended.code == 2 and "cannot write into" in ended.failure
        assert bench.holds() == "old"

    def test_what_is_no_model_is_never_replaced(self, bench: Bench) -> None:
        bench.model.mkdir()
        (bench.model / "thesis.txt").write_text("mine")
        for flags, say in ((["--overwrite"], "no model"), ([], "--overwrite")):
            ended = bench.distil(*flags)
            assert ended.code == 2 and say in ended.failure
        assert contents(bench.model) == {"thesis.txt": b"mine"}

    @pytest.mark.parametrize("there", [True, False], ids=["model", "nothing"])
    @pytest.mark.parametrize("kind", ["old", "new", "file"])
    def test_what_no_run_made_is_left_alone(self, kind: str, there: bool, bench: Bench) -> None:
        """Whatever its name; and that it is in the way is said before the work."""
        if there:
            bench.put_old()
        foreign = beside(bench.model, "old" if kind == "old" else "new")
        if kind == "file":
            foreign.write_text("mine")
        else:
            foreign.mkdir()
            (foreign / "thesis.txt").write_text("mine")
        before = contents(bench.folder)
        ended = bench.distil("--overwrite")
        assert ended.code == 2 and f"{foreign.name} lies where this writes" in ended.failure
        after = contents(bench.folder)
        assert after.pop("run.log", b"") == b""  # the log is open, and nothing was done
        assert after == before

    @pytest.mark.parametrize("flag", ["--output", "--teacher"])
    def test_a_path_that_is_not_utf_8(self, flag: str, bench: Bench) -> None:
        ended = bench.distil(flag, f"{bench.folder}/m\udcff")
        assert ended.code == 2 and "is not UTF-8: rename it" in ended.failure
        assert not list(bench.folder.iterdir())

    def test_a_vocabulary_or_corpus_that_never_ends(self, bench: Bench) -> None:
        for flag in ("--vocabulary", "--corpus"):
            ended = bench.distil(flag, "/dev/zero")
            assert ended.code == 2 and "/dev/zero is a pipe or a device" in ended.failure

    def test_a_mount_point_cannot_be_replaced(self) -> None:
        with pytest.raises(InputError, match="mount point"):
            check_output(Path("/"), overwrite=True)

    def test_a_link_is_followed(self, bench: Bench) -> None:
        target = bench.folder / "elsewhere"
        shutil.copytree(bench.old, target)
        bench.model.symlink_to(target)
        assert bench.distil("--overwrite").code == 0
        assert bench.model.is_symlink() and bench.holds() == "new"
        assert sorted(path.name for path in bench.folder.iterdir()) == ["elsewhere", "model", "run.log"]

    def test_the_folder_it_runs_in(self, bench: Bench) -> None:
        bench.put_old()
        moment, _ = MOMENTS["new one in place"]
        here = str(bench.model)
        killed = bench.distil("--overwrite", "--output", ".", here=here, strike=[*moment, signal.SIGKILL])
        assert killed.code == -signal.SIGKILL and bench.holds() == "new"
        assert bench.distil("--overwrite", "--output", ".", here=here).code == 0
        assert bench.holds() == "new"
        assert sorted(path.name for path in bench.folder.iterdir()) == ["model", "run.log"]

    @pytest.mark.parametrize("flag", ["--teacher", "--corpus", "--vocabulary", "--log-file"])
    def test_what_the_run_needs_may_not_lie_in_what_it_replaces(self, flag: str, bench: Bench) -> None:
        bench.put_old()
        path = bench.model if flag == "--teacher" else bench.model / "README.md"
        ended = bench.distil("--overwrite", flag, path)
        assert ended.code == 2 and ended.failure.startswith(f"error: {flag} ")
        assert bench.holds() == "old"


class TestTwoAtOnce:
    def test_the_second_run_is_refused_and_the_first_one_ends_well(self, bench: Bench) -> None:
        bench.put_old()
        argv = [*FLAGS, "--pairs", bench.teacher / PAIRS, "--teacher", bench.teacher, "--output", bench.model]
        argv += ["--overwrite"]
        first = ["1", *argv, "--log-file", bench.folder / "run.log"]
        moment = MOMENTS["layer 2"][0]
        stopped = bench.runs.ask(argv=[str(word) for word in first], strike=[*moment, signal.SIGSTOP])["stopped"]
        log = (bench.folder / "run.log").read_text()
        second = bench.distil("--overwrite")
        os.kill(stopped, signal.SIGCONT)
        assert second.code == 1 and f"process {stopped}, is at work on " in second.failure
        assert (bench.folder / "run.log").read_text().startswith(log)
        assert bench.runs.ask(wait=stopped)["code"] == 0
        assert bench.holds() == "new"
        assert sorted(path.name for path in bench.folder.iterdir()) == ["model", "run.log"]

    def test_a_dead_processs_lock_is_taken_over(self, tmp_path: Path) -> None:
        path = tmp_path / "lock"
        path.write_text(str(os.getppid()))  # its number was given to a process that is alive
        with held(path, "here"):
            assert path.read_text() == str(os.getpid())
            with (
                pytest.raises(PipelineError, match=f"process {os.getpid()}, is at work on here"),
                held(path, "here"),
            ):
                pass
            assert path.exists()
        assert not path.exists()

    def test_a_lock_whose_file_was_removed_meanwhile_counts_for_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its holder removes it after it was opened here and before it is locked here."""
        path, real, opened = tmp_path / "lock", os.open, []

        def remove_first(*args: Any) -> int:
            descriptor = real(*args)
            if not opened:
                path.unlink()
            opened.append(descriptor)
            return descriptor

        monkeypatch.setattr(folders.os, "open", remove_first)
        with held(path, "here"):
            assert len(opened) == 2 and path.exists()

    def test_a_file_system_without_locks_is_no_reason_to_fail(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def no_locks(*_: object) -> None:
            raise OSError(38, "Function not implemented")

        monkeypatch.setattr(folders.fcntl, "flock", no_locks)
        with held(tmp_path / "lock", "here"):
            assert "start no second run" in caplog.text


class TestThreads:
    def test_same_threads_same_bytes_and_a_run_says_how_many(self, bench: Bench) -> None:
        """A run that was killed and goes on with more threads equals one that had as many all along."""
        found = []
        for killed in (False, True):
            if killed:
                assert bench.distil(strike=[*MOMENTS["PCA"][0], signal.SIGKILL]).code == -signal.SIGKILL
            assert bench.distil("--overwrite", threads=2).code == 0
            metadata = json.loads((bench.model / "metadata.json").read_text())
            assert metadata["threads"] == {"torch": 2, "blas": 2}
            found.append((bench.model / "model.safetensors").read_bytes())
            shutil.rmtree(bench.model)
        assert found[0] == found[1]
        assert json.loads((bench.whole / "metadata.json").read_text())["threads"] == {"torch": 1, "blas": 1}

    def test_a_key_names_the_threads(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whether a machine's libraries give the same bits with more threads or not."""
        from qwen25.teacher.teacher import Teacher

        teacher = Teacher("deep", "folder", bench.teacher)
        states = token_states(teacher, Frame(), [1])
        assert isinstance(states, StreamedStates)
        job = states.request.job(np.arange(5))
        start = [np.zeros((1, 2), dtype=np.int64)]
        keys = set()
        for threads in (1, 2):
            monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
            keys.add(run_key(states.weights.architecture, job, "w"))
            keys.add(_key(teacher, start, 9, 0, Computing()))
        assert len(keys) == 4


@pytest.fixture
def folder(tiny_teacher: Path, tmp_path: Path) -> Path:
    """A copy of the tiny teacher that a test may spoil."""
    return Path(shutil.copytree(tiny_teacher, tmp_path / "teacher"))


@pytest.fixture
def distil(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Run phase 1 on a teacher; return the exit code and the last line, which alone may be an error."""

    def run(teacher: Path | str, *flags: object) -> tuple[int, str]:
        output, log = tmp_path / "model", tmp_path / "run.log"
        argv = ["--teacher", teacher, "--output", output, "--log-file", log, "--device", "cpu", "--texts", "16", *flags]
        capsys.readouterr()
        try:
            code = distill_command.main([str(word) for word in argv])
        except SystemExit as error:  # argparse's
            code = int(str(error.code))
        lines = capsys.readouterr().err.splitlines()
        assert not any("Traceback" in line for line in lines)
        assert output.exists() == (code == 0)
        if code:
            assert [line for line in lines if "error: " in line] == lines[-1:]
            assert "--debug" not in lines[-1]  # it was foreseen
        return code, lines[-1]

    return run


def reconfigure(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def change_tokens(folder: Path, change: Callable[[dict[str, int]], None]) -> None:
    path = folder / "tokenizer.json"
    spec = json.loads(path.read_text())
    change(spec["model"]["vocab"])
    path.write_text(json.dumps(spec))


def shard(folder: Path, **other: Any) -> list[Path]:
    """Cut a teacher's weights into two files; ``other`` names replace theirs in the index."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    where = {}
    files = [folder / f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    for path, part in zip(files, (names[:3], names[3:]), strict=True):
        save_file({name: tensors[name] for name in part}, path, {"format": "pt"})
        where |= dict.fromkeys(part, path.name)
    index = {"metadata": {}, "weight_map": {name: other.get("second", file) for name, file in where.items()}}
    (folder / "model.safetensors.index.json").write_text(other.get("index", json.dumps(index)))
    return files


class TestTeachers:
    @pytest.mark.parametrize("values", [{"num_attention_heads": 0}, {"rms_norm_eps": "small"}])
    def test_configuration_of_no_model(
        self, values: dict[str, Any], folder: Path, distil: Callable[..., tuple[int, str]]
    ) -> None:
        reconfigure(folder, **values)
        code, line = distil(folder)
        assert code == 2 and "configuration" in line

    def test_slow_tokenizer_alone(self, folder: Path, distil: Callable[..., tuple[int, str]]) -> None:
        (folder / "tokenizer.json").unlink()
        (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "CTRLTokenizer"}')
        (folder / "vocab.json").write_text('{"a": 0, "b</w>": 1, "<unk>": 2}')
        (folder / "merges.txt").write_text("#version\n")
        code, line = distil(folder)
        assert code == 2 and "no usable fast tokenizer" in line

    def test_shards(self, folder: Path, distil: Callable[..., tuple[int, str]]) -> None:
        shard(folder)
        assert distil(folder)[0] == 0

    @pytest.mark.parametrize("number", [0, 1])
    @pytest.mark.parametrize("how", ["missing", "truncated"])
    def test_a_shard_that_is_not_whole(
        self, number: int, how: str, folder: Path, distil: Callable[..., tuple[int, str]]
    ) -> None:
        path = shard(folder)[number]
        if how == "missing":
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[:-100])
        code, line = distil(folder, "--recipe", "plain")
        assert code == 1 and path.name in line and "download" in line
        code, line = distil(folder)  # which loads the whole model, too
        assert code == 1 and "download" in line

    @pytest.mark.parametrize("name", ["../other.safetensors", "/etc/other.safetensors", "config.json", "", 3])
    @pytest.mark.parametrize("recipe", ["default", "plain"])
    def test_an_index_that_leads_elsewhere(
        self, name: Any, recipe: str, folder: Path, distil: Callable[..., tuple[int, str]]
    ) -> None:
        second = shard(folder, second=name)[1]
        shutil.copy(second, folder.parent / "other.safetensors")
        code, line = distil(folder, "--recipe", recipe)
        assert code == 2 and "no .safetensors file of its folder" in line

    @pytest.mark.parametrize("index", ["{", "[]", "{}", '{"weight_map": []}', '{"weight_map": {}}'])
    def test_an_index_that_is_none(self, index: str, folder: Path, distil: Callable[..., tuple[int, str]]) -> None:
        shard(folder, index=index)
        code, line = distil(folder)
        assert code == 2 and "model.safetensors.index.json" in line

    def test_a_stale_index_beside_the_whole_weights_is_not_read(
        self, folder: Path, distil: Callable[..., tuple[int, str]]
    ) -> None:
        """As transformers has it: else states and texts would be of different weights."""
        (folder / "model.safetensors.index.json").write_text("{")
        assert distil(folder)[0] == 0

    def test_a_link_to_nothing(self, folder: Path, distil: Callable[..., tuple[int, str]]) -> None:
        (folder / "model.safetensors").unlink()
        (folder / "model.safetensors").symlink_to("nowhere")
        code, line = distil(folder)
        assert code == 1 and "model.safetensors cannot be read" in line

    @pytest.mark.parametrize(
        ("name", "value", "say"),
        [
            ("embed_tokens", torch.nan, "layer 0 gives NaN"),
            ("layers.0.mlp.up_proj", torch.inf, "layer 1 gives NaN"),
            ("layers.0.mlp.up_proj", 3e38, "layer 1 gives NaN"),
            ("layers.1.mlp.up_proj", torch.nan, "its output matrix gives NaN"),
        ],
    )
    def test_numbers_that_are_none(
        self, name: str, value: float, say: str, folder: Path, distil: Callable[..., tuple[int, str]]
    ) -> None:
        change_weights(folder, lambda tensors: tensors[f"model.{name}.weight"][5].fill_(value))
        code, line = distil(folder)
        assert code == 1 and say in line and "damaged" in line

    def test_numbers_that_are_none_in_sentence_vectors(
        self, folder: Path, distil: Callable[..., tuple[int, str]]
    ) -> None:
        """They would not even be seen in the model: its space would just stay as it was."""
        change_weights(folder, lambda tensors: tensors["model.layers.1.mlp.up_proj.weight"].fill_(torch.nan))
        corpus = folder.parent / "corpus.txt"
        corpus.write_text("\n".join(f"topic {i} and its code" for i in range(40)))
        code, line = distil(folder, "--corpus", corpus, "--sentence-vectors", "20")
        assert code == 1 and "NaN or infinity for whole texts" in line

    def test_all_embeddings_alike(self, folder: Path, distil: Callable[..., tuple[int, str]]) -> None:
        change_weights(folder, lambda tensors: tensors["model.embed_tokens.weight"].zero_())
        code, line = distil(folder)
        assert code == 1 and "alike" in line

    @pytest.mark.parametrize("flags", [(), ("--max-size-mb", "0.5")])
    def test_more_tokens_than_embeddings(
        self, flags: tuple[str, ...], folder: Path, distil: Callable[..., tuple[int, str]]
    ) -> None:
        """Also where the model's own tokens all have one, and only a text that the teacher writes shows it."""
        rows = 1990 if flags else 1500

        def cut(tensors: dict[str, torch.Tensor]) -> None:
            tensors["model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"][:rows].clone()

        change_weights(folder, cut)
        reconfigure(folder, vocab_size=rows)
        code, line = distil(folder, *flags)
        assert code == 2 and "has no embedding" in line and f"{rows} rows" in line

    def test_two_tokens_with_one_id(self, folder: Path, distil: Callable[..., tuple[int, str]]) -> None:
        change_tokens(folder, lambda ids: ids.update({list(ids)[1500]: ids[list(ids)[1499]]}))
        code, line = distil(folder)
        assert code == 2 and "tokenizer" in line

    def test_ids_with_gaps_and_tokens_that_no_text_reaches(
        self, folder: Path, distil: Callable[..., tuple[int, str]]
    ) -> None:
        change_tokens(folder, lambda ids: ids.update({"never said": 2010, "nor\u0120this": 2012}))
        assert distil(folder)[0] == 0
        assert StaticModel.from_pretrained(folder.parent / "model").embedding.shape[0] == 2002

    def test_only_special_tokens(self, folder: Path, distil: Callable[..., tuple[int, str]]) -> None:
        spec = json.loads((folder / "tokenizer.json").read_text())
        spec["model"]["vocab"] = {token["content"]: token["id"] for token in spec["added_tokens"]}
        spec["model"]["merges"] = []
        (folder / "tokenizer.json").write_text(json.dumps(spec))
        assert distil(folder)[0] == 2

    def test_untied_embeddings(self, folder: Path, distil: Callable[..., tuple[int, str]]) -> None:
        reconfigure(folder, tie_word_embeddings=False)
        code, line = distil(folder)
        assert code == 2 and "has no language-model head" in line

        def add_head(tensors: dict[str, torch.Tensor]) -> None:
            tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].flip(0).clone()

        change_weights(folder, add_head)
        assert distil(folder)[0] == 0

    @pytest.mark.parametrize("damage", ["empty", "garbage", "header", "half"])
    def test_gguf_that_is_none(self, damage: str, tmp_path: Path, distil: Callable[..., tuple[int, str]]) -> None:
        from teacher.test_teacher import write_gguf

        path = write_gguf(tmp_path / "tiny.gguf")
        whole = path.read_bytes()
        garbage = np.random.default_rng(0).bytes(5000)
        path.write_bytes(
            {"empty": b"", "garbage": garbage, "header": whole[:24], "half": whole[: len(whole) // 2]}[damage]
        )
        code, line = distil(path)
        assert code == 2 and "tiny.gguf" in line


class TestNumbers:
    @pytest.mark.parametrize(
        ("flags", "say"),
        [
            (["--dims", "0"], "--dims must be at least 1"),
            (["--dims", "-1"], "--dims must be at least 1"),
            (["--dims", "many"], "--dims"),
            (["--sif", "0"], "--sif must be a number above 0"),
            (["--sif", "-1"], "--sif must be a number above 0"),
            (["--sif", "nan"], "--sif must be a number above 0"),
            (["--sif", "inf"], "--sif must be a number above 0"),
            (["--sif", "1e-300"], "all vectors are zero"),
            (["--max-size-mb", "0"], "above 0"),
            (["--max-size-mb", "1e308"], "above 0"),
            (["--max-size-mb", "0.0001", "--languages", "en"], "allow more"),
            (["--max-size-mb", "0.001", "--storage", "float16", "--languages", "en"], "allow more"),
            (["--dtype", "int8"], "--dtype"),
            (["--texts", "-1"], "--texts must be at least 0"),
            (["--texts", 10**15], "--texts must be at most"),
            (["--sentence-vectors", "-1"], "--sentence-vectors must be at least 0"),
            (["--sentence-vectors", 10**15], "--sentence-vectors must be at most"),
            (["--batch-size", "0"], "--batch-size must be at least 1"),
            (["--batch-size", "-1"], "--batch-size must be at least 1"),
            (["--seed", "-1"], "--seed"),
            (["--seed", 2**32], "--seed"),
            (["--seed", "0.5"], "--seed"),
        ],
        ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
    )
    def test_refused(
        self, flags: list[object], say: str, tiny_teacher: Path, distil: Callable[..., tuple[int, str]]
    ) -> None:
        code, line = distil(tiny_teacher, *flags)
        assert code == 2 and say in line

    @pytest.mark.parametrize(
        "flags", [["--dims", 10**30], ["--sif", "1"], ["--batch-size", 10**30], ["--seed", 2**32 - 1]], ids=str
    )
    def test_large_but_possible(
        self, flags: list[object], tiny_teacher: Path, distil: Callable[..., tuple[int, str]]
    ) -> None:
        assert distil(tiny_teacher, *flags)[0] == 0

    @pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
    def test_cuda_that_is_not_there(self, tiny_teacher: Path, distil: Callable[..., tuple[int, str]]) -> None:
        code, line = distil(tiny_teacher, "--device", "cuda")
        assert code == 2 and "--device cpu" in line

    @pytest.mark.parametrize("script", [evaluate_command, compare_command], ids=["eval", "compare"])
    def test_seeds_of_the_other_phases(self, script: Any, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as stopped:
            script.main(["--seed", "-1"])
        assert stopped.value.code == 2 and "--seed" in capsys.readouterr().err


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        serve()
