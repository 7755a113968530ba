"""Models of the hub: fetched once, without pickles, and failures as one line that never holds a token."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_hub import FakeHub, Fault, weights_body
from huggingface_hub import constants

from qwen25.runtime import console
from qwen25.runtime.errors import InputError, set_up_logging
from qwen25.store.hub import check_id, looks_like_an_id, parent_exists, snapshot

REPO = "tiny/qwen2"
TOKEN = "hf_" + "SecretSecretSecretSecret"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the files of a model, whose content nobody reads here."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes(bytes(range(256)) * 1000)
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / "model" / name).write_text("{}")
    return tmp_path / "model"


@pytest.fixture
def fetch(
    tmp_path: Path, hub: FakeHub, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """A phase that fetches a model; returns its exit code, and the model's folder or the error's one line."""
    monkeypatch.delenv("HF_TOKEN", raising=False)
    hub.add(REPO, folder)

    def fetch(revision: str | None = None, offline: bool = False) -> tuple[int, str]:
        def body(_: argparse.Namespace) -> int:
            set_up_logging(tmp_path / "run.log")
            print(snapshot(REPO, revision, offline, subfolder="copy"))
            return 0

        code, (out, err) = console.command(console.Parser, body)([]), capsys.readouterr()
        assert not [text for text in ("it/s", "Traceback", TOKEN) if text in err]  # no bars but on a terminal
        errors = [line for line in err.splitlines() if line.startswith("error: ")]
        assert errors == (err.splitlines()[-1:] if code else []) and bool(code) == (not out)
        return code, errors[0] if code else out.strip()

    return fetch


def test_what_is_fetched_and_what_is_not(fetch: Callable, hub: FakeHub, folder: Path) -> None:
    wanted = {"1_Pooling/config.json", "copy/a.json", *(path.name for path in folder.iterdir())}
    others = {"pytorch_model.bin", "tokenizer.py", "onnx/model.safetensors", "1_Pooling/a.bin", "copy/a.py"}
    for name in {*wanted, *others} - {"model.safetensors"}:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("{}")
    commit = hub.add(REPO, folder, "v1")
    code, found = fetch("v1")
    assert code == 0 and Path(found).name == commit
    assert {path.relative_to(found).as_posix() for path in Path(found).rglob("*") if path.is_file()} == wanted
    hub.requests.clear()
    assert fetch("v1", offline=True) == (0, found)
    assert hub.requests == []


@pytest.mark.parametrize(
    ("fault", "code", "said"),
    [
        (Fault("not found"), 2, "check the name"),
        (Fault("gated", lambda request: "/resolve/" in request), 2, "accept its terms"),
        (Fault("bad token"), 2, "HF_TOKEN"),
        (Fault("broken"), 1, "500"),
        (Fault("cut", weights_body), 1, "check the connection"),
        (Fault("silent"), 1, "check the connection"),
    ],
)
def test_failures_are_one_line_without_the_token(
    fetch: Callable, hub: FakeHub, fault: Fault, code: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.5 if fault.kind == "silent" else 10)
    hub.faults = [fault]
    found, line = fetch()
    assert found == code and REPO in line and said in line
    assert TOKEN in hub.tokens and TOKEN not in (tmp_path / "run.log").read_text(encoding="utf-8")
    if code == 2 and fault.where("GET /api/models/x"):
        assert len(hub.requests) == 1  # a refusal is not asked for again


def test_a_busy_hub_is_asked_again_and_a_cut_download_resumes(fetch: Callable, hub: FakeHub, folder: Path) -> None:
    busy = [Fault("busy", lambda request, where=where: where in request, 1) for where in ("/api/models/", "HEAD ")]
    hub.faults = [*busy, Fault("cut", weights_body, times=1)]
    assert (Path(fetch()[1]) / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    assert not any(fault.left for fault in hub.faults)
    assert any(request.endswith("model.safetensors Range") for request in hub.requests)


def test_no_cache_and_no_room(fetch: Callable, hub: FakeHub, tmp_path: Path) -> None:
    assert "run once without" in fetch(offline=True)[1] and hub.requests == []
    (tmp_path / "home").write_text("a file where the folder should be")
    assert "HF_HOME" in fetch()[1]


def test_pickles_are_refused_before_anything_is_downloaded(fetch: Callable, hub: FakeHub, folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    code, line = fetch()
    assert code == 2 and "can run code" in line
    assert not any("/resolve/" in request for request in hub.requests)


def test_names(tmp_path: Path) -> None:
    assert looks_like_an_id("Qwen/Qwen2.5-0.5B") and not looks_like_an_id("models/mine")
    assert parent_exists(tmp_path / "mine") and not parent_exists(Path("no-such-folder/mine"))
    for name in ("mine", "../mine", "a/b/c"):
        with pytest.raises(InputError):
            check_id(name)
