"""The class lists that the package ships: published names, ids, flags, splits and prompts.

The format of the files is described in ``vocabularies/README.md``. Datasets take ids and label
positions from here; people's vocabularies are built from it in `masqclip.clip.vocabulary`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any

from masqclip.errors import MasqclipError


@dataclass(frozen=True)
class ClassEntry:
    """One published class. Its contiguous label is its position in the list."""

    id: int  # the dataset's own id
    name: str  # as published, blanks and all: the key that annotation files use
    prompts: tuple[str, ...]  # what the paper embeds and averages, stripped
    readable: tuple[str, ...] = ()  # prompts with run-together words parted; empty = as `prompts`
    thing: bool | None = None  # None: the publisher says nothing
    split: str | None = None  # "base", "novel"
    category_id: int | None = None  # a second published number, where there is one
    sets: tuple[str, ...] = ()  # other parts of the list that it stands in


@dataclass(frozen=True)
class ClassList:
    """A published list of classes in its published order."""

    name: str
    description: str
    note: str
    classes: tuple[ClassEntry, ...]


def class_list_descriptions() -> dict[str, str]:
    """Names of all shipped lists, each with one line about it."""
    return {name: entry.description for name, entry in _catalogue().items()}


def read_class_list(name: str) -> ClassList:
    """The shipped list of that name.

    Raises:
        MasqclipError: there is no such list; the message names those there are.
    """
    lists = _catalogue()
    if name not in lists:
        raise MasqclipError(f"no class list is called {name!r}: choose one of {', '.join(lists)}")
    return lists[name]


@cache
def _catalogue() -> dict[str, ClassList]:
    lists: dict[str, ClassList] = {}
    folder = resources.files("masqclip.data").joinpath("vocabularies")
    for file in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if not file.name.endswith(".json"):
            continue
        document = json.loads(file.read_text(encoding="utf-8"))
        whole = ClassList(
            name=file.name.removesuffix(".json"),
            description=document["description"],
            note=document.get("note", ""),
            classes=tuple(_entry(fields) for fields in document["classes"]),
        )
        lists[whole.name] = whole
        for part, split in document.get("parts", {}).items():
            kept = tuple(entry for entry in whole.classes if entry.split == split)
            about = f"the {len(kept)} {split} classes of {whole.name}"
            lists[part] = replace(whole, name=part, description=about, classes=kept)
        for part, name in document.get("sets", {}).items():
            kept = tuple(entry for entry in whole.classes if name in entry.sets)
            about = f"{len(kept)} of the classes of {whole.name}"
            lists[part] = replace(whole, name=part, description=about, classes=kept)
    return lists


def _entry(fields: dict[str, Any]) -> ClassEntry:
    # "window " (ADE20K-150) and "c p u " (ADE20K-847) are published with a trailing blank. The
    # name keeps it, because it is a key; a prompt is stripped, because it is read.
    prompts = fields.get("prompts", [fields["name"]])
    return ClassEntry(
        id=fields["id"],
        name=fields["name"],
        prompts=tuple(prompt.strip() for prompt in prompts),
        readable=tuple(fields.get("readable", ())),
        thing=fields.get("thing"),
        split=fields.get("split"),
        category_id=fields.get("category_id"),
        sets=tuple(fields.get("sets", ())),
    )
