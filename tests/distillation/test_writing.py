"""What the teacher writes: its expected token counts, repeatable, resumable, and never a half batch."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from qwen25.distillation import writing
from qwen25.distillation.frequencies import teacher_frequencies, text_frequencies, zipf_frequencies
from qwen25.distillation.language import read_corpus
from qwen25.distillation.row_selection import first_merges
from qwen25.distillation.vocabulary import static_vocabulary
from qwen25.distillation.writing import TEXT_TOKENS, Written, _starts, _write_batch, discard_texts, write_texts
from qwen25.runtime import provenance
from qwen25.runtime.errors import InputError, PipelineError
from qwen25.states.checkpoint import Checkpointing
from qwen25.teacher.teacher import Teacher, find_teacher


@pytest.fixture
def teacher(tiny_teacher: Path, monkeypatch: pytest.MonkeyPatch) -> Teacher:
    monkeypatch.setattr(writing, "BATCH", 8)
    return find_teacher(str(tiny_teacher))


def test_counts_are_what_sampling_draws_in_the_long_run(teacher: Teacher) -> None:
    written = write_texts(teacher, 200, seed=1)
    assert written.texts.shape == (200, TEXT_TOKENS)
    assert written.counts.sum() == pytest.approx(written.texts.size)
    drawn = np.bincount(written.texts.ravel(), minlength=len(written.counts))
    # A token expected n times is drawn n times, give or take a few roots of n.
    assert (np.abs(drawn - written.counts) < 6 * np.sqrt(written.counts + 1)).all()


def test_the_first_step_is_the_models_own_distribution(teacher: Teacher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "TEXT_TOKENS", 1)
    starts = list(_starts(teacher, 8, "\n", 3))
    model = teacher.load(torch.float32, with_head=True)
    size = teacher.tokenizer().get_vocab_size()
    with torch.inference_mode():
        logits = model(torch.from_numpy(starts[0])).logits[:, -1, :size]
    expected = logits.softmax(-1).sum(0).numpy()
    np.testing.assert_allclose(write_texts(teacher, 8, seed=3).counts, expected, rtol=1e-4)


def test_every_other_batch_is_a_users_turn(teacher: Teacher) -> None:
    prose, turn = list(_starts(teacher, 16, "\n", 0))
    assert teacher.tokenizer().decode(turn[0].tolist(), skip_special_tokens=False) == "<|im_start|>user\n"
    assert len({tuple(row) for row in prose.tolist()}) > 1
    assert not set(prose[:, -1]) & set(teacher.tokenizer().get_added_tokens_decoder())


def test_same_seed_same_texts(teacher: Teacher) -> None:
    first, again, other = (write_texts(teacher, 16, seed=seed).texts for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_a_cut_off_run_goes_on_where_it_was(teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = write_texts(teacher, 24, seed=1)
    real, calls = _write_batch, []

    def cut_off(*args: object) -> Written:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(writing, "_write_batch", cut_off)
    with pytest.raises(KeyboardInterrupt):
        write_texts(teacher, 24, seed=1, checkpointing=Checkpointing(tmp_path / "texts"))
    resumed = write_texts(teacher, 24, seed=1, checkpointing=Checkpointing(tmp_path / "texts"))
    assert len(calls) == 4
    np.testing.assert_array_equal(resumed.texts, whole.texts)
    np.testing.assert_array_equal(resumed.counts, whole.counts)
    (tmp_path / "texts" / ".batch-00003.safetensors.1.tmp").write_text("half")  # of a run that was killed
    discard_texts(tmp_path / "texts")
    assert not (tmp_path / "texts").exists()


@pytest.mark.parametrize("damage", ["truncated", "other seed"])
def test_a_batch_that_is_not_this_runs_is_written_anew(teacher: Teacher, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "texts"
    write_texts(teacher, 8, seed=7 if damage == "other seed" else 1, checkpointing=Checkpointing(folder))
    if damage == "truncated":
        (folder / "batch-00000.safetensors").write_bytes(b"half")
    again = write_texts(teacher, 8, seed=1, checkpointing=Checkpointing(folder))
    np.testing.assert_array_equal(again.texts, write_texts(teacher, 8, seed=1).texts)


def test_a_full_disk_is_one_line(teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*_args: object, **_kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(provenance.os, "fsync", no_space)
    with pytest.raises(PipelineError, match="free some space"):
        write_texts(teacher, 8, checkpointing=Checkpointing(tmp_path))


def test_an_encoder_writes_nothing(teacher: Teacher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Teacher, "is_causal", False)
    with pytest.raises(InputError, match="--corpus"):
        write_texts(teacher, 8)


def test_frequencies_follow_the_counts(teacher: Teacher) -> None:
    vocabulary = static_vocabulary(teacher.tokenizer())
    counts = np.zeros(teacher.tokenizer().get_vocab_size())
    counts[[300, 301]] = 30.0, 10.0
    frequencies = teacher_frequencies(vocabulary, teacher.tokenizer(), counts)
    assert frequencies.sum() == pytest.approx(1)
    assert frequencies.argmax() == 300
    share = 0.1 * zipf_frequencies(len(vocabulary))
    assert frequencies[300] - share[300] == pytest.approx(0.9 * 0.75)
    np.testing.assert_allclose(frequencies[400:], share[400:])


def test_a_dropped_tokens_count_goes_to_its_pieces(teacher: Teacher) -> None:
    tokenizer = teacher.tokenizer()
    small = first_merges(static_vocabulary(tokenizer), 400)
    dropped = next(i for i in range(1000, 2000) if i not in small.teacher_ids)
    control = tokenizer.token_to_id("<|im_start|>")
    counts = np.zeros(tokenizer.get_vocab_size())
    counts[dropped], counts[control] = 5.0, 100.0
    frequencies = teacher_frequencies(small, tokenizer, counts)
    above = np.flatnonzero(frequencies > 0.1 * zipf_frequencies(len(small)) + 1e-9)
    assert (
        tokenizer.decode([dropped]).strip()
        == small.tokenizer.decode(small.tokenizer.encode(tokenizer.decode([dropped]).strip()).ids).strip()
    )
    pieces = {piece.id for piece in small.tokenizer.model.tokenize(tokenizer.id_to_token(dropped))}
    assert len(pieces) > 1 and set(above.tolist()) == pieces


def test_frequencies_of_a_corpus(teacher: Teacher) -> None:
    vocabulary = static_vocabulary(teacher.tokenizer())
    token = vocabulary.tokenizer.encode("the").ids[0]
    assert text_frequencies(vocabulary, ["the the the", "the"]).argmax() == token


def test_a_corpus_is_read_once(tmp_path: Path) -> None:
    """A pipe is empty behind its end: the hash is of what was read."""
    reading, end = os.pipe()
    os.write(end, b"one text\n\n  another\n")
    os.close(end)
    found = read_corpus(Path(f"/dev/fd/{reading}"))
    os.close(reading)
    assert found.texts == ["one text", "another"]
    assert found.sha256 == hashlib.sha256(b"one text\n\n  another\n").hexdigest()


@pytest.mark.parametrize("content", [b"", b"\n  \n", b"\xff\xfe\xfa", None])
def test_a_corpus_without_text_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "corpus.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match="corpus"):
        read_corpus(path)
