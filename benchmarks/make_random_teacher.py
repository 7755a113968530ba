#!/usr/bin/env python3
"""Write a teacher with random weights of a real model's exact shape, to measure speed and memory without a download.

    python -m benchmarks.make_random_teacher --shape 1.5b --tokenizer path/to/qwen2.5 --output models/random-1.5b
    python -m benchmarks.make_random_teacher --shape 7b --layers 2 --tokenizer path/to/qwen2.5 --output models/random-7b

The folder holds bfloat16 safetensors, one shard a layer, as Qwen2ForCausalLM. Its states mean nothing.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from qwen25.runtime.console import add_common_flags, run
from qwen25.runtime.errors import EXIT_OK, InputError
from qwen25.runtime.files import write_json

STD = 0.02
SEED = 42
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt")
#: Qwen2.5's published shapes, and one for a quick check.
SHAPES: dict[str, dict[str, Any]] = {
    "1.5b": {
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "vocab_size": 151936,
        "tie_word_embeddings": True,
    },
    "7b": {
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152064,
        "tie_word_embeddings": False,
    },
    "tiny": {
        "hidden_size": 64,
        "intermediate_size": 160,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 151936,
        "tie_word_embeddings": True,
    },
}


def config_for(shape: str, layers: int | None = None) -> dict[str, Any]:
    """Return the config.json of a shape, cut to ``layers``.

    :raises InputError: if the shape has fewer layers.
    """
    config = dict(SHAPES[shape])
    if layers is not None:
        if not 1 <= layers <= config["num_hidden_layers"]:
            raise InputError(f"--layers must be between 1 and {config['num_hidden_layers']}, not {layers}")
        config["num_hidden_layers"] = layers
    return {
        **config,
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "max_position_embeddings": 32768,
        "max_window_layers": config["num_hidden_layers"],
        "sliding_window": 32768,
        "use_sliding_window": False,
        "attention_dropout": 0.0,
        "initializer_range": STD,
        "torch_dtype": "bfloat16",
        "bos_token_id": 151643,
        "eos_token_id": 151645,
    }


def shards(config: dict[str, Any]) -> Iterator[dict[str, tuple[int, ...]]]:
    """Yield, for each shard, the names and shapes of its tensors: the embeddings, then layer by layer."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    keys = hidden // config["num_attention_heads"] * config["num_key_value_heads"]
    yield {"model.embed_tokens.weight": (config["vocab_size"], hidden), "model.norm.weight": (hidden,)}
    for index in range(config["num_hidden_layers"]):
        layer = {
            "input_layernorm.weight": (hidden,),
            "post_attention_layernorm.weight": (hidden,),
            "self_attn.o_proj.weight": (hidden, hidden),
            "mlp.gate_proj.weight": (inner, hidden),
            "mlp.up_proj.weight": (inner, hidden),
            "mlp.down_proj.weight": (hidden, inner),
        }
        for name, width in (("q", hidden), ("k", keys), ("v", keys)):
            layer |= {f"self_attn.{name}_proj.weight": (width, hidden), f"self_attn.{name}_proj.bias": (width,)}
        yield {f"model.layers.{index}.{name}": size for name, size in layer.items()}
    if not config["tie_word_embeddings"]:
        yield {"lm_head.weight": (config["vocab_size"], hidden)}


def make_random_teacher(shape: str, tokenizer: Path, output: Path, layers: int | None = None, seed: int = SEED) -> Path:
    """Write the teacher, never holding more than a shard in memory, and return its folder.

    :param tokenizer: the folder whose tokenizer files are copied.
    :raises InputError: if that folder has no tokenizer.json or the output holds something.
    """
    if not (tokenizer / "tokenizer.json").is_file():
        raise InputError(f"{tokenizer} has no tokenizer.json; give the folder of a Qwen2.5 tokenizer")
    if output.exists() and any(output.iterdir()):
        raise InputError(f"{output} is not empty; give another --output")
    config = config_for(shape, layers)
    output.mkdir(parents=True, exist_ok=True)
    parts = list(shards(config))
    files: dict[str, str] = {}
    total = 0
    for number, part in enumerate(parts, start=1):
        # A generator for each shard: a teacher that is cut has the same layers as the whole one.
        generator = torch.Generator().manual_seed(seed * 1000 + number)
        tensors = {
            name: torch.ones(size, dtype=torch.bfloat16)
            if "norm" in name
            else torch.empty(size, dtype=torch.bfloat16).normal_(std=STD, generator=generator)
            for name, size in part.items()
        }
        file = f"model-{number:05d}-of-{len(parts):05d}.safetensors"
        save_file(tensors, output / file, metadata={"format": "pt"})
        files |= dict.fromkeys(tensors, file)
        total += sum(tensor.nbytes for tensor in tensors.values())
    write_json(output / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": files})
    for name in TOKENIZER_FILES:
        if (tokenizer / name).is_file():
            shutil.copyfile(tokenizer / name, output / name)
    write_json(output / "config.json", config)  # last: a folder that has it is whole
    return output


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--shape", choices=sorted(SHAPES), default="1.5b", help="whose shape (default: %(default)s)")
    add("--layers", type=int, help="cut to this many layers (default: all of them)")
    add("--tokenizer", type=Path, required=True, help="folder of a Qwen2.5 tokenizer, copied (no default)")
    add("--output", type=Path, required=True, help="folder to write (no default)")
    add("--seed", type=int, default=SEED, help="of the random weights (default: %(default)s)")
    add_common_flags(parser)
    return parser


def body(args: argparse.Namespace) -> int:
    """Write the teacher that the command line asks for."""
    folder = make_random_teacher(args.shape, args.tokenizer, args.output, args.layers, args.seed)
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(f"{folder}: {size / 1e9:.2f} GB")
    return EXIT_OK


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: the process's) and return the exit code."""
    return run(build_parser(), body, argv)


if __name__ == "__main__":
    sys.exit(main())
