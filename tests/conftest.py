"""Small models made by the tests themselves: nothing is downloaded."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores: threads of one would wait for those of another
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

ROOT = Path(__file__).resolve().parent.parent
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# What messages advise depends on how they were called: as scripts, unless a test says otherwise.
os.environ.pop("QWEN25_COMMAND", None)

from qwen25.evaluation import statistics  # noqa: E402
from qwen25.evaluation.categories.all import WEIGHTS  # noqa: E402
from qwen25.runtime.log import logger  # noqa: E402
from qwen25.teacher.gguf_tokenizer import QWEN2_PATTERN  # noqa: E402

#: The bootstrap takes most of an evaluation's time, and few tests judge its intervals.
ALL_RESAMPLES, statistics.BOOTSTRAP_RESAMPLES = statistics.BOOTSTRAP_RESAMPLES, 50
EVAL_DATA = ROOT / "eval_data"
REAL_TOKENIZER = ROOT.parent / "shared" / "qwen25_tokenizer" / "tokenizer.json"
#: Late interaction is optional.
NEEDS_PYLATE = pytest.mark.skipif(find_spec("pylate") is None, reason="setup_qwen25.sh --with-extras installs pylate")
SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


@pytest.fixture(autouse=True)
def caplog_hears_us() -> None:
    """A command that an earlier test ran took the log for itself."""
    logger.propagate = True


def empty_before(monkeypatch: pytest.MonkeyPatch, module: ModuleType, step: str, file: Path) -> None:
    """Have somebody empty ``file`` just before a script takes a step."""
    take = getattr(module, step)

    def edited(*args: Any, **more: Any) -> Any:
        file.write_text("")
        return take(*args, **more)

    monkeypatch.setattr(module, step, edited)


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


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """English sentences and code to train a tokenizer on: the project's own items."""
    found = []
    for name, field in (
        ("topic_clustering", "text"),
        ("code_understanding", "code"),
        ("semantic_similarity", "anchor"),
    ):
        lines = (EVAL_DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        found += [json.loads(line)[field] for line in lines]
    return found


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
def small_items(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a few of the project's items of each category: enough to run, quick to score."""
    folder = tmp_path_factory.mktemp("items")
    for category in WEIGHTS:
        lines = (EVAL_DATA / f"{category}.jsonl").read_text(encoding="utf-8").splitlines()
        kept = lines[:18] if category == "instruction_awareness" else lines[:: max(1, len(lines) // 24)]
        (folder / f"{category}.jsonl").write_text("\n".join(kept) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def few_items(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the fewest items that every category accepts."""
    return write_few_items(tmp_path_factory.mktemp("few"))


def write_few_items(folder: Path) -> Path:
    """Write the fewest items that every category accepts into a folder, and return it."""
    for category in WEIGHTS:
        lines = (EVAL_DATA / f"{category}.jsonl").read_text(encoding="utf-8").splitlines()
        kept = {"instruction_awareness": lines[:12], "topic_clustering": [*lines[:2], *lines[-2:]]}
        (folder / f"{category}.jsonl").write_text("\n".join(kept.get(category, lines[:2])), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def all_resamples() -> Iterator[None]:
    """Bootstrap as much as the product does, for tests that judge an interval."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(statistics, "BOOTSTRAP_RESAMPLES", ALL_RESAMPLES)
        yield


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory, tiny_teacher: Path) -> Path:
    """What phase 1 makes of the tiny teacher."""
    from qwen25.commands import distill as distill_command

    folder = tmp_path_factory.mktemp("models") / "tiny"
    log = folder.with_suffix(".log")
    arguments = ["--teacher", str(tiny_teacher), "--output", str(folder), "--log-file", str(log), "--device", "cpu"]
    arguments += ["--texts", "64"]
    assert distill_command.main(arguments) == 0
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
