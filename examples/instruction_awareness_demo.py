#!/usr/bin/env python3
"""Does a static embedding model follow instructions, or does it only match words? Five steps to see it.

    pip install model2vec
    python instruction_awareness_demo.py                         # the published model, from the hub
    python instruction_awareness_demo.py --model path/to/folder  # any other model that model2vec loads

"Explain knitting", "Find articles about knitting" and "How do I start knitting?" name one topic and
want three different documents. A static model gives a text the mean of its tokens' vectors, so all
that it can know of an instruction lies in those vectors.

What the model gets wrong is shown as well, and every count stands beside two others. *Chance* is
blind guessing. The *control* has the model's own tokenizer and row norms with random directions: it
can only match tokens, and what the model scores above it is what its vectors are worth. Half of the
requests share no content word with the document that answers them, which may not even name the
topic: only there can a model show that it does more than match words, and a mere matcher falls below
chance. Exit codes: 0 ok, 1 the run failed, 2 no usable model.
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
CONTROL_SEEDS, WORST_SHOWN = 5, 5
BOLD, DIM, RED, GREEN = "1", "2", "31", "32"

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
  "telescopes": [
    ("What is the trick that lets telescopes see so far?",
     "A wide lens or mirror gathers more light than the pupil and focuses an image; the eyepiece magnifies it."),
    ("Give a short summary of how telescopes developed",
     "In summary: Dutch spectacle makers built the first in 1608, Newton added the mirror, today's fly in orbit."),
    ("Who has published something readable on telescopes?",
     "Try the essay 'Bigger Buckets for Starlight' in Night Sky Review, or Mei Tanaka's memoir 'Glass Giants'."),
    ("What advantage do telescopes in space have?",
     "The main advantage of space telescopes: no air blurs the image, no clouds hide the sky."),
    ("Mirror or lens: which sort of telescope should I buy?",
     "Reflectors give more aperture for the money but need aligning; refractors are crisp and rugged, yet dear."),
    ("How do I set up my telescope's finder?",
     "To align the finder, aim at a distant roof by day, centre it, then turn the finder's screws.")],
  "wind turbines": [
    ("Explain how blades make electricity in wind turbines",
     "Moving air lifts the blades as it lifts a wing; the shaft spins magnets past copper coils: a current flows."),
    ("Bring me up to speed on wind turbines in one minute",
     "From Persian mills to Danish designs to offshore giants, wind turbines now supply a good part of our power."),
    ("Which reports on wind turbines should I look up?",
     "Reports: 'Blades at Sea' (Grid Institute), 'Birds and Rotors' (Fen Trust), the energy agency's wind survey."),
    ("What speaks for wind turbines?",
     "No fuel, no smoke, the energy spent is paid back within months, and a farmer can graze sheep under them."),
    ("Are wind turbines cheaper than nuclear plants?",
     "Nuclear plants run day and night but cost more a megawatt-hour; wind turbines are cheaper."),
    ("I want wind turbines on my land; what must I do?",
     "Measure the breeze for a year, ask the council for permission, sign a grid connection, pour the foundation.")],
  "barcodes": [
    ("How does the till understand barcodes?",
     "A laser sweeps the stripes; dark ones reflect less, and the widths of bars and gaps spell digits."),
    ("Summarise where barcodes came from",
     "To summarise: drawn in sand in 1949, barcodes were first scanned in 1974 and now mark nearly all goods."),
    ("Point me to sources about barcodes",
     "Lena Holt, 'Stripes That Sold the World' (Counter Press); the standards body's library; Retail Past, no. 9."),
    ("What do shops gain from barcodes?",
     "Shops gain speed at the till, fewer pricing errors, and a stock count that updates itself with every sale."),
    ("QR or classic barcodes for my tickets?",
     "Square codes hold a web address and survive a tear; the striped kind suits any cheap scanner."),
    ("How do I print barcodes for my own products?",
     "Buy a number range, type each into label software, print with white margins, test with a scanner.")],
  "yoga": [
    ("Explain what slow breathing in yoga does to the body",
     "In yoga, slow breathing with long exhalations stimulates the vagus nerve, and the heart calms."),
    ("The essence of yoga, as concisely as you can",
     "Put simply, an Indian discipline of posture, breath and attention that the West took up mostly as exercise."),
    ("Are there any videos or studies on yoga for back pain?",
     "Studies: 'Stretching Backs' (Clinic Letters, 2019), a review by Rao. Videos: the Quiet Mat channel."),
    ("What would yoga do for somebody like me at a desk all day?",
     "It loosens stiff hips and shoulders, strengthens the core, improves balance, and helps many people sleep."),
    ("How does yoga differ from pilates?",
     "Pilates drills the trunk with small controlled moves; yoga holds whole-body poses and adds meditation."),
    ("First downward dog ever: walk me through this yoga pose",
     "Kneel on all fours, tuck your toes, push the hips to the ceiling, press the palms flat, let the head hang.")],
  "dictation software": [
    ("What happens in dictation software after I say a word?",
     "The microphone's signal is sliced, a network guesses sounds, and a language model picks likely sentences."),
    ("Give me an overview of dictation software",
     "An overview: from machines that knew ten digits in 1952 to phones that transcribe anyone in sixty years."),
    ("Where can I read more about dictation software?",
     "Start with Noor Haddad's column 'Talking to Machines' and the survey 'Speech at Work' in Office Science."),
    ("Name the benefits of dictation software for writers",
     "The benefits for writers: three times the pace of typing, no sore wrists, drafts that sound spoken."),
    ("Would I be faster with dictation software or at the keyboard?",
     "Speaking yields more per minute but more mistakes to correct; typing is slower and silent."),
    ("How do I turn on dictation on my phone?",
     "Open the settings of the phone, choose keyboard, turn on dictation, then tap the microphone and speak.")],
}
TEMPLATES = ("Explain {}", "Summarise {}", "Find articles about {}", "What are the advantages of {}?",
             "Compare {} with the alternatives", "How do I get started with {}?")
# fmt: on

TOPICS, SHAPE = tuple(GRID), (len(GRID), len(INTENTS))
REQUESTS, DOCUMENTS = ([pair[k] for pairs in GRID.values() for pair in pairs] for k in (0, 1))
ASKED = [template.format(topic) for template in TEMPLATES for topic in TOPICS]
#: Whether a request shares a content word, the topic's own aside, with the document that answers it.
WORDED = np.array([(topic + intent) % 2 == 0 for topic, intent in np.ndindex(SHAPE)])
CHANCE = {"intent": 1 / SHAPE[1], "topic": 1 / SHAPE[0], "both": 1 / (sum(SHAPE) - 1)}

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
    texts = [*REQUESTS, *DOCUMENTS, *TOPICS, *ASKED]
    vectors = np.asarray(model.encode(texts), dtype=np.float32)
    if not np.isfinite(vectors).all():
        raise ValueError("it gives NaN or infinite vectors")
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    return dict(zip(texts, vectors, strict=True))


def cosines(space: Space, queries: Sequence[str], candidates: Sequence[str]) -> np.ndarray:
    """Return the cosine of each query with each candidate, rounded so that ties are ties on every machine."""
    return np.round(np.stack([space[q] for q in queries]) @ np.stack([space[c] for c in candidates]).T, 6)


def credit(row: np.ndarray, right: int) -> float:
    """Return 1 if the right candidate is nearest, 0 if another is; tied with others, its share of the first place."""
    best = row == row.max()
    return float(best[right]) / float(best.sum())


def grid_credits(table: np.ndarray) -> dict[str, np.ndarray]:
    """Return which requests find their intent among the topic's documents, their topic among the intent's, both."""
    found = {part: np.empty(len(table)) for part in CHANCE}
    for k, (topic, intent) in enumerate(np.ndindex(SHAPE)):
        same_topic, same_intent = table[k].reshape(SHAPE)[topic], table[k].reshape(SHAPE)[:, intent]
        found["intent"][k] = credit(same_topic, intent)
        found["topic"][k] = credit(same_intent, topic)
        found["both"][k] = credit(np.concatenate([same_topic, np.delete(same_intent, topic)]), intent)
    return found


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


def count(credits: Sequence[np.ndarray], chance: float) -> Count:
    """Sum the model's credits, which come first, and average the sums of the controls."""
    model, *controls = (float(c.sum()) for c in credits)
    return Count(model, credits[0].size, sum(controls) / len(controls), chance * credits[0].size)


def paint(text: str, *codes: str) -> str:
    """Colour ``text`` on a terminal; leave it plain in a pipe or where NO_COLOR asks for it."""
    wanted = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    return f"\033[{';'.join(codes)}m{text}\033[0m" if wanted else text


def one_topic(spaces: list[Space]) -> None:
    """Step 1. One topic: six documents, and which of them is nearest to each of six requests"""
    requests, documents = zip(*GRID[TOPICS[0]], strict=True)
    for intent, document in zip(INTENTS, documents, strict=True):
        print(f"  {intent:13} {paint(document, DIM)}")
    tables = [cosines(space, requests, documents) for space in spaces]
    credits = [np.array([credit(row, i) for i, row in enumerate(table)]) for table in tables]
    print("\n         cosine  nearest document of the request")
    for i, row in enumerate(tables[0]):
        right, best = credits[0][i] == 1, int(row.argmax())
        mark = paint("right", GREEN) if right else paint("wrong", RED)
        instead = "" if right else f" ({INTENTS[i]}: {row[i]:.3f})"
        print(f"  {mark}  {row[best]:6.3f}  {INTENTS[best]:13} {requests[i]}{instead}")
    print(f"  {count(credits, CHANCE['intent'])}")


def other_topics(spaces: list[Space]) -> None:
    """Step 2. The same instructions in the same words on each topic, among the documents of all"""
    print("  one sign a topic: + the right document, t right topic only, i right intent only, . neither")
    tables = [cosines(space, ASKED, DOCUMENTS).reshape(SHAPE[1], SHAPE[0], -1) for space in spaces]
    for i, template in enumerate(TEMPLATES):
        credits = [np.array([credit(row, t * SHAPE[1] + i) for t, row in enumerate(table[i])]) for table in tables]
        nearest = [divmod(int(row.argmax()), SHAPE[1]) for row in tables[0][i]]
        signs = "".join(".it+"[2 * (topic == t) + (intent == i)] for t, (topic, intent) in enumerate(nearest))
        print(f"  {template.format('...'):33} {signs}  {count(credits, 1 / len(DOCUMENTS))}")


def whole_grid(spaces: list[Space]) -> None:
    """Step 3. The whole test set: how many of its requests find the right document [95 % interval]"""
    found = [grid_credits(cosines(space, REQUESTS, DOCUMENTS)) for space in spaces]
    counts = {part: count([f[part] for f in found], CHANCE[part]) for part in CHANCE}
    with_word, without = intents_by_wording(spaces)
    print(f"  topic, among the documents of the intent  {counts['topic']}")
    print(f"  intent, among the documents of the topic  {counts['intent']}")
    print(f"     of requests that share a word with it  {with_word}")
    print(f"     of requests that share none            {without}")
    print(f"  both, among all of these                  {counts['both']}")


def intents_by_wording(spaces: list[Space]) -> tuple[Count, Count]:
    """Count the intents found by requests that share a word with their document, and by the others."""
    found = [grid_credits(cosines(space, REQUESTS, DOCUMENTS))["intent"] for space in spaces]
    return count([f[WORDED] for f in found], CHANCE["intent"]), count([f[~WORDED] for f in found], CHANCE["intent"])


def worst_mistakes(spaces: list[Space]) -> None:
    """Step 4. The worst mistakes: what the model prefers by far to the document that answers"""
    table = cosines(spaces[0], REQUESTS, DOCUMENTS)
    behind = table.diagonal() - table.max(axis=1)
    for k in np.argsort(behind, kind="stable")[:WORST_SHOWN]:
        if behind[k] < 0:
            best = int(table[k].argmax())
            print(f"  asked          {paint(REQUESTS[k], BOLD)}")
            print(f"  chosen {table[k, best]:6.3f}  {DOCUMENTS[best]}\n  right  {table[k, k]:6.3f}  {DOCUMENTS[k]}\n")
    print(f"  {(behind < 0).sum()} of {len(REQUESTS)} requests have another document nearer than their own")


def without_instruction(spaces: list[Space]) -> None:
    """Step 5. Without the instruction: how many are right by the topic alone or the wrong request"""
    asked, *controls = (cosines(space, REQUESTS, DOCUMENTS) for space in spaces)
    cells = asked.reshape(*SHAPE, -1)
    rows = {
        "as asked": [asked],
        "the topic alone": [cosines(spaces[0], [topic for topic in TOPICS for _ in INTENTS], DOCUMENTS)],
        "the request of another intent": [np.roll(cells, k, axis=1).reshape(asked.shape) for k in range(1, SHAPE[1])],
        "as asked, random directions": controls,
    }
    print(f"  {f'of {len(REQUESTS)}':30}" + "".join(f"{part:>8}" for part in CHANCE))
    for name, tables in rows.items():
        means = [np.mean([grid_credits(table)[part].sum() for table in tables]) for part in CHANCE]
        print(f"  {name:30}" + "".join(f"{mean:8.1f}" for mean in means))
    print(f"  {'chance':30}" + "".join(f"{share * len(REQUESTS):8.1f}" for share in CHANCE.values()))


def conclusion(with_word: Count, without: Count) -> str:
    """Say in one line what the numbers allow to say."""
    numbers = f"{without.right:.1f} of {without.of} intents without a shared word (control {without.control:.1f})"
    if without.better:
        return paint("Instructions are followed", BOLD, GREEN) + f", not only words matched: {numbers}."
    if with_word.interval[0] > CHANCE["intent"]:
        return paint("Only words are matched", BOLD, RED) + f", as far as so few requests can tell: {numbers}."
    return paint("Neither instructions nor words are matched", BOLD, RED) + f": {numbers}."


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: the process's) and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=MODEL, help="local folder or hub id (default: %(default)s)")
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
    for step in (one_topic, other_topics, whole_grid, worst_mistakes, without_instruction):
        print(paint(f"\n{step.__doc__}", BOLD))
        step(spaces)
    print("\n" + conclusion(*intents_by_wording(spaces)))
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
