"""Result files -> the folder that is published: model, card, benchmarks, examples and plots.

Nothing is typed here that a result file could say: a number, a size or a claim comes from metadata,
evaluation or comparison, and a claim that they do not support is left out.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwen25.evaluation.categories.all import CATEGORIES
from qwen25.evaluation.recommendations import is_useful, ours_of, with_our_name
from qwen25.publication.claims import Claims
from qwen25.publication.contents import (
    BENCHMARKS,
    CARD,
    COPY_FILES,
    EXAMPLES,
    MODEL_FILES,
    MODULES,
    NORMALIZE,
    OTHER_VERSION,
    PARTS,
)
from qwen25.publication.examples import EXAMPLE_HEADER, FOLLOWED, example_counts, example_rows
from qwen25.reports import comparison_report, evaluation_report, plots
from qwen25.reports.advice import alternatives
from qwen25.reports.comparison_report import comparison_remarks
from qwen25.reports.plots import category_bars
from qwen25.reports.results import read_results
from qwen25.runtime.errors import InputError, as_input_error
from qwen25.runtime.files import sha256, write_bytes, write_text
from qwen25.runtime.folders import output_folder
from qwen25.runtime.invocation import command_of
from qwen25.runtime.markdown import render_template
from qwen25.store.hub import check_id
from qwen25.store.model_card import card_facts, card_header
from qwen25.store.model_files import steps_of
from qwen25.store.onnx_export import write_onnx
from qwen25.store.static_model import FLOAT16_COPY

Result = dict[str, Any]
#: The model that this project is for, and where it is published; other models have no repository unless one is named.
MISSION_NAME, MISSION_REPO = "qwen25-deposium-1024d", "tss-deposium/qwen25-deposium-1024d"

LONGEST_NAME = 96  # as the hub's


@dataclass(frozen=True)
class Imprint:
    """What the publisher chooses; nothing of it is needed.

    :ivar repo: the hub repository, owner/name.
    :ivar title: what the card calls the model (None: as its repository, or as phase 1 did).
    :ivar authors: who is to be cited.
    :ivar code: the address of the code that made the model.
    """

    repo: str | None = None
    title: str | None = None
    authors: tuple[str, ...] = ()
    code: str | None = None


class Publication:
    """A model folder and the results that speak of it.

    :ivar metadata: of phase 1.
    :ivar evaluation: of phase 2.
    :ivar comparison: of phase 3.
    :ivar model_files: those of ``model`` that are published.
    """

    def __init__(
        self, model: Path, evaluation: Path, comparison: Path, examples: Path, imprint: Imprint | None = None
    ) -> None:
        """Read the results, and count what the examples count on the model.

        :param examples: the folder of the example scripts.
        :raises InputError: if a file is missing, they speak of different models, or the imprint cannot be printed.
        """
        self.model, self._examples, self.imprint = model, examples, imprint or Imprint()
        self.metadata, self.evaluation, self.comparison = read_results(model, evaluation, comparison)
        self.model_files = _files_of(model)
        with as_input_error(*OTHER_VERSION):
            hashes = {
                "metadata.json": self.metadata["model_sha256"],
                str(evaluation): self.evaluation["model"]["sha256"],
                str(comparison): ours_of(self.comparison)["result"]["model"]["sha256"],
            }
            has_control = any(row.get("kind") == "control" for row in self.comparison["models"])
            complete = set(self.evaluation["categories"]) == set(CATEGORIES)
            self.repo = self.imprint.repo or (MISSION_REPO if self.metadata["name"] == MISSION_NAME else None)
            self._check_imprint()
        weights = sha256([model / "model.safetensors"])
        for name, digest in hashes.items():
            if digest != weights:
                raise InputError(f"{name} speaks of another model than {model}: run its phase again")
        if not has_control:
            raise InputError(f"{comparison} has no control", OTHER_VERSION[1])
        if not complete:
            command = command_of("eval", model=model, output=evaluation)
            raise InputError(f"{evaluation} lacks categories", f"make it anew with {command}, without --categories")
        self.comparison = with_our_name(self.comparison, self.name)
        self.claims = Claims(self.evaluation, self.comparison, example_counts(model, examples))

    def _check_imprint(self) -> None:
        if self.repo is not None:
            check_id(self.repo)  # the card's code holds it, and --check runs that code
        elif self.imprint.title is None and not 0 < len(_repository_name(self.metadata["name"])) <= LONGEST_NAME:
            raise InputError(f"{self.metadata['name']!r} cannot be a model's name: give another as --title")
        if self.imprint.code is not None and not re.fullmatch(r"https://[\w.~/%-]+", self.imprint.code):
            raise InputError(f"--code {self.imprint.code} is no address: give one that starts with https://")
        for text in (self.imprint.title, *self.imprint.authors):
            if text is not None and not (text.strip() and text.isprintable()):
                raise InputError("a title or author must have characters, all of them printable")

    @property
    def name(self) -> str:
        """What the card calls the model."""
        return self.imprint.title or (self.repo or _repository_name(self.metadata["name"])).split("/")[-1]

    @property
    def place(self) -> str:
        """What the card's code loads the model from."""
        return self.repo or "path/to/this/folder"

    def header(self) -> str:
        """Return the card's YAML header."""
        from huggingface_hub import EvalResult

        tags = ["instruction-aware"] if self.claims.follows_instructions else []
        tags += ["qwen2.5"] if "qwen2.5" in self.metadata["teacher"]["name"].lower() else []
        results = [
            EvalResult(
                task_type="sentence-similarity",
                task_name=name.replace("_", " "),
                dataset_type="qwen25-deposium-eval-data",
                dataset_name="qwen25-deposium evaluation items",
                metric_type="chance-adjusted score",
                metric_name=f"{name.replace('_', ' ')} (0 chance, 1 perfect)",
                metric_value=round(score["score"], 4),
            )
            for name, score in [*self.evaluation["categories"].items(), ("overall", self.evaluation["overall"])]
        ]
        return card_header(
            self.metadata,
            tuple(tags),
            language=self.claims.languages(),
            pipeline_tag="sentence-similarity",
            model_name=self.name,
            eval_results=results,
        )

    def facts(self, onnx: bool = False) -> Result:
        """Return what the templates draw on.

        :param onnx: whether the model is published as ONNX too.
        """
        categories, claims = self.evaluation["categories"], self.claims
        sizes = {name: (self.model / name).stat().st_size for name in self.model_files}
        return {
            **card_facts(self.metadata, sizes),
            "header": self.header(),
            "name": self.name,
            "key": re.sub(r"\W+", "_", self.name),
            "imprint": self.imprint,
            "repo": self.repo,
            "place": self.place,
            "onnx": onnx,
            "evaluation": self.evaluation,
            "comparison": self.comparison,
            "useful": is_useful(ours_of(self.comparison)),
            "claims": claims,
            "followed": claims.examples[FOLLOWED],
            "example_rows": example_rows(claims.examples),
            "example_header": EXAMPLE_HEADER,
            "weakest": sorted(categories, key=lambda c: categories[c]["score"])[:2],
            "remarks": comparison_remarks(self.comparison),
            "alternatives": alternatives(self.comparison),
            "is_qwen": "qwen2.5" in self.metadata["teacher"]["name"].lower(),
            "peers": [row for row in self.comparison["models"] if "difference_to_ours" in row],
            "report": comparison_report,
            "evaluation_report": evaluation_report,
        }

    def render(self, folder: Path, onnx: bool = False) -> None:
        """Write everything that is published into ``folder``, beside its place first: an old one is replaced whole.

        :param onnx: add the model as ONNX, and the tokenizer files that transformers.js reads.
        :raises InputError: if ``folder`` holds something else than an earlier publication.
        :raises PipelineError: if it cannot be written, or another process is at work on it.
        """
        _check_replaceable(folder)  # before the plots, which take seconds
        with as_input_error(*OTHER_VERSION):
            facts = self.facts(onnx)
            card = render_template("card.md", **facts)
            benchmarks = render_template("benchmarks.md", **facts)
            figures = {
                "evaluation.png": plots.png(category_bars(self.evaluation)),
                "comparison.png": plots.png(plots.comparison(self.comparison)),
            }
        with output_folder(folder, _check_replaceable) as output, output.replaced() as new:
            for name in self.model_files:
                _copy(self.model / name, new / name)
            for name in EXAMPLES:
                script = (self._examples / name).read_text(encoding="utf-8")
                # Whoever downloads it tries this model with it, unless they say another.
                write_text(new / "examples" / name, script.replace(f'"{MISSION_REPO}"', f'"{self.place}"'))
            if onnx:
                write_onnx(self.model, new)
            for name, content in figures.items():
                write_bytes(new / name, content)
            write_text(new / BENCHMARKS, benchmarks)
            write_text(new / CARD, card)


def _files_of(model: Path) -> list[str]:
    """Return the files of a model folder that are published: the model, and what sentence-transformers reads of it.

    :raises InputError: if one is missing, or a link to a file elsewhere, which may be private. A model of int8 whose
        copy was left out has no ``modules.json``.
    """
    names = list(MODEL_FILES)
    if (model / MODULES).is_file():
        copied = any(place.name == FLOAT16_COPY for _, place in steps_of(model, model.name))
        names += [MODULES, NORMALIZE, *(COPY_FILES if copied else ())]
    missing = [name for name in names if not (model / name).is_file()]
    if missing:
        raise InputError(f"{model} lacks {', '.join(missing)}: make it anew with {command_of('distill', output=model)}")
    for name in names:
        if not (model / name).resolve().is_relative_to(model.resolve()):
            raise InputError(
                f"{model / name} is a link to elsewhere, and would be published: put the file itself there"
            )
    return names


def _repository_name(name: str) -> str:
    """Return a folder's name with what a repository's cannot hold left out."""
    return re.sub(r"[-.]{2,}", "-", re.sub(r"[^A-Za-z0-9._-]+", "-", name)).strip("-.")


def _check_replaceable(folder: Path) -> None:
    """Refuse a folder in which something would be lost that is no part of a publication.

    :raises InputError: if there is such.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file: give a folder as --output")
    if os.path.ismount(folder.resolve()):
        raise InputError(f"{folder} is a mount point, which cannot be replaced: give a folder in it as --output")
    is_publication = (folder / BENCHMARKS).is_file()  # a model's folder has the same names, but for this one
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        is_cache = path.name == "__pycache__" or path.suffix == ".pyc"  # of examples that were run
        if not is_publication or not (name in PARTS or is_cache):
            raise InputError(f"{folder} holds something else than a publication ({name}): give another --output")


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
