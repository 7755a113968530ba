"""Training as a stage of phase 1: from the command line to the metadata."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model2vec import StaticModel

import distill_qwen25_1024d as phase1
from qwen25.distillation import Settings
from qwen25.distillation.training_effect import training_effect
from qwen25.distillation.vocabulary import static_vocabulary
from qwen25.evaluation.categories.all import WEIGHTS
from qwen25.evaluation.items import calibration_folder
from qwen25.runtime.errors import InputError
from qwen25.teacher.teacher import find_teacher


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Questions and answers that share nothing but their number, in words."""
    ones = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    rows = []
    for i in range(1200):
        digits = [int(digit) for digit in f"{i:04d}"]
        rows.append(
            {"a": f"Which number is {' '.join(ones[d] for d in digits)}?", "b": f"It is {' '.join(map(str, digits))}."}
        )
    path = tmp_path_factory.mktemp("pairs") / "numbers.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def distil(teacher: Path, output: Path, *flags: Any) -> int:
    words = [
        "--teacher",
        teacher,
        "--output",
        output,
        "--dims",
        32,
        "--device",
        "cpu",
        "--log-file",
        output.parent / "log",
    ]
    return phase1.main([str(word) for word in (*words, *flags)])


def metadata_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "metadata.json").read_text(encoding="utf-8"))


def margin(folder: Path) -> float:
    """Return by how much a question's cosine with its own answer exceeds that with another's."""
    model = StaticModel.from_pretrained(folder)
    left, right = model.encode(["Which number is one two three four?", "It is 1 2 3 4."])
    other = model.encode("It is 9 8 7 6.")
    return float(left @ right - left @ other)


def test_pairs_change_the_model_and_are_in_the_metadata(tiny_teacher: Path, tmp_path: Path, pairs: Path) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n".join(f"the {i} cats of the code" for i in range(40)))
    out = [tmp_path / name for name in ("plain", "trained", "again")]
    assert distil(tiny_teacher, out[0]) == 0
    flags = ("--pairs", pairs, "--tune", "rows", "--epochs", 8, "--corpus", corpus, "--sentence-vectors", 30)
    assert distil(tiny_teacher, out[1], *flags) == distil(tiny_teacher, out[2], *flags) == 0
    untrained, *both = ((folder / "model.safetensors").read_bytes() for folder in out)
    assert both[0] == both[1] != untrained
    plain, training = (metadata_of(folder)["training"] for folder in out[:2])
    assert plain is None
    (found,) = training["sets"]
    assert found["name"] == "numbers" and found["rows"] == 1200 and len(found["sha256"]) == 64
    assert training["trained"]["loss"] < training["untrained"]["loss"]
    assert set(training["calibration"]) == set(WEIGHTS)
    assert training["settings"]["tune"] == "rows" and training["sentence_vectors"] == 30
    assert not list(tmp_path.glob(".*training*"))


def test_pairs_bring_an_answer_nearer_to_its_question(tiny_teacher: Path, tmp_path: Path, pairs: Path) -> None:
    for name, flags in (("plain", ()), ("trained", ("--pairs", pairs, "--tune", "rows", "--epochs", 8))):
        assert distil(tiny_teacher, tmp_path / name, *flags) == 0
    assert margin(tmp_path / "trained") > margin(tmp_path / "plain") + 0.3


def test_another_decoder_can_give_the_vectors_of_the_pairs_texts(
    tiny_teacher: Path, tmp_path: Path, pairs: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(tiny_teacher, other)
    flags = ("--pairs", pairs, "--epochs", 0.2, "--sentence-vectors", 30)
    for name, teacher in (("own", tiny_teacher), ("others", other)):
        assert distil(tiny_teacher, tmp_path / name, *flags, "--sentence-teacher", teacher) == 0
        training = metadata_of(tmp_path / name)["training"]
        assert training["sentence_vectors"] == 30 and training["untrained"]["divergence"] > 0
    assert metadata_of(tmp_path / "others")["frequencies"]["from"] == "zipf"  # nothing had to be written for it
    assert not list(tmp_path.glob(".*sentence_vectors*"))


def test_the_projects_own_items_and_a_kept_out_folder_are_not_trained_on(
    tiny_teacher: Path, tmp_path: Path, pairs: Path
) -> None:
    item = json.loads(
        (Path(__file__).parents[2] / "eval_data" / "semantic_similarity.jsonl").read_text().splitlines()[0]
    )
    mine = tmp_path / "mine.jsonl"
    extra = [{"a": item["anchor"], "b": "anything"}]
    mine.write_text(pairs.read_text() + "".join(json.dumps(row) + "\n" for row in extra))
    held = tmp_path / "held"
    held.mkdir()
    (held / "test.txt").write_text("it is 0 0 0 7.\n")
    assert distil(tiny_teacher, tmp_path / "model", "--pairs", mine, "--keep-out", held, "--epochs", 0.2) == 0
    (found,) = metadata_of(tmp_path / "model")["training"]["sets"]
    assert found["dropped"]["kept out"] == 2 and found["rows"] == 1199


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--pairs", "nothing.jsonl"), "no such file"),
        (("--tune", "rows"), "needs something to learn from"),
        (("--sentence-teacher", "smollm2-135m"), "add --sentence-vectors"),
        (("--pairs", "PAIRS", "--sentence-vectors", "9", "--sentence-teacher", ""), "--sentence-teacher is empty"),
        (("--teacher", ""), "--teacher is empty"),
        (("--pairs", "PAIRS", "--sentence-vectors", "20", "--sentence-teacher", "nobody"), "nobody"),
        (("--pairs", "PAIRS:wrong,names"), "has no column 'wrong'"),
        (("--pairs", "PAIRS", "--epochs", "0"), "--epochs must be above 0"),
        (("--pairs", "PAIRS", "--epochs", "nan"), "--epochs must be above 0"),
        (("--pairs", "PAIRS", "--set-temperature", "nan"), "--set-temperature must be from 0 to 1"),
        (("--pairs", "PAIRS", "--keep-out", "nowhere"), "holds no items to keep out"),
    ],
)
def test_what_cannot_be_trained_on_is_said_before_the_work(
    tiny_teacher: Path,
    tmp_path: Path,
    pairs: Path,
    capsys: pytest.CaptureFixture[str],
    flags: tuple[str, ...],
    message: str,
) -> None:
    assert distil(tiny_teacher, tmp_path / "model", *(flag.replace("PAIRS", str(pairs)) for flag in flags)) == 2
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said
    assert not (tmp_path / "model").exists()


def test_no_pairs_can_be_said_and_must_stand_alone(tmp_path: Path, tiny_teacher: Path, pairs: Path) -> None:
    assert distil(tiny_teacher, tmp_path / "m", "--pairs", "none", "--dry-run") == 0
    assert distil(tiny_teacher, tmp_path / "m", "--pairs", "none", "--pairs", pairs, "--dry-run") == 2


def test_a_sentence_teacher_inside_the_output_folder_is_refused(tmp_path: Path, tiny_teacher: Path) -> None:
    shutil.copytree(tiny_teacher, tmp_path / "model")
    inside = str(tmp_path / "model")
    settings = Settings(
        str(tiny_teacher), tmp_path / "model", sentence_vectors=9, sentence_teacher=inside, texts=9, overwrite=True
    )
    with pytest.raises(InputError, match=r"--sentence-teacher .* lies in the --output folder"):
        settings.completed().check()


def test_pairs_inside_the_output_folder_are_refused(tmp_path: Path, pairs: Path) -> None:
    with pytest.raises(InputError, match=r"--pairs .* lies in the --output folder"):
        Settings(output=pairs.parent, pairs=(str(pairs),), overwrite=True).check()


def test_a_dry_run_says_what_training_would_take(
    tiny_teacher: Path, tmp_path: Path, pairs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--pairs", pairs, "--epochs", 2, "--tune", "rows", "--sentence-vectors", 50, "--dry-run")
    assert distil(tiny_teacher, tmp_path / "model", *flags) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "training: at most 1,200 pairs, vectors of 50 texts by" in said
    assert "3 steps of the map and 6 of the rows" in said
    assert distil(tiny_teacher, tmp_path / "model", "--pairs", "recommended", "--dry-run") == 0
    assert "training: at most 1,4" in " ".join(capsys.readouterr().err.split())  # and nothing was downloaded for it
    assert not (tmp_path / "model").exists()


def test_a_category_that_training_lowers_is_named(tiny_teacher: Path, caplog: pytest.LogCaptureFixture) -> None:
    vocabulary = static_vocabulary(find_teacher(str(tiny_teacher)).tokenizer())
    random = np.random.default_rng(0)
    good = random.normal(size=(len(vocabulary), 64)).astype(np.float32)  # words that are the same find each other
    bad = np.zeros_like(good)
    bad[:, 0] = 1 + 0.01 * random.random(len(good))  # all texts are alike
    for before, after, named in ((good, bad, True), (bad, good, False)):
        caplog.clear()
        effect = training_effect(before, after, vocabulary.tokenizer, calibration_folder())
        assert (effect["semantic_similarity"]["interval"][1] < 0) is named
        assert ("training lowers semantic similarity" in caplog.text) is named


def test_the_untrained_start_is_the_untrained_table(tiny_teacher: Path) -> None:
    from qwen25.distillation.recipe import recipe_named
    from qwen25.distillation.vectors import distil_vectors, training_start

    random = np.random.default_rng(0)
    states = [random.normal(size=(300, 20)).astype(np.float32) + layer for layer in range(2)]
    frequencies = np.full(300, 1 / 300)
    start = training_start(states, frequencies, recipe_named("default"), 16)
    expected = distil_vectors(states, frequencies, recipe_named("default"), 16)
    found = start.wide.astype(np.float32) @ start.projection * start.weights[:, None]
    np.testing.assert_allclose(found, expected, atol=2e-3)
