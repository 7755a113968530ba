"""Models of the hub: fetched once, without pickles, and failures as one line that never holds a token."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from fake_hub import FakeHub, Fault, run_as_user, weights_body

from qwen25.runtime.errors import InputError
from qwen25.store.hub import check_id, looks_like_an_id, parent_exists

REPO = "tiny/qwen2"
TOKEN = "hf_" + "SecretSecretSecretSecret"
#: HF_ENDPOINT is read on import, so it needs a new process.
FETCH = """
import argparse, sys, time
time.sleep = lambda seconds: None  # the hub client's waits, too
import huggingface_hub.constants
huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE = 1 << 16  # a tiny model in more than one chunk
from pathlib import Path
from qwen25.runtime import console, errors
from qwen25.store.hub import snapshot
parser = argparse.ArgumentParser()
parser.add_argument("repo")
parser.add_argument("--revision")
parser.add_argument("--offline", action="store_true")
parser.add_argument("--log-file", type=Path)
console.add_common_flags(parser)
def fetch(args):
    errors.set_up_logging(args.log_file)
    print(snapshot(args.repo, args.revision, args.offline, subfolder="copy"))
    return 0
sys.exit(console.run(parser, fetch, None))
"""


@dataclass
class User:
    """Someone with an empty hub cache."""

    home: Path
    endpoint: str
    environment: dict[str, str] = field(default_factory=dict)

    def fetch(self, *arguments: str) -> Path:
        done = run_as_user(self.endpoint, self.home, ["-c", FETCH, *arguments], self.environment)
        assert done.returncode == 0, done.stderr
        assert "it/s" not in done.stderr  # no progress bars but on a terminal
        return Path(done.stdout.strip())

    def fail(self, *arguments: str) -> tuple[int, str]:
        """Return the exit code and the error's one line."""
        done = run_as_user(self.endpoint, self.home, ["-c", FETCH, *arguments], self.environment)
        assert done.stdout == "" and "Traceback" not in done.stderr and TOKEN not in done.stderr
        errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert errors == done.stderr.splitlines()[-1:], done.stderr
        return done.returncode, errors[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the files of a model, whose content nobody reads here."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes(bytes(range(256)) * 1000)
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / "model" / name).write_text("{}")
    return tmp_path / "model"


@pytest.fixture
def hub(folder: Path) -> Iterator[FakeHub]:
    with FakeHub() as hub:
        hub.add(REPO, folder)
        yield hub


@pytest.fixture
def user(tmp_path: Path, hub: FakeHub) -> User:
    return User(tmp_path / "home", hub.url)


def test_what_is_fetched_and_what_is_not(user: User, hub: FakeHub, folder: Path) -> None:
    wanted = {"1_Pooling/config.json", "copy/a.json", *(path.name for path in folder.iterdir())}
    others = {"pytorch_model.bin", "tokenizer.py", "onnx/model.safetensors", "1_Pooling/a.bin", "copy/a.py"}
    for name in {*wanted, *others} - {"model.safetensors"}:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("{}")
    commit = hub.add(REPO, folder, "v1")
    found = user.fetch(REPO, "--revision", "v1")
    assert found.name == commit
    assert {path.relative_to(found).as_posix() for path in found.rglob("*") if path.is_file()} == wanted
    hub.requests.clear()
    assert user.fetch(REPO, "--revision", "v1", "--offline") == found
    assert hub.requests == []
    user.endpoint = "http://127.0.0.1:9"  # without a hub, the cache does
    assert user.fetch(REPO, "--revision", "v1") == found


@pytest.mark.parametrize(
    ("fault", "code", "said"),
    [
        (Fault("not found"), 2, "check the name"),
        (Fault("gated", lambda request: "/resolve/" in request), 2, "accept its terms"),
        (Fault("bad token"), 2, "HF_TOKEN"),
        (Fault("no revision"), 2, "has no revision"),
        (Fault("broken"), 1, "500"),
        (Fault("cut", weights_body), 1, "check the connection"),
        (Fault("silent"), 1, "check the connection"),
        (Fault("page"), 1, "HF_ENDPOINT"),
    ],
)
def test_failures_are_one_line_without_the_token(user: User, hub: FakeHub, fault: Fault, code: int, said: str) -> None:
    user.environment["HF_TOKEN"] = TOKEN
    hub.faults = [fault]
    log = user.home.parent / "run.log"
    found, line = user.fail(REPO, "--log-file", str(log))
    assert found == code and REPO in line and said in line
    assert TOKEN in hub.tokens and TOKEN not in log.read_text(encoding="utf-8")
    if code == 2 and fault.where("GET /api/models/x"):
        assert len(hub.requests) == 1  # a refusal is not asked for again


def test_a_busy_hub_is_asked_again_and_a_cut_download_resumes(user: User, hub: FakeHub, folder: Path) -> None:
    busy = [Fault("busy", lambda request, where=where: where in request, 1) for where in ("/api/models/", "HEAD ")]
    hub.faults = [*busy, Fault("cut", weights_body, times=1)]
    assert (user.fetch(REPO) / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    assert not any(fault.left for fault in hub.faults)
    assert any(request.endswith("model.safetensors Range") for request in hub.requests)


def test_no_cache_and_no_room(user: User, hub: FakeHub) -> None:
    assert "run once without" in user.fail(REPO, "--offline")[1] and hub.requests == []
    user.home.write_text("a file where the folder should be")
    assert "HF_HOME" in user.fail(REPO)[1]


def test_pickles_are_refused_before_anything_is_downloaded(user: User, hub: FakeHub, folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    code, line = user.fail(REPO)
    assert code == 2 and "can run code" in line
    assert not any("/resolve/" in request for request in hub.requests)


def test_names(tmp_path: Path) -> None:
    assert looks_like_an_id("Qwen/Qwen2.5-0.5B") and not looks_like_an_id("models/mine")
    assert parent_exists(tmp_path / "mine") and not parent_exists(Path("no-such-folder/mine"))
    for name in ("mine", "../mine", "a/b/c"):
        with pytest.raises(InputError):
            check_id(name)
