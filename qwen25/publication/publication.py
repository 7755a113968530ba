"""Result files -> the folder that is published: model, card, benchmarks, examples and plots.

Nothing is typed here that a result file could say: a number, a size or a claim comes from metadata,
evaluation or comparison, and a claim that they do not support is left out.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

from qwen25.evaluation.categories.all import CATEGORIES
from qwen25.evaluation.categories.multilingual_alignment import LANGUAGES
from qwen25.evaluation.recommendations import is_useful, ours_of
from qwen25.evaluation.results import WORSE
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
from qwen25.reports import comparison_report, evaluation_report, plots
from qwen25.reports.comparison_report import comparison_remarks, recommendation_lines
from qwen25.reports.evaluation_report import evaluation_remarks
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
OWNER = "tss-deposium"
#: A language has no interval of its own: this much above the control counts as clear.
LANGUAGE_MARGIN = 0.1


class Publication:
    """A model folder and the results that speak of it.

    :ivar metadata: of phase 1.
    :ivar evaluation: of phase 2.
    :ivar comparison: of phase 3.
    :ivar model_files: those of ``model`` that are published.
    """

    def __init__(self, model: Path, evaluation: Path, comparison: Path, repo: str | None = None) -> None:
        """Read the results.

        :param repo: the hub repository that the card names (None: the owner's, under the model's own name).
        :raises InputError: if a file is missing or they speak of different models.
        """
        self.model = model
        self.metadata, self.evaluation, self.comparison = read_results(model, evaluation, comparison)
        self.model_files = _files_of(model)
        with as_input_error(*OTHER_VERSION):
            hashes = {
                "metadata.json": self.metadata["model_sha256"],
                str(evaluation): self.evaluation["model"]["sha256"],
                str(comparison): ours_of(self.comparison)["result"]["model"]["sha256"],
            }
            self._control = next(row for row in self.comparison["models"] if row.get("kind") == "control")
            complete = set(self.evaluation["categories"]) == set(CATEGORIES)
            self.repo = repo or f"{OWNER}/{_repository_name(self.metadata['name'])}"
        # The card's code holds it, and --check runs that code.
        check_id(self.repo)
        weights = sha256([model / "model.safetensors"])
        for name, digest in hashes.items():
            if digest != weights:
                raise InputError(f"{name} speaks of another model than {model}: run its phase again")
        if not complete:
            command = command_of("eval", model=model, output=evaluation)
            raise InputError(f"{evaluation} lacks categories", f"make it anew with {command}, without --categories")

    @property
    def name(self) -> str:
        """What the card calls the model."""
        return self.repo.split("/")[-1]

    def beats_control(self, category: str) -> bool:
        """Whether the paired interval of the difference to the random-direction control lies above 0."""
        return self._control["difference_to_ours"]["categories"][category]["word"] == WORSE

    @property
    def follows_instructions(self) -> bool:
        """Whether phase 2 confirmed it on requests that share no word with their answer, and the whole category too."""
        found = self.evaluation["categories"]["instruction_awareness"]["sub_scores"]["follows_instructions"]
        return bool(found) and self.beats_control("instruction_awareness")

    def languages(self) -> list[str]:
        """Return English and the languages whose translations are found clearly more often than by the control."""
        if not self.beats_control("multilingual_alignment"):
            return ["en"]
        ours, control = (
            row["result"]["categories"]["multilingual_alignment"]["sub_scores"]["by_language"]
            for row in (ours_of(self.comparison), self._control)
        )
        return ["en", *(name for name in LANGUAGES[1:] if ours[name] > control[name] + LANGUAGE_MARGIN)]

    def header(self) -> str:
        """Return the card's YAML header."""
        from huggingface_hub import EvalResult

        tags = ["instruction-aware"] if self.follows_instructions else []
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
            language=self.languages(),
            pipeline_tag="sentence-similarity",
            model_name=self.name,
            eval_results=results,
        )

    def facts(self, onnx: bool = False) -> Result:
        """Return what the templates draw on.

        :param onnx: whether the model is published as ONNX too.
        """
        categories = self.evaluation["categories"]
        margins = {
            name: score["score"] - (score["control"]["score"] if score["control"] else 0.0)
            for name, score in categories.items()
        }
        ours = ours_of(self.comparison)
        return {
            "name": self.name,
            "repo": self.repo,
            "onnx": onnx,
            "header": self.header(),
            "evaluation": self.evaluation,
            "comparison": self.comparison,
            **card_facts(self.metadata, {name: (self.model / name).stat().st_size for name in self.model_files}),
            "useful": is_useful(ours),
            "follows_instructions": self.follows_instructions,
            "uses": [
                CATEGORIES[name].good_for
                for name in sorted(CATEGORIES, key=lambda c: -margins[c])
                if self.beats_control(name)
            ],
            "not_beyond_words": [name for name in CATEGORIES if not self.beats_control(name)],
            "weakest": sorted(categories, key=lambda c: categories[c]["score"])[:2],
            "remarks": comparison_remarks(self.comparison),
            "recommendations": recommendation_lines(self.comparison),
            "evaluation_remarks": evaluation_remarks(self.evaluation),
            "is_qwen": "qwen2.5" in self.metadata["teacher"]["name"].lower(),
            "peers": [row for row in self.comparison["models"] if "difference_to_ours" in row],
            "report": comparison_report,
            "evaluation_report": evaluation_report,
        }

    def render(self, folder: Path, examples: Path, onnx: bool = False) -> None:
        """Write everything that is published into ``folder``, beside its place first: an old one is replaced whole.

        :param examples: the folder of the example scripts.
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
                _copy(examples / name, new / "examples" / name)
            if onnx:
                write_onnx(self.model, new)
            for name, content in figures.items():
                write_bytes(new / name, content)
            write_text(new / BENCHMARKS, benchmarks)
            write_text(new / CARD, card)


def _files_of(model: Path) -> list[str]:
    """Return the files of a model folder that are published: the model, and what sentence-transformers reads of it.

    :raises InputError: if one is missing. A model of int8 whose copy was left out has no ``modules.json``.
    """
    names = list(MODEL_FILES)
    if (model / MODULES).is_file():
        copied = any(place.name == FLOAT16_COPY for _, place in steps_of(model, model.name))
        names += [MODULES, NORMALIZE, *(COPY_FILES if copied else ())]
    missing = [name for name in names if not (model / name).is_file()]
    if missing:
        raise InputError(f"{model} lacks {', '.join(missing)}: make it anew with {command_of('distill', output=model)}")
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
