"""A decoder taken apart: transformers' own layers, of which one at a time has weights, read tensor by tensor."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch.nn import functional

from qwen25.runtime.errors import InputError, PipelineError, first_line
from qwen25.teacher.gguf import GgufWeights
from qwen25.teacher.teacher import Teacher

#: What safetensors files have before ``layers.0.``: nothing, or the path to the text model.
ROOTS = ("model.language_model.", "language_model.model.", "language_model.", "model.", "")
EMBEDDING = "embed_tokens.weight"


class SafetensorsWeights:
    """Reads safetensors files.

    A file is mapped only while something is read from it: pages of a mapping that stays open count
    as this process's memory, and in the end that would be the whole model.
    """

    def __init__(self, teacher: Teacher) -> None:
        """Find where each tensor is."""
        self._teacher, files = teacher.name, dict[str, Path]()
        single = teacher.folder / "model.safetensors"
        shards = [path for path in teacher.weight_files if path.name.startswith("model-")]
        for path in [single] if single.is_file() else shards or teacher.weight_files:  # some have a second copy beside
            with self._open(path) as file:
                files.update(dict.fromkeys(file.keys(), path))
        roots = [root for root in ROOTS if any(name.startswith(f"{root}layers.0.") for name in files)]
        root = roots[0] if len(roots) == 1 else None
        #: name in the text model -> name in the file, and the file
        self._places = {
            name.removeprefix(root): (name, path)
            for name, path in files.items()
            if root is not None and name.startswith(root)
        }
        if self._places and EMBEDDING not in self._places and "lm_head.weight" in files:  # the two are one table
            self._places[EMBEDDING] = ("lm_head.weight", files["lm_head.weight"])

    def __contains__(self, name: str) -> bool:
        """Whether a tensor is there; none is where their names follow no known scheme."""
        return name in self._places

    @contextlib.contextmanager
    def _open(self, path: Path) -> Iterator[Any]:
        try:
            with safe_open(path, framework="pt") as file:
                yield file
        except (SafetensorError, OSError) as error:
            raise PipelineError(
                f"teacher {self._teacher}: {path.name} cannot be read ({error}); it is cut short or damaged: "
                "download it again"
            ) from error

    def length(self, name: str) -> int:
        """Return the number of a tensor's rows."""
        return len(self.read(name))

    def read(self, name: str) -> torch.Tensor:
        """Return a tensor, a part of the mapped file."""
        stored, path = self._places[name]
        with self._open(path) as file:
            return file.get_tensor(stored)

    def rows(self, name: str, ids: torch.Tensor) -> torch.Tensor:
        """Return some rows of a matrix."""
        return self.read(name)[ids]


Weights = SafetensorsWeights | GgufWeights


def open_weights(teacher: Teacher) -> Weights:
    """Return the reader for a teacher's files; raises PipelineError if one is missing or damaged."""
    return GgufWeights(teacher.weight_files[0], teacher.config) if teacher.gguf else SafetensorsWeights(teacher)


#: How many positions are computed at a time: matrix products on a CPU level off at about 1,000 rows.
CPU_ROWS, CUDA_ROWS = 1024, 16384
#: What one intermediate result of a batch may take on the CPU; about four are held at a time.
CPU_SCRATCH_BYTES = 48 << 20
#: How many rows are copied between memory, disk and device at a time.
COPY_ROWS = 4096


class _Product(torch.nn.Linear):
    """A linear layer whose product alone is computed in the weight's number format; the bias is added in float32."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        product = functional.linear(x.to(self.weight.dtype), self.weight).float()
        return product if self.bias is None else product.add_(self.bias)


_KeysValues = tuple[torch.Tensor, torch.Tensor]


class Stack:
    """A text model taken apart: one layer at a time has weights."""

    def __init__(self, teacher: Teacher, model: Any, weights: Weights, device: str, dtype: torch.dtype) -> None:
        """Take the layers and the norm off a model without weights."""
        self.name, self.depth, self.width = teacher.name, teacher.layers, teacher.hidden_size
        self.device, self._dtype, self._weights = device, dtype, weights
        self._layers, self._norm, self._embed = list(model.layers), model.norm, model.embed_tokens
        self._types = getattr(model.config, "layer_types", None)
        model.layers, model.norm, model.embed_tokens = torch.nn.ModuleList(), torch.nn.Identity(), None
        self._model = model.to(device)
        wide = int(getattr(model.config, "intermediate_size", 4 * self.width)) * 4
        fits = max(256, CPU_SCRATCH_BYTES // wide // 128 * 128)
        #: How many positions to compute at a time. Not measured: the size of a product can change its last bit, and a
        #: run that goes on must compute as the one that was killed.
        self.rows = CUDA_ROWS if device.startswith("cuda") else min(CPU_ROWS, fits)

    def embedded(self, ids: np.ndarray) -> torch.Tensor:
        """Return the embeddings of token ids, scaled as the model does; float32, (len(ids), width)."""
        require_embeddings(self.name, ids, self._weights.length(EMBEDDING))
        found = torch.empty(len(ids), self.width, device=self.device)
        self._embed.padding_idx = None
        for start in range(0, len(ids), COPY_ROWS):
            rows = self._weights.rows(EMBEDDING, torch.from_numpy(ids[start : start + COPY_ROWS]))
            self._embed.weight = torch.nn.Parameter(rows.float(), requires_grad=False)
            found[start : start + COPY_ROWS] = self._embed(torch.arange(len(rows))).to(self.device)
        return found

    def use(self, index: int) -> None:
        """Read a layer, and have the model consist of it alone, or with the norm behind it if it is the last."""
        self._model.layers = torch.nn.ModuleList()  # the last one's memory is free before this one is read
        layer, self._layers[index] = self._layers[index], None
        self._model.layers = torch.nn.ModuleList([self._filled(layer, f"layers.{index}.")])
        if self._types:
            self._model.config.layer_types = [self._types[index]]
        if index + 1 == self.depth:
            self._model.norm = self._filled(self._norm, "norm.")

    def _filled(self, module: torch.nn.Module, prefix: str) -> torch.nn.Module:
        for path, part in module.named_modules(prefix=prefix.rstrip(".")):
            product = type(part) is torch.nn.Linear
            for name, empty in list(part.named_parameters(recurse=False)):
                value = self._weights.read(f"{path}.{name}")
                if value.shape != empty.shape:
                    raise PipelineError(
                        f"teacher {self.name}: {path}.{name} is of shape {tuple(value.shape)}, not "
                        f"{tuple(empty.shape)} as its configuration says; download it again"
                    )
                dtype = self._dtype if product and name == "weight" else torch.float32
                value = value.to(self.device, dtype, copy=True)
                setattr(part, name, torch.nn.Parameter(value, requires_grad=False))
            if product:
                part.__class__ = _Product
        return module.to(self.device)

    def __call__(self, x: torch.Tensor, shared: _KeysValues | None = None) -> tuple[torch.Tensor, _KeysValues]:
        """Return the states behind the layer, and its keys and values.

        :param x: (sequences, positions, width).
        :param shared: keys and values of what all sequences have before them, (1, heads, positions, head size) each.
        """
        from transformers import DynamicCache

        cache = DynamicCache()
        if shared is not None:
            cache.update(*(part.expand(len(x), -1, -1, -1) for part in shared), 0)
        after = self._model(inputs_embeds=x, past_key_values=cache, use_cache=True).last_hidden_state
        return after, (cache.layers[0].keys, cache.layers[0].values)


def empty_model(teacher: Teacher) -> Any:
    """Return the text model with its buffers, but without memory for weights.

    :raises InputError: if the configuration describes no model.
    """
    from accelerate import init_empty_weights  # type: ignore[import-untyped]
    from transformers import AutoModel

    try:
        config = type(teacher.config).from_dict(teacher.config.to_dict())
        config.quantization_config = None  # transformers notes a GGUF file's packing here
        with init_empty_weights(include_buffers=False):
            return AutoModel.from_config(config, dtype=torch.float32).eval()
    except Exception as error:  # what a wrong value raises depends on the architecture
        raise InputError(
            f"teacher {teacher.name}: its configuration describes no model ({first_line(error)}); download it again"
        ) from error


def take_apart(teacher: Teacher, model: Any, device: str, dtype: torch.dtype) -> Stack | str:
    """Return a model that :func:`empty_model` made, ready to be computed layer by layer, or why it cannot be."""
    from transformers import DynamicCache

    if not teacher.is_causal:
        return "it is an encoder"
    weights, kind = open_weights(teacher), model.config.model_type
    if not all(hasattr(model, part) for part in ("layers", "embed_tokens", "norm")):
        return f"{kind} has no plain stack of layers"
    if any(name not in weights for name, _ in model.named_parameters()):
        return "its weights have other names than its modules"
    layers, norm = model.layers, model.norm
    model.layers, model.norm = torch.nn.ModuleList(), torch.nn.Identity()
    x, cache = torch.ones(1, 1, teacher.hidden_size), DynamicCache()
    try:
        # Some models scale the embeddings, or add positions to them, before the first layer: without layers it shows.
        plain = torch.equal(model(inputs_embeds=x, past_key_values=cache, use_cache=True).last_hidden_state, x)
        for layer in layers:
            layer.self_attn.layer_idx = 0  # its place in a cache of one layer
    except Exception:  # whatever an architecture that takes no such call raises
        plain = False
    model.layers, model.norm = layers, norm
    return Stack(teacher, model, weights, device, dtype) if plain else f"{kind} does more than its layers do"


def require_embeddings(teacher: str, ids: np.ndarray, count: int) -> None:
    """Check that token ids are rows of the embedding table; raises InputError if not."""
    outside = ids[(ids < 0) | (ids >= count)]
    if len(outside):
        raise InputError(f"teacher {teacher}: token {outside[0]} has no embedding (the table has {count} rows)")
