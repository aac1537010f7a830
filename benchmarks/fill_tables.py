"""Put a model's measurements into the tables of the docs, so that no figure is typed by hand.

    python benchmarks/fill_tables.py measured

A table that follows a line such as ``<!-- measured: first/untuned first/tuned -->`` holds what
`masqclip evaluate --out measured/first/untuned` and so on wrote, a column each. Its header stays as
it is; so do its first cells, the names of the figures, unless the last column is the protocol: then
the rows are all that was measured, as `masqclip evaluate` shows them.
"""

from __future__ import annotations

import re
from pathlib import Path

import cyclopts

from masqclip.data.files import write_atomically
from masqclip.errors import MasqclipError
from masqclip.evaluation.report import Column, read_column, table_rows
from mistakes import mistakes_told

ROOT = Path(__file__).parents[1]
PAGES = (
    ROOT / "README.md",
    ROOT / "docs" / "results.md",
    ROOT / "src" / "masqclip" / "models" / "masqclip-mini" / "README.md",
)
#: A mark, the names of its measurements, and the table that follows it.
MARKED = re.compile(r"^(<!-- measured: (.+) -->\n\n?)((?:\|.*\n)+)", re.MULTILINE)


def main(measured: Path, *, pages: tuple[Path, ...] = PAGES) -> None:
    """Fill all marked tables.

    Args:
        measured: the folder of the measurements, SCENES/TITLE in it.
        pages: the Markdown files.
    """
    # All before any is written: pages that are of different measurements would not agree.
    texts = {page: filled(page.read_text("utf-8"), measured) for page in pages}
    for page, text in texts.items():
        write_atomically(page, text.encode())


def filled(text: str, measured: Path) -> str:
    """A page with its marked tables filled."""

    def fill(marked: re.Match[str]) -> str:
        mark, names, table = marked.groups()
        columns = [read_column(measured / name) for name in names.split()]
        lines = table.splitlines()
        return mark + "\n".join([*lines[:2], *_rows(lines, columns)]) + "\n"

    return MARKED.sub(fill, text)


def _rows(table: list[str], columns: list[Column]) -> list[str]:
    """The rows of a table under its two lines of header."""
    header = _cells(table[0])
    given = len(header) - 1 - (header[-1] == "protocol")
    if given != len(columns):
        raise MasqclipError(
            f"a table has {given} columns of figures, its mark names {len(columns)} measurements: "
            f"{table[0]}"
        )
    if header[-1] == "protocol":
        return [_line([*row[:-1], f"`{row[-1]}`"]) for row in table_rows(columns)]
    rows = {row[0]: [cell.rstrip("*") for cell in row[1:-1]] for row in table_rows(columns)}
    named = [_cells(line)[0] for line in table[2:]]
    if missing := [name for name in named if name not in rows]:
        raise MasqclipError(f"{missing[0]!r} was not measured by {columns[0].title}")
    return [_line([name, *rows[name]]) for name in named]


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    with mistakes_told():
        cyclopts.run(main)
