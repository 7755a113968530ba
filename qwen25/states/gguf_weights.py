"""A teacher's GGUF file -> the weights of one layer at a time, unpacked as they are asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from qwen25.runtime.errors import PipelineError, first_line
from qwen25.states.architecture import Unsupported, architecture_of
from qwen25.states.weights import Weights
from qwen25.teacher.teacher import Teacher

if TYPE_CHECKING:
    from gguf import GGMLQuantizationType

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


class PackedTensor(NamedTuple):
    """Where a tensor lies in a GGUF file, and how it is packed; each row is packed on its own.

    :ivar shape: of the packed rows, as stored.
    """

    name: str
    path: Path
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype
    packing: GGMLQuantizationType

    def unpacked(self, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Return some rows in float32.

        The file is mapped only while it is read, as safetensors files are: see :class:`Weights`.
        """
        from gguf.quants import dequantize

        stored = np.memmap(self.path, self.dtype, "r", self.offset, self.shape)
        values = dequantize(np.asarray(stored)[rows], self.packing)
        # What was stored in float32 is still the mapping itself.
        return values if values.flags.writeable else np.array(values, dtype=np.float32)


class GgufTable:
    """An embedding table of which only the rows asked for are unpacked."""

    def __init__(self, tensor: PackedTensor) -> None:
        """Take the table that a file holds."""
        self._tensor = tensor

    def __len__(self) -> int:
        """Return the number of rows."""
        return self._tensor.shape[0]

    def __getitem__(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the rows of some ids, of any shape; float32, one dimension more than ``ids``."""
        # gguf cannot unpack no rows at all, which is what a recipe without a prefix asks for.
        wanted = ids.reshape(-1).numpy() if ids.numel() else slice(0, 1)
        rows = torch.from_numpy(self._tensor.unpacked(wanted))[: ids.numel()]
        return rows.reshape(*ids.shape, rows.shape[-1])


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
            self._tensors = {
                t.name: PackedTensor(t.name, path, int(t.data_offset), t.data.shape, t.data.dtype, t.tensor_type)
                for t in GGUFReader(path).tensors
            }
        except (ValueError, OSError, KeyError, IndexError) as error:
            raise PipelineError(f"teacher {self.name}: {path.name} is damaged ({error}): fetch it again") from error

    def _read(self, wanted: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
        return self._of_right_shape({name: self._unpacked(name) for name in wanted}, wanted, "its header")

    def embedding_table(self) -> GgufTable:
        """Return the embedding table; float32, shape (rows, hidden)."""
        name = "embed_tokens.weight"
        first = self._unpacked(name, slice(1))  # tells whether it can be unpacked, and how wide it is
        self._of_right_shape({name: first}, {name: (-1, self.architecture.hidden)}, "its header")
        return GgufTable(self._tensors[_gguf_name(name)])

    def _unpacked(self, name: str, rows: slice = slice(None)) -> torch.Tensor:
        tensor = self._tensors.get(_gguf_name(name))
        if tensor is None:
            raise PipelineError(f"teacher {self.name}: its weights lack {_gguf_name(name)}; fetch the file again")
        try:
            values = tensor.unpacked(rows)
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
