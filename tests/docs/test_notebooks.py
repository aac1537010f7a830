"""The notebooks of examples/: they are stored without outputs, and their cells run in order."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from documented import ROOT

NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


def cells(notebook: Path, kind: str) -> list[str]:
    """The text of a notebook's cells of a kind, ``code`` or ``markdown``."""
    document = json.loads(notebook.read_text("utf-8"))
    return ["".join(cell["source"]) for cell in document["cells"] if cell["cell_type"] == kind]


def run(notebook: Path) -> tuple[dict[str, Any], str]:
    """Run the code; return its names, and what it printed."""
    names: dict[str, Any] = {}
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        for number, text in enumerate(cells(notebook, "code")):
            exec(compile(text, f"{notebook.name}, code cell {number}", "exec"), names)
    return names, said.getvalue()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of examples/, where notebooks are started."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path / "examples")


def test_there_are_three_and_pages_name_them() -> None:
    assert len(NOTEBOOKS) == 3
    listed = (ROOT / "examples/README.md").read_text("utf-8")
    assert all(f"({notebook.name})" in listed for notebook in NOTEBOOKS)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_as_the_format_says_and_without_outputs(notebook: Path) -> None:
    document = json.loads(notebook.read_text("utf-8"))
    assert (document["nbformat"], document["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in document["cells"]}) == len(document["cells"])
    for cell in document["cells"]:
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)


@pytest.mark.usefixtures("here")
def test_first_steps() -> None:
    names, said = run(ROOT / "examples/first-steps.ipynb")
    assert {"rocket", "tulip", "car", "snake", "sand"} == {s.name for s in names["result"].segments}
    assert "car, tulip -> ['" in said
    assert "penguin -> []" in said


@pytest.mark.usefixtures("here")
def test_tuning_learns_the_two_shapes() -> None:
    names, said = run(ROOT / "examples/tune-on-your-data.ipynb")
    with names["scratch"]:
        report = json.loads(Path("runs/mine/held-out.json").read_text())
    assert report["pictures"] == 3
    assert report["after"]["mask accuracy"] > report["before"]["mask accuracy"]
    assert "| mask accuracy" in said


@pytest.mark.usefixtures("here")
def test_examples() -> None:
    names, said = run(ROOT / "examples/examples.ipynb")
    with names["scratch"]:
        written = {path.name for path in names["out"].iterdir()}
    assert {"beach.png", "coco.json", "labels.txt", "ids.png", "ids.json"} <= written
    assert "('vehicle', True," in said
    assert names["cut"].shape[2] == 4
