"""A teacher's GGUF file -> the weights of one layer at a time, unpacked as they are asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from qwen25.runtime.errors import PipelineError, first_line
from qwen25.states.architecture import Unsupported, architecture_of
from qwen25.states.weights import Weights
from qwen25.teacher.teacher import Teacher

#: transformers' name of a module -> GGUF's; a layer's stand behind ``layers.N.`` and ``blk.N.``.
_LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_OUTER_NAMES = {"embed_tokens.weight": "token_embd.weight", "norm.weight": "output_norm.weight"}


class GgufWeights(Weights):
    """Reads a GGUF file's tensors; quantised ones are unpacked to float32."""

    def __init__(self, teacher: Teacher) -> None:
        """Open the file.

        :raises Unsupported: if the architecture's GGUF form is not known here.
        :raises PipelineError: if the file is damaged.
        """
        from gguf import GGUFReader

        path = teacher.weight_files[0]
        self.name = teacher.name
        self._root = ""
        config = teacher.config
        # transformers notes the packing here; unpacked, the weights are plain.
        config.quantization_config = None
        self.architecture = architecture_of(teacher.name, config)
        self._paired = config.model_type == "llama"
        if config.model_type not in {"llama", "qwen2", "qwen3"}:
            raise Unsupported(f"its weights are {config.model_type} in GGUF form")
        try:
            self._tensors = {tensor.name: tensor for tensor in GGUFReader(path).tensors}
        except (ValueError, OSError, KeyError, IndexError) as error:
            raise PipelineError(f"teacher {self.name}: {path.name} is damaged ({error}): fetch it again") from error

    def _read(self, wanted: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
        return self._of_right_shape({name: self._unpacked(name) for name in wanted}, wanted, "its header")

    def embedding_table(self) -> torch.Tensor:
        """Return the embedding table; float32, shape (rows, hidden)."""
        return self._read({"embed_tokens.weight": (-1, self.architecture.hidden)})["embed_tokens.weight"]

    def _unpacked(self, name: str) -> torch.Tensor:
        from gguf.quants import dequantize

        tensor = self._tensors.get(_gguf_name(name))
        if tensor is None:
            raise PipelineError(f"teacher {self.name}: its weights lack {_gguf_name(name)}; fetch the file again")
        try:
            values = np.array(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
            if self._paired and ".self_attn.q_proj." in name:
                values = _unpaired(values, self.architecture.heads)
            elif self._paired and ".self_attn.k_proj." in name:
                values = _unpaired(values, self.architecture.kv_heads)
        except (NotImplementedError, ValueError) as error:  # a packing without a reader; heads that do not divide it
            raise PipelineError(
                f"teacher {self.name}: {tensor.name} cannot be unpacked ({first_line(error)}); fetch another file"
            ) from error
        return torch.from_numpy(values)


def _gguf_name(name: str) -> str:
    if name in _OUTER_NAMES:
        return _OUTER_NAMES[name]
    _, index, rest = name.split(".", 2)
    module, kind = rest.rsplit(".", 1)
    return f"blk.{index}.{_LAYER_NAMES[module]}.{kind}"


def _unpaired(values: np.ndarray, heads: int) -> np.ndarray:
    """Put a head's rows back in order: GGUF's llama pairs row i with row i + head_dim / 2 for its rotation."""
    paired: Any = values.reshape(heads, -1, 2, *values.shape[1:])
    return np.ascontiguousarray(paired.swapaxes(1, 2).reshape(values.shape))
