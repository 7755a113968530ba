"""Examples of command lines in reStructuredText: what is to be done, and the command or what it does."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from fnmatch import fnmatchcase

from qwen25.training.readers.wording import MAX_LENGTH, Row, is_sentence

#: A bold title, a paragraph that ends in a double colon, and an indented command.
EXAMPLE = re.compile(
    r"^\*\*(?:Example \d+[a-z]?: )?(?P<title>[^*\n]+?):?\*\*\s*\n"
    r"(?P<text>(?:(?!^\*\*|::).){0,1500}?)::[ \t]*\n\s*\n"
    r"(?P<command>(?:[ \t]+\S[^\n]*\n)+)",
    re.MULTILINE | re.DOTALL,
)
CONTINUED = re.compile(r"\s*\\\n\s*")
#: An explanation with fewer words only announces the command.
MIN_WORDS = 8


def read_commands(wheel: zipfile.ZipFile, members: str) -> Iterator[Row]:
    """Yield the title of each example with its command, and with the sentences that explain it."""
    for name in sorted(wheel.namelist()):
        if not fnmatchcase(name, members):
            continue
        for found in EXAMPLE.finditer(wheel.read(name).decode(errors="replace").replace("\r\n", "\n")):
            title, text = (" ".join(found[part].replace("``", "").split()) for part in ("title", "text"))
            text = text.removesuffix("Command").strip()
            if not is_sentence(title):
                continue
            command = CONTINUED.sub(" ", found["command"]).strip()
            yield {"a": title, "b": command[:MAX_LENGTH], "lang": "en-command"}
            if len(text.split()) >= MIN_WORDS:
                yield {"a": title, "b": text[:MAX_LENGTH], "lang": "en"}
