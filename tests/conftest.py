"""Small models made by the tests themselves: nothing is downloaded."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny products are quicker on one core, and workers share the cores
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# What messages advise depends on how they were called: as scripts, unless a test says otherwise.
os.environ.pop("QWEN25_COMMAND", None)

import numpy as np
import pytest
import torch
from fake_hub import FakeHub, use_hub
from model2vec import StaticModel
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

import compare_qwen25_vs_all
import quick_eval_qwen25_1024d
from qwen25.commands import publish
from qwen25.evaluation import category as scoring
from qwen25.runtime.errors import logger
from qwen25.runtime.files import read_json, resource
from qwen25.teacher.gguf import QWEN2_PATTERN

ROOT = Path(__file__).resolve().parent.parent
EVAL_DATA = resource("data/evaluation")
REAL_TOKENIZER = ROOT.parent / "shared" / "qwen25_tokenizer" / "tokenizer.json"
#: The bootstrap takes most of an evaluation's time, and few tests judge its intervals.
ALL_RESAMPLES, scoring.BOOTSTRAP_RESAMPLES = scoring.BOOTSTRAP_RESAMPLES, 50
#: Late interaction is optional.
NEEDS_PYLATE = pytest.mark.skipif(find_spec("pylate") is None, reason="setup_qwen25.sh --with-extras installs pylate")
SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def caplog_hears_us() -> None:
    """A command that an earlier test ran took the log for itself."""
    logger.propagate = True


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub without repositories, which its client asks; the caches are empty."""
    monkeypatch.setenv("QWEN25_CACHE", str(tmp_path / "cache"))
    with FakeHub() as hub:
        use_hub(monkeypatch, hub.url, tmp_path / "home")
        yield hub


def jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    """Write rows as JSON Lines, and return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def qwen_like_tokenizer(texts: list[str], size: int = 2000) -> Tokenizer:
    """Train a byte-level BPE with Qwen2.5's normaliser, pre-tokenizer and special tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL_TOKENS])
    return tokenizer


@pytest.fixture
def evaluation() -> dict[str, Any]:
    """The demo's evaluation."""
    return read_json(ROOT / "docs" / "results" / "demo" / "eval_results.json")


@pytest.fixture
def comparison() -> dict[str, Any]:
    """The demo's comparison."""
    return read_json(ROOT / "docs" / "results" / "demo" / "comparison_results.json")


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """English sentences and code to train a tokenizer on: the project's own items."""
    fields = {"topic_clustering": "text", "code_understanding": "code", "semantic_similarity": "anchor"}
    return [json.loads(line)[field] for category, field in fields.items() for line in item_lines(category)]


def item_lines(category: str) -> list[str]:
    """Return the lines of one of the project's own files of items."""
    return (EVAL_DATA / f"{category}.jsonl").read_text(encoding="utf-8").splitlines()


def content_words(text: str) -> set[str]:
    """Return a text's words of three letters and more but stop words; they are the same if their first five are."""
    stop_words = set((EVAL_DATA / "stop_words.txt").read_text(encoding="utf-8").split())
    found = (word.strip("'") for word in re.findall(r"[a-z']+", text.lower()))
    return {word[:5] for word in found if len(word) >= 3 and word not in stop_words}


@pytest.fixture(scope="session")
def tiny_tokenizer(texts: list[str]) -> Tokenizer:
    return qwen_like_tokenizer(texts)


@pytest.fixture(scope="session")
def tiny_teacher(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: Tokenizer) -> Path:
    """A Qwen2-architecture teacher with random weights: hidden 64, 2 layers, about 2,000 tokens."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    folder = tmp_path_factory.mktemp("teachers") / "tiny-qwen2"
    torch.manual_seed(0)
    config = Qwen2Config(
        # Like Qwen2.5: more embedding rows than tokens.
        vocab_size=tiny_tokenizer.get_vocab_size() + 32,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        tie_word_embeddings=True,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tiny_tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="session")
def few_items(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the fewest items that every category accepts."""
    folder = tmp_path_factory.mktemp("few")
    for path in EVAL_DATA.glob("*.jsonl"):
        lines = item_lines(path.stem)
        kept = {"instruction_awareness": lines[:12], "topic_clustering": [*lines[:2], *lines[-2:]]}
        (folder / path.name).write_text("\n".join(kept.get(path.stem, lines[:2])) + "\n", encoding="utf-8")
    return folder


def use_items(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Have the phases take the items of evaluation and calibration from a folder."""
    found = dict.fromkeys(("data/evaluation", "data/calibration"), folder)
    monkeypatch.setattr("qwen25.evaluation.categories.resource", lambda name: found.get(name) or resource(name))


@pytest.fixture
def on_few_items(monkeypatch: pytest.MonkeyPatch, few_items: Path) -> Path:
    """Have the phases score the fewest items; returns their folder."""
    use_items(monkeypatch, few_items)
    return few_items


class Phases:
    """Runs the phases in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.model, self.publication = folder, folder / "model", folder / "publication"
        self.evaluation, self.comparison = folder / "evaluation.json", folder / "comparison.json"

    def run(self, script: Any, *flags: object, output: Path) -> int:
        return int(script.main([*map(str, flags), "--output", str(output)]))

    def evaluate(self) -> int:
        return self.run(quick_eval_qwen25_1024d, "--model", self.model, output=self.evaluation)

    def compare(self, name: str, *flags: str) -> int:
        models = ["--model", f"{name}={self.model}", "--no-peers", *flags]
        return self.run(compare_qwen25_vs_all, *models, output=self.comparison)

    def publish(self) -> int:
        files = ["--model", self.model, "--evaluation", self.evaluation, "--comparison", self.comparison]
        return self.run(publish, *files, output=self.publication)


@pytest.fixture(scope="module")
def all_resamples() -> Iterator[None]:
    """Bootstrap as much as the product does, for tests that judge an interval."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(scoring, "BOOTSTRAP_RESAMPLES", ALL_RESAMPLES)
        yield


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory, tiny_teacher: Path) -> Path:
    """What phase 1 makes of the tiny teacher."""
    import distill_qwen25_1024d

    folder = tmp_path_factory.mktemp("models") / "tiny"
    arguments = ["--teacher", str(tiny_teacher), "--output", str(folder), "--device", "cpu"]
    assert distill_qwen25_1024d.main([*arguments, "--log-file", str(folder.with_suffix(".log"))]) == 0
    return folder


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: Tokenizer) -> Path:
    """A static model that no teacher was needed for: its tokens have random directions of their own."""
    folder = tmp_path_factory.mktemp("static") / "mine"
    table = np.random.default_rng(0).standard_normal((tiny_tokenizer.get_vocab_size(), 48), dtype=np.float32)
    StaticModel(table, tiny_tokenizer, config={"normalize": True}, normalize=True).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> Path:
    """A BERT with random weights and a WordPiece tokenizer: hidden 32, 1 layer."""
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("encoders") / "tiny-bert"
    tokenizer = BertWordPieceTokenizer()
    tokenizer.train_from_iterator(texts, vocab_size=800, show_progress=False)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
    )
    BertModel(config).save_pretrained(folder)
    BertTokenizerFast(tokenizer_object=tokenizer._tokenizer).save_pretrained(folder)
    return folder
