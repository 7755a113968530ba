"""The page's examples: the first everyday items of each category, as a small collection to search in.

They are taken in the order of the project's own evaluation items, whatever a model makes of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qwen25.evaluation.categories.all import CATEGORIES
from qwen25.evaluation.categories.multilingual_alignment import LANGUAGES
from qwen25.evaluation.fields import Item
from qwen25.evaluation.items import default_items_folder, load_items

#: Items of a category that become queries.
QUERIES = 8
#: Of the grid of topics and intents; each topic's document of each intent is there.
TOPICS = 3
#: Other sentences of each topic.
SENTENCES = 3

#: Category -> what the page calls it, and what is asked there.
TITLES = {
    "semantic_similarity": (
        "Paraphrases",
        "Which sentence says the same? Others share its words and say something else.",
    ),
    "topic_clustering": ("Topics", "Which sentences are about the same topic? They seldom name it."),
    "multilingual_alignment": ("Translations", "Which sentence says the same in another language?"),
    "instruction_awareness": (
        "Requests",
        "Which document does what is asked? All intents are there for each topic, and no word gives it away.",
    ),
    "conversational_understanding": (
        "Turns of phrase",
        "What is meant? Beside each meaning stands something that it could be taken for.",
    ),
    "code_understanding": ("Code", "Which code does it? Near misses share its names."),
}

Example = dict[str, Any]


def page_examples(folder: Path | None = None) -> list[Example]:
    """Return one example a category: its title, its documents, and queries with the numbers of their answers.

    :param folder: of the items (None: the project's own).
    :raises InputError: if the items cannot be read.
    """
    folder = folder or default_items_folder()
    return [_example(category, load_items(folder, category)) for category in CATEGORIES]


def _example(category: str, items: list[Item]) -> Example:
    title, question = TITLES[category]
    collection = _Collection()
    _BUILDERS[category](collection, [item for item in items if item.get("tier") != "adversarial"])
    return {
        "category": category,
        "title": title,
        "question": question,
        "isCode": category == "code_understanding",
        "documents": collection.documents,
        "labels": collection.labels,
        "queries": collection.queries,
    }


class _Collection:
    """Documents without repeats, with labels, and queries."""

    def __init__(self) -> None:
        self.documents: list[str] = []
        self.labels: list[str] = []
        self.queries: list[dict[str, Any]] = []

    def add(self, text: str, label: str = "") -> int:
        """Add a document, unless it is there; return its number."""
        if text not in self.documents:
            self.documents.append(text)
            self.labels.append(label)
        return self.documents.index(text)

    def ask(self, text: str, answers: list[int], label: str = "") -> None:
        """Add a query with the numbers of the documents that answer it."""
        self.queries.append({"text": text, "answers": answers, "label": label})


def _paraphrases(collection: _Collection, items: list[Item]) -> None:
    for item in items[:QUERIES]:
        collection.ask(item["anchor"], [collection.add(item["paraphrase"])])
        for negative in item["negatives"]:
            collection.add(negative["text"])


def _topics(collection: _Collection, items: list[Item]) -> None:
    topics = dict.fromkeys(item["topic"] for item in items)
    for number, topic in enumerate(topics):
        texts = [item["text"] for item in items if item["topic"] == topic]
        answers = [collection.add(text, topic) for text in texts[1 : 1 + SENTENCES]]
        if number < QUERIES:
            collection.ask(texts[0], answers, topic)


def _translations(collection: _Collection, items: list[Item]) -> None:
    for number, item in enumerate(items[:QUERIES]):
        asked = LANGUAGES[number % len(LANGUAGES)]
        answers = [collection.add(item[language], language) for language in LANGUAGES if language != asked]
        collection.ask(item[asked], answers, asked)


def _requests(collection: _Collection, items: list[Item]) -> None:
    topics = list(dict.fromkeys(item["topic"] for item in items))[:TOPICS]
    for number, item in enumerate(item for item in items if item["topic"] in topics):
        intent = item["intent"].replace("_", " ")
        answer = collection.add(item["document"], intent)
        asked = next((request for request in item["requests"] if not request["lexical"]), item["requests"][0])
        if number % 2 == 0:
            collection.ask(asked["text"], [answer], intent)


def _turns_of_phrase(collection: _Collection, items: list[Item]) -> None:
    languages = dict.fromkeys(item["language"] for item in items)
    english = [item for item in items if item["language"] == "en"]
    others = [next(item for item in items if item["language"] == name) for name in languages if name != "en"]
    for item in [*english[: max(1, QUERIES - len(others))], *others]:
        collection.ask(item["text"], [collection.add(item["meaning"], item["language"])], item["language"])
        collection.add(item["distractor"], item["language"])


def _code(collection: _Collection, items: list[Item]) -> None:
    for item in items[:QUERIES]:
        collection.ask(item["description"], [collection.add(item["code"], item["language"])], item["language"])
        for near_miss in item["near_misses"]:
            collection.add(near_miss, item["language"])


_BUILDERS = {
    "semantic_similarity": _paraphrases,
    "topic_clustering": _topics,
    "multilingual_alignment": _translations,
    "instruction_awareness": _requests,
    "conversational_understanding": _turns_of_phrase,
    "code_understanding": _code,
}
