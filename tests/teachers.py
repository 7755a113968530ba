"""Tiny teachers: all architectures that are streamed, with the whole model's states; and embedding models."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors
from transformers import CONFIG_MAPPING, AutoConfig, AutoModel, AutoModelForCausalLM, PreTrainedTokenizerFast

from qwen25.states.checkpoint import Checkpointing
from qwen25.states.device import Computing
from qwen25.states.jobs import Frame
from qwen25.states.token_states import token_states
from qwen25.teacher.teacher import Teacher

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
#: name -> model type and pooling of an embedding model; the last one has two dense layers behind it.
EMBEDDERS = {
    "bert-mean": ("bert", "mean"),
    "bert-cls": ("bert", "cls"),
    "qwen3-last": ("qwen3", "lasttoken"),
    "gemma3-dense": ("gemma3_text", "mean"),
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


def change(teacher: Teacher, **tensors: torch.Tensor | None) -> None:
    """Replace (or, with None, remove) tensors of layer 1's MLP."""
    path = teacher.folder / "model.safetensors"
    found: dict[str, Any] = load_file(path)
    for name, tensor in tensors.items():
        found[f"model.layers.1.mlp.{name}.weight"] = tensor
    save_file({name: t for name, t in found.items() if t is not None}, path)


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


def states_of(
    teacher: Teacher,
    ids: Any,
    frame: Frame,
    layers: Any,
    *,
    at: Any = "token",
    folder: Path | None = None,
    resume: bool = True,
    **computing: Any,
) -> dict[int, np.ndarray]:
    """Compute states in one call; ``folder``: of the checkpoint; ``computing``: the fields of Computing."""
    checkpointing = Checkpointing(folder, resume) if folder else None
    return token_states(teacher, frame, layers, Computing(**computing), at).compute(ids, checkpointing)


def check(teacher: Teacher, words: Any, frame: Frame, at: str = "token", **options: Any) -> dict[int, np.ndarray]:
    """Compare all layers' streamed states with the whole model's."""
    ids = words if isinstance(words, list) else np.asarray(words)
    assert token_states(teacher, frame, [LAYERS], at=at).plan(ids).streams  # type: ignore[arg-type]
    states = states_of(teacher, ids, frame, range(LAYERS + 1), at=at, **options)
    plain = plain_states(teacher, [np.atleast_1d(word).tolist() for word in words], frame.prefix, frame.suffix, at)
    for layer, expected in enumerate(plain):
        np.testing.assert_allclose(states[layer], expected, rtol=2e-4, atol=2e-4, err_msg=f"layer {layer}")
        assert states[layer].dtype == np.float32
    return states


def embedder_tokenizer(kind: str) -> Tokenizer:
    """Return a tokenizer of whole words, w5 to w60, with the special tokens of a model type around a text."""
    tokens = ["<pad>", "<bos>", "<eos>", "<unk>", "<mask>", *(f"w{i}" for i in range(5, VOCABULARY))]
    tokenizer = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token="<unk>"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(tokens[:5])
    template = "$A <eos>" if kind == "qwen3" else "<bos> $A <eos>"
    tokenizer.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[("<bos>", 1), ("<eos>", 2)]
    )
    if kind.startswith("gemma"):  # as Gemma's, it knows one token that has no embedding
        tokenizer.add_special_tokens([AddedToken("<image>", special=True)])
    return tokenizer


def make_embedder(folder: Path, name: str, tokenizer: Tokenizer | None = None) -> Teacher:
    """Write a sentence-transformers model with random weights and a closing normalisation, and return it."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Dense, Normalize, Pooling, Transformer

    kind, pooling = EMBEDDERS[name]
    dense = [(24, 40), (40, 16)] if name == "gemma3-dense" else []
    tokenizer = tokenizer or embedder_tokenizer(kind)
    more = {"qwen3": {"head_dim": 8}, "gemma3_text": {"head_dim": 8, "use_bidirectional_attention": True}}.get(kind, {})
    size = {"vocab_size": max(VOCABULARY, tokenizer.get_vocab_size()) if kind == "qwen3" else VOCABULARY}
    torch.manual_seed(0)
    model = AutoModel.from_config(AutoConfig.for_model(kind, **{**SIZES, **size, **more}))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.normal_(std=1.0 if "embed" in name else 0.3)
            if "norm" in name.lower():
                weight.add_(1.0)
    plain = folder.with_name(f"{folder.name}-transformer")
    model.save_pretrained(plain)
    padding = next(token for _, token in sorted(tokenizer.get_added_tokens_decoder().items())).content
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=padding).save_pretrained(plain)
    steps: list[Any] = [Transformer(str(plain)), Pooling(SIZES["hidden_size"], pooling_mode=pooling)]
    steps += [Dense(*sizes, bias=False) for sizes in dense]
    SentenceTransformer(modules=[*steps, Normalize()], device="cpu").save(str(folder), create_model_card=False)
    return Teacher(folder.name, "folder", folder)
