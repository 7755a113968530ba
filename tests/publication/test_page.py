"""The page: its program gives what Python gives, its texts stay texts, and a person can use it."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
import shutil
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import REAL_TOKENIZER, ROOT
from model2vec import StaticModel
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from qwen25.distillation.custom_words import with_words
from qwen25.distillation.vocabulary import static_vocabulary
from qwen25.evaluation.matching import Bm25, Cosine
from qwen25.publication import page as page_module
from qwen25.publication.page import SEED, main, page_model, write_page
from qwen25.publication.page_examples import page_examples
from qwen25.publication.page_tokenizer import javascript_pattern, page_tokenizer
from qwen25.runtime.errors import InputError
from qwen25.store.static_model import static_encode
from qwen25.teacher.gguf_tokenizer import GGUF_PRE_TOKENIZERS

NEEDS_NODE = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NO_NETWORK = ("quic", "no-first-run", "background-networking", "component-update", "sync")


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
    return save(tmp_path_factory.mktemp("page") / "small", static_vocabulary(tiny_tokenizer).tokenizer)


@pytest.fixture(scope="module")
def file(model: Path) -> Path:
    output = model.parent / "page.html"
    write_page(model, output)
    return output


def by_node(file: Path, texts: list[str]) -> dict[str, Any]:
    command = ["node", str(ROOT / "tests" / "publication" / "page_engine.mjs"), str(file)]
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
        for e in page_examples()
    ]


def texts_of_all_kinds(count: int) -> list[str]:
    """Random texts of assigned characters: letters of many scripts, marks, digits, spaces, symbols, contractions."""
    generator = random.Random(0)  # noqa: S311
    assigned = [chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co")]
    parts = [
        "'s",
        "'RE",
        "'\u017f",
        "I'll",
        "  ",
        "\n\n",
        "\r\n",
        "\t",
        " x",
        "\u0301",
        "\u0308",
        "e\u0301",
        "12",
        "\u0660",
    ]
    parts += ["\u00bd", "\u2167", "\u200d", "\ufeff", "\u0085", "\u00a0", "\u180e", "\u3000", "\uac00", "\u1112\u1161"]
    words = ["hello", "world", "def", "return", "Straße", "naïve", "мир", "你好", "مرحبا", "नमस्ते", "ไทย", "한국어"]
    kinds = [assigned, parts, words, [" "], list("abcXYZ019_.,;!?()[]{}<>/\\'\"")]
    return ["", " ", *("".join(generator.choice(generator.choice(kinds)) for _ in range(12)) for _ in range(count))]


@NEEDS_NODE
class TestProgram:
    def test_rankings_are_pythons(self, model: Path, file: Path) -> None:
        found, expected = by_node(file, [])["rankings"], expected_rankings(page_model(model))
        assert sum(len(queries) for queries in found) > 40
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=2e-5)

    @pytest.mark.parametrize("kind", [np.int8, np.float32])
    def test_rows_that_tokens_share_stay_shared(
        self, tiny_tokenizer: Tokenizer, tmp_path: Path, kind: Any, texts: list[str]
    ) -> None:
        tokenizer = static_vocabulary(tiny_tokenizer).tokenizer
        folder = save(tmp_path / "model", tokenizer, kind, rows=50)
        write_page(folder, tmp_path / "page.html")
        kept = page_model(folder)
        assert kept.embedding.shape == (50, 40)
        found, expected = by_node(tmp_path / "page.html", texts[::20]), expected_rankings(kept)
        np.testing.assert_allclose(found["vectors"], kept.encode(texts[::20]), atol=1e-5)
        np.testing.assert_allclose(
            kept.encode(texts[::20]), StaticModel.from_pretrained(folder).encode(texts[::20]), atol=0.02
        )
        for ours, theirs in zip(found["rankings"], expected, strict=True):
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
        tokenizer = static_vocabulary(Tokenizer.from_str(json.dumps(spec))).tokenizer
        write_page(save(tmp_path / "model", tokenizer, np.int8), tmp_path / "page.html")
        letters = random.Random(1).choices("etaoinshrdlucmfwypvbgkjqxz", k=20_000)  # noqa: S311
        asked = [*texts_of_all_kinds(1500), *texts[::20], "x" * 3000, "".join(letters)]
        found, loaded = by_node(tmp_path / "page.html", asked), StaticModel.from_pretrained(tmp_path / "model")
        differing = [t for t, a, b in zip(asked, found["tokens"], loaded.tokenize(asked), strict=True) if a != b]
        assert differing == []
        np.testing.assert_allclose(found["vectors"], loaded.encode(asked), atol=1e-5)

    @pytest.mark.skipif(not REAL_TOKENIZER.exists(), reason="the real Qwen2.5 tokenizer is not beside the checkout")
    def test_the_real_tokenizer(self, tmp_path: Path) -> None:
        tokenizer = static_vocabulary(Tokenizer.from_file(str(REAL_TOKENIZER))).tokenizer
        write_page(save(tmp_path / "model", tokenizer, np.int8, 2), tmp_path / "page.html")
        asked = [*texts_of_all_kinds(4000), *(text for e in page_examples() for text in e["documents"])]
        assert by_node(tmp_path / "page.html", asked)["tokens"] == [tokenizer.encode(text).ids for text in asked]

    def test_places_with_ties(self, file: Path) -> None:
        assert by_node(file, [])["places"] == [
            {"first": 1, "last": 1, "credit": 1},
            {"first": 2, "last": 3, "credit": 0},
            {"first": 1, "last": 4, "credit": 0.5},
            {"first": 2, "last": 2, "credit": 0},
        ]


class Page(HTMLParser):
    """Collects a page's elements and what stands in its scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.raw: list[tuple[str, str | None, str]] = []  # tag, type and content
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.lasttag in ("script", "style") and data.strip():
            self.raw.append((self.lasttag, self.elements[-1][1].get("type"), data))


class TestFile:
    def test_nothing_is_loaded_and_only_what_was_written_may_run(self, file: Path) -> None:
        page = Page(file.read_text(encoding="utf-8"))
        links = [v for _, a in page.elements for n, v in a.items() if n in ("src", "href", "action", "srcset")]
        assert links == ["#query"]
        assert not [n for _, attributes in page.elements for n in attributes if n.startswith("on") or n == "style"]
        policy = next(a["content"] for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
        assert policy.startswith("default-src 'none';") and "unsafe" not in policy
        run = [text for _, kind, text in page.raw if kind is None]
        assert len(run) == 3
        for text in run:
            assert base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() in policy

    def test_a_name_cannot_become_markup(self, model: Path, tmp_path: Path) -> None:
        folder = shutil.copytree(model, tmp_path / "model")
        name = "</script><script>alert(1)</script><!--"
        (folder / "metadata.json").write_text(json.dumps({"name": name, "teacher": {"name": "<img src=x>"}}))
        write_page(folder, tmp_path / "page.html")
        text = (tmp_path / "page.html").read_text(encoding="utf-8")
        page = Page(text)
        assert [tag for tag, _ in page.elements].count("script") == 7 and "<!--" not in text and "<img" not in text
        assert json.loads(next(raw for tag, _, raw in page.raw if tag == "script"))["name"] == name

    def test_what_the_metadata_says_of_the_teacher_is_a_name_or_nothing(self, model: Path, tmp_path: Path) -> None:
        """Characters that turn the line around are none of a name."""
        folder = shutil.copytree(model, tmp_path / "model")
        for teacher, shown in (("Owner/Name", "Owner/Name"), ("\u202egnp.exe", None), ("\ud800", None), (["x"], None)):
            (folder / "metadata.json").write_text(json.dumps({"teacher": {"name": teacher}}))
            write_page(folder, tmp_path / "page.html")
            page = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
            assert json.loads(next(raw for tag, _, raw in page.raw if tag == "script"))["teacher"] == shown

    def test_the_same_model_gives_the_same_bytes(self, model: Path, file: Path, tmp_path: Path) -> None:
        write_page(model, tmp_path / "again.html")
        assert (tmp_path / "again.html").read_bytes() == file.read_bytes()

    def test_no_score_is_typed_into_the_page(self) -> None:
        text = (ROOT / "qwen25" / "templates" / "page" / "page.html").read_text(encoding="utf-8")
        assert not re.findall(r"\d\.\d|\d+ %", text)

    def test_the_examples_are_there_in_all_six_categories(self) -> None:
        for example in page_examples():
            assert len(example["documents"]) >= 15 and len(example["queries"]) >= 8, example["category"]
            assert len(example["labels"]) == len(example["documents"])
            for query in example["queries"]:
                assert query["text"] not in example["documents"]
                assert query["answers"] and max(query["answers"]) < len(example["documents"])


class TestModels:
    @pytest.mark.parametrize("kind", [np.float32, np.float16])
    def test_int8_rows_have_a_scale_of_their_own(self, tiny_tokenizer: Tokenizer, tmp_path: Path, kind: Any) -> None:
        whole = StaticModel.from_pretrained(save(tmp_path / "model", tiny_tokenizer, kind))
        kept = page_model(tmp_path / "model")
        assert kept.embedding.dtype == np.int8
        one, other = whole.encode(["How do I knit?"])[0].astype(np.float32), kept.encode(["How do I knit?"])[0]
        assert float(one @ other) > 0.9995

    def test_int8_is_kept_as_it_is(self, tiny_tokenizer: Tokenizer, tmp_path: Path) -> None:
        weights = np.linspace(0.1, 2, tiny_tokenizer.get_vocab_size()).astype(np.float32)
        whole = StaticModel.from_pretrained(save(tmp_path / "model", tiny_tokenizer, np.int8, weights=weights))
        np.testing.assert_array_equal(page_model(tmp_path / "model").embedding, whole.embedding)
        np.testing.assert_array_equal(page_model(tmp_path / "model", 8).embedding, whole.embedding[:, :8])

    def test_what_is_too_large_is_told_how_to_fit(self, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(page_module, "MAX_MB", 0.05)
        with pytest.raises(InputError, match=r"too large for a page.*--dims (\d+) or less") as raised:
            page_model(model)
        assert page_model(model, int(re.findall(r"--dims (\d+)", str(raised.value))[0])).dim < 40

    def test_tokenizers_of_another_kind_are_refused(self, tiny_tokenizer: Tokenizer) -> None:
        with pytest.raises(InputError, match="not byte-level"):
            page_tokenizer(Tokenizer(models.WordLevel({"a": 0}, unk_token="a")))  # noqa: S106
        with pytest.raises(InputError, match="--vocabulary"):
            page_tokenizer(with_words(static_vocabulary(tiny_tokenizer), ["knitting pattern"]).tokenizer)
        for option, value in (("dropout", 0.5), ("unk_token", "a"), ("end_of_word_suffix", "</w>")):
            spec = json.loads(tiny_tokenizer.to_str())
            spec["added_tokens"], spec["model"][option] = [], value
            with pytest.raises(InputError, match="at random" if option == "dropout" else "an unknown token, or"):
                page_tokenizer(Tokenizer.from_str(json.dumps(spec)))
        for odd in (r"\w+", r"(?<=a)b", "a++", r"\p{N}{1,3}+"):
            spec = json.loads(tiny_tokenizer.to_str())
            spec["added_tokens"] = []
            tokenizer = Tokenizer.from_str(json.dumps(spec))
            tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
                [pre_tokenizers.Split(Regex(odd), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
            )
            with pytest.raises(InputError, match="the pattern"):
                page_tokenizer(tokenizer)

    def test_patterns(self) -> None:
        assert javascript_pattern(r"(?i:'s|'ll)|\s+(?!\S)|[^\s\p{L}]+") == (
            r"(?:'[sS" + "\u017f" + r"]|'[lL][lL])|\p{White_Space}+(?!\P{White_Space})|[^\p{White_Space}\p{L}]+"
        )

    def test_command(self, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main([str(model), "--output", str(tmp_path / "p.html"), "--dims", "41"]) == 2
        assert "from 1 to the model's 40" in capsys.readouterr().err
        for name in ("", "two\nlines", "\u202eturned"):
            assert main([str(model), "--output", str(tmp_path / "p.html"), "--name", name]) == 2
            assert "all of them printable" in capsys.readouterr().err
        assert main([str(model), "--output", str(tmp_path / "p.html"), "--dims", "8"]) == 0
        assert str(tmp_path / "p.html") in capsys.readouterr().out

    @pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "metadata.json", "link.html", "-"])
    def test_no_page_takes_the_place_of_what_it_is_made_of(
        self, name: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
    ) -> None:
        folder = shutil.copytree(model, tmp_path / "st:model")  # a name that could be taken for a kind of model
        (folder / "metadata.json").write_text("{}")
        (folder / "link.html").symlink_to(folder / "config.json")
        before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        monkeypatch.chdir(folder)
        assert main([str(folder), "--output", name]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")
        assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    sync_api = pytest.importorskip("playwright.sync_api", reason="setup_qwen25.sh --with-tests installs playwright")
    flags = ["--no-sandbox", "--disable-gpu", *(f"--disable-{name}" for name in NO_NETWORK if name != "no-first-run")]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*flags, "--no-first-run"])
        yield browser
        browser.close()


class TestBrowser:
    @pytest.fixture
    def opened(self, browser: Any, file: Path) -> Iterator[Any]:
        """The page, opened; whatever it asks for or complains of fails the test."""
        context = browser.new_context(viewport={"width": 1200, "height": 900})
        page, complaints = context.new_page(), []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: complaints.append(request.url) if request.url != file.as_uri() else None)
        page.goto(file.as_uri())
        page.wait_for_selector("html[data-ready]")
        yield page
        context.close()
        assert complaints == []

    @staticmethod
    def shown(page: Any) -> list[list[int]]:
        """Return the numbers of the documents in each column, in order."""
        return page.evaluate(
            """() => Array.from(document.querySelectorAll(".column"), (column) =>
            Array.from(column.querySelectorAll("li[data-document]"), (item) => Number(item.dataset.document)))"""
        )

    def test_what_is_shown_is_pythons_ranking(self, opened: Any, model: Path) -> None:
        expected = expected_rankings(page_model(model))
        compared = 0
        for number, example in enumerate(page_examples()):
            opened.click(f"#sets label:nth-of-type({number + 1})")
            for k, query in enumerate(example["queries"]):
                opened.fill("#query", query["text"])
                for column, scores in zip(self.shown(opened), expected[number][k], strict=True):
                    order = [round(scores[document], 4) for document in column]
                    best = sorted((round(score, 4) for score in scores), reverse=True)
                    # Documents nearer to each other than the arithmetic is exact may change places.
                    np.testing.assert_allclose(order[:5], best[:5], atol=2e-4)
                    assert set(query["answers"]) & set(column)
                    compared += 1
        assert compared > 120

    def test_with_the_keyboard_alone(self, opened: Any) -> None:
        opened.keyboard.press("/")
        assert opened.evaluate("document.activeElement.id") == "query"
        first = opened.input_value("#query")
        opened.keyboard.press("ArrowDown")
        assert opened.input_value("#query") != first and "by this model" in opened.inner_text("#verdict")
        opened.keyboard.press("ArrowUp")
        assert opened.input_value("#query") == first
        opened.keyboard.press("Control+a")
        opened.keyboard.type("a query of one's own / with a slash")
        assert opened.input_value("#query").endswith("with a slash")
        assert opened.inner_text("#verdict") == "" and len(self.shown(opened)[0]) == 5
        for _ in range(12):  # back to the sets, which the arrows choose among
            opened.keyboard.press("Shift+Tab")
            if opened.evaluate("document.activeElement.name") == "set":
                break
        opened.keyboard.press("ArrowRight")
        assert opened.inner_text("#question") == page_examples()[1]["question"]
        opened.keyboard.press("Tab")
        opened.keyboard.press("Tab")
        opened.keyboard.press("Enter")
        assert opened.inner_text("#verdict")

    def test_documents_of_ones_own(self, opened: Any) -> None:
        opened.click("#sets label:last-of-type")
        hostile = "<img src=x onerror=alert(1)>"
        opened.fill("#texts", f"the cat sat on the mat\n{hostile}\n\nder Hund schläft\nthe cat sat on the mat\n")
        opened.wait_for_selector("#limit:text-is('3 documents.')")
        opened.fill("#query", "der Hund schläft")
        assert [column[0] for column in self.shown(opened)] == [2, 2, 2]
        assert hostile in opened.inner_text("#columns") and opened.query_selector("#columns img") is None
        assert opened.inner_text("#verdict") == ""

    HOSTILE = ("</script><script>document.title='run'</script>", "<img src=x onerror=\"document.title='run'\">")
    #: As JavaScript writes them: half a character cannot be sent to a browser.
    ODD = (
        r"\ud800 \udc00",
        r"a\0b",
        r"\ufeff",
        r"\u202eabc",
        r"\u200b",
        r"e\u0301",
        "__proto__",
        "constructor",
        "$&${1}",
    )

    def test_whatever_is_typed_is_text_and_ranks(self, opened: Any, model: Path) -> None:
        texts = [json.dumps(text) for text in self.HOSTILE] + [f'"{text}"' for text in self.ODD]
        put = "(id, text) => { const e = element(id); e.value = text; e.dispatchEvent(new Event('input')); }"
        opened.click("#sets label:last-of-type")
        assert self.shown(opened) == [] and opened.inner_text("#limit") == ""
        opened.fill("#query", "one")
        assert self.shown(opened) == []
        opened.fill("#texts", "only one")
        opened.wait_for_selector("#limit:text-is('1 document.')")
        assert self.shown(opened) == [[0], [0], [0]]
        opened.evaluate(f"({put})('texts', [{', '.join(texts)}].join('\\n'))")
        opened.wait_for_selector(f"#limit:text-is('{len(texts) - 1} documents.')")  # a byte order mark alone is none
        for text in texts:
            opened.evaluate(f"({put})('query', {text})")
            assert "NaN" not in opened.inner_text("#columns")
            assert [len(column) for column in self.shown(opened)] == ([] if "feff" in text else [5, 5, 5])
        assert opened.evaluate("[document.scripts.length, document.images.length]") == [7, 0]
        assert opened.title() == f"{model.name}: search by meaning"

    def test_what_is_too_long_is_cut_and_that_is_said(self, opened: Any) -> None:
        """A single long word, which is as slow as texts can be."""
        opened.click("#sets label:last-of-type")
        assert opened.evaluate("[element('texts').maxLength, element('query').maxLength]") == [1_000_000, 10_000]
        opened.evaluate("element('texts').maxLength = 50_000")
        word = "".join(random.Random(0).choices("abcdefghijklmnopqrstuvwxyz", k=60_000))  # noqa: S311
        opened.focus("#texts")
        opened.keyboard.insert_text(word)
        opened.wait_for_selector("#limit:text-is('1 document. The field is full: what was beyond it is left out.')")
        opened.focus("#query")
        opened.keyboard.insert_text(word)
        assert len(opened.input_value("#query")) == 10_000
        assert self.shown(opened) == [[0], [0], [0]]

    def test_nothing_overflows_a_phone(self, browser: Any, file: Path) -> None:
        context = browser.new_context(viewport={"width": 360, "height": 740}, color_scheme="dark")
        page = context.new_page()
        page.goto(file.as_uri())
        page.wait_for_selector("html[data-ready]")
        for number in range(1, 8):
            page.click(f"#sets label:nth-of-type({number})")
            assert page.evaluate("document.documentElement.scrollWidth") <= 360
        context.close()


def test_the_page_needs_no_teacher() -> None:
    """It is made where the model is: without torch and transformers."""
    code = "import sys, qwen25.publication.page; sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
