"""The project's own data: at the top of a checkout, and inside the package where that is installed."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
CHECKOUT = _PACKAGE.parent


def resource(name: str) -> Path:
    """Return the folder ``name`` of the project, such as ``eval_data`` or ``docs/schema``."""
    installed = _PACKAGE / "data" / name.replace("/", "_")  # where setup.py has it put
    return installed if installed.is_dir() else CHECKOUT / name
