#!/usr/bin/env python3
"""Phase 2: score a static model on six categories, beside its random-direction control.

    python quick_eval_qwen25_1024d.py --help      # its flags, with commands to paste

The same as `qwen25 eval` and `bash run_qwen25.sh eval`: the phase itself is qwen25/commands/evaluate.py.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from qwen25.commands.main import run_phase


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: the process's) and return the exit code."""
    return run_phase("eval", argv)


if __name__ == "__main__":
    sys.exit(main())
