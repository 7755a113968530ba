"""What pyproject.toml cannot say: data that lies at the top of the checkout goes into the package, as its data/."""

from __future__ import annotations

from pathlib import Path

from setuptools import find_packages, setup

DATA = ("eval_data", "calibration_data", "examples", "docs/schema")
#: Optional part -> the first words of the libraries in requirements_extras.txt that it needs.
PARTS = {"mteb": ("mteb", "datasets"), "onnx": ("onnx", "onnxruntime"), "rag": ("vicinity",)}


def requirements(name: str) -> list[str]:
    """Return the lines of a requirements file that name a library."""
    lines = Path(__file__).with_name(name).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


optional = requirements("requirements_extras.txt")
folders = {f"qwen25.data.{folder.replace('/', '_')}": folder for folder in DATA}
setup(
    packages=[*find_packages(include=["qwen25", "qwen25.*"]), *folders],
    package_dir=folders,
    package_data={"": ["*.html", "*.md", "*.json", "*.jsonl", "*.txt", "SHA256SUMS", "templates/**/*"]},
    install_requires=requirements("requirements_qwen25.txt"),
    extras_require={
        "extras": optional,
        "test": requirements("requirements_test.txt"),
        **{part: [line for line in optional if line.partition(">")[0] in names] for part, names in PARTS.items()},
    },
)
