"""The rules of the code: who imports whom, who knows the settings, how long modules and parameter lists may be."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

PACKAGE = ROOT / "qwen25"
#: The rooms from below; each imports only from those before it. docs/ARCHITECTURE.md draws them from above.
ROOMS = ("runtime", "store", "evaluation", "reports", "teacher", "training", "distillation", "commands")
SCRIPTS = {"distill_qwen25_1024d", "quick_eval_qwen25_1024d", "compare_qwen25_vs_all"}
MODULES = sorted([*ROOT.glob("*.py"), *PACKAGE.rglob("*.py")])
LONGEST_MODULE, MOST_PARAMETERS = 400, 7


def nodes(path: Path) -> Iterator[ast.AST]:
    """Yield every node of a module."""
    yield from ast.walk(ast.parse(path.read_text(encoding="utf-8")))


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """Yield what a file imports, anywhere in it: the module, and the name taken from it."""
    for node in nodes(path):
        if isinstance(node, ast.ImportFrom):
            yield from ((node.module or "", name.name) for name in node.names)
        elif isinstance(node, ast.Import):
            yield from ((name.name, "") for name in node.names)


def test_every_room_has_a_place_and_is_drawn() -> None:
    assert {path.parent.name for path in PACKAGE.glob("*/*.py")} == set(ROOMS)
    drawn = (ROOT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
    places = [drawn.index(f"\n{room} ") for room in ROOMS]
    assert places == sorted(places, reverse=True)


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_only_from_below(room: str) -> None:
    below = ROOMS[: ROOMS.index(room) + 1]
    for path in (PACKAGE / room).rglob("*.py"):
        for module, name in imports(path):
            parts = [*module.split("."), name]
            assert parts[0] != "qwen25" or parts[1] not in ROOMS or parts[1] in below, f"{path}: {module}"
            assert parts[0] not in SCRIPTS or room == "commands", f"{path}: {module}"


def test_only_the_script_knows_the_settings() -> None:
    knowing = {
        path.relative_to(ROOT).as_posix() for path in MODULES if "Settings" in dict(map(reversed, imports(path)))
    }
    assert knowing <= {"distill_qwen25_1024d.py"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_and_parameter_lists_stay_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_MODULE
    for node in nodes(path):
        if isinstance(node, ast.FunctionDef):
            names = [one.arg for one in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            assert len(set(names) - {"self", "cls"}) <= MOST_PARAMETERS, node.name
