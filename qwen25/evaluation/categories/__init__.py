"""The categories in the order of reports, and their items. A new one is a file here, a line below and its items."""

from __future__ import annotations

from pathlib import Path

from qwen25.evaluation.categories import instruction_awareness, retrieval, topic_clustering
from qwen25.evaluation.category import Category, Item
from qwen25.runtime.files import resource, sha256
from qwen25.store.pairs import read_rows

_ALL = (
    retrieval.SEMANTIC_SIMILARITY,
    topic_clustering.CATEGORY,
    retrieval.MULTILINGUAL_ALIGNMENT,
    instruction_awareness.CATEGORY,
    retrieval.CONVERSATIONAL_UNDERSTANDING,
    retrieval.CODE_UNDERSTANDING,
)
CATEGORIES: dict[str, Category] = {category.name: category for category in _ALL}
#: Name -> share of the overall score; the shares add up to 1.
WEIGHTS: dict[str, float] = {category.name: category.weight for category in _ALL}


def default_items_folder() -> Path:
    """Return the folder of the project's own items."""
    return resource("data/evaluation")


def calibration_folder() -> Path:
    """Return the folder of the items on which choices are made, so that none is made on the evaluation's items."""
    return resource("data/calibration")


def load_categories(folder: Path | None = None) -> dict[str, list[Item]]:
    """Read the items of all categories: category -> items.

    :param folder: None: the project's own items.
    :raises InputError: if a file cannot be read.
    """
    return {name: load_items(folder or default_items_folder(), name) for name in CATEGORIES}


def load_items(folder: Path, name: str) -> list[Item]:
    """Read the items of one category; raises InputError if the file cannot be read."""
    return list(read_rows(folder / f"{name}.jsonl"))


def items_sha256(folder: Path | None = None) -> dict[str, str]:
    """Return the SHA-256 of each category's file."""
    return {name: sha256([(folder or default_items_folder()) / f"{name}.jsonl"]) for name in CATEGORIES}
