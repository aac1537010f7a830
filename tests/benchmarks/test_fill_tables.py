"""Tables of the docs are what was measured, and what the shipped model's card says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from gpu_calls import BENCHMARKS

from fill_tables import MARKED, PAGES, filled, main
from masqclip.errors import MasqclipError

PAGE = """# Figures

<!-- measured: s/plain s/other -->
| figure | a | b |
| --- | ---: | ---: |
| AP50 | 1.0 | 2.0 |
| mIoU | 3.0 | 4.0 |

<!-- measured: s/other s/plain -->

| | b | a | protocol |
| --- | ---: | ---: | --- |
| old | 0 | 0 | 0 |

| | untouched |
| --- | --- |
| AP50 | 7 |
"""
FILLED = """# Figures

<!-- measured: s/plain s/other -->
| figure | a | b |
| --- | ---: | ---: |
| AP50 | 25.0 | 50.0 |
| mIoU | - | 12.5 |

<!-- measured: s/other s/plain -->

| | b | a | protocol |
| --- | ---: | ---: | --- |
| AP | 10.0 | 20.0* | `h2` |
| AP50 | 50.0 | 25.0* | `h2` |
| mIoU | 12.5 | - | `h3` |

| | untouched |
| --- | --- |
| AP50 | 7 |
"""


def report(folder: Path, hashes: dict[str, str], **figures: dict[str, float | None]) -> None:
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps({"hashes": hashes, "figures": figures}))


def measured(folder: Path) -> Path:
    report(
        folder / "s" / "plain",
        {"i": "h1", "s": "h3"},
        i={"AP": 0.2, "AP50": 0.25},
        s={"mIoU": None},
    )
    report(
        folder / "s" / "other",
        {"i": "h2", "s": "h3"},
        i={"AP": 0.1, "AP50": 0.5},
        s={"mIoU": 0.125},
    )
    return folder


def test_marked_tables_are_filled_and_others_left(tmp_path: Path) -> None:
    runs = measured(tmp_path)
    assert filled(PAGE, runs) == FILLED
    assert filled(FILLED, runs) == FILLED
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    main(runs, pages=(page,))
    assert page.read_text() == FILLED


def test_a_figure_that_was_not_measured_is_told(tmp_path: Path) -> None:
    with pytest.raises(MasqclipError, match="'PQ' was not measured by plain"):
        filled(PAGE.replace("mIoU", "PQ"), measured(tmp_path))


@pytest.mark.parametrize(
    ("changed", "columns", "measurements"),
    [
        (("s/plain s/other", "s/plain"), 2, 1),
        (("| | b | a | protocol |", "| | b | protocol |"), 1, 2),
    ],
)
def test_as_many_columns_as_measurements(
    changed: tuple[str, str], columns: int, measurements: int, tmp_path: Path
) -> None:
    page = PAGE.replace(*changed)
    said = f"a table has {columns} columns of figures, its mark names {measurements} measurements"
    with pytest.raises(MasqclipError, match=said):
        filled(page, measured(tmp_path))


def test_no_page_is_filled_where_one_cannot_be(tmp_path: Path) -> None:
    runs = measured(tmp_path)
    good, bad = tmp_path / "good.md", tmp_path / "bad.md"
    good.write_text(PAGE)
    bad.write_text(PAGE.replace("mIoU", "PQ"))
    with pytest.raises(MasqclipError, match="'PQ' was not measured"):
        main(runs, pages=(good, bad))
    assert good.read_text() == PAGE


def test_the_docs_say_what_the_card_says() -> None:
    card = json.loads((PAGES[-1].parent / "model_card.json").read_text())["measured"]
    compared = 0
    for page in PAGES:
        for _, names, table in MARKED.findall(page.read_text()):
            columns = [
                card[scenes][title] for scenes, title in (n.split("/") for n in names.split())
            ]
            for row in table.splitlines()[2:]:
                name, *cells = (cell.strip() for cell in row.strip("|").split("|"))
                for column, cell in zip(columns, cells, strict=False):  # the protocol is no column
                    expected = f"{100 * column[name]:.1f}" if name in column else "-"
                    where = f"{page.relative_to(BENCHMARKS.parent)}, {name} of {names}"
                    assert cell.rstrip("*") == expected, where
                    compared += 1
    assert compared > 300


def test_sentences_say_what_the_card_says() -> None:
    """Figures between the tables, which no command fills in."""
    card = json.loads((PAGES[-1].parent / "model_card.json").read_text())["measured"]
    true, untuned = card["first"]["oracle"], card["first"]["oracle-untuned"]
    results = (BENCHMARKS.parent / "docs" / "results.md").read_text()
    things, base = untuned["mask accuracy things"], untuned["mask accuracy base things"]
    for sentence in (
        f"and a thing in {100 * true['mask accuracy things']:.0f} of 100",
        f"(untuned {100 * untuned['mask accuracy stuff']:.1f}:",
        f"({100 * things:.1f}; base {100 * base:.1f})",
        f"for it and {100 * true['matched IoU things']:.1f} for this one",
    ):
        assert sentence in results, sentence
    changes = " ".join((BENCHMARKS.parent / "CHANGELOG.md").read_text().split())
    known, unseen = (card[scenes]["tuned"]["AP50"] for scenes in ("first", "first-fluent"))
    said = f"scenes {100 * known:.0f}, by a studio that it never saw {100 * unseen:.0f}."
    assert said in changes
