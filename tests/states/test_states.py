"""What the caller of token_states relies on, whether the teacher is streamed or loaded whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from teachers import states_of
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoModelForCausalLM, BertConfig, BertModel, GPTNeoXConfig, LlamaConfig

from qwen25.runtime.errors import InputError, PipelineError
from qwen25.states.device import choose_device, choose_dtype
from qwen25.states.jobs import Frame, frame_for
from qwen25.states.token_states import token_states
from qwen25.teacher.teacher import Teacher

VOCABULARY, HIDDEN, LAYERS = 40, 16, 3
#: What every small model here is made of.
SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "intermediate_size": 24,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
}
WORDS = [[11], [4, 12, 13], [14, 15], [16, 17]]


def save(folder: Path, model: Any, tokenizer: Tokenizer) -> Teacher:
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=0.2)
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return Teacher(folder.name, "folder", folder)


def word_tokenizer() -> Tokenizer:
    words = ["[UNK]", "[CLS]", "[SEP]", *(f"w{i}" for i in range(3, VOCABULARY))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=words[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


@pytest.fixture(autouse=True)
def seeded_on_one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def llama(tmp_path: Path) -> Teacher:
    """A decoder that is streamed."""
    config = LlamaConfig(
        **SHAPE,
        num_key_value_heads=1,
        bos_token_id=1,
        eos_token_id=2,
    )
    return save(tmp_path / "llama", AutoModelForCausalLM.from_config(config), word_tokenizer())


@pytest.fixture
def neox(tmp_path: Path) -> Teacher:
    """A decoder of an architecture that is not streamed."""
    config = GPTNeoXConfig(
        **SHAPE,
        max_position_embeddings=32,
        bos_token_id=1,
        eos_token_id=2,
    )
    return save(tmp_path / "neox", AutoModelForCausalLM.from_config(config), word_tokenizer())


@pytest.fixture
def bert(tmp_path: Path) -> Teacher:
    """An encoder."""
    config = BertConfig(
        **SHAPE,
        max_position_embeddings=32,
    )
    tokenizer = word_tokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return save(tmp_path / "bert", BertModel(config), tokenizer)


def one_by_one(teacher: Teacher, words: Any, frame: Frame, layer: int, at: str) -> np.ndarray:
    """Compute the states without batches, prefixes or groups."""
    model, rows = teacher.load(torch.float32), []
    for word in words:
        ids = [*frame.prefix, *word, *frame.suffix]
        with torch.inference_mode():
            hidden = model(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states[layer][0]
        rows.append(hidden[len(ids) - 1 if at == "last" else len(frame.prefix) + len(word) - 1].numpy())
    return np.stack(rows)


@pytest.mark.parametrize("name", ["llama", "neox", "bert"])
@pytest.mark.parametrize("at", ["token", "last"])
@pytest.mark.parametrize("batch_size", [None, 2])
def test_every_kind_of_teacher_gives_the_states_of_single_sequences(
    name: str, at: Any, batch_size: int | None, request: pytest.FixtureRequest
) -> None:
    teacher = request.getfixturevalue(name)
    frame = frame_for(teacher, "w5 w6 w7", suffix="w8 w9")
    assert frame == (Frame((1,), (2,)) if name == "bert" else Frame((5, 6, 7), (8, 9)))
    tokens = np.arange(VOCABULARY)
    for ids, words in ((tokens, tokens[:, None].tolist()), (WORDS, WORDS)):
        found = states_of(teacher, ids, frame, [0, 2, LAYERS], at=at, batch_size=batch_size)
        assert list(found) == [0, 2, LAYERS]
        for layer, array in found.items():
            expected = one_by_one(teacher, words, frame, layer, at)
            np.testing.assert_allclose(array, expected, rtol=1e-4, atol=1e-4)
            assert array.dtype == np.float32


def test_inner_layers_are_raw_whatever_the_deepest_one(llama: Teacher) -> None:
    shallow = states_of(llama, np.arange(9), Frame((5,)), [2])[2]
    deep = states_of(llama, np.arange(9), Frame((5,)), [2, LAYERS])[2]
    np.testing.assert_array_equal(shallow, deep)


@pytest.mark.parametrize(
    ("name", "reason"), [("bert", "it is an encoder"), ("neox", "gpt_neox is none of the architectures")]
)
def test_what_is_not_streamed_says_why_in_one_line(
    name: str, reason: str, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    teacher = request.getfixturevalue(name)
    with caplog.at_level("INFO", logger="qwen25"):
        states_of(teacher, np.arange(9), Frame(), [1], folder=tmp_path / "checkpoint")
    (line,) = [record.getMessage() for record in caplog.records if record.name == "qwen25"]
    assert "the whole model" in line
    assert reason in line
    assert "without checkpoints" in line
    assert not (tmp_path / "checkpoint").exists()


def test_the_plan_is_one_line_and_is_logged_before_the_work(llama: Teacher, caplog: pytest.LogCaptureFixture) -> None:
    found = token_states(llama, Frame((5,)), [1, 2]).plan(np.arange(VOCABULARY))
    assert (found.tokens, found.layers, found.streams, found.disk_bytes) == (VOCABULARY, (1, 2), True, 0)
    assert found.seconds is not None
    assert found.seconds > 0
    assert str(found).startswith("token states: 40 tokens, layers 1, 2, cpu in float32, layer by layer: about 1 s, ")
    assert "\n" not in str(found)
    with caplog.at_level("INFO", logger="qwen25"):
        states_of(llama, np.arange(VOCABULARY), Frame((5,)), [1, 2])
    assert [message.split(":")[0] for message in caplog.messages] == ["token states"]


@pytest.mark.parametrize("layers", [[], [-1], [LAYERS + 1]])
def test_layers_that_do_not_exist_are_refused(llama: Teacher, layers: list[int]) -> None:
    with pytest.raises(InputError, match="layers must be between 0 and 3"):
        states_of(llama, np.arange(9), Frame(), layers)


def test_what_cannot_be_computed_is_refused(llama: Teacher, neox: Teacher) -> None:
    with pytest.raises(InputError, match="batch size"):
        states_of(llama, np.arange(9), Frame(), [1], batch_size=0)
    with pytest.raises(InputError, match="item 1 has no tokens"):
        states_of(llama, [[3], []], Frame(), [1])
    with pytest.raises(InputError, match="token 40 has no embedding"):
        states_of(neox, np.array([2, VOCABULARY]), Frame(), [1])


def test_a_whole_model_that_gives_nan_is_reported_with_the_layer(neox: Teacher, monkeypatch: Any) -> None:
    real = Teacher.load

    def load(self: Teacher, dtype: torch.dtype) -> Any:
        model = real(self, dtype)
        model.layers[1].mlp.dense_4h_to_h.bias.data.fill_(torch.nan)
        return model

    monkeypatch.setattr(Teacher, "load", load)
    with pytest.raises(PipelineError, match=r"layer 2 gives NaN or infinity for 9 tokens.*--dtype float32"):
        states_of(neox, np.arange(9), Frame((5,)), [1, 2])


def test_a_whole_model_that_runs_out_of_gpu_memory_goes_on_with_smaller_batches(
    neox: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = states_of(neox, np.arange(VOCABULARY), Frame((5,)), [LAYERS])[LAYERS]
    limit, real = 7, Teacher.load

    def load(self: Teacher, dtype: torch.dtype) -> Any:
        def refuse(_: Any, __: Any, options: dict[str, Any]) -> None:
            if len(options["input_ids"]) > limit:
                raise torch.cuda.OutOfMemoryError("no room")

        model = real(self, dtype)
        model.register_forward_pre_hook(refuse, with_kwargs=True)
        return model

    monkeypatch.setattr(Teacher, "load", load)
    found = states_of(neox, np.arange(VOCABULARY), Frame((5,)), [LAYERS])[LAYERS]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    limit = 0
    with pytest.raises(PipelineError, match="--device cpu"):
        states_of(neox, np.arange(VOCABULARY), Frame((5,)), [LAYERS])


@pytest.mark.parametrize("built_in", [True, False])
def test_a_streamed_teacher_takes_the_fast_number_format_where_it_is_built_in(
    built_in: bool, llama: Teacher, neox: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: built_in)
    streamed = token_states(llama, Frame((5,)), [LAYERS], fast=True)
    assert streamed.computing.dtype == (torch.bfloat16 if built_in else torch.float32)
    exact = states_of(llama, np.arange(9), Frame((5,)), [LAYERS])[LAYERS]
    found = streamed.compute(np.arange(9))[LAYERS]
    np.testing.assert_allclose(found, exact, rtol=0, atol=0.03 * np.abs(exact).max())
    assert f"cpu in {'bfloat16' if built_in else 'float32'}," in str(streamed.plan(np.arange(9)))
    assert token_states(neox, Frame(), [LAYERS], fast=True).computing.dtype == torch.float32


def test_device_and_dtype_are_chosen_for_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == "cpu"
    with pytest.raises(InputError, match="--device cpu"):
        choose_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto") == "cuda"
    assert choose_dtype("auto", "cpu") == torch.float32
    assert choose_dtype("auto", "cuda") == torch.bfloat16
    assert choose_dtype("float16", "cpu") == torch.float16
    with pytest.raises(InputError, match="unknown dtype"):
        choose_dtype("int8", "cpu")
