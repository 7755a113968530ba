"""The settings of phase 1: every parameter with its default, checked before anything is loaded."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qwen25.distillation.recipe import Recipe, recipe_named
from qwen25.distillation.token_use import LANGUAGES, check_languages
from qwen25.runtime.errors import InputError
from qwen25.runtime.files import require_regular
from qwen25.runtime.folders import check_output, require_text
from qwen25.runtime.invocation import MODEL
from qwen25.runtime.wording import require_name
from qwen25.store.onnx_export import require_onnx
from qwen25.teacher.teacher import DEFAULT_TEACHER
from qwen25.training.sources import parse_source
from qwen25.training.trainer import Tune

#: What a Qwen2.5 teacher's model is cut to unless a size is given; in 10^6 bytes.
MAX_SIZE_MB = 65.0
#: The teachers whose model is cut to that size by default: those of the announced model's vocabulary.
SIZED_TEACHERS = (DEFAULT_TEACHER, "qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b")
#: nearest: they take the direction of the most similar token that has a row; pieces: they are taken out of the
#: tokenizer, and their text falls into shorter tokens.
RARE_TOKENS = ("nearest", "pieces")
#: More texts would take a small teacher a day to write.
MAX_TEXTS = 1_000_000
MAX_EPOCHS = 1_000


@dataclass(frozen=True)
class Settings:
    """Everything that phase 1 can be told.

    :ivar teacher: a hub id, a local folder, a .gguf file or a packaged name.
    :ivar output: the folder of the model.
    :ivar name: what reports, card and page call the model; None: as its folder is called.
    :ivar revision: branch, tag or commit of a hub id; None: its main branch.
    :ivar offline: use only what the hub's cache holds.
    :ivar dims: the dimensions of the vectors.
    :ivar recipe: ``default``, ``plain`` or ``pooled``; see :data:`qwen25.distillation.recipe.RECIPES`.
    :ivar sif: the SIF coefficient; None: the recipe's.
    :ivar texts: how many texts the teacher writes to show how often it uses each token; 0: Zipf's law.
    :ivar corpus: a file of texts, one a line, whose token frequencies are taken instead.
    :ivar sentence_vectors: how many texts are trained on by a teacher's own vectors of them: texts of the corpus or the
        pairs, or that the teacher writes.
    :ivar sentence_teacher: the decoder that is asked for those vectors; None: the teacher itself.
    :ivar pairs: where pairs of texts to train on are from; see :func:`qwen25.training.sources.parse_source`.
    :ivar tune: what training changes: ``map``, the projection and a weight a token, or ``rows``, after that every row.
    :ivar epochs: how often each pair is seen in a stage of the training, on average.
    :ivar set_temperature: how the size of a set of pairs counts, from 1, as it is, to 0, all alike.
    :ivar train_steps: how many steps a stage takes where there are no pairs, only sentence vectors.
    :ivar keep_out: folders or files of texts; pairs that hold one of them are left out.
    :ivar select: try variants of the recipe on the calibration items and keep the best.
    :ivar device: ``auto``, ``cuda`` or ``cpu``.
    :ivar dtype: ``auto``, ``float32``, ``bfloat16`` or ``float16``: the number format that the teacher computes in;
        ``auto`` takes the device's fastest for what bears it.
    :ivar max_size_mb: the most that ``model.safetensors`` may take, in 10^6 bytes; infinity: all tokens are kept;
        None: 65 for ``SIZED_TEACHERS``, infinity for others.
    :ivar languages: whose words decide, beside the merge order, which tokens get a row where a size is set.
    :ivar rare_tokens: where a size is set, what becomes of the tokens beyond it; see ``RARE_TOKENS``.
    :ivar storage: the number format of the saved vectors; None: int8 where a size is set, else float32.
    :ivar float16_copy: beside int8 vectors or shared rows, write a copy that sentence-transformers loads.
    :ivar onnx: also write ``onnx/model.onnx`` and the tokenizer files that transformers.js reads.
    :ivar vocabulary: a file of words or phrases, one a line, that get a vector of their own.
    :ivar batch_size: tokens a forward pass; None: what suits the device.
    :ivar seed: of everything that is drawn at random.
    :ivar preset: the name of the preset that these settings come from, for the metadata.
    :ivar overwrite: replace the model that ``output`` holds.
    :ivar resume: go on where a run that was cut off has stopped.
    """

    teacher: str = DEFAULT_TEACHER
    output: Path = MODEL
    name: str | None = None
    revision: str | None = None
    offline: bool = False
    dims: int = 1024
    recipe: str = "default"
    sif: float | None = None
    texts: int = 0
    corpus: Path | None = None
    sentence_vectors: int = 0
    sentence_teacher: str | None = None
    pairs: tuple[str, ...] = ()
    tune: Tune = "map"
    epochs: float = 1.0
    set_temperature: float = 0.5
    train_steps: int = 150
    keep_out: tuple[Path, ...] = ()
    select: bool = False
    device: str = "auto"
    dtype: str = "auto"
    max_size_mb: float | None = None
    languages: tuple[str, ...] = LANGUAGES
    rare_tokens: str = "nearest"
    storage: str | None = None
    float16_copy: bool = True
    onnx: bool = False
    vocabulary: Path | None = None
    batch_size: int | None = None
    seed: int = 42
    preset: str | None = None
    overwrite: bool = False
    resume: bool = True

    def completed(self) -> Settings:
        """Return the settings with the parameters set whose default depends on others."""
        size = self.max_size_mb
        if size is None:
            size = MAX_SIZE_MB if self.teacher in SIZED_TEACHERS else math.inf
        storage = self.storage or ("int8" if math.isfinite(size) else "float32")
        return replace(self, max_size_mb=size, storage=storage)

    def check(self) -> None:
        """Refuse what cannot be run, before anything is loaded.

        :raises InputError: if a number is out of its range, a parameter would have no effect beside the others,
            or a path cannot be used.
        """
        self._check_numbers()
        self._check_combinations(recipe_named(self.recipe, self.sif))
        check_languages(self.languages)
        require_name("--name", self.name)
        self._check_paths()
        if self.onnx:
            require_onnx()
        check_output(self.output, self.overwrite)

    @property
    def texts_to_write(self) -> int:
        """How many texts the teacher writes, if it is asked to."""
        return self.texts if self.pairs else max(self.texts, self.sentence_vectors)

    def _check_numbers(self) -> None:
        if not (math.isfinite(self.epochs) and 0 < self.epochs <= MAX_EPOCHS):
            raise InputError(f"--epochs must be above 0 and at most {MAX_EPOCHS}, not {self.epochs:g}")
        if not 0 <= self.set_temperature <= 1:
            raise InputError(f"--set-temperature must be from 0 to 1, not {self.set_temperature:g}")
        ranges: list[tuple[str, int | None, float, float]] = [
            ("--train-steps", self.train_steps, 1, MAX_TEXTS),
            ("--dims", self.dims, 1, math.inf),
            ("--batch-size", self.batch_size, 1, math.inf),
            ("--texts", self.texts, 0, MAX_TEXTS),
            ("--sentence-vectors", self.sentence_vectors, 0, MAX_TEXTS),
        ]
        for flag, value, least, most in ranges:
            if value is not None and value < least:
                raise InputError(f"{flag} must be at least {least}, not {value}")
            if value is not None and value > most:
                raise InputError(f"{flag} must be at most {most}, not {value}")

    def _check_combinations(self, recipe: Recipe) -> None:
        if recipe.pooled and self.select:
            raise InputError("--select varies the layers of a recipe, and recipe pooled has only the pooled states")
        for source in self.pairs:
            parse_source(source)  # says now what is wrong with it
        if self.tune != "map" and not self.pairs and not self.sentence_vectors:
            raise InputError(f"--tune {self.tune} needs something to learn from: add --pairs or --sentence-vectors")
        if not self.sentence_vectors:
            if self.sentence_teacher is not None:
                raise InputError("--sentence-teacher has nothing to do: add --sentence-vectors N")
            return
        if self.sentence_vectors == 1:
            raise InputError("--sentence-vectors must be 0 or at least 2: one text shows no direction")
        if recipe.pooled and not self.sentence_teacher:
            raise InputError(
                "--sentence-vectors asks a decoder for them, and recipe pooled is for embedding models: "
                "add --sentence-teacher"
            )
        if recipe.frequencies == "zipf" and not self.corpus and not self.pairs:
            raise InputError(
                f"--sentence-vectors needs texts, and recipe {recipe.name} has none written: "
                "add --corpus FILE or --pairs SOURCE, or use the default recipe"
            )

    def _check_paths(self) -> None:
        """Refuse an output folder with something in it that the run reads: the folder is replaced as a whole."""
        for flag, teacher in (("--teacher", self.teacher), ("--sentence-teacher", self.sentence_teacher)):
            if teacher is not None:
                require_text(teacher)
                if not teacher.strip():
                    raise InputError(f"{flag} is empty: give a hub id, a folder, a .gguf file or a packaged name")
        if self.vocabulary:
            require_regular(self.vocabulary, or_pipe=True)
        # A hub id is no path, whatever it looks like.
        read = [
            ("--teacher", Path(self.teacher).expanduser()),
            ("--sentence-teacher", Path(self.sentence_teacher).expanduser() if self.sentence_teacher else None),
            ("--corpus", self.corpus),
            ("--vocabulary", self.vocabulary),
            *(("--pairs", parse_source(text).path) for text in self.pairs),
            *(("--keep-out", path) for path in self.keep_out),
        ]
        for flag, path in read:
            if path and path.exists():
                require_outside(flag, path, self.output)


def require_outside(flag: str, path: Path, output: Path) -> None:
    """Refuse a path inside the output folder.

    :raises InputError: if it lies there.
    """
    if path.resolve().is_relative_to(output.resolve()):
        raise InputError(f"{flag} {path} lies in the --output folder, which is replaced: give another")


def _peer(teacher: str, dims: int, storage: str, folder: str) -> dict[str, Any]:
    return {
        "teacher": teacher,
        "dims": dims,
        "storage": storage,
        "output": Path("models", folder),
        "recipe": "pooled",
        "max_size_mb": math.inf,
    }


#: The static peers of the comparison, each from its own teacher, an embedding model: name -> settings.
PEERS: dict[str, dict[str, Any]] = {
    "gemma-768d": _peer("google/embeddinggemma-300m", 768, "float16", "gemma-deposium-768d"),
    "qwen3-256d": _peer("Qwen/Qwen3-Embedding-0.6B", 256, "float32", "qwen3-deposium-256d"),
    "qwen3-1024d": _peer("Qwen/Qwen3-Embedding-0.6B", 1024, "float32", "qwen3-deposium-1024d"),
}
#: What a web page or a phone takes: 8 MB.
TINY = {
    "teacher": DEFAULT_TEACHER,
    "dims": 256,
    "storage": "int8",
    "output": Path("models", "qwen25-deposium-tiny"),
    "recipe": "default",
    "max_size_mb": 8.0,
}
PRESETS: dict[str, dict[str, Any]] = {"tiny": TINY, **PEERS}
