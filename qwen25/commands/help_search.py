"""The demo's last step, an ordinary use: thirty help articles, ten everyday questions in five languages.

    python -m qwen25.commands.help_search demo

It shows the article found for each question, then what to do next. Ten questions show a use; they do not rank models.
Exit codes: 0 ok, 1 the run failed, 2 wrong input.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from qwen25.evaluation.matching import Bm25, Matcher
from qwen25.evaluation.models import load_encoder, random_control
from qwen25.runtime import console
from qwen25.runtime.console import command_of
from qwen25.runtime.display import print_lines
from qwen25.runtime.errors import EXIT_OK
from qwen25.runtime.files import read_json, resource, write_json
from qwen25.runtime.provenance import Clock, provenance
from qwen25.runtime.text import table

#: Of the random directions whose mean stands beside the model, as in ``examples/``.
CONTROL_SEEDS = range(5)
TEACHER = "qwen2.5-coder-0.5b"


def search(spec: str | Path) -> dict[str, Any]:
    """Ask a static model the questions, and return the content of the result file.

    An answer counts if its article fits better than every other; articles that fit equally well are not found.

    :raises InputError: if the model cannot be loaded.
    """
    clock, data = Clock(), read_json(resource("data") / "help_articles.json")
    articles, questions = data["articles"], data["questions"]
    encoder = load_encoder(str(spec))

    def asked(matcher: Matcher) -> list[dict[str, Any]]:
        """Return each question with the best article; None where several are equally good."""
        rows = []
        for question, fit in zip(questions, matcher.similarity([q["text"] for q in questions], articles), strict=True):
            found = articles[fit.argmax()] if (fit == fit.max()).sum() == 1 else None
            is_right = found == articles[question["answer"]]
            rows.append(
                {"language": question["language"], "question": question["text"], "found": found, "right": is_right}
            )
        return rows

    def right(matcher: Matcher) -> int:
        return sum(row["right"] for row in asked(matcher))

    controls = [control for seed in CONTROL_SEEDS if (control := random_control(encoder, seed))]
    return {
        "schema_version": 1,
        "model": {"name": encoder.name, "sha256": encoder.sha256},
        "questions": asked(encoder.matcher),
        "articles": len(articles),
        "right": right(encoder.matcher),
        "random_directions": round(fmean(right(control.matcher) for control in controls), 1) if controls else None,
        "bm25": right(Bm25()),
        **provenance(clock, CONTROL_SEEDS.start),
    }


def summary(result: dict[str, Any]) -> str:
    """Return how many questions found their article, beside what does without meaning."""
    count = len(result["questions"])
    return (
        f"{result['right']} of {count} found their article among {result['articles']}; random directions find "
        f"{result['random_directions']}, the mean of {len(CONTROL_SEEDS)} draws; BM25, shared words alone, "
        f"{result['bm25']}; chance {count / result['articles']:.1f}. So few questions do not rank models."
    )


def search_markdown(result: dict[str, Any]) -> str:
    """Return the questions, the articles found and the summary as Markdown."""
    rows = [[row["question"], row["found"] or "-", "yes" if row["right"] else "no"] for row in result["questions"]]
    return "\n".join([*table(["question", "article found", "right"], rows), "", summary(result)])


def print_search(result: dict[str, Any], folder: Path) -> None:
    """Print each question with the article found, and what to do next."""
    print(f"\n{result['articles']} help articles, {len(result['questions'])} questions: the article found\n")
    for row in result["questions"]:
        print(f"{'right' if row['right'] else 'wrong'}  {row['language']}  {row['question']}")
        found = row["found"] or "(several fit equally well)"
        print(textwrap.fill(found, console.COLUMNS, initial_indent=" " * 11, subsequent_indent=" " * 11))
    print_lines([summary(result)], "Found")
    for what, how in (
        ("Next: open the report in a browser, every category beside other models", folder / "comparison.html"),
        ("make a page that searches as you type", command_of("page", model=folder / "model", dims=512)),
        ("train on your own pairs, a CSV file of two columns", command_of("distill", teacher=TEACHER, pairs="my.csv")),
    ):
        print(f"\n{what}\n    {how}")


def run(args: argparse.Namespace) -> int:
    """Search, write the result, and print what was found and what to do next."""
    result = search(args.folder / "model")
    write_json(args.folder / "first_search.json", result)
    print_search(result, args.folder)
    return EXIT_OK


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: the process's) and return the exit code."""
    parser = console.Parser(story=__doc__)
    what = "with the model and comparison.html; first_search.json is written into it (default: %(default)s)"
    parser.add_argument("folder", nargs="?", type=Path, default=Path("demo"), help=what)
    console.add_common_flags(parser)
    return console.run(parser, run, argv)


if __name__ == "__main__":
    sys.exit(main())
