"""GGUF files: headers checked, tokenizers equal to the released ones, tensors unpacked as transformers does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import REAL_TOKENIZER, SPECIAL_TOKENS
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from qwen25.distillation.vocabulary import Vocabulary, static_vocabulary
from qwen25.runtime.errors import InputError
from qwen25.store.packaged import PACKAGED, cache_folder, is_complete, packaged_path
from qwen25.teacher.gguf import gguf_tokenizer
from qwen25.teacher.states import token_states
from qwen25.teacher.teacher import find_teacher

#: What a Qwen2.5 file at q4_k_m holds, in places where all four matter.
PACKINGS = {
    "token_embd": "Q8_0",
    "output": "Q6_K",
    "attn_q": "Q4_K",
    "attn_k": "Q5_0",
    "attn_v": "Q6_K",
    "attn_output": "Q4_K",
    "ffn_gate": "Q5_0",
    "ffn_up": "Q8_0",
    "ffn_down": "Q6_K",
}
WIDTH = 256


def packed(kind: str, rows: int, generator: np.random.Generator) -> np.ndarray:
    """Return random packed rows of ``WIDTH`` weights of about the size of a trained model's."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
    from gguf.quants import quantize

    packing = GGMLQuantizationType[kind]
    if kind in ("Q5_0", "Q8_0"):
        return quantize(generator.normal(size=(rows, WIDTH), scale=0.05).astype(np.float32), packing)
    # gguf cannot pack these: any bytes are a block, once its scales are sensible numbers.
    block, size = GGML_QUANT_SIZES[packing]
    blocks = generator.integers(0, 256, (rows * WIDTH // block, size), dtype=np.uint8)
    scales = {"Q4_K": (slice(0, 4), [2e-4, 1e-3]), "Q6_K": (slice(208, 210), [2e-5])}
    where, values = scales[kind]
    blocks[:, where] = np.array(values, dtype=np.float16).view(np.uint8)
    return blocks.reshape(rows, -1)


def write_gguf(path: Path, tokenizer: Tokenizer, pre: str = "qwen2", kind: str = "qwen2", **more: Any) -> Path:
    """Write a model of two layers, each of its matrices packed in one of the four ways, with three unused tokens.

    :param more: ``model``: another kind of tokenizer; ``split``: into so many parts; ``head``: a matrix of its own.
    """
    from gguf import GGMLQuantizationType, GGUFWriter

    generator = np.random.default_rng(0)
    spec, size = json.loads(tokenizer.to_str()), tokenizer.get_vocab_size()
    names = {i: token for token, i in tokenizer.get_vocab(with_added_tokens=True).items()}
    control = {token["id"]: 3 if token["special"] else 4 for token in spec["added_tokens"]}
    rows = size + 3
    writer = GGUFWriter(path, kind)
    if "split" in more:
        writer.add_uint16("split.count", more["split"])
    writer.add_block_count(2)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(WIDTH)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    writer.add_context_length(512)
    writer.add_vocab_size(rows)
    writer.add_string("tokenizer.ggml.model", more.get("model", "gpt2"))
    writer.add_string("tokenizer.ggml.pre", pre)
    writer.add_array("tokenizer.ggml.tokens", [names[i] for i in range(size)] + [f"[PAD{i}]" for i in range(3)])
    writer.add_array("tokenizer.ggml.token_type", [control.get(i, 1) for i in range(size)] + [5] * 3)
    writer.add_array("tokenizer.ggml.merges", [" ".join(merge) for merge in spec["model"]["merges"]])

    def add(name: str, count: int) -> None:
        packing = PACKINGS[name.split(".")[-1]]
        writer.add_tensor(f"{name}.weight", packed(packing, count, generator), raw_dtype=GGMLQuantizationType[packing])

    def add_plain(name: str, count: int, mean: float) -> None:
        writer.add_tensor(name, generator.normal(mean, 0.1, count).astype(np.float32))

    add("token_embd", rows)
    if more.get("head"):
        add("output", rows)
    add_plain("output_norm.weight", WIDTH, 1.0)
    for layer in range(2):
        for name, count in (("attn_q", WIDTH), ("attn_k", WIDTH // 2), ("attn_v", WIDTH // 2)):
            add(f"blk.{layer}.{name}", count)
            if kind == "qwen2":
                add_plain(f"blk.{layer}.{name}.bias", count, 0.0)
        for name in ("attn_output", "ffn_gate", "ffn_up", "ffn_down"):
            add(f"blk.{layer}.{name}", WIDTH)
        for name in ("attn_norm", "ffn_norm"):
            add_plain(f"blk.{layer}.{name}.weight", WIDTH, 1.0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


class TestHeader:
    def test_facts(self, tmp_path: Path, tiny_tokenizer: Tokenizer) -> None:
        for name in ("tiny.gguf", "TINY.GGUF"):
            teacher = find_teacher(str(write_gguf(tmp_path / name, tiny_tokenizer)))
            assert (teacher.name, teacher.origin, teacher.is_causal) == (name, "gguf", True)
            assert (teacher.layers, teacher.hidden_size) == (2, WIDTH)

    def test_what_is_not_read(self, tmp_path: Path, tiny_tokenizer: Tokenizer) -> None:
        with pytest.raises(InputError, match="one of the 3 parts of a split file: join them"):
            find_teacher(str(write_gguf(tmp_path / "part.gguf", tiny_tokenizer, split=3)))
        with pytest.raises(InputError, match=r"tokenizer t5/qwen2 is not supported.* folder with safetensors"):
            find_teacher(str(write_gguf(tmp_path / "t5.gguf", tiny_tokenizer, model="t5"))).tokenizer()
        with pytest.raises(InputError, match="from-the-future is not supported"):
            find_teacher(str(write_gguf(tmp_path / "new.gguf", tiny_tokenizer, "from-the-future"))).tokenizer()
        with pytest.raises(InputError, match="No such file"):
            find_teacher("nowhere/model.gguf")

    def test_a_damaged_file(self, tmp_path: Path, tiny_tokenizer: Tokenizer) -> None:
        whole = write_gguf(tmp_path / "whole.gguf", tiny_tokenizer).read_bytes()
        for content in (b"", b"PK" + whole[2:], whole[:24], whole[: len(whole) - 1000]):
            (tmp_path / "tiny.gguf").write_bytes(content)
            with pytest.raises(InputError, match=r"^tiny\.gguf is damaged \(.*\): fetch it again$"):
                find_teacher(str(tmp_path / "tiny.gguf"))


#: Of all scripts, composed and decomposed, with code, emoji, digits and white space.
PIECES = st.sampled_from(
    ["x ** 2", "\t\tif a == b && c:", "# don't, we'LL", "0x1F", "\r\n", "\n\n\n", "  ", "e\u0301", "🎬"]
)
TEXTS = st.lists(st.one_of(PIECES, st.text(max_size=12)), max_size=6).map("".join)


def assert_equal(static: Tokenizer, teacher: Tokenizer, text: str) -> None:
    """Check it of a text without control tokens."""
    if not any(token in text for token in SPECIAL_TOKENS):
        assert static.encode(text).tokens == teacher.encode(" " * bool(text) + text, add_special_tokens=False).tokens


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: Tokenizer) -> Vocabulary:
    return static_vocabulary(gguf_tokenizer(write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", tiny_tokenizer)))


@pytest.fixture(scope="module")
def real() -> tuple[Vocabulary, Tokenizer]:
    name = "qwen2.5-coder-0.5b"
    if not (REAL_TOKENIZER.exists() and is_complete(cache_folder() / name, PACKAGED[name])):
        pytest.skip(f"{name} is not in the cache (a run with --teacher {name} fetches it), or its tokenizer not beside")
    return static_vocabulary(gguf_tokenizer(packaged_path(name))), Tokenizer.from_file(str(REAL_TOKENIZER))


class TestTokenizer:
    @given(text=TEXTS)
    @settings(max_examples=300, deadline=None)
    def test_a_tiny_qwen_tokenizer(self, tiny: Vocabulary, tiny_tokenizer: Tokenizer, text: str) -> None:
        """Composed form, control tokens and unused ones: all that the header does not say in so many words."""
        assert_equal(tiny.tokenizer, tiny_tokenizer, text)
        assert len(tiny.teacher_ids) == tiny_tokenizer.get_vocab_size() - len(SPECIAL_TOKENS) and tiny.added == {}

    def test_words_that_are_tokens_are_taken_whole_by_llama(self, tmp_path: Path, tiny_tokenizer: Tokenizer) -> None:
        """Llama 3 has tokens to which no merges lead; other tokenizers split them."""
        spec = json.loads(tiny_tokenizer.to_str())
        spec["model"]["vocab"]["Ġzzyzzy"] = len(spec["model"]["vocab"])
        spec["added_tokens"] = []
        orphan = Tokenizer.from_str(json.dumps(spec))
        llama, qwen = (
            gguf_tokenizer(write_gguf(tmp_path / f"{pre}.gguf", orphan, pre)).encode("a zzyzzy").tokens
            for pre in ("llama-bpe", "qwen2")
        )
        assert llama == ["a", "Ġzzyzzy"] and len(qwen) > 2

    def test_user_defined_tokens_are_added_words(self, tmp_path: Path, tiny_tokenizer: Tokenizer) -> None:
        more = Tokenizer.from_str(tiny_tokenizer.to_str())
        more.add_tokens(["kubernetes", "<tool_call>"])
        teacher = gguf_tokenizer(write_gguf(tmp_path / "tiny.gguf", more))
        assert teacher.encode("a kubernetes<tool_call>").tokens[-2:] == ["kubernetes", "<tool_call>"]
        assert static_vocabulary(teacher).added == {"kubernetes": more.token_to_id("kubernetes")}

    @pytest.mark.slow
    @given(text=TEXTS)
    @settings(max_examples=500, deadline=None)
    def test_the_real_qwen_tokenizer(self, real: tuple[Vocabulary, Tokenizer], text: str) -> None:
        static, teacher = real
        assert len(static.teacher_ids) == 151_643 and static.added == {}
        assert_equal(static.tokenizer, teacher, text)


class TestTensors:
    @pytest.mark.parametrize("kind", ["qwen2", "llama"])
    def test_every_packing_is_unpacked_as_transformers_does(
        self, kind: str, tmp_path: Path, tiny_tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        teacher = find_teacher(str(write_gguf(tmp_path / "tiny.gguf", tiny_tokenizer, kind=kind)))
        ids, layers = np.arange(300, 340), [0, 1, 2]
        found = token_states(teacher, ids, layers, prefix="\n")
        with monkeypatch.context() as patch:
            patch.setattr("qwen25.teacher.teacher.ARCHITECTURES", ())  # then transformers loads it
            model, rare = teacher.load(torch.float32), token_states(teacher, ids, layers, prefix="\n")
        before = teacher.tokenizer().encode("\n").ids
        with torch.inference_mode():
            states = model(torch.tensor([[*before, int(i)] for i in ids]), output_hidden_states=True).hidden_states
        for layer in layers:
            whole = states[layer][:, -1].numpy()
            np.testing.assert_allclose(found[layer], whole, atol=1e-5 * float(np.abs(whole).max()))
            np.testing.assert_array_equal(rare[layer], found[layer])

    def test_the_head_is_the_table_or_a_matrix_of_its_own(self, tmp_path: Path, tiny_tokenizer: Tokenizer) -> None:
        for own in (False, True):
            path = write_gguf(tmp_path / f"{own}.gguf", tiny_tokenizer, head=own)
            with torch.inference_mode():
                model: Any = find_teacher(str(path)).load(torch.bfloat16, with_head=True)
            assert not model.lm_head.weight.is_inference()  # products of batches would copy it for each text
            assert torch.equal(model.lm_head.weight, model.get_input_embeddings().weight) is not own
            assert model.lm_head.weight.dtype == torch.bfloat16
            assert torch.isfinite(model(torch.tensor([[300, 301]])).logits).all()
