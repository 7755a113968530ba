"""Training on a language of two kinds of words, where each word of one kind means a word of the other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from qwen25.runtime.steps import NO_CACHE, StepCache
from qwen25.store.pairs import Pair, PairSet
from qwen25.store.quantisation import Sharing
from qwen25.training import trainer
from qwen25.training.batches import EncodedSet, TrainingSettings, encode_sets, make_batch, schedule, tokenise
from qwen25.training.objective import Objective, join_pairs
from qwen25.training.trainer import FreeTable, ProjectedTable, Start, Trained, train_map, tune_rows

WORDS, WIDTH, DIMS = 60, 48, 32


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    words = [f"{kind}{i}" for kind in "ab" for i in range(WORDS)]
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 2 * WORDS, **{w: i for i, w in enumerate(words)}}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


@pytest.fixture(scope="module")
def start() -> Start:
    """Each word's state: its meaning, which both kinds share, drowned by what only the word has."""
    random = np.random.default_rng(0)
    meanings = np.vstack([np.tile(random.normal(size=(WORDS, WIDTH // 2)), (2, 1)), np.zeros((1, WIDTH // 2))])
    own = random.normal(size=(2 * WORDS + 1, WIDTH // 2)) * 2
    wide = np.hstack([meanings, own]).astype(np.float16)
    projection = np.linalg.qr(random.normal(size=(WIDTH, DIMS)))[0].astype(np.float32)
    return Start(wide, projection, np.ones(len(wide)))


def pairs(count: int = 600, seed: int = 1, name: str = "words") -> PairSet:
    random = np.random.default_rng(seed)
    chosen = [random.choice(WORDS, 3, replace=False) for _ in range(count)]
    return PairSet(name, [Pair(" ".join(f"a{i}" for i in c), " ".join(f"b{i}" for i in c), "") for c in chosen])


@pytest.fixture(scope="module")
def sets(tokenizer: Tokenizer) -> list[EncodedSet]:
    return encode_sets([pairs()], tokenizer)


SETTINGS = TrainingSettings(batch_size=64, epochs=6, seed=7)


def train(
    start: Start,
    sets: list[EncodedSet],
    settings: TrainingSettings = SETTINGS,
    sharing: Sharing | None = None,
    cache: StepCache = NO_CACHE,
) -> Trained:
    """Train the map, and then the rows."""
    mapped = train_map(start, sets, settings, cache=cache)
    return tune_rows(mapped, sharing, sets, settings, cache=cache)


def nearest(trained: Trained, when: str = "trained") -> float:
    return trained.facts[when]["sets"]["words"]["nearest"]


@pytest.fixture(scope="module")
def half() -> Sharing:
    """Half of the words of the second kind have no row: each takes the one of the same number, which it means."""
    half = WORDS // 2
    row_of = np.concatenate([np.arange(WORDS), np.arange(half), np.arange(WORDS, WORDS + half), [0]]).astype(np.int32)
    return Sharing(np.concatenate([np.arange(WORDS), np.arange(WORDS + half, 2 * WORDS)]), row_of)


def test_pairs_teach_what_the_words_share_and_free_rows_go_further(start: Start, sets: list[EncodedSet]) -> None:
    mapped = train_map(start, sets, SETTINGS)
    assert mapped.vectors.shape == (2 * WORDS + 1, DIMS) and mapped.vectors.dtype == np.float32
    assert nearest(mapped) > nearest(mapped, "untrained") + 0.1
    free = tune_rows(mapped, None, sets, SETTINGS)
    assert free.facts["stages"][1]["kept"] and free.facts["settings"]["tune"] == "rows"
    assert free.facts["trained"]["loss"] < mapped.facts["trained"]["loss"]


def test_rows_that_tokens_share_are_tuned_as_they_are_stored(
    start: Start, sets: list[EncodedSet], half: Sharing
) -> None:
    trained = train(start, sets, sharing=half)
    assert nearest(trained) > 0.99 and trained.facts["stages"][1]["kept"]
    assert trained.facts["stages"][1]["held_out"][0] > trained.facts["trained"]["loss"]
    directions = trained.vectors / np.linalg.norm(trained.vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(directions, directions[half.kept][half.row_of], atol=1e-5)


def test_an_interrupted_run_resumes_behind_its_last_stage_and_ends_as_if_it_had_not_been_interrupted(
    tmp_path: Path,
    start: Start,
    sets: list[EncodedSet],
    half: Sharing,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = replace(SETTINGS, epochs=3)
    whole = train(start, sets, settings, half)
    of_map, of_rows = (stage["steps"] for stage in whole.facts["stages"])
    cache, taken, loss = StepCache(tmp_path / "steps"), [], Objective.loss

    def interrupted(self: Objective, table: Any, step: int) -> Any:
        taken.append(step)
        if len(taken) == of_map + 5:
            raise KeyboardInterrupt
        return loss(self, table, step)

    monkeypatch.setattr(Objective, "loss", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(start, sets, settings, half, cache)
    taken.clear()
    monkeypatch.setattr(Objective, "loss", lambda self, table, step: taken.append(step) or loss(self, table, step))
    for steps in (of_rows, 0):
        resumed = train(start, sets, settings, half, cache)
        assert len(taken) == steps
        assert resumed.vectors.tobytes() == whole.vectors.tobytes()
        kept, expected = ([stage["held_out"] for stage in one.facts["stages"]] for one in (resumed, whole))
        assert kept == expected
        taken.clear()


def test_what_was_kept_of_other_inputs_is_not_used(tmp_path: Path, start: Start, sets: list[EncodedSet]) -> None:
    cache, settings = StepCache(tmp_path / "steps"), replace(SETTINGS, epochs=1)
    train_map(start, sets, settings, cache=cache)
    for one, how in (
        (start, replace(settings, seed=8)),
        (replace(start, wide=start.wide + np.float16(1)), settings),
    ):
        whole = train_map(one, sets, how)
        assert train_map(one, sets, how, cache=cache).vectors.tobytes() == whole.vectors.tobytes()


def test_a_loss_that_is_not_finite_leaves_the_untrained_table(
    start: Start, sets: list[EncodedSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "MAP_RATE", float("inf"))
    trained = train_map(start, sets, SETTINGS)
    np.testing.assert_allclose(trained.vectors, start.wide.astype(np.float32) @ start.projection, atol=1e-5)
    assert not trained.facts["stages"][0]["kept"]


def test_a_text_is_the_weighted_sum_of_its_tokens(start: Start, tokenizer: Tokenizer) -> None:
    weights = np.linspace(0.1, 2, len(start.wide))
    table = ProjectedTable(Start(start.wide, start.projection, weights))
    bags = tokenise(tokenizer, ["a1 a2 a2", "b3"])
    rows = table.vectors()
    np.testing.assert_allclose(rows, start.wide.astype(np.float32) @ start.projection * weights[:, None], atol=1e-5)
    expected = np.stack([rows[1] + 2 * rows[2], rows[WORDS + 3]])
    with torch.no_grad():
        np.testing.assert_allclose(table(bags).numpy(), expected, rtol=1e-4, atol=1e-5)
    training = table(bags).detach().numpy()  # a step may be in bfloat16
    np.testing.assert_allclose(training, expected, atol=0.01 * np.abs(expected).max())
    np.testing.assert_allclose(FreeTable(rows)(bags).detach().numpy(), expected, rtol=1e-4, atol=1e-5)


def test_texts_that_a_batch_repeats_are_no_negatives(tokenizer: Tokenizer) -> None:
    texts = [("a1", "b1"), ("a1", "b2"), ("a3", "b1"), ("b1", "a9"), ("a1", " ")]
    few = PairSet("few", [Pair(*two, "") for two in texts])
    (encoded,) = encode_sets([few], tokenizer)
    assert few.dropped["without tokens"] == 1
    _, repeats = make_batch(encoded, np.arange(4))
    assert np.argwhere(repeats).tolist() == [[0, 1], [0, 2], [1, 0], [2, 0], [3, 0], [3, 2]]


def test_joined_pairs_are_the_pairs_of_the_joined_texts(start: Start, tokenizer: Tokenizer) -> None:
    """And those that share a text with each other are no negatives."""
    few = pairs(7)
    few.pairs[4] = few.pairs[0]
    bags, repeats = make_batch(encode_sets([few], tokenizer)[0], np.arange(7))
    texts = [" ".join(pair[side] for pair in few.pairs[i : i + 3]) for side in (0, 1) for i in (0, 3)]
    with torch.no_grad():  # with gradients products may be in bfloat16
        joined, shared = join_pairs(ProjectedTable(start)(bags), repeats, 3)
        expected = ProjectedTable(start)(tokenise(tokenizer, texts))
    torch.testing.assert_close(joined, expected, atol=1e-4, rtol=1e-4)
    assert shared.tolist() == [[False, True], [True, False]]


def test_a_batch_is_of_one_set_and_language_and_small_ones_count_more_when_cold(tokenizer: Tokenizer) -> None:
    large, small = pairs(2000, 1, "large"), pairs(300, 2, "small")
    large.pairs = [pair._replace(language="xy"[i % 2]) for i, pair in enumerate(large.pairs)]
    encoded = encode_sets([large, small], tokenizer)
    chosen = [np.arange(len(s.left)) for s in encoded]
    share = {}
    for temperature in (1.0, 0.0):
        random = np.random.default_rng(0)
        settings = TrainingSettings(batch_size=50, epochs=2, temperature=temperature)
        plan = schedule(encoded, chosen, settings, random)
        for number, batch in plan:
            assert len(batch) == 50
            assert len({*encoded[number].languages[batch]}) == 1
        share[temperature] = np.mean([number for number, _ in plan])
    assert share[1.0] == pytest.approx(300 / 2300, abs=0.02)
    assert share[0.0] == pytest.approx(1 / 2, abs=0.02)  # of two sets, however many languages one has
