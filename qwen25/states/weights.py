"""A teacher's safetensors files -> the weights of one layer at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open

from qwen25.runtime.errors import PipelineError
from qwen25.states.architecture import Architecture, Unsupported, architecture_of, inverse_frequencies
from qwen25.states.decoder import Layer
from qwen25.teacher.teacher import Teacher, no_floats

#: Where a checkpoint keeps the decoder's tensors, before ``layers.0.``.
ROOTS = ("model.language_model.", "language_model.model.", "language_model.", "model.", "")


class EmbeddingTable(Protocol):
    """What gives the embeddings of token ids: a tensor, or something that makes its rows when they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, ids: torch.Tensor) -> torch.Tensor: ...


class Weights:
    """Reads a teacher's tensors from its safetensors files, each when it is asked for.

    A file is mapped only while something is read from it: pages of a mapping that stays open count
    as this process's memory, and in the end that would be the whole model.
    """

    def __init__(self, teacher: Teacher) -> None:
        """Find where each tensor is.

        :raises Unsupported: if the teacher is none that can be streamed.
        :raises InputError: if its configuration or its index is broken.
        :raises PipelineError: if a file is missing or damaged.
        """
        if not teacher.is_causal:
            raise Unsupported("it is an encoder")
        self.name = teacher.name
        self.architecture = architecture_of(teacher.name, teacher.config)
        self._files = self._find(teacher)
        first = "layers.0.input_layernorm.weight"
        roots = [root for root in ROOTS if root + first in self._files]
        if len(roots) != 1:
            raise Unsupported("its weights have names that are not known here")
        self._root = roots[0]

    def _find(self, teacher: Teacher) -> dict[str, Path]:
        """Return tensor name -> file: by the index if there is one, else by looking into the files.

        The index comes first because some models carry a second copy of their weights under other
        names beside the indexed shards.
        """
        if indexed := teacher.shards():
            return indexed
        single = teacher.folder / "model.safetensors"
        found = {}
        for path in [single] if single.is_file() else teacher.weight_files:
            with self._open(path) as file:
                found.update(dict.fromkeys(file.keys(), path))
        return found

    @contextlib.contextmanager
    def _open(self, path: Path) -> Iterator[Any]:
        try:
            with safe_open(path, framework="pt") as file:
                yield file
        except (SafetensorError, OSError) as error:
            raise PipelineError(
                f"teacher {self.name}: {path.name} cannot be read ({error}); it is cut short or damaged: "
                "download it again"
            ) from error

    def _read(self, wanted: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
        """Return the named tensors, mapped and as they are on disk; -1 in a shape stands for any size."""
        missing = [name for name in wanted if self._root + name not in self._files]
        if missing:
            raise PipelineError(f"teacher {self.name}: its weights lack {self._root}{missing[0]}; download it again")
        tensors = {}
        for path in sorted({self._files[self._root + name] for name in wanted}):
            with self._open(path) as file:
                for name in wanted:
                    if self._files[self._root + name] == path:
                        tensors[name] = file.get_tensor(self._root + name)
        return self._of_right_shape(tensors, wanted, "its config.json")

    def _of_right_shape(
        self, tensors: dict[str, torch.Tensor], wanted: dict[str, tuple[int, ...]], source: str
    ) -> dict[str, torch.Tensor]:
        """Return the tensors if they are floats of the shapes that ``source`` tells; -1 stands for any size."""
        for name, shape in wanted.items():
            if not tensors[name].is_floating_point():
                raise no_floats(self.name, self._root + name, tensors[name].dtype)
            found = tuple(tensors[name].shape)
            if len(found) != len(shape) or any(e not in (-1, f) for e, f in zip(shape, found, strict=True)):
                raise PipelineError(
                    f"teacher {self.name}: {self._root}{name} is of shape {found}, not {shape} as {source} says; "
                    "download it again"
                )
        return tensors

    def embedding_table(self) -> EmbeddingTable:
        """Return the mapped embedding table; of its dtype on disk, shape (rows, hidden).

        Some tied checkpoints hold it under the name of the head alone.
        """
        name = "embed_tokens.weight"
        if self._root + name in self._files:
            return self._read({name: (-1, self.architecture.hidden)})[name]
        path = self._files.get("lm_head.weight")
        if path is None:
            raise PipelineError(f"teacher {self.name}: its weights lack {self._root}{name}; download it again")
        with self._open(path) as file:
            table = file.get_tensor("lm_head.weight")
        return self._of_right_shape({name: table}, {name: (-1, self.architecture.hidden)}, "its config.json")[name]

    def final_norm(self) -> torch.Tensor:
        """Return the weight of the norm behind the last layer, in float32."""
        return self._norm_weight(self._read({"norm.weight": (self.architecture.hidden,)})["norm.weight"])

    def _norm_weight(self, weight: torch.Tensor) -> torch.Tensor:
        return 1.0 + weight.float() if self.architecture.gemma else weight.to(torch.float32, copy=True)

    def layer(self, index: int, dtype: torch.dtype) -> Layer:
        """Read a layer into memory, its projections in ``dtype``.

        :raises PipelineError: if a tensor is missing, of the wrong shape or unreadable.
        """
        architecture = self.architecture
        prefix = f"layers.{index}."
        read = self._read({prefix + name: size for name, size in _layer_tensors(architecture).items()})

        def weight(module: str, *names: str) -> torch.Tensor:
            return _fused([read[f"{prefix}{module}.{name}.weight"] for name in names], dtype)

        def bias(there: bool, module: str, *names: str) -> torch.Tensor | None:
            if not there:
                return None
            return _fused([read[f"{prefix}{module}.{name}.bias"] for name in names], torch.float32)

        def norm(name: str) -> torch.Tensor:
            return self._norm_weight(read[f"{prefix}{name}.weight"])

        window = architecture.windows[index]
        return Layer(
            before_attention=norm("input_layernorm"),
            before_mlp=norm("pre_feedforward_layernorm" if architecture.gemma else "post_attention_layernorm"),
            qkv=weight("self_attn", "q_proj", "k_proj", "v_proj"),
            output=weight("self_attn", "o_proj"),
            gate_up=weight("mlp", "gate_proj", "up_proj"),
            down=weight("mlp", "down_proj"),
            inverse_frequencies=inverse_frequencies(architecture.ropes[window is not None], architecture.head_dim),
            window=window,
            qkv_bias=bias(architecture.qkv_bias, "self_attn", "q_proj", "k_proj", "v_proj"),
            output_bias=bias(architecture.output_bias, "self_attn", "o_proj"),
            gate_up_bias=bias(architecture.mlp_bias, "mlp", "gate_proj", "up_proj"),
            down_bias=bias(architecture.mlp_bias, "mlp", "down_proj"),
            query_norm=norm("self_attn.q_norm") if architecture.qk_norm else None,
            key_norm=norm("self_attn.k_norm") if architecture.qk_norm else None,
            after_attention=norm("post_attention_layernorm") if architecture.gemma else None,
            after_mlp=norm("post_feedforward_layernorm") if architecture.gemma else None,
        )


def _fused(parts: list[torch.Tensor], dtype: torch.dtype) -> torch.Tensor:
    """Stack tensors in a new one of ``dtype``, each copied straight to its place."""
    whole = torch.empty(sum(len(part) for part in parts), *parts[0].shape[1:], dtype=dtype)
    start = 0
    for part in parts:
        whole[start : start + len(part)].copy_(part)
        start += len(part)
    return whole


def _layer_tensors(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of each tensor that a layer must have."""
    hidden, inner = architecture.hidden, architecture.intermediate
    query, key = architecture.query_width, architecture.key_width
    sizes: dict[str, tuple[int, ...]] = {
        "self_attn.q_proj.weight": (query, hidden),
        "self_attn.k_proj.weight": (key, hidden),
        "self_attn.v_proj.weight": (key, hidden),
        "self_attn.o_proj.weight": (hidden, query),
        "mlp.gate_proj.weight": (inner, hidden),
        "mlp.up_proj.weight": (inner, hidden),
        "mlp.down_proj.weight": (hidden, inner),
        "input_layernorm.weight": (hidden,),
        "post_attention_layernorm.weight": (hidden,),
    }
    if architecture.gemma:
        sizes |= {f"{side}_feedforward_layernorm.weight": (hidden,) for side in ("pre", "post")}
    if architecture.qk_norm:
        sizes |= {f"self_attn.{which}_norm.weight": (architecture.head_dim,) for which in "qk"}
    if architecture.qkv_bias:
        sizes |= {"self_attn.q_proj.bias": (query,), "self_attn.k_proj.bias": (key,), "self_attn.v_proj.bias": (key,)}
    if architecture.output_bias:
        sizes["self_attn.o_proj.bias"] = (hidden,)
    if architecture.mlp_bias:
        sizes |= {"mlp.gate_proj.bias": (inner,), "mlp.up_proj.bias": (inner,), "mlp.down_proj.bias": (hidden,)}
    return sizes
