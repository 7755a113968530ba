"""Teacher LLM -> static embedding model: eight rooms, each importing only from those above it (docs/ARCHITECTURE.md).

``runtime``      errors, exit codes, log, tables, files, folders with their lock, provenance
``store``        the static model on disk, downloads from the hub, packaged models
``teacher``      a name, folder or file -> tokenizer, weights and configuration of a teacher
``evaluation``   categories, items, statistics, encoders, verdict, comparison
``states``       teacher -> one hidden state a token and layer
``distillation`` vocabulary, recipe, vectors and the pipeline that makes a model of them
``reports``      results -> tables, figures, Markdown, HTML
``publication``  results -> the folder that is published, its check and its upload
"""

from __future__ import annotations

import sys
from types import TracebackType

__version__ = "0.1.0"


def _last_word(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Say in one line that a script was interrupted while its libraries loaded, which takes seconds."""
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted: nothing was begun", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


# Here, because this is what a script loads first; what comes later is caught by console.run.
sys.excepthook = _last_word
