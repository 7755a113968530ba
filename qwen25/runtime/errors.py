"""Errors of the pipeline, their exit codes, and text cleaned of secrets."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130
#: The environment variables that may hold an access token of the hub.
TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_HUB_TOKEN")


class PipelineError(Exception):
    """The run failed; the message is one line that says what is wrong and what to do.

    :ivar what: what is wrong, without the ``advice`` where that was given apart.
    """

    exit_code = EXIT_FAILED

    def __init__(self, what: str, advice: str = "") -> None:
        """Join ``what`` is wrong and the ``advice`` what to do about it."""
        super().__init__(f"{what}; {advice}" if advice else what)
        self.what = what


class InputError(PipelineError):
    """What the user gave cannot be used: a flag's value, a file, a model or a teacher."""

    exit_code = EXIT_USAGE


def redact(text: str) -> str:
    """Return ``text`` without access tokens and without the path of the home folder."""
    for name in TOKENS:
        token = os.environ.get(name, "").strip()
        if len(token) >= 8:  # a shorter one is no token, and might be any word
            text = text.replace(token, "***")
    with suppress(RuntimeError):  # a user without a home folder has none to hide
        home = str(Path.home())
        if len(home) > 1:
            text = text.replace(home, "~")
    return re.sub(r"\bhf_\w{8,}", "hf_***", text)


@contextmanager
def as_input_error(what: str, advice: str) -> Iterator[None]:
    """Turn whatever a bad file makes the libraries raise into an InputError: ``what``, the reason, ``advice``.

    For the calls behind which many libraries lie: their errors have no common base.
    """
    try:
        yield
    except (PipelineError, MemoryError):
        raise
    except BaseException as error:
        # A panic in the tokenizers' Rust code is no Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        reason = f"no {error}" if isinstance(error, KeyError) else first_line(error)
        raise InputError(f"{what} ({reason}): {advice}") from error


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
