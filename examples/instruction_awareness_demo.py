#!/usr/bin/env python3
"""Does a static embedding model follow instructions, or does it only match words?

    pip install model2vec
    python instruction_awareness_demo.py                         # the demo's model, else the hub's
    python instruction_awareness_demo.py --model path/to/folder  # any other model that model2vec loads

Every count stands beside two others. *Chance* is blind guessing. The *control* has the model's own tokenizer and row
norms with random directions: it can only match tokens. Half of the requests share no content word with the document
that answers them: only there can a model show that it does more. So few requests do not rank models.
Exit codes: 0 ok, 1 the run failed, 2 no usable model.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from model2vec import StaticModel

MODEL = next(iter(Path(__file__).parents[1].glob("demo/model")), "tss-deposium/qwen25-deposium-1024d")
CONTROL_SEEDS = 5
INTENTS = ("explain", "summarise", "find_articles", "advantages", "compare", "how_to")
#: Topic -> six pairs of a request and the document that answers it, in the order of INTENTS. Requests
#: that share a content word with their document and requests that do not alternate like a chessboard.
# fmt: off
GRID = {
  "knitting": [
    ("Explain how knitted loops hold together",
     "Each stitch is a loop of yarn pulled through the one below; the loops lock, so the fabric stretches."),
    ("Knitting in a few sentences, please",
     "In short, knitting spread from medieval Egypt to Europe's guilds, and lives on as a hobby."),
    ("Find me good articles about knitting",
     "Three articles: 'Wool and Patience' (Craft Weekly), 'Why Hands Knit' (The Loom), 'Sock Heels' (Yarn Post)."),
    ("Why would anyone bother to take up knitting?",
     "Knitting calms the mind, keeps fingers supple, costs little, and leaves you with warm clothes that fit."),
    ("Knitting or crochet, which is quicker?",
     "Crochet works one loop with a hook and grows faster; knitting keeps many on two needles and drapes better."),
    ("I have wool and needles, where do I begin with knitting?",
     "1. Make a slip knot. 2. Cast on twenty stitches. 3. Slide the tip into the first loop, wrap the yarn, pull.")],
  "mortgages": [
    ("How on earth does a mortgage work?",
     "A bank lends the price of a house and holds it as security; instalments pay interest first, then the debt."),
    ("Summarise the history of mortgages",
     "A brief history: a 'dead pledge' in medieval England, a mass product after 1930, a global crash in 2008."),
    ("Anything worth reading on mortgages?",
     "See Ana Ruiz's book 'Thirty Years of Debt', the Borrower's Quarterly, the mortgage pages of Homewise."),
    ("What are the benefits of having a mortgage?",
     "The benefits of a mortgage: you own a home decades sooner, no rent can rise, and inflation eats the debt."),
    ("Should my mortgage be fixed or follow the base rate?",
     "A constant instalment buys certainty; a variable one starts cheaper but climbs when policy tightens."),
    ("How do I apply for a mortgage?",
     "First check your credit file, save a deposit, get an agreement in principle, then apply with your payslips.")],
  "olive oil": [
    ("Explain why olive oil goes rancid",
     "Olive oil turns rancid because oxygen, light and heat break its fats into sharp-smelling aldehydes."),
    ("Give me the gist of olive oil",
     "Briefly: pressed for six thousand years, olive oil went from lamp fuel and ointment to kitchen staple."),
    ("Recommend some books about olive oil",
     "Recommended books: 'Green and Bitter' by Petra Lind, 'A Year of Pressing' by Sam Adeyemi."),
    ("Is olive oil actually good for me?",
     "Rich in monounsaturated fat and polyphenols, olive oil lowers bad cholesterol and protects the heart."),
    ("Olive oil or butter for frying?",
     "Butter burns sooner and holds more saturated fat; olive oil stays stable in the pan but adds its own taste."),
    ("Teach me to recognise a decent olive oil",
     "Warm a spoonful in a covered glass, sniff for cut grass, sip, look for bitterness and a peppery cough.")],
}
# fmt: on
SHAPE = (len(GRID), len(INTENTS))
REQUESTS, DOCUMENTS = ([pair[k] for pairs in GRID.values() for pair in pairs] for k in (0, 1))
#: Whether a request shares a content word, the topic's own aside, with the document that answers it.
WORDED = np.array([(topic + intent) % 2 == 0 for topic, intent in np.ndindex(SHAPE)])


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


def grid_credits(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which requests find their topic among their intent's documents, and their intent among their topic's."""
    topics, intents = np.empty(len(table)), np.empty(len(table))
    for k, (topic, intent) in enumerate(np.ndindex(SHAPE)):
        cells = table[k].reshape(SHAPE)
        topics[k], intents[k] = credit(cells[:, intent], topic), credit(cells[topic], intent)
    return topics, intents


def count(credits: Sequence[np.ndarray], chance: float) -> str:
    """Say how many are right; the model's credits come first, then those of each control."""
    model, *controls = (float(found.sum()) for found in credits)
    of = credits[0].size
    return f"{model:4.1f} of {of}, control {sum(controls) / len(controls):4.1f}, chance {chance * of:3.1f}"


def show(tables: Sequence[np.ndarray]) -> None:
    """Print which of its six documents is nearest to each request of the first topic, then the counts of all."""
    print("\nOne topic: which of its six documents is nearest to each of six requests\n")
    for i, row in enumerate(tables[0][: len(INTENTS), : len(INTENTS)]):
        best = int(row.argmax())
        print(f"  {'right' if credit(row, i) == 1 else 'wrong'}  {row[best]:6.3f}  {INTENTS[best]:13} {REQUESTS[i]}")
    topics, intents = zip(*map(grid_credits, tables), strict=True)
    chance = 1 / SHAPE[1]
    print("\nThe whole test set: how many of its requests find the right document\n")
    print(f"  topic, among the documents of the intent  {count(topics, 1 / SHAPE[0])}")
    print(f"  intent, among the documents of the topic  {count(intents, chance)}")
    print(f"     of requests that share a word with it  {count([found[WORDED] for found in intents], chance)}")
    print(f"     of requests that share none            {count([found[~WORDED] for found in intents], chance)}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: the process's) and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=MODEL, help="local folder or hub id (default: %(default)s)")
    args = parser.parse_args(argv)
    try:
        model = StaticModel.from_pretrained(args.model, force_download=False)
        # One control at a time: each is as large as the model.
        tables = [cosines(model, REQUESTS, DOCUMENTS)]
        tables += [cosines(random_directions(model, seed), REQUESTS, DOCUMENTS) for seed in range(CONTROL_SEEDS)]
    except Exception as error:  # model2vec, safetensors and the hub have no common base
        why = " ".join(str(error).split()) if Path(args.model).exists() else "bash run_qwen25.sh demo makes demo/model"
        parser.exit(2, f"error: {args.model} is no model that can be used: {why}\n")
    print(f"{args.model}: {len(model.tokens):,} tokens x {model.dim} dimensions")
    print(f"control: its tokenizer and row norms, random directions, the mean of {CONTROL_SEEDS} seeds")
    show(tables)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
