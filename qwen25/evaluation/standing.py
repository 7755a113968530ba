"""What well-known models score on the project's own items, so that a score can be read beside them.

A file that ``python -m benchmarks.reference_standing`` measures; it is used only for results on the very
items that it was measured on.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TypedDict, cast

from qwen25.evaluation.items import default_items_folder
from qwen25.evaluation.results import Run, Score
from qwen25.runtime.schemas import read_result

VERSION = 1
STANDING = default_items_folder() / "reference_standing.json"


class Reference(TypedDict):
    """A reference model's scores.

    ``overall`` is None for a model that not all categories can score; ``size_bytes`` for one without files.
    """

    name: str
    what: str
    kind: str
    size_bytes: int | None
    overall: Score | None
    categories: dict[str, Score]


class StandingFile(Run):
    """The result file: the references, best first, and the run that measured them."""

    models: list[Reference]


def references(items_sha256: Mapping[str, str]) -> list[Reference]:
    """Return the reference models' scores on these items, best first; none if they were measured on others.

    :param items_sha256: category -> SHA-256 of its items, as a result holds it.
    """
    standing = _standing()
    measured = standing["items_sha256"]
    same = bool(items_sha256) and all(measured.get(name) == digest for name, digest in items_sha256.items())
    return standing["models"] if same else []


@cache
def _standing() -> StandingFile:
    return cast(StandingFile, read_result(STANDING, "standing", "python -m benchmarks.reference_standing"))
