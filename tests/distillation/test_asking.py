"""Words that the teacher is asked for, and groups of digits, get rows; all other text is segmented as before."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array, vstack
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from qwen25.distillation import asking
from qwen25.distillation.asking import TERMS, Answers, ask, parse_languages, words_to_ask
from qwen25.distillation.derived import NEEDED, DerivedRows, derived_rows
from qwen25.distillation.vectors import DEFAULT
from qwen25.distillation.vocabulary import Vocabulary, static_vocabulary, with_words
from qwen25.runtime.errors import InputError
from qwen25.runtime.steps import StepCache
from qwen25.store.quantisation import Sharing
from qwen25.teacher.teacher import find_teacher
from tests.conftest import REAL_TOKENIZER
from tests.teachers import make_teacher

ASKED = {"hi": ["पानी", "दोस्त"], "fi": ["ystävä"], "el": ["φίλος"]}
FINNISH = "Finnish: vesi\nEnglish: water\n\nFinnish: talo\nEnglish: house\n\nFinnish: päivä\nEnglish: day\n\n"
FINNISH += "Finnish: hyvä\nEnglish: good\n\nFinnish: ystävä\nEnglish: friend\n\nFinnish: ystävä\nEnglish:"
TERM = [("a piece of cake", "easy"), ("ASAP", "immediately"), ("hit the sack", "sleep"), ("qty", "quantity")]
TERM += [("once in a blue moon", "rarely"), ("kick the bucket", "")]


@pytest.fixture(scope="module")
def tokens(tiny_teacher: Path) -> Vocabulary:
    return static_vocabulary(find_teacher(str(tiny_teacher)).tokenizer())


@pytest.fixture(scope="module")
def answers(tiny_teacher: Path, tokens: Vocabulary) -> Answers:
    return ask(find_teacher(str(tiny_teacher)), ASKED, tokens.teacher_ids)


def rows(tokens: Vocabulary, answers: Answers, words: tuple[str, ...] = (), numbers: bool = False) -> DerivedRows:
    vocabulary = with_words(tokens, words, {})
    matrix = vstack([answers.matrix, answers.matrix[: len(vocabulary.custom)]])
    return derived_rows(tokens, vocabulary, answers._replace(matrix=csr_array(matrix)), numbers)


class TestAsking:
    def test_an_answer_is_the_whole_models(self, tiny_teacher: Path, tokens: Vocabulary) -> None:
        teacher = find_teacher(str(tiny_teacher))
        found = ask(teacher, {**ASKED, TERMS: ["kick the bucket"]}, tokens.teacher_ids)
        assert found.asked == {"hi": 2, "fi": 1, "el": 1, TERMS: 1} and "kick the bucket" not in found.words
        model = AutoModelForCausalLM.from_pretrained(tiny_teacher).eval()
        term = "\n".join(f'The term "{term}" means, in one word: "{word}"' for term, word in TERM).removesuffix('"')
        for text, number in ((FINNISH, found.words.index("ystävä")), (term, -1)):
            with torch.inference_mode():
                logits = model(torch.tensor([teacher.tokenizer().encode(text).ids])).logits[0, -1]
            shares, best = logits[torch.from_numpy(tokens.teacher_ids)].softmax(0).topk(10)
            row = found.matrix.toarray()[number]
            assert set(np.flatnonzero(row)) == set(best.tolist())
            assert np.allclose(row[best], shares / shares.sum(), atol=1e-5)

    def test_a_killed_run_goes_on(
        self, tiny_teacher: Path, tokens: Vocabulary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        teacher, cache = find_teacher(str(tiny_teacher)), StepCache(tmp_path)
        whole, save = ask(teacher, ASKED, tokens.teacher_ids), StepCache.save

        def killed(self: StepCache, step: str, key: str, arrays: dict[str, np.ndarray]) -> None:
            save(self, step, key, arrays)
            if step == "answers-fi":
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(StepCache, "save", killed)
            with pytest.raises(KeyboardInterrupt):
                ask(teacher, ASKED, tokens.teacher_ids, cache=cache)
        monkeypatch.setattr("qwen25.distillation.asking._answers_in", only_greek := Mock(wraps=asking._answers_in))
        again = ask(teacher, ASKED, tokens.teacher_ids, cache=cache)
        assert [call.args[0] for call in only_greek.call_args_list] == ["el"]
        assert again.words == whole.words
        assert np.allclose(again.matrix.toarray(), whole.matrix.toarray(), atol=1e-6)

    def test_the_words_are_frequent_and_split(self, tokens: Vocabulary) -> None:
        words = words_to_ask(tokens.tokenizer, {"hi": 50, "fi": 20})
        assert len(words["hi"]) == 50
        assert len(words["fi"]) == 20
        assert "है" in words["hi"]  # "is": with its vowel sign one word
        assert not any(character.isdigit() for word in words["fi"] for character in word)
        ukrainian = words_to_ask(tokens.tokenizer, {"uk": 300})["uk"]
        assert "що" in ukrainian and "для" not in ukrainian  # "what"; "for", in Russian as well

    def test_what_cannot_be_asked(self, tokens: Vocabulary, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="no word list"):
            words_to_ask(tokens.tokenizer, {"te": 5})
        encoder = make_teacher(tmp_path / "bert", "bert")
        with pytest.raises(InputError, match="encoder"):
            ask(encoder, ASKED, tokens.teacher_ids)
        for text in ("xx", "hi:0", "hi:many"):
            with pytest.raises(Exception, match=r"language|number"):
                parse_languages(text)
        assert parse_languages("hi:20, el") == {"hi": 20, "el": 2000}
        assert parse_languages("none") == {}


class TestRows:
    def test_words_are_found_whole(self, tokens: Vocabulary, answers: Answers) -> None:
        derived = rows(tokens, answers)
        encode = derived.tokenizer.encode
        places = [len(tokens) + i for i in range(4)]
        assert encode("पानी दोस्त ystävä φίλος").ids == places
        assert encode("Φίλος").ids == [len(derived) - 1]  # Finnish and Greek have capitals, Hindi has none
        assert derived.needed.tolist() == [NEEDED] * 4 + [0] * 2  # which share the rows of the words in small letters
        assert len(encode("ystäväni (φίλος)").ids) > 2  # other words are not touched

    @pytest.mark.skipif(not REAL_TOKENIZER.exists(), reason="the real tokenizer of Qwen2.5 is not here")
    def test_other_text_is_segmented_as_by_the_teacher(self, answers: Answers) -> None:
        tokens = static_vocabulary(Tokenizer.from_file(str(REAL_TOKENIZER)))
        blank = answers._replace(matrix=csr_array((4, len(tokens)), dtype=np.float32))
        derived = rows(tokens, blank, numbers=True)
        for text in ("def f(x): return x\n\n\tpass", "❤️ Ünïcode cafe\u0301 naïve", "我爱你 これは ไทย", "it's I'LL"):
            assert derived.tokenizer.encode(text).ids == tokens.tokenizer.encode(text).ids

    def test_a_row_is_the_mean_of_the_predicted_tokens(self, tokens: Vocabulary, answers: Answers) -> None:
        derived = rows(tokens, answers, ("kubernetes cluster",), numbers=True)
        table = np.random.default_rng(0).standard_normal((len(tokens) + 1, 8)).astype(np.float32)
        whole = derived.spread(table)
        assert np.array_equal(whole[: len(tokens)], table[:-1])
        said = answers.matrix.toarray() @ table[:-1]
        # As long as the tokens that it replaces would be, twice over.
        lengths = np.array([[2 * len(tokens.tokenizer.encode(word).ids)] for word in answers.words])
        assert np.allclose(whole[len(tokens) : len(tokens) + 4], lengths * said, atol=1e-4)
        pieces = table[tokens.tokenizer.encode("kubernetes cluster").ids].sum(axis=0)
        assert derived.tokenizer.encode("a kubernetes cluster").ids[-1] == len(whole) - 1
        assert np.allclose(whole[-1], 3 * said[0] + 0.5 * pieces, atol=1e-4)

    def test_a_word_with_a_meaning_reads_as_that(self, tokens: Vocabulary, answers: Answers) -> None:
        meanings = {"SS": "stainless steel", "inox": "stainless steel", "the": "a"}
        vocabulary = with_words(tokens, ["kubernetes cluster"], meanings)
        derived = derived_rows(tokens, vocabulary, answers, numbers=False)
        table = np.random.default_rng(0).standard_normal((len(tokens) + 1, 8)).astype(np.float32)
        whole = derived.spread(table)

        def bag(text: str, rows: np.ndarray, encoder: Tokenizer) -> np.ndarray:
            return rows[encoder.encode(text).ids].sum(axis=0)

        for word, meaning in meanings.items():
            found = bag(f"one {word} bolt", whole, derived.tokenizer)
            assert np.allclose(found, bag(f"one {meaning} bolt", table, tokens.tokenizer), atol=1e-4)
        assert np.array_equal(whole[: len(tokens)], table[:-1])
        assert np.array_equal(bag("kubernetes cluster", whole, derived.tokenizer), table[-1])
        # Where rows are few, two words that mean the same share one.
        assert derived.needed[-3:].tolist() == [np.inf, 0, np.inf]


class TestNumbers:
    PAIRS = (
        ("Invoice 48213 is overdue", "Invoice 48231 is overdue"),
        ("Take 5 mg twice a day", "Take 50 mg twice a day"),
        ("Upgrade to version 2.4.1", "Upgrade to version 2.1.4"),
        ("Upgrade to version 3.1.7", "Upgrade to version 3.7.1"),
        ("Meet me on 12/03/2021", "Meet me on 03/12/2021"),
        ("Part M12x50 in steel", "Part M50x12 in steel"),
        ("Release of 2021-03-12", "Release of 2021-12-03"),
        ("Meet me on 12.03.2021", "Meet me on 03.12.2021"),
        ("The train leaves at 10:30.", "The train leaves at 30:10."),
        ("Call 7946 0958", "Call 7946 0985"),
        ("It costs 1,250 dollars", "It costs 1,520 dollars"),
        ("Pipe EN10305-1", "Pipe EN10350-1"),
    )

    def test_numbers_of_the_same_digits_differ(self, tokens: Vocabulary, answers: Answers) -> None:
        table = np.random.default_rng(0).standard_normal((len(tokens), 256)).astype(np.float32)
        for numbers, least, most in ((False, 0.999, 1.001), (True, -1.0, 0.9)):
            derived = rows(tokens, answers, numbers=numbers)
            vectors = derived.tell_numbers_apart(derived.spread(table), DEFAULT.numbers, None)

            pairs = [pair for pair in self.PAIRS if numbers or sorted(pair[0]) == sorted(pair[1])]
            bags = [[vectors[derived.tokenizer.encode(text).ids].sum(axis=0) for text in pair] for pair in pairs]
            found = [float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)) for a, b in bags]
            assert all(least < one < most for one in found), str(np.round(found, 2))

    def test_which_rows_get_a_direction_of_their_own(self, tokens: Vocabulary, answers: Answers) -> None:
        derived = rows(tokens, answers, numbers=True)
        table = np.random.default_rng(0).standard_normal((len(derived), 8)).astype(np.float32)
        first, second, *_ = np.flatnonzero(derived.numbers == 1)
        sharing = Sharing(np.delete(np.arange(len(derived)), second), np.arange(len(derived), dtype=np.int32))
        after = derived.tell_numbers_apart(table.copy(), 1.0, sharing)
        moved = np.linalg.norm(after - table, axis=1)
        assert moved[second] == 0
        one, four = (tokens.tokenizer.token_to_id(digit) for digit in "14")
        expected = np.median(np.linalg.norm(table, axis=1)) * np.array([1, 0.5, 0])
        assert np.allclose(moved[[first, four, one]], expected, rtol=1e-4)
