"""A GGUF teacher is streamed layer by layer, with the same states as the whole model."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from teachers import states_of

from qwen25.runtime.errors import PipelineError
from qwen25.states.gguf_weights import GgufWeights, PackedTensor, _gguf_name, _unpaired
from qwen25.states.jobs import Frame, frame_for
from qwen25.teacher.teacher import Teacher, find_teacher


@pytest.fixture(scope="module")
def packaged() -> Teacher:
    return find_teacher("smollm2-135m")


def whole_states(teacher: Teacher, ids: np.ndarray, frame: Frame) -> list[np.ndarray]:
    """Compute all layers' states with the model as transformers unpacks it."""
    model = teacher.load(torch.float32)
    inputs = torch.tensor([[*frame.prefix, int(i)] for i in ids])
    with torch.inference_mode():
        hidden = model(input_ids=inputs, output_hidden_states=True).hidden_states
    return [state[:, -1].numpy() for state in hidden]


@pytest.mark.slow
def test_states_equal_the_whole_models(packaged: Teacher) -> None:
    ids = np.arange(1000, 1024)
    frame = frame_for(packaged, "\n")
    layers = [0, 3, packaged.layers]
    streamed = states_of(packaged, ids, frame, layers)
    whole = whole_states(packaged, ids, frame)
    for layer in layers:
        np.testing.assert_allclose(streamed[layer], whole[layer], atol=1e-4 * float(np.abs(whole[layer]).max()))


#: What a Qwen2.5 file at q4_k_m holds, in places where all four matter.
PACKINGS = {
    "token_embd": "Q8_0",
    "attn_q": "Q4_K",
    "attn_k": "Q5_0",
    "attn_v": "Q6_K",
    "attn_output": "Q4_K",
    "ffn_gate": "Q5_0",
    "ffn_up": "Q8_0",
    "ffn_down": "Q6_K",
}
WIDTH, ROWS = 256, 96


def packed(kind: str, rows: int, generator: np.random.Generator) -> np.ndarray:
    """Return random packed rows of ``WIDTH`` weights of about the size of a trained model's."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
    from gguf.quants import quantize

    packing = GGMLQuantizationType[kind]
    if kind in ("Q5_0", "Q8_0"):
        return quantize(generator.normal(size=(rows, WIDTH), scale=0.05).astype(np.float32), packing)
    # gguf cannot pack these: any bytes are a block, once its scales are sensible numbers.
    block, size = GGML_QUANT_SIZES[packing]
    blocks = generator.integers(0, 256, (rows * WIDTH // block, size), dtype=np.uint8)
    scales = {"Q4_K": (slice(0, 4), [2e-4, 1e-3]), "Q6_K": (slice(208, 210), [2e-5])}
    where, values = scales[kind]
    blocks[:, where] = np.array(values, dtype=np.float16).view(np.uint8)
    return blocks.reshape(rows, -1)


@pytest.fixture(scope="module")
def quantised(tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    """A Qwen2 teacher of two layers, each of its matrices packed in one of the four ways."""
    from gguf import GGMLQuantizationType, GGUFWriter

    path, generator = tmp_path_factory.mktemp("gguf") / "tiny.gguf", np.random.default_rng(0)
    writer = GGUFWriter(path, "qwen2")
    writer.add_block_count(2)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(WIDTH)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    writer.add_context_length(512)
    writer.add_vocab_size(ROWS)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([f"t{i}" for i in range(ROWS)])
    writer.add_token_types([1] * ROWS)
    writer.add_token_merges(["t 0"])

    def add(name: str, rows: int) -> None:
        packing = PACKINGS[name.split(".")[-1]]
        writer.add_tensor(f"{name}.weight", packed(packing, rows, generator), raw_dtype=GGMLQuantizationType[packing])

    def add_plain(name: str, size: int, mean: float) -> None:
        writer.add_tensor(name, generator.normal(mean, 0.1, size).astype(np.float32))

    add("token_embd", ROWS)
    add_plain("output_norm.weight", WIDTH, 1.0)
    for layer in range(2):
        for name, rows in (("attn_q", WIDTH), ("attn_k", WIDTH // 2), ("attn_v", WIDTH // 2)):
            add(f"blk.{layer}.{name}", rows)
            add_plain(f"blk.{layer}.{name}.bias", rows, 0.0)
        for name in ("attn_output", "ffn_gate", "ffn_up", "ffn_down"):
            add(f"blk.{layer}.{name}", WIDTH)
        for name in ("attn_norm", "ffn_norm"):
            add_plain(f"blk.{layer}.{name}.weight", WIDTH, 1.0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return find_teacher(str(path))


@pytest.mark.parametrize("prefix", [(5, 9), ()], ids=["behind a prefix", "alone"])
def test_every_packing_of_a_qwen_file_is_unpacked_as_transformers_does(
    quantised: Teacher, prefix: tuple[int, ...]
) -> None:
    frame, ids = Frame(prefix), np.arange(ROWS)
    streamed = states_of(quantised, ids, frame, [0, 1, 2])
    for layer, whole in enumerate(whole_states(quantised, ids, frame)):
        np.testing.assert_allclose(streamed[layer], whole, atol=1e-5 * float(np.abs(whole).max()))


@pytest.mark.skipif(not os.environ.get("QWEN25_TEST_GGUF"), reason="QWEN25_TEST_GGUF names no GGUF file of a Qwen2.5")
def test_states_of_a_real_file_equal_the_whole_models() -> None:
    teacher = find_teacher(os.environ["QWEN25_TEST_GGUF"])
    frame, ids = frame_for(teacher, "\n"), np.arange(1000, 1024)
    layers = [0, teacher.layers // 4, teacher.layers]
    streamed, whole = states_of(teacher, ids, frame, layers), whole_states(teacher, ids, frame)
    for layer in layers:
        np.testing.assert_allclose(streamed[layer], whole[layer], atol=1e-4 * float(np.abs(whole[layer]).max()))


def test_only_the_rows_asked_for_are_unpacked(quantised: Teacher) -> None:
    table = GgufWeights(quantised).embedding_table()
    whole = table[torch.arange(ROWS)]
    assert (len(table), whole.shape) == (ROWS, (ROWS, WIDTH))
    ids = torch.tensor([[7, 3], [90, 7]])
    assert torch.equal(table[ids], whole[ids])


def test_rotation_pairs_are_put_back() -> None:
    """GGUF's order of a llama head's rows is (0, half, 1, half + 1, ...), undone for each head."""
    rows = np.arange(8.0)[:, None]  # two heads of four rows
    stored = rows.reshape(2, 2, 2, 1).swapaxes(1, 2).reshape(8, 1)
    np.testing.assert_array_equal(_unpaired(stored, 2), rows)


@pytest.mark.parametrize(("packing", "heads"), [("F32", 0), ("F32", 3), ("Q8_K", 2)])
def test_what_cannot_be_unpacked_is_named(packing: str, heads: int, tmp_path: Path) -> None:
    """A count of heads that does not divide the rows, or a packing that nothing here reads."""
    from gguf import GGMLQuantizationType

    name, path, data = "blk.0.attn_q.weight", tmp_path / "tiny.gguf", np.zeros((8, 8), dtype=np.float32)
    path.write_bytes(data.tobytes())
    weights = GgufWeights.__new__(GgufWeights)
    weights.name, weights._paired, weights.architecture = "tiny", True, SimpleNamespace(heads=heads)  # type: ignore[assignment]
    weights._tensors = {name: PackedTensor(name, path, 0, data.shape, data.dtype, GGMLQuantizationType[packing])}
    with pytest.raises(PipelineError, match=rf"^teacher tiny: {name} cannot be unpacked \(.*\); fetch another file$"):
        weights._unpacked("layers.0.self_attn.q_proj.weight")


def test_names() -> None:
    assert _gguf_name("layers.12.self_attn.q_proj.bias") == "blk.12.attn_q.bias"
    assert _gguf_name("layers.0.post_attention_layernorm.weight") == "blk.0.ffn_norm.weight"
    assert _gguf_name("norm.weight") == "output_norm.weight"
