"""MTEB's tasks, run on an encoder: which tasks a name means, and each one's score or why it has none.

Data, metrics and the cache of results are mteb's own. What is added here is that the cache knows a model
by all that decides its vectors, that a task which fails costs the others nothing, and that a missing
network is found out in seconds.
"""

from __future__ import annotations

import difflib
import hashlib
import io
import logging
import math
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stderr
from pathlib import Path
from typing import Any

import numpy as np

from qwen25.evaluation.encoder import Encoder
from qwen25.runtime.errors import InputError, PipelineError, first_line, redact
from qwen25.runtime.files import sha256
from qwen25.runtime.invocation import extras_command
from qwen25.store.model_files import CONFIGURATION, files_in

BENCHMARKS = {"english-v2": "MTEB(eng, v2)", "multilingual": "MTEB(Multilingual, v2)"}
#: Tasks of english-v2, so that its run finds their results: every type, and no data that takes long.
QUICK = (
    "Banking77Classification",
    "TweetSentimentExtractionClassification",
    "StackExchangeClustering.v2",
    "TwentyNewsgroupsClustering.v2",
    "TwitterSemEval2015",
    "AskUbuntuDupQuestions",
    "ArguAna",
    "SCIDOCS",
    "BIOSSES",
    "STS12",
    "STSBenchmark",
    "SummEvalSummarization.v2",
)
#: Why there is no network.
FORBIDDEN = ("--offline was given", "HF_HUB_OFFLINE is set")
NO_ANSWER = "the hub does not answer"
HUB_SECONDS = 5.0
#: What mteb asks of a model beyond its vectors, and a folder does not say.
UNKNOWN_TO_MTEB = (
    "loader",
    "release_date",
    "languages",
    "n_parameters",
    "memory_usage_mb",
    "max_tokens",
    "license",
    "open_weights",
    "public_training_code",
    "public_training_data",
    "use_instructions",
    "training_datasets",
)
#: A task's row of the result.
Row = dict[str, Any]


@contextmanager
def quiet_mteb() -> Iterator[None]:
    """Hold back the log and the warnings of mteb and its libraries.

    :raises InputError: if mteb is not installed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import mteb  # noqa: F401 - warns when it is imported
        except ImportError as error:
            raise InputError(f"mteb is not installed ({error})", extras_command("mteb")) from error
        for library in ("mteb", "datasets", "huggingface_hub", "sentence_transformers"):
            logging.getLogger(library).setLevel(logging.ERROR)
        yield


def _no_bars_in_logs() -> AbstractContextManager[Any]:
    """Let the libraries draw their bars on a terminal only; not all of them can be told to draw none."""
    return nullcontext() if sys.stderr.isatty() else redirect_stderr(io.StringIO())


def go_offline(is_asked_for: bool) -> str | None:
    """Forbid the network for the rest of the run if it is not to be used or of no use; return why.

    The hub is asked for nothing but an answer, and once: downloads from one that is silent retry for minutes.
    """
    import datasets
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session  # type: ignore[attr-defined]

    if is_asked_for:
        reason = FORBIDDEN[0]
    elif constants.HF_HUB_OFFLINE:
        reason = FORBIDDEN[1]
    else:
        try:
            get_session().head(constants.ENDPOINT, timeout=HUB_SECONDS)
        except Exception:  # the HTTP client's, and which client it is depends on the hub client's version
            reason = NO_ANSWER
        else:
            return None
    # Both libraries read their variables when they are imported, and only then.
    constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    return reason


def tasks_named(names: Sequence[str]) -> list[Any]:
    """Return mteb's tasks of these names and sets, each once.

    :raises InputError: for a name that is no task of texts.
    """
    import mteb
    from mteb.get_tasks import TASK_LIST

    known = {name.lower(): name for name in ("quick", *BENCHMARKS, *(task.metadata.name for task in TASK_LIST))}
    found: dict[str, Any] = {}
    for name in names:
        if name == "quick":
            tasks = [t for t in mteb.get_benchmark(BENCHMARKS["english-v2"]).tasks if t.metadata.name in QUICK]
        elif name in BENCHMARKS:
            tasks = mteb.get_benchmark(BENCHMARKS[name]).tasks
        elif name in known.values():
            tasks = [mteb.get_task(name)]
        else:
            near = [known[match] for match in difflib.get_close_matches(name.lower(), known)]
            raise InputError(f"mteb has no task {name}" + (f": did you mean {' or '.join(near)}?" if near else ""))
        for task in tasks:
            if list(task.modalities) != ["text"]:
                raise InputError(f"{task.metadata.name} is not about texts alone: leave it out")
            found.setdefault(task.metadata.name, task)
    return list(found.values())


def fingerprint(encoder: Encoder, folder: Path | None = None) -> str:
    """Return a hash of what decides the encoder's vectors: its weights and what tells how they are used.

    That is the tokenizer of a static model; of another one, the configuration in its ``folder``.
    """
    digest = hashlib.sha256((encoder.sha256 or "").encode())
    if (static := encoder.static) is not None:
        digest.update(repr((static.tokenizer.to_str(), static.normalize, static.max_length)).encode())
    elif folder is not None:
        for path in files_in(folder, CONFIGURATION):
            digest.update(f"{path.relative_to(folder)} {sha256([path])}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def as_mteb_model(encoder: Encoder, folder: Path | None = None) -> Any:
    """Wrap ``encoder`` as mteb wants a model: its vectors have length 1, its revision is the fingerprint.

    :param folder: where it lies; None if it comes from elsewhere.
    :raises InputError: if it does not give one vector a text.
    """
    from mteb.models import ModelMeta
    from mteb.models.abs_encoder import AbsEncoder

    encode = encoder.encode
    meta = ModelMeta(
        name=f"local/{encoder.name}",
        revision=fingerprint(encoder, folder),
        embed_dim=encoder.dims,
        framework=[],
        similarity_fn_name="cosine",
        **dict.fromkeys(UNKNOWN_TO_MTEB),
    )

    class Model(AbsEncoder):
        mteb_model_meta = meta

        def encode(self, inputs: Any, **_: Any) -> np.ndarray:
            vectors = np.asarray(encode([text for batch in inputs for text in batch["text"]]), dtype=np.float32)
            norms = np.linalg.norm(vectors, axis=1, keepdims=True)
            return vectors / np.where(norms == 0, 1, norms)  # a text without tokens stays zero

    return Model()


def measure(
    model: Any, task: Any, cache: Path, *, overwrite: bool = False, offline: str | None = None, debug: bool = False
) -> Row:
    """Return one task's score, or in ``failed`` why it has none: in which step, for which reason.

    :param model: see ``as_mteb_model``.
    :param cache: folder of finished tasks' results: used, unless to ``overwrite``, and added to.
    :param offline: why there is no network; see ``go_offline``.
    :param debug: print the traceback of what fails.
    """
    about = task.metadata
    row = {
        "name": about.name,
        "type": about.type,
        "languages": sorted(task.languages),
        "metric": about.main_score,
        "dataset": {"path": about.dataset["path"], "revision": about.revision},
    }
    try:
        with _no_bars_in_logs():
            result = _result(model, task, cache, overwrite)
        score = 100 * float(result.get_score())
    except Exception as error:  # any library lies behind a task
        if debug:
            print(redact(traceback.format_exc()), file=sys.stderr)
        step = "evaluation" if task.data_loaded else "data"
        is_not_here = step == "data" and isinstance(error, (ConnectionError, FileNotFoundError))
        reason = offline if offline and is_not_here else redact(first_line(error))
        return row | {"failed": {"step": step, "reason": reason}}
    finally:
        if task.data_loaded:
            task.unload_data()
    if not math.isfinite(score):
        return row | {"failed": {"step": "evaluation", "reason": "its score is no finite number"}}
    seconds = result.evaluation_time  # an aggregate's can be missing or NaN
    seconds = round(seconds, 3) if seconds is not None and math.isfinite(seconds) else None
    return row | {"score": round(score, 4), "evaluation_seconds": seconds, "mteb_version": result.mteb_version}


def _result(model: Any, task: Any, folder: Path, overwrite: bool) -> Any:
    """Return mteb's result of a task, computed or from the cache."""
    import mteb
    from mteb.cache import ResultCache

    cache = ResultCache(folder)
    try:
        kept = None if overwrite else cache.load_task_result(task.metadata.name, model.mteb_model_meta)
    except Exception:  # a run was cut off while it wrote this file
        kept = None
    # mteb itself would take a whole result on an earlier revision of the data for one on today's.
    is_of_these_data = kept is not None and kept.dataset_revision == task.metadata.revision
    outcome = mteb.evaluate(
        model,
        task,
        cache=cache,
        overwrite_strategy="only-missing" if is_of_these_data else "always",
        encode_kwargs={"batch_size": 512, "show_progress_bar": False},
        show_progress_bar=False,
        co2_tracker=False,
    )
    if not outcome.task_results:  # data behind a login: reported, not raised
        raise PipelineError(outcome.exceptions[0].exception)
    # What is kept may hold more languages than this task is about now.
    return outcome.task_results[0].validate_and_filter_scores(task)
