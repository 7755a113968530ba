"""Training on a language of two kinds of words, where each word of one kind means a word of the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from qwen25.store.quantisation import Sharing, quantise
from qwen25.training import trainer
from qwen25.training.bags import join, tokenise
from qwen25.training.batches import EncodedSet, encode_sets, make_batch, schedule
from qwen25.training.objective import Objective
from qwen25.training.pairs import Pair, PairSet
from qwen25.training.soft_targets import SoftTargets, soft_targets
from qwen25.training.table import FreeTable, ProjectedTable, Start
from qwen25.training.trainer import Trained, TrainingSettings, train

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


@pytest.fixture(scope="module")
def soft(tokenizer: Tokenizer) -> SoftTargets:
    """A teacher for whom texts of both kinds with the same numbers are alike."""
    random = np.random.default_rng(2)
    meanings = random.normal(size=(WORDS, 40))
    chosen = [random.choice(WORDS, 3, replace=False) for _ in range(200)]
    texts = [" ".join(f"{'ab'[i % 2]}{j}" for j in c) for i, c in enumerate(chosen)]
    return soft_targets(tokenise(tokenizer, texts), np.stack([meanings[c].sum(axis=0) for c in chosen]))


SETTINGS = TrainingSettings(batch_size=64, epochs=6, steps=50, seed=7)


def nearest(trained: Trained, when: str = "trained") -> float:
    return trained.facts[when]["sets"]["words"]["nearest"]


def test_pairs_teach_what_the_words_share(start: Start, sets: list[EncodedSet]) -> None:
    before = start.wide.astype(np.float32) @ start.projection
    trained = train(start, sets, None, SETTINGS)
    assert trained.vectors.shape == before.shape and trained.vectors.dtype == np.float32
    assert nearest(trained) > nearest(trained, "untrained") + 0.1
    assert [stage["name"] for stage in trained.facts["stages"]] == ["map"]


def test_free_rows_go_further_than_the_map(start: Start, sets: list[EncodedSet]) -> None:
    mapped = train(start, sets, None, SETTINGS)
    free = train(start, sets, None, TrainingSettings(tune="rows", batch_size=64, epochs=6, seed=7))
    assert free.facts["stages"][1]["kept"]
    assert free.facts["trained"]["loss"] < mapped.facts["trained"]["loss"]


def test_rows_that_tokens_share_are_tuned_as_they_are_stored(start: Start, sets: list[EncodedSet]) -> None:
    """Half of the words of the second kind have no row: each takes the one of the same number, which it means."""
    half = WORDS // 2
    row_of = np.concatenate([np.arange(WORDS), np.arange(half), np.arange(WORDS, WORDS + half), [0]]).astype(np.int32)
    sharing = Sharing(np.concatenate([np.arange(WORDS), np.arange(WORDS + half, 2 * WORDS)]), row_of)
    trained = train(
        start,
        sets,
        None,
        TrainingSettings(tune="rows", batch_size=64, epochs=6, seed=7),
        share=lambda table: sharing,
    )
    assert trained.sharing is sharing and nearest(trained) > 0.99
    assert trained.facts["stages"][1]["kept"]
    assert trained.facts["stages"][1]["held_out"][0] > trained.facts["trained"]["loss"]
    directions = trained.vectors / np.linalg.norm(trained.vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(directions, directions[sharing.kept][row_of], atol=1e-5)
    stored = quantise(trained.vectors, "int8", sharing).vectors()
    cosines = (stored * trained.vectors).sum(axis=1) / np.linalg.norm(stored, axis=1)
    np.testing.assert_allclose(cosines, np.linalg.norm(trained.vectors, axis=1), rtol=1e-3)


def test_soft_targets_alone_teach(start: Start, soft: SoftTargets) -> None:
    trained = train(start, [], soft, TrainingSettings(steps=400))
    assert trained.facts["trained"]["divergence"] < 0.95 * trained.facts["untrained"]["divergence"]
    assert trained.facts["untrained"]["sets"] == {}
    assert trained.facts["learning_rates"]["projection"] == pytest.approx(1e-4)  # gentler than with pairs


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(
    start: Start, sets: list[EncodedSet], soft: SoftTargets
) -> None:
    settings = TrainingSettings(tune="rows", batch_size=64, seed=3)
    first, again = (train(start, sets, soft, settings).vectors for _ in range(2))
    assert first.tobytes() == again.tobytes()
    other = train(start, sets, soft, TrainingSettings(tune="rows", batch_size=64, seed=4)).vectors
    assert other.tobytes() != first.tobytes()


def test_a_run_that_was_cut_off_ends_as_if_it_had_not_been(
    tmp_path: Path, start: Start, sets: list[EncodedSet], soft: SoftTargets, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(start, sets, soft, SETTINGS)
    path, taken = tmp_path / "training.safetensors", []
    loss = Objective.loss

    def cut(self: Objective, table: Any, step: int) -> Any:
        taken.append(step)
        if len(taken) == 40:
            raise KeyboardInterrupt
        return loss(self, table, step)

    monkeypatch.setattr(Objective, "loss", cut)
    with pytest.raises(KeyboardInterrupt):
        train(start, sets, soft, SETTINGS, checkpoint=path)
    taken.clear()
    monkeypatch.setattr(Objective, "loss", lambda self, table, step: taken.append(step) or loss(self, table, step))
    resumed = train(start, sets, soft, SETTINGS, checkpoint=path)
    assert taken[0] > 20  # it did not begin anew
    assert resumed.vectors.tobytes() == whole.vectors.tobytes()
    assert resumed.facts["trained"] == whole.facts["trained"]


@pytest.mark.parametrize("fault", ["other settings", "cut short", "no resume"])
def test_a_checkpoint_that_does_not_fit_is_not_gone_on_from(
    tmp_path: Path, start: Start, sets: list[EncodedSet], monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    path = tmp_path / "training.safetensors"
    train(start, sets, None, SETTINGS, checkpoint=path)
    settings = TrainingSettings(batch_size=64, epochs=6, seed=8) if fault == "other settings" else SETTINGS
    if fault == "cut short":
        path.write_bytes(path.read_bytes()[:1000])
    taken, loss = [], Objective.loss
    monkeypatch.setattr(Objective, "loss", lambda self, table, step: taken.append(step) or loss(self, table, step))
    train(start, sets, None, settings, checkpoint=path, resume=fault != "no resume")
    assert taken[0] == 0


def test_a_loss_that_is_not_finite_leaves_the_untrained_table(
    start: Start, sets: list[EncodedSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "MAP_RATE", float("inf"))
    trained = train(start, sets, None, TrainingSettings(tune="rows", batch_size=64))
    np.testing.assert_allclose(trained.vectors, start.wide.astype(np.float32) @ start.projection, rtol=1e-6)
    assert not trained.facts["stages"][0]["kept"] and len(trained.facts["stages"]) == 1


def test_pairs_that_teach_nothing_leave_the_untrained_table(start: Start, tokenizer: Tokenizer) -> None:
    """Partners drawn at random: what is learnt of them does not hold for those held out."""
    random = np.random.default_rng(5)
    noise = [
        Pair(f"a{random.integers(WORDS)} a{random.integers(WORDS)}", f"b{i} b{j}", "")
        for i, j in random.integers(WORDS, size=(1200, 2))
    ]
    trained = train(start, encode_sets([PairSet("noise", noise)], tokenizer), None, SETTINGS)
    assert trained.facts["trained"]["loss"] <= trained.facts["untrained"]["loss"]


def test_a_text_is_the_weighted_sum_of_its_tokens(start: Start, tokenizer: Tokenizer) -> None:
    weights = np.linspace(0.1, 2, len(start.wide))
    table = ProjectedTable(Start(start.wide, start.projection, weights))
    bags = tokenise(tokenizer, ["a1 a2 a2", "b3"])
    rows = table.vectors()
    np.testing.assert_allclose(rows, start.wide.astype(np.float32) @ start.projection * weights[:, None], rtol=1e-4)
    expected = np.stack([rows[1] + 2 * rows[2], rows[WORDS + 3]])
    with torch.no_grad():
        np.testing.assert_allclose(table(bags).numpy(), expected, rtol=1e-4, atol=1e-5)
    training = table(bags).detach().numpy()  # a step may be in bfloat16
    np.testing.assert_allclose(training, expected, atol=0.01 * np.abs(expected).max())
    np.testing.assert_allclose(FreeTable(rows)(bags).detach().numpy(), expected, rtol=1e-4, atol=1e-5)


def test_texts_that_a_batch_repeats_are_no_negatives(tokenizer: Tokenizer) -> None:
    shared = [Pair("a1", "b1", ""), Pair("a1", "b2", ""), Pair("a3", "b1", ""), Pair("b1", "a9", "")]
    (encoded,) = encode_sets([PairSet("few", shared)], tokenizer)
    repeats = make_batch(encoded, np.arange(4)).repeats
    assert repeats.tolist() == [
        [False, True, True, False],
        [True, False, False, False],
        [True, False, False, False],
        [True, False, True, False],
    ]


def test_a_batch_is_of_one_set_and_language_and_small_ones_count_more_when_cold(tokenizer: Tokenizer) -> None:
    large, small = pairs(2000, 1, "large"), pairs(300, 2, "small")
    large.pairs = [pair._replace(language="xy"[i % 2]) for i, pair in enumerate(large.pairs)]
    encoded = encode_sets([large, small], tokenizer)
    chosen = [np.arange(len(s.left)) for s in encoded]
    share = {}
    for temperature in (1.0, 0.0):
        random = np.random.default_rng(0)
        plan = schedule(encoded, chosen, batch_size=50, epochs=2, temperature=temperature, random=random)
        for number, batch in plan.steps:
            assert len(batch) == 50
            assert len({*encoded[number].languages[batch]}) == 1
        share[temperature] = np.mean([number for number, _ in plan.steps])
    assert share[1.0] == pytest.approx(300 / 2300, abs=0.02)
    assert share[0.0] == pytest.approx(1 / 2, abs=0.02)  # of two sets, however many languages one has


def test_pairs_without_tokens_are_counted(tokenizer: Tokenizer) -> None:
    empty = PairSet("some", [Pair("a1", " ", ""), Pair("a2", "b2", "")])
    (encoded,) = encode_sets([empty], tokenizer)
    assert len(encoded.left) == 1 and empty.dropped["without tokens"] == 1


def test_bags_are_taken_and_joined(tokenizer: Tokenizer) -> None:
    bags = tokenise(tokenizer, ["a1 a2", "", "a3"])
    assert bags.take(np.array([2, 0])).rows.tolist() == [3, 1, 2]
    both = join([bags, bags.take(np.array([2]))])
    assert both.rows.tolist() == [1, 2, 3, 3] and both.lengths().tolist() == [2, 0, 1, 1]
