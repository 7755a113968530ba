#!/usr/bin/env python3
"""Retrieval for a language model (RAG): passages into an index, a question into a prompt.

    pip install model2vec vicinity
    python retrieval.py "How do I get my deposit back?"
    python retrieval.py --model path/to/folder --passages my_texts.txt "a question"   # one passage a line

The vectors of a static model are the mean of their tokens': many passages a second on one core, no GPU.
Scores are cosines; what is no nearer than unrelated texts are is no answer. A prompt says where its passages are from,
so that an answer can be checked.
Exit codes: 0 ok, 1 the run failed, 2 no usable model or file.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

MODEL = next(iter(Path(__file__).parents[1].glob("demo/model")), "tss-deposium/qwen25-deposium-1024d")
QUESTION = "How do I get my deposit back?"
PASSAGES = (
    "Your deposit is returned to the card it came from within five days of the bike's return.",
    "A ride ends when the lock clicks shut at a station; the app then shows its price.",
    "Helmets can be bought at every staffed station, and are not lent.",
    "Report a flat tyre in the app, and take another bike: the ride goes on without a charge.",
    "Children may ride from the age of fourteen, with an account of an adult.",
    "In winter half of the stations are closed for maintenance.",
)


def best_passages(model_path: str, passages: Sequence[str], question: str, count: int) -> list[tuple[str, float]]:
    """Return the passages nearest to the question, each with its cosine, nearest first."""
    from model2vec import StaticModel
    from vicinity import Backend, Metric, Vicinity

    model = StaticModel.from_pretrained(model_path, force_download=False)
    index = Vicinity.from_vectors_and_items(
        model.encode(list(passages)), list(passages), backend_type=Backend.BASIC, metric=Metric.COSINE
    )
    (found,) = index.query(model.encode([question]), k=min(count, len(passages)))
    return [(passage, 1.0 - float(distance)) for passage, distance in found]


def least_cosine(model_path: str) -> float:
    """Return the cosine that 1 in 100 unrelated texts reach, by the model's own measurement; -1 where it has none."""
    from huggingface_hub import hf_hub_download

    try:
        is_folder, name = Path(model_path).is_dir(), "metadata.json"
        path = Path(model_path, name) if is_folder else Path(hf_hub_download(model_path, name))
        meaning = json.loads(path.read_text(encoding="utf-8"))["score_meaning"]
        return float(meaning["cuts"]["near"]["cosine"]) if meaning["parts"] else -1.0
    except Exception:  # there is no such file, or an older or another's; the hub's errors have no common base
        return -1.0


def prompt(question: str, found: Sequence[tuple[str, float]]) -> str:
    """Return what a language model would be asked."""
    context = "\n".join(f"[{number}] {passage}" for number, (passage, _) in enumerate(found, 1))
    return (
        f"Answer from these passages only, name their numbers, and say so if they do not tell.\n{context}\n\n{question}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: the process's) and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question", nargs="?", default=QUESTION, help="(default: %(default)s)")
    parser.add_argument("--model", default=MODEL, help="local folder or hub id (default: %(default)s)")
    parser.add_argument("--passages", type=Path, help="a text file, one passage a line (default: a few of its own)")
    parser.add_argument("--count", type=int, default=3, help="passages in the prompt (default: %(default)s)")
    args = parser.parse_args(argv)
    try:
        text = args.passages.read_text(encoding="utf-8") if args.passages else "\n".join(PASSAGES)
        passages = list(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))
        if not passages or args.count < 1:
            raise ValueError("there is no passage to search in, or --count is below 1")
    except (OSError, ValueError) as error:
        parser.exit(2, f"error: {' '.join(str(error).split())}\n")
    try:
        found = best_passages(args.model, passages, args.question, args.count)
    except ImportError as error:
        parser.exit(1, f"error: {error.name} is not installed: pip install model2vec vicinity\n")
    except Exception as error:  # model2vec, safetensors and the hub have no common base
        why = " ".join(str(error).split()) if Path(args.model).exists() else "bash run_qwen25.sh demo makes demo/model"
        parser.exit(2, f"error: {args.model} is no model that can be used: {why}\n")
    for passage, cosine in found:
        print(f"{cosine:6.3f}  {passage}")
    if found[0][1] < least_cosine(args.model):
        print("\nNothing in here fits: no passage is nearer to the question than unrelated texts are to each other.")
    else:
        print("\n" + prompt(args.question, found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
