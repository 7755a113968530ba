"""A folder -> one commit of a model repository on the hub; the token is in no message."""

from __future__ import annotations

import sys
from pathlib import Path

from qwen25.runtime.errors import InputError, PipelineError, first_line, logger, redact
from qwen25.store.hub import check_id, is_network_error, status_of, with_retries


def upload(folder: Path, repo: str, message: str, *, private: bool = False, branch: str | None = None) -> str:
    """Publish a folder's files in one commit and return its address.

    What the repository holds besides is left as it is.

    :param private: who makes the repository, if there is none, makes it a private one.
    :param branch: made if there is none (None: the main branch).
    :raises InputError: if the folder, the name, the token or its rights cannot be used, or the repository is public
        though ``private`` is asked for.
    :raises PipelineError: if the hub or the connection fails.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

    check_id(repo)
    token = _token()
    api = HfApi(token=token)
    if not sys.stderr.isatty():
        disable_progress_bars()

    def send() -> str:
        # Not asked for, it is what its owner's settings say: public, where they say nothing.
        api.create_repo(repo, private=private or None, exist_ok=True)
        if private and not api.model_info(repo).private:
            raise InputError(f"{repo} exists and is public: make it private in its settings, or give another name")
        if branch is not None:
            api.create_branch(repo, branch=branch, exist_ok=True)
        commit = api.upload_folder(repo_id=repo, folder_path=folder, revision=branch, commit_message=message)
        return str(commit.commit_url)

    logger.info("uploading %s to %s", folder, repo)
    try:
        return with_retries(send)
    except PipelineError:
        raise
    except Exception as error:  # the hub client's errors and its HTTP client's have no common base
        raise _failure(repo, error, token) from error


def _token() -> str:
    """Return the user's token, before anything is sent.

    :raises InputError: if uploads are switched off, or there is no token that could be sent.
    """
    from huggingface_hub import constants, get_token

    if constants.HF_HUB_OFFLINE:
        raise InputError("HF_HUB_OFFLINE is set, and an upload needs the network: unset it and run again")
    if token := get_token():
        return token
    raise InputError("there is no token: set HF_TOKEN to one with write access, or run hf auth login")


def _failure(repo: str, error: Exception, token: str) -> PipelineError:
    """Return what to tell the user of an error of the hub client."""
    status = status_of(error)
    # The hub client lists what is wrong with a card below its first line.
    text = str(error) if isinstance(error, ValueError) else first_line(error)
    said = redact(" ".join((getattr(error, "server_message", None) or text).replace(token, "***").split()))
    if status == 401:
        return InputError("the hub does not know the token (expired?): set HF_TOKEN to one with write access")
    if status == 403:
        return InputError(f"the token may not write to {repo} ({said}): set HF_TOKEN to one with write access to it")
    if isinstance(error, ValueError) or (status is not None and status < 500 and status not in (408, 429)):
        return InputError(f"the hub does not take this for {repo} ({said}): correct it and run again")
    if status is not None or is_network_error(error):
        return PipelineError(f"{repo} could not be uploaded ({said}): run again; it is one commit, made whole or not")
    return PipelineError(f"{repo} could not be uploaded ({type(error).__name__}: {said}): run again with --debug")
