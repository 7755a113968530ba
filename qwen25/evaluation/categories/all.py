"""The categories together, in the order in which they are reported."""

from __future__ import annotations

from qwen25.evaluation.categories.code_understanding import CODE_UNDERSTANDING
from qwen25.evaluation.categories.conversational_understanding import CONVERSATIONAL_UNDERSTANDING
from qwen25.evaluation.categories.instruction_awareness import INSTRUCTION_AWARENESS
from qwen25.evaluation.categories.multilingual_alignment import MULTILINGUAL_ALIGNMENT
from qwen25.evaluation.categories.semantic_similarity import SEMANTIC_SIMILARITY
from qwen25.evaluation.categories.topic_clustering import TOPIC_CLUSTERING
from qwen25.evaluation.category import Category

_ALL = (
    SEMANTIC_SIMILARITY,
    TOPIC_CLUSTERING,
    MULTILINGUAL_ALIGNMENT,
    INSTRUCTION_AWARENESS,
    CONVERSATIONAL_UNDERSTANDING,
    CODE_UNDERSTANDING,
)
#: Name -> category.
CATEGORIES: dict[str, Category] = {category.name: category for category in _ALL}
#: Name -> share of the overall score.
WEIGHTS: dict[str, float] = {category.name: category.weight for category in _ALL}
