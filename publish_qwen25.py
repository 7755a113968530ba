#!/usr/bin/env python3
"""Phase 4: render what is published from the result files, check it, and upload it if told to.

    python publish_qwen25.py --help      # its flags, with commands to paste

The same as `qwen25 publish` and `bash run_qwen25.sh publish`: the phase itself is qwen25/commands/publish.py.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from qwen25.commands.main import run_phase


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: the process's) and return the exit code."""
    return run_phase("publish", argv)


if __name__ == "__main__":
    sys.exit(main())
