"""What SECURITY.md promises: no code of others, no secret in a file, nothing sent unasked, texts as texts."""

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

import pytest
from conftest import ROOT, Phases, use_items
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

import distill_qwen25_1024d as distill_script
import quick_eval_qwen25_1024d as evaluate_script
from qwen25.commands import page, publish
from qwen25.runtime import text as markup
from qwen25.runtime.files import read_json, write_json

TOKEN = "hf_" + "Secret7Secret" * 2
#: A token of another form, which no rule knows.
LOGIN = "SomeOtherLoginToken"
#: Everything that could be taken for markup.
HOSTILE = "<script>alert(1)</script>|`x`|[a](http://evil)![b](http://evil/c.png)*d*__e__\\|&lt;"
PUNCTUATION = "\\`*_[]()<>#+-.!|~&;:=\"'/ab1 \n\t$@é数"


def test_no_call_opens_what_could_run() -> None:
    """Beside what ruff's rules refuse: pickle, exec, eval, yaml.load, a shell."""
    for path in [*ROOT.glob("*.py"), *ROOT.glob("qwen25/**/*.py"), *ROOT.glob("benchmarks/**/*.py")]:
        opened = re.search(
            r"(trust_remote_code|allow_pickle|weights_only)\W? ?[=:](?! ?False)", path.read_text("utf-8")
        )
        assert opened is None, f"{path}: {opened}"


class Trojan:
    """Leaves a folder behind when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def trap_step(folder: Path, mark: Path, step: str = "trojan.Step", file: str = "trojan.py") -> None:
    """Have a model name a step whose code lies beside its weights, and pickled weights of it."""
    steps = {"": "sentence_transformers.models.Transformer", "step": step}
    (folder / "modules.json").write_text(json.dumps([{"path": path, "type": name} for path, name in steps.items()]))
    (folder / file).write_text(f"import os\nos.mkdir({str(mark)!r})\nclass Step: pass\n")
    (folder / "step").mkdir()
    (folder / "step" / "pytorch_model.bin").write_bytes(pickle.dumps(Trojan(mark)))


def trap_remote_code(folder: Path, mark: Path) -> None:
    trap_step(folder, mark, "sentence_transformers.models.Normalize")
    more = {"model_type": "trojan", "auto_map": {"AutoConfig": "trojan.Step", "AutoModel": "trojan.Step"}}
    write_json(folder / "config.json", read_json(folder / "config.json") | more)


def trap_pickle(folder: Path, mark: Path, name: str = "pytorch_model.bin") -> None:
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(pickle.dumps(Trojan(mark)))


TRAPS = {
    "pickle": trap_pickle,
    "pickle by another name": lambda folder, mark: trap_pickle(folder, mark, "model.safetensors"),
    "pickle of a step": lambda folder, mark: trap_step(folder, mark, "sentence_transformers.models.Dense"),
    "code": trap_step,
    "code named like a library": lambda folder, mark: trap_step(folder, mark, "pylate.Step", "pylate.py"),
    "code of another repository": lambda folder, mark: trap_step(folder, mark, "pylate.models.other--trojan.Step"),
    "remote code": trap_remote_code,
}


@pytest.mark.parametrize(
    ("trap", "kind"),
    [(trap, kind) for trap in TRAPS for kind in ("st:", "colbert:")]
    + [(trap, kind) for trap in ("pickle", "pickle by another name", "remote code") for kind in ("", "model2vec:")],
)
def test_no_code_of_a_model_is_run(
    trap: str, kind: str, tiny_bert: Path, on_few_items: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mark, folder = tmp_path / "code-was-run", Path(shutil.copytree(tiny_bert, tmp_path / "model"))
    TRAPS[trap](folder, mark)
    assert evaluate_script.main(["--model", f"{kind}{folder}", "--output", str(tmp_path / "r.json"), "-q"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ") and not mark.exists()
    pickle.loads(pickle.dumps(Trojan(mark)))  # noqa: S301 - our own
    assert mark.exists()  # the trap works


def test_no_run_writes_down_a_token_or_the_home_folder_or_asks_the_network(
    tiny_teacher: Path,
    on_few_items: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Publishing included, as long as nobody says --upload."""
    monkeypatch.setattr(publish, "check", lambda *_: [])
    asked: list[Any] = []
    for name in ("socket.connect", "socket.connect_ex", "getaddrinfo"):
        monkeypatch.setattr(f"socket.{name}", lambda *address, **_: asked.append(address) or 1)
    home = tmp_path / "home" / "jane.doe"
    teacher = shutil.copytree(tiny_teacher, home / "teacher")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("HF_TOKEN", LOGIN)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    phases = Phases(home / "work")
    flags = ["--teacher", teacher, "--device", "cpu", "--log-file", home / "work" / "distil.log"]
    assert phases.run(distill_script, *flags, output=phases.model) == phases.evaluate() == 0
    # Someone types the tokens where they do not belong.
    gone = home / f"gone-{LOGIN}-{TOKEN}"
    assert phases.run(evaluate_script, "--model", gone, "--debug", output=home / "x.json") == 2
    assert phases.compare("TINY", "--offline", "--model", f"HUB={LOGIN}/{TOKEN}") == phases.publish() == 0
    err = capsys.readouterr().err
    assert "~" in err and str(home) not in err and not any(token in err for token in (LOGIN, TOKEN))
    assert asked == [] and socket.getaddrinfo("x", 0) == 1
    written = {path: path.read_bytes() for path in (home / "work").rglob("*") if path.is_file()}
    assert {path.name for path in written} >= {"evaluation.json", "comparison.md", "distil.log", "BENCHMARKS.md"}
    for path, content in written.items():
        assert not [s for s in (LOGIN, TOKEN, str(home), "jane.doe") if s.encode() in content], path


MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


def inner(tokens: list[Token]) -> Iterator[Token]:
    """Yield all tokens, those inside of others too."""
    for token in tokens:
        yield token
        yield from inner(token.children or [])


def shown(path: Path) -> str:
    """Return what a reader sees of a Markdown document, which must have no links, images or HTML but ours."""
    text = re.sub(r"\A---\n.*?\n---\n", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    tokens = list(inner(MARKDOWN.parse(text)))
    links = [str(t.attrs.get("href") or t.attrs.get("src")) for t in tokens if t.type in ("link_open", "image")]
    assert all(re.fullmatch(r"[\w.]+", link) for link in links), links
    assert not [t.content for t in tokens if t.type in ("html_inline", "html_block")]
    return "".join(t.content for t in tokens if t.type in ("text", "text_special", "code_inline", "fence"))


@given(st.text(st.sampled_from(PUNCTUATION) | st.characters(exclude_categories=("Cs", "Cc")), max_size=14))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_any_text_is_shown_as_it_is(text: str) -> None:
    wanted = " ".join(text.split())
    for document in (f"- {markup.text('x ' + text)}\n", "\n".join(markup.table(["h"], [["x " + text]]))):
        tokens = [token for token in inner(MARKDOWN.parse(document)) if token.type.startswith("text")]
        assert "".join(t.content for t in tokens).removeprefix("h") == f"x {wanted}".strip()
    (code,) = [t for t in inner(MARKDOWN.parse(f"x `{markup.code('x' + text)}` y")) if t.type == "code_inline"]
    assert code.content == " ".join(("x" + text).split()).replace("`", "'")


def test_names_and_items_are_text_everywhere(
    tiny_model: Path, few_items: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = Path(shutil.copytree(few_items, tmp_path / "items"))
    path = items / "semantic_similarity.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        row |= {"anchor": f"{HOSTILE}\n\n# big\n table[name](key)", "paraphrase": f"{row['id']} {HOSTILE}"}
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    use_items(monkeypatch, items)
    monkeypatch.setattr(publish, "check", lambda *_: [])
    phases, name = Phases(tmp_path / "work"), HOSTILE.replace("=", "")
    shutil.copytree(tiny_model, phases.model)
    assert phases.evaluate() == phases.compare(name, "--model", f"[/red]$x^$ {name}=bm25") == phases.publish() == 0
    for report in ("evaluation.html", "comparison.html"):
        html = (phases.folder / report).read_text(encoding="utf-8")
        assert html.count("<script") == 1 and "&lt;script&gt;" in html
        assert not re.findall(r"(?:src|href)=\"(?!data:)", html)
    assert shown(phases.folder / "comparison.md").count(HOSTILE) > 5
    assert f"{HOSTILE} # big table[name](key)" in shown(phases.publication / "BENCHMARKS.md")
    assert phases.run(page, "--model", phases.model, "--name", HOSTILE, output=tmp_path / "page.html") == 0
    assert "<script>alert(1)" not in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert_every_string_is_text(phases)


def assert_every_string_is_text(phases: Phases) -> None:
    """Check it of the strings of all results, also before the quick start, whose code is run to check the card."""
    evil = f"{HOSTILE}\n\n```python\nraise SystemExit('it was run')\n```\n"
    # What the schemas fix cannot be another string: a file that has one is refused when it is read.
    fixed = ("name", "kind", "word", "ours", "obtained", "created", "verdict", "origin", "from", "frequencies")

    def poisoned(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {k: poisoned(v, k) for k, v in value.items()}
        if isinstance(value, list):
            return [poisoned(v, key) for v in value]
        kept = key in fixed or re.fullmatch(r"[0-9a-f]{64}", str(value))
        return f"{value} {evil}" if isinstance(value, str) and not kept else value

    metadata = phases.model / "metadata.json"
    for path in (metadata, phases.evaluation, phases.comparison):
        write_json(path, poisoned(read_json(path)))
    write_json(metadata, read_json(metadata) | {"name": '../x"); import os; os.mkdir("ran"); print("'})
    before = {*phases.folder.parent.rglob("*")}
    assert phases.publish() == 0
    assert all(phases.publication in path.parents for path in {*phases.folder.parent.rglob("*")} - before)
    for name in ("README.md", "BENCHMARKS.md"):
        assert "alert(1)" in shown(phases.publication / name)
    card = (phases.publication / "README.md").read_text(encoding="utf-8")
    code = ast.parse(re.findall(r"```python\n(.*?)```", card, re.DOTALL)[0])
    assert [ast.unparse(node)[:5] for node in code.body] == ["from ", "model", "vecto"]
