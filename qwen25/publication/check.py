"""Checks of a publication: it loads, its examples run, its links lead somewhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from qwen25.publication.contents import BENCHMARKS, CARD, EXAMPLES, MODULES, OTHER_VERSION, PARTS
from qwen25.runtime.errors import InputError, as_input_error, first_line
from qwen25.runtime.files import read_json, sha256
from qwen25.runtime.invocation import extras_command
from qwen25.store.onnx_export import ONNX_FILE


def check(folder: Path, repo: str) -> list[str]:
    """Use a rendered folder as its users will; return one line for each thing that fails.

    :param repo: the repository that the card names; the folder stands in for it.
    """
    card = (folder / CARD).read_text(encoding="utf-8")
    commands = {
        "quick start": ["-c", quick_start(card).replace(f'"{repo}"', repr(str(folder.resolve())))],
        **{name: [f"examples/{name}", "--model", "."] for name in EXAMPLES},
    }
    if (folder / MODULES).is_file():
        commands["sentence-transformers"] = ["-c", _SAME_VECTORS, str(folder.resolve())]
    if (folder / ONNX_FILE).is_file():
        commands["onnx"] = ["-c", _SAME_IN_ONNX, str(folder.resolve()), extras_command("onnx")]
    faults = [f"{name}: {fault}" for name, command in commands.items() if (fault := _failure_of(folder, command))]
    shutil.rmtree(folder / "examples" / "__pycache__", ignore_errors=True)  # of an example that another imports
    return faults + _header_faults(card) + _link_faults(folder) + _size_faults(folder)


#: Both libraries load the folder and give the same vectors; in float16 an empty text would have none (0 / 0).
_SAME_VECTORS = """
import sys
import numpy as np
from model2vec import StaticModel
from sentence_transformers import SentenceTransformer
texts = ["How do I reset my password?", "Forgotten login", "x" * 5000, "\U0001f3ac", ""]
ours = StaticModel.from_pretrained(sys.argv[1]).encode(texts)
theirs = SentenceTransformer(sys.argv[1], device="cpu").float().encode(texts)
assert np.allclose(ours, theirs, atol=1e-3), "the vectors differ from model2vec's"
"""

#: The ONNX file gives the vectors of model2vec.
_SAME_IN_ONNX = """
import sys
try:
    import onnxruntime
except ImportError:
    sys.exit("onnxruntime is not installed: " + sys.argv[2])
import numpy as np
from model2vec import StaticModel
texts = ["How do I reset my password?", "", "Forgotten login", "x " * 5000, ""]
model = StaticModel.from_pretrained(sys.argv[1])
ids = model.tokenize(texts)
starts = np.cumsum([0] + [len(one) for one in ids])[:-1]
session = onnxruntime.InferenceSession(sys.argv[1] + "/onnx/model.onnx")
found = session.run(["embeddings"], {"input_ids": np.concatenate(ids).astype(np.int64), "offsets": starts})[0]
assert np.allclose(model.encode(texts), found, atol=1e-3), "the vectors differ from model2vec's"
"""


def _failure_of(folder: Path, command: list[str]) -> str | None:
    """Run Python in ``folder``, without the network; return the last line of what went wrong."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "NO_COLOR": "1"}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(  # noqa: S603 - our own interpreter on the files that were just rendered
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        return None
    return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]


def _header_faults(card: str) -> list[str]:
    """Read the header as the hub does."""
    from huggingface_hub import ModelCard

    try:
        data = ModelCard(card).data.to_dict()
    except Exception as error:  # YAML's errors and the hub client's have no common base
        return [f"{CARD}: its header cannot be read: {first_line(error)}"]
    return [
        f"{CARD}: its header lacks {name}"
        for name in ("license", "library_name", "tags", "model-index")
        if not data.get(name)
    ]


def _link_faults(folder: Path) -> list[str]:
    """Return the links between files that lead nowhere."""
    faults = []
    for name in (CARD, BENCHMARKS):
        for target in re.findall(r"(?<!\\)\]\(([^)#:\s]+)\)", (folder / name).read_text(encoding="utf-8")):
            if not (folder / target).is_file():
                faults.append(f"{name}: its link to {target} leads nowhere")
    return faults


def _size_faults(folder: Path) -> list[str]:
    """Compare sizes and hash in the metadata with the files."""
    metadata = read_json(folder / "metadata.json")
    with as_input_error(*OTHER_VERSION):
        sizes = {name: size for name, size in metadata["sizes_bytes"].items() if name in PARTS}
        found = {name: (folder / name).stat().st_size if (folder / name).is_file() else 0 for name in sizes}
        faults = [
            f"{name} has {found[name]:,} bytes, metadata.json says {size:,}"
            for name, size in sizes.items()
            if found[name] != size
        ]
        digest = metadata["model_sha256"]
    if sha256([folder / "model.safetensors"]) != digest:
        faults.append("model.safetensors is not the file whose hash metadata.json holds")
    return faults


def quick_start(card: str) -> str:
    """Return the code of the card's first Python block.

    :raises InputError: if it has none.
    """
    found = re.search(r"^```python\n(.*?)^```", card, re.DOTALL | re.MULTILINE)
    if found is None:
        raise InputError("the card has no quick start")
    return found.group(1)
