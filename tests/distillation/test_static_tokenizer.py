"""The static tokenizer segments as its teacher does behind a space, for every family of tokenizers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import qwen_like_tokenizer
from hypothesis import example, given, settings
from hypothesis import strategies as st
from model2vec import StaticModel
from sentence_transformers import SentenceTransformer
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)

from qwen25.distillation.custom_words import with_words
from qwen25.distillation.static_tokenizer import static_tokenizer
from qwen25.distillation.vocabulary import Vocabulary, static_vocabulary
from qwen25.store.quantisation import quantise
from qwen25.store.static_model import write_model

SAMPLES = [
    "the quick brown fox jumps over the lazy dog, and the dog sleeps on",
    "a word in the middle, a word at the end: the word. Kubernetes runs the kube",
    "für die Straße, le café, naïve words; 12 of 345 items (6.7 %)",
    "def word(the):\n    return the + 1\n\n\nif word:  pass",
    "слово и дело 数学 と 学习 the end",
] * 3
SPACE = "\u2581"


def trained(tokenizer: Tokenizer, kind: Any, size: int = 400, **how: Any) -> Tokenizer:
    tokenizer.train_from_iterator(SAMPLES, kind(vocab_size=size, show_progress=False, **how))
    return tokenizer


def byte_level(added: list[AddedToken] | None = None) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trained(tokenizer, trainers.BpeTrainer, 500, initial_alphabet=alphabet)
    tokenizer.add_special_tokens([AddedToken("<|end|>", special=True, normalized=False)])
    tokenizer.add_tokens(added or [])
    return tokenizer


def sentencepiece(normalizer: Any, pre_tokenizer: Any = None) -> Tokenizer:
    """Return a BPE over characters, with bytes to fall back on, as converted from SentencePiece."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))  # noqa: S106
    tokenizer.normalizer = normalizer
    if pre_tokenizer is not None:
        tokenizer.pre_tokenizer = pre_tokenizer
    special = ["<unk>", "<s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trained(tokenizer, trainers.BpeTrainer, 700, special_tokens=special)
    # The bytes are ordinary tokens; the trainer knows no other way to get them in.
    tokenizer = _with_special(tokenizer, ["<unk>", "<s>"])
    tokenizer.add_tokens([AddedToken("\n\n", normalized=False), AddedToken(SPACE * 2, normalized=False)])
    return tokenizer


def _with_special(tokenizer: Tokenizer, kept: list[str]) -> Tokenizer:
    spec = json.loads(tokenizer.to_str())
    spec["added_tokens"] = [token for token in spec["added_tokens"] if token["content"] in kept]
    return Tokenizer.from_str(json.dumps(spec))


def unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    words = ["<s>", "<unk>"]
    learnt = trained(tokenizer, trainers.UnigramTrainer, 300, special_tokens=words, unk_token="<unk>")  # noqa: S106
    # Scores that a file keeps to the last bit: segmentations of equal score would be told apart by what is lost.
    vocabulary = [(piece, round(score * 64) / 64) for piece, score in json.loads(learnt.to_str())["model"]["vocab"]]
    learnt.model = models.Unigram(vocabulary, unk_id=1)
    return learnt


def wordpiece(lowercase: bool) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))  # noqa: S106
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return trained(tokenizer, trainers.WordPieceTrainer, 300, special_tokens=["[PAD]", "[UNK]", "[CLS]"])


def with_added_words() -> Tokenizer:
    return byte_level([AddedToken("kube"), AddedToken("Kubernetes"), AddedToken("  "), AddedToken(" " * 4)])


REPLACE = normalizers.Replace(" ", SPACE)
FAMILIES: dict[str, Callable[[], Tokenizer]] = {
    "byte-level": byte_level,
    "byte-level, added words": with_added_words,
    "byte-level, Qwen": lambda: qwen_like_tokenizer(SAMPLES, 500),
    "SentencePiece, Replace": lambda: sentencepiece(REPLACE),
    "SentencePiece, Replace and Split": lambda: sentencepiece(
        REPLACE, pre_tokenizers.Split(" ", "merged_with_previous")
    ),
    "SentencePiece, Metaspace always": lambda: sentencepiece(
        normalizers.NFC(), pre_tokenizers.Metaspace(prepend_scheme="always")
    ),
    "SentencePiece, Metaspace first": lambda: sentencepiece(
        normalizers.NFC(), pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    ),
    "SentencePiece, Metaspace never": lambda: sentencepiece(
        normalizers.NFC(), pre_tokenizers.Metaspace(prepend_scheme="never")
    ),
    "SentencePiece, Metaspace first, runs of spaces as one": lambda: sentencepiece(
        normalizers.Replace(Regex(" {2,}"), " "), pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    ),
    "Unigram": unigram,
    "WordPiece, cased": lambda: wordpiece(False),
    "WordPiece, uncased": lambda: wordpiece(True),
}
PREPEND = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])

#: Pieces that are hard somewhere: words, spaces, line ends, accents apart from their letters, added and control tokens.
PIECES = st.sampled_from(
    [
        "the",
        "word",
        "Kubernetes",
        "kube",
        "café",
        "cafe\u0301",
        "数学",
        "слово",
        "<s>",
        "<|end|>",
        "🎬",
        "12",
        ".",
        "-",
        " ",
        "  ",
        "    ",
        "\n",
        "\n\n",
        "\t",
        "x",
        "E",
        "!",
        "\ufffd",
    ]
)
TEXTS = st.one_of(st.lists(PIECES, max_size=8).map("".join), st.text(max_size=30))
CONTROL = ("<|end|>", "<|endoftext|>", "<|im_start|>", "<|im_end|>")


@pytest.fixture(scope="module", params=list(FAMILIES))
def family(request: pytest.FixtureRequest) -> tuple[Tokenizer, Tokenizer]:
    """Return a teacher's tokenizer and the static model's."""
    teacher = FAMILIES[request.param]()
    whole = static_vocabulary(teacher)
    return teacher, with_words(whole, [], whole.added).tokenizer


def added_words(teacher: Tokenizer) -> set[str]:
    return {token.content for token in teacher.get_added_tokens_decoder().values()}


class TestFamilies:
    @given(text=TEXTS)
    @settings(max_examples=250, deadline=None)
    def test_a_text_is_segmented_as_behind_a_space(self, family: tuple[Tokenizer, Tokenizer], text: str) -> None:
        teacher, static = family
        # U+2581 in a text is a space to SentencePiece; a text that is one added word gets no space before it.
        alone = bool({text, text.lstrip(" ")} & added_words(teacher))
        if not text or SPACE in text or alone or any(token in text for token in CONTROL):
            return
        expected = teacher.encode(" " + text, add_special_tokens=False).tokens
        assert static.encode(text, add_special_tokens=False).tokens == expected

    def test_an_added_word_alone_is_that_word(self, family: tuple[Tokenizer, Tokenizer]) -> None:
        teacher, static = family
        for word in added_words(teacher) - set(CONTROL) - {SPACE * 2}:
            assert static.encode(word).tokens == [word]

    @pytest.mark.parametrize("text", ["brown fox", "the brown fox,", "the brown\n  fox is"])
    def test_a_phrase_of_the_users_is_found(self, family: tuple[Tokenizer, Tokenizer], text: str) -> None:
        _, static = family
        plain = Vocabulary(static, np.arange(static.get_vocab_size()))
        words = with_words(plain, ["brown fox"]).tokenizer
        assert words.encode(text).ids.count(len(plain)) == 1
        split = text.replace("fox", "foxes")
        assert words.encode(split).ids == static.encode(split).ids

    def test_reloads_as_it_was(self, family: tuple[Tokenizer, Tokenizer], tmp_path: Path) -> None:
        _, static = family
        static.save(str(tmp_path / "tokenizer.json"))
        again = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
        for text in (*SAMPLES, "Kubernetes", "kube kube-word", "<s>word", " word"):
            assert again.encode(text).ids == static.encode(text).ids


@pytest.fixture(scope="module")
def llama_2() -> tuple[Tokenizer, Tokenizer]:
    teacher = sentencepiece(PREPEND)
    return teacher, static_tokenizer(teacher).tokenizer


@given(text=TEXTS)
@settings(max_examples=150, deadline=None)
def test_a_tokenizer_that_puts_the_space_itself_stays_as_it_is(llama_2: tuple[Tokenizer, Tokenizer], text: str) -> None:
    """Llama 2's normaliser prepends a space to any text: a second one would be a token of its own."""
    teacher, static = llama_2
    assert static.encode(text).tokens == teacher.encode(text, add_special_tokens=False).tokens


def test_that_space_is_part_of_the_first_word(llama_2: tuple[Tokenizer, Tokenizer]) -> None:
    _, static = llama_2
    first = static.encode("word").tokens[0]
    assert first.startswith(SPACE) and first.strip(SPACE)


class TestAddedTokens:
    def test_an_ordinary_token_is_not_torn_out(self) -> None:
        """Some models use ! as the pad token, which merges lead from."""
        plain = byte_level()
        teacher = byte_level()
        teacher.add_special_tokens(["!", "the"])
        assert teacher.get_vocab_size() == plain.get_vocab_size()
        static = static_tokenizer(teacher)
        assert static.tokenizer.encode("the end!!").tokens == plain.encode(" the end!!").tokens
        assert len(static.teacher_ids) == len(static_tokenizer(plain).teacher_ids)

    def test_added_words_have_rows_of_their_own_states(self) -> None:
        teacher = with_added_words()
        whole = static_vocabulary(teacher)
        vocabulary = with_words(whole, ["brown fox"], whole.added)
        assert len(vocabulary) == vocabulary.tokenizer.get_vocab_size() == len(whole) + 4
        rows = vocabulary.tokenizer.encode("a Kubernetes  brown fox").ids
        sequences = list(vocabulary.sequences)
        assert sequences[vocabulary.tokenizer.token_to_id("Kubernetes")] == [teacher.token_to_id("Kubernetes")]
        assert vocabulary.tokenizer.token_to_id("Kubernetes") in rows
        assert sequences[-1] == teacher.encode(" brown fox").ids
        assert vocabulary.tokenizer.token_to_id("kube") < len(whole)  # merges lead to it, too: one row

    def test_markup_and_control_tokens_have_none(self) -> None:
        teacher = byte_level([AddedToken("<tool_call>"), AddedToken("[INST]"), AddedToken("C++20")])
        static = static_tokenizer(teacher)
        assert list(static.added) == ["C++20"]
        assert "".join(static.tokenizer.encode("<tool_call>").tokens) == "Ġ<tool_call>"


class TestUnknownTokens:
    @pytest.fixture(scope="class", params=["float32", "float16", "int8"])
    def models(
        self,
        family: tuple[Tokenizer, Tokenizer],
        tmp_path_factory: pytest.TempPathFactory,
        request: pytest.FixtureRequest,
    ) -> tuple[StaticModel, SentenceTransformer, float]:
        """Return one model of random vectors, loaded by both of its libraries, and what its number format may cost."""
        _, tokenizer = family
        folder = tmp_path_factory.mktemp("unknown")
        vectors = np.random.default_rng(0).standard_normal((tokenizer.get_vocab_size(), 16), dtype=np.float32)
        metadata = {
            "name": "tiny",
            "teacher": {"name": "tiny", "origin": "folder", "layers": 1},
            "dims": 16,
            "layers": [0],
            "recipe": {"name": "default", "sif": 1e-4, "whitening": 1.0},
            "vocabulary": {"tokens": len(vectors)},
        }
        write_model(folder, quantise(vectors, request.param), tokenizer, metadata)
        theirs = SentenceTransformer(str(folder), device="cpu").float()  # as the model's README says
        return StaticModel.from_pretrained(folder), theirs, 1e-5 if request.param == "float32" else 3e-3

    @given(text=TEXTS)
    @example(text="")
    @example(text="\U0001f3ac")
    @settings(max_examples=40, deadline=None)
    def test_both_loaders_agree_on_any_text(
        self, models: tuple[StaticModel, SentenceTransformer, float], text: str
    ) -> None:
        model, theirs, tolerance = models
        np.testing.assert_allclose(model.encode([text])[0], theirs.encode([text])[0], atol=tolerance)
