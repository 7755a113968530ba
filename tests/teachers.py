"""Tiny teachers: decoders of several architectures and an encoder, the whole model's states, and embedding models."""

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

from qwen25.teacher.teacher import Teacher

LAYERS, HIDDEN, VOCABULARY = 4, 24, 61
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
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
    "qwen3": ("qwen3", {"head_dim": 8, "tie_word_embeddings": False}),
    "llama-biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama3-rope": ("llama", {"rope_scaling": LLAMA3, "max_position_embeddings": 256}),
    "mistral-window": ("mistral", {"head_dim": 6, "sliding_window": 4}),
    "gemma3": (
        "gemma3_text",
        {"head_dim": 8, "query_pre_attn_scalar": 16, "sliding_window": 4, "sliding_window_pattern": 2},
    ),
    "gpt_oss": ("gpt_oss", {"num_local_experts": 3, "num_experts_per_tok": 2, "head_dim": 8, "sliding_window": 4}),
    "gemma2": ("gemma2", {"head_dim": 8, "query_pre_attn_scalar": 16}),  # scales the embeddings in the model's own call
    "mixtral": ("mixtral", {"num_local_experts": 2}),
    "gpt_neox": ("gpt_neox", {}),  # its layers cannot be dropped
    "bert": ("bert", {}),
}
#: name -> model type and pooling of an embedding model; the last one has two dense layers behind it.
EMBEDDERS = {
    "bert-mean": ("bert", "mean"),
    "bert-cls": ("bert", "cls"),
    "qwen3-last": ("qwen3", "lasttoken"),
    "gemma3-dense": ("gemma3_text", "mean"),
}
#: The tokenizers of all teachers here know w5, w6, ... as the tokens 5, 6, ...
PREFIX, PREFIX_IDS = "w5 w9 w5 w30 w8 w7", [5, 9, 5, 30, 8, 7]
WORDS = [[11], [4, 12, 13], [14, 15], [16], [17, 18, 19], [20, 21, 22]]


def make_teacher(folder: Path, name: str = "qwen2", seed: int = 0, **save: Any) -> Teacher:
    """Write a teacher with random weights, norms and biases included, and return it."""
    kind, more = CONFIGS[name]
    if kind not in CONFIG_MAPPING:
        pytest.skip(f"this transformers does not know {kind}")
    config = AutoConfig.for_model(kind, **SIZES, **copy.deepcopy(more))
    torch.manual_seed(seed)
    model = (AutoModel if kind == "bert" else AutoModelForCausalLM).from_config(config)
    with torch.no_grad():
        for parameter, weight in model.named_parameters():
            weight.normal_(std=0.3)
            if "norm" in parameter.lower() and "gemma" not in kind:
                weight.add_(1.0)
    model.to(save.pop("dtype", torch.float32)).save_pretrained(folder, **save)
    embedder_tokenizer(kind).save(str(folder / "tokenizer.json"))
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
    save_file({name: t for name, t in found.items() if t is not None}, path, {"format": "pt"})


def plain_states(teacher: Teacher, words: Any, before: Any = (), behind: Any = ()) -> list[np.ndarray]:
    """Compute every layer's states with the whole model, one sequence at a time, and read the word's last one."""
    model = AutoModel.from_pretrained(teacher.folder).float().eval()
    rows: list[list[np.ndarray]] = []
    for word in words:
        ids = [*before, *word, *behind]
        with torch.inference_mode():
            hidden = model(input_ids=torch.tensor([ids]), output_hidden_states=True, use_cache=False).hidden_states
        rows.append([state[0, len(before) + len(word) - 1].numpy() for state in hidden])
    return [np.stack([row[layer] for row in rows]) for layer in range(len(rows[0]))]


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
