#!/usr/bin/env python3
"""Phase 5: score a static model on MTEB, the public benchmark of text embeddings.

    python evaluate_qwen25_mteb.py --help      # its flags, with commands to paste

The same as `qwen25 mteb` and `bash run_qwen25.sh mteb`: the phase itself is qwen25/commands/mteb.py.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from qwen25.commands.main import run_phase


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: the process's) and return the exit code."""
    return run_phase("mteb", argv)


if __name__ == "__main__":
    sys.exit(main())
