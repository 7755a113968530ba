"""A GGUF teacher is streamed layer by layer, with the same states as the whole model."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from teachers import states_of

from qwen25.runtime.errors import PipelineError
from qwen25.states.gguf_weights import GgufWeights, _gguf_name, _unpaired
from qwen25.states.jobs import frame_for
from qwen25.teacher.teacher import Teacher, find_teacher


@pytest.fixture(scope="module")
def packaged() -> Teacher:
    return find_teacher("smollm2-135m")


@pytest.mark.slow
def test_states_equal_the_whole_models(packaged: Teacher) -> None:
    ids = np.arange(1000, 1024)
    frame = frame_for(packaged, "\n")
    layers = [0, 3, packaged.layers]
    streamed = states_of(packaged, ids, frame, layers)
    model = packaged.load(torch.float32)
    inputs = torch.tensor([[*frame.prefix, int(i)] for i in ids])
    with torch.inference_mode():
        hidden = model(input_ids=inputs, output_hidden_states=True).hidden_states
    for layer in layers:
        whole = hidden[layer][:, -1].numpy()
        np.testing.assert_allclose(streamed[layer], whole, atol=1e-4 * float(np.abs(whole).max()))


def test_rotation_pairs_are_put_back() -> None:
    """GGUF's order of a llama head's rows is (0, half, 1, half + 1, ...), undone for each head."""
    rows = np.arange(8.0)[:, None]  # two heads of four rows
    stored = rows.reshape(2, 2, 2, 1).swapaxes(1, 2).reshape(8, 1)
    np.testing.assert_array_equal(_unpaired(stored, 2), rows)


@pytest.mark.parametrize(("packing", "heads"), [("F32", 0), ("F32", 3), ("Q8_K", 2)])
def test_what_cannot_be_unpacked_is_named(packing: str, heads: int) -> None:
    """A count of heads that does not divide the rows, or a packing that nothing here reads."""
    from gguf import GGMLQuantizationType

    name, data = "blk.0.attn_q.weight", np.zeros((8, 8), dtype=np.float32)
    weights = GgufWeights.__new__(GgufWeights)
    weights.name, weights._paired, weights.architecture = "tiny", True, SimpleNamespace(heads=heads)  # type: ignore[assignment]
    weights._tensors = {name: SimpleNamespace(name=name, data=data, tensor_type=GGMLQuantizationType[packing])}  # type: ignore[dict-item]
    with pytest.raises(PipelineError, match=rf"^teacher tiny: {name} cannot be unpacked \(.*\); fetch another file$"):
        weights._unpacked("layers.0.self_attn.q_proj.weight")


def test_names() -> None:
    assert _gguf_name("layers.12.self_attn.q_proj.bias") == "blk.12.attn_q.bias"
    assert _gguf_name("layers.0.post_attention_layernorm.weight") == "blk.0.ffn_norm.weight"
    assert _gguf_name("norm.weight") == "output_norm.weight"
