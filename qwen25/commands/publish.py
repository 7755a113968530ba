r"""Phase 4: render what is published from the result files, check it, and upload it if told to.

    qwen25 publish                                            # render huggingface_publication/
    qwen25 publish --check                                    # and use it as its users will
    qwen25 publish --check --upload OWNER/NAME --author "Ada Lovelace"
    qwen25 publish --model demo/model --evaluation demo/eval_results.json \
        --comparison demo/comparison_results.json --output demo/publication --check

Numbers, sizes and claims come from the results of phases 1 to 3; what they do not support is left out.
Nothing leaves this machine without --upload, which reads the token from HF_TOKEN. Exit codes: 0 ok,
1 the run or a check failed, 2 wrong usage or input.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from qwen25.publication.check import check
from qwen25.publication.publication import Imprint, Publication
from qwen25.publication.upload import listing, upload
from qwen25.runtime import console
from qwen25.runtime.console import Parser, add_common_flags
from qwen25.runtime.errors import EXIT_FAILED, EXIT_OK, InputError
from qwen25.runtime.invocation import COMPARISON, EVALUATION, MODEL
from qwen25.runtime.log import logger
from qwen25.runtime.resources import resource
from qwen25.runtime.wording import size_text

OUTPUT = Path("huggingface_publication")


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = Parser("publish", __doc__)
    add = parser.add_argument
    add("--model", type=Path, default=MODEL, help="folder of phase 1 (default: %(default)s)")
    add("--evaluation", type=Path, default=EVALUATION, help="result of phase 2 (default: %(default)s)")
    add("--comparison", type=Path, default=COMPARISON, help="result of phase 3 (default: %(default)s)")
    add("--output", type=Path, default=OUTPUT, help="folder that is rendered, anew (default: %(default)s)")
    add(
        "--onnx",
        action="store_true",
        help="add onnx/model.onnx and the tokenizer files that transformers.js reads (default: without)",
    )
    repo = "the hub repository that the card names (default: that of --upload, else none)"
    add("--repo", metavar="REPO", help=repo)
    add("--title", help="what the card calls the model (default: the repository's name, or the model's own)")
    author = "who is to be cited; repeatable (default: nobody)"
    add("--author", action="append", default=[], metavar="NAME", help=author)
    add("--code", metavar="URL", help="where the code is that made the model (default: no link)")
    add(
        "--check",
        action="store_true",
        help="load the folder as users do, run its quick start and examples, validate its header, links and sizes "
        "(default: only render)",
    )
    push = "push the folder to this hub repository as one commit, and name it in the card (default: never)"
    add("--upload", metavar="REPO", help=push)
    add("--private", action="store_true", help="make the repository private if it is new (default: public)")
    add("--revision", help="branch to push to, made if it is missing (default: main)")
    add("--yes", action="store_true", help="upload without asking (default: ask on a terminal)")
    add_common_flags(parser)
    return parser


def confirm(args: argparse.Namespace) -> None:
    """Say what will go where, and ask.

    :raises InputError: if nobody agrees.
    """
    files = listing(args.output)
    for name, size in files:
        print(f"{size_text(size):>12}  {name}")
    total = size_text(sum(size for _, size in files))
    where = f"{args.upload}{f' at {args.revision}' if args.revision else ''}{', private' if args.private else ''}"
    print(f"{total:>12}  {len(files)} files, to {where}")
    if args.yes:
        return
    if not sys.stdin.isatty():
        raise InputError("nobody is there to agree to the upload: add --yes")
    if input("Upload? [y/N] ").strip().lower() not in ("y", "yes"):
        raise InputError("not uploaded")


def publish(args: argparse.Namespace) -> int:
    """Run phase 4: render, check, upload."""
    if args.repo and args.upload and args.repo != args.upload:
        raise InputError(f"the card would name {args.repo}, and the upload go to {args.upload}: leave --repo out")
    imprint = Imprint(args.upload or args.repo, args.title, tuple(args.author), args.code)
    publication = Publication(args.model, args.evaluation, args.comparison, resource("examples"), imprint)
    publication.render(args.output, onnx=args.onnx)
    logger.info("rendered %s", args.output)
    if args.check:
        faults = check(args.output, publication.place)
        for fault in faults:
            print(f"check failed: {fault}", file=sys.stderr)
        if faults:
            return EXIT_FAILED
        logger.info(
            "checked: loads in model2vec and sentence-transformers; quick start, examples, header, links, sizes"
        )
    if args.upload:
        confirm(args)
        message = f"{publication.name}: model, card and benchmarks"
        print(upload(args.output, args.upload, private=args.private, revision=args.revision, message=message))
    print(args.output)
    return EXIT_OK


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: the process's) and return the exit code."""
    return console.run(build_parser(), publish, argv)
