"""Phase 4: render what is published from the result files, check it, and upload it if told to.

    qwen25 publish                                     # render and check huggingface_publication/
    qwen25 publish --upload OWNER/NAME --author "Ada Lovelace"

The folder is loaded in both libraries, and its examples are run. Nothing leaves this machine without --upload, whose
token is HF_TOKEN or the login; a new repository is private until its settings say otherwise. Exit codes: 0 ok, 1 the
run or a check failed, 2 wrong usage or input.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from qwen25.reports.card import render
from qwen25.reports.publication import check, upload
from qwen25.runtime import console
from qwen25.runtime.errors import EXIT_OK, PipelineError, logger
from qwen25.runtime.text import require_name
from qwen25.store.hub import check_id


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = console.Parser("publish", __doc__)
    add = parser.add_argument
    add("--model", type=Path, default=console.MODEL, help="folder of phase 1 (default: %(default)s)")
    add("--evaluation", type=Path, default=console.EVALUATION, help="result of phase 2 (default: %(default)s)")
    add("--comparison", type=Path, default=console.COMPARISON, help="result of phase 3 (default: %(default)s)")
    add("--output", type=Path, default=Path("huggingface_publication"), help="folder to render (default: %(default)s)")
    add("--onnx", action="store_true", help="add onnx/model.onnx and what transformers.js reads besides")
    add("--author", action="append", default=[], metavar="NAME", help="who is to be cited; repeatable")
    add("--upload", metavar="REPO[@BRANCH]", help="push it to this hub repository in one commit (default: never)")
    return parser


def publish(args: argparse.Namespace) -> int:
    """Run phase 4: render, check, upload."""
    repo, _, branch = (args.upload or "").partition("@")
    if args.upload is not None:
        check_id(repo)  # the card's code holds it, and that code is run
    for author in args.author:
        require_name("--author", author)
    render(args.output, args.model, args.evaluation, args.comparison, repo or None, tuple(args.author), args.onnx)
    logger.info("rendered %s; checking it as its users will use it", args.output)
    if faults := check(args.output):
        raise PipelineError(f"check of {args.output} failed: {'; '.join(faults)}")
    if args.upload is not None:
        print(upload(args.output, repo, "model and card", branch or None))
    print(args.output)
    return EXIT_OK


main = console.command(build_parser, publish)
