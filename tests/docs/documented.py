"""The pages of the documentation, and the fenced blocks in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: What people read and copy from, by the path from the repository's root.
PAGES = (
    "README.md",
    *sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md")),
)
_FENCE = re.compile(r"^( *)(`{3,})(\w*)[^\n]*\n(.*?)^\1\2[ ]*$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: the page that it stands on.
        line: of its first line of text, from 1 on.
        language: what follows the fence.
        text: what stands in it.
    """

    page: str
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: str) -> list[Block]:
    """A page's fenced blocks, in order."""
    text = (ROOT / page).read_text("utf-8")
    return [
        Block(page, text[: match.start(4)].count("\n") + 1, match[3], match[4])
        for match in _FENCE.finditer(text)
    ]


def commands(text: str) -> Iterator[str]:
    """The commands of a block for a shell, one by one, without comments and prompts."""
    for line in re.sub(r"\\\n *", " ", text).splitlines():
        words = re.sub(r"(^|\s)#.*", "", line).removeprefix("$ ").strip()
        yield from (part.strip() for part in words.split(" && ") if part.strip())


def masqclip_words(command: str) -> list[str] | None:
    """The words after ``masqclip``, however it is started; None for other commands."""
    found = re.match(r"(?:accelerate launch .*-m masqclip\.cli\.main|(?:\S*/)?masqclip) ", command)
    return shlex.split(command[found.end() :]) if found else None
