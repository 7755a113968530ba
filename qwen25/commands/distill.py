"""Phase 1: distil an instruction-tuned LLM into a static embedding model.

    qwen25 distill                              # Qwen2.5-1.5B-Instruct, 1024 dimensions
    qwen25 distill --dims 1536                  # the larger variant
    qwen25 distill --teacher smollm2-135m --output demo/model
    qwen25 distill --teacher path/to/folder --device cpu
    qwen25 distill --recipe plain --output models/plain     # the recipe known to fail
    qwen25 distill --max-size-mb none --storage float32     # every token, a large file
    qwen25 distill --corpus texts.txt                       # token frequencies of your own text
    qwen25 distill --pairs my-pairs.jsonl                   # train on texts that belong together
    qwen25 distill --corpus texts.txt --sentence-vectors 4096   # train on the teacher's own judgement
    qwen25 distill --preset qwen3-256d                      # a peer of the comparison
    qwen25 distill --dry-run                                # what it would take

Writes a folder that model2vec and sentence-transformers load. Exit codes: 0 ok, 1 the run failed,
2 wrong usage or input.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from qwen25.commands.distill_flags import parser_of, preset_named, settings_of
from qwen25.distillation import distil, plan
from qwen25.distillation.settings import require_outside
from qwen25.runtime import console
from qwen25.runtime.errors import EXIT_OK
from qwen25.runtime.log import logger, set_up_logging


def build_parser(preset: str | None = None) -> argparse.ArgumentParser:
    """Return the command line's parser.

    :param preset: whose settings are the defaults.
    """
    return parser_of(__doc__, preset)


def run(args: argparse.Namespace) -> int:
    """Run phase 1, or say what it would take."""
    settings = settings_of(args)
    # Before the log is opened and anything is loaded: a wrong flag is said at once.
    settings.completed().check()
    require_outside("--log-file", args.log_file, settings.output)
    set_up_logging(args.log_file, args.quiet)
    if args.dry_run:
        for line in plan(settings):
            logger.info("%s", line)
    else:
        distil(settings)
    return EXIT_OK


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: the process's) and return the exit code."""
    words = sys.argv[1:] if argv is None else argv
    return console.run(build_parser(preset_named(words)), run, words)
