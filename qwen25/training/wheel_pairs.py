"""Pairs of texts inside wheels of the package index: one reader a kind; nothing of a wheel is installed or run.

A reader takes an open wheel and one of its files (a match of its path, with the group ``lang`` where the path names
a language), and yields pairs with their language or languages.
"""

from __future__ import annotations

import ast
import contextlib
import gettext
import json
import random
import re
import sqlite3
import tempfile
import textwrap
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from qwen25.runtime.errors import as_input_error
from qwen25.store.packaged import opened_wheel
from qwen25.store.pairs import PairSet, collect, leaves

#: Two texts and their language.
Texts = tuple[str, str, str]
Reader = Callable[[zipfile.ZipFile, re.Match[str]], Iterator[Texts]]
ENGLISH = "en"
#: A text with one of these is a pattern, an address or a name, and no sentence.
PATTERN = re.compile(r"[{}%|]|\$t\(|://|\\n|__\w+__")
#: Markup that leaves its text behind: links, tags, emphasis, code.
LINK, TAG, EMPHASIS = re.compile(r"\[([^]]+)\]\([^)]*\)"), re.compile(r"<[^<>]*>"), re.compile(r"\*\*|``?")
#: Shorter texts are labels, shorter explanations only announce a command, shorter definitions are synonyms or forms.
SENTENCE_WORDS, EXPLANATION_WORDS, DEFINITION_WORDS = 3, 8, 4
#: Code and descriptions are cut to this many characters: a mean of all of a long text says little.
MAX_LENGTH = 400
#: An example in reStructuredText: a bold title, a paragraph that ends in a double colon, and an indented command.
EXAMPLE = re.compile(
    r"^\*\*(?:Example \d+[a-z]?: )?(?P<title>[^*\n]+?):?\*\*\s*\n"
    r"(?P<text>(?:(?!^\*\*|::).){0,1500}?)::[ \t]*\n\s*\n"
    r"(?P<command>(?:[ \t]+\S[^\n]*\n)+)",
    re.MULTILINE | re.DOTALL,
)
CONTINUED = re.compile(r"\s*\\\n\s*")


def read_wheel(entry: dict[str, Any], seed: int, offline: bool) -> PairSet:
    """Fetch the wheel of a mixture's entry if need be, and read its pairs.

    :param entry: as ``mixture.schema.json`` describes it: of ``members``, the paths of the files that hold the pairs,
        ``*`` stands for anything and ``{lang}`` for a language; of more than ``rows`` in a language, a sample is taken.
    :raises PipelineError: if the wheel cannot be fetched or read.
    :raises InputError: if it holds no such pairs.
    """
    requirement, members, rows = f"{entry['package']}=={entry['version']}", entry["members"], entry["rows"]
    pattern = re.compile(re.escape(members).replace(r"\*", ".*").replace(r"\{lang\}", "(?P<lang>[^/.]+)"))
    by_language: dict[str, dict[Texts, None]] = {}
    fault = f"{requirement} ({members}) is not what its reader {entry['reader']!r} reads", "leave the set out"
    with opened_wheel(requirement, entry["sha256"], offline) as archive, as_input_error(*fault):
        for member in filter(None, map(pattern.fullmatch, sorted(archive.namelist()))):
            for texts in READERS[entry["reader"]](archive, member):
                if texts[2].removeprefix("en-") in entry["languages"]:
                    by_language.setdefault(texts[2], {})[texts] = None
    name, chosen = f"{entry['package']}/{entry['reader']}", list[Texts]()
    for language, unlike in sorted(by_language.items()):
        draw = random.Random(f"{seed}/{name}/{language}")  # noqa: S311, no secret is made
        chosen += draw.sample(list(unlike), rows) if len(unlike) > rows else unlike
    facts = {"source": requirement, "sha256": entry["sha256"]}
    named = (dict(zip(("a", "b", "lang"), texts, strict=True)) for texts in chosen)
    return collect(named, ("a", "b"), len(chosen), seed, name, facts)


def _plain(text: str) -> str:
    """Return a text without markup, on one line; empty if it holds places to be filled in."""
    text = EMPHASIS.sub("", TAG.sub("", LINK.sub(r"\1", text)))
    return "" if PATTERN.search(text) else " ".join(text.split())


def _translations(locale: str, texts: Iterable[tuple[str, str]]) -> Iterator[Texts]:
    """Yield the sentences among interface texts and their translations."""
    language = re.split("[-_]", locale)[0].lower()
    for source, target in texts if language != ENGLISH else ():
        left, right = _plain(source), _plain(target)
        if len(left.split()) >= SENTENCE_WORDS and right:
            yield left, right, f"{ENGLISH}-{language}"


def _gettext(wheel: zipfile.ZipFile, member: re.Match[str]) -> Iterator[Texts]:
    """Yield each English text of a compiled catalogue; of a plural the singular."""
    with wheel.open(member[0]) as file:
        catalogue: dict[str | tuple[str, int], str] = vars(gettext.GNUTranslations(file))["_catalog"]
    forms = ((text if isinstance(text, tuple) else (text, 0), translation) for text, translation in catalogue.items())
    # The empty text is the header, and behind "\4" stands what the context before it means.
    texts = ((a.rpartition("\4")[2], b) for (a, form), b in forms if a and not form)
    yield from _translations(member["lang"], texts)


def _json(wheel: zipfile.ZipFile, member: re.Match[str]) -> Iterator[Texts]:
    """Yield each English text of a JSON file with the text at the same place of another language's file."""
    start, end = member.span("lang")
    try:
        english = _texts_by_place(wheel, f"{member.string[:start]}{ENGLISH}{member.string[end:]}")
    except KeyError:  # there is no such file
        return
    translated = dict(leaves(json.loads(wheel.read(member[0]))))
    pairs = ((english[place], text) for place, text in translated.items() if place in english)
    yield from _translations(member["lang"], pairs)


@lru_cache(maxsize=1)  # the languages' files lie side by side
def _texts_by_place(wheel: zipfile.ZipFile, name: str) -> dict[str, str]:
    return dict(leaves(json.loads(wheel.read(name))))


def _code(wheel: zipfile.ZipFile, member: re.Match[str]) -> Iterator[Texts]:
    """Yield the first paragraph of each docstring of a Python module with its function, without the docstring.

    The module is parsed, never run; those of tests are left out.
    """
    source = wheel.read(member[0]).decode(errors="replace")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of their escapes
            nodes = list(ast.walk(ast.parse("" if "/tests/" in member[0] else source)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # of another Python than this
        return
    lines = source.split("\n")
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and len(node.body) > 1:
            summary = " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
            if len(summary.split()) >= SENTENCE_WORDS:
                head = lines[node.lineno - 1 : node.body[0].lineno - 1]
                code = textwrap.dedent("\n".join(head + lines[node.body[1].lineno - 1 : node.end_lineno]))
                yield summary, code[:MAX_LENGTH], "en-python"


def _commands(wheel: zipfile.ZipFile, member: re.Match[str]) -> Iterator[Texts]:
    """Yield the title of each example with its command, and with the sentences that explain it."""
    for found in EXAMPLE.finditer(wheel.read(member[0]).decode(errors="replace").replace("\r\n", "\n")):
        title, text = (" ".join(found[part].replace("``", "").split()) for part in ("title", "text"))
        text = text.removesuffix("Command").strip()
        if len(title.split()) >= SENTENCE_WORDS:
            yield title, CONTINUED.sub(" ", found["command"]).strip()[:MAX_LENGTH], "en-command"
            if len(text.split()) >= EXPLANATION_WORDS:
                yield title, text[:MAX_LENGTH], ENGLISH


def _definitions(wheel: zipfile.ZipFile, member: re.Match[str]) -> Iterator[Texts]:
    """Yield the words of an SQLite file's table ``entries`` with their definitions."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "dictionary.db")
        path.write_bytes(wheel.read(member[0]))
        with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
            for word, definition in database.execute("SELECT word, definition FROM entries ORDER BY rowid"):
                text = " ".join(str(definition or "").split())
                if word and len(text.split()) >= DEFINITION_WORDS:
                    yield str(word), text[:MAX_LENGTH], ENGLISH


#: What a declaration's ``reader`` names.
READERS: dict[str, Reader]
READERS = {"gettext": _gettext, "json": _json, "code": _code, "commands": _commands, "definitions": _definitions}
