"""Publishing a folder: what arrives, and what a user sees when it fails (a fake hub)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fake_hub import REFUSALS, FakeHub, Fault, use_hub

from qwen25.reports.publication import upload
from qwen25.runtime.errors import PipelineError

REPO = "tiny/static"
# Of the form that a login in the browser gives.
TOKEN, READER = "hf_oauth_SecretSecret", "hf_oauth_ReaderReader"


@dataclass
class User:
    """Someone who publishes a folder on the fake hub."""

    hub: FakeHub
    folder: Path
    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def publish(self, token: str = TOKEN, **choices: Any) -> str:
        """Return the commit's address."""
        self.monkeypatch.setenv("HF_TOKEN", token)
        return upload(self.folder, REPO, "a model", **choices)

    def fail(self, token: str = TOKEN, **choices: Any) -> tuple[int, str]:
        """Return the exit code and the error's one line; nothing was committed, and the token is nowhere."""
        before = list(self.hub.commits)
        with pytest.raises(PipelineError) as raised:
            self.publish(token, **choices)
        line = str(raised.value)
        for text in (line, *self.capsys.readouterr()):
            assert "Secret" not in text and "Reader" not in text and "X-Signature" not in text
        assert self.hub.commits == before and "\n" not in line
        return raised.value.exit_code, line


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub() as hub:
        hub.writers, hub.readers = {TOKEN}, {READER}
        yield hub


@pytest.fixture
def user(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> User:
    use_hub(monkeypatch, hub.url, tmp_path)
    folder = tmp_path / "publication"
    (folder / "1_Normalize").mkdir(parents=True)
    (folder / "README.md").write_text("---\nlicense: other\n---\n# A model")
    (folder / "1_Normalize" / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights" * 10_000)
    return User(hub, folder, monkeypatch, capsys)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class TestPublishing:
    def test_it_arrives_whole_in_one_commit(self, user: User, hub: FakeHub) -> None:
        address = user.publish()
        (commit,) = hub.commits
        assert address == f"{hub.url}/{REPO}/commit/{commit.oid}" and commit.message == "a model"
        assert commit.files == contents(user.folder) and REPO in hub.private
        assert user.publish() == address and len(hub.commits) == 1  # nothing new makes no commit

    def test_on_a_branch_with_the_token_of_the_hub_clients_login(
        self, user: User, hub: FakeHub, tmp_path: Path
    ) -> None:
        (tmp_path / "token").write_text(TOKEN)
        user.publish("", branch="v1")
        assert {commit.revision for commit in hub.commits} == {"v1"}
        assert hub.files(REPO, "v1").items() >= contents(user.folder).items()
        assert "model.safetensors" not in hub.files(REPO)


class TestFailures:
    def test_before_anything_is_sent(self, user: User) -> None:
        code, line = user.fail("")
        assert code == 2 and "set HF_TOKEN" in line
        assert user.hub.requests == []

    def test_refusals(self, user: User, hub: FakeHub) -> None:
        code, line = user.fail(READER)
        assert code == 2 and f"may not write to {REPO}" in line and REFUSALS["no right"][2] in line
        hub.writers = set()
        code, line = user.fail()
        assert code == 2 and "may not write to" in line and not hub.knows(REPO)

    def test_what_the_hub_has_and_refuses(self, user: User, hub: FakeHub) -> None:
        hub.card_errors = ['"license" must be one of them']
        code, line = user.fail()
        assert code == 2 and '"license" must be one of them' in line

    @pytest.mark.parametrize("kind", ["busy", "cut"])
    def test_what_passes_is_tried_again(self, user: User, hub: FakeHub, kind: str) -> None:
        hub.faults = [Fault(kind, lambda request: "/commit/" in request, times=1)]
        user.publish()
        (commit,) = hub.commits
        assert commit.files == contents(user.folder)

    def test_a_hub_that_stays_broken_leaves_all_as_it_was(self, user: User, hub: FakeHub) -> None:
        hub.faults = [Fault("broken", lambda request: "/commit/" in request)]
        code, line = user.fail()
        assert code == 1 and "run again" in line
