#!/usr/bin/env python3
"""Write a teacher with random weights of a real model's exact shape, to measure speed and memory without a download.

    python -m benchmarks.make_random_teacher --shape 1.5b --tokenizer path/to/qwen2.5 --output models/random-1.5b
    python -m benchmarks.make_random_teacher --shape 7b --layers 2 --tokenizer path/to/qwen2.5 --output models/random-7b

The folder holds bfloat16 safetensors of a Qwen2ForCausalLM, which has to fit into memory. Its states mean nothing.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from qwen25.runtime.console import add_common_flags, run
from qwen25.runtime.errors import EXIT_OK, InputError

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt")
#: Qwen2.5's published shapes, and one for a quick check: hidden and inner size, layers, heads of queries and of
#: keys, tokens, whether the embeddings are also the head.
SHAPES = {
    "1.5b": (1536, 8960, 28, 12, 2, 151936, True),
    "7b": (3584, 18944, 28, 28, 4, 152064, False),
    "tiny": (64, 160, 4, 4, 2, 151936, True),
}


def make_random_teacher(shape: str, tokenizer: Path, output: Path, layers: int | None = None, seed: int = 42) -> Path:
    """Write the teacher and return its folder.

    :param tokenizer: the folder whose tokenizer files are copied.
    :param layers: cut to this many; None: all.
    :raises InputError: if that folder has no tokenizer.json, the output holds something or there are fewer layers.
    """
    if not (tokenizer / "tokenizer.json").is_file():
        raise InputError(f"{tokenizer} has no tokenizer.json; give the folder of a Qwen2.5 tokenizer")
    if output.exists() and any(output.iterdir()):
        raise InputError(f"{output} is not empty; give another --output")
    hidden, inner, depth, heads, keys, tokens, tied = SHAPES[shape]
    if not 1 <= (layers or depth) <= depth:
        raise InputError(f"--layers must be between 1 and {depth}, not {layers}")
    config = Qwen2Config(
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers or depth,
        num_attention_heads=heads,
        num_key_value_heads=keys,
        vocab_size=tokens,
        tie_word_embeddings=tied,
        rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
        bos_token_id=151643,
        eos_token_id=151645,
    )
    torch.manual_seed(seed)
    model = Qwen2ForCausalLM._from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(output, max_shard_size="1GB")
    for name in TOKENIZER_FILES:
        if (tokenizer / name).is_file():
            shutil.copyfile(tokenizer / name, output / name)
    return output


def body(args: argparse.Namespace) -> int:
    """Write the teacher that the command line asks for."""
    print(make_random_teacher(args.shape, args.tokenizer, args.output, args.layers, args.seed))
    return EXIT_OK


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: the process's) and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--shape", choices=sorted(SHAPES), default="1.5b", help="whose shape (default: %(default)s)")
    add("--layers", type=int, help="cut to this many layers (default: all of them)")
    add("--tokenizer", type=Path, required=True, help="folder of a Qwen2.5 tokenizer, copied (no default)")
    add("--output", type=Path, required=True, help="folder to write (no default)")
    add("--seed", type=int, default=42, help="of the random weights (default: %(default)s)")
    add_common_flags(parser)
    return run(parser, body, argv)


if __name__ == "__main__":
    sys.exit(main())
