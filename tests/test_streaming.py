"""The states that are streamed layer by layer are those of the plain forward pass, whatever happens on the way."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM

from qwen25 import streaming
from qwen25.console import InputError, PipelineError
from qwen25.states import Frame, plan, token_states
from qwen25.teacher import Teacher

LAYERS = 4
VOCABULARY = 61
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
#: name -> model type and what its configuration has beside SIZES.
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen2": ("qwen2", {"tie_word_embeddings": True}),
    "qwen2-window": ("qwen2", {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 2}),
    "qwen3": ("qwen3", {"head_dim": 8, "tie_word_embeddings": False}),
    "llama": ("llama", {"tie_word_embeddings": True}),
    "llama-biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama3-rope": ("llama", {"rope_scaling": LLAMA3, "max_position_embeddings": 256}),
    "linear-rope": ("llama", {"rope_scaling": {"rope_type": "linear", "factor": 4.0}}),
    "mistral": ("mistral", {"head_dim": 6, "sliding_window": None}),
    "mistral-window": ("mistral", {"head_dim": 6, "sliding_window": 4}),
    "gemma3": (
        "gemma3_text",
        {"head_dim": 8, "query_pre_attn_scalar": 16, "sliding_window": 4, "sliding_window_pattern": 2},
    ),
}
PREFIX, SUFFIX = (5, 9, 5, 30, 2, 7), (3, 8)
WORDS = [[11], [4, 12, 13], [14, 15], [16], [17, 18, 19], [20, 21, 22]]


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    """Keep tiny products on one core."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_teacher(folder: Path, name: str = "qwen2", seed: int = 0, **save: Any) -> Teacher:
    """Write a teacher with random weights, norms and biases included, and return it."""
    kind, more = CONFIGS[name]
    if kind not in CONFIG_MAPPING:
        pytest.skip(f"this transformers does not know {kind}")
    config = AutoConfig.for_model(kind, **SIZES, **copy.deepcopy(more))
    if name == "qwen2-window" and not hasattr(config, "layer_types"):
        pytest.skip("this transformers puts the window on layers that have none")
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.normal_(std=0.3)
            if "norm" in name and "gemma" not in kind:
                weight.add_(1.0)
    model.to(save.pop("dtype", torch.float32)).save_pretrained(folder, **save)
    return Teacher(folder.name, "folder", folder)


@pytest.fixture
def teacher(tmp_path: Path) -> Teacher:
    """Return a tiny Qwen2 teacher."""
    return make_teacher(tmp_path / "teacher")


def plain_states(
    teacher: Teacher, words: Any, prefix: tuple[int, ...], suffix: tuple[int, ...], at: str
) -> list[np.ndarray]:
    """Compute every layer's states, one sequence at a time, with the whole model."""
    model = AutoModelForCausalLM.from_pretrained(teacher.folder).float().eval()
    rows: list[list[np.ndarray]] = []
    for word in words:
        ids = [*prefix, *word, *suffix]
        with torch.inference_mode():
            hidden = model(input_ids=torch.tensor([ids]), output_hidden_states=True, use_cache=False).hidden_states
        position = len(ids) - 1 if at == "last" else len(prefix) + len(word) - 1
        rows.append([state[0, position].numpy() for state in hidden])
    return [np.stack([row[layer] for row in rows]) for layer in range(len(rows[0]))]


def check(teacher: Teacher, words: Any, frame: Frame, at: str = "token", **options: Any) -> dict[int, np.ndarray]:
    """Compare all layers' streamed states with the whole model's."""
    ids = words if isinstance(words, list) else np.asarray(words)
    assert plan(teacher, ids, frame, [LAYERS], at=at).streams  # type: ignore[arg-type]
    states = token_states(teacher, ids, frame, range(LAYERS + 1), at=at, **options)  # type: ignore[arg-type]
    plain = plain_states(teacher, [np.atleast_1d(word).tolist() for word in words], frame.prefix, frame.suffix, at)
    for layer, expected in enumerate(plain):
        np.testing.assert_allclose(states[layer], expected, rtol=2e-4, atol=2e-4, err_msg=f"layer {layer}")
        assert states[layer].dtype == np.float32
    return states


@pytest.mark.parametrize("name", CONFIGS)
def test_states_are_those_of_the_plain_forward_pass(name: str, tmp_path: Path) -> None:
    teacher = make_teacher(tmp_path / name, name)
    check(teacher, np.arange(VOCABULARY), Frame())
    check(teacher, np.arange(10, 20), Frame(PREFIX), batch_size=3)
    check(teacher, np.arange(10, 20), Frame(PREFIX[:1]))
    check(teacher, np.arange(10, 20), Frame(PREFIX, SUFFIX), at="last")
    check(teacher, np.arange(10, 20), Frame((), SUFFIX), at="last", batch_size=4)
    check(teacher, WORDS, Frame(PREFIX, SUFFIX), batch_size=2)
    check(teacher, WORDS, Frame(PREFIX, SUFFIX), at="last")


def test_bfloat16_weights_in_shards_with_an_index_are_computed_in_float32(tmp_path: Path) -> None:
    teacher = make_teacher(tmp_path / "sharded", dtype=torch.bfloat16, max_shard_size="20KB")
    assert (teacher.folder / "model.safetensors.index.json").exists()
    assert len(teacher.weight_files) > 2
    check(teacher, np.arange(VOCABULARY), Frame(PREFIX))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_near_float32(teacher: Teacher, dtype: torch.dtype) -> None:
    exact = token_states(teacher, np.arange(VOCABULARY), Frame(PREFIX), [LAYERS])[LAYERS]
    half = token_states(teacher, np.arange(VOCABULARY), Frame(PREFIX), [LAYERS], dtype=dtype)[LAYERS]
    cosine = (exact * half).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(half, axis=1)
    assert half.dtype == np.float32
    assert cosine.min() > 0.98


@pytest.mark.parametrize("root", ["", "model.language_model.", "language_model.model."])
def test_tensor_names_may_start_in_any_of_the_usual_ways(root: str, teacher: Teacher) -> None:
    expected = token_states(teacher, np.arange(9), Frame(PREFIX), [LAYERS])[LAYERS]
    path = teacher.folder / "model.safetensors"
    save_file({root + name.removeprefix("model."): t for name, t in load_file(path).items()}, path)
    np.testing.assert_array_equal(token_states(teacher, np.arange(9), Frame(PREFIX), [LAYERS])[LAYERS], expected)


def test_a_tied_table_may_be_stored_as_the_head_and_be_longer_than_the_vocabulary(teacher: Teacher) -> None:
    expected = token_states(teacher, np.arange(9), Frame(PREFIX), [0, LAYERS])
    path = teacher.folder / "model.safetensors"
    tensors = load_file(path)
    table = tensors.pop("model.embed_tokens.weight")
    save_file({**tensors, "lm_head.weight": torch.cat([table, torch.zeros(7, table.shape[1])])}, path)
    found = token_states(teacher, np.arange(9), Frame(PREFIX), [0, LAYERS])
    np.testing.assert_array_equal(found[LAYERS], expected[LAYERS])
    np.testing.assert_array_equal(found[0], expected[0])


def test_only_what_is_asked_for_is_returned_and_a_subset_equals_the_whole(teacher: Teacher) -> None:
    whole = check(teacher, np.arange(VOCABULARY), Frame(PREFIX))
    some = token_states(teacher, np.array([40, 7, 7]), Frame(PREFIX), [2, 1, 2])
    assert sorted(some) == [1, 2]
    np.testing.assert_allclose(some[2], whole[2][[40, 7, 7]], rtol=1e-4, atol=1e-4)
    assert token_states(teacher, np.array([], dtype=np.int64), Frame(), [1])[1].shape == (0, 24)


def test_a_shared_prefix_gives_what_repeating_it_in_every_sequence_gives(teacher: Teacher) -> None:
    shared = token_states(teacher, np.arange(20), Frame(PREFIX), [LAYERS])[LAYERS]
    repeated = token_states(teacher, [[*PREFIX, i] for i in range(20)], Frame(), [LAYERS])[LAYERS]
    np.testing.assert_allclose(shared, repeated, rtol=1e-4, atol=1e-4)


def test_a_suffix_changes_nothing_at_the_token_itself(teacher: Teacher) -> None:
    without = token_states(teacher, np.arange(20), Frame(PREFIX), [LAYERS])[LAYERS]
    before = token_states(teacher, np.arange(20), Frame(PREFIX, SUFFIX), [LAYERS])[LAYERS]
    behind = token_states(teacher, np.arange(20), Frame(PREFIX, SUFFIX), [LAYERS], at="last")[LAYERS]
    np.testing.assert_array_equal(before, without)
    assert not np.allclose(behind, without, atol=0.1)


def test_more_than_fits_in_memory_goes_in_waves(teacher: Teacher, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = token_states(teacher, WORDS * 5, Frame(PREFIX, SUFFIX), [0, 2, LAYERS], at="last")
    monkeypatch.setattr(streaming, "WAVE_BYTES", 24 * 4 * 11)
    waves = token_states(teacher, WORDS * 5, Frame(PREFIX, SUFFIX), [0, 2, LAYERS], at="last")
    for layer, array in expected.items():
        np.testing.assert_allclose(waves[layer], array, rtol=1e-4, atol=1e-4)


# --- what goes wrong -----------------------------------------------------------------------------


def out_of_memory_above(limit: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Have layers that get more than ``limit`` sequences run out of memory; return the sizes that were tried."""
    tried, real = [], streaming.layer_forward

    def forward(layer: Any, shape: Any, x: torch.Tensor, *args: Any, **options: Any) -> Any:
        if not options.get("keep"):
            tried.append(len(x))
            if len(x) > limit:
                raise torch.cuda.OutOfMemoryError("no room")
        return real(layer, shape, x, *args, **options)

    monkeypatch.setattr(streaming, "layer_forward", forward)
    monkeypatch.setattr(streaming, "_probe", lambda *_: 1.0)
    return tried


def test_running_out_of_gpu_memory_halves_the_batch(teacher: Teacher, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = token_states(teacher, np.arange(VOCABULARY), Frame(PREFIX), [1, LAYERS])
    tried = out_of_memory_above(9, monkeypatch)
    found = token_states(teacher, np.arange(VOCABULARY), Frame(PREFIX), [1, LAYERS])
    assert tried[:4] == [61, 30, 15, 7]
    assert set(tried[4:]) == {7, 61 % 7}
    for layer in (1, LAYERS):
        np.testing.assert_allclose(found[layer], expected[layer], rtol=1e-4, atol=1e-4)


def test_one_token_that_does_not_fit_says_how_to_go_on(teacher: Teacher, monkeypatch: pytest.MonkeyPatch) -> None:
    out_of_memory_above(0, monkeypatch)
    with pytest.raises(PipelineError, match="--device cpu"):
        token_states(teacher, np.arange(5), Frame(), [LAYERS])


def change(teacher: Teacher, **tensors: torch.Tensor | None) -> None:
    """Replace (or, with None, remove) tensors of layer 1's MLP."""
    path = teacher.folder / "model.safetensors"
    found: dict[str, Any] = load_file(path)
    for name, tensor in tensors.items():
        found[f"model.layers.1.mlp.{name}.weight"] = tensor
    save_file({name: t for name, t in found.items() if t is not None}, path)


def test_not_a_number_is_reported_with_its_layer(teacher: Teacher) -> None:
    change(teacher, down_proj=torch.full((24, 40), torch.nan))
    token_states(teacher, np.arange(5), Frame(PREFIX), [1])
    with pytest.raises(PipelineError, match=r"layer 2 gives NaN or infinity for 5 tokens.*float32"):
        token_states(teacher, np.arange(5), Frame(PREFIX), [LAYERS])


def test_a_missing_tensor_is_named(teacher: Teacher) -> None:
    change(teacher, up_proj=None)
    with pytest.raises(PipelineError, match=r"lack model\.layers\.1\.mlp\.up_proj\.weight"):
        token_states(teacher, np.arange(5), Frame(), [LAYERS])


def test_a_tensor_of_the_wrong_shape_is_named(teacher: Teacher) -> None:
    change(teacher, up_proj=torch.zeros(41, 24))
    with pytest.raises(PipelineError, match=r"up_proj\.weight is of shape \(41, 24\), not \(40, 24\)"):
        token_states(teacher, np.arange(5), Frame(), [LAYERS])


def test_a_truncated_shard_and_a_missing_one_are_named(tmp_path: Path) -> None:
    teacher = make_teacher(tmp_path / "sharded", max_shard_size="20KB")
    last = teacher.weight_files[-1]
    whole = last.read_bytes()
    last.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PipelineError, match=rf"{last.name} cannot be read .* download it again"):
        token_states(teacher, np.arange(5), Frame(), [LAYERS])
    last.unlink()
    with pytest.raises(PipelineError, match=rf"{last.name} is missing"):
        token_states(teacher, np.arange(5), Frame(), [LAYERS])


@pytest.mark.parametrize("ids", [np.array([3, VOCABULARY]), np.array([-1, 3]), [[3], [4, VOCABULARY]]])
def test_a_token_without_an_embedding_is_refused(ids: Any, teacher: Teacher) -> None:
    with pytest.raises(InputError, match="has no embedding"):
        token_states(teacher, ids, Frame(), [LAYERS])


# --- checkpoints ---------------------------------------------------------------------------------

IDS = np.arange(VOCABULARY)

RUN = """
import os, signal, sys
from pathlib import Path
import numpy as np, torch
from qwen25 import streaming
from qwen25.states import Frame, token_states
from qwen25.teacher import Teacher

torch.set_num_threads(1)
teacher, folder, moment = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
streaming.CHECKPOINT_SHARE = float("inf")  # after every layer
saved, calls = 0, {"computing": 0}
real_save, real_json, real_forward = streaming.Checkpoint.save, streaming.write_json, streaming.layer_forward

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def save(self, *args):
    global saved
    real_save(self, *args)
    saved += 1
    if moment == "after a save" and saved == 2:
        die()

def write_json(*args):
    if moment == "before the manifest" and saved == 2:
        die()
    real_json(*args)

def forward(*args, **options):
    if moment == "within a layer" and saved == 2 and not options.get("keep"):
        calls["computing"] += 1
        if calls["computing"] == 3:
            die()
    return real_forward(*args, **options)

streaming.Checkpoint.save, streaming.write_json, streaming.layer_forward = save, write_json, forward
token_states(Teacher("t", "folder", teacher), np.arange(61), Frame((5, 9, 5)), [0, 1, 3, 4], batch_size=16,
             checkpoint=folder, weights_hash="w")
"""


def states_with(teacher: Teacher, folder: Path | None, **options: Any) -> dict[int, np.ndarray]:
    """Compute what RUN computes."""
    options = {"batch_size": 16, "weights_hash": "w", **options}
    return token_states(teacher, IDS, Frame((5, 9, 5)), [0, 1, 3, 4], checkpoint=folder, **options)


@pytest.fixture
def every_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Save after every layer."""
    monkeypatch.setattr(streaming, "CHECKPOINT_SHARE", float("inf"))


def layers_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the list that the layers' numbers go to as they are read for computing."""
    read: list[int] = []
    real = streaming._Prefetch._load

    def load(self: Any, index: int) -> Any:
        read.append(index)
        return real(self, index)

    monkeypatch.setattr(streaming._Prefetch, "_load", load)
    return read


def cut_off(teacher: Teacher, folder: Path, monkeypatch: pytest.MonkeyPatch, layer: int = 2) -> None:
    """Leave the checkpoint of a run that failed in ``layer``."""
    real = streaming._Prefetch._load

    def load(self: Any, index: int) -> Any:
        if index == layer:
            raise PipelineError("cut off")
        return real(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(streaming._Prefetch, "_load", load)
        with pytest.raises(PipelineError, match="cut off"):
            states_with(teacher, folder)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize("moment", ["after a save", "before the manifest", "within a layer"])
def test_a_killed_run_goes_on_and_gives_the_same_bytes(
    moment: str, teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every_layer: None
) -> None:
    undisturbed = states_with(teacher, None)
    folder = tmp_path / "checkpoint"
    path = os.pathsep.join([str(Path(streaming.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-c", RUN, str(teacher.folder), str(folder), moment]
    killed = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    read = layers_read(monkeypatch)
    resumed = states_with(teacher, folder)
    assert read == [2, 3]  # two layers had been saved, whatever came after
    for layer, expected in undisturbed.items():
        assert resumed[layer].tobytes() == expected.tobytes()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_run_in_waves_goes_on_within_its_wave(
    dtype: torch.dtype, teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every_layer: None
) -> None:
    monkeypatch.setattr(streaming, "WAVE_BYTES", 24 * dtype.itemsize * 25)  # three waves of up to 25 positions
    options: dict[str, Any] = {"at": "last", "dtype": dtype, "weights_hash": "w", "batch_size": 4}
    run = lambda folder: token_states(teacher, WORDS * 3, Frame(PREFIX, SUFFIX), [1, 4], checkpoint=folder, **options)  # noqa: E731
    undisturbed = run(None)
    real, count = streaming._Prefetch.next, 0

    def fail(self: Any) -> Any:
        nonlocal count
        count += 1
        if count == 7:
            raise PipelineError("cut off")
        return real(self)

    with monkeypatch.context() as patch:
        patch.setattr(streaming._Prefetch, "next", fail)
        with pytest.raises(PipelineError, match="cut off"):
            run(tmp_path / "checkpoint")
    read = layers_read(monkeypatch)
    resumed = run(tmp_path / "checkpoint")
    assert read[:3] == [2, 3, 0]
    for layer, expected in undisturbed.items():
        assert resumed[layer].tobytes() == expected.tobytes()


def test_a_finished_checkpoint_is_read_back_until_it_is_discarded(
    teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every_layer: None
) -> None:
    folder = tmp_path / "checkpoint"
    first = states_with(teacher, folder)
    read = layers_read(monkeypatch)
    again = states_with(teacher, folder)
    assert read == []
    first[1][:] = 0.0  # the caller's changes are its own
    np.testing.assert_array_equal(states_with(teacher, folder)[1], again[1])
    (folder / "notes.txt").write_text("not ours")
    streaming.discard_checkpoint(folder)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    np.testing.assert_array_equal(again[4], states_with(teacher, None)[4])  # the mapping outlives its file


def test_resume_false_starts_anew(
    teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every_layer: None
) -> None:
    cut_off(teacher, tmp_path / "checkpoint", monkeypatch)
    read = layers_read(monkeypatch)
    states_with(teacher, tmp_path / "checkpoint", resume=False)
    assert read == [0, 1, 2, 3]


@pytest.mark.parametrize("options", [{"weights_hash": "other"}, {"dtype": torch.float16}, {"batch_size": 7}])
def test_a_checkpoint_of_another_run_is_discarded(
    options: dict[str, Any],
    teacher: Teacher,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    every_layer: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = tmp_path / "checkpoint"
    cut_off(teacher, folder, monkeypatch)
    read = layers_read(monkeypatch)
    with caplog.at_level("INFO", logger="qwen25"):
        found = states_with(teacher, folder, **options)
    assert read == [0, 1, 2, 3]
    assert sum("of another teacher or of other settings; starting anew" in line for line in caplog.messages) == 1
    np.testing.assert_array_equal(found[4], states_with(teacher, None, **options)[4])


@pytest.mark.parametrize("damage", ["states", "layer", "manifest", "manifest type"])
def test_a_damaged_checkpoint_is_discarded(
    damage: str,
    teacher: Teacher,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    every_layer: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = tmp_path / "checkpoint"
    cut_off(teacher, folder, monkeypatch)
    if damage == "manifest type":
        (folder / "manifest.json").write_text("[1]")
    else:
        (path,) = list(folder.glob({"states": "states-*.npy", "layer": "layer-3.npy"}.get(damage, "manifest.json")))
        path.write_bytes(path.read_bytes()[:-9])
    read = layers_read(monkeypatch)
    with caplog.at_level("INFO", logger="qwen25"):
        found = states_with(teacher, folder)
    assert read == [0, 1, 2, 3]
    assert sum("starting anew" in line for line in caplog.messages) == 1
    np.testing.assert_array_equal(found[4], states_with(teacher, None)[4])


def test_too_little_disk_is_said_before_the_work_starts(
    teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(streaming.shutil, "disk_usage", lambda _: usage)
    needed = plan(teacher, IDS, Frame(), [1, 4], checkpoint=tmp_path / "checkpoint").disk_bytes
    assert needed == 2 * IDS.size * 24 * 4 + 2 * IDS.size * 24 * 4
    with pytest.raises(PipelineError, match=f"need {needed:,} bytes .* run without checkpoints"):
        token_states(teacher, IDS, Frame(), [1, 4], checkpoint=tmp_path / "checkpoint", weights_hash="w")
    assert not (tmp_path / "checkpoint").exists()


def test_a_full_disk_keeps_the_last_checkpoint(
    teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every_layer: None
) -> None:
    folder = tmp_path / "checkpoint"
    real, calls = os.fsync, 0

    def fsync(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 20:
            raise OSError(28, "No space left on device")
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(streaming.os, "fsync", fsync)
        with pytest.raises(PipelineError, match="No space left on device; free some space and run again"):
            states_with(teacher, folder)
    at = json.loads((folder / "manifest.json").read_text())["layer"]
    read = layers_read(monkeypatch)
    found = states_with(teacher, folder)
    assert at > 0
    assert read == list(range(at, LAYERS))
    np.testing.assert_array_equal(found[4], states_with(teacher, None)[4])
