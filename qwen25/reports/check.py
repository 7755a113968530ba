"""Checks of a publication: it loads, its examples run, its header is read, its links lead somewhere."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from qwen25.reports.card import BENCHMARKS, CARD, EXAMPLES, MODULES
from qwen25.runtime.errors import first_line

#: Runs {name: code} from standard input, and prints what fails as a list; one process loads the libraries once.
_PROGRAM = """
import contextlib, io, json, sys
faults = []
for name, code in json.load(sys.stdin).items():
    sys.argv, said = [name, "--model", "."], io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            exec(compile(code, name, "exec"), {"__name__": "__main__"})
    except (Exception, SystemExit) as error:
        if getattr(error, "code", error) not in (None, 0):
            faults.append(f"{name}: {(said.getvalue().splitlines() or [''])[-1]} ({error!r})")
print(json.dumps(faults))
"""
#: Both libraries give the same vectors; in float16 an empty text would have none (0 / 0).
_SAME_VECTORS = """
import numpy as np
from model2vec import StaticModel
from sentence_transformers import SentenceTransformer
texts = ["How do I reset my password?", "Forgotten login", "x" * 5000, "\U0001f3ac", ""]
ours = StaticModel.from_pretrained(".").encode(texts)
theirs = SentenceTransformer(".", device="cpu").float().encode(texts)
assert np.allclose(ours, theirs, atol=1e-3), "the vectors differ from model2vec's"
"""


def check(folder: Path) -> list[str]:
    """Use a rendered folder as its users will; return one line for each thing that fails."""
    card = (folder / CARD).read_text(encoding="utf-8")
    quick_start = re.findall(r"^```python\n(.*?)^```", card, re.DOTALL | re.MULTILINE)[0]
    codes = {"quick start": re.sub(r'from_pretrained\("[^"]*"\)', 'from_pretrained(".")', quick_start)}
    codes |= {name: (folder / "examples" / name).read_text(encoding="utf-8") for name in EXAMPLES}
    if (folder / MODULES).is_file():
        codes["sentence-transformers"] = _SAME_VECTORS
    return _code_faults(folder, codes) + _header_faults(card) + _link_faults(folder)


def _code_faults(folder: Path, codes: dict[str, str]) -> list[str]:
    """Run Python in ``folder``, without the network."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "NO_COLOR": "1"}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(  # noqa: S603 - our own interpreter on the files that were just rendered
        [sys.executable, "-c", _PROGRAM],
        cwd=folder,
        env=environment,
        input=json.dumps(codes),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return [f"Python ended with exit code {done.returncode}: {(done.stderr.splitlines() or [''])[-1]}"]
    return list(json.loads(done.stdout.splitlines()[-1]))


def _header_faults(card: str) -> list[str]:
    """Read the header as the hub does."""
    from huggingface_hub import ModelCard

    try:
        data = ModelCard(card).data.to_dict()
    except Exception as error:  # YAML's errors and the hub client's have no common base
        return [f"{CARD}: its header cannot be read: {first_line(error)}"]
    needed = ("license", "library_name", "tags", "model-index")
    return [f"{CARD}: its header lacks {name}" for name in needed if not data.get(name)]


def _link_faults(folder: Path) -> list[str]:
    """Return the links between files that lead nowhere."""
    faults = []
    for name in (CARD, BENCHMARKS):
        links = re.findall(r"(?<!\\)\]\(([^)#:\s]+)\)", (folder / name).read_text(encoding="utf-8"))
        faults += [f"{name}: its link to {link} leads nowhere" for link in links if not (folder / link).is_file()]
    return faults
