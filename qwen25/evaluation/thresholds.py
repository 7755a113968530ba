"""What a score means: the cosines of unrelated texts and of right answers, and where to cut between them."""

from __future__ import annotations

from typing import Any

import numpy as np

from qwen25.evaluation.categories import calibration_folder, load_items
from qwen25.evaluation.category import Item
from qwen25.evaluation.matching import Matcher
from qwen25.runtime.files import read_json, resource

#: Name -> the most characters of a text; of a pair, the mean of the two counts.
LENGTHS = {"short": 80.0, "medium": 300.0, "long": np.inf}
PERCENTILES = {"median": 50.0, "p95": 95.0, "p99": 99.0, "p99.9": 99.9}
#: Name of a cut -> the percentile of unrelated texts at which it lies.
CUTS = {"near": 99.0, "match": 99.9}
#: A cut that fewer right answers reach, while 1 in 100 unrelated texts does, parts nothing.
LEAST_RIGHT = 0.5
#: A language is read if at least this share of its sentences find their translations among all English texts of the
#: calibration, and at least so many times the share that they do by random directions, which find names and letters.
ENGLISH, READ, TIMES_CONTROL = "en", 0.3, 3.0
#: Languages that put no space between sentences.
UNSPACED = ("ja", "zh", "th")
#: Other items' answers that are set beside each query.
OTHERS = 20
#: Texts are made of this many sentences, as often as this for each language.
SENTENCES, DRAWS = (1, 4, 8), 20
#: English texts of so many sentences, and how many sentences a chunk has that must not beat a sentence's paraphrase.
JOINED, CHUNK = (1, 4, 16), 16
#: Category of calibration items -> the fields of two texts that belong together.
RIGHT = {
    "semantic_similarity": ("anchor", "paraphrase"),
    "conversational_understanding": ("text", "meaning"),
    "code_understanding": ("description", "code"),
}


def score_meaning(unrelated: np.ndarray, lengths: np.ndarray, right: np.ndarray) -> dict[str, Any]:
    """Return what a cosine says.

    :param unrelated: the cosines of unrelated texts; shape (pairs,).
    :param lengths: the mean number of characters of their two texts; shape (pairs,).
    :param right: the cosines of queries with their right answers; shape (other pairs,).
    :return: percentiles of ``unrelated`` for each length and for all, and of ``right``; the ``cuts``, each a cosine
        with the share of right answers that reach it; whether they ``part`` the two.
    """
    place = np.searchsorted(list(LENGTHS.values()), lengths)
    groups = {name: unrelated[place == i] for i, name in enumerate(LENGTHS)} | {"all": unrelated}
    cuts = {}
    for name, percentile in CUTS.items():
        cosine = float(np.percentile(unrelated, percentile))
        cuts[name] = {"cosine": round(cosine, 4), "right_above": round(float((right >= cosine).mean()), 4)}
    return {
        "unrelated": {name: _percentiles(cosines) for name, cosines in groups.items() if len(cosines)},
        "right": _percentiles(right),
        "cuts": cuts,
        "parts": cuts["near"]["right_above"] >= LEAST_RIGHT,
    }


def _percentiles(cosines: np.ndarray) -> dict[str, float]:
    found = np.percentile(cosines, list(PERCENTILES.values()))
    return {"pairs": len(cosines)} | {
        name: round(float(value), 4) for name, value in zip(PERCENTILES, found, strict=True)
    }


def measured_meaning(matcher: Matcher, control: Matcher | None = None) -> dict[str, Any]:
    """Measure what a model's cosines say, on the calibration items and on the packaged sentences.

    Unrelated are an item's query with other items' answers, and two texts of one language that share no subject:
    single sentences, and several joined. Languages that the model does not read are left out: to it, their texts are
    all alike, and no cut that they allow would let anything else pass.

    :param control: random directions with the model's tokenizer.
    :return: as :func:`score_meaning`, with the ``languages`` that it reads, ``translations``: language code -> the
        share of sentences ``found``, and by the ``control``; and ``long_texts``: the median cosine of unrelated English
        texts of so many sentences, and the share of sentences that are nearer to a chunk of others than to their own
        paraphrase.
    """
    sentences = read_json(resource("data") / "sentences.json")["languages"]
    items = {name: load_items(calibration_folder(), name) for name in RIGHT}
    english = list(sentences[ENGLISH])
    english += [item[field] for name, fields in RIGHT.items() for item in items[name] for field in fields]
    found = {}
    for name, texts in sentences.items():
        if name != ENGLISH:
            by_chance = _found(control, texts, english) if control else 0.0
            found[name] = {"found": _found(matcher, texts, english), "control": by_chance}
    read = (name for name, one in found.items() if one["found"] >= max(READ, TIMES_CONTROL * one["control"]))
    languages = [ENGLISH, *read]
    pairs, right = [pair for name in languages for pair in unrelated_texts(name, sentences[name])], []
    for name, (asked, answer) in RIGHT.items():
        both = [(item[asked], item[answer]) for item in items[name]]
        right += both
        for step in range(1, min(OTHERS, len(both) - 1) + 1):
            pairs += [(query, both[i - step][1]) for i, (query, _) in enumerate(both)]
    lengths = np.array([(len(left) + len(other)) / 2 for left, other in pairs])
    unrelated, cosines = (matcher.pairwise(*map(list, zip(*texts, strict=True))) for texts in (pairs, right))
    facts = {"languages": languages, "translations": found, "long_texts": _long_texts(matcher, items)}
    return {**score_meaning(unrelated, lengths, cosines), **facts}


def _long_texts(matcher: Matcher, items: dict[str, list[Item]]) -> dict[str, Any]:
    """Return the medians of unrelated texts by their number of sentences, and how often a chunk beats a paraphrase."""
    asked, answer = RIGHT["semantic_similarity"]
    queries, paraphrases = ([item[field] for item in items["semantic_similarity"]] for field in (asked, answer))
    others = [item[RIGHT[name][0]] for name in items if name != "semantic_similarity" for item in items[name]]
    texts = [others[i] for i in np.random.default_rng(0).permutation(len(others))]
    joined = {n: [" ".join(texts[i : i + n]) for i in range(0, len(texts) - n + 1, n)] for n in JOINED}
    medians = {}
    for size, parts in joined.items():
        if len(parts) > 1:
            cosines = matcher.similarity(parts, parts)[np.triu_indices(len(parts), 1)]
            medians[str(size)] = round(float(np.median(cosines)), 4)
    best = matcher.similarity(queries, joined[CHUNK] or texts).max(axis=1)
    beaten = float((best > matcher.pairwise(queries, paraphrases)).mean())
    return {"median": medians, "chunk_beats_paraphrase": round(beaten, 4)}


def _found(matcher: Matcher, texts: list[str], english: list[str]) -> float:
    """Return the share of sentences that are nearest to their translation, which stands at the same place."""
    nearest = matcher.similarity(texts, english).argmax(axis=1)
    return round(float((nearest == np.arange(len(texts))).mean()), 4)


def unrelated_texts(language: str, sentences: list[str]) -> list[tuple[str, str]]:
    """Return pairs of texts made of a language's sentences, each of which has a subject of its own."""
    generator, pairs = np.random.default_rng(0), []
    space = "" if language in UNSPACED else " "
    for size in SENTENCES:
        for _ in range(DRAWS if size > 1 else 1):
            order = generator.permutation(len(sentences))
            texts = [space.join(sentences[i] for i in order[a : a + size]) for a in range(0, len(order), size)]
            pairs += [(text, other) for i, text in enumerate(texts) for other in texts[:i]]
    return pairs
