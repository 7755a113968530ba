"""The published examples as witnesses: what they count on the very model that is published."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from qwen25.publication.contents import EXAMPLES
from qwen25.runtime.wording import count_text
from qwen25.store.static_model import load_model

#: The examples' own default.
SEED = 42
#: What the counts are called that do not have the name of a use case.
FOLLOWED, ANSWERED = "instructions without a shared word", "requests of all topics and intents"


class Count(Protocol):
    """An example's ``Count``: how many of ``of`` the model gets right, and how many the control and chance."""

    right: float
    of: int
    control: float
    chance: float

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the model's share."""

    @property
    def better(self) -> bool:
        """Whether the whole interval lies above the control and chance."""


def example_counts(model: Path, folder: Path) -> dict[str, Count]:
    """Count what each example counts, as it does when a reader runs it.

    :param model: folder of the model.
    :param folder: of the example scripts.
    :return: name of a use case, ``FOLLOWED`` or ``ANSWERED`` -> its count.
    :raises InputError: if the model does not load.
    """
    demo, cases = (_module(folder / name) for name in EXAMPLES)
    loaded = load_model(model)
    with contextlib.redirect_stdout(io.StringIO()):
        spaces = _spaces(demo, loaded)
        _, followed = demo.intents_by_wording(spaces)
        found = [demo.grid_credits(demo.cosines(space, demo.REQUESTS, demo.DOCUMENTS))["both"] for space in spaces]
        counts = {FOLLOWED: followed, ANSWERED: demo.count(found, demo.CHANCE["both"])}
        spaces = _spaces(cases, loaded)
        counts |= {name: use_case(spaces) for name, use_case in cases.USE_CASES.items()}
    return counts


def example_rows(counts: Mapping[str, Count]) -> list[list[str]]:
    """Return one row an example: what was asked, the right answers, the control's, and the outcome in a word."""
    rows = []
    for name, count in counts.items():
        low, high = count.interval
        share = f"{count_text(count.right)} of {count.of} [{low:.0%}, {high:.0%}]"
        rows.append([name, share, count_text(count.control), "better" if count.better else "not shown better"])
    return rows


EXAMPLE_HEADER = ["example", "right answers first [95 % interval]", "random directions", "in a word"]


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"qwen25_example_{path.stem}", path)
    assert spec is not None and spec.loader is not None  # noqa: S101 - of a file that ends in .py both are there
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its data classes look for themselves there
    spec.loader.exec_module(module)
    return module


def _spaces(example: ModuleType, model: Any) -> list[Any]:
    """Return the vectors of an example's texts: the model's, then each control's."""
    controls = (example.random_directions(model, SEED + k) for k in range(example.CONTROL_SEEDS))
    return [example.embed(model), *map(example.embed, controls)]
