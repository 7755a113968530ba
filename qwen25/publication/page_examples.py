"""The page's examples: the first everyday items of each category, as a small collection to search in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qwen25.evaluation.categories.all import CATEGORIES
from qwen25.evaluation.category import Category
from qwen25.evaluation.example import Example
from qwen25.evaluation.fields import Item
from qwen25.evaluation.items import default_items_folder, load_items


def page_examples(folder: Path | None = None) -> list[dict[str, Any]]:
    """Return one example a category: its title, its documents, and queries with the numbers of their answers.

    :param folder: of the items (None: the project's own).
    :raises InputError: if the items cannot be read.
    """
    folder = folder or default_items_folder()
    return [_example(category, load_items(folder, category.name)) for category in CATEGORIES.values()]


def _example(category: Category, items: list[Item]) -> dict[str, Any]:
    example = Example()
    category.fill_example(example, [item for item in items if item.get("tier") != "adversarial"])
    return {
        "category": category.name,
        "title": category.asks,
        "question": category.question,
        "isCode": category.is_code,
        "documents": example.documents,
        "labels": example.labels,
        "queries": example.queries,
    }
