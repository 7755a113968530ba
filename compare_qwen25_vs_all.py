#!/usr/bin/env python3
"""Phase 3: should this model be deployed, and instead of what? Every system, on the same items, in the same run.

    python compare_qwen25_vs_all.py --help      # its flags, with commands to paste

The same as `qwen25 compare` and `bash run_qwen25.sh compare`: the phase itself is qwen25/commands/compare.py.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from qwen25.commands.main import run_phase


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: the process's) and return the exit code."""
    return run_phase("compare", argv)


if __name__ == "__main__":
    sys.exit(main())
