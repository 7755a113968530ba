"""Finding a teacher: what a user sees when it works and when it does not, hub included (a fake one)."""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_hub import FakeHub, Fault, run_as_user, weights_body
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from qwen25.commands import distill as distill_command
from qwen25.runtime.errors import InputError, PipelineError
from qwen25.teacher.teacher import Teacher, find_teacher

REPO = "tiny/qwen2"
TOKEN = "hf_" + "SecretSecretSecretSecret"
#: find_teacher behind the scripts' own error handling. HF_ENDPOINT is read on import, so it needs a new process.
FIND = """
import argparse, json, sys, time
time.sleep = lambda seconds: None  # the hub client's waits, too
import huggingface_hub.constants
huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE = 1 << 16  # a tiny model in more than one chunk
from pathlib import Path
from qwen25.runtime import console, log
from qwen25.teacher import teacher
parser = argparse.ArgumentParser()
parser.add_argument("teacher")
parser.add_argument("--revision")
parser.add_argument("--offline", action="store_true")
parser.add_argument("--log-file", type=Path)
console.add_common_flags(parser)
def find(args):
    log.set_up_logging(args.log_file)
    found = teacher.find_teacher(args.teacher, args.revision, args.offline)
    files = sorted(path.name for path in found.folder.iterdir())
    print(json.dumps({"origin": found.origin, "revision": found.revision, "folder": str(found.folder), "files": files}))
    return 0
sys.exit(console.run(parser, find, None))
"""


@dataclass
class User:
    """Someone with an empty hub cache who runs commands against the fake hub."""

    home: Path
    endpoint: str
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return run_as_user(self.endpoint, self.home, list(command), self.environment)

    def find(self, *arguments: str) -> dict[str, Any]:
        done = self.run("-c", FIND, *arguments)
        assert done.returncode == 0, done.stderr
        assert "it/s" not in done.stderr  # no progress bars but on a terminal
        return json.loads(done.stdout)

    def fail(self, *arguments: str) -> tuple[int, str]:
        """Return the exit code and the error's one line."""
        done = self.run("-c", FIND, *arguments)
        assert done.stdout == "" and "Traceback" not in done.stderr
        errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert errors == done.stderr.splitlines()[-1:], done.stderr
        return done.returncode, errors[0]


@pytest.fixture
def hub(tiny_teacher: Path) -> Iterator[FakeHub]:
    with FakeHub() as hub:
        hub.add(REPO, tiny_teacher)
        yield hub


@pytest.fixture
def user(tmp_path: Path, hub: FakeHub) -> User:
    return User(tmp_path / "home", hub.url)


@pytest.fixture
def folder(tiny_teacher: Path, tmp_path: Path) -> Path:
    """A copy of the tiny teacher that a test may spoil."""
    return Path(shutil.copytree(tiny_teacher, tmp_path / "teacher"))


def closed_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


class TestHub:
    def test_downloads_and_knows_the_commit(self, user: User, tiny_teacher: Path) -> None:
        found = user.find(REPO)
        assert (found["origin"], found["revision"]) == ("hub", FakeHub().add(REPO, tiny_teacher))
        for name in ("config.json", "model.safetensors", "tokenizer.json"):
            assert (Path(found["folder"]) / name).read_bytes() == (tiny_teacher / name).read_bytes()

    def test_revision_pins(self, user: User, hub: FakeHub, folder: Path) -> None:
        (folder / "merges.txt").write_text("the older one has this file")
        older = hub.add(REPO, folder, "v1")
        assert "merges.txt" not in user.find(REPO)["files"]
        for revision in ("v1", older):
            found = user.find(REPO, "--revision", revision)
            assert found["revision"] == older and "merges.txt" in found["files"]

    def test_what_cannot_be_distilled_is_refused_like_a_folder(self, user: User, hub: FakeHub, folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text()) | {"quantization_config": {"quant_method": "awq"}}
        (folder / "config.json").write_text(json.dumps(config))
        hub.add(REPO, folder)
        code, line = user.fail(REPO)
        assert code == 2 and f"{REPO} is quantised (awq)" in line

    def test_second_time_needs_no_hub(self, user: User, hub: FakeHub) -> None:
        commit = user.find(REPO)["revision"]
        hub.requests.clear()
        assert user.find(REPO, "--offline")["revision"] == commit
        user.environment["HF_HUB_OFFLINE"] = "1"
        assert user.find(REPO)["revision"] == commit
        assert hub.requests == []

    def test_hub_that_is_down_leaves_the_cache(self, user: User) -> None:
        commit = user.find(REPO)["revision"]
        user.endpoint = closed_port()
        done = user.run("-c", FIND, REPO)
        assert done.returncode == 0 and json.loads(done.stdout)["revision"] == commit
        assert commit in done.stderr  # it may be an old one: said

    @pytest.mark.parametrize("how", ["--offline", "HF_HUB_OFFLINE"])
    def test_offline_with_an_empty_cache(self, user: User, hub: FakeHub, how: str) -> None:
        user.environment["HF_HUB_OFFLINE"] = "1" if how == "HF_HUB_OFFLINE" else "0"
        code, line = user.fail(REPO, *([how] if how == "--offline" else []))
        assert code == 1 and "run once without --offline and HF_HUB_OFFLINE" in line
        assert hub.requests == []

    def test_offline_with_a_part_in_the_cache(self, user: User) -> None:
        found = user.find(REPO)
        (Path(found["folder"]) / "model.safetensors").unlink()
        code, line = user.fail(REPO, "--offline")
        assert code == 1 and "run once without --offline" in line
        for listing in user.home.rglob("trees"):  # older hub clients keep none
            shutil.rmtree(listing)
        assert user.fail(REPO, "--offline") == (code, line)

    @pytest.mark.parametrize(
        ("kind", "advice"), [("not found", "check the name"), ("gated", "accept its terms"), ("bad token", "HF_TOKEN")]
    )
    def test_refusals(self, user: User, hub: FakeHub, kind: str, advice: str) -> None:
        hub.faults = [Fault(kind)]
        code, line = user.fail(REPO)
        assert code == 2 and REPO in line and advice in line
        assert len(hub.requests) == 1  # a refusal is not asked for again

    def test_gated_files_of_a_visible_model(self, user: User, hub: FakeHub) -> None:
        hub.faults = [Fault("gated", lambda request: "/resolve/" in request)]
        code, line = user.fail(REPO)
        assert code == 2 and "is gated" in line

    def test_revision_that_is_not_there(self, user: User) -> None:
        code, line = user.fail(REPO, "--revision", "v9")
        assert code == 2 and f"{REPO} has no revision v9" in line

    def test_no_hub_id_at_all(self, user: User, hub: FakeHub) -> None:
        code, line = user.fail("two--dashes/are--forbidden")
        assert code == 2 and "cannot be a hub id" in line
        assert hub.requests == []

    @pytest.mark.parametrize("where", ["/api/models/", "/tree/", "HEAD ", "GET /"])
    def test_busy_twice(self, user: User, hub: FakeHub, where: str) -> None:
        hub.faults = [Fault("busy", lambda request: where in request, times=2)]
        assert user.find(REPO)["origin"] == "hub"
        struck = hub.faults[0].left == 0
        assert struck or where == "/tree/"  # older hub clients do not list the tree

    @pytest.mark.parametrize("where", ["/api/models/", "HEAD "])
    def test_broken_hub(self, user: User, hub: FakeHub, where: str) -> None:
        hub.faults = [Fault("broken", lambda request: where in request)]
        code, line = user.fail(REPO)
        assert code == 1 and "500" in line and "run again" in line

    def test_cut_connection_resumes(self, user: User, hub: FakeHub, tiny_teacher: Path, tmp_path: Path) -> None:
        hub.faults = [Fault("cut", weights_body, times=1)]
        log = tmp_path / "run.log"
        done = user.run("-c", FIND, REPO, "--log-file", str(log))
        assert done.returncode == 0 and hub.faults[0].left == 0
        weights = Path(json.loads(done.stdout)["folder"]) / "model.safetensors"
        assert weights.read_bytes() == (tiny_teacher / "model.safetensors").read_bytes()
        assert any(request.endswith("model.safetensors Range") for request in hub.requests)
        # Said once, and in the log, too: the hub client's own handler is out of the way.
        (said,) = [line for line in done.stderr.splitlines() if "resume" in line or "trying again" in line]
        assert said in log.read_text(encoding="utf-8")

    def test_connection_that_is_always_cut(self, user: User, hub: FakeHub) -> None:
        hub.faults = [Fault("cut", weights_body)]
        code, line = user.fail(REPO)
        assert code == 1 and "check the connection" in line
        hub.faults = []  # what was left behind does no harm
        assert user.find(REPO)["files"] and user.find(REPO, "--offline")["files"]

    def test_hub_that_is_not_there(self, user: User) -> None:
        user.endpoint = closed_port()
        code, line = user.fail(REPO)
        assert code == 1 and "check the connection" in line

    def test_hub_that_never_answers(self, user: User, hub: FakeHub) -> None:
        hub.faults = [Fault("silent")]
        code, line = user.fail(REPO)
        assert code == 1 and "check the connection" in line

    def test_captive_portal(self, user: User, hub: FakeHub) -> None:
        hub.faults = [Fault("page")]
        code, line = user.fail(REPO)
        assert code == 1 and "not the hub" in line

    def test_cache_that_cannot_be_written(self, user: User) -> None:
        user.home.write_text("a file where the folder should be")
        code, line = user.fail(REPO)
        assert code == 1 and "HF_HOME" in line

    def test_pickles_are_refused_before_any_download(self, user: User, hub: FakeHub, folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
        hub.add("tiny/pickled", folder)
        code, line = user.fail("tiny/pickled")
        assert code == 2 and "can run code" in line
        assert not any("/resolve/" in request for request in hub.requests)

    def test_repository_without_a_model(self, user: User, hub: FakeHub, folder: Path) -> None:
        (folder / "config.json").unlink()
        hub.add("tiny/empty", folder)
        code, line = user.fail("tiny/empty")
        assert code == 2 and "no config.json" in line

    @pytest.mark.parametrize("kind", ["broken", "gated", "cut"])
    def test_token_never_appears(self, user: User, hub: FakeHub, tmp_path: Path, kind: str) -> None:
        hub.faults = [Fault(kind, weights_body if kind == "cut" else lambda _: True)]
        user.environment["HF_TOKEN"] = TOKEN
        log = tmp_path / "run.log"
        done = user.run("-c", FIND, REPO, "--log-file", str(log))
        assert done.returncode != 0
        assert TOKEN in hub.tokens  # it was sent
        if kind == "broken":
            assert "***" in log.read_text(encoding="utf-8")  # and came back in the hub's answer
        for text in (done.stdout, done.stderr, log.read_text(encoding="utf-8")):
            assert TOKEN not in text

    def test_distilling_from_the_hub(self, user: User, hub: FakeHub, tiny_teacher: Path, tmp_path: Path) -> None:
        user.environment["HF_TOKEN"] = TOKEN
        model, log = tmp_path / "model", tmp_path / "run.log"
        done = user.run(
            "distill_qwen25_1024d.py",
            "--teacher",
            REPO,
            "--output",
            str(model),
            "--log-file",
            str(log),
            "--device",
            "cpu",
        )
        assert done.returncode == 0, done.stderr
        metadata = json.loads((model / "metadata.json").read_text(encoding="utf-8"))
        facts = {key: metadata["teacher"][key] for key in ("name", "origin", "revision")}
        assert facts == {"name": REPO, "origin": "hub", "revision": hub.add(REPO, tiny_teacher)}
        written = [path.read_text(encoding="utf-8") for path in (log, model / "metadata.json", model / "README.md")]
        for text in (done.stdout, done.stderr, *written):
            assert TOKEN not in text


class TestFolder:
    @pytest.fixture
    def distil(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
        """Run phase 1 on a teacher that it cannot use; return the exit code and the error's one line."""

        def run(teacher: Path | str, *flags: str) -> tuple[int, str]:
            output = tmp_path / "model"
            arguments = ["--teacher", str(teacher), "--output", str(output), "--log-file", str(tmp_path / "run.log")]
            code = distill_command.main([*arguments, "--device", "cpu", *flags])
            lines = capsys.readouterr().err.splitlines()
            assert not output.exists()
            assert [line for line in lines if line.startswith("error: ")] == lines[-1:]
            return code, lines[-1]

        return run

    def test_pickled_weights(self, folder: Path, distil: Callable[..., tuple[int, str]]) -> None:
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
        code, line = distil(folder)
        assert code == 2 and "can run code" in line and "safetensors" in line

    def test_no_weights(self, folder: Path, distil: Callable[..., tuple[int, str]]) -> None:
        (folder / "model.safetensors").unlink()
        code, line = distil(folder)
        assert code == 2 and "no .safetensors weights" in line

    def test_no_configuration(self, folder: Path, distil: Callable[..., tuple[int, str]]) -> None:
        (folder / "config.json").unlink()
        code, line = distil(folder)
        assert code == 2 and "no config.json" in line

    @pytest.mark.parametrize(
        "config",
        [
            "{",
            "[]",
            "{}",
            '{"model_type": "from_the_future"}',
            '{"model_type": "qwen2", "hidden_size": "wide"}',
            '{"model_type": "new", "auto_map": {"AutoConfig": "new.NewConfig"}}',
        ],
    )
    def test_unusable_configuration(self, folder: Path, distil: Callable[..., tuple[int, str]], config: str) -> None:
        (folder / "config.json").write_text(config)
        code, line = distil(folder)
        assert code == 2 and "configuration" in line

    def test_model_of_something_else_than_text(self, folder: Path, distil: Callable[..., tuple[int, str]]) -> None:
        (folder / "config.json").write_text('{"model_type": "resnet", "architectures": ["ResNetModel"]}')
        code, line = distil(folder)
        assert code == 2 and "no language model" in line

    @pytest.mark.parametrize("tokenizer", [None, "{", "{}"])
    def test_no_tokenizer(self, folder: Path, distil: Callable[..., tuple[int, str]], tokenizer: str | None) -> None:
        path = folder / "tokenizer.json"
        if tokenizer is None:
            path.unlink()
        else:
            path.write_text(tokenizer)
        code, line = distil(folder)
        assert code == 2 and "tokenizer" in line

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with a name here")
    @pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
    def test_pipe(self, folder: Path, distil: Callable[..., tuple[int, str]], name: str) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)
        code, line = distil(folder)
        assert code == 2 and f"{name} is a pipe or a device" in line

    @pytest.mark.parametrize("dtype", [torch.int8, torch.bool])
    def test_weights_without_fractions(self, folder: Path, dtype: torch.dtype) -> None:
        path = folder / "model.safetensors"
        tensors = load_file(path)
        save_file({**tensors, "position_ids": torch.arange(9)}, path, {"format": "pt"})
        find_teacher(str(folder)).load(torch.float32)  # a buffer may be what it likes
        name = "model.embed_tokens.weight"
        save_file({**tensors, name: tensors[name].to(dtype)}, path, {"format": "pt"})
        with pytest.raises(InputError, match=rf"{name} holds \w+, no floating-point numbers"):
            find_teacher(str(folder)).load(torch.float32)

    def test_revision_of_a_folder(self, folder: Path, distil: Callable[..., tuple[int, str]]) -> None:
        code, line = distil(folder, "--revision", "main")
        assert code == 2 and "--revision is for hub ids" in line

    @pytest.mark.parametrize("spec", ["smollm3", "not a teacher", "a/b/c", ""])
    def test_no_teacher_by_that_name(self, distil: Callable[..., tuple[int, str]], spec: str) -> None:
        assert distil(spec)[0] == 2

    def test_unknown_name_is_told_the_known_ones(self, distil: Callable[..., tuple[int, str]]) -> None:
        assert "smollm2-135m" in distil("smollm3")[1]

    @pytest.mark.parametrize("spoil", ["truncated", "no header", "header too long", "lying shape", "git pointer"])
    def test_damaged_weights(self, folder: Path, distil: Callable[..., tuple[int, str]], spoil: str) -> None:
        path = folder / "model.safetensors"
        path.write_bytes(spoilt(path.read_bytes(), spoil))
        # The default recipe reads no layer of so shallow a teacher but its embeddings.
        code, line = distil(folder, "--recipe", "plain")
        assert code == 1 and folder.name in line
        with pytest.raises(PipelineError, match=folder.name):  # what is not streamed goes this way
            find_teacher(str(folder)).load(torch.float32)

    def test_lacking_weights_are_not_made_up(self, folder: Path) -> None:
        path = folder / "model.safetensors"
        tensors = load_file(path)
        lost = next(name for name in tensors if "layers.1.mlp.up_proj" in name)
        save_file({name: tensor for name, tensor in tensors.items() if name != lost}, path, {"format": "pt"})
        with pytest.raises(PipelineError, match=r"layers\.1\.mlp\.up_proj"):
            Teacher("tiny", "folder", folder).load(torch.float32)

    def test_whole_folder_loads(self, tiny_teacher: Path) -> None:
        teacher = find_teacher(str(tiny_teacher))
        assert (teacher.origin, teacher.name, teacher.revision) == ("folder", tiny_teacher.name, None)
        assert (teacher.layers, teacher.hidden_size, teacher.is_causal) == (2, 64, True)
        model = teacher.load(torch.float32)
        assert not model.training and model.config.hidden_size == 64

    def test_text_part_of_a_multimodal_model_is_a_decoder(self, tmp_path: Path) -> None:
        text = {"model_type": "gemma3_text", "hidden_size": 48, "num_hidden_layers": 3}
        config = {"model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"], "text_config": text}
        (tmp_path / "config.json").write_text(json.dumps(config))
        teacher = find_teacher(str(tmp_path))
        assert (teacher.is_causal, teacher.layers, teacher.hidden_size) == (True, 3, 48)


def spoilt(weights: bytes, how: str) -> bytes:
    """Return a safetensors file's bytes, damaged."""
    (length,) = struct.unpack("<Q", weights[:8])
    if how == "truncated":
        return weights[: len(weights) // 2]
    if how == "no header":
        return b""
    if how == "header too long":
        return struct.pack("<Q", 1 << 62) + weights[8:]
    if how == "git pointer":
        return b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
    header = json.loads(weights[8 : 8 + length])
    name = next(name for name in header if name.endswith("layers.0.mlp.up_proj.weight"))
    header[name]["shape"].reverse()  # as many numbers, so that the file is a valid one
    lie = json.dumps(header, separators=(",", ":")).encode().ljust(length)
    assert len(lie) == length
    return weights[:8] + lie + weights[8 + length :]


def write_gguf(path: Path, endianess: Any = None, **fields: str | list[str]) -> Path:
    """Write a Llama's GGUF file: a few tensors, and a tokenizer of as many tokens as there are bytes."""
    from gguf import GGUFEndian, GGUFWriter
    from tokenizers.pre_tokenizers import ByteLevel

    tokens = [*sorted(ByteLevel.alphabet()), "he", "<|im_start|>"]
    tokenizer: dict[str, str | list[str]] = {"model": "gpt2", "pre": "smollm", "tokens": tokens, "merges": ["h e"]}
    writer = GGUFWriter(path, "llama", endianess=endianess or GGUFEndian.LITTLE)
    writer.add_block_count(2)
    writer.add_embedding_length(64)
    for key, value in {**tokenizer, **fields}.items():
        add = writer.add_string if isinstance(value, str) else writer.add_array
        add(f"tokenizer.ggml.{key}", value)
    writer.add_array("tokenizer.ggml.token_type", [1] * (len(tokens) - 1) + [3])
    for layer in range(2):
        writer.add_tensor(f"blk.{layer}.attn_norm.weight", np.ones(64, dtype=np.float32))
    writer.add_tensor("token_embd.weight", np.zeros((len(tokens), 64), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


class TestGguf:
    def test_facts_and_tokenizer(self, tmp_path: Path) -> None:
        teacher = find_teacher(str(write_gguf(tmp_path / "tiny.gguf")))
        assert (teacher.name, teacher.origin, teacher.is_causal) == ("tiny.gguf", "gguf", True)
        assert (teacher.layers, teacher.hidden_size) == (2, 64)
        assert teacher.tokenizer().encode("he12<|im_start|>").tokens == ["he", "1", "2", "<|im_start|>"]

    def test_a_name_in_capitals(self, tmp_path: Path) -> None:
        teacher = find_teacher(str(write_gguf(tmp_path / "TINY.GGUF")))
        assert (teacher.origin, teacher.layers, teacher.is_causal) == ("gguf", 2, True)

    def test_a_part_of_a_split_file(self, tmp_path: Path) -> None:
        from gguf import GGUFWriter

        path = tmp_path / "tiny-00001-of-00003.gguf"
        writer = GGUFWriter(path, "llama")
        writer.add_uint16("split.count", 3)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()
        with pytest.raises(InputError, match="one of the 3 parts of a split file: join them"):
            find_teacher(str(path))

    def test_unknown_pre_tokenizer(self, tmp_path: Path) -> None:
        teacher = find_teacher(str(write_gguf(tmp_path / "tiny.gguf", pre="from-the-future")))
        with pytest.raises(InputError, match="from-the-future is not supported"):
            teacher.tokenizer()

    @pytest.mark.parametrize("kind", ["llama", "gemma", "t5", "bert"])
    def test_other_vocabularies_are_refused_at_once(self, tmp_path: Path, kind: str) -> None:
        """Nothing behind the header is read: it may be large."""
        with pytest.raises(InputError, match=f"of the kind '{kind}'.* folder with safetensors"):
            find_teacher(str(write_gguf(tmp_path / "tiny.gguf", model=kind)))

    def test_no_such_file(self) -> None:
        with pytest.raises(InputError, match="no such file"):
            find_teacher("nowhere/model.gguf")

    @pytest.mark.parametrize(
        "damage",
        [
            "empty",
            "another format",
            "header alone",
            "truncated",
            "endless array",
            "endless string",
            "nested arrays",
            "unknown type",
            "many values",
            "many tensors",
            "many layers",
        ],
    )
    def test_damaged_file(self, tmp_path: Path, damage: str) -> None:
        """Each is refused at once: some numbers would keep gguf's reader busy for years."""
        whole = write_gguf(tmp_path / "tiny.gguf").read_bytes()
        tokens = whole.index(b"tokenizer.ggml.tokens") + len("tokenizer.ggml.tokens")
        layers = whole.index(b"llama.block_count") + len("llama.block_count") + 4

        def with_number(at: int, form: str, number: int) -> bytes:
            return whole[:at] + struct.pack(form, number) + whole[at + struct.calcsize(form) :]

        contents = {
            "empty": b"",
            "another format": b"PK" + whole[2:],
            "header alone": whole[:24],
            "truncated": whole[: len(whole) - 1000],
            "endless array": with_number(tokens + 8, "<Q", 1 << 62),
            "endless string": with_number(tokens + 16, "<Q", 1 << 63),
            "nested arrays": with_number(tokens + 4, "<I", 9),
            "unknown type": with_number(tokens, "<I", 99),
            "many values": with_number(16, "<Q", 1 << 62),
            "many tensors": with_number(8, "<Q", 1 << 62),
            "many layers": with_number(layers, "<I", (1 << 32) - 1),
        }
        (tmp_path / "tiny.gguf").write_bytes(contents[damage])
        with pytest.raises(InputError, match=r"^tiny\.gguf is damaged \(.*\): fetch it again$"):
            find_teacher(str(tmp_path / "tiny.gguf"))

    def test_of_a_machine_of_the_other_byte_order(self, tmp_path: Path) -> None:
        from gguf import GGUFEndian

        teacher = find_teacher(str(write_gguf(tmp_path / "tiny.gguf", GGUFEndian.BIG)))
        assert teacher.tokenizer().encode("he").tokens == ["he"]

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with a name here")
    def test_pipe(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe.gguf")
        with pytest.raises(InputError, match="is a pipe or a device"):
            find_teacher(str(tmp_path / "pipe.gguf"))


TEXTS = [
    "The quick brown fox jumps over the lazy dog.",
    "  two  spaces,\ttabs\r\nand\n\n\nlines ",
    "def f(x):\n    return x ** 2  # naïve café",
    "Быстрая лиса · ταχεία αλεπού · الثعلب السريع · שועל",
    "敏捷的狐狸。素早い狐、빠른 여우 हिन्दी ไทย",
    "in 1969 and 31415.9265, ½ ٣ x² 🦊👩🏽‍🚀",
    "don't you'll WE'RE <b>&amp;</b>",
]


@pytest.mark.slow
class TestPackagedTeacher:
    @pytest.fixture(scope="class")
    def teacher(self) -> Teacher:
        return find_teacher("smollm2-135m")

    @pytest.fixture(scope="class")
    def tokenizer(self, teacher: Teacher) -> Tokenizer:
        return teacher.tokenizer()

    def test_is_what_it_says(self, teacher: Teacher) -> None:
        assert (teacher.origin, teacher.revision, teacher.is_causal) == ("packaged", None, True)
        assert (teacher.layers, teacher.hidden_size) == (30, 576)

    @pytest.mark.parametrize("text", TEXTS)
    def test_text_survives(self, tokenizer: Tokenizer, text: str) -> None:
        assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text

    def test_digits_are_split_singly(self, tokenizer: Tokenizer) -> None:
        assert tokenizer.encode("31415").tokens == list("31415")

    def test_has_all_tokens(self, tokenizer: Tokenizer) -> None:
        assert tokenizer.get_vocab_size(with_added_tokens=True) == 49152
        assert tokenizer.encode("<|im_start|>user").tokens[0] == "<|im_start|>"

    def test_survives_save_and_reload(self, tokenizer: Tokenizer, tmp_path: Path) -> None:
        path = str(tmp_path / "tokenizer.json")
        tokenizer.save(path)
        again = Tokenizer.from_file(path)
        assert again.get_vocab() == tokenizer.get_vocab()
        for text in [*TEXTS, "<|im_start|>user"]:
            assert again.encode(text).ids == tokenizer.encode(text).ids

    def test_answers_a_question(self, teacher: Teacher, tokenizer: Tokenizer) -> None:
        """Ids, weights and chat tokens belong together, or the answer is nonsense."""
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(
            teacher.folder, gguf_file=teacher.gguf, config=teacher.config, dtype=torch.float32
        )
        chat = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
        ids = torch.tensor([tokenizer.encode(chat).ids])
        with torch.inference_mode():
            out = model.eval().generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False, pad_token_id=2
            )
        assert "Paris" in tokenizer.decode(out[0, ids.shape[1] :].tolist())


def test_an_address_in_a_message_loses_the_key_in_its_query() -> None:
    from qwen25.store.hub import without_keys

    text = "403 for 'https://cdn.example/a/b?Signature=s3cret&Expires=1' (what now? nothing)"
    assert without_keys(text) == "403 for 'https://cdn.example/a/b' (what now? nothing)"


def test_what_phase_1_would_write_is_never_asked_for_at_the_hub() -> None:
    with pytest.raises(InputError, match="no teacher 'models/qwen25-deposium-1024d'"):
        find_teacher("models/qwen25-deposium-1024d")


def test_what_is_missing_in_a_folder_that_is_here_is_never_asked_for_at_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "teachers").mkdir()
    monkeypatch.setattr("qwen25.teacher.teacher.snapshot", lambda *_: pytest.fail("asked at the hub"))
    with pytest.raises(InputError, match="the folder teachers is here and holds no mine"):
        find_teacher("teachers/mine")
