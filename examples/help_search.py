#!/usr/bin/env python3
"""The demo's last step, an ordinary use: thirty help articles, ten everyday questions in five languages.

    python examples/help_search.py demo      # in the environment that holds the package qwen25

It shows the article found for each question, then how the model stands on the scale of the reference models, then
what to do next. Ten questions show a use; they do not rank models. Exit codes: 0 ok, 1 the run failed, 2 wrong input.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from pathlib import Path
from statistics import fmean
from typing import Any

from qwen25.evaluation.judgement import ranked
from qwen25.evaluation.matching import Bm25, Matcher
from qwen25.evaluation.models import load_encoder, random_control
from qwen25.evaluation.results import read_evaluation
from qwen25.runtime import console
from qwen25.runtime.console import command_of
from qwen25.runtime.display import print_lines
from qwen25.runtime.errors import EXIT_OK
from qwen25.runtime.files import read_json, resource, write_json
from qwen25.runtime.provenance import Clock, provenance

#: Of the random directions whose mean stands beside the model, as in the other examples.
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

    def found(matcher: Matcher) -> list[int | None]:
        """Return the number of each question's best article; None where several are equally good."""
        fit = matcher.similarity([question["text"] for question in questions], articles)
        alone = (fit == fit.max(axis=1, keepdims=True)).sum(axis=1) == 1
        return [int(best) if is_alone else None for best, is_alone in zip(fit.argmax(axis=1), alone, strict=True)]

    def right(numbers: list[int | None]) -> int:
        return sum(number == question["answer"] for number, question in zip(numbers, questions, strict=True))

    ours = found(encoder.matcher)
    controls = [right(found(c.matcher)) for seed in CONTROL_SEEDS if (c := random_control(encoder, seed))]
    rows = [
        {
            "language": question["language"],
            "question": question["text"],
            "found": None if number is None else articles[number],
            "right": number == question["answer"],
        }
        for question, number in zip(questions, ours, strict=True)
    ]
    return {
        "schema_version": 1,
        "model": {"name": encoder.name, "sha256": encoder.sha256},
        "questions": rows,
        "articles": len(articles),
        "right": right(ours),
        "random_directions": round(fmean(controls), 1) if controls else None,
        "bm25": right(found(Bm25())),
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


def print_search(result: dict[str, Any], evaluation: dict[str, Any], folder: Path) -> None:
    """Print each question with the article found, how the model stands among the references, and what to do next."""
    print(f"\n{result['articles']} help articles, {len(result['questions'])} questions: the article found\n")
    for row in result["questions"]:
        print(f"{'right' if row['right'] else 'wrong'}  {row['language']}  {row['question']}")
        found = row["found"] or "(several fit equally well)"
        print(textwrap.fill(found, console.COLUMNS, initial_indent=" " * 11, subsequent_indent=" " * 11))
    print_lines([summary(result)], "Found")
    print("\nOn the scale of the reference models (all test items; 0 is chance, 1 perfect)\n")
    for row in ranked(evaluation):
        if row["kind"] != "control":
            name = row["name"] if "difference_to_ours" in row else f"{row['name']} (this model)"
            print(f"  {row['result']['overall']['score']:5.3f}  {name}")
    for what, how in (
        ("Next: open the report in a browser, every category beside other models", folder / "comparison.html"),
        ("make a page that searches as you type", command_of("page", model=folder / "model", dims=512)),
        ("train on your own pairs, a CSV file of two columns", command_of("distill", teacher=TEACHER, pairs="my.csv")),
    ):
        print(f"\n{what}\n    {how}")


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = console.Parser(story=__doc__)
    what = "with the model, eval_results.json and comparison.html; first_search.json is written into it"
    parser.add_argument("folder", nargs="?", type=Path, default=Path("demo"), help=f"{what} (default: %(default)s)")
    return parser


def run(args: argparse.Namespace) -> int:
    """Search, write the result, and print what was found and what to do next."""
    model = args.folder / "model"
    result, evaluation = search(model), read_evaluation(args.folder / "eval_results.json", model)
    write_json(args.folder / "first_search.json", result)
    print_search(result, evaluation, args.folder)
    return EXIT_OK


main = console.command(build_parser, run)


if __name__ == "__main__":
    sys.exit(main())
