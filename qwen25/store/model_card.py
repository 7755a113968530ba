"""The README.md of a model's folder, whose template the published card extends."""

from __future__ import annotations

from typing import Any

from qwen25.runtime.markdown import Markdown, render_template
from qwen25.runtime.wording import size_text
from qwen25.store.hub import looks_like_an_id
from qwen25.store.packaged import PACKAGED, licence_of
from qwen25.store.static_model import FLOAT16_COPY

TAGS = ("sentence-transformers", "model2vec", "embeddings", "static-embeddings")


def model_card(metadata: dict[str, Any]) -> str:
    """Render the README.md of a folder that was distilled just now: it has no scores yet.

    :param metadata: what ``metadata.json`` holds.
    """
    facts = card_facts(metadata, metadata["sizes_bytes"])
    return render_template(
        "model.md", header=card_header(metadata), name=metadata["name"], place="path/to/this/folder", **facts
    )


def card_facts(metadata: dict[str, Any], sizes: dict[str, int]) -> dict[str, Any]:
    """Return what ``model.md`` says of the model itself.

    :param sizes: the folder's files and their sizes in bytes.
    """
    copy = f"{FLOAT16_COPY}/model.safetensors"
    return {
        "metadata": metadata,
        "training_rows": training_rows(metadata),
        "files": {name: size_text(size) for name, size in sizes.items()},
        "copy_of_vectors": copy if copy in sizes else None,
    }


def card_header(metadata: dict[str, Any], tags: tuple[str, ...] = (), **fields: Any) -> Markdown:
    """Return a card's YAML header, made by the hub's own library.

    :param tags: more than every static model has.
    :param fields: more of ``ModelCardData``'s.
    """
    from huggingface_hub import ModelCardData

    data = ModelCardData(
        license=licence_of(metadata["teacher"]["name"]),
        library_name="model2vec",
        tags=[*TAGS, *tags],
        base_model=base_model(metadata["teacher"]),
        datasets=_hub_sets(metadata) or None,
        **fields,
    )
    return Markdown(f"---\n{data.to_yaml()}\n---\n")


def base_model(teacher: dict[str, Any]) -> str | None:
    """Return the hub repository that a teacher of the metadata has, if it has one."""
    name, origin = teacher["name"], teacher["origin"]
    if origin == "packaged" and name in PACKAGED:
        return PACKAGED[name].repository or None
    return name if origin == "hub" and looks_like_an_id(name) else None


def training_rows(metadata: dict[str, Any]) -> list[list[str]]:
    """Return one row a set of pairs that the model was trained on: name, pairs, languages, source, licence."""
    return [
        [
            found["name"],
            f"{found['rows']:,}",
            _languages_text(found["languages"]),
            found["source"].removeprefix("hub:"),
            found.get("licence") or "not stated",
        ]
        for found in _sets(metadata)
    ]


def _languages_text(languages: list[str]) -> str:
    """Render the languages of a set; of many pairs with one language, such as en-de and en-fr, that one once."""
    first, partners = [code.partition("-")[0] for code in languages], [code.partition("-")[2] for code in languages]
    if len(languages) > 1 and len(set(first)) == 1 and all(partners):
        return f"{first[0]} with {', '.join(partners)}"
    return ", ".join(languages) or "not stated"


def _hub_sets(metadata: dict[str, Any]) -> list[str]:
    """Return the hub's data sets among those that the model was trained on."""
    named = [found["source"].removeprefix("hub:") for found in _sets(metadata) if found["source"].startswith("hub:")]
    return [name for name in dict.fromkeys(named) if looks_like_an_id(name)]


def _sets(metadata: dict[str, Any]) -> list[dict[str, Any]]:
    return (metadata.get("training") or {}).get("sets", [])
