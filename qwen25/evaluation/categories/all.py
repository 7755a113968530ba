"""The six categories: weights, fields, checks, scores and uses."""

from __future__ import annotations

from collections.abc import Callable

from qwen25.evaluation.categories.code_understanding import check_code, code_understanding
from qwen25.evaluation.categories.conversational_understanding import check_conversational, conversational_understanding
from qwen25.evaluation.categories.instruction_awareness import check_instruction, instruction_awareness
from qwen25.evaluation.categories.multilingual_alignment import LANGUAGES, check_multilingual, multilingual_alignment
from qwen25.evaluation.categories.semantic_similarity import check_semantic, semantic_similarity
from qwen25.evaluation.categories.topic_clustering import check_topic, topic_clustering
from qwen25.evaluation.category import CategoryFunction
from qwen25.evaluation.fields import Item

#: Category -> its share of the overall score.
WEIGHTS = {
    "semantic_similarity": 0.20,
    "topic_clustering": 0.15,
    "multilingual_alignment": 0.15,
    "instruction_awareness": 0.30,
    "conversational_understanding": 0.10,
    "code_understanding": 0.10,
}
#: Category -> the fields of an item that hold its texts, hard negatives apart.
TEXTS = {
    "semantic_similarity": ("anchor", "paraphrase"),
    "topic_clustering": ("text",),
    "multilingual_alignment": LANGUAGES,
    "instruction_awareness": ("document",),
    "conversational_understanding": ("text", "meaning"),
    "code_understanding": ("description", "code"),
}
CHECKS: dict[str, Callable[[Item, str], None]] = {
    "semantic_similarity": check_semantic,
    "topic_clustering": check_topic,
    "multilingual_alignment": check_multilingual,
    "instruction_awareness": check_instruction,
    "conversational_understanding": check_conversational,
    "code_understanding": check_code,
}
#: What a category is good for.
USES = {
    "semantic_similarity": "finding paraphrases and duplicates among short texts",
    "topic_clustering": "grouping texts by topic",
    "multilingual_alignment": "matching translations",
    "instruction_awareness": "routing requests to the document that answers them",
    "conversational_understanding": "matching conversational turns to what they mean",
    "code_understanding": "searching code by description",
}
CATEGORIES: dict[str, CategoryFunction] = {
    "semantic_similarity": semantic_similarity,
    "topic_clustering": topic_clustering,
    "multilingual_alignment": multilingual_alignment,
    "instruction_awareness": instruction_awareness,
    "conversational_understanding": conversational_understanding,
    "code_understanding": code_understanding,
}
