r"""A static model -> one HTML file in which it searches as you type, beside BM25 and random directions.

    qwen25 page models/qwen25-deposium-tiny
    qwen25 page demo/model --dims 512 --output page.html

Model, examples and program are inside the file: it needs no server, and its Content-Security-Policy
lets it ask no network. The vectors in it are int8, those of the model where it has them.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from model2vec import StaticModel

from qwen25.evaluation.outputs import check_outputs
from qwen25.publication.page_examples import page_examples
from qwen25.publication.page_tokenizer import page_tokenizer
from qwen25.runtime import console
from qwen25.runtime.console import Parser, add_common_flags
from qwen25.runtime.errors import EXIT_OK, InputError
from qwen25.runtime.files import read_json, write_text
from qwen25.runtime.invocation import MODEL
from qwen25.runtime.markdown import render_template
from qwen25.runtime.summary import STDOUT
from qwen25.runtime.wording import is_name, require_name, size_text
from qwen25.store.static_model import load_model, model_name

OUTPUT = Path("qwen25_page.html")
#: Of int8 vectors, in 10^6 bytes. A browser opens larger files, but nobody would send them to a colleague.
MAX_MB = 40
#: Of the control's random directions.
SEED = 42


def page_model(folder: Path, dims: int | None = None) -> StaticModel:
    """Return the model that the page holds: int8 rows, each token's with a weight of its own.

    Rows that tokens share stay shared.

    :param dims: keep only the first dimensions, which carry most (None: all).
    :raises InputError: if the model does not load, has fewer dimensions, or is too large for a page.
    """
    model = load_model(folder)
    table = np.asarray(model.embedding)
    if dims is not None and not 1 <= dims <= table.shape[1]:
        raise InputError(f"--dims must be from 1 to the model's {table.shape[1]}, not {dims}")
    table = table[:, :dims]
    weights = np.ones(len(model.tokens)) if model.weights is None else model.weights.astype(np.float64)
    row_of = model.token_mapping
    if table.size > MAX_MB * 1e6:
        fitting = int(MAX_MB * 1e6 / len(table))
        raise InputError(
            f"{table.size / 1e6:.0f} MB of int8 vectors are too large for a page, which holds {MAX_MB}: "
            f"add --dims {fitting} or less, or give a model of fewer rows"
        )
    if table.dtype != np.int8:
        scales = np.abs(table.astype(np.float64)).max(axis=1) / 127
        table = np.rint(table / np.maximum(scales, 1e-30)[:, None]).astype(np.int8)
        weights = weights * (scales if row_of is None else scales[row_of])
    return StaticModel(
        table,
        model.tokenizer,
        normalize=True,
        weights=weights.astype(np.float32),
        token_mapping=row_of,
        max_length=model.max_length,
    )


def page(model: StaticModel, name: str, teacher: str | None = None) -> str:
    """Return the page of a model from :func:`page_model`; the same bytes for the same model.

    :param name: what the page calls it.
    :param teacher: what it was distilled from, if that is known.
    :raises InputError: if its tokenizer is none that the page knows.
    """
    if model.max_length is not None:
        raise InputError(f"the model cuts texts at {model.max_length} tokens, and the page does not: set it to null")
    facts, merges = page_tokenizer(model.tokenizer)
    assert model.weights is not None  # noqa: S101 - page_model gives each row its scale
    data = {
        "name": name,
        "teacher": teacher,
        "dims": model.dim,
        "rows": len(model.embedding),
        "seed": SEED,
        "bytes": int(model.embedding.nbytes),
        "tokenizer": facts,
        "examples": page_examples(),
    }
    row_of = np.empty(0) if model.token_mapping is None else model.token_mapping
    parts = files("qwen25") / "templates" / "page"
    scripts = [(parts / file).read_text(encoding="utf-8") for file in ("engine.js", "page.js")]
    style = (parts / "page.css").read_text(encoding="utf-8")
    return render_template(
        "page/page.html",
        name=name,
        data=script_json(data),
        table=_base64(model.embedding.astype(np.int8)),
        weights=_base64(model.weights.astype("<f4")),
        row_of=_base64(row_of.astype("<u4")),
        merges=_base64(merges.astype("<u4")),
        style=style,
        scripts=scripts,
        style_hash=_csp_hash(style),
        script_hashes=[_csp_hash(script) for script in scripts],
    )


def write_page(folder: Path, output: Path, dims: int | None = None, name: str | None = None) -> None:
    """Write the page of the model in ``folder``, atomically.

    :param dims: keep only the first dimensions (None: all).
    :param name: what the page calls the model (None: its name in ``metadata.json``, or its folder's).
    :raises InputError: if the model cannot be put into a page, or the file would replace one of the model's.
    :raises PipelineError: if the file cannot be written.
    """
    if output == STDOUT:
        raise InputError("a page is opened in a browser: give a file as --output")
    check_outputs([output], [f"model2vec:{folder}"])
    require_name("--name", name)
    model = page_model(folder, dims)
    metadata = read_json(folder / "metadata.json") if (folder / "metadata.json").is_file() else {}
    metadata = metadata if isinstance(metadata, dict) else {}
    teacher = metadata.get("teacher")
    teacher_name = teacher.get("name") if isinstance(teacher, dict) else None
    is_known = isinstance(teacher_name, str) and is_name(teacher_name)
    write_text(output, page(model, name or model_name(folder), teacher_name if is_known else None))


def script_json(data: Any) -> str:
    """Return JSON that can stand in a script element: no text in it can end the element."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _base64(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")


def _csp_hash(text: str) -> str:
    """Return what the page's policy calls an inline script or style that may run."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = Parser("page", __doc__)
    add = parser.add_argument
    add("model", type=Path, nargs="?", default=MODEL, help="folder of a static model (default: %(default)s)")
    add("--output", type=Path, default=OUTPUT, help="the HTML file (default: %(default)s)")
    add("--dims", type=int, help="keep only the first N dimensions (default: all)", metavar="N")
    add("--name", help="what the page calls the model (default: its own name)")
    add_common_flags(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Write the page that the flags ask for."""
    write_page(args.model, args.output, args.dims, args.name)
    print(f"{args.output} ({size_text(args.output.stat().st_size)}): open it in a browser, or send it to somebody")
    return EXIT_OK


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: the process's) and return the exit code."""
    return console.run(build_parser(), run, argv)


if __name__ == "__main__":
    sys.exit(main())
