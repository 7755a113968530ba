"""The README.md of a model's folder, whose template the published card extends."""

from __future__ import annotations

from typing import Any

from qwen25.runtime.markdown import Markdown, render_template
from qwen25.runtime.wording import size_text
from qwen25.store.hub import looks_like_an_id
from qwen25.store.packaged import licence_of
from qwen25.store.static_model import FLOAT16_COPY

TAGS = ("sentence-transformers", "model2vec", "embeddings", "static-embeddings")


def model_card(metadata: dict[str, Any]) -> str:
    """Render the README.md of a folder that was distilled just now: it has no scores yet.

    :param metadata: what ``metadata.json`` holds.
    """
    facts = card_facts(metadata, metadata["sizes_bytes"])
    return render_template(
        "model.md", header=card_header(metadata), name=metadata["name"], repo="path/to/this/folder", **facts
    )


def card_facts(metadata: dict[str, Any], sizes: dict[str, int]) -> dict[str, Any]:
    """Return what ``model.md`` says of the model itself.

    :param sizes: the folder's files and their sizes in bytes.
    """
    copy = f"{FLOAT16_COPY}/model.safetensors"
    return {
        "metadata": metadata,
        "files": {name: size_text(size) for name, size in sizes.items()},
        "copy_of_vectors": copy if copy in sizes else None,
    }


def card_header(metadata: dict[str, Any], tags: tuple[str, ...] = (), **fields: Any) -> Markdown:
    """Return a card's YAML header, made by the hub's own library.

    :param tags: more than every static model has.
    :param fields: more of ``ModelCardData``'s.
    """
    from huggingface_hub import ModelCardData

    teacher = metadata["teacher"]
    data = ModelCardData(
        license=licence_of(teacher["name"]),
        library_name="model2vec",
        tags=[*TAGS, *tags],
        base_model=teacher["name"] if teacher["origin"] == "hub" and looks_like_an_id(teacher["name"]) else None,
        **fields,
    )
    return Markdown(f"---\n{data.to_yaml()}\n---\n")
