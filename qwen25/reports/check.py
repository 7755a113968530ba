"""Checks of a publication: it loads in both libraries, and its examples run; its header is the hub's to check."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from qwen25.reports.card import CARD, EXAMPLES, MODULES

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
#: Both libraries give the same vectors, of an empty text too.
_SAME_VECTORS = """
import numpy as np
from model2vec import StaticModel
from sentence_transformers import SentenceTransformer
texts = ["How do I reset my password?", "Forgotten login", "x" * 5000, "\U0001f3ac", ""]
ours = StaticModel.from_pretrained(".").encode(texts)
theirs = SentenceTransformer(".", device="cpu").encode(texts)
assert np.allclose(ours, theirs, atol=1e-5), "the vectors differ from model2vec's"
"""


def check(folder: Path) -> list[str]:
    """Use a rendered folder as its users will; return one line for each thing that fails."""
    card = (folder / CARD).read_text(encoding="utf-8")
    quick_start = re.findall(r"^```python\n(.*?)^```", card, re.DOTALL | re.MULTILINE)[0]
    codes = {"quick start": re.sub(r'from_pretrained\("[^"]*"\)', 'from_pretrained(".")', quick_start)}
    codes |= {name: (folder / "examples" / name).read_text(encoding="utf-8") for name in EXAMPLES}
    if (folder / MODULES).is_file():
        codes["sentence-transformers"] = _SAME_VECTORS
    # Without the network, as whoever has fetched the folder.
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
