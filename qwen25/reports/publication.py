"""A publication, checked (it loads in both libraries, and its examples run) and uploaded in one commit."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from qwen25.reports.card import CARD, EXAMPLES, MODULES
from qwen25.runtime.errors import InputError, PipelineError, first_line, logger, redact
from qwen25.store.hub import check_id, status_of, with_retries

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
    uses = {"quick start": ["-c", re.sub(r'from_pretrained\("[^"]*"\)', 'from_pretrained(".")', quick_start)]}
    uses |= {name: [f"examples/{name}", "--model", "."] for name in EXAMPLES}
    if (folder / MODULES).is_file():
        uses["sentence-transformers"] = ["-c", _SAME_VECTORS]
    # Without the network, as whoever has fetched the folder.
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "NO_COLOR": "1"}
    environment.pop("PYTHONPATH", None)
    how: dict[str, Any] = {"cwd": folder, "env": environment, "capture_output": True, "text": True, "check": False}
    faults = []
    for name, arguments in uses.items():
        done = subprocess.run([sys.executable, *arguments], **how)  # noqa: S603 - what was just rendered
        if done.returncode:
            faults.append(f"{name}: {(done.stderr.splitlines() or ['it failed'])[-1]}")
    return faults


def upload(folder: Path, repo: str, message: str, branch: str | None = None) -> str:
    """Publish a folder's files in one commit and return its address.

    What the repository holds besides is left as it is; a new one is private.

    :param branch: made if there is none (None: the main branch).
    :raises InputError: if the folder, the name, the token or its rights cannot be used.
    :raises PipelineError: if the hub or the connection fails.
    """
    from huggingface_hub import HfApi, get_token

    check_id(repo)
    if not (token := get_token()):
        raise InputError("there is no token: set HF_TOKEN to one with write access, or run hf auth login")
    api = HfApi(token=token)

    def send() -> str:
        api.create_repo(repo, private=True, exist_ok=True)
        if branch is not None:
            api.create_branch(repo, branch=branch, exist_ok=True)
        commit = api.upload_folder(repo_id=repo, folder_path=folder, revision=branch, commit_message=message)
        return str(commit.commit_url)

    logger.info("uploading %s to %s", folder, repo)
    try:
        return with_retries(send)
    except Exception as error:  # the hub client's errors and its HTTP client's have no common base
        raise _failure(repo, error, token) from error


def _failure(repo: str, error: Exception, token: str) -> PipelineError:
    """Return what to tell the user of an error of the hub client."""
    status = status_of(error)
    # The hub client lists what is wrong with a card below its first line.
    text = str(error) if isinstance(error, ValueError) else first_line(error)
    said = redact(" ".join((getattr(error, "server_message", None) or text).replace(token, "***").split()))
    if status in (401, 403):
        return InputError(f"the token may not write to {repo} ({said}): set HF_TOKEN to one with write access to it")
    if isinstance(error, ValueError) or (status is not None and status < 500 and status not in (408, 429)):
        return InputError(f"the hub does not take this for {repo} ({said}): correct it and run again")
    return PipelineError(f"{repo} could not be uploaded ({said}): run again; it is one commit, made whole or not")
