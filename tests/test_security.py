"""What SECURITY.md promises: no code of others, no secret in a file, nothing outside its folder, texts as texts."""

from __future__ import annotations

import ast
import json
import os
import pickle
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fake_hub
import pytest
from conftest import ROOT
from fake_hub import FakeHub, run_as_user
from huggingface_hub import ModelCard
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from qwen25.commands import compare as compare_command
from qwen25.commands import distill as distill_command
from qwen25.commands import evaluate as evaluate_command
from qwen25.commands import publish as publish_command
from qwen25.publication.check import _link_faults, _size_faults, quick_start
from qwen25.publication.publication import Imprint, Publication
from qwen25.runtime import console, markdown
from qwen25.runtime.console import add_common_flags
from qwen25.runtime.display import print_table
from qwen25.runtime.errors import InputError, redact
from qwen25.runtime.files import read_json, write_json
from qwen25.runtime.markdown import _as_markdown, table
from qwen25.store.download import snapshot
from qwen25.store.model_card import model_card

SOURCES = sorted(
    path for pattern in ("*.py", "qwen25/**/*.py", "benchmarks/**/*.py", "examples/*.py") for path in ROOT.glob(pattern)
)
TOKEN = "hf_" + "Secret7Secret" * 2
#: A token of another form, which no rule knows.
LOGIN = "SomeOtherLoginToken"


class Phases:
    """Runs the phases on the tiny teacher, each as it would be typed, in one folder."""

    def __init__(self, folder: Path, teacher: Path, items: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.teacher, self.items, self.monkeypatch = folder, teacher, items, monkeypatch
        self.model = folder / "model"
        self.evaluation, self.comparison = folder / "evaluation.json", folder / "comparison.json"

    def run(self, script: Any, *arguments: str) -> int:
        self.monkeypatch.setattr("sys.argv", [script.__file__, *arguments])
        return script.main()

    def distil(self) -> int:
        arguments = ["--teacher", str(self.teacher), "--output", str(self.model), "--texts", "0", "--device", "cpu"]
        return self.run(distill_command, *arguments, "--log-file", str(self.folder / "distil.log"))

    def evaluate(self) -> int:
        arguments = ["--model", str(self.model), "--items", str(self.items), "--output", str(self.evaluation)]
        return self.run(evaluate_command, *arguments, "--report", str(self.folder / "report.html"))

    def compare(self, name: str = "TINY", *arguments: str) -> int:
        ours = ["--ours", f"{name}={self.model}", "--items", str(self.items), "--no-peers"]
        return self.run(compare_command, *ours, *arguments, "--output", str(self.comparison))

    def publish(self) -> int:
        arguments = ["--model", str(self.model), "--evaluation", str(self.evaluation)]
        arguments += ["--comparison", str(self.comparison), "--output", str(self.folder / "publication")]
        return self.run(publish_command, *arguments)

    def publication(self) -> Publication:
        return Publication(self.model, self.evaluation, self.comparison, ROOT / "examples")


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Note, and refuse, every connection to somewhere else."""
    asked: list[Any] = []

    def refuse(_: socket.socket, address: Any) -> None:
        asked.append(address)
        raise OSError("no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *address, **_: refuse(socket.socket(), address))
    return asked


class TestCode:
    """No file of the project runs what it is given, or opens it in a way that could."""

    #: Calls by their whole name; a method such as ``model.eval()`` is another thing than ``eval``.
    FORBIDDEN = re.compile(
        r"(builtins\.)?(eval|exec|compile|__import__)|(torch|joblib|dill|cloudpickle|c?pickle|marshal|shelve)\.(load|loads|open)"
        r"|yaml\.(load|unsafe_load|full_load)(_all)?|os\.(system|popen|exec\w+|spawn\w+)|(pd|pandas)\.read_pickle"
        r"|subprocess\.(getoutput|getstatusoutput)|runpy\.\w+"
    )
    MODULES = ("pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "runpy")

    @classmethod
    def faults(cls, source: str) -> list[str]:
        """Return what a file must not hold, each with its line."""
        return [f"{node.lineno}: {fault}" for node in ast.walk(ast.parse(source)) if (fault := cls.fault(node))]

    @classmethod
    def fault(cls, node: ast.AST) -> str | None:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            from_module = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names = from_module + [f"{'.'.join([*from_module, alias.name])}" for alias in node.names]
            return next((n for n in names if n.split(".")[0] in cls.MODULES or cls.FORBIDDEN.fullmatch(n)), None)
        if isinstance(node, ast.Call):
            if cls.FORBIDDEN.fullmatch(name := ast.unparse(node.func)):
                return name
            for keyword in node.keywords:
                is_false = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
                if keyword.arg in ("shell", "trust_remote_code", "allow_pickle") and not is_false:
                    return f"{keyword.arg} is not False"
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                is_false = isinstance(value, ast.Constant) and value.value is False
                if isinstance(key, ast.Constant) and key.value == "trust_remote_code" and not is_false:
                    return "trust_remote_code is not False"
        return None

    @pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
    def test_no_file_runs_what_it_is_given(self, path: Path) -> None:
        assert self.faults(path.read_text(encoding="utf-8")) == []

    @pytest.mark.parametrize(
        "source",
        [
            "import pickle",
            "from joblib import load",
            "from torch import load",
            "torch.load(path, weights_only=True)",
            "eval(text)",
            "exec('x')",
            "yaml.load(text)",
            "subprocess.run(line, shell=True)",
            "subprocess.run(line, shell=flag)",
            "os.system(line)",
            "np.load(path, allow_pickle=True)",
            "AutoModel.from_pretrained(x, trust_remote_code=True)",
            "options = {'trust_remote_code': args.trust}",
        ],
    )
    def test_the_check_finds_it(self, source: str) -> None:
        assert self.faults(source)
        assert self.faults("model.eval()\nre.compile('x')\nrun(line, shell=False)\nnp.load(path)") == []


class Trojan:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


class TestModels:
    @pytest.fixture
    def mark(self, tmp_path: Path) -> Path:
        return tmp_path / "code-was-run"

    def refusal_of(self, spec: str, items: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
        arguments = ["--model", spec, "--items", str(items), "--output", str(folder / "result.json")]
        assert evaluate_command.main([*arguments, "--json-only"]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert line.startswith("error: ")
        return line

    @pytest.mark.parametrize("kind", ["", "st:", "colbert:", "model2vec:"])
    @pytest.mark.parametrize("name", ["model.bin", "pytorch_model.bin", "model.pt", "model.safetensors"])
    def test_a_pickle_is_never_opened(
        self, kind: str, name: str, tiny_bert: Path, few_items: Path, tmp_path: Path, mark: Path, capsys: Any
    ) -> None:
        """Not by its own name, and not under that of safetensors."""
        folder = tmp_path / "model"
        shutil.copytree(tiny_bert, folder)
        (folder / "model.safetensors").unlink()
        (folder / name).write_bytes(pickle.dumps(Trojan(mark)))
        line = self.refusal_of(f"{kind}{folder}", few_items, tmp_path, capsys)
        assert "pickled" in line or name == "model.safetensors"
        assert not mark.exists()
        pickle.loads((folder / name).read_bytes())  # noqa: S301 - our own
        assert mark.exists()  # the trap works

    @pytest.mark.parametrize("kind", ["st:", "colbert:"])
    @pytest.mark.parametrize(
        ("step", "file"),
        [
            ("trojan.Step", "trojan.py"),
            # Named like the library, but a file beside the weights.
            ("pylate.Step", "pylate.py"),
            ("sentence_transformers_.Step", "sentence_transformers_.py"),
            # From another repository.
            ("pylate.models.other--trojan.Step", "trojan.py"),
        ],
    )
    def test_code_beside_the_weights_is_never_run(
        self, kind: str, step: str, file: str, tiny_bert: Path, few_items: Path, tmp_path: Path, mark: Path, capsys: Any
    ) -> None:
        folder = tmp_path / "model"
        shutil.copytree(tiny_bert, folder)
        (folder / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": "", "type": step}]))
        (folder / file).write_text(f"import os\nos.mkdir({str(mark)!r})\nclass Step: pass\n")
        assert "code of its own" in self.refusal_of(f"{kind}{folder}", few_items, tmp_path, capsys)
        assert not mark.exists()

    @pytest.mark.parametrize("kind", ["st:", "colbert:"])
    def test_a_step_with_pickled_weights_is_refused(
        self, kind: str, tiny_bert: Path, few_items: Path, tmp_path: Path, mark: Path, capsys: Any
    ) -> None:
        folder = tmp_path / "model"
        shutil.copytree(tiny_bert, folder)
        names = {"": "Transformer", "1_Pooling": "Pooling", "2_Dense": "Dense"}
        steps = [{"path": path, "type": f"sentence_transformers.models.{name}"} for path, name in names.items()]
        (folder / "modules.json").write_text(json.dumps(steps))
        (folder / "2_Dense").mkdir()
        (folder / "2_Dense" / "pytorch_model.bin").write_bytes(pickle.dumps(Trojan(mark)))
        line = self.refusal_of(f"{kind}{folder}", few_items, tmp_path, capsys)
        assert "2_Dense" in line and "pickled" in line and not mark.exists()

    def test_remote_code_of_a_configuration_is_never_run(
        self, tiny_bert: Path, few_items: Path, tmp_path: Path, mark: Path, capsys: Any
    ) -> None:
        folder = tmp_path / "model"
        shutil.copytree(tiny_bert, folder)
        config = read_json(folder / "config.json")
        config |= {"model_type": "trojan", "auto_map": {"AutoConfig": "trojan.Config", "AutoModel": "trojan.Model"}}
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "trojan.py").write_text(f"import os\nos.mkdir({str(mark)!r})\nclass Config: pass\n")
        for kind in ("st:", "colbert:", "model2vec:"):
            self.refusal_of(f"{kind}{folder}", few_items, tmp_path, capsys)
        assert not mark.exists()


class TestSecrets:
    def test_no_run_writes_down_a_token_or_the_home_folder_or_asks_the_network(
        self,
        tiny_teacher: Path,
        few_items: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        no_network: list[Any],
    ) -> None:
        home = tmp_path / "home" / "jane.doe"
        shutil.copytree(tiny_teacher, home / "teachers" / "tiny")
        shutil.copytree(few_items, home / "items")
        monkeypatch.setenv("HOME", str(home))
        monkeypatch.setenv("HF_TOKEN", LOGIN)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        phases = Phases(home / "work", home / "teachers" / "tiny", home / "items", monkeypatch)
        (home / "work").mkdir()
        assert phases.distil() == phases.evaluate() == 0
        # Someone types the tokens where they do not belong.
        gone = home / f"gone-{LOGIN}-{TOKEN}"
        arguments = ["--model", str(gone), "--output", str(home / "x.json"), "--debug"]
        assert phases.run(evaluate_command, *arguments) == 2
        assert phases.compare("TINY", "--offline", "--model", f"HUB={LOGIN}/{TOKEN}") == phases.publish() == 0
        err = capsys.readouterr().err
        assert "~" in err and str(home) not in err and not any(token in err for token in (LOGIN, TOKEN))
        assert no_network == []
        written = {p: p.read_bytes() for p in (home / "work").rglob("*") if p.is_file()}
        assert {p.name for p in written} >= {
            "metadata.json",
            "evaluation.json",
            "comparison.json",
            "comparison.md",
            "report.html",
            "distil.log",
            "BENCHMARKS.md",
        }
        for path, content in written.items():
            for secret in (LOGIN, TOKEN, str(home), "jane.doe"):
                assert secret.encode() not in content, path

    def test_a_secret_in_any_error_is_struck_out(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        import argparse

        def body(_: argparse.Namespace) -> int:
            raise RuntimeError(f"{LOGIN} {TOKEN} {Path.home()}/x")

        monkeypatch.setenv("HF_TOKEN", LOGIN)
        monkeypatch.setenv("HOME", "/home/jane.doe")
        parser = argparse.ArgumentParser()
        add_common_flags(parser)
        assert console.run(parser, body, ["--debug"]) == 1
        err = capsys.readouterr().err
        assert "RuntimeError" in err and not any(secret in err for secret in (LOGIN, TOKEN, "jane.doe"))

    def test_a_user_without_a_home_folder_is_no_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def none() -> Path:
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.setattr(Path, "home", none)
        assert redact(f"a {TOKEN}") == "a hf_***"


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, tiny_teacher: Path, tiny_model: Path, few_items: Path) -> Path:
    """A folder with the results of phases 1 to 3."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        phases = Phases(tmp_path_factory.mktemp("done"), tiny_teacher, few_items, monkeypatch)
        shutil.copytree(tiny_model, phases.model)
        assert phases.evaluate() == phases.compare("TINY", "--model", "WORDS=bm25") == 0
        return phases.folder


@pytest.fixture
def phases(done: Path, tmp_path: Path, tiny_teacher: Path, few_items: Path, monkeypatch: pytest.MonkeyPatch) -> Phases:
    """The phases where the first three have been run."""
    shutil.copytree(done, tmp_path / "work")
    return Phases(tmp_path / "work", tiny_teacher, few_items, monkeypatch)


def changed(path: Path, **fields: Any) -> None:
    write_json(path, read_json(path) | fields)


class TestPaths:
    @pytest.mark.parametrize(
        ("name", "shown"),
        [
            ("../../evil", "evil"),
            ("/etc/passwd", "etc-passwd"),
            ("a/../b", "a-b"),
            ('x"); import os; os.mkdir("ran"); print("', "x-import-os-os.mkdir-ran-print"),
            ("naïve model", "na-ve-model"),
        ],
    )
    def test_a_name_stays_a_name(self, phases: Phases, name: str, shown: str) -> None:
        changed(phases.model / "metadata.json", name=name)
        before = set(phases.folder.parent.rglob("*"))
        publication = phases.publication()
        assert publication.name == shown and publication.repo is None
        publication.render(phases.folder / "publication")
        made = set(phases.folder.parent.rglob("*")) - before
        assert made and all(path.is_relative_to(phases.folder / "publication") for path in made)
        code = ast.parse(quick_start((phases.folder / "publication" / "README.md").read_text(encoding="utf-8")))
        assert [ast.unparse(node)[:5] for node in code.body] == ["from ", "model", "vecto", "print"]
        assert "from_pretrained('path/to/this/folder')" in ast.unparse(code)

    @pytest.mark.parametrize("name", ["", "...", "数学", 7, None, ["x"], "y" * 200])
    def test_what_is_no_name_is_refused(self, phases: Phases, name: Any, capsys: pytest.CaptureFixture[str]) -> None:
        changed(phases.model / "metadata.json", name=name)
        assert phases.publish() == 2
        assert capsys.readouterr().err.strip().splitlines()[-1].startswith("error: ")
        assert not (phases.folder / "publication").exists()

    @pytest.mark.parametrize("repo", ["../evil", "/etc/passwd", "a/b/c", "a/..", "a", 'a/b"); print("x', "a/--b"])
    def test_a_repository_that_cannot_be_is_refused_before_anything_is_written(
        self, phases: Phases, repo: str, no_network: list[Any]
    ) -> None:
        with pytest.raises(InputError, match=re.escape(repo)):
            Publication(phases.model, phases.evaluation, phases.comparison, ROOT / "examples", Imprint(repo))
        with pytest.raises(InputError):
            snapshot(repo if "/" in repo else f"{repo}..")
        assert no_network == []

    @pytest.mark.parametrize("name", ["1_Normalize/config.json", "1_Normalize", "modules.json"])
    def test_what_a_link_in_the_model_leads_to_is_not_published(self, phases: Phases, name: str, capsys: Any) -> None:
        secret = phases.folder.parent / "secret"
        moved = phases.model / name
        moved.rename(secret)
        moved.symlink_to(secret)
        assert phases.publish() == 2
        assert "is a link to elsewhere" in capsys.readouterr().err
        assert not (phases.folder / "publication").exists()

    def test_sizes_of_other_files_are_not_asked_for(self, phases: Phases) -> None:
        sizes = read_json(phases.model / "metadata.json")["sizes_bytes"]
        changed(phases.model / "metadata.json", sizes_bytes=sizes | {"../../../etc/passwd": 1})
        phases.publication().render(phases.folder / "publication")
        assert _size_faults(phases.folder / "publication") == []

    def test_a_repository_cannot_write_outside_the_cache_or_send_code(
        self, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        served = tmp_path / "a" / "b" / "served"
        shutil.copytree(tiny_model, served)
        for name in ("tokenizer_extra.py", "vocab.py", "tokenizer.pkl", "vocab.bin"):
            (served / name).write_text("raise SystemExit('it was run')")
        script = "import sys; from qwen25.store.download import snapshot; print(snapshot(sys.argv[1]))"
        with FakeHub() as there:
            there.add("tiny/static", served)
            done = run_as_user(there.url, tmp_path / "home", ["-c", script, "tiny/static"])
            assert done.returncode == 0, done.stderr
            names = {path.name for path in Path(done.stdout.strip()).iterdir()}
            assert "tokenizer.json" in names and not [n for n in names if n.endswith((".py", ".pkl", ".bin"))]
            # Now it lists a file that would lie elsewhere.
            (served / "1_x").mkdir()
            (tmp_path / "config.json").write_text('{"evil": 1}')
            there.add("tiny/evil", served)
            listed = fake_hub._names
            outside = "1_x/../../../../config.json"
            monkeypatch.setattr(fake_hub, "_names", lambda folder: [*listed(folder), outside])
            done = run_as_user(there.url, tmp_path / "home", ["-c", script, "tiny/evil"])
        assert done.returncode == 1 and "PipelineError: tiny/evil could not be downloaded" in done.stderr
        files = [path for path in (tmp_path / "home").rglob("*") if path.is_file()]
        assert files and not [path for path in files if b'"evil": 1' in path.read_bytes()]


#: Everything that could be taken for markup.
HOSTILE = "<script>alert(1)</script>|`x`|[a](http://evil)![b](http://evil/c.png)*d*__e__\\|&lt;"
MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


def inner(tokens: list[Token]) -> Iterator[Token]:
    """Yield all tokens, those inside of others too."""
    for token in tokens:
        yield token
        yield from inner(token.children or [])


def shown(text: str) -> str:
    """Return what a reader sees of a Markdown document, which must have no links, images or HTML but ours."""
    tokens = list(inner(MARKDOWN.parse(text)))
    links = [str(t.attrs.get("href") or t.attrs.get("src")) for t in tokens if t.type in ("link_open", "image")]
    assert all(re.fullmatch(r"[\w.]+", link) for link in links), links
    assert not [t.content for t in tokens if t.type in ("html_inline", "html_block")]
    return "\n".join(t.content for t in tokens if t.type in ("text", "text_special", "code_inline", "fence"))


def joined(text: str) -> str:
    """Return a shown text without what falls between its parts."""
    return text.replace("\n", "")


class TestMarkup:
    @given(
        st.text(
            st.sampled_from("\\`*_[]()<>#+-.!|~&;:=\"'/ab1 \n\t$@é数") | st.characters(exclude_categories=("Cs", "Cc")),
            max_size=14,
        )
    )
    @settings(max_examples=500, deadline=None, derandomize=True)
    def test_any_text_is_shown_as_it_is(self, text: str) -> None:
        wanted = " ".join(text.split())
        for document in (f"- {markdown.text('x ' + text)}\n", "\n".join(table(["h"], [["x " + text]]))):
            tokens = [token for token in inner(MARKDOWN.parse(document)) if token.type.startswith("text")]
            assert "".join(t.content for t in tokens).removeprefix("h") == f"x {wanted}".strip()
        tokens = MARKDOWN.parse(f"- {markdown.text(text)}\n")
        # An empty item, or a lone dash, is a list of its own; anything else is one paragraph.
        assert wanted in ("", "-") or [t.type for t in tokens[2:-2]] == ["paragraph_open", "inline", "paragraph_close"]
        (code,) = [t for t in inner(MARKDOWN.parse(f"x `{markdown.code('x' + text)}` y")) if t.type == "code_inline"]
        assert code.content == " ".join(("x" + text).split()).replace("`", "'")

    def test_names_in_a_comparison_are_text(self, phases: Phases) -> None:
        name = HOSTILE.replace("=", "")
        assert phases.compare(name, "--model", f"[/red]$x^$ {name}=bm25") == 0
        page = (phases.folder / "comparison.html").read_text(encoding="utf-8")
        assert page.count("<script") == 1 and page.count("<img") == 2 and "&lt;script&gt;" in page
        assert not re.findall(r"(?:src|href)=\"(?!data:)", page)
        assert joined(shown((phases.folder / "comparison.md").read_text(encoding="utf-8"))).count(name) > 5

    def test_items_in_a_report_are_text(self, phases: Phases, tmp_path: Path) -> None:
        items = tmp_path / "items"
        shutil.copytree(phases.items, items)
        path = items / "semantic_similarity.jsonl"
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for row in rows:
            row |= {"anchor": f"{HOSTILE}\n\n# big\n table[name](key)", "paraphrase": f"{row['id']} {HOSTILE}"}
        path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        phases.items = items
        assert phases.evaluate() == phases.compare() == phases.publish() == 0
        page = (phases.folder / "report.html").read_text(encoding="utf-8")
        assert page.count("<script") == page.count("<img") == 1 and "&lt;script&gt;" in page
        seen = shown((phases.folder / "publication" / "BENCHMARKS.md").read_text(encoding="utf-8"))
        assert f"{HOSTILE} # big table[name](key)" in joined(seen)
        # A link inside an item is none of ours that could lead nowhere.
        assert _link_faults(phases.folder / "publication") == []

    def test_every_string_of_every_result_is_text(self, phases: Phases) -> None:
        """Also before the quick start, whose code is run by --check."""
        evil = f"{HOSTILE}\n\n```python\nraise SystemExit('it was run')\n```\n"

        def poisoned(value: Any, key: str = "") -> Any:
            if isinstance(value, dict):
                return {k: poisoned(v, k) for k, v in value.items()}
            if isinstance(value, list):
                return [poisoned(v, key) for v in value]
            # What the schemas fix cannot be another string: a file that has one is refused when it is read.
            kept = key in ("name", "kind", "word", "ours", "obtained", "created", "verdict", "origin", "from")
            kept = kept or key == "frequencies" or bool(re.fullmatch(r"[0-9a-f]{64}", str(value)))
            return f"{value} {evil}" if isinstance(value, str) and not kept else value

        for path in (phases.model / "metadata.json", phases.evaluation, phases.comparison):
            write_json(path, poisoned(read_json(path)))
        teacher = read_json(phases.model / "metadata.json")["teacher"]
        changed(phases.model / "metadata.json", teacher=teacher | {"name": evil, "origin": "hub"})
        phases.publication().render(phases.folder / "publication")
        for name in ("README.md", "BENCHMARKS.md"):
            text = (phases.folder / "publication" / name).read_text(encoding="utf-8")
            assert "alert(1)" in shown(ModelCard(text).text)
        card = (phases.folder / "publication" / "README.md").read_text(encoding="utf-8")
        assert quick_start(card).startswith("from model2vec import StaticModel")
        assert ModelCard(card).data.base_model is None

    def test_the_models_own_card(self, phases: Phases) -> None:
        metadata = read_json(phases.model / "metadata.json")
        metadata |= {"name": HOSTILE, "teacher": metadata["teacher"] | {"name": HOSTILE}}
        card = ModelCard(model_card(metadata)).text
        assert HOSTILE in joined(shown(card)) and HOSTILE.replace("`", "'") in joined(shown(card))

    def test_the_terminal_shows_names_as_they_are(self, capsys: pytest.CaptureFixture[str]) -> None:
        print_table("[bold]t", ["[b]h"], [["[/red] :smile: [link=http://evil]x"]])
        out = capsys.readouterr().out
        assert all(text in out for text in ("[bold]t", "[b]h", "[/red] :smile: [link=http://evil]x"))

    def test_a_template_escapes_what_is_no_string(self) -> None:
        assert _as_markdown({"<i>": ["`"]}) == "{'\\<i>': ['\\`']}"
        assert _as_markdown(1.5) == 1.5
