"""The ``qwen25`` command: its subcommands are the phases.

Nothing here needs a library, so that a missing one, and an interrupt while they load, are one line.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from qwen25 import __version__
from qwen25.runtime.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE
from qwen25.runtime.files import CHECKOUT

#: Subcommand -> its module, and what it does.
PHASES = {
    "distill": ("distill_qwen25_1024d", "phase 1: teacher -> static model"),
    "eval": ("quick_eval_qwen25_1024d", "phase 2: score a model beside its control"),
    "compare": ("compare_qwen25_vs_all", "phase 3: the model beside its peers"),
    "publish": ("qwen25.commands.publish", "phase 4: render, check and upload what is published"),
    "mteb": ("qwen25.commands.mteb", "phase 5: score a model on MTEB"),
    "encode": ("qwen25.commands.encode", "a corpus of any size -> Parquet with the vectors of its texts"),
    "page": ("qwen25.commands.page", "a page for the browser, to try a model without a server"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: the process's): a phase's name and its flags; return the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        lines = [f"  qwen25 {name:8} {what}" for name, (_, what) in PHASES.items()]
        print("usage: qwen25 PHASE [FLAGS]; qwen25 PHASE --help for its flags; qwen25 --version\n", *lines, sep="\n")
        return EXIT_OK if words else EXIT_USAGE
    name, *flags = words
    if name == "--version":
        print(f"qwen25 {__version__}")
        return EXIT_OK
    if name not in PHASES:
        print(f"error: there is no phase {name!r}: the phases are {', '.join(PHASES)}", file=sys.stderr)
        return EXIT_USAGE
    sys.path.append(str(CHECKOUT))  # the three scripts lie beside the package
    try:
        return int(importlib.import_module(PHASES[name][0]).main(flags))
    except KeyboardInterrupt:
        print("interrupted: nothing was begun", file=sys.stderr)
        return EXIT_INTERRUPTED
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "qwen25":
            raise
        how = f"bash {CHECKOUT}/setup_qwen25.sh installs it, and bash {CHECKOUT}/run_qwen25.sh {name} then runs this"
        if not (CHECKOUT / "setup_qwen25.sh").is_file():
            how = "install qwen25-deposium again, with its requirements"
        print(f"error: this Python has no {error.name}: {how}", file=sys.stderr)
        return EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
