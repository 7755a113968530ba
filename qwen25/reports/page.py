"""A static model -> one HTML file in which it searches as you type, beside BM25 and random directions.

Model, examples and program are inside the file: it needs no server, and its Content-Security-Policy lets it ask no
network. The vectors in it are int8, those of the model where it has them, a character each: see :func:`_characters`.
"""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import numpy as np
from model2vec import StaticModel
from tokenizers import Tokenizer

from qwen25.evaluation.thresholds import CUTS
from qwen25.reports.sections import in_base64
from qwen25.runtime.errors import InputError
from qwen25.runtime.files import check_file, read_json, resource, write_files
from qwen25.runtime.text import render_template, require_name
from qwen25.store.static_model import load_model, model_name, tokenizer_steps

#: Of int8 vectors, in 10^6 bytes. A browser opens larger files, but nobody would send them to a colleague.
MAX_MB = 40
#: Of the control's random directions.
SEED = 42
#: ByteLevel's own pattern, which it cuts by where ``use_regex`` is set.
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
#: Letters that a pattern without regard to case finds besides a letter's two cases.
OTHER_CASES = {"s": "\u017f", "k": "\u212a"}


def write_page(folder: Path, output: Path, dims: int | None = None, name: str | None = None) -> None:
    """Write the page of the model in ``folder``, atomically; the same model gives the same bytes.

    :param dims: keep only the first dimensions (None: all).
    :param name: what the page calls the model (None: its name in ``metadata.json``, or its folder's).
    :raises InputError: if the model cannot be put into a page, or the file would replace one of the model's.
    :raises PipelineError: if the file cannot be written.
    """
    require_name("--name", name)
    check_file(output)
    if output.resolve().parent == folder.resolve():
        raise InputError(f"{output} is in the model's folder: give another --output")
    model, name = page_model(folder, dims), name or model_name(folder)
    if model.max_length is not None:
        raise InputError(f"the model cuts texts at {model.max_length} tokens, and the page does not: set it to null")
    facts, merges = page_tokenizer(model.tokenizer)
    data = {
        "name": name,
        "dims": model.dim,
        "rows": len(model.embedding),
        "seed": SEED,
        "bytes": int(model.embedding.nbytes),
        "tokenizer": facts,
        "cuts": _cuts(folder) if dims is None else None,
        "examples": read_json(resource("data") / "page_examples.json"),
    }
    row_of = np.empty(0) if model.token_mapping is None else model.token_mapping
    parts = files("qwen25") / "templates" / "page"
    *scripts, style = ((parts / file).read_text(encoding="utf-8") for file in ("engine.js", "page.js", "page.css"))
    text = render_template(
        "page/page.html",
        name=name,
        data=_script_json(data),
        table=_characters(model.embedding),
        weights=in_base64(np.asarray(model.weights).astype("<f4").tobytes()),
        row_of=in_base64(row_of.astype("<u4").tobytes()),
        merges=in_base64(merges.astype("<u4").tobytes()),
        style=style,
        scripts=scripts,
        style_hash=_csp_hash(style),
        script_hashes=[_csp_hash(script) for script in scripts],
    )
    write_files({output: text})


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
    if table.size > MAX_MB * 1e6:
        raise InputError(
            f"{table.size / 1e6:.0f} MB of int8 vectors are too large for a page, which holds {MAX_MB}: "
            f"add --dims {int(MAX_MB * 1e6 / len(table))} or less, or give a model of fewer rows"
        )
    weights = np.ones(len(model.tokens)) if model.weights is None else model.weights.astype(np.float64)
    if table.dtype != np.int8:
        scales = np.abs(table.astype(np.float64)).max(axis=1) / 127
        table = np.rint(table / np.maximum(scales, 1e-30)[:, None]).astype(np.int8)
        weights = weights * (scales if model.token_mapping is None else scales[model.token_mapping])
    return StaticModel(
        table,
        model.tokenizer,
        normalize=True,
        weights=weights.astype(np.float32),
        token_mapping=model.token_mapping,
        max_length=model.max_length,
    )


def _cuts(folder: Path) -> list[float] | None:
    """Return the cosines from which a text is near and a match, where the model's metadata tells them apart."""
    with suppress(InputError, KeyError, TypeError):  # there may be none, and another tool's file may hold anything
        meaning = read_json(folder / "metadata.json")["score_meaning"]
        return [float(meaning["cuts"][name]["cosine"]) for name in CUTS] if meaning["parts"] else None
    return None


def _script_json(data: Any) -> str:
    """Return JSON that can stand in a script element: no text in it can end the element."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _characters(values: np.ndarray) -> str:
    """Return int8 values as a text with a character each, which takes up to a quarter less of UTF-8 than base64.

    The values nearest to 0, the most of them, get the characters of one byte. Those that HTML reads otherwise are left
    out: NUL, carriage return and the less-than sign.
    """
    characters = np.array([code for code in range(259) if code not in (0, 13, 60)], dtype="<u4")
    by_size = np.array([*range(0, 255, 2), *range(255, 0, -2)])  # 0 1 ... 127, -128 ... -1 -> their places by size
    return characters[by_size[values.astype(np.uint8).ravel()]].tobytes().decode("utf-32-le")


def _csp_hash(text: str) -> str:
    """Return what the page's policy calls an inline script or style that may run."""
    return f"'sha256-{in_base64(hashlib.sha256(text.encode()).digest())}'"


def page_tokenizer(tokenizer: Tokenizer) -> tuple[dict[str, Any], np.ndarray]:
    """Return the facts of a byte-level BPE tokenizer, and its merges as pairs of ids, in order; shape (merges, 2).

    :raises InputError: if it is of another kind, or has a step that the page does not know.
    """
    spec = json.loads(tokenizer.to_str())
    model = spec["model"]
    steps = tokenizer_steps(spec["pre_tokenizer"], "pretokenizers")
    if model["type"] != "BPE" or not any(step["type"] == "ByteLevel" for step in steps):
        raise _unsupported(f"a {model['type']} tokenizer that is not byte-level")
    unknown = model["unk_token"] in model["vocab"] or model["continuing_subword_prefix"] or model["end_of_word_suffix"]
    if model["dropout"] or unknown or spec["added_tokens"]:
        raise _unsupported("a tokenizer with words of its own (--vocabulary), an unknown token, marks or dropout")
    normalizers = tokenizer_steps(spec["normalizer"], "normalizers")
    kinds = [step["type"] for step in normalizers]
    if kinds not in ([], ["NFC"], ["Prepend"], ["NFC", "Prepend"]):
        raise _unsupported(f"the normaliser {' and '.join(kinds)}")
    facts = {
        "nfc": "NFC" in kinds,
        "prepend": next((step["prepend"] for step in normalizers if step["type"] == "Prepend"), ""),
        "patterns": [pattern for step in steps for pattern in _patterns(step)],
        "tokens": sorted(model["vocab"], key=model["vocab"].get),
        "ignoreMerges": bool(model["ignore_merges"]),
    }
    return facts, _merges(model)


def _merges(model: dict[str, Any]) -> np.ndarray:
    """Return the merges as pairs of ids, checked to be in an order that lets all of one rank be applied at once."""
    ids, last = model["vocab"], dict.fromkeys(model["vocab"], -1)  # token -> the last merge that makes it
    found = np.empty((len(model["merges"]), 2), dtype=np.uint32)
    for rank, merge in enumerate(model["merges"]):
        left, right = merge
        last[left + right] = rank
        found[rank] = ids[left], ids[right]
    tokens = {row: token for token, row in ids.items()}
    for rank, pair in enumerate(found.tolist()):
        if any(last[tokens[part]] >= rank for part in pair):
            raise _unsupported("a tokenizer that uses a token before its merge")
    return found


def _patterns(step: dict[str, Any]) -> list[str]:
    """Return the JavaScript patterns by which a pre-tokenizer step cuts texts; matches become pieces of their own."""
    if step["type"] == "ByteLevel" and not step["add_prefix_space"]:
        return [javascript_pattern(GPT2)] if step["use_regex"] else []
    if step["type"] == "Digits":
        return [r"\p{N}" if step["individual_digits"] else r"\p{N}+"]
    if step["type"] == "Split" and step["behavior"] == "Isolated" and not step["invert"]:
        pattern = step["pattern"]
        return [javascript_pattern(pattern["Regex"] if "Regex" in pattern else re.escape(pattern["String"]))]
    raise _unsupported(f"the pre-tokenizer {step['type']}")


def javascript_pattern(pattern: str) -> str:
    r"""Translate a pattern of the tokenizers library to JavaScript's, with the flag u.

    ``\s`` is Unicode's White_Space there and another set in JavaScript, and ``(?i:...)`` is younger than many
    browsers.

    :raises InputError: if the pattern has something that is not known to mean the same.
    """
    pattern = re.sub(r"\(\?i:([^()\\\[\]]*)\)", _either_case, pattern)
    known = {r"\s": r"\p{White_Space}", r"\S": r"\P{White_Space}", r"\d": r"\p{Nd}"}
    unknown = re.search(r"\(\?(?!<?[=!]|:)|[+*?]\+|\d\}\+|\\(?![pP]\{\w+\}|[rnt sSd'/.])", pattern)
    if unknown:
        raise _unsupported(f"the pattern {pattern!r}")
    return re.sub(r"\\[sSd '/]", lambda match: known.get(match[0], match[0][1]), pattern)


def _either_case(group: re.Match[str]) -> str:
    """Return a group without regard to case as one in which each letter is the class of its cases."""
    classes = str.maketrans({c: f"[{c}{c.upper()}{OTHER_CASES.get(c, '')}]" for c in ascii_lowercase})
    return f"(?:{group[1].lower().translate(classes)})"


def _unsupported(what: str) -> InputError:
    return InputError(f"the page does not know {what}: give a model of a teacher with a byte-level BPE tokenizer")
