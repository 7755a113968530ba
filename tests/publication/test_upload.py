"""Publishing a folder: what arrives, what is not sent twice, and what a user sees when it fails (a fake hub)."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from fake_hub import REFUSALS, FakeHub, Fault, run_as_user, weights_upload
from model2vec import StaticModel

from qwen25.publication.upload import listing
from qwen25.runtime.errors import InputError

REPO = "tiny/static"
# Of the form that a login in the browser gives, which no rule knows as a secret.
TOKEN, READER = "hf_oauth_SecretSecret", "hf_oauth_ReaderReader"
#: upload behind the scripts' own error handling. HF_ENDPOINT is read on import, so it needs a new process.
PUBLISH = """
import argparse, sys, time
time.sleep = lambda seconds: None  # the hub client's waits, too
from pathlib import Path
from qwen25.publication import upload
from qwen25.runtime import console, log
parser = argparse.ArgumentParser()
parser.add_argument("folder", type=Path)
parser.add_argument("repo")
parser.add_argument("--private", action="store_true")
parser.add_argument("--revision")
parser.add_argument("--answer-seconds", type=float, default=upload.ANSWER_SECONDS)
parser.add_argument("--log-file", type=Path)
console.add_common_flags(parser)
def publish(args):
    log.set_up_logging(args.log_file)
    upload.ANSWER_SECONDS = args.answer_seconds
    print(upload.upload(args.folder, args.repo, private=args.private, revision=args.revision, message="a model"))
    return 0
sys.exit(console.run(parser, publish, None))
"""
FETCH = "import sys; from qwen25.store.download import snapshot; print(snapshot(sys.argv[1]))"


@dataclass
class User:
    """Someone who publishes a folder on the fake hub."""

    hub: FakeHub
    folder: Path
    home: Path
    environment: dict[str, str] = field(default_factory=lambda: {"HF_TOKEN": TOKEN})
    repo: str = REPO

    @property
    def log(self) -> str:
        return self.home.with_suffix(".log").read_text(encoding="utf-8")

    def log_in(self) -> None:
        """Have the token where the hub client keeps it, and not in HF_TOKEN."""
        self.environment = {}
        self.home.mkdir()
        (self.home / "token").write_text(TOKEN)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Publish; whatever comes of it, the token is nowhere, and no bar is drawn."""
        command = ["-c", PUBLISH, str(self.folder), self.repo, "--log-file", str(self.home.with_suffix(".log"))]
        done = run_as_user(self.hub.url, self.home, [*command, *arguments], self.environment)
        for text in (done.stdout, done.stderr, self.log):
            assert "Secret" not in text and "Reader" not in text and "X-Signature" not in text
            assert "%|" not in text
        return done

    def publish(self, *arguments: str) -> str:
        """Return the commit's address."""
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def fail(self, *arguments: str) -> tuple[int, str]:
        """Return the exit code and the error's one line; nothing was committed."""
        before = list(self.hub.commits)
        done = self.run(*arguments)
        assert done.stdout == "" and "Traceback" not in done.stderr
        errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert errors == done.stderr.splitlines()[-1:], done.stderr
        assert self.hub.commits == before
        return done.returncode, errors[0]

    def sent(self) -> list[str]:
        """Return what large files were sent, by hash, since it was last asked."""
        found = [request.removeprefix("PUT /lfs/") for request in self.hub.requests if weights_upload(request)]
        self.hub.requests.clear()
        return found


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub() as hub:
        hub.writers, hub.readers = {TOKEN}, {READER}
        yield hub


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


@pytest.fixture
def user(hub: FakeHub, folder: Path, tmp_path: Path) -> User:
    return User(hub, folder, tmp_path / "home")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class TestListing:
    def test_all_files_and_their_sizes(self, tiny_model: Path) -> None:
        files = listing(tiny_model)
        assert dict(files) == {name: len(content) for name, content in contents(tiny_model).items()}
        assert files == sorted(files) and "1_Normalize/config.json" in dict(files)

    def test_hidden_and_temporary_files_stay(self, tmp_path: Path) -> None:
        folder = tmp_path / ".hidden" / "model"  # what lies above does not count
        for name in (
            "config.json",
            "a.b/c.txt",
            ".config.json.12.tmp",
            ".git/config",
            "a.b/.cache/x",
            "model.tmp",
            "card.md~",
            "__pycache__/demo.pyc",
            "model.safetensors.part",
        ):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("four")
        assert listing(folder) == [("a.b/c.txt", 4), ("config.json", 4)]

    def test_nothing_to_upload(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="no such folder"):
            listing(tmp_path / "nowhere")
        (tmp_path / ".hidden").write_text("")
        with pytest.raises(InputError, match="no file"):
            listing(tmp_path)


class TestPublishing:
    def test_arrives_whole_and_loads(self, user: User, hub: FakeHub, tiny_model: Path) -> None:
        (user.folder / ".half.tmp").write_text("left behind")
        address = user.publish()
        (commit,) = hub.commits
        assert address == f"{hub.url}/{REPO}/commit/{commit.oid}" and commit.message == "a model"
        assert commit.files == contents(tiny_model)
        assert REPO not in hub.private
        done = run_as_user(hub.url, user.home, ["-c", FETCH, REPO])
        fetched = Path(done.stdout.strip())
        assert fetched.name == commit.oid
        for name in ("config.json", "model.safetensors", "tokenizer.json", "1_Normalize/config.json"):
            assert (fetched / name).read_bytes() == (tiny_model / name).read_bytes()
        ours, theirs = (StaticModel.from_pretrained(path).encode(["a text"]) for path in (tiny_model, fetched))
        assert (ours == theirs).all()

    def test_token_of_the_hub_clients_login(self, user: User, hub: FakeHub) -> None:
        user.log_in()
        user.publish()
        assert TOKEN in hub.tokens and len(hub.commits) == 1

    def test_private_stays_private(self, user: User, hub: FakeHub) -> None:
        user.publish("--private")
        assert REPO in hub.private
        (user.folder / "new.txt").write_text("new")
        user.publish()
        assert REPO in hub.private and len(hub.commits) == 2
        user.publish("--private")

    def test_what_is_public_is_no_place_for_something_private(self, user: User, hub: FakeHub) -> None:
        hub.create(REPO)
        code, line = user.fail("--private")
        assert code == 2 and f"{REPO} exists and is public" in line
        assert user.sent() == []

    def test_a_branch_is_made_once_and_main_stays(self, user: User, hub: FakeHub) -> None:
        user.publish("--revision", "v1")
        assert hub.files(REPO, "v1").items() > contents(user.folder).items()
        assert list(hub.files(REPO)) == [".gitattributes"]
        (user.folder / "new.txt").write_text("new")
        user.publish("--revision", "v1")
        assert [list(commit.files) for commit in hub.commits][1:] == [["new.txt"]]
        assert {commit.revision for commit in hub.commits} == {"v1"}
        user.publish("--revision", "v1")
        assert "nothing has changed" in user.log and len(hub.commits) == 2

    def test_nothing_new_makes_no_commit(self, user: User, hub: FakeHub) -> None:
        address = user.publish()
        assert len(user.sent()) == 1 and "nothing has changed" not in user.log
        assert user.publish() == address
        assert user.sent() == [] and len(hub.commits) == 1
        assert "nothing has changed" in user.log

    def test_only_what_changed_is_committed(self, user: User, hub: FakeHub) -> None:
        user.publish()
        user.sent()
        (user.folder / "config.json").write_text("{}")
        shutil.copy(user.folder / "model.safetensors", user.folder / "again.safetensors")
        (user.folder / "README.md").unlink()
        user.publish()
        assert list(hub.commits[1].files) == ["again.safetensors", "config.json"]
        assert user.sent() == []  # the hub has these weights, under another name
        assert "README.md" in hub.files(REPO)  # what is not there is no wish to delete it
        with (user.folder / "model.safetensors").open("ab") as file:
            file.write(b"0")
        user.publish()
        assert list(hub.commits[2].files) == ["model.safetensors"] and len(user.sent()) == 1


class TestBeforeAnythingIsSent:
    @pytest.fixture(autouse=True)
    def nothing_is_sent(self, user: User) -> Iterator[None]:
        yield
        assert user.hub.requests == []

    def test_no_token(self, user: User) -> None:
        user.environment = {}
        code, line = user.fail()
        assert code == 2 and "set HF_TOKEN" in line

    def test_token_that_cannot_be_sent(self, user: User) -> None:
        user.environment["HF_TOKEN"] = TOKEN + "\x01Secret"
        code, line = user.fail()
        assert code == 2 and "copy it again" in line

    def test_offline(self, user: User) -> None:
        user.environment["HF_HUB_OFFLINE"] = "1"
        code, line = user.fail()
        assert code == 2 and "HF_HUB_OFFLINE" in line and "unset" in line

    @pytest.mark.parametrize("repo", ["two--dashes/are--forbidden", "no-owner", "a/b/c"])
    def test_no_name_of_a_repository(self, user: User, repo: str) -> None:
        user.repo = repo
        code, line = user.fail()
        assert code == 2 and repo in line


class TestRefusals:
    def test_expired_token(self, user: User, hub: FakeHub) -> None:
        hub.writers.clear()
        code, line = user.fail()
        assert code == 2 and "the hub does not know the token in HF_TOKEN (expired?)" in line
        assert not hub.knows(REPO)

    @pytest.mark.parametrize("there", [False, True])
    def test_no_right_to_write(self, user: User, hub: FakeHub, there: bool) -> None:
        if there:
            hub.create(REPO)
        user.environment["HF_TOKEN"] = READER
        code, line = user.fail("--revision", "v1")
        assert code == 2 and f"may not write to {REPO}" in line and REFUSALS["no right"][2] in line
        assert hub.knows(REPO) == there and user.sent() == []

    def test_no_such_owner(self, user: User) -> None:
        user.repo = "nobody/static"
        code, line = user.fail()
        assert code == 2 and "the hub has no nobody" in line

    @pytest.mark.parametrize("where", ["/branch/", "/preupload/", "/objects/batch", "/commit/"])
    def test_rights_that_end_on_the_way(self, user: User, hub: FakeHub, where: str) -> None:
        hub.faults = [Fault("bad token", lambda request: where in request)]
        code, line = user.fail("--revision", "v1")
        assert code == 2 and "the hub does not know the token" in line
        assert sum(where in request for request in hub.requests) == 1  # a refusal is not asked for again

    def test_card_that_the_hub_refuses(self, user: User, hub: FakeHub) -> None:
        hub.card_errors = ['"license" must be one of them']
        code, line = user.fail()
        assert code == 2 and '"license" must be one of them' in line and "correct README.md" in line
        assert user.sent() == []


class TestFailures:
    STEPS = ("/create", "GET /api/models/", "/branch/", "/validate-yaml", "/preupload/", "/batch", "PUT ", "/commit/")

    @pytest.fixture
    def before(self, user: User, hub: FakeHub, folder: Path) -> dict[str, bytes]:
        """What the repository holds before something is published that fails."""
        hub.add(REPO, Path(shutil.copytree(folder, folder.with_name("before"))))
        (folder / "config.json").write_text("{}")
        (folder / "new.safetensors").write_bytes(b"new" * 100_000)
        return hub.files(REPO)

    @pytest.mark.parametrize("kind", ["busy", "broken", "cut", "lost"])
    def test_each_step_once(self, user: User, hub: FakeHub, kind: str) -> None:
        user.log_in()  # no variable says what must not be said
        hub.faults = [Fault(kind, lambda request, step=step: step in request, times=1) for step in self.STEPS]
        user.publish("--revision", "v1")
        assert [fault.left for fault in hub.faults] == [0] * len(self.STEPS)
        (commit,) = hub.commits  # not another one where only the answer was lost
        assert commit.files == contents(user.folder)
        assert ("***" in user.log) == (kind == "broken")  # the hub repeats the token, and this client then, too

    @pytest.mark.parametrize("step", STEPS)
    def test_hub_that_stays_broken(self, user: User, hub: FakeHub, before: dict[str, bytes], step: str) -> None:
        hub.faults = [Fault("broken", lambda request: step in request)]
        code, line = user.fail("--revision", "v1")
        assert code == 1 and "run again" in line
        assert ("500" in line) == (step != "/validate-yaml")  # there the hub client does not look
        assert hub.files(REPO) == before == hub.files(REPO, "v1" if hub.at(REPO, "v1") else "main")

    def test_busy_hub(self, user: User, hub: FakeHub, before: dict[str, bytes]) -> None:
        hub.faults = [Fault("busy")]
        code, line = user.fail()
        assert code == 1 and "429" in line and "wait and run again" in line and f"{REPO} is as it was" in line

    def test_connection_that_breaks_in_the_middle(
        self, user: User, hub: FakeHub, before: dict[str, bytes], folder: Path
    ) -> None:
        hub.faults = [Fault("cut", weights_upload)]
        code, line = user.fail()
        assert code == 1 and "check the connection and run again" in line
        assert f"nothing was published, {REPO} is as it was" in line
        assert hub.files(REPO) == before
        hub.faults = []
        user.publish()
        assert hub.files(REPO) == contents(folder)

    def test_storage_of_large_files_that_fails(self, user: User, hub: FakeHub, before: dict[str, bytes]) -> None:
        pytest.importorskip("hf_xet")
        user.environment["HF_HUB_DISABLE_XET"] = "0"  # which this hub does not have
        code, line = user.fail()
        assert code == 1 and "run again" in line and f"nothing was published, {REPO} is as it was" in line
        # What uploads to it tries by itself, and for minutes where there is no connection.
        assert sum("/xet-write-token/" in request for request in hub.requests) == 1
        assert hub.files(REPO) == before

    def test_commit_of_which_nothing_is_heard(self, user: User, hub: FakeHub, before: dict[str, bytes]) -> None:
        hub.faults = [Fault("cut", lambda request: "/commit/" in request)]
        code, line = user.fail()
        # Had only the answers been lost, it would be there.
        assert code == 1 and "run again" in line and f"{REPO} has all the files, or is as it was" in line
        assert hub.files(REPO) == before

    def test_hub_that_never_answers(self, user: User, hub: FakeHub) -> None:
        hub.faults = [Fault("silent")]
        code, line = user.fail("--answer-seconds", "0.2")
        assert code == 1 and "check the connection" in line

    def test_captive_portal(self, user: User, hub: FakeHub) -> None:
        hub.faults = [Fault("page")]
        code, line = user.fail()
        assert code == 1 and "not the hub" in line

    @pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="no file that cannot be read")
    def test_file_that_cannot_be_read(self, user: User) -> None:
        (user.folder / "damaged.bin").symlink_to("/proc/self/mem")
        code, line = user.fail()
        assert code == 1 and "cannot read" in line and "the disk" in line
