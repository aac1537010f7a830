"""What docs/stability.md calls public is what there is, and all that other pages speak of."""

from __future__ import annotations

import inspect
import re
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import masqclip
from masqclip.batch import shards
from masqclip.cli.main import VERBS
from masqclip.evaluation import protocol

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "stability.md").read_text("utf-8")


def row(first: str) -> str:
    """The cells that follow one in its table."""
    found = re.search(rf"^\| {re.escape(first)} \| (.*) \|$", PAGE, re.MULTILINE)
    assert found, first
    return found[1]


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


PYTHON = {
    module: quoted(names)
    for module, names in re.findall(r"^\| `(masqclip[\w.]*)` \| (.*) \|$", PAGE, re.MULTILINE)
}


def test_the_front_door_is_listed_whole() -> None:
    assert PYTHON["masqclip"] == masqclip.__all__


@pytest.mark.parametrize("module", [name for name in PYTHON if name != "masqclip"])
def test_other_names_are_there_and_documented(module: str) -> None:
    home = import_module(module)
    for name in PYTHON[module]:
        assert inspect.getdoc(getattr(home, name)), name
    assert PYTHON[module] == sorted(PYTHON[module])
    assert set(getattr(home, "__all__", PYTHON[module])) == set(PYTHON[module])


@pytest.mark.parametrize("page", ["README.md", *sorted(f"docs/{p.name}" for p in
                                  (ROOT / "docs").glob("*.md"))])  # fmt: skip
def test_pages_tell_people_to_import_nothing_else(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    for module, names in re.findall(r"^ *from (masqclip[\w.]*) import (.+)$", text, re.MULTILINE):
        assert set(re.split(r", *", names.strip("()"))) <= set(PYTHON.get(module, ())), module
    assert not re.findall(r"^ *import (masqclip\.[\w.]+)", text, re.MULTILINE)


def test_commands_are_listed_in_their_order() -> None:
    assert quoted(row("commands")) == [name for name, _, _ in VERBS]


def test_routes_are_listed() -> None:
    routers = pytest.importorskip("masqclip.serve.routes")
    tools = [import_module(f"masqclip.serve.{name}") for name in ("x_anylabeling", "label_studio")]

    def served(*routes: object) -> set[str]:
        return {
            f"{method} {route.path}" for one in routes for route in one.routes  # type: ignore[attr-defined]
            for method in route.methods
        }  # fmt: skip

    examples = import_module("masqclip.serve.vocabulary_routes")
    assert set(quoted(row("`/v1`"))) == served(routers.router, examples.router)
    assert set(quoted(row("state"))) == served(routers.state)
    assert set(quoted(row("annotation tools"))) == served(*(tool.router for tool in tools))


def test_versions_of_formats_are_those_of_the_code() -> None:
    assert row("`protocol_version` of an evaluation").startswith(f"{protocol.VERSION} |")
    assert row("`version` of a batch job's files").startswith(f"{shards.VERSION} |")


def test_pythons_are_those_that_are_tested() -> None:
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"][
        "classifiers"
    ]
    told = [line.rpartition(" ")[2] for line in classifiers if re.search(r":: 3\.\d+$", line)]
    assert f"Python {told[0]} to {told[-1]}," in PAGE
