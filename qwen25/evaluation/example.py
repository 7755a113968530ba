"""A category's example: a small collection of its items to search in, for people to see what it asks.

Items are taken in the order of their file, whatever a model makes of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

#: Items of a category that become queries of its example.
QUERIES = 8


@dataclass
class Example:
    """Documents without repeats, each with a label, and queries with the numbers of the documents that answer them."""

    documents: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    queries: list[dict[str, Any]] = field(default_factory=list)

    def add(self, text: str, label: str = "") -> int:
        """Add a document, unless it is there; return its number."""
        if text not in self.documents:
            self.documents.append(text)
            self.labels.append(label)
        return self.documents.index(text)

    def ask(self, text: str, answers: list[int], label: str = "") -> None:
        """Add a query with the numbers of the documents that answer it."""
        self.queries.append({"text": text, "answers": answers, "label": label})
