"""Teacher LLM -> static embedding model. The rooms of this package, and where a change goes: docs/ARCHITECTURE.md.

From Python, the phases are ``distil``, ``evaluate`` and ``compare``; each takes what its script takes as flags.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
#: Name -> its module. It is imported when the name is used, so that ``import qwen25`` loads no library.
_PHASES = {
    "distil": "distill_qwen25_1024d",
    "Settings": "qwen25.distillation.settings",
    "evaluate": "quick_eval_qwen25_1024d",
    "compare": "compare_qwen25_vs_all",
}


def __getattr__(name: str) -> Any:
    if name not in _PHASES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PHASES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *_PHASES]
