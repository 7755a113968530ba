"""A static model -> ``onnx/model.onnx`` and the tokenizer files that transformers.js reads.

Inputs and output are those of exported static embeddings: ``input_ids``, the token ids of all texts one
behind another, and ``offsets``, where each text starts; ``embeddings`` is one vector a text. The table
stays in the type it has on disk and only the rows of a text are turned into float32, so the file is as
large as the model. Texts are not cut, whatever their length; model2vec's own exporter cuts at 512 tokens.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from model2vec import StaticModel

from qwen25.runtime.errors import InputError
from qwen25.runtime.files import json_text, write_files
from qwen25.runtime.invocation import extras_command
from qwen25.store.static_model import load_model

ONNX_FILE = "onnx/model.onnx"
TOKENIZER_FILES = ("tokenizer_config.json", "special_tokens_map.json")
#: Everything that ``write_onnx`` writes.
ONNX_FILES = (ONNX_FILE, *TOKENIZER_FILES)

#: Of the format: fixed, so that a newer onnx library writes the same bytes. ReduceL2 takes its axes so since 18.
OPSET, IR_VERSION = 18, 9
#: One protobuf message holds the file, and holds no more.
MAX_BYTES = 2_000_000_000
#: As model2vec does: it is added to a vector's length, so that an empty text keeps its zero vector.
TINY = 1e-32
NO_LIMIT = 1_000_000


def require_onnx() -> None:
    """Refuse before any work what would fail after it.

    :raises InputError: if the onnx library is not installed.
    """
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise InputError("--onnx needs the onnx library", extras_command("onnx")) from error


def write_onnx(model: Path, folder: Path) -> None:
    """Write the ONNX file and the tokenizer files of the static model in ``model`` into ``folder``, atomically.

    :raises InputError: if ``model`` does not load, its table is too large for one file, or onnx is not installed.
    :raises PipelineError: if a file cannot be written.
    """
    static = load_model(model)
    config, special = tokenizer_files(static)
    graph = onnx_model(static).SerializeToString(deterministic=True)
    contents = {
        folder / "special_tokens_map.json": json_text(special),
        folder / "tokenizer_config.json": json_text(config),
    }
    write_files({**contents, folder / ONNX_FILE: graph})


def tokenizer_files(model: StaticModel) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what stands in ``tokenizer_config.json`` and ``special_tokens_map.json``.

    ``tokenizer.json`` says how texts are segmented; these say that it does so alone, without adding a token.
    """
    unknown = None if model.unk_token_id is None else model.tokenizer.id_to_token(model.unk_token_id)
    special = {"unk_token": unknown} if unknown else {}
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": model.max_length or NO_LIMIT,
        "clean_up_tokenization_spaces": False,
        **special,
    }
    return config, special


def onnx_model(model: StaticModel) -> Any:
    """Return the model's vectors as an ONNX graph (``onnx.ModelProto``).

    :raises InputError: if its table is too large for one file, or onnx is not installed.
    """
    require_onnx()
    import onnx
    from onnx import helper, numpy_helper
    from onnx.helper import make_node, make_tensor_value_info

    table = np.ascontiguousarray(model.embedding)
    if table.nbytes > MAX_BYTES:
        raise InputError(
            f"a table of {table.nbytes / 1e6:,.0f} MB does not fit into one ONNX file "
            f"({MAX_BYTES / 1e6:,.0f} MB): use --storage float16 or int8, or fewer --dims"
        )
    floats, whole = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
    loop, constants = _mean_of_a_text(model)
    constants |= {
        "table": table,
        "zero": np.array([0], np.int64),
        "one": np.array([1], np.int64),
        "far": np.array([np.iinfo(np.int64).max], np.int64),
    }
    nodes = [
        make_node("Slice", ["offsets", "one", "far"], ["next_offsets"]),
        make_node("Shape", ["input_ids"], ["all_tokens"]),
        make_node("Concat", ["next_offsets", "all_tokens"], ["ends"], axis=0),
        make_node("Size", ["offsets"], ["texts"]),
        make_node("Loop", ["texts", ""], ["means" if model.normalize else "embeddings"], body=loop),
    ]
    if model.normalize:
        constants["tiny"] = np.array(TINY, np.float32)
        nodes += [
            make_node("ReduceL2", ["means", "one"], ["lengths"], keepdims=1),
            make_node("Add", ["lengths", "tiny"], ["scales"]),
            make_node("Div", ["means", "scales"], ["embeddings"]),
        ]
    inputs = [
        make_tensor_value_info("input_ids", whole, ["tokens"]),
        make_tensor_value_info("offsets", whole, ["texts"]),
    ]
    output = make_tensor_value_info("embeddings", floats, ["texts", table.shape[1]])
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "static_embeddings", inputs, [output], initializers)
    opsets = [helper.make_opsetid("", OPSET)]
    made = helper.make_model(graph, producer_name="qwen25", ir_version=IR_VERSION, opset_imports=opsets)
    onnx.checker.check_model(made)
    return made


def _mean_of_a_text(model: StaticModel) -> tuple[Any, dict[str, np.ndarray]]:
    """Return the graph that is run for each text, and the constants that it needs.

    It gathers the text's rows, weighs them and takes their mean, so that memory is that of the longest text.
    What model2vec leaves out of the mean, the unknown token, is left out here too.
    """
    from onnx import TensorProto
    from onnx.helper import make_graph, make_node, make_tensor_value_info

    constants = {"at_least": np.array(1, np.float32)}
    nodes = [
        make_node("Gather", ["offsets", "text"], ["start"]),
        make_node("Gather", ["ends", "text"], ["end"]),
        make_node("Unsqueeze", ["start", "zero"], ["from"]),
        make_node("Unsqueeze", ["end", "zero"], ["to"]),
        make_node("Slice", ["input_ids", "from", "to"], ["all_ids"]),
    ]
    ids = "all_ids"
    if model.unk_token_id is not None:
        constants["unknown"] = np.array(model.unk_token_id, np.int64)
        nodes += [
            make_node("Equal", [ids, "unknown"], ["is_unknown"]),
            make_node("Not", ["is_unknown"], ["is_known"]),
            make_node("Compress", [ids, "is_known"], ["known_ids"], axis=0),
        ]
        ids = "known_ids"
    row_ids = ids
    if model.token_mapping is not None:
        constants["mapping"] = model.token_mapping.astype(np.int64)
        row_ids = "row_ids"
        nodes.append(make_node("Gather", ["mapping", ids], [row_ids]))
    nodes += [
        make_node("Gather", ["table", row_ids], ["rows"]),
        make_node("Cast", ["rows"], ["vectors"], to=TensorProto.FLOAT),
    ]
    vectors = "vectors"
    if model.weights is not None:
        constants["weights"] = model.weights.astype(np.float32)
        nodes += [
            make_node("Gather", ["weights", ids], ["row_weights"]),
            make_node("Unsqueeze", ["row_weights", "one"], ["column"]),
            make_node("Mul", [vectors, "column"], ["weighted"]),
        ]
        vectors = "weighted"
    nodes += [
        make_node("ReduceSum", [vectors, "zero"], ["sum"], keepdims=0),
        make_node("Size", [ids], ["tokens"]),
        make_node("Cast", ["tokens"], ["count"], to=TensorProto.FLOAT),
        make_node("Max", ["count", "at_least"], ["divisor"]),
        make_node("Div", ["sum", "divisor"], ["mean"]),
        make_node("Identity", ["go_on"], ["still"]),
    ]
    inputs = [
        make_tensor_value_info("text", TensorProto.INT64, []),
        make_tensor_value_info("go_on", TensorProto.BOOL, []),
    ]
    outputs = [
        make_tensor_value_info("still", TensorProto.BOOL, []),
        make_tensor_value_info("mean", TensorProto.FLOAT, [model.dim]),
    ]
    return make_graph(nodes, "mean_of_a_text", inputs, outputs), constants
