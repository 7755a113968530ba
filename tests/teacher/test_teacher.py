"""Finding a teacher: what it is, and what cannot be distilled, refused in one line that says what to do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer

from qwen25.runtime.errors import InputError
from qwen25.teacher.states import token_states
from qwen25.teacher.teacher import Teacher, find_teacher


@pytest.fixture
def folder(tiny_teacher: Path, tmp_path: Path) -> Path:
    """A copy of the tiny teacher that a test may spoil."""
    return Path(shutil.copytree(tiny_teacher, tmp_path / "teacher"))


def configure(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


class TestFound:
    def test_a_folder(self, tiny_teacher: Path, folder: Path) -> None:
        teacher = find_teacher(str(tiny_teacher))
        assert (teacher.origin, teacher.name, teacher.revision) == ("folder", tiny_teacher.name, None)
        assert (teacher.layers, teacher.hidden_size, teacher.is_causal) == (2, 64, True)
        model = teacher.load(torch.float32)
        assert not model.training and not hasattr(model, "lm_head")
        assert hasattr(teacher.load(torch.float32, with_head=True), "lm_head")
        assert find_teacher(str(folder.rename(folder.with_name("v1.gguf")))).origin == "folder"

    def test_a_hub_id_with_and_without_a_revision(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[tuple[Any, ...]] = []

        def snapshot(*arguments: Any) -> Path:
            asked.append(arguments)
            return folder

        monkeypatch.setattr("qwen25.teacher.teacher.snapshot", snapshot)
        monkeypatch.chdir(tmp_path)
        teacher = find_teacher("tiny/qwen2@v1", offline=True)
        assert (teacher.origin, teacher.name, teacher.revision) == ("hub", "tiny/qwen2", folder.name)
        find_teacher("tiny/qwen2")
        assert asked == [("tiny/qwen2", "v1", True), ("tiny/qwen2", None, False)]
        configure(folder, quantization_config={"quant_method": "awq"})
        with pytest.raises(InputError, match=r"tiny/qwen2 is quantised \(awq\)"):
            find_teacher("tiny/qwen2")
        (tmp_path / "teachers").mkdir()  # its child would be meant, and nothing is asked for at the hub
        with pytest.raises(InputError, match="no teacher 'teachers/mine'"):
            find_teacher("teachers/mine")
        assert len(asked) == 3

    @pytest.mark.parametrize("spec", ["smollm3", "not a teacher", "a/b/c", "", "models/qwen25-deposium-1024d"])
    def test_no_teacher_by_that_name(self, spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)  # where no model was made yet
        with pytest.raises(InputError, match=r"no teacher .*smollm2-135m"):
            find_teacher(spec)


class TestKind:
    @pytest.mark.parametrize(
        ("values", "causal"),
        [
            ({"model_type": "qwen2", "architectures": ["MyOwnHead"]}, True),
            ({"model_type": "qwen2"}, True),
            ({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}, True),
            ({"model_type": "bert", "architectures": ["BertForMaskedLM"]}, False),
            ({"model_type": "bert", "architectures": ["BertLMHeadModel"], "is_decoder": True}, True),
            ({"model_type": "modernbert", "architectures": ["ModernBertForMaskedLM"]}, False),
            ({"model_type": "gemma3_text", "architectures": ["Gemma3TextModel"]}, True),
            ({"model_type": "gemma3_text", "use_bidirectional_attention": True}, False),
            ({"model_type": "qwen2", "is_causal": False, "architectures": ["Qwen2Model"]}, False),
        ],
    )
    def test_a_decoder_is_one_whatever_its_head_is_called(
        self, folder: Path, values: dict[str, Any], causal: bool
    ) -> None:
        (folder / "config.json").write_text(json.dumps(values))
        assert find_teacher(str(folder)).is_causal is causal

    def test_the_text_part_of_a_multimodal_model_is_a_decoder(self, tmp_path: Path) -> None:
        text = {"model_type": "gemma3_text", "hidden_size": 48, "num_hidden_layers": 3}
        config = {"model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"], "text_config": text}
        (tmp_path / "config.json").write_text(json.dumps(config))
        teacher = find_teacher(str(tmp_path))
        assert (teacher.is_causal, teacher.layers, teacher.hidden_size) == (True, 3, 48)


class TestRefused:
    @pytest.mark.parametrize(
        ("values", "reason"),
        [
            ({"model_type": "t5", "is_encoder_decoder": True}, r"is an encoder-decoder \(t5\)"),
            ({"quantization_config": {"quant_method": "gptq"}}, r"is quantised \(gptq\): take the unquantised"),
            ({"quantization_config": {}, "compression_config": {"format": "int"}}, r"quantised \(unknown method\)"),
            ({"quantization": {"bits": 4}}, "is quantised"),
        ],
    )
    def test_by_the_configuration(self, folder: Path, values: dict[str, Any], reason: str) -> None:
        configure(folder, **values)
        with pytest.raises(InputError, match=reason):
            find_teacher(str(folder))

    def test_folders_without_a_model(self, folder: Path, tmp_path: Path) -> None:
        (folder / "config.json").unlink()
        (folder / "model-Q4_K_M.gguf").write_bytes(b"")
        with pytest.raises(InputError, match=r"no config.json; give one of its GGUF files, such as model-Q4_K_M\.gguf"):
            find_teacher(str(folder))

    @pytest.mark.parametrize(
        "config",
        [
            "{",
            "[]",
            "{}",
            '{"model_type": "from_the_future"}',
            '{"model_type": "qwen2", "hidden_size": "wide"}',
            '{"model_type": "new", "auto_map": {"AutoConfig": "new.NewConfig"}}',
            '{"model_type": "qwen2", "hidden_size": 64, "num_hidden_layers": 2, "hidden_act": "none"}',
        ],
    )
    def test_an_unusable_configuration(self, folder: Path, config: str) -> None:
        (folder / "config.json").write_text(config)
        with pytest.raises(InputError, match=r"configuration|is not JSON"):
            token_states(find_teacher(str(folder)), [[5]], [1])

    def test_a_model_of_something_else_than_text(self, folder: Path) -> None:
        (folder / "config.json").write_text('{"model_type": "resnet", "architectures": ["ResNetModel"]}')
        with pytest.raises(InputError, match="is no language model"):
            _ = find_teacher(str(folder)).layers

    @pytest.mark.parametrize("tokenizer", [None, "{", "{}"])
    def test_no_tokenizer(self, folder: Path, tokenizer: str | None) -> None:
        path = folder / "tokenizer.json"
        path.unlink() if tokenizer is None else path.write_text(tokenizer)
        with pytest.raises(InputError, match="tokenizer"):
            find_teacher(str(folder)).tokenizer()

    def test_weights_that_are_pickled_or_none(self, folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
        teacher = find_teacher(str(folder))
        with pytest.raises(InputError, match="can run code when opened; convert them to safetensors"):
            token_states(teacher, [[5]], [1])
        (folder / "pytorch_model.bin").unlink()
        with pytest.raises(InputError, match=r"no .safetensors weights"):
            _ = teacher.weights_sha256


@pytest.mark.slow
class TestPackagedTeacher:
    @pytest.fixture(scope="class")
    def teacher(self) -> Teacher:
        return find_teacher("smollm2-135m")

    @pytest.fixture(scope="class")
    def tokenizer(self, teacher: Teacher) -> Tokenizer:
        return teacher.tokenizer()

    def test_is_what_it_says(self, teacher: Teacher, tokenizer: Tokenizer) -> None:
        assert (teacher.origin, teacher.revision, teacher.is_causal) == ("packaged", None, True)
        assert (teacher.layers, teacher.hidden_size) == (30, 576)
        assert tokenizer.get_vocab_size(with_added_tokens=True) == 49152
        assert tokenizer.encode("<|im_start|>user").tokens[0] == "<|im_start|>"
        assert tokenizer.encode("31415").tokens == list("31415")

    def test_answers_a_question(self, teacher: Teacher, tokenizer: Tokenizer) -> None:
        """Ids, weights, as they are unpacked, and chat tokens belong together, or the answer is nonsense."""
        chat = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\nThe capital of"
        (state,) = token_states(teacher, [tokenizer.encode(" France is").ids], [30], prefix=chat)[30]
        table: Any = teacher.load(torch.float32).get_input_embeddings()
        scores = table.weight.detach().numpy() @ state  # its head is the same matrix
        assert tokenizer.decode([int(scores.argmax())]) == " Paris"
