"""Publishing a folder: one commit, and one line without the token where it fails."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from huggingface_hub.errors import HfHubHTTPError

from qwen25.reports.publication import upload
from qwen25.runtime.errors import InputError, PipelineError

REPO, TOKEN = "tiny/static", "hf_oauth_SecretSecret"  # of the form that a login in the browser gives


class Hub:
    """Stands in for the hub's client, and raises ``faults``, one a commit, before it takes one.

    :ivar calls: what it was asked, with what.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.faults: list[Exception] = []

    def create_repo(self, repo: str, **how: Any) -> None:
        self.calls.append(("create_repo", {"repo_id": repo, **how}))

    def create_branch(self, repo: str, **how: Any) -> None:
        self.calls.append(("create_branch", {"repo_id": repo, **how}))

    def upload_folder(self, **how: Any) -> SimpleNamespace:
        if self.faults:
            raise self.faults.pop(0)
        self.calls.append(("upload_folder", how))
        return SimpleNamespace(commit_url="https://hub/commit/1")


def refused(status: int) -> HfHubHTTPError:
    """Return a refusal by a careless server, which repeats the token."""
    answer = httpx.Response(status, request=httpx.Request("POST", f"https://hub/{REPO}"))
    return HfHubHTTPError(f"no right ({TOKEN})", response=answer)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    found = Hub()
    monkeypatch.setattr("huggingface_hub.HfApi", lambda token: found if token == TOKEN else None)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return found


@pytest.mark.parametrize("branch", [None, "v1"])
def test_it_is_one_commit_into_a_repository_that_is_private_if_new(
    hub: Hub, tmp_path: Path, branch: str | None
) -> None:
    assert upload(tmp_path, REPO, "a model", branch=branch) == "https://hub/commit/1"
    made, *branched, (name, commit) = hub.calls
    assert made == ("create_repo", {"repo_id": REPO, "private": True, "exist_ok": True})
    assert [call[1]["branch"] for call in branched] == [branch] * bool(branch)
    wanted = {"repo_id": REPO, "folder_path": tmp_path, "revision": branch, "commit_message": "a model"}
    assert (name, commit) == ("upload_folder", wanted)


def test_without_a_token_nothing_is_asked(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(InputError, match="set HF_TOKEN"):
        upload(tmp_path, REPO, "a model")
    assert hub.calls == []


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (refused(403), 2, f"may not write to {REPO}"),
        (ValueError("Invalid metadata\n- license must be one of them"), 2, "license must be one of them"),
        (refused(500), 1, "run again"),
        (ConnectionError("reset"), 1, "run again"),
    ],
)
def test_a_failure_is_one_line_without_the_token(
    hub: Hub, tmp_path: Path, error: Exception, code: int, said: str
) -> None:
    hub.faults = [error] * 3
    with pytest.raises(PipelineError) as raised:
        upload(tmp_path, REPO, "a model")
    line = str(raised.value)
    assert raised.value.exit_code == code and said in line and "\n" not in line and TOKEN not in line
    assert len(hub.faults) == (2 if code == 2 else 0)  # a refusal is not asked for again
