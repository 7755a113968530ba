"""Token states are those of transformers' plain forward pass, and an interrupted run goes on with the same bytes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from teachers import (
    CONFIGS,
    HIDDEN,
    LAYERS,
    PREFIX,
    PREFIX_IDS,
    VOCABULARY,
    WORDS,
    change,
    make_teacher,
    plain_states,
)
from teachers import teacher as teacher  # a fixture

from qwen25.runtime.errors import InputError, PipelineError
from qwen25.runtime.steps import StepCache
from qwen25.teacher import states
from qwen25.teacher.states import choose_device, dry_run_line, fast_dtype, token_states
from qwen25.teacher.teacher import Teacher

IDS = np.arange(VOCABULARY)
EVERY = range(LAYERS + 1)


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(states, "CPU_ROWS", 16)


@pytest.mark.parametrize("name", CONFIGS)
def test_states_are_those_of_the_whole_model(name: str, tmp_path: Path, small_batches: None) -> None:
    """Single tokens and words, with a prefix and without; an inner layer's state is the raw one."""
    teacher = make_teacher(tmp_path / name, name)
    for prefix, before in ((PREFIX, PREFIX_IDS), ("", [])):
        around = ([1], [2]) if name == "bert" else (before, [])
        for ids in (IDS[10:30], WORDS):
            plain = plain_states(teacher, [np.atleast_1d(word).tolist() for word in ids], *around)
            for wanted in (EVERY, [2], [0]):
                for layer, found in token_states(teacher, ids, wanted, prefix=prefix).items():
                    np.testing.assert_allclose(found, plain[layer], rtol=2e-4, atol=2e-4, err_msg=f"layer {layer}")
                    assert found.dtype == np.float32


def test_layers_behind_the_deepest_wanted_one_are_not_read(teacher: Teacher) -> None:
    change(teacher, up_proj=None)
    assert token_states(teacher, IDS, [1])[1].shape == (VOCABULARY, HIDDEN)
    with pytest.raises(PipelineError, match=r"lack .*layers\.1\.mlp\.up_proj\.weight"):
        token_states(teacher, IDS, [2])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_large_biases_and_numbers_of_a_state_survive_half_precision(teacher: Teacher, dtype: torch.dtype) -> None:
    """As in Qwen2.5, whose keys have biases of a hundred and whose states have numbers of thousands."""
    path = teacher.folder / "model.safetensors"
    weights = load_file(path)
    for name, tensor in weights.items():
        if name.endswith(("q_proj.bias", "k_proj.bias")):
            tensor.mul_(20)
    weights["model.embed_tokens.weight"][:, 3] = 1000.0
    save_file(weights, path)
    exact, half = (token_states(teacher, IDS, [0, 3], prefix=PREFIX, dtype=d) for d in (torch.float32, dtype))
    added, rounded = (found[3] - found[0] for found in (exact, half))
    error = np.linalg.norm(added - rounded, axis=1) / np.linalg.norm(added, axis=1)
    assert 0 < error.max() < 0.05


def test_only_what_is_asked_for_is_returned_and_a_subset_equals_the_whole(teacher: Teacher) -> None:
    whole = token_states(teacher, IDS, EVERY, prefix=PREFIX)
    some = token_states(teacher, np.array([40, 7, 7]), [2, 1, 2], prefix=PREFIX)
    assert list(some) == [1, 2]
    np.testing.assert_allclose(some[2], whole[2][[40, 7, 7]], rtol=1e-4, atol=1e-4)
    assert token_states(teacher, IDS[:0], [1])[1].shape == (0, HIDDEN)


def test_sharded_weights_and_a_table_stored_as_the_head(tmp_path: Path) -> None:
    sharded = make_teacher(tmp_path / "sharded", dtype=torch.bfloat16, max_shard_size="20KB")
    assert len(sharded.weight_files) > 2
    expected = token_states(sharded, IDS, EVERY, prefix=PREFIX)
    plain = plain_states(sharded, IDS[:, None].tolist(), PREFIX_IDS)
    np.testing.assert_allclose(expected[LAYERS], plain[LAYERS], rtol=2e-4, atol=2e-4)
    tensors = {name: tensor for path in sharded.weight_files for name, tensor in load_file(path).items()}
    tensors["lm_head.weight"] = tensors.pop("model.embed_tokens.weight")
    for path in [*sharded.weight_files, sharded.folder / "model.safetensors.index.json"]:
        path.unlink()
    save_file(tensors, sharded.folder / "model.safetensors", {"format": "pt"})
    found = token_states(Teacher("one", "folder", sharded.folder), IDS, EVERY, prefix=PREFIX)
    for layer in EVERY:
        np.testing.assert_array_equal(found[layer], expected[layer])


@pytest.mark.parametrize("root", ["model.language_model.", "language_model.model.", "language_model."])
def test_the_text_model_of_a_multimodal_one(root: str, tmp_path: Path) -> None:
    """Other weights have names that end as the text model's do."""
    plain = make_teacher(tmp_path / "plain", "gemma3")
    config = {"model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"]}
    config["text_config"] = json.loads((plain.folder / "config.json").read_text())
    tensors = load_file(plain.folder / "model.safetensors")
    tensors = {name.replace("model.", root, 1): tensor for name, tensor in tensors.items()}
    tensors |= {name.replace(root, "model.vision_tower.encoder."): tensor + 1 for name, tensor in tensors.items()}
    folder = Path(shutil.copytree(plain.folder, tmp_path / "multimodal"))
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    expected, found = (token_states(t, IDS, EVERY) for t in (plain, Teacher("many", "folder", folder)))
    for layer in EVERY:
        np.testing.assert_array_equal(found[layer], expected[layer])


class TestFaults:
    def test_a_tensor_of_the_wrong_shape_is_named(self, teacher: Teacher) -> None:
        change(teacher, up_proj=torch.zeros(41, HIDDEN))
        with pytest.raises(PipelineError, match=r"up_proj\.weight is of shape \(41, 24\), not \(40, 24\)"):
            token_states(teacher, IDS, [LAYERS])

    def test_not_a_number_is_reported_with_its_layer(self, teacher: Teacher, tmp_path: Path) -> None:
        change(teacher, down_proj=torch.full((HIDDEN, 40), torch.nan))
        token_states(teacher, IDS, [1])
        with pytest.raises(PipelineError, match=r"layer 4 gives NaN or infinity for 61 of 61 tokens.*--dtype float32"):
            token_states(teacher, IDS, [LAYERS], cache=StepCache(tmp_path / "cache"))

    def test_ids_without_an_embedding(self, teacher: Teacher) -> None:
        for ids in (np.array([3, VOCABULARY]), np.array([-1, 3]), [[3], [4, VOCABULARY]]):
            with pytest.raises(InputError, match="has no embedding"):
                token_states(teacher, ids, [LAYERS])


RUN_WORDS = [*([i] for i in range(40)), [5, 6], [7, 8, 9], [3]]


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[Teacher]:
    """Return the list that teachers go to as they are loaded."""
    loaded, real = [], Teacher.load

    def load(self: Teacher, *arguments: Any, **more: Any) -> Any:
        loaded.append(self)
        return real(self, *arguments, **more)

    monkeypatch.setattr(Teacher, "load", load)
    return loaded


def test_states_are_kept_once_all_are_there_and_are_the_same_bytes(
    teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loads: list[Teacher], small_batches: None
) -> None:
    undisturbed = token_states(teacher, RUN_WORDS, [0, 1, 3, 4], prefix="w5 w9")
    cache, real = StepCache(tmp_path / "cache"), states._put

    def full(room: np.ndarray, places: np.ndarray, rows: np.ndarray) -> None:
        if places[0] > 30:
            raise OSError(28, "No space left on device")
        real(room, places, rows)

    with monkeypatch.context() as patch, pytest.raises(PipelineError, match="free some space and run again"):
        patch.setattr(states, "_put", full)
        token_states(teacher, RUN_WORDS, [0, 1, 3, 4], prefix="w5 w9", cache=cache)
    del loads[:]
    first, again = (token_states(teacher, RUN_WORDS, [0, 1, 3, 4], prefix="w5 w9", cache=cache) for _ in range(2))
    assert len(loads) == 1  # the second time, nothing is left to be computed
    for layer, expected in undisturbed.items():
        assert first[layer].tobytes() == expected.tobytes() == again[layer].tobytes()
    with pytest.raises(ValueError, match="read-only"):  # a file that the next run relies on
        again[1][:] = 0.0
    cache.discard()
    assert first[4].tobytes() == again[4].tobytes() == undisturbed[4].tobytes()  # the mappings outlive their files


@pytest.mark.parametrize("other", ["weights", "prefix", "dtype", "tokens"])
def test_steps_of_another_run_are_not_used(other: str, teacher: Teacher, tmp_path: Path, loads: list[Teacher]) -> None:
    cache = StepCache(tmp_path / "cache")
    token_states(teacher, IDS, [0, 2], prefix=PREFIX, cache=cache)
    if other == "weights":
        teacher = make_teacher(tmp_path / "other", seed=1)
    ids, prefix = IDS[::-1].copy() if other == "tokens" else IDS, "w6" if other == "prefix" else PREFIX
    dtype = torch.float16 if other == "dtype" else torch.float32
    del loads[:]
    found = token_states(teacher, ids, [0, 2], prefix=prefix, dtype=dtype, cache=cache)
    assert len(loads) == 1
    np.testing.assert_array_equal(found[2], token_states(teacher, ids, [2], prefix=prefix, dtype=dtype)[2])


def test_the_dry_run_is_one_line(teacher: Teacher) -> None:
    line = dry_run_line(teacher, 1000, [0, 2], "cpu", torch.float32)
    assert line.startswith("token states: 1,000 tokens, layers 0, 2 of 4, cpu in float32: 0.") and "\n" not in line


@pytest.mark.parametrize(("layers", "share"), [([8], 8 / 32), ([32], 1)])
def test_the_dry_run_counts_the_layers_that_are_loaded(layers: list[int], share: float, tmp_path: Path) -> None:
    """The shapes of Mixtral-8x7B, and the parameters that its authors state; its experts are in float32."""
    teacher = make_teacher(tmp_path / "teacher", "mixtral")
    shapes = {"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32}
    shapes |= {"num_attention_heads": 32, "num_key_value_heads": 8, "num_local_experts": 8}
    (teacher.folder / "config.json").write_text(json.dumps({"model_type": "mixtral", **shapes}))
    line = dry_run_line(teacher, 1000, layers, "cpu", torch.bfloat16)
    gigabytes = float(line.split(" GB of memory")[0].split()[-1].replace(",", ""))
    assert gigabytes == pytest.approx(4 * 46.7 * share, rel=0.1)


def test_device_and_dtype_are_chosen_for_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == "cpu"
    with pytest.raises(InputError, match="--device cpu"):
        choose_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto") == "cuda"
    for built_in, fastest in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda found=built_in: found)
        assert fast_dtype("cpu") == fastest
