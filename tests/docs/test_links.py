"""Links between the repository's pages: the files are there, and so are the headings."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
from documented import ROOT

PAGES = sorted(
    page.relative_to(ROOT)
    for folder in (ROOT, ROOT / "docs", ROOT / "examples", ROOT / "benchmarks", ROOT / "src")
    for page in (folder.glob("*.md") if folder == ROOT else folder.rglob("*.md"))
)
_CODE = re.compile(r"^ *```.*?^ *```|`[^`\n]*`", re.MULTILINE | re.DOTALL)


def links(text: str) -> list[str]:
    """The addresses of a page's links and pictures, those in code left out."""
    # Code is taken out of a link's text, too: [`x`](y) has become [](y).
    bare = _CODE.sub("", text)
    return re.findall(r"\]\(([^()\s]+)\)", bare) + re.findall(r"^\[[^\]]+\]: (\S+)", bare, re.M)


@cache
def anchors(page: Path) -> frozenset[str]:
    """The anchors that code hosts give a page's headings."""
    found: dict[str, int] = {}
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        anchor = re.sub(r"[^\w\- ]", "", plain.lower()).strip().replace(" ", "-")
        number = found[anchor] = found.get(anchor, -1) + 1
        if number:
            found[f"{anchor}-{number}"] = 0
    return frozenset(found)


def broken(page: Path) -> list[str]:
    """The links of a page that lead nowhere."""
    wrong = []
    for address in links(page.read_text("utf-8")):
        path, _, anchor = address.partition("#")
        if re.match(r"[a-z]+:", path):
            continue
        file = (page.parent / path).resolve() if path else page
        headed = file.suffix == ".md" and anchor
        if not file.exists() or (headed and anchor not in anchors(file)):
            wrong.append(address)
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_somewhere(page: Path) -> None:
    assert broken(ROOT / page) == []


def test_links_that_lead_nowhere_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# The `first` one, [twice](a.md)\n\n```\n[code](no.md)\n```\n\n## The same\n## The same\n"
        "[a](other.md) [`b`](no.md) [c](#the-first-one-twice) [d](#the-first) [e](other.md#x)\n"
        "[f](https://example.org/no) [g](#the-same-1) `[h](no.md)` ![i](no.png) [j](other.md#y)\n"
    )
    (tmp_path / "other.md").write_text("# X\n```bash\n# y\n```\n")
    assert broken(page) == ["a.md", "no.md", "#the-first", "no.png", "other.md#y"]
