"""A static model segments text as its teacher does behind a space, for every family of tokenizers; and custom words."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import REAL_TOKENIZER, SPECIAL_TOKENS, qwen_like_tokenizer
from hypothesis import example, given, settings
from hypothesis import strategies as st
from model2vec import StaticModel
from sentence_transformers import SentenceTransformer
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from qwen25.distillation.vocabulary import (
    PRESETS,
    Vocabulary,
    read_words,
    static_vocabulary,
    vocabulary_files,
    with_added,
    with_words,
)
from qwen25.runtime.errors import InputError
from qwen25.runtime.files import resource
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


def metaspace(normalizer: Any, scheme: str, split: bool = True) -> Tokenizer:
    return sentencepiece(normalizer, pre_tokenizers.Metaspace(prepend_scheme=scheme, split=split))


REPLACE, ONE_SPACE = normalizers.Replace(" ", SPACE), normalizers.Replace(Regex(" {2,}"), " ")
FAMILIES: dict[str, Callable[[], Tokenizer]] = {
    "byte-level": byte_level,
    "byte-level, added words": with_added_words,
    "byte-level, Qwen": lambda: qwen_like_tokenizer(SAMPLES, 500),
    "SentencePiece, Replace": lambda: sentencepiece(REPLACE),
    "SentencePiece, Replace and Split": lambda: sentencepiece(
        REPLACE, pre_tokenizers.Split(" ", "merged_with_previous")
    ),
    "SentencePiece, Metaspace always": lambda: metaspace(normalizers.NFC(), "always"),
    "SentencePiece, Metaspace first": lambda: metaspace(normalizers.NFC(), "first", split=False),
    "SentencePiece, Metaspace never": lambda: metaspace(normalizers.NFC(), "never"),
    "SentencePiece, Metaspace first, runs of spaces as one": lambda: metaspace(ONE_SPACE, "first", split=False),
    "SentencePiece, Llama 2": lambda: sentencepiece(normalizers.Sequence([normalizers.Prepend(SPACE), REPLACE])),
    "Unigram": unigram,
    "WordPiece, cased": lambda: wordpiece(False),
    "WordPiece, uncased": lambda: wordpiece(True),
}


#: Pieces that are hard somewhere: words, spaces, line ends, accents apart from their letters, added and control tokens.
_SPACES = (" ", "  ", "    ", "\n", "\n\n", "\t")
_WORDS = ("the", "word", "Kubernetes", "kube", "café", "cafe\u0301", "数学", "слово", "12", "x", "E", "\ufffd", "🎬")
PIECES = st.sampled_from([*_WORDS, *_SPACES, "<s>", "<|end|>", ".", "-", "!"])
TEXTS = st.one_of(st.lists(PIECES, max_size=8).map("".join), st.text(max_size=30))
CONTROL = ("<|end|>", "<|endoftext|>", "<|im_start|>", "<|im_end|>")


@pytest.fixture(scope="module", params=list(FAMILIES))
def family(request: pytest.FixtureRequest) -> tuple[Tokenizer, Tokenizer]:
    """Return a teacher's tokenizer and the static model's."""
    teacher = FAMILIES[request.param]()
    return teacher, with_words(static_vocabulary(teacher), [], {}).tokenizer


def added_words(teacher: Tokenizer) -> set[str]:
    return {token.content for token in teacher.get_added_tokens_decoder().values()}


class TestFamilies:
    @given(text=TEXTS)
    @settings(max_examples=100, deadline=None)
    def test_a_text_is_segmented_as_behind_a_space(self, family: tuple[Tokenizer, Tokenizer], text: str) -> None:
        teacher, static = family
        # U+2581 in a text is a space to SentencePiece; a text that is one added word gets no space before it.
        alone = bool({text, text.lstrip(" ")} & added_words(teacher))
        if not text or SPACE in text or alone or any(token in text for token in CONTROL):
            return
        # A second space would be a token of its own where the teacher's normaliser puts one, as Llama 2's does.
        space = "" if '"Prepend"' in teacher.to_str() else " "
        expected = teacher.encode(space + text, add_special_tokens=False).tokens
        assert static.encode(text, add_special_tokens=False).tokens == expected

    def test_an_added_word_alone_is_that_word(self, family: tuple[Tokenizer, Tokenizer]) -> None:
        teacher, static = family
        for word in added_words(teacher) - set(CONTROL) - {SPACE * 2}:
            assert static.encode(word).tokens == [word]

    @pytest.mark.parametrize("text", ["brown fox", "the brown fox,", "the brown\nbrown fox is"])
    def test_a_phrase_of_the_users_is_found(self, family: tuple[Tokenizer, Tokenizer], text: str) -> None:
        _, static = family
        plain = Vocabulary(static, np.arange(static.get_vocab_size()))
        words = with_words(plain, ["brown fox"], {}).tokenizer
        assert words.encode(text).ids.count(len(plain)) == 1
        split = text.replace("fox", "foxes")
        assert words.encode(split).ids == static.encode(split).ids


class TestAddedTokens:
    def test_an_ordinary_token_is_not_torn_out(self) -> None:
        """Some models use ! as the pad token, which merges lead from."""
        plain = byte_level()
        teacher = byte_level()
        teacher.add_special_tokens(["!", "the"])
        assert teacher.get_vocab_size() == plain.get_vocab_size()
        static = static_vocabulary(teacher)
        assert static.tokenizer.encode("the end!!").tokens == plain.encode(" the end!!").tokens
        assert len(static) == len(static_vocabulary(plain))

    def test_added_words_have_rows_of_their_own_states(self) -> None:
        teacher = with_added_words()
        whole = static_vocabulary(teacher)
        vocabulary = with_words(whole, ["brown fox"], {})
        assert len(vocabulary) == vocabulary.tokenizer.get_vocab_size() == len(whole) + 4
        rows = vocabulary.tokenizer.encode("a Kubernetes  brown fox").ids
        sequences = list(vocabulary.sequences)
        assert sequences[vocabulary.tokenizer.token_to_id("Kubernetes")] == [teacher.token_to_id("Kubernetes")]
        assert vocabulary.tokenizer.token_to_id("Kubernetes") in rows
        assert sequences[-1] == teacher.encode(" brown fox").ids
        assert vocabulary.tokenizer.token_to_id("kube") < len(whole)  # merges lead to it, too: one row

    def test_markup_and_control_tokens_have_none(self) -> None:
        teacher = byte_level([AddedToken("<tool_call>"), AddedToken("[INST]"), AddedToken("C++20")])
        static = static_vocabulary(teacher)
        assert list(static.added) == ["C++20"]
        assert "".join(static.tokenizer.encode("<tool_call>").tokens) == "Ġ<tool_call>"


@pytest.fixture(scope="module", params=["byte-level", "SentencePiece, Replace", "Unigram", "WordPiece, cased"])
def loaded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[StaticModel, SentenceTransformer]:
    """Return one model of random vectors, with words of its own, loaded by both of its libraries."""
    tokenizer = with_words(static_vocabulary(FAMILIES[request.param]()), ["the word", "kube"], {}).tokenizer
    folder = tmp_path_factory.mktemp("unknown")
    vectors = np.random.default_rng(0).standard_normal((tokenizer.get_vocab_size(), 16), dtype=np.float32)
    metadata = {"name": "tiny", "teacher": {"name": "tiny"}, "layers": [0], "recipe": {"sif": 1e-4}}
    write_model(folder, quantise(vectors, "int8"), tokenizer, metadata)
    theirs = SentenceTransformer(str(folder), device="cpu")
    return StaticModel.from_pretrained(folder), theirs


@given(text=TEXTS)
@example(text="")
@example(text="\U0001f3ac")
@example(text="the word, kube")
@settings(max_examples=40, deadline=None)
def test_both_loaders_agree_on_any_text(loaded: tuple[StaticModel, SentenceTransformer], text: str) -> None:
    model, theirs = loaded
    np.testing.assert_allclose(model.encode([text])[0], theirs.encode([text])[0], atol=1e-5)


SENTENCE = "It's 2024, hello world (yes)"


@pytest.fixture(scope="module")
def real() -> Tokenizer:
    if not REAL_TOKENIZER.exists():
        pytest.skip("the real Qwen2.5 tokenizer is not beside this checkout")
    return Tokenizer.from_file(str(REAL_TOKENIZER))


@pytest.fixture(scope="module")
def real_static(real: Tokenizer) -> Vocabulary:
    return static_vocabulary(real)


def test_control_tokens_are_text_to_a_static_model(tiny_tokenizer: Tokenizer) -> None:
    static = static_vocabulary(tiny_tokenizer)
    assert len(static) == tiny_tokenizer.get_vocab_size() - len(SPECIAL_TOKENS)
    assert not set(static.tokenizer.encode("a <|im_start|> b").tokens) & set(SPECIAL_TOKENS)


@given(text=st.text(max_size=60).filter(lambda t: t and not any(s in t for s in SPECIAL_TOKENS)))
@settings(max_examples=300, deadline=None)
def test_real_qwen_any_text(real: Tokenizer, real_static: Vocabulary, text: str) -> None:
    assert real_static.tokenizer.encode(text).tokens == real.encode(" " + text).tokens


@pytest.fixture(scope="module")
def plain(tiny_tokenizer: Tokenizer) -> Vocabulary:
    return static_vocabulary(tiny_tokenizer)


def rows_of(vocabulary: Vocabulary, text: str, plain: Vocabulary) -> list[int]:
    """Return which of the words, by their numbers, a text holds."""
    return [row - len(plain) for row in vocabulary.tokenizer.encode(text).ids if row >= len(plain)]


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("kubernetes", "We like kubernetes a lot"),
        ("kubernetes", "(kubernetes)"),
        ("machine learning", "We use machine learning."),
        ("café", "the cafe\u0301 is open"),
        ("cafe\u0301", "the café is open"),
        ("机器学习", "我喜欢机器学习和编程"),
        ("機械学習", "これは機械学習です"),
        ("การเรียนรู้", "ฉันชอบการเรียนรู้ของเครื่อง"),
        ("C++", "in C++ it is"),
    ],
)
def test_a_word_is_found(plain: Vocabulary, word: str, text: str) -> None:
    assert rows_of(with_words(plain, [word], {}), text, plain) == [0]


@pytest.fixture(scope="module")
def one_phrase(plain: Vocabulary) -> Vocabulary:
    return with_words(plain, ["qz word"], {})


@given(before=st.text(max_size=12), behind=st.text(max_size=12))
@settings(max_examples=150, deadline=None)
def test_the_rest_of_the_text_stays_as_it_was(
    plain: Vocabulary, one_phrase: Vocabulary, before: str, behind: str
) -> None:
    """Whatever stands before and behind a phrase in brackets, its tokens are those that it has without the phrase."""
    before, behind = (unicodedata.normalize("NFC", part) for part in (before + "(", ")" + behind))
    expected = [*plain.tokenizer.encode(before).ids, len(plain)]
    found = one_phrase.tokenizer.encode(f"{before}qz word{behind}").ids
    assert found[: len(expected)] == expected
    # Behind it there is no space that the text does not have.
    assert one_phrase.tokenizer.decode(found[len(expected) :]) == behind


def test_an_uncased_teacher_finds_any_case() -> None:
    letters = "abcdefghijklmnopqrstuvwxyz"
    tokens = ["[UNK]", "we", "run", "and", *letters, *(f"##{letter}" for letter in letters)]
    tokenizer = Tokenizer(models.WordPiece({t: i for i, t in enumerate(tokens)}, unk_token="[UNK]"))  # noqa: S106
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    plain = static_vocabulary(tokenizer)
    vocabulary = with_words(plain, ["Kubernetes", "数学", "kubernetes", "Éclair"], {})  # one is unknown to it
    assert len(vocabulary) == vocabulary.tokenizer.get_vocab_size() == len(plain) + 2
    assert rows_of(vocabulary, "we run KUBERNETES and eclair", plain) == [0, 1]


class TestGlossary:
    def test_the_files(self, tmp_path: Path) -> None:
        first, second = tmp_path / "first.tsv", tmp_path / "second.tsv"
        first.write_bytes("\ufeffSS \t stainless  steel\r\nbolt\r\n\r\n\tnut\nwear out\tfail\nscrew\t\n".encode())
        second.write_text("SS\tsteamship\nbolt\tmetal pin\nnut\nmachine\u00a0learning\na\u2028b\n")
        meanings = {"SS": "steamship", "wear out": "fail", "bolt": "metal pin", "Wear out": "fail"}
        assert read_words([first, second]) == (["nut", "screw", "machine learning", "a b"], meanings)
        first.write_text(" \n")
        assert read_words(first) == ([], {})
        first.write_bytes("café".encode("latin-1"))
        with pytest.raises(InputError, match="save it as UTF-8"):
            read_words(first)

    def test_names(self, tmp_path: Path) -> None:
        path = tmp_path / "idioms"
        path.write_text("x")
        assert [found.name for found in vocabulary_files(("idioms", "abbreviations", path))] == [
            "idioms.tsv",
            "abbreviations.tsv",
            "idioms",
        ]
        assert vocabulary_files(path) == [path]
        with pytest.raises(InputError, match=r"no vocabulary 'idiom': give a file, or idioms or abbreviations$"):
            vocabulary_files(["idiom"])

    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("SS bolts, (SS) and SSH", ["SS", "SS"]),
            ("SS", ["SS"]),
            ("an SS hex bolt", ["SS hex bolt"]),
            ("two SS hex bolts", []),  # each form needs a line
            ("sweetheart attack", []),
            ("a heart attack, a big heart attack", ["heart attack", "big heart"]),
            ("heart, attack\nheart  attack", ["heart", "heart"]),  # one space, nothing else
            ("the the_", ["the"]),  # one token of the teacher's, whose row stays as it is
        ],
    )
    def test_found_as_whole_words_the_longest_first(self, plain: Vocabulary, text: str, found: list[str]) -> None:
        words, meanings = ["heart", "heart attack", "big heart"], {"SS": "steel", "SS hex bolt": "screw", "the": "this"}
        vocabulary = with_words(plain, words, meanings)
        assert len(vocabulary) == len(plain) + len(words)
        tokenizer = with_added(plain.tokenizer, vocabulary.added_tokens)
        rows = [row - len(plain) for row in tokenizer.encode(text).ids]
        assert [[*words, *meanings][row] for row in rows if row >= 0] == found

    def test_packaged_lists_are_found_in_every_line(self, plain: Vocabulary) -> None:
        words, meanings = read_words(PRESETS)
        vocabulary = with_words(plain, words, meanings)
        assert not words
        assert list(vocabulary.meanings) == list(meanings)
        assert all(len(meaning.split()) <= 8 for meaning in meanings.values())

    def test_packaged_lists_teach_no_item(self) -> None:
        def words_of(text: str) -> list[str]:
            return re.findall(r"[\w']+", text.lower().replace("\u2019", "'"))

        data = resource("data/vocabulary").parent
        files = [path for kind in ("evaluation", "calibration") for path in (data / kind).glob("*.jsonl")]
        assert len(files) == 12
        items = [word for path in files for word in words_of(path.read_text(encoding="utf-8").replace("\\n", " "))]
        phrases = {tuple(words_of(phrase)) for phrase in read_words(PRESETS)[1] if " " in phrase}
        lengths = {len(phrase) for phrase in phrases}
        runs = {tuple(items[i : i + length]) for length in lengths for i in range(len(items))}
        assert len(phrases) > 3000
        assert not phrases & runs


def test_a_words_state_comes_from_its_pieces(plain: Vocabulary, tiny_tokenizer: Tokenizer) -> None:
    words = with_words(plain, ["kubernetes"], {})
    assert words.sequences[-1] == tiny_tokenizer.encode(" kubernetes").ids
    assert len(words.sequences) == len(words)
