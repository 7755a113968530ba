"""How the user starts the phases, so that the commands which messages advise can be pasted."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

from qwen25.runtime.resources import CHECKOUT

#: Set by run_qwen25.sh to how it was called.
COMMAND_VARIABLE = "QWEN25_COMMAND"
#: Phase -> its script at the top of a checkout.
SCRIPTS = {
    "distill": "distill_qwen25_1024d.py",
    "eval": "quick_eval_qwen25_1024d.py",
    "compare": "compare_qwen25_vs_all.py",
    "publish": "publish_qwen25.py",
    "mteb": "evaluate_qwen25_mteb.py",
}
#: What phases 1 to 3 write, and the later ones read, unless told otherwise.
MODEL = Path("models/qwen25-deposium-1024d")
EVALUATION = Path("qwen25_1024d_eval_results.json")
COMPARISON = Path("model_comparison_results.json")


def command_of(phase: str, **flags: object) -> str:
    """Return the command that runs ``phase``, started as the user started this one.

    With run_qwen25.sh that is ``bash run_qwen25.sh distill``, with a script ``python distill_qwen25_1024d.py``, and
    else ``qwen25 distill``.

    :param flags: flag -> its value; the files above are left out, because they are the defaults.
    """
    script = Path(sys.argv[0])
    if given := os.environ.get(COMMAND_VARIABLE):
        command = f"{given} {phase}"
    elif phase in SCRIPTS and script.suffix == ".py" and script.resolve().parent == CHECKOUT:
        command = shlex.join([sys.orig_argv[0], str(script.with_name(SCRIPTS[phase]))])
    else:
        command = f"qwen25 {phase}"
    for flag, value in flags.items():
        if value not in (MODEL, EVALUATION, COMPARISON):
            command += f" --{flag} {shlex.quote(str(value))}"
    return command


def extras_command(part: str) -> str:
    """Return the command that installs an optional part: ``mteb``, ``onnx`` or ``pylate``."""
    setup = CHECKOUT / "setup_qwen25.sh"
    if not setup.is_file():
        # An extra would bring pylate's dependencies, which demand another torch.
        return "pip install --no-deps pylate" if part == "pylate" else f"pip install 'qwen25-deposium[{part}]'"
    return f"bash {shlex.quote(str(setup)) if Path.cwd() != CHECKOUT else setup.name} --with-extras"
