"""A static model -> ``onnx/model.onnx`` and the tokenizer files that fastembed and transformers.js read.

Inputs and outputs are those of an exported transformer: ``input_ids`` and ``attention_mask`` of padded texts, shape
(texts, tokens); ``last_hidden_state``, one vector a token, and ``sentence_embedding``, one a text. The table keeps its
number format and only the rows of the texts become float32, so the file is as large as the model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from model2vec import StaticModel
from tokenizers import Tokenizer

from qwen25.runtime.console import extras_command
from qwen25.runtime.errors import InputError
from qwen25.runtime.files import json_text, write_files
from qwen25.store.static_model import NO_LIMIT, load_model

ONNX_FILE = "onnx/model.onnx"
TOKENIZER_FILES = ("tokenizer_config.json", "special_tokens_map.json")
#: Everything that ``write_onnx`` writes.
ONNX_FILES = (ONNX_FILE, *TOKENIZER_FILES)

#: Fixed, so that a newer onnx library writes the same bytes. ReduceL2 takes its axes as an input since 18.
OPSET, IR_VERSION = 18, 9
#: Added to a vector's length, as model2vec does: an empty text keeps its zero vector.
TINY = 1e-32


def require_onnx() -> None:
    """Check that the onnx library is installed; raises InputError if it is not."""
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise InputError("--onnx needs the onnx library", extras_command("onnx")) from error


def write_onnx(model: Path, folder: Path) -> None:
    """Write the ONNX file and the tokenizer files of the static model in ``model`` into ``folder``, atomically.

    :raises InputError: if ``model`` does not load, or onnx is not installed.
    :raises PipelineError: if a file cannot be written.
    """
    static = load_model(model)
    unknown = None if static.unk_token_id is None else static.tokenizer.id_to_token(static.unk_token_id)
    special = {"unk_token": unknown} if unknown else {}
    # tokenizer.json says how texts are segmented; this says that it does so alone, without adding a token.
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": static.max_length or NO_LIMIT,
        "pad_token": pad_token(static.tokenizer),
        "clean_up_tokenization_spaces": False,
        **special,
    }
    files: dict[Path, bytes | str] = {
        folder / "special_tokens_map.json": json_text(special),
        folder / "tokenizer_config.json": json_text(config),
        folder / ONNX_FILE: onnx_model(static).SerializeToString(deterministic=True),
    }
    write_files(files)


def pad_token(tokenizer: Tokenizer) -> str:
    """Return the token that fills up short texts; any will do, as the mask takes it out of every sum.

    Python's transformers cuts texts at it, so it is one that no text is likely to hold as the vocabulary spells it.
    """
    return max(tokenizer.get_vocab(with_added_tokens=False), key=lambda token: (not token.isascii(), len(token), token))


def onnx_model(model: StaticModel) -> Any:
    """Return the model's vectors, of length 1, as an ONNX graph (``onnx.ModelProto``)."""
    require_onnx()
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    table = np.ascontiguousarray(model.embedding)
    constants = {
        "table": table,
        "tokens": np.array([1], np.int64),
        "dims": np.array([2], np.int64),
        "one": np.array(1, np.float32),
    }
    # The factors of a token's vector, and what it counts for in the mean: model2vec leaves the unknown token out.
    rows, factors, counts = "input_ids", "is_token", "is_token"
    steps = [("Cast", ["attention_mask"], "is_token")]
    if model.unk_token_id is not None:
        constants["unknown"] = np.array(model.unk_token_id, np.int64)
        steps += [("Equal", ["input_ids", "unknown"], "is_unknown"), ("Not", ["is_unknown"], "is_known")]
        steps += [("Cast", ["is_known"], "known"), ("Mul", ["is_token", "known"], "counted")]
        factors = counts = "counted"
    if model.weights is not None:
        constants["weights"] = model.weights.astype(np.float32)
        steps += [("Gather", ["weights", "input_ids"], "token_weights"), ("Mul", ["token_weights", factors], "factors")]
        factors = "factors"
    if model.token_mapping is not None:
        constants["row_of"] = model.token_mapping.astype(np.int32)
        rows = "rows"
        steps.append(("Gather", ["row_of", "input_ids"], rows))
    constants["tiny"] = np.array(TINY, np.float32)
    steps += [
        ("Gather", ["table", rows], "stored"),
        ("Cast", ["stored"], "vectors"),
        ("Unsqueeze", [factors, "dims"], "column"),
        ("Mul", ["vectors", "column"], "last_hidden_state"),
        ("ReduceSum", ["last_hidden_state", "tokens"], "sums"),
        ("Squeeze", ["sums", "tokens"], "sum"),
        ("ReduceSum", [counts, "tokens"], "count"),
        ("Max", ["count", "one"], "divisor"),
        ("Div", ["sum", "divisor"], "mean"),
        ("ReduceL2", ["mean", "tokens"], "length"),
        ("Add", ["length", "tiny"], "scale"),
        ("Div", ["mean", "scale"], "sentence_embedding"),
    ]
    to_float: dict[str, Any] = {"to": TensorProto.FLOAT}
    nodes = [
        helper.make_node(kind, inputs, [out], **(to_float if kind == "Cast" else {})) for kind, inputs, out in steps
    ]
    texts = ["texts", "length"]
    inputs = [helper.make_tensor_value_info(n, TensorProto.INT64, texts) for n in ("input_ids", "attention_mask")]
    outputs = [
        helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, [*texts, table.shape[1]]),
        helper.make_tensor_value_info("sentence_embedding", TensorProto.FLOAT, ["texts", table.shape[1]]),
    ]
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "static_embeddings", inputs, outputs, initializers)
    opsets = [helper.make_opsetid("", OPSET)]
    made = helper.make_model(graph, producer_name="qwen25", ir_version=IR_VERSION, opset_imports=opsets)
    onnx.checker.check_model(made)
    return made
