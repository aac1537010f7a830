"""A measurement as people and programs read it: JSON, Markdown, CSV.

Figures are fractions, 0..1, here and in JSON; tables show percent.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from masqclip import __version__
from masqclip.data.json_files import null_for_nan, read_json
from masqclip.errors import MasqclipError
from masqclip.evaluation.protocol import PAPER, VERSION

Figures = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Report:
    """What was measured, and how.

    Attributes:
        dataset, split, pictures: on what; a split is the constrained setting.
        model: name and version.
        hashes, protocols: of each task; equal hashes mean comparable figures.
        figures: of each task, by name.
        classes: id, name, thing and split of each class.
        per_class: of each task, by name, one a class.
        quality: of each task, how good each picture is by itself, by picture id.
    """

    dataset: str
    split: str
    pictures: int
    model: dict[str, str]
    hashes: dict[str, str]
    protocols: dict[str, dict[str, Any]]
    figures: Figures
    classes: list[dict[str, Any]] = field(repr=False)
    per_class: dict[str, dict[str, list[float]]] = field(repr=False)
    quality: dict[str, dict[int, float]] = field(repr=False)

    def to_json(self) -> bytes:
        """Everything but the pictures' own figures; what is NaN becomes null."""
        document = asdict(self)
        del document["quality"]
        document = {"masqclip": __version__, "protocol_version": VERSION, **document}
        return (json.dumps(null_for_nan(document), indent=1) + "\n").encode()

    def to_csv(self) -> bytes:
        """One row a class."""
        columns = {
            name: values for rows in self.per_class.values() for name, values in rows.items()
        }
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["id", "name", "thing", "split", *columns])
        for i, entry in enumerate(self.classes):
            figures = [values[i] for values in columns.values()]
            writer.writerow(
                [entry["id"], entry["name"], entry["thing"], entry["split"] or ""]
                + ["" if math.isnan(value) else f"{value:.6f}" for value in figures]
            )
        return text.getvalue().encode("utf-8", "replace")  # a name may hold half a character


@dataclass(frozen=True)
class Column:
    """One measurement in a table of several."""

    title: str
    hashes: Mapping[str, str]
    figures: Mapping[str, Mapping[str, float | None]]


def column(title: str, report: Report) -> Column:
    """A report as a column."""
    return Column(title, report.hashes, report.figures)


def read_column(path: Path) -> Column:
    """A report that was written earlier; its title is its folder's name.

    Raises:
        MasqclipError: it is no report.
    """
    file = path / "report.json" if path.is_dir() else path
    try:
        document = read_json(file, what="the report")
        title = file.parent.name if file.name == "report.json" else file.stem
        hashes, figures = dict(document["hashes"]), dict(document["figures"])
        if not all(
            value is None or isinstance(value, int | float)
            for named in figures.values()
            for value in named.values()
        ):
            raise TypeError("a figure is no number")
        return Column(title, hashes, figures)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = str(error) if isinstance(error, MasqclipError) else type(error).__name__
        raise MasqclipError(
            f"{file} is no report of masqclip evaluate ({reason}): give its folder"
        ) from error


def paper_column(dataset: str, split: str, hashes: Mapping[str, str]) -> Column | None:
    """The paper's figures of a dataset, under the hashes of its published protocol.

    There are none of the constrained setting, which a split stands for.
    """
    if dataset not in PAPER or split:
        return None
    return Column("MasQCLIP (ICCV 2023)", hashes, PAPER[dataset])


def table_rows(columns: Sequence[Column]) -> list[list[str]]:
    """Rows of a table in percent: figure, one cell a column, the first column's hash.

    A figure under another hash than the first column's is marked with ``*``: it does not compare.
    """
    rows = []
    main = columns[0]
    for task, figures in main.figures.items():
        for name in figures:
            cells = []
            for other in columns:
                value = other.figures.get(task, {}).get(name)
                known = value is not None and not math.isnan(value)
                mark = "" if other.hashes.get(task) == main.hashes[task] else "*"
                cells.append(f"{100 * value:.1f}{mark}" if known and value is not None else "-")
            rows.append([name, *cells, main.hashes[task]])
    return rows


def to_markdown(columns: Sequence[Column]) -> str:
    """The table as Markdown, with a line about marked figures if there are any."""
    rows = table_rows(columns)
    lines = [
        "| | " + " | ".join(column.title for column in columns) + " | protocol |",
        "| --- |" + " ---: |" * len(columns) + " --- |",
        *("| " + " | ".join(row[:-1]) + f" | `{row[-1]}` |" for row in rows),
    ]
    if any(cell.endswith("*") for row in rows for cell in row):
        lines += ["", "\\* measured by another protocol: not comparable."]
    return "\n".join(lines) + "\n"
