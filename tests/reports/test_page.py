"""The page: its program gives what Python gives, its texts stay texts, and a person can use it."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
import shutil
import subprocess
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from model2vec import StaticModel
from tiny_results import plain_tokenizer
from tokenizers import Tokenizer, models

from qwen25.commands.page import main
from qwen25.distillation.vocabulary import NUMBERS, with_whole
from qwen25.evaluation.matching import Bm25, Cosine
from qwen25.reports import page as page_module
from qwen25.reports.page import SEED, javascript_pattern, page_model, page_tokenizer, write_page
from qwen25.runtime.errors import InputError
from qwen25.runtime.files import read_json, resource
from qwen25.store.static_model import static_encode
from qwen25.teacher.gguf import GGUF_PRE_TOKENIZERS

EXAMPLES = read_json(resource("data") / "page_examples.json")
NEEDS_NODE = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NO_NETWORK = ("quic", "background-networking", "component-update", "sync", "gpu")


def save(
    folder: Path, tokenizer: Tokenizer, kind: Any = np.float32, dims: int = 40, rows: int | None = None, **more: Any
) -> Path:
    """Save a model with random vectors.

    :param rows: how many of them its tokens share (None: each has its own).
    """
    tokens = tokenizer.get_vocab_size()
    table = np.random.default_rng(0).standard_normal((rows or tokens, dims)) * 20
    if rows:
        generator = np.random.default_rng(1)
        weights = generator.uniform(0.1, 2, tokens).astype(np.float32)
        more |= {"token_mapping": generator.integers(0, rows, tokens), "weights": weights}
    StaticModel(table.astype(kind), tokenizer, normalize=True, max_length=None, **more).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: Tokenizer) -> Path:
    return save(tmp_path_factory.mktemp("page") / "small", plain_tokenizer(tiny_tokenizer))


@pytest.fixture(scope="module")
def file(model: Path) -> Path:
    output = model.parent / "page.html"
    write_page(model, output)
    return output


def by_node(file: Path, texts: list[str]) -> dict[str, Any]:
    command = ["node", str(ROOT / "tests" / "reports" / "page_engine.mjs"), str(file)]
    return json.loads(
        subprocess.run(command, input=json.dumps(texts), capture_output=True, check=True, text=True).stdout
    )


def control(model: StaticModel) -> StaticModel:
    """The page's control, in numpy: the model's row lengths, signs by a hash of row and place."""
    with np.errstate(over="ignore"):
        row = np.arange(len(model.embedding), dtype=np.uint32)[:, None] * np.uint32(0x9E3779B1)
        place = np.arange(model.dim, dtype=np.uint32)
        h = row + (place >> 5)[None] * np.uint32(0x85EBCA77) + np.uint32(SEED)
        h = (h ^ (h >> 16)) * np.uint32(0x85EBCA6B)
        h = (h ^ (h >> 13)) * np.uint32(0xC2B2AE35)
        h ^= h >> 16
    signs = np.where((h >> (place & 31)[None]) & 1, 1.0, -1.0)
    lengths = np.linalg.norm(model.embedding.astype(np.float64), axis=1)
    return StaticModel(
        (signs * lengths[:, None]).astype(np.float32),
        model.tokenizer,
        normalize=True,
        weights=model.weights,
        token_mapping=model.token_mapping,
        max_length=None,
    )


def expected_rankings(model: StaticModel) -> list[list[list[list[float]]]]:
    """What Python gives for each example, query and ranking: one score a document."""
    matchers = [Cosine(static_encode(model)), Bm25(), Cosine(static_encode(control(model)))]
    return [
        [[m.similarity([q["text"]], e["documents"])[0].tolist() for m in matchers] for q in e["queries"]]
        for e in EXAMPLES
    ]


def texts_of_all_kinds(count: int) -> list[str]:
    """Random texts of assigned characters: letters of many scripts, marks, digits, spaces, symbols, contractions."""
    generator = random.Random(0)  # noqa: S311
    assigned = [chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co")]
    parts = ["'s", "'RE", "'\u017f", "I'll"]
    parts += [
        *"\t \u0301\u0308\u0660\u00bd\u2167\u200d\ufeff\u0085\u00a0\u180e\u3000\uac00",
    ]
    parts += ["  ", "\n\n", "\r\n", " x", "e\u0301", "12", "\u1112\u1161"]
    words = ["hello", "world", "def", "return", "Straße", "naïve", "мир", "你好", "مرحبا", "नमस्ते", "ไทย", "한국어"]
    kinds = [assigned, parts, words, [" "], list("abcXYZ019_.,;!?()[]{}<>/\\'\""), list("0123456789./:x-")]
    return ["", " ", *("".join(generator.choice(generator.choice(kinds)) for _ in range(12)) for _ in range(count))]


@NEEDS_NODE
class TestProgram:
    @pytest.mark.parametrize("rows", [None, 50])
    def test_rankings_are_pythons(self, tiny_tokenizer: Tokenizer, tmp_path: Path, rows: int | None) -> None:
        """Also where tokens share rows."""
        folder = save(tmp_path / "model", plain_tokenizer(tiny_tokenizer), rows=rows)
        write_page(folder, tmp_path / "page.html")
        found, kept = by_node(tmp_path / "page.html", ["How do I knit?"]), page_model(folder)
        assert len(kept.embedding) == (rows or len(kept.tokens))
        np.testing.assert_allclose(found["vectors"], kept.encode(["How do I knit?"]), atol=1e-5)
        for ours, theirs in zip(found["rankings"], expected_rankings(kept), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=2e-5)

    @pytest.mark.parametrize("pre", list(GGUF_PRE_TOKENIZERS))
    def test_tokens_and_vectors_are_pythons(
        self, tiny_tokenizer: Tokenizer, tmp_path: Path, pre: str, texts: list[str]
    ) -> None:
        spec = json.loads(tiny_tokenizer.to_str())
        pattern = GGUF_PRE_TOKENIZERS[pre].pattern
        first = {"type": "Digits", "individual_digits": True}
        if pattern:
            first = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
        spec["pre_tokenizer"]["pretokenizers"][0] = first
        spec["pre_tokenizer"]["pretokenizers"][1]["use_regex"] = pattern is None
        spec["model"]["ignore_merges"] = pre == "llama-bpe"
        tokenizer = plain_tokenizer(Tokenizer.from_str(json.dumps(spec)))
        if pre == "qwen2":  # with words that are found whole, and groups of digits
            tokenizer = with_whole(tokenizer, [" नमस्ते", " мир", " 한국어"], NUMBERS)
        write_page(save(tmp_path / "model", tokenizer, np.int8), tmp_path / "page.html")
        letters = random.Random(1).choices("etaoinshrdlucmfwypvbgkjqxz", k=20_000)  # noqa: S311
        asked = [*texts_of_all_kinds(500), *texts[::20], "x" * 3000, "".join(letters)]
        found, loaded = by_node(tmp_path / "page.html", asked), StaticModel.from_pretrained(tmp_path / "model")
        differing = [t for t, a, b in zip(asked, found["tokens"], loaded.tokenize(asked), strict=True) if a != b]
        assert differing == []
        np.testing.assert_allclose(found["vectors"], loaded.encode(asked), atol=1e-5)


class TestFile:
    def test_nothing_is_loaded_and_only_what_was_written_may_run(self, file: Path) -> None:
        text = file.read_text(encoding="utf-8")
        assert re.findall(r'<[^>]*(?:src|href|action|srcset)="([^"]*)"', text.partition("<script")[0]) == ["#query"]
        policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
        assert policy.startswith("default-src 'none';") and "unsafe" not in policy
        run = re.findall(r"<(?:script|style)>(.*?)</(?:script|style)>", text, re.DOTALL)
        assert len(run) == 3
        for part in run:
            assert base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() in policy


class TestModels:
    def test_what_is_too_large_is_told_how_to_fit(self, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(page_module, "MAX_MB", 0.05)
        with pytest.raises(InputError, match=r"too large for a page.*--dims (\d+) or less") as raised:
            page_model(model)
        assert page_model(model, int(re.findall(r"--dims (\d+)", str(raised.value))[0])).dim < 40

    @pytest.mark.parametrize("odd", [r"\w+", r"(?<name>a)b", "a++", r"\p{N}{1,3}+"])
    def test_patterns_that_are_not_known_to_mean_the_same_are_refused(self, odd: str) -> None:
        with pytest.raises(InputError, match="the pattern"):
            javascript_pattern(odd)

    def test_tokenizers_of_another_kind_are_refused(self, tiny_tokenizer: Tokenizer) -> None:
        with pytest.raises(InputError, match="not byte-level"):
            page_tokenizer(Tokenizer(models.WordLevel({"a": 0}, unk_token="a")))  # noqa: S106
        with pytest.raises(InputError, match="--vocabulary"):  # its special tokens are words of its own
            page_tokenizer(tiny_tokenizer)

    def test_command(self, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        command, page = ["--model", str(model), "--output"], str(tmp_path / "p.html")
        for flags, said in (
            ([page, "--dims", "41"], "from 1 to the model's 40"),
            ([page, "--name", "two\nlines"], "all of them printable"),
            ([str(model / "page.html")], "is in the model's folder"),
        ):
            assert main([*command, *flags]) == 2 and said in capsys.readouterr().err
        assert main([*command, page, "--dims", "8"]) == 0 and page in capsys.readouterr().out


@pytest.fixture
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    sync_api = pytest.importorskip("playwright.sync_api", reason="setup_qwen25.sh --with-tests installs playwright")
    flags = ["--no-sandbox", "--no-first-run", *(f"--disable-{name}" for name in NO_NETWORK)]
    with sync_api.sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=flags)


def shown(page: Any) -> list[list[int]]:
    """Return the numbers of the documents in each column, in order."""
    return page.evaluate(
        """() => Array.from(document.querySelectorAll(".column"), (column) =>
        Array.from(column.querySelectorAll("li[data-document]"), (item) => Number(item.dataset.document)))"""
    )


def test_in_a_browser(browser: Any, file: Path, model: Path) -> None:
    """What is shown is Python's ranking, the keyboard suffices, texts stay texts, and nothing overflows a phone."""
    context = browser.new_context(viewport={"width": 360, "height": 740})
    page, complaints = context.new_page(), []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: complaints.append(request.url) if request.url != file.as_uri() else None)
    page.goto(file.as_uri())
    page.wait_for_selector("html[data-ready]")
    expected = expected_rankings(page_model(model))
    for number, example in enumerate(EXAMPLES):
        page.click(f"#sets label:nth-of-type({number + 1})")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        for k, query in enumerate(example["queries"][:2]):
            page.fill("#query", query["text"])
            for column, scores in zip(shown(page), expected[number][k], strict=True):
                # Documents nearer to each other than the arithmetic is exact may change places.
                best = sorted(scores, reverse=True)[:5]
                np.testing.assert_allclose([scores[document] for document in column[:5]], best, atol=2e-4)
                assert set(query["answers"]) & set(column)
    first = page.input_value("#query")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("/")
    page.keyboard.press("ArrowDown")
    assert page.input_value("#query") != first and "by this model" in page.inner_text("#verdict")
    assert re.search(r"This model\s+\d+ of \d+", page.inner_text("#tally"))
    page.click("#sets label:last-of-type")
    assert page.input_value("#query") == page.input_value("#texts") == page.inner_text("#columns") == ""
    hostile = "<img src=x onerror=alert(1)>"
    page.fill("#texts", f"the cat sat on the mat\n{hostile}\n\nder Hund schläft\nthe cat sat on the mat\n")
    page.wait_for_selector("#limit:text-is('3 documents.')")
    page.fill("#query", "der Hund schläft")
    assert [column[0] for column in shown(page)] == [2, 2, 2]
    assert hostile in page.inner_text("#columns") and page.query_selector("#columns img") is None
    page.fill("#query", "</script><script>document.title='run'</script>")
    assert page.title() == f"{model.name}: search by meaning" and complaints == []
    context.close()
