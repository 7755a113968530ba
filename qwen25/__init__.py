"""Shared helpers of the pipeline: one module a concern, no script's logic, nothing done at import.

In the order in which the phases meet them:

``console``      errors, exit codes, log, progress, tables
``provenance``   what every result file says of its own making; atomic writes
``hub``          a model repository -> its files, downloaded once
``teacher``      a name, folder or file -> tokenizer, weights and configuration of a teacher
``vocabulary``   the teacher's tokenizer -> the static model's, and token frequencies
``decoder``      configuration -> architecture; what one decoder layer computes
``weights``      safetensors files -> the weights of one layer at a time
``gguf_header``  whether a GGUF file is one, before anything reads it
``gguf_weights`` the weights of one layer at a time from a GGUF file
``jobs``         what to compute: sequences of one length, cut into waves and batches
``checkpoint``   the states that are done, on a disk that a run which was cut off goes on from
``streaming``    all tokens through one layer after another; what that will cost
``states``       teacher -> one hidden state a token and layer
``pooling``      an embedding model's own vector of each token
``writing``      teacher -> texts it writes, and how often it expects each token; or a corpus
``vectors``      states -> static vectors (whitening, PCA, SIF)
``sentences``    the teacher's own vectors of sentences, and bending the static space towards them
``selection``    variants of the recipe, tried on the calibration items
``markdown``     text -> Markdown that shows it as it is
``lock``         one run at a time on an output folder
``artifact``     the model folder on disk
``items``        the evaluation items
``matching``     how well texts fit each other: cosine, late interaction, words alone
``encoders``     a SPEC -> a model under evaluation
``scores``       matcher + items -> scores with intervals
``evaluation``   scores + controls -> one model's result and verdict
``peers``        the systems that ours is set beside, and what was published of them
``wording``      scores, differences and sizes in words
``comparison``   evaluations -> differences, frontier, recommendations
``plots``        results -> figures
``report``       results -> tables, Markdown, HTML
``publication``  results -> the folder that is published
``upload``       the folder -> the hub
``mteb_tasks``   MTEB's tasks, run on an encoder
``environment``  the last step of setup: checks the installation
``demo``         the last step of the demo: its report
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
