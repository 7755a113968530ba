"""Find a teacher: a hub id, a local folder, a GGUF file or a packaged name.

Nothing here computes; it says what the teacher is and hands out its tokenizer, configuration
and weights. Only safetensors and GGUF weights are read: a pickle can run code when it is opened.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from safetensors import safe_open
from tokenizers import Tokenizer

from qwen25.runtime.errors import InputError, PipelineError, first_line
from qwen25.runtime.files import read_json, require_regular, sha256
from qwen25.store.download import snapshot
from qwen25.store.hub import lies_here, looks_like_an_id
from qwen25.store.model_files import no_weights
from qwen25.store.packaged import PACKAGED, packaged_path
from qwen25.teacher.check import check_folder, check_heads, sees_only_before
from qwen25.teacher.gguf_header import check_header
from qwen25.teacher.gguf_tokenizer import gguf_tokenizer

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel

DEFAULT_TEACHER = "Qwen/Qwen2.5-1.5B-Instruct"
#: The packaged teacher of the same size.
WITHOUT_HUB = "qwen2.5-coder-1.5b"
#: What transformers' models call the weights of a language-model head.
_HEADS = ("lm_head.weight", "embed_out.weight", "output_layer.weight")
VOCABULARY_FILES = ("vocab*", "*.model")  # of a tokenizer without tokenizer.json


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

        try:
            config = AutoConfig.from_pretrained(self.folder, trust_remote_code=False, **self._gguf_file())
        except Exception as error:  # what a wrong value raises depends on the architecture and the version
            raise InputError(
                f"teacher {self.name}: transformers cannot read its configuration ({first_line(error)}); "
                "it must be whole, and of an architecture that transformers knows without remote code"
            ) from error
        check_heads(self.name, config.get_text_config())
        return config

    @property
    def config(self) -> PretrainedConfig:
        """The text model's configuration.

        :raises InputError: if transformers does not know the architecture, or it contradicts itself.
        """
        return self._whole_config.get_text_config()

    @property
    def is_causal(self) -> bool:
        """Whether a token sees only the tokens before it (a decoder), so that position 0 is a sink.

        :raises InputError: if its configuration does not say.
        """
        if self.gguf is not None:
            return True
        found = sees_only_before(self.config, self._whole_config.architectures)
        if found is None:
            raise InputError(
                f"teacher {self.name}: its config.json names no architecture, and so does not tell a decoder from an "
                'encoder; add it, for instance "architectures": ["Qwen2ForCausalLM"]'
            )
        return found

    @property
    def has_head(self) -> bool:
        """Whether there is a language-model head: weights of its own, or the embeddings' where the two are tied.

        :raises InputError: if the weights cannot be listed.
        """
        if self.gguf or getattr(self.config, "tie_word_embeddings", True):
            return True
        return any(name.endswith(_HEADS) for name in self._tensor_names())

    def _tensor_names(self) -> set[str]:
        """Return the names of all tensors in the safetensors files; of a damaged file none, which its reader names."""
        names = set(self.shards())
        for path in [] if names else self.weight_files:
            with contextlib.suppress(Exception), safe_open(path, framework="pt") as file:
                names.update(file.keys())
        return names

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
            raise no_weights(f"teacher {self.name}", [path.name for path in self.folder.iterdir()])
        return files

    def _check_numbers(self) -> None:
        """Refuse weights that are whole numbers: loaded as if they were none, they would distil to noise."""
        single = self.folder / "model.safetensors"
        files = [single] if single.is_file() else sorted({*self.shards().values()}) or self.weight_files
        for path in files:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118, an open file is no dictionary
                    kind = file.get_slice(name).get_dtype()
                    # Others are buffers, such as the numbers of the positions.
                    if name.endswith((".weight", ".bias")) and not kind.startswith(("F", "BF")):
                        raise no_floats(self.name, name, kind)

    def shards(self) -> dict[str, Path]:
        """Return tensor name -> file as the index says; nothing where one file holds all, or there is no index.

        :raises InputError: if the index is broken, or names what is no weight file of this folder.
        :raises PipelineError: if a file is missing.
        """
        index = self.folder / "model.safetensors.index.json"
        if self.gguf or (self.folder / "model.safetensors").is_file() or not index.is_file():
            return {}
        content = read_json(index)
        names = content.get("weight_map") if isinstance(content, dict) else None
        if not names or not isinstance(names, dict):
            raise InputError(f"teacher {self.name}: {index.name} maps no weights to files; download it again")
        there = {path.name: path for path in self.weight_files}
        for file in names.values():
            if not isinstance(file, str) or Path(file).name != file or not file.endswith(".safetensors"):
                raise InputError(
                    f"teacher {self.name}: {index.name} names {file!r}, which is no .safetensors file of its folder; "
                    "download the teacher again, from its own source"
                )
            if file not in there:
                raise PipelineError(f"teacher {self.name}: {file} is missing; download the teacher again")
        return {name: there[file] for name, file in names.items()}

    @cached_property
    def weights_sha256(self) -> str:
        """The SHA-256 of all weight files in name order.

        :raises PipelineError: if one cannot be read.
        """
        return hash_weights(self.name, self.weight_files)

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
                tokenizer = gguf_tokenizer(self.folder / self.gguf)
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
            raise InputError(f"teacher {self.name} has no usable fast tokenizer: {first_line(error)}") from error
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer

    def _gguf_file(self) -> dict[str, Any]:
        """Return what tells transformers to read a GGUF file, where the teacher is one."""
        if not self.gguf:
            return {}
        import gguf

        if not hasattr(gguf, "__version__"):
            # transformers insists on a version, and under Python 3.10 finds none for a wheel like gguf's,
            # which does not list its top-level modules.
            gguf.__version__ = importlib.metadata.version("gguf")
        return {"gguf_file": self.gguf}

    def load(self, dtype: torch.dtype, with_head: bool = False) -> PreTrainedModel:
        """Load the whole model, with or without its language-model head, in evaluation mode, on the CPU.

        :raises PipelineError: if the weights cannot be loaded, or not all are there.
        """
        import transformers

        kwargs = self._gguf_file() or {"use_safetensors": True}
        kwargs |= {"dtype": dtype, "trust_remote_code": False, "output_loading_info": True}
        kwargs["ignore_mismatched_sizes"] = True  # they are refused below, by their names
        _ = self.weight_files, self.shards()  # refuses with the reason pickles, and files elsewhere
        try:
            if not self.gguf and getattr(self._whole_config, "quantization_config", None) is None:
                self._check_numbers()
            # Loading draws bars of its own on standard error, even into a log.
            with contextlib.redirect_stderr(io.StringIO()):
                # Before transformers 5.3 a GGUF file's weights reach only the model with its head.
                auto = transformers.AutoModelForCausalLM if with_head or self.gguf else transformers.AutoModel
                model, info = auto.from_pretrained(self.folder, **kwargs)
        except InputError:
            raise
        except Exception as error:  # safetensors and transformers have no common base
            raise PipelineError(
                f"teacher {self.name}: its weights cannot be loaded ({first_line(error)}); download it again"
            ) from error
        # transformers makes up what is missing; a pooler is not read, and many encoders have none.
        missing = sorted(name for name in info["missing_keys"] if not name.startswith("pooler."))
        if missing:
            raise PipelineError(f"teacher {self.name}: its weights lack {missing[0]}; download it again")
        for name, found, wanted in sorted(info["mismatched_keys"]):
            raise PipelineError(
                f"teacher {self.name}: {name} is of shape {tuple(found)}, not {tuple(wanted)} as its configuration "
                "says; download it again"
            )
        if self.gguf and not with_head:
            model = model.base_model
        return model.eval()


def hash_weights(teacher: str, files: list[Path]) -> str:
    """Return the SHA-256 of a teacher's weight files, one after another.

    :raises PipelineError: if one cannot be read.
    """
    try:
        return sha256(files)
    except OSError as error:
        name = Path(str(error.filename)).name
        raise PipelineError(
            f"teacher {teacher}: {name} cannot be read ({error.strerror}); download it again"
        ) from error


def no_floats(teacher: str, name: str, kind: object) -> InputError:
    """Return the refusal of a weight of ``teacher`` whose numbers are of ``kind``, which has no fractions."""
    return InputError(f"teacher {teacher}: {name} holds {kind}, no floating-point numbers; take the unquantised model")


def find_teacher(spec: str, revision: str | None = None, offline: bool = False) -> Teacher:
    """Find the teacher that ``spec`` names, downloading it from the hub if it is a hub id.

    :param spec: a packaged name, a local folder, a ``.gguf`` file or a hub id.
    :param revision: a branch, tag or commit; hub ids only.
    :param offline: use only what is on this disk, in the hub's cache or in that of the packaged models.
    :raises InputError: if there is no such teacher.
    :raises PipelineError: if the hub or the package index cannot be reached.
    """
    path = Path(spec).expanduser()
    if spec in PACKAGED:
        teacher = _packaged_teacher(spec, offline)
    elif path.suffix.lower() == ".gguf" and not path.is_dir():
        require_regular(path)
        if not path.is_file():
            raise InputError(f"no such file: {spec}")
        teacher = Teacher(path.name, "gguf", path.parent, gguf=path.name)
    elif path.is_dir():
        for file in path.iterdir():
            require_regular(file)
        teacher = Teacher(path.resolve().name, "folder", path)
        check_folder(path, teacher.name)
    elif lies_here(path) and spec != DEFAULT_TEACHER and revision is None:
        raise InputError(
            f"no teacher {spec!r}: the folder {path.parent} is here and holds no {path.name}; give another, or the "
            "hub's with its --revision"
        )
    elif looks_like_an_id(spec):
        try:
            folder = snapshot(spec, revision, offline)
        except PipelineError as error:
            if spec != DEFAULT_TEACHER or isinstance(error, InputError):
                raise
            raise PipelineError(f"{error}; or take --teacher {WITHOUT_HUB}, which needs no hub") from error
        check_folder(folder, spec)
        return Teacher(spec, "hub", folder, revision=folder.name)  # the cache names the folder after the commit
    else:
        known = ", ".join(sorted(PACKAGED))
        raise InputError(f"no teacher {spec!r}: give a hub id, a folder, a .gguf file or a packaged name ({known})")
    if revision is not None:
        raise InputError(f"--revision is for hub ids; {spec} is none")
    if teacher.gguf:
        check_header(teacher.folder / teacher.gguf)
    return teacher


def _packaged_teacher(name: str, offline: bool) -> Teacher:
    path = packaged_path(name, offline)
    if path.suffix == ".gguf":
        return Teacher(name, "packaged", path.parent, gguf=path.name)
    return Teacher(name, "packaged", path)
