"""Names in tables: CSV files that people and tools keep their classes in.

A first line says which column holds the names, and which their numbers, if any; without one, a
column that holds numbers only (or codes such as ``n01440764`` and ``/m/0bt9lr``) is none of names.
Roboflow's table of pictures, whose first line names the classes after ``filename``, is known too.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from itertools import islice

from masqclip.clip.name_items import NamedItem, read_labels
from masqclip.clip.name_limits import NameLimits, too_many
from masqclip.errors import MasqclipError

# What the column of names is called, letters and digits only; the first of these that is there.
_NAMES = (
    "name", "classname", "labelname", "categoryname", "displayname", "class", "label", "category",
    "title", "names", "classes", "labels", "categories",
)  # fmt: skip
_NUMBERS = (
    "id", "index", "idx", "number", "no", "nr", "classid", "labelid", "categoryid", "classindex",
    "classnumber", "pixelvalue", "value", "trainid",
)  # fmt: skip
_PICTURES = ("filename", "file", "image", "imagepath", "path", "img")
_CELLS = 10  # of a row, on the average of as many rows as there may be names
_CODE = re.compile(r"-?\d{1,9}|n\d{8}|/[a-z]/\w+")
_INTEGER = re.compile(r"-?\d{1,9}")


def read_table(text: str, *, source: str, limits: NameLimits) -> list[NamedItem]:
    """The classes of a CSV text: commas, semicolons, tabs or bars between the cells.

    Args:
        text: as it was decoded.
        source: what it is called in errors.
        limits: how many classes there may be.

    Raises:
        MasqclipError: it is no table, it does not say which column holds the names, or there are
            too many.
    """
    rows = _rows(text, source, limits)
    if not rows:
        raise MasqclipError(f"{source} holds no name: write a line for each")
    header = [re.sub(r"[\W_]", "", cell).lower() for cell in rows[0]]
    if _is_picture_table(header, rows):
        return read_labels(rows[0][1:], source, limits)
    columns = [header.index(title) for title in _NAMES if title in header]
    if columns:
        body = rows[1:]
        # A column "class" may number what a column "label" names.
        column = next((c for c in columns if not _all(_INTEGER, body, c)), columns[0])
        numbers: Sequence[int] = [
            c for c, title in enumerate(header) if title in _NUMBERS and c != column
        ]
    else:
        body, column, numbers = _without_header(rows, source)
    by = next((c for c in numbers if _all(_INTEGER, body, c)), None)
    if by is not None:
        number_column = by
        body = sorted(body, key=lambda row: int(row[number_column]))
    return read_labels([_cell(row, column) for row in body], source, limits)


def _rows(text: str, source: str, limits: NameLimits) -> list[list[str]]:
    """The cells of all rows but blank ones and comments, without blanks around them."""
    text = text.removeprefix("\ufeff")
    first, _, rest = text.lstrip().partition("\n")
    if stated := re.fullmatch(r"sep=(\S)\s*", first):  # Excel's
        separator, text = stated[1], rest
    else:
        bare = re.sub(r'"[^"]*+"', "", first)
        # Where the first line has one cell, all have: "traffic light, red" is a name then.
        separator = max("\x1f\t;,|", key=bare.count)
    if text.count(separator) > _CELLS * limits.names:
        raise too_many(f"the cells of {source}", _CELLS * limits.names)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    try:
        found = list(islice(reader, limits.lines + 1))
    except csv.Error as error:
        raise MasqclipError(f"{source} is no table: line {reader.line_num}: {error}") from error
    if len(found) > limits.lines:
        raise too_many(f"the lines of {source}", limits.lines)
    rows = [[cell.strip() for cell in row] for row in found]
    return [row for row in rows if any(row) and not row[0].startswith("#")]


def _is_picture_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether each row marks with 0 and 1 what a picture shows."""
    if len(header) < 2 or header[0] not in _PICTURES:
        return False
    return all(cell in ("0", "1", "") for row in rows[1:] for cell in row[1:])


def _without_header(
    rows: list[list[str]], source: str
) -> tuple[list[list[str]], int, Sequence[int]]:
    """The rows, the column of names and that of numbers, where no header tells."""
    width = max(map(len, rows))
    if width == 1:
        return rows, 0, ()
    if len(rows) == 1 and not any(_CODE.fullmatch(cell) for cell in rows[0]):
        return [[cell] for cell in rows[0] if cell], 0, ()
    # The first row may be a header of words that nobody foresaw.
    for body in (rows, rows[1:]):
        coded = [c for c in range(width) if body and _all(_CODE, body, c)]
        if width == 2 and len(coded) == 1:
            return body, 1 - coded[0], coded
    raise MasqclipError(
        f"{source} does not say which column holds the names: begin it with a line such as id,name"
    )


def _all(pattern: re.Pattern[str], rows: Sequence[Sequence[str]], column: int) -> bool:
    return bool(rows) and all(pattern.fullmatch(_cell(row, column)) for row in rows)


def _cell(row: Sequence[str], column: int) -> str:
    return row[column] if column < len(row) else ""
