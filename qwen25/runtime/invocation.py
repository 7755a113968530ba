"""How the user starts the phases, so that the commands which messages advise can be pasted."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from qwen25.runtime.resources import CHECKOUT

#: Set by run_qwen25.sh to how it was called.
COMMAND_VARIABLE = "QWEN25_COMMAND"


def command_of(phase: str) -> str:
    """Return the command that runs ``phase``, such as ``bash run_qwen25.sh distill`` or ``qwen25 distill``."""
    if given := os.environ.get(COMMAND_VARIABLE):
        return f"{given} {phase}"
    if Path(sys.argv[0]).suffix == ".py" and (CHECKOUT / "run_qwen25.sh").is_file():
        return f"bash run_qwen25.sh {phase}"
    return f"qwen25 {phase}"


def this_command(phase: str) -> str:
    """Return the command by which ``phase`` runs now."""
    script = Path(sys.argv[0])
    if COMMAND_VARIABLE not in os.environ and script.suffix == ".py" and script.resolve().parent == CHECKOUT:
        return f"python {script.name}"
    return command_of(phase)
