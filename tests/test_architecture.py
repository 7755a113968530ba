"""The rules of the house: who imports whom, and how long a file may be."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

PACKAGE = ROOT / "qwen25"
#: Room -> the rooms that it may import from; see docs/ARCHITECTURE.md.
MAY_IMPORT = {
    "runtime": set(),
    "store": {"runtime"},
    "teacher": {"store", "runtime"},
    "evaluation": {"store", "runtime"},
    "states": {"teacher", "store", "runtime"},
    "training": {"states", "evaluation", "teacher", "store", "runtime"},
    "distillation": {"training", "states", "evaluation", "teacher", "store", "runtime"},
    "reports": {"evaluation", "store", "runtime"},
    "publication": {"reports", "evaluation", "store", "runtime"},
}
#: What stands on top of all rooms.
TOP = {"commands"}
SCRIPTS = sorted(ROOT.glob("*.py"))
MODULES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Yield the project's modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "qwen25":
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.split(".")[0] == "qwen25")


def test_every_room_has_a_rule() -> None:
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert rooms <= set(MAY_IMPORT) | TOP


@pytest.mark.parametrize("room", list(MAY_IMPORT))
def test_rooms_import_only_from_below(room: str) -> None:
    for path in (PACKAGE / room).rglob("*.py"):
        for module in imports(path):
            parts = module.split(".")
            assert len(parts) == 1 or parts[1] in MAY_IMPORT[room] | {room}, f"{path.relative_to(ROOT)}: {module}"


def test_benchmarks_import_nothing_from_scripts() -> None:
    names = {path.stem for path in SCRIPTS}
    for path in (ROOT / "benchmarks").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            found = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            found += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not names & set(found), path


@pytest.mark.parametrize("path", [*SCRIPTS, *MODULES], ids=lambda path: str(path.relative_to(ROOT)))
def test_files_stay_short(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= (250 if path in SCRIPTS else 400)


def test_the_rooms_are_drawn() -> None:
    drawn = (ROOT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
    assert all(f"\n{room} " in drawn or f"`{room}/`" in drawn for room in (*MAY_IMPORT, *TOP))


@pytest.mark.parametrize("path", [*SCRIPTS, *MODULES], ids=lambda path: str(path.relative_to(ROOT)))
def test_what_starts_a_module_stands_last(path: Path) -> None:
    """Run as a module, it would start before the functions behind it are there."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    starts = [i for i, node in enumerate(body) if isinstance(node, ast.If) and "__name__" in ast.unparse(node.test)]
    assert starts in ([], [len(body) - 1])
