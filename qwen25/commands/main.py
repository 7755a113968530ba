"""The ``qwen25`` command: its subcommands are the phases, which the scripts at the top of a checkout start as well.

Nothing here needs a library, so that what is missing is said in one line, and an interrupt while libraries
load, which takes seconds, is one line too.
"""

from __future__ import annotations

import importlib
import shlex
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from qwen25 import __version__
from qwen25.runtime.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE
from qwen25.runtime.resources import CHECKOUT

#: Subcommand -> its module, and what it does.
PHASES = {
    "distill": ("qwen25.commands.distill", "phase 1: teacher -> static model"),
    "eval": ("qwen25.commands.evaluate", "phase 2: score a model beside its control"),
    "compare": ("qwen25.commands.compare", "phase 3: the model beside its peers"),
    "publish": ("qwen25.commands.publish", "phase 4: render, check and upload what is published"),
    "mteb": ("qwen25.commands.mteb", "phase 5: score a model on MTEB"),
    "page": ("qwen25.publication.page", "a page for the browser, to try a model without a server"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: the process's): a phase's name and its flags; return the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage(), file=sys.stdout if words else sys.stderr)
        return EXIT_OK if words else EXIT_USAGE
    if words[0] == "--version":
        print(f"qwen25 {__version__}")
        return EXIT_OK
    if words[0] not in PHASES:
        close = get_close_matches(words[0], PHASES, n=1)
        advice = f"did you mean {close[0]}?" if close else f"the phases are {', '.join(PHASES)}"
        print(f"error: there is no phase {words[0]!r}: {advice}", file=sys.stderr)
        return EXIT_USAGE
    return run_phase(words[0], words[1:])


def usage() -> str:
    """Return what ``--help`` prints."""
    lines = [f"  qwen25 {name:8} {what}" for name, (_, what) in PHASES.items()]
    return "\n".join(["usage: qwen25 PHASE [FLAGS]; qwen25 PHASE --help for its flags; qwen25 --version", "", *lines])


def run_phase(name: str, argv: Sequence[str] | None = None) -> int:
    """Run a phase with the flags ``argv`` (default: the process's) and return its exit code."""
    if argv is None:
        argv = sys.argv[1:]
    if list(argv) == ["--version"]:
        print(f"qwen25 {__version__}")
        return EXIT_OK
    try:
        phase = importlib.import_module(PHASES[name][0])
    except KeyboardInterrupt:
        print("interrupted: nothing was begun", file=sys.stderr)
        return EXIT_INTERRUPTED
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "qwen25":
            raise
        print(f"error: this Python has no {error.name}: {_installation(name)}", file=sys.stderr)
        return EXIT_FAILED
    return int(phase.main(argv))


def _installation(name: str) -> str:
    """Say how the libraries are installed, for how this was started."""
    setup = CHECKOUT / "setup_qwen25.sh"
    if not setup.is_file():
        return "install qwen25-deposium again, with its requirements (pip install, without --no-deps)"
    folder = Path() if Path.cwd() == CHECKOUT else CHECKOUT
    install, run = (shlex.quote(str(folder / script)) for script in (setup.name, "run_qwen25.sh"))
    return f"bash {install} installs it, and bash {run} {name} then runs this"


if __name__ == "__main__":
    sys.exit(main())
