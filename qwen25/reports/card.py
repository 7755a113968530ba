"""The model card, and the folder that is published: model, card, benchmarks, examples and plots.

Numbers, sizes and claims come from the result files of phases 1 to 3.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

from qwen25.evaluation import judgement
from qwen25.evaluation.judgement import Result, ours_of
from qwen25.evaluation.results import read_comparison, read_evaluation
from qwen25.reports import plots
from qwen25.reports.own_data import packaged_meaning
from qwen25.reports.results import comparison_sections, scores_section
from qwen25.runtime.console import command_of
from qwen25.runtime.errors import InputError, as_input_error
from qwen25.runtime.files import read_result, resource, sha256, write_files
from qwen25.runtime.folders import check_output, locked, replaced
from qwen25.runtime.text import Markdown, difference_text, render_template, size_text
from qwen25.store.hub import looks_like_an_id
from qwen25.store.onnx_export import ONNX_FILES, write_onnx
from qwen25.store.packaged import PACKAGED, licence_of
from qwen25.store.static_model import FLOAT32_COPY, steps_of

MODEL_FILES = ("model.safetensors", "tokenizer.json", "config.json", "metadata.json")
#: What sentence-transformers reads besides; a model of int8 or of shared rows has a copy for it.
MODULES, NORMALIZE = "modules.json", "1_Normalize/config.json"
COPY = f"{FLOAT32_COPY}/model.safetensors"
COPY_FILES = (COPY, f"{FLOAT32_COPY}/tokenizer.json")
CARD, BENCHMARKS = "README.md", "BENCHMARKS.md"
EXAMPLES = ("instruction_awareness_demo.py", "real_world_use_cases.py")
#: The files that a rendered folder may hold.
PARTS = {*MODEL_FILES, MODULES, NORMALIZE, *COPY_FILES, CARD, BENCHMARKS, "evaluation.png", "comparison.png"}
PARTS |= {*ONNX_FILES, *(f"examples/{name}" for name in EXAMPLES)}
TAGS = ("sentence-transformers", "model2vec", "embeddings", "static-embeddings")
#: The model that this project is for, and where it is published; others have no repository unless one is named.
MISSION_NAME, MISSION_REPO = "qwen25-deposium-1024d", "tss-deposium/qwen25-deposium-1024d"
#: What a card's code loads a model without a repository from.
HERE = "path/to/this/folder"


def model_card(metadata: Result) -> str:
    """Render the README.md of a folder that was distilled just now: it has no scores yet.

    :param metadata: what ``metadata.json`` holds.
    """
    facts = _model_facts(metadata, metadata["sizes_bytes"])
    return render_template("model.md", header=_header(metadata, []), name=metadata["name"], place=HERE, **facts)


def _model_facts(metadata: Result, sizes: dict[str, int]) -> Result:
    """Return what ``model.md`` says of the model itself.

    :param sizes: the folder's files and their sizes in bytes.
    """
    sets = [(found, found["source"].removeprefix("hub:")) for found in _training_sets(metadata)]
    unknown = "not stated"
    return {
        "metadata": metadata,
        "training_rows": [
            [s["name"], f"{s['rows']:,}", ", ".join(s["languages"]) or unknown, source, s.get("licence") or unknown]
            for s, source in sets
        ],
        "meaning": packaged_meaning(metadata["score_meaning"]),
        "files": {name: size_text(size) for name, size in sizes.items()},
        "copy_of_vectors": COPY if COPY in sizes else None,
    }


def _training_sets(metadata: Result) -> list[Result]:
    found: list[Result] = (metadata.get("training") or {}).get("sets", [])
    return found


def _header(metadata: Result, tags: list[str], **fields: Any) -> Markdown:
    """Return a card's YAML header, made by the hub's own library.

    :param tags: more than every static model has.
    :param fields: more of ``ModelCardData``'s.
    """
    from huggingface_hub import ModelCardData

    sources = [found["source"].removeprefix("hub:") for found in _training_sets(metadata)]
    data = ModelCardData(
        license=licence_of(metadata["teacher"]["name"]),
        library_name="model2vec",
        tags=[*TAGS, *tags],
        base_model=_base_model(metadata["teacher"]),
        datasets=[name for name in dict.fromkeys(sources) if looks_like_an_id(name)] or None,
        **fields,
    )
    return Markdown(f"---\n{data.to_yaml()}\n---\n")


def _base_model(teacher: Result) -> str | None:
    """Return the hub repository of a teacher of the metadata, if it has one; of a GGUF file, that of its model."""
    name, origin = teacher["name"], teacher["origin"]
    if origin == "packaged" and name in PACKAGED:
        return PACKAGED[name].base_model or None
    return name if origin == "hub" and looks_like_an_id(name) else None


def render(
    folder: Path,
    model: Path,
    evaluation: Path,
    comparison: Path,
    repo: str | None = None,
    authors: tuple[str, ...] = (),
    onnx: bool = False,
) -> None:
    """Write everything that is published into ``folder``; an old publication is replaced as a whole.

    :param repo: the hub repository, owner/name, that the card names; None: no repository.
    :param authors: who is to be cited.
    :param onnx: add the model as ONNX, and the tokenizer files that transformers.js reads.
    :raises InputError: if a result file is missing, they speak of different models or not of all categories, or
        ``folder`` holds something else than an earlier publication.
    :raises PipelineError: if it cannot be written, or another process is at work on it.
    """
    sizes = {name: (model / name).stat().st_size for name in _files_of(model)}
    results = _read_results(model, evaluation, comparison)
    check_replaceable(folder)  # before the plots, which take seconds
    with as_input_error("the result files are not those of this version", "run phases 1 to 3 again"):
        facts = {**_facts(*results, sizes, repo), "authors": authors, "onnx": onnx}
        contents: dict[str, bytes | str] = {
            CARD: render_template("card.md", **facts),
            BENCHMARKS: render_template("benchmarks.md", **facts),
            "evaluation.png": plots.png(plots.category_bars(facts["evaluation"])),
            "comparison.png": plots.png(plots.quality_against_size(facts["comparison"])),
        }
    for name in EXAMPLES:
        script = (resource("examples") / name).read_text(encoding="utf-8")
        # Whoever downloads it tries this model with it, unless they say another.
        contents[f"examples/{name}"] = script.replace(f'"{MISSION_REPO}"', f'"{facts["place"]}"')
    with locked(folder), replaced(folder, check_replaceable) as new:
        for name in sizes:
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(model / name, new / name)
        if onnx:
            write_onnx(model, new)
        write_files({new / name: content for name, content in contents.items()})


def _read_results(model: Path, evaluation: Path, comparison: Path) -> tuple[Result, Result, Result]:
    """Return a model's metadata, evaluation and comparison.

    :raises InputError: if a file is missing, or they speak of different models or not of all categories.
    """
    metadata = read_result(model / "metadata.json", "metadata", command_of("distill", output=model))
    scores, rows = read_evaluation(evaluation, model), read_comparison(comparison, model)
    weights = sha256([model / MODEL_FILES[0]])
    for name, result in {evaluation: scores, comparison: ours_of(rows)["result"]}.items():
        if not result["model"]["sha256"] == metadata["model_sha256"] == weights:
            raise InputError(f"{name} speaks of another model than {model}: run its phase again")
    if scores["verdict"]["verdict"] is None:
        raise InputError(f"{evaluation} lacks categories: evaluate the model on all of them")
    return metadata, scores, rows


def _facts(metadata: Result, evaluation: Result, comparison: Result, sizes: dict[str, int], repo: str | None) -> Result:
    """Return what the templates draw on."""
    repo = repo or (MISSION_REPO if metadata["name"] == MISSION_NAME else None)
    name = (repo or re.sub(r"[^A-Za-z0-9._-]+", "-", metadata["name"])).split("/")[-1]
    comparison, is_qwen = _with_our_name(comparison, name), "qwen2.5" in metadata["teacher"]["name"].lower()
    own, advice = ours_of(comparison)["result"], judgement.advice(comparison)
    tags = ["instruction-aware"] if judgement.follows_instructions(own) else []
    header = _header(
        metadata,
        [*tags, *(["qwen2.5"] if is_qwen else [])],
        language=[code for code in metadata["score_meaning"]["languages"] if re.fullmatch("[a-z]{2,3}", code)],
        pipeline_tag="sentence-similarity",
        model_name=name,
        eval_results=_eval_results(own),
    )
    return {
        **_model_facts(metadata, sizes),
        "header": header,
        "name": name,
        "key": re.sub(r"\W+", "_", name),
        "repo": repo,
        "place": repo or HERE,
        "is_qwen": is_qwen,
        "evaluation": {**evaluation, **own},  # the numbers of one run alone
        "comparison": comparison,
        "uses": advice.uses,
        "others": [*advice.others, judgement.duplicates_line(own)],
        "scores": scores_section(comparison),
        "measured": [line for line in judgement.summary(comparison) if line not in advice.lines],
        "sections": comparison_sections(comparison),
        "peers": [_peer(row) for row in comparison["models"] if "difference_to_ours" in row],
        "cells": lambda items, *fields: [[item[name] for name in fields] for item in items],
    }


def _eval_results(evaluation: Result) -> list[Any]:
    """Return the scores as the hub's library takes them for a card's header."""
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type="sentence-similarity",
            task_name=name.replace("_", " "),
            dataset_type="qwen25-deposium-eval-data",
            dataset_name="qwen25-deposium evaluation items",
            metric_type="chance-adjusted score",
            metric_name=f"{name.replace('_', ' ')} (0 chance, 1 perfect)",
            metric_value=round(score["score"], 4),
        )
        for name, score in judgement.scores_of(evaluation).items()
    ]


def _with_our_name(comparison: Result, name: str) -> Result:
    """Return a comparison in which ours is called ``name``."""
    ours, rows = comparison["ours"], comparison["models"]
    return {**comparison, "ours": name, "models": [{**r, "name": name} if r["name"] == ours else r for r in rows]}


def _peer(row: Result) -> Result:
    """Return a peer's name, what it is, and its difference to ours in each category as rows of a table."""
    found = row["difference_to_ours"]
    parts = {"overall": found["overall"], **found["categories"]}
    rows = [[name.replace("_", " "), difference_text(d), d["word"]] for name, d in parts.items() if d]
    return {"name": row["name"], "what": row["what"] or row["kind"], "rows": rows}


def _files_of(model: Path) -> list[str]:
    """Return the files of a model folder that are published: the model, and what sentence-transformers reads of it.

    :raises InputError: if one is missing, or a link to a file elsewhere, which may be private.
    """
    copied = (model / MODULES).is_file() and any(p.name == FLOAT32_COPY for _, p in steps_of(model, model.name))
    names = [*MODEL_FILES, MODULES, NORMALIZE, *(COPY_FILES if copied else ())]
    for name in names:
        if not (model / name).is_file():
            raise InputError(f"{model} lacks {name}: make it anew with {command_of('distill', output=model)}")
        if not (model / name).resolve().is_relative_to(model.resolve()):
            raise InputError(f"{model / name} is a link to elsewhere: put the file itself there to publish it")
    return names


def check_replaceable(folder: Path) -> None:
    """Check that a folder is empty, or holds an earlier publication and nothing else.

    :raises InputError: if something would be lost.
    """
    check_output(folder, overwrite=True)
    is_publication = (folder / BENCHMARKS).is_file()  # a model's folder has the same names, but for this one
    for path in filter(Path.is_file, folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not is_publication or name not in PARTS:
            raise InputError(f"{folder} holds something else than a publication ({name}): give another --output")
