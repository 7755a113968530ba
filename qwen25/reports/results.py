"""Result files, read and checked."""

from __future__ import annotations

from pathlib import Path

from qwen25.evaluation.comparison import SCHEMA_VERSION as COMPARISON_VERSION
from qwen25.evaluation.results import SCHEMA_VERSION as EVALUATION_VERSION
from qwen25.reports.evaluation_report import Result
from qwen25.runtime.errors import InputError
from qwen25.runtime.files import read_json
from qwen25.store.static_model import SCHEMA_VERSION as METADATA_VERSION


def read_results(model: Path, evaluation: Path, comparison: Path) -> tuple[Result, Result, Result]:
    """Read what phases 1 to 3 say: a model folder's metadata, its evaluation and its comparison.

    :raises InputError: if one is missing, broken or of another version.
    """
    metadata = model / "metadata.json"
    versions = {metadata: METADATA_VERSION, evaluation: EVALUATION_VERSION, comparison: COMPARISON_VERSION}
    results = {path: read_json(path) for path in versions}
    for path, version in versions.items():
        found = results[path].get("schema_version") if isinstance(results[path], dict) else None
        if type(found) is not int or found != version:  # True == 1
            raise InputError(f"{path} is not of this version: run phases 1 to 3 again")
    return results[metadata], results[evaluation], results[comparison]
