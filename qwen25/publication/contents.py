"""The files of a publication."""

from __future__ import annotations

from qwen25.store.onnx_export import ONNX_FILES
from qwen25.store.static_model import FLOAT16_COPY

MODEL_FILES = ("model.safetensors", "tokenizer.json", "config.json", "metadata.json")
#: What sentence-transformers reads besides; a model of int8 has a copy for it, or cannot be loaded by it.
MODULES, NORMALIZE = "modules.json", "1_Normalize/config.json"
COPY_FILES = (f"{FLOAT16_COPY}/model.safetensors", f"{FLOAT16_COPY}/tokenizer.json")
CARD, BENCHMARKS = "README.md", "BENCHMARKS.md"
EXAMPLES = ("instruction_awareness_demo.py", "real_world_use_cases.py")
#: What a rendered folder holds, and nothing else.
PARTS = {*MODEL_FILES, MODULES, "1_Normalize", NORMALIZE, FLOAT16_COPY, *COPY_FILES}
PARTS |= {CARD, BENCHMARKS, "evaluation.png", "comparison.png"}
PARTS |= {"onnx", *ONNX_FILES, "examples", *(f"examples/{name}" for name in EXAMPLES)}
#: What is wrong, and what to do, where a result file lacks something or holds it in another form.
OTHER_VERSION = ("the result files are not those of this version", "run phases 1 to 3 again")
