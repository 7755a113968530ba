"""The evaluation items: which categories there are, and reading their files with every field checked."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from qwen25.runtime.errors import InputError
from qwen25.runtime.files import require_regular, sha256

#: Category -> its share of the overall score.
WEIGHTS = {
    "semantic_similarity": 0.20,
    "topic_clustering": 0.15,
    "multilingual_alignment": 0.15,
    "instruction_awareness": 0.30,
    "conversational_understanding": 0.10,
    "code_understanding": 0.10,
}
LANGUAGES = ("en", "fr", "es", "de", "it", "zh", "ru", "ar")
INTENTS = ("explain", "summarise", "find_articles", "advantages", "compare", "how_to")
NEGATIVE_KINDS = ("role_swap", "negation", "number", "other_sense", "same_topic")
#: Adversarial items share words with what is wrong; everyday items are as users meet them.
TIERS = ("everyday", "adversarial")
#: Category -> the fields of an item that hold its texts, hard negatives apart.
TEXTS = {
    "semantic_similarity": ("anchor", "paraphrase"),
    "topic_clustering": ("text",),
    "multilingual_alignment": LANGUAGES,
    "instruction_awareness": ("document",),
    "conversational_understanding": ("text", "meaning"),
    "code_understanding": ("description", "code"),
}
#: Every item is compared with every other and its wrong answers: at these limits one matrix takes 1 GB.
MAX_ITEMS = 5_000
MAX_WRONG = 10
MAX_FILE_MB = 100  # 10^6 bytes
#: Longer texts are no sentences or snippets: they are a mistake in the file.
MAX_CHARACTERS = 100_000
MAX_NAME = 200  # of ids, topics and languages, which results repeat
Item = dict[str, Any]


def load_items(folder: Path, category: str) -> list[Item]:
    """Read the items of ``category`` from ``folder``.

    :raises InputError: if the file is missing, empty or too large, or any item lacks what its category needs.
    """
    path = items_file(folder, category)
    items: list[Item] = []
    require_regular(path)
    try:
        size = path.stat().st_size
        if size > MAX_FILE_MB * 1e6:
            raise InputError(f"{path} has {size / 1e6:,.0f} MB: at most {MAX_FILE_MB} are read, take a sample")
        # Line by line: str.splitlines would also cut a text at the line ends that JSON allows inside it.
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                if len(items) == MAX_ITEMS:
                    raise InputError(f"{path} holds more than {MAX_ITEMS:,} items: take a sample")
                items.append(_item(line, category, f"{path.name}, line {number}"))
    except OSError as error:
        raise InputError(f"cannot read the items {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8: {error.reason}") from error
    if len(items) < 2:
        raise InputError(f"{path} holds {len(items)} items: at least 2 are needed")
    ids = [item["id"] for item in items]
    if len(set(ids)) != len(ids):
        raise InputError(f"{path}: two items have the id {next(i for i in ids if ids.count(i) > 1)!r}")
    if category == "instruction_awareness":
        _check_grid(items, path)
    if category == "topic_clustering":
        _check_topics(items, path)
    return items


def _item(line: str, category: str, where: str) -> Item:
    """Return the item that a line holds, every field checked."""
    try:
        item = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON") from error
    if not isinstance(item, dict):
        raise InputError(f"{where}: not a JSON object")
    _check_name(item, "id", where)
    _CHECKS[category](item, where)
    if category != "instruction_awareness" and item.get("tier") not in TIERS:
        raise InputError(f"{where}: 'tier' must be one of {', '.join(TIERS)}")
    return item


def items_file(folder: Path, category: str) -> Path:
    """Return where the items of ``category`` lie."""
    return folder / f"{category}.jsonl"


def items_sha256(folder: Path, categories: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 of each category's file."""
    return {category: sha256([items_file(folder, category)]) for category in categories}


def _check_text(item: Item, field: str, where: str) -> None:
    _check_is_text(item.get(field), f"{where}: {field!r}")


def _check_name(item: Item, field: str, where: str) -> None:
    _check_is_text(item.get(field), f"{where}: {field!r}", MAX_NAME)


def _check_is_text(value: Any, where: str, longest: int = MAX_CHARACTERS) -> None:
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{where} is missing or no text")
    if len(value) > longest:
        raise InputError(f"{where} has {len(value)} characters (at most {longest})")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(f"{where} holds half a surrogate pair, which is no character") from error


def _check_list(item: Item, field: str, where: str, least: int, most: int) -> list[Any]:
    value = item.get(field)
    if not isinstance(value, list) or not least <= len(value) <= most:
        how_many = least if least == most else f"{least} to {most}"
        raise InputError(f"{where}: {field!r} must be a list of {how_many}")
    return value


def _check_semantic(item: Item, where: str) -> None:
    _check_text(item, "anchor", where)
    _check_text(item, "paraphrase", where)
    for negative in _check_list(item, "negatives", where, 1, MAX_WRONG):
        if not isinstance(negative, dict) or negative.get("kind") not in NEGATIVE_KINDS:
            raise InputError(f"{where}: the kind of a negative must be one of {', '.join(NEGATIVE_KINDS)}")
        _check_text(negative, "text", where)


def _check_topic(item: Item, where: str) -> None:
    _check_name(item, "topic", where)
    _check_text(item, "text", where)


def _check_multilingual(item: Item, where: str) -> None:
    for language in LANGUAGES:
        _check_text(item, language, where)


def _check_instruction(item: Item, where: str) -> None:
    _check_name(item, "topic", where)
    for field in ("topic_name", "document"):
        _check_text(item, field, where)
    if item.get("intent") not in INTENTS:
        raise InputError(f"{where}: 'intent' must be one of {', '.join(INTENTS)}")
    for request in _check_list(item, "requests", where, 3, 3):
        if not isinstance(request, dict) or not isinstance(request.get("lexical"), bool):
            raise InputError(f"{where}: a request needs 'text' and 'lexical'")
        _check_text(request, "text", where)


def _check_grid(items: list[Item], path: Path) -> None:
    """Every topic must have one document for every intent, and there must be topics to tell apart."""
    cells = {(item["topic"], item["intent"]) for item in items}
    topics = {item["topic"] for item in items}
    if len(cells) != len(items) or len(cells) != len(topics) * len(INTENTS):
        raise InputError(f"{path}: each of the {len(topics)} topics needs each of the {len(INTENTS)} intents once")
    if len(topics) < 2:
        raise InputError(f"{path} holds one topic: at least 2 are needed")


def _check_topics(items: list[Item], path: Path) -> None:
    """There must be topics to tell apart, and sentences that belong together."""
    sizes = Counter(item["topic"] for item in items)
    if len(sizes) < 2:
        raise InputError(f"{path} holds one topic: at least 2 are needed")
    if alone := [topic for topic, size in sizes.items() if size < 2]:
        raise InputError(f"{path}: the topic {alone[0]!r} has one sentence, and at least 2 are needed")


def _check_conversational(item: Item, where: str) -> None:
    _check_name(item, "language", where)
    for field in ("text", "meaning", "distractor"):
        _check_text(item, field, where)


def _check_code(item: Item, where: str) -> None:
    _check_name(item, "language", where)
    for field in ("description", "code"):
        _check_text(item, field, where)
    for near_miss in _check_list(item, "near_misses", where, 1, MAX_WRONG):
        _check_is_text(near_miss, f"{where}: a near miss")


_CHECKS: dict[str, Callable[[Item, str], None]] = {
    "semantic_similarity": _check_semantic,
    "topic_clustering": _check_topic,
    "multilingual_alignment": _check_multilingual,
    "instruction_awareness": _check_instruction,
    "conversational_understanding": _check_conversational,
    "code_understanding": _check_code,
}
