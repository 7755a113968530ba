"""What the teacher writes when nobody asks it anything: its own language, without a corpus.

Sampled text says two things of a teacher: how often it uses each of its tokens, which its merge order
tells only roughly, and what its sentences look like. Counting samples would see few tokens; adding up
the whole predicted distribution at every step sees all of them, with the same expectation.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from qwen25.runtime.display import progress
from qwen25.runtime.errors import InputError, PipelineError
from qwen25.runtime.files import write_bytes
from qwen25.runtime.log import logger
from qwen25.states.batches import not_finite
from qwen25.states.checkpoint import Checkpointing
from qwen25.states.device import Computing
from qwen25.states.plan import LIBRARY_BYTES, Plan, pace, weight_counts
from qwen25.teacher.teacher import Teacher

#: Tokens of each text: long enough to leave its start behind, short enough for many different ones.
TEXT_TOKENS = 32
BATCH = 256
#: Part of a saved batch's key: raise it with any change that can change what is written.
CODE_VERSION = 1
#: How a chat template opens a user's turn: what stands behind it is what users say.
USER_TURNS = ("<|im_start|>user\n", "<|start_header_id|>user<|end_header_id|>\n\n", "<start_of_turn>user\n")


def require_writer(teacher: Teacher) -> None:
    """Refuse, before hours of work, a teacher that cannot write texts.

    :raises InputError: if it is an encoder, or its weights hold no language-model head.
    """
    advice = "use --corpus FILE, or leave out --texts and --sentence-vectors"
    if not teacher.is_causal:
        raise InputError(f"teacher {teacher.name} is an encoder, which writes nothing: {advice}")
    if not teacher.has_head:
        raise InputError(f"teacher {teacher.name} has no language-model head, and so writes nothing: {advice}")


def plan_texts(teacher: Teacher, texts: int, estimate: Plan, dtype: torch.dtype) -> str:
    """Say in one line what it takes the teacher to write texts, as :func:`write_texts` does.

    A written token costs the whole teacher's multiply-adds, output matrix included. Their pace is the one
    timed for the token states, which the small steps of writing do not quite reach: hence "at least".

    :param estimate: the plan of the token states.
    """
    layer, table = weight_counts(teacher)
    weights = teacher.layers * layer + table
    memory = weights * dtype.itemsize + (0 if estimate.device.startswith("cuda") else LIBRARY_BYTES)
    time = "time not estimated"
    if each := pace(teacher, estimate):
        time = f"at least {max(1, round(each * weights * texts * TEXT_TOKENS)):,} s more"
    return (
        f"written texts: {texts:,} of {TEXT_TOKENS} tokens, {estimate.device}, the whole model: "
        f"{time}, {memory / 1e9:.1f} GB of memory"
    )


@dataclass(frozen=True)
class Written:
    """What a teacher wrote.

    :ivar texts: the tokens' ids of each text, shape (texts, TEXT_TOKENS).
    :ivar counts: how often each of the teacher's tokens is expected in them, shape (vocabulary,).
    """

    texts: np.ndarray
    counts: np.ndarray

    def lines(self, teacher: Teacher, count: int) -> list[str]:
        """Return the first ``count`` texts, each on one line."""
        texts = teacher.tokenizer().decode_batch(self.texts[:count].tolist())
        return [" ".join(text.split()) for text in texts]


def write_texts(
    teacher: Teacher,
    count: int,
    *,
    prefix: str = "\n",
    seed: int = 0,
    computing: Computing | None = None,
    checkpointing: Checkpointing | None = None,
) -> Written:
    """Let the teacher write ``count`` texts, sampled at temperature 1.

    Every other batch starts with ``prefix`` and one random token, the others with a user's turn if
    the teacher knows one, so that both its prose and its users' questions are heard.

    :param computing: the device and number format (None: on the CPU, in float32); the batch size is fixed,
        because it decides what is drawn.
    :param checkpointing: where to keep the batches that are done, so that a run that was cut off goes on there.
    :raises InputError: if the teacher is an encoder, or has no language-model head.
    :raises PipelineError: if it does not fit into memory or the disk is full.
    """
    require_writer(teacher)
    computing = computing or Computing()
    starts = list(_starts(teacher, count, prefix, seed))
    tokens = max(teacher.tokenizer().get_vocab().values()) + 1
    key = ""
    files: list[Path | None] = [None] * len(starts)
    if checkpointing is not None:
        key = _key(teacher, starts, tokens, seed, computing)
        files = [checkpointing.folder / f"batch-{i:05d}.safetensors" for i in range(len(starts))]
        if not checkpointing.resume:
            discard_texts(checkpointing.folder)
    done = [_read_batch(file, key) for file in files]
    model = None
    with progress("texts written", count) as advance:
        for i, start in enumerate(starts):
            found = done[i]
            if found is None:
                model = model or _load(teacher, tokens, computing)
                found = _write_batch(teacher.name, model, start, seed + i, tokens)
                _save_batch(files[i], found, key)
                done[i] = found
            advance(len(start))
    batches = [batch for batch in done if batch is not None]
    counts = np.sum([batch.counts for batch in batches], axis=0)
    return Written(np.concatenate([batch.texts for batch in batches]), counts)


def discard_texts(folder: Path) -> None:
    """Remove the batches that ``write_texts`` kept, and their folder if nothing else is in it."""
    for pattern in ("batch-*.safetensors", ".batch-*.tmp"):
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def _starts(teacher: Teacher, count: int, prefix: str, seed: int) -> Iterator[np.ndarray]:
    """Yield the ids that each batch's texts start behind, shape (batch, ids)."""
    tokenizer = teacher.tokenizer()
    added = set(tokenizer.get_added_tokens_decoder())
    ordinary = np.array(sorted({*tokenizer.get_vocab(with_added_tokens=False).values()} - added), dtype=np.int64)
    if not len(ordinary):
        raise InputError(f"teacher {teacher.name}: its tokenizer knows no token but special ones")
    opening = tokenizer.encode(prefix, add_special_tokens=False).ids
    turn = next((t for t in USER_TURNS if tokenizer.token_to_id(t.partition(">")[0] + ">") is not None), None)
    chat = tokenizer.encode(turn, add_special_tokens=False).ids if turn else None
    generator = np.random.default_rng(seed)
    for number, first in enumerate(range(0, count, BATCH)):
        rows = min(BATCH, count - first)
        if chat and number % 2:
            yield np.tile(np.array(chat), (rows, 1))
        else:
            yield np.column_stack([np.tile(opening, (rows, 1)), generator.choice(ordinary, rows)]).astype(np.int64)


def _key(teacher: Teacher, starts: list[np.ndarray], tokens: int, seed: int, computing: Computing) -> str:
    """Return the SHA-256 over everything that determines what is written, but for the machine itself."""
    facts = {
        "code": CODE_VERSION,
        "torch": torch.__version__,
        "transformers": version("transformers"),
        "threads": torch.get_num_threads(),  # see checkpoint.run_key
        "weights": teacher.weights_sha256,
        "config": {name: value for name, value in teacher.config.to_dict().items() if not name.startswith("_")},
        "tokens": tokens,
        "starts": [list(start.shape) for start in starts],
        "seed": seed,
        "steps": TEXT_TOKENS,
        "dtype": str(computing.dtype),
        "device": computing.device.partition(":")[0],
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
    for start in starts:
        digest.update(np.ascontiguousarray(start).tobytes())
    return digest.hexdigest()


def _load(teacher: Teacher, tokens: int, computing: Computing) -> Any:
    """Load the teacher, which must have an embedding of each of its tokens."""
    needed = sum(path.stat().st_size for path in teacher.weight_files)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if teacher.gguf is None and needed > 0.9 * memory and computing.device == "cpu":
        raise PipelineError(
            f"teacher {teacher.name}: its weights ({needed / 1e9:.0f} GB) do not fit into memory "
            f"({memory / 1e9:.0f} GB), so it cannot write: use --corpus FILE, or leave out --texts and "
            "--sentence-vectors"
        )
    model: Any = teacher.load(computing.dtype, with_head=True)
    rows = model.get_input_embeddings().num_embeddings
    if rows < tokens:
        raise InputError(f"teacher {teacher.name}: token {tokens - 1} has no embedding (the table has {rows} rows)")
    return model.to(computing.device)


def _write_batch(teacher: str, model: Any, start: np.ndarray, seed: int, vocabulary: int) -> Written:
    """Sample a batch; counts are the sums of the predicted distributions."""
    from transformers import DynamicCache

    generator = torch.Generator().manual_seed(seed)
    cache = DynamicCache()
    given = torch.from_numpy(start).to(model.device)
    texts = np.empty((len(start), TEXT_TOKENS), dtype=np.int64)
    counts = torch.zeros(vocabulary, dtype=torch.float64)
    try:
        with torch.inference_mode():
            for step in range(TEXT_TOKENS):
                logits = model(given, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1]
                # Rows behind the last token pad the table: they stand for nothing.
                chances = logits[:, :vocabulary].float().softmax(dim=-1).cpu()
                if not torch.isfinite(chances).all():
                    raise not_finite(teacher, "its output matrix", "a text that it writes")
                counts += chances.sum(dim=0, dtype=torch.float64)
                chosen = torch.multinomial(chances, 1, generator=generator)
                texts[:, step] = chosen[:, 0].numpy()
                given = chosen.to(model.device)
    except torch.cuda.OutOfMemoryError as error:
        advice = "use --device cpu or --corpus FILE"
        raise PipelineError(f"the GPU's memory is too small for the teacher to write: {advice}") from error
    return Written(texts, counts.numpy())


def _read_batch(path: Path | None, key: str) -> Written | None:
    if path is None or not path.exists():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            if (file.metadata() or {}).get("key") != key:
                raise ValueError("it is of another teacher, of other settings or of another number of threads")
            return Written(file.get_tensor("texts"), file.get_tensor("counts"))
    except (SafetensorError, OSError, ValueError) as error:
        logger.info("    %s is written anew: %s", path.name, error)
        return None


def _save_batch(path: Path | None, batch: Written, key: str) -> None:
    """Save a batch in one step, so that what is there is whole."""
    if path is not None:
        write_bytes(path, save({"texts": batch.texts, "counts": batch.counts}, metadata={"key": key}))
