"""The evaluation items: which categories there are, and reading their files with every field checked."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from qwen25.evaluation.categories.all import CATEGORIES
from qwen25.evaluation.category import Category
from qwen25.evaluation.fields import TIERS, Item, check_name
from qwen25.runtime.errors import InputError
from qwen25.runtime.files import require_regular, sha256
from qwen25.runtime.resources import resource


def default_items_folder() -> Path:
    """Return the folder of the project's own items."""
    return resource("eval_data")


#: Every item is compared with every other and its wrong answers: at these limits one matrix takes 1 GB.
MAX_ITEMS = 5_000
MAX_FILE_MB = 100  # 10^6 bytes


def load_categories(folder: Path | None = None, categories: Iterable[str] = CATEGORIES) -> dict[str, list[Item]]:
    """Read the items of several categories, as ``evaluate`` and ``compare`` take them: category -> items.

    :param folder: None: the project's own items.
    :raises InputError: if a file is missing, empty or too large, or any item lacks what its category needs.
    """
    folder = folder or default_items_folder()
    return {category: load_items(folder, category) for category in categories}


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
                items.append(_item(line, CATEGORIES[category], f"{path.name}, line {number}"))
    except OSError as error:
        raise InputError(f"cannot read the items {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8: {error.reason}") from error
    if len(items) < 2:
        raise InputError(f"{path} holds {len(items)} items: at least 2 are needed")
    ids = [item["id"] for item in items]
    if len(set(ids)) != len(ids):
        raise InputError(f"{path}: two items have the id {next(i for i in ids if ids.count(i) > 1)!r}")
    CATEGORIES[category].check_file(items, path)
    return items


def _item(line: str, category: Category, where: str) -> Item:
    """Return the item that a line holds, every field checked."""
    try:
        item = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON") from error
    if not isinstance(item, dict):
        raise InputError(f"{where}: not a JSON object")
    check_name(item, "id", where)
    category.check_item(item, where)
    if category.has_tiers and item.get("tier") not in TIERS:
        raise InputError(f"{where}: 'tier' must be one of {', '.join(TIERS)}")
    return item


def items_file(folder: Path, category: str) -> Path:
    """Return where the items of ``category`` lie."""
    return folder / f"{category}.jsonl"


def items_sha256(folder: Path, categories: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 of each category's file."""
    return {category: sha256([items_file(folder, category)]) for category in categories}


def calibration_folder() -> Path:
    """Return the folder of the project's own calibration items."""
    return resource("calibration_data")
