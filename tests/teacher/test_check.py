"""Teachers' folders as people have them: read by what they are, or refused in one line that says what to do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel

from qwen25.runtime.errors import InputError, PipelineError
from qwen25.states.architecture import architecture_of
from qwen25.teacher.teacher import find_teacher


@pytest.fixture
def folder(tiny_teacher: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_teacher, tmp_path / "teacher"))


def configure(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    "names", [["Qwen2Model"], ["Qwen2ForCausalLM"], ["Qwen2ForSequenceClassification"], ["MyOwnHead"], None]
)
def test_a_decoder_is_one_whatever_its_head_is_called(folder: Path, names: list[str] | None) -> None:
    configure(folder, architectures=names)
    assert find_teacher(str(folder)).is_causal


@pytest.mark.parametrize(
    ("values", "causal"),
    [
        ({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}, True),
        ({"model_type": "gpt2", "architectures": ["GPT2Model"]}, True),
        ({"model_type": "bert", "architectures": ["BertForMaskedLM"]}, False),
        ({"model_type": "bert", "architectures": ["BertLMHeadModel"], "is_decoder": True}, True),
        ({"model_type": "modernbert", "architectures": ["ModernBertForMaskedLM"]}, False),
        ({"model_type": "gemma3_text", "architectures": ["Gemma3TextModel"]}, True),
        ({"model_type": "gemma3_text", "use_bidirectional_attention": True}, False),
        ({"model_type": "qwen2", "is_causal": False, "architectures": ["Qwen2Model"]}, False),
    ],
)
def test_by_type_and_configuration(folder: Path, values: dict[str, Any], causal: bool) -> None:
    (folder / "config.json").write_text(json.dumps(values))
    assert find_teacher(str(folder)).is_causal is causal


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"model_type": "t5", "is_encoder_decoder": True}, r"is an encoder-decoder \(t5\)"),
        ({"model_type": "t5", "is_encoder_decoder": False}, r"is an encoder-decoder \(t5\)"),  # T5EncoderModel
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, r"is quantised \(gptq\): take the unquantised"),
        ({"quantization_config": {"quant_method": "awq"}}, r"is quantised \(awq\)"),
        ({"quantization_config": {"quant_method": "fp8"}}, r"is quantised \(fp8\)"),
        ({"quantization_config": {}, "compression_config": {"format": "int"}}, r"is quantised \(unknown method\)"),
    ],
)
def test_refused_by_the_configuration(folder: Path, values: dict[str, Any], reason: str) -> None:
    configure(folder, **values)
    with pytest.raises(InputError, match=reason):
        find_teacher(str(folder))


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("model.layers.0.mlp.up_proj.weight", torch.zeros(2, 2).to(torch.float8_e4m3fn)),
        ("model.layers.0.mlp.up_proj.weight_scale_inv", torch.ones(2)),
        ("model.layers.0.mlp.up_proj.qweight", torch.ones(2, dtype=torch.int32)),
    ],
)
def test_quantised_weights_that_no_configuration_tells_of(folder: Path, name: str, tensor: torch.Tensor) -> None:
    path = folder / "model.safetensors"
    save_file({**load_file(path), name: tensor}, path)
    with pytest.raises(InputError, match=r"is quantised .*take the unquantised"):
        find_teacher(str(folder))


@pytest.mark.parametrize("base", [True, False])
def test_an_adapter_that_is_not_merged(folder: Path, base: bool) -> None:
    (folder / "adapter_config.json").write_text("{}")
    if not base:
        (folder / "config.json").unlink()
    with pytest.raises(InputError, match="merge it first"):
        find_teacher(str(folder))


def test_a_folder_of_gguf_files(tmp_path: Path) -> None:
    (tmp_path / "model-Q4_K_M.gguf").write_bytes(b"")
    with pytest.raises(InputError, match=r"no config.json; give one of its GGUF files, such as model-Q4_K_M\.gguf"):
        find_teacher(str(tmp_path))


def test_a_folder_named_like_a_file(folder: Path) -> None:
    renamed = folder.rename(folder.with_name("v1.gguf"))
    assert find_teacher(str(renamed)).origin == "folder"


@pytest.mark.parametrize("heads", [(4, 3), (5, 2), (4, 0)])
def test_heads_that_cannot_share_their_keys(folder: Path, heads: tuple[int, int]) -> None:
    configure(folder, num_attention_heads=heads[0], num_key_value_heads=heads[1])
    with pytest.raises(InputError, match=r"contradicts itself \(\d attention heads cannot share \d key-value heads\)"):
        _ = find_teacher(str(folder)).config


def test_heads_that_cannot_be_turned(folder: Path) -> None:
    configure(folder, head_dim=7)
    teacher = find_teacher(str(folder))
    with pytest.raises(InputError, match="heads of 7 numbers cannot be turned in pairs"):
        architecture_of(teacher.name, teacher.config)


def test_weights_that_are_not_of_the_configured_shape(tmp_path: Path) -> None:
    """Of a model that is loaded whole, too, the line names the weight."""
    config = GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=2)
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    configure(tmp_path, n_embd=24)
    with pytest.raises(PipelineError, match=r"bias is of shape \(48,\), not \(72,\) as its configuration says"):
        find_teacher(str(tmp_path)).load(torch.float32)
