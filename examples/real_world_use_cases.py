#!/usr/bin/env python3
"""Five things that people build on embeddings, tried on a static embedding model, mistakes and all.

    pip install model2vec scikit-learn                         # scikit-learn is for routing alone
    python real_world_use_cases.py                             # the published model, from the hub
    python real_world_use_cases.py --model path/to/folder      # any other model that model2vec loads
    python real_world_use_cases.py --use-case support          # only one of them

documentation: find the section that answers a question. support: find the passages for a prompt
(RAG). code: find the snippet that does what is described. idioms: find what a turn of phrase means,
not what it says. routing: train a classifier on twenty requests, send sixteen others to the right tool.

Each question has one right answer, so the answers are counted, beside two yardsticks. *Chance* is
blind guessing. The *control* has the model's own tokenizer and row norms with random directions: it
can only match tokens, and what the model scores above it is what its vectors are worth. A dozen
questions show what a use case looks like; they do not rank models. Exit codes: 0 ok, 1 the run
failed, 2 no usable model.
"""

from __future__ import annotations

import signal
import sys

if __name__ == "__main__":  # before all imports that take a while
    signal.signal(signal.SIGINT, lambda *_: sys.exit("error: interrupted: run it again"))
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # "| head" ends the script quietly
    if sys.stdout is None:
        sys.exit("error: standard output is closed: there is nowhere to print to")

import argparse
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from model2vec import StaticModel

MODEL = "tss-deposium/qwen25-deposium-1024d"
CONTROL_SEEDS = 5
HITS_SHOWN = 2
PASSAGES = 3  # how many go into the prompt
BOLD, DIM, RED, GREEN = "1", "2", "31", "32"

# fmt: off
#: Questions to the manual of a backup tool, and the section that answers each.
DOCUMENTATION = [
    ("How do I leave some folders out?",
     "Exclusions: put one pattern a line into .tarnignore; files and directories that match are skipped."),
    ("My laptop was stolen, how do I get everything back?",
     "Restore: tarn restore SNAPSHOT --to DIR writes the saved tree to an empty directory, on any machine."),
    ("run it every night by itself",
     "Scheduling: tarn schedule --daily 02:00 installs a timer; nobody needs to be logged in."),
    ("the disk is filling up with old copies",
     "Retention: tarn prune --keep 7 deletes all but the newest snapshots and frees their space."),
    ("Can somebody who takes the drive read my data?",
     "Encryption: archives are sealed with AES-256 before they leave the computer; only the passphrase opens them."),
    ("what if I forget the passphrase",
     "Recovery key: print it at setup and keep the paper; without it a lost secret cannot be reset, by us or anyone."),
    ("Uploading takes ages on my home connection",
     "Bandwidth: --limit 500k caps the network rate; --compress zstd trades processor time for fewer bytes."),
    ("make sure that a backup is not corrupt",
     "Verification: tarn check reads every block and compares its hash; damaged ones are listed by file."),
    ("keep the backups in S3",
     "Remotes: a target may be a local path, an SSH host, or a bucket at any provider of object storage."),
    ("see what changed since last week",
     "Diff: tarn diff A B lists what was added, modified or removed between two snapshots."),
    ("call it from a script and react to errors",
     "Exit status: 0 means success, 1 that some paths were unreadable, 2 that nothing was saved."),
    ("install on a computer without internet",
     "Offline setup: download the binary and its signature elsewhere, carry both over, run tarn --version."),
]
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
    ("My backpack is still in the basket",
     "Lost property is kept at the depot for thirty days; write to us with the trip number and a description."),
    ("Does it work in other cities?",
     "One account is valid in all nineteen towns of the network, at local prices."),
    ("The battery died halfway up the hill",
     "If the motor stops for lack of charge, you may end the ride anywhere and pay nothing for it."),
    ("I have a new phone and cannot log in",
     "To move your account to another device, request a code by e-mail on the sign-in page."),
    ("Do students pay less?",
     "Reduced fares: half price with a valid university or apprentice card, uploaded once a year."),
    ("What happens to my location data?",
     "Routes are stored without your name after a week and deleted after a year; you can erase them at any time."),
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
    ("the ten largest files in a folder and below",
     "sorted(root.rglob('*'), key=lambda p: p.stat().st_size)[-10:]"),
    ("swap rows and columns", "list(zip(*matrix))"),
    ("does this text read the same backwards?", "text == text[::-1]"),
    ("cut a list into pieces of equal size", "[items[i : i + n] for i in range(0, len(items), n)]"),
    ("how many days lie between two dates", "abs((date.fromisoformat(a) - date.fromisoformat(b)).days)"),
    ("ask for a password without showing it", "secret = getpass.getpass('Secret: ')"),
    ("do several downloads at once", "with ThreadPoolExecutor(8) as pool:\n    pages = list(pool.map(urlopen, urls))"),
    ("find all e-mail addresses in a text", "re.findall(r'[\\w.]+@[\\w.]+', text)"),
    ("flatten a list of lists", "list(itertools.chain.from_iterable(nested))"),
]
NEAR_MISSES = ["[row[::-1] for row in matrix]", "sorted(set(values))", "csv.writer(file)", "time.sleep(60)"]
#: Turns of phrase, what they mean, and what they would mean literally.
IDIOMS = [
    ("The date is still up in the air", "Nothing has been decided yet", "The calendar floats above us"),
    ("I'm snowed under until Friday", "There is more work than I can do this week", "Bad weather keeps me indoors"),
    ("She let the cat out of the bag", "She revealed the secret", "Her pet escaped from its carrier"),
    ("We don't see eye to eye on this", "We disagree about it", "Our vision needs glasses"),
    ("The repair cost an arm and a leg", "It was far too expensive", "Somebody was badly injured"),
    ("Could you give me a hand?", "Please help me", "Show me your fingers"),
    ("I'll take a rain check", "Another time, not today", "I am going to look at the forecast"),
    ("The meeting was called off", "It will not take place", "Somebody phoned the participants"),
    ("Hang in there!", "Do not give up", "Stay suspended from that hook"),
    ("Stop sitting on the fence", "Make up your mind", "Get down from that gate"),
    ("He's pulling your leg", "He is joking with you", "He tugs at your knee"),
    ("It's raining cats and dogs", "There is a heavy downpour", "Animals are falling from the clouds"),
    ("She's in hot water with her boss", "Her manager is angry with her", "The two of them took a bath"),
    ("You're burning the candle at both ends", "You work too much and rest too little", "Your lamp has two flames"),
]
#: Tool -> requests to learn from, and requests on other subjects to send to it.
ROUTES = {
    "explain": (
        ["Explain why the sky is blue", "What causes inflation?", "Help me understand black holes",
         "Why do cats purr?", "What does entropy actually mean?"],
        ["Explain how magnets attract iron", "Why does bread go stale?", "What makes the tide rise?",
         "I don't understand compound interest"]),
    "search": (
        ["Find papers on soil erosion", "Search for reviews of hiking boots", "Which websites list vegan bakeries?",
         "Look up studies on sleep", "Show me links about sign painting"],
        ["Find recipes with lentils", "Are there any podcasts on architecture?",
         "Search the archive for maps of Lisbon", "I'm looking for sources about whaling"]),
    "summarise": (
        ["Summarise the French Revolution", "Give me the short version of this contract", "Sum up yesterday's meeting",
         "Boil this report down to three lines", "What are the key points of the novel?"],
        ["Summarise the new tax law", "The plot of Hamlet in two sentences, please",
         "Give me a quick recap of the match", "What is the gist of this e-mail?"]),
    "guide": (
        ["How do I unclog a sink?", "Steps to renew a passport", "Teach me to tie a bow tie",
         "Guide me through changing a tyre", "How can I export my contacts?"],
        ["How do I prune roses?", "What are the steps for filing a complaint?", "Show me how to solder a wire",
         "Walk me through setting up the printer"]),
}
# fmt: on
TEXTS = [
    *(text for rows in (DOCUMENTATION, SUPPORT, CODE, IDIOMS) for row in rows for text in row),
    *NEAR_MISSES,
    *(text for parts in ROUTES.values() for part in parts for text in part),
]

#: Text -> its vector, of length 1.
Space = dict[str, np.ndarray]


def random_directions(model: StaticModel, seed: int) -> StaticModel:
    """Return the control: the model's tokenizer and row norms, random directions."""
    table = np.asarray(model.embedding, dtype=np.float32)
    noise = np.random.default_rng(seed).standard_normal(table.shape, dtype=np.float32)
    noise *= np.linalg.norm(table, axis=1, keepdims=True) / np.linalg.norm(noise, axis=1, keepdims=True)
    same = {"normalize": model.normalize, "weights": model.weights, "token_mapping": model.token_mapping}
    return StaticModel(noise, model.tokenizer, config=model.config, max_length=model.max_length, **same)


def embed(model: StaticModel) -> Space:
    """Return the vectors of all texts, scaled to length 1 (a zero vector stays zero)."""
    vectors = np.asarray(model.encode(TEXTS), dtype=np.float32)
    if not np.isfinite(vectors).all():
        raise ValueError("it gives NaN or infinite vectors")
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    return dict(zip(TEXTS, vectors, strict=True))


def cosines(space: Space, queries: Sequence[str], candidates: Sequence[str]) -> np.ndarray:
    """Return the cosine of each query with each candidate, rounded so that ties are ties on every machine."""
    return np.round(np.stack([space[q] for q in queries]) @ np.stack([space[c] for c in candidates]).T, 6)


def credit(row: np.ndarray, right: int, places: int = 1) -> float:
    """Return 1 if the right candidate is among the first ``places``, else 0; between, if ties decide it by lot."""
    better, tied = float((row > row[right]).sum()), float((row == row[right]).sum())
    return min(1.0, max(0.0, (places - better) / tied))


@dataclass(frozen=True)
class Count:
    """How many of ``of`` the model gets right, and how many the control and chance."""

    right: float
    of: int
    control: float
    chance: float

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the model's share."""
        z, n, p = 1.96, self.of, self.right / self.of
        centre, spread = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return max(0.0, (centre - spread) / (1 + z * z / n)), min(1.0, (centre + spread) / (1 + z * z / n))

    @property
    def better(self) -> bool:
        """Whether the whole interval lies above the control and chance."""
        return self.interval[0] > max(self.control, self.chance) / self.of

    def __str__(self) -> str:
        share = "{:4.1f} of {} [{:4.0%}, {:4.0%}]".format(self.right, self.of, *self.interval)
        beaten = paint("better", GREEN) if self.better else paint("not shown better", RED)
        return f"{share}  control {self.control:4.1f}, chance {self.chance:3.1f}: {beaten}"


def count(tables: Sequence[np.ndarray], right: Sequence[int], places: int = 1) -> Count:
    """Count who puts the right candidate among the first ``places``.

    :param tables: the model's scores, one row a question, one column a candidate; then each control's.
    :param right: the right candidate of each question.
    """
    model, *controls = (sum(credit(row, r, places) for row, r in zip(t, right, strict=True)) for t in tables)
    return Count(model, len(right), sum(controls) / len(controls), places * len(right) / tables[0].shape[1])


def paint(text: str, *codes: str) -> str:
    """Colour ``text`` on a terminal; leave it plain in a pipe or where NO_COLOR asks for it."""
    wanted = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    return f"\033[{';'.join(codes)}m{text}\033[0m" if wanted else text


def mark(right: bool) -> str:
    """Say whether an answer is right."""
    return paint("right", GREEN) if right else paint("wrong", RED)


def search(spaces: list[Space], queries: Sequence[str], pool: Sequence[str]) -> list[np.ndarray]:
    """Print what the model finds for each query, whose right answer stands at the query's own place in the pool."""
    tables = [cosines(space, queries, pool) for space in spaces]
    for i, (query, row) in enumerate(zip(queries, tables[0], strict=True)):
        order = np.argsort(-row, kind="stable").tolist()
        print(f"  {mark(credit(row, i) == 1)}  {paint(query, BOLD)}")
        for rank, j in enumerate(order, 1):
            if rank <= HITS_SHOWN or j == i:
                text = f"{rank:2}. {row[j]:6.3f} {'*' if j == i else ' '} {' '.join(pool[j].split())}"
                print(f"         {text if j == i else paint(text, DIM)}")
    return tables


def documentation(spaces: list[Space]) -> Count:
    """Documentation search: questions to the manual of a backup tool (* the section that answers)"""
    queries, sections = zip(*DOCUMENTATION, strict=True)
    return count(search(spaces, queries, sections), range(len(queries)))


def support(spaces: list[Space]) -> Count:
    """Support (RAG): questions to a bike-sharing service (* the passage that answers)"""
    queries, passages = zip(*SUPPORT, strict=True)
    tables = search(spaces, queries, passages)
    print(f"\n  The prompt that a language model would get for the first question, with {PASSAGES} passages:\n")
    best = np.argsort(-tables[0][0], kind="stable")[:PASSAGES]
    context = "\n".join(f"    [{k}] {passages[j]}" for k, j in enumerate(best, 1))
    print(f"    Answer from these passages only; say so if they do not tell.\n{context}\n    Question: {queries[0]}\n")
    print(f"  answer is in the prompt    {count(tables, range(len(queries)), PASSAGES)}")
    return count(tables, range(len(queries)))


def code(spaces: list[Space]) -> Count:
    """Code search: descriptions in plain words, snippets in Python (* the one that does it)"""
    queries, snippets = zip(*CODE, strict=True)
    return count(search(spaces, queries, [*snippets, *NEAR_MISSES]), range(len(queries)))


def idioms(spaces: list[Space]) -> Count:
    """Conversation: what a turn of phrase means, among meanings and literal misreadings (* the meaning)"""
    queries, meanings, literal = zip(*IDIOMS, strict=True)
    tables = search(spaces, queries, [*meanings, *literal])
    here = np.arange(len(queries))
    pairs = [np.stack([table[here, here], table[here, here + len(queries)]], axis=1) for table in tables]
    print(f"\n  meaning before misreading  {count(pairs, [0] * len(queries))}")
    return count(tables, range(len(queries)))


def routing(spaces: list[Space]) -> Count:
    """Routing: which tool should serve a request? Learned on 20 requests, tried on others"""
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError:
        raise SystemExit("error: routing needs scikit-learn: pip install scikit-learn") from None
    learned, known = zip(*[(text, k) for k, (texts, _) in enumerate(ROUTES.values()) for text in texts], strict=True)
    asked, right = zip(*[(text, k) for k, (_, texts) in enumerate(ROUTES.values()) for text in texts], strict=True)
    tables = []
    for space in spaces:
        classifier = LogisticRegression(max_iter=1000).fit(np.stack([space[text] for text in learned]), known)
        tables.append(np.round(classifier.predict_proba(np.stack([space[text] for text in asked])), 6))
    for text, k, row in zip(asked, right, tables[0], strict=True):
        best = int(row.argmax())
        print(f"  {mark(credit(row, k) == 1)}  {row[best]:4.0%} {list(ROUTES)[best]:9}  {text}")
    return count(tables, right)


USE_CASES = {f.__name__: f for f in (documentation, support, code, idioms, routing)}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: the process's) and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=MODEL, help="local folder or hub id (default: %(default)s)")
    parser.add_argument("--use-case", choices=list(USE_CASES), help="only this one (default: all)")
    parser.add_argument("--seed", type=int, default=42, help="of the controls (default: %(default)s)")
    args = parser.parse_args(argv)
    if not 0 <= args.seed < 2**32:
        parser.exit(2, f"error: --seed is a whole number from 0 to {2**32 - 1}, not {args.seed}\n")
    try:
        model = StaticModel.from_pretrained(args.model, force_download=False)
        # One control at a time: each is as large as the model.
        spaces = [embed(model), *(embed(random_directions(model, args.seed + k)) for k in range(CONTROL_SEEDS))]
    except Exception as error:  # model2vec, safetensors and the hub have no common base
        parser.exit(2, f"error: {args.model} is no model that can be used: {' '.join(str(error).split())}\n")
    print(f"{paint(args.model, BOLD)}: {len(model.tokens):,} tokens x {model.dim} dimensions")
    print(f"control: its tokenizer and row norms, random directions, the mean of {CONTROL_SEEDS} seeds")
    counts = {}
    for name in [args.use_case] if args.use_case else USE_CASES:
        print(paint(f"\n{USE_CASES[name].__doc__}\n", BOLD))
        counts[name] = USE_CASES[name](spaces)
        print(f"  right answer first         {counts[name]}")
    print(paint("\nRight answers [95 % interval]", BOLD))
    for name, result in counts.items():
        print(f"  {name:13} {result}")
    better = [name for name, result in counts.items() if result.better]
    print(f"\nBetter than matching tokens in {len(better)} of {len(counts)}: {', '.join(better) or 'none'}.")
    return 0


if __name__ == "__main__":
    try:
        try:
            sys.exit(main())
        finally:
            sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python, as it ends, would try once more
        sys.exit(f"error: cannot print: {error.strerror}")
