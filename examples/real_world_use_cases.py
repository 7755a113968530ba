#!/usr/bin/env python3
"""Three things that people build on embeddings, tried on a static embedding model, mistakes and all.

    pip install model2vec
    python real_world_use_cases.py                             # the demo's model, else the hub's
    python real_world_use_cases.py --model path/to/folder      # any other model that model2vec loads

support: find the passage that answers a question. code: find the snippet that does what is described. idioms: find what
a turn of phrase means, not what it says.

Each question has one right answer, so the answers are counted, beside two yardsticks. *Chance* is blind guessing. The
*control* has the model's own tokenizer and row norms with random directions: it can only match tokens. A few questions
show what a use case looks like; they do not rank models. Exit codes: 0 ok, 1 the run failed, 2 no usable model.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from model2vec import StaticModel

MODEL = next(iter(Path(__file__).parents[1].glob("demo/model")), "tss-deposium/qwen25-deposium-1024d")
CONTROL_SEEDS = 5

# fmt: off
#: Questions to a bike-sharing service, and the passage of its help pages that answers each.
SUPPORT = [
    ("I paid, but the lock will not open",
     "If a bike stays locked, turn Bluetooth off and on and scan the code again; we return the fee if that fails."),
    ("Can my twelve-year-old ride one?",
     "Riders must be at least sixteen; younger people may only travel as passengers on the cargo bikes."),
    ("Why was I charged twice?",
     "A duplicate payment is usually a reservation by your bank and disappears within five working days."),
    ("Where am I allowed to leave the bike?",
     "End the trip inside a blue zone of the map; parking elsewhere costs ten euros, blocking a pavement twenty-five."),
    ("I fell and the front wheel is bent, now what?",
     "After an accident, call the emergency number first, then report the damage with a photo; you are insured."),
    ("How do I stop my subscription?",
     "Plans renew each month; cancel under Profile, Membership, at least a day before the renewal date."),
]
#: Descriptions and the Python that does it; then snippets that do something near it.
CODE = [
    ("count how often each word occurs", "Counter(text.lower().split()).most_common()"),
    ("remove duplicates but keep the order", "list(dict.fromkeys(values))"),
    ("read a CSV file, one dictionary a line",
     "with open(path, newline='') as file:\n    rows = list(csv.DictReader(file))"),
    ("wait longer after every failed attempt",
     "while not connected(host):\n    time.sleep(delay)\n    delay = min(60, 2 * delay)"),
    ("remember results so that nothing is computed again", "@functools.lru_cache(maxsize=None)\ndef area(shape): ..."),
    ("swap rows and columns", "list(zip(*matrix))"),
    ("does this text read the same backwards?", "text == text[::-1]"),
]
NEAR_MISSES = ["[row[::-1] for row in matrix]", "sorted(set(values))", "csv.writer(file)", "time.sleep(60)"]
#: Turns of phrase, what they mean, and what they would mean literally.
IDIOMS = [
    ("The date is still up in the air", "Nothing has been decided yet", "The calendar floats above us"),
    ("I'm snowed under until Friday", "There is more work than I can do this week", "Bad weather keeps me indoors"),
    ("She let the cat out of the bag", "She revealed the secret", "Her pet escaped from its carrier"),
    ("We don't see eye to eye on this", "We disagree about it", "Our vision needs glasses"),
    ("The repair cost an arm and a leg", "It was far too expensive", "Somebody was badly injured"),
    ("I'll take a rain check", "Another time, not today", "I am going to look at the forecast"),
    ("The meeting was called off", "It will not take place", "Somebody phoned the participants"),
]
# fmt: on
#: Use case -> what is asked, and its questions with their right answers, then wrong answers.
USE_CASES = {
    "support": ("questions to a bike-sharing service", SUPPORT, []),
    "code": ("descriptions in plain words, snippets in Python", CODE, NEAR_MISSES),
    "idioms": (
        "what a turn of phrase means, among meanings and literal misreadings",
        [(turn, meaning) for turn, meaning, _ in IDIOMS],
        [literal for _, _, literal in IDIOMS],
    ),
}


def random_directions(model: StaticModel, seed: int) -> StaticModel:
    """Return the control: the model's tokenizer and row norms, random directions."""
    table = np.asarray(model.embedding, dtype=np.float32)
    noise = np.random.default_rng(seed).standard_normal(table.shape, dtype=np.float32)
    noise *= np.linalg.norm(table, axis=1, keepdims=True) / np.linalg.norm(noise, axis=1, keepdims=True)
    same = {"normalize": model.normalize, "weights": model.weights, "token_mapping": model.token_mapping}
    return StaticModel(noise, model.tokenizer, config=model.config, max_length=model.max_length, **same)


def cosines(model: StaticModel, queries: Sequence[str], candidates: Sequence[str]) -> np.ndarray:
    """Return the cosine of each query with each candidate, rounded so that ties are ties on every machine."""
    vectors = np.asarray(model.encode([*queries, *candidates]), dtype=np.float32)
    if not np.isfinite(vectors).all():
        raise ValueError("it gives NaN or infinite vectors")
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    return np.round(vectors[: len(queries)] @ vectors[len(queries) :].T, 6)


def credit(row: np.ndarray, right: int) -> float:
    """Return 1 if the right candidate is nearest, 0 if another is; tied with others, its share of the first place."""
    best = row == row.max()
    return float(best[right]) / float(best.sum())


def count(tables: Sequence[np.ndarray]) -> str:
    """Say how many questions (rows) have their answer, which has their number, first; the model's table is first."""
    model, *controls = (sum(credit(row, i) for i, row in enumerate(table)) for table in tables)
    questions, candidates = tables[0].shape
    control = sum(controls) / len(controls)
    return f"{model:4.1f} of {questions}, control {control:4.1f}, chance {questions / candidates:3.1f}"


def show(name: str, table: np.ndarray, candidates: Sequence[str]) -> None:
    """Print what the model finds for each question of a use case (* the right answer)."""
    asked, pairs, _ = USE_CASES[name]
    print(f"\n{name}: {asked}\n")
    for i, ((question, _), row) in enumerate(zip(pairs, table, strict=True)):
        print(f"  {'right' if credit(row, i) == 1 else 'wrong'}  {question}")
        for rank, j in enumerate(np.argsort(-row, kind="stable").tolist(), 1):
            if rank <= 2 or j == i:
                text = " ".join(candidates[j].split())
                print(f"         {rank:2}. {row[j]:6.3f} {'*' if j == i else ' '} {text}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: the process's) and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=MODEL, help="local folder or hub id (default: %(default)s)")
    args = parser.parse_args(argv)
    found: dict[str, list[np.ndarray]] = {name: [] for name in USE_CASES}
    candidates = {name: [right for _, right in pairs] + wrong for name, (_, pairs, wrong) in USE_CASES.items()}
    try:
        model = StaticModel.from_pretrained(args.model, force_download=False)
        # One control at a time: each is as large as the model.
        for seed in (None, *range(CONTROL_SEEDS)):
            space = model if seed is None else random_directions(model, seed)
            for name, tables in found.items():
                tables.append(cosines(space, [question for question, _ in USE_CASES[name][1]], candidates[name]))
    except Exception as error:  # model2vec, safetensors and the hub have no common base
        why = " ".join(str(error).split()) if Path(args.model).exists() else "bash run_qwen25.sh demo makes demo/model"
        parser.exit(2, f"error: {args.model} is no model that can be used: {why}\n")
    print(f"{args.model}: {len(model.tokens):,} tokens x {model.dim} dimensions")
    print(f"control: its tokenizer and row norms, random directions, the mean of {CONTROL_SEEDS} seeds")
    for name, tables in found.items():
        show(name, tables[0], candidates[name])
    print("\nRight answers first")
    for name, tables in found.items():
        print(f"  {name:13} {count(tables)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
