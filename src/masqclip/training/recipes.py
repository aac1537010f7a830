"""Recipes: every hyper-parameter of a stage by name, in a TOML file.

A recipe has a table for each stage it knows, with the stage's settings, and in it a table ``loop``:

    [tune]
    learning_rate = 1e-4
    [tune.loop]
    steps = 10_000

What a recipe leaves out keeps the default of `settings.py`: the published value, but for the few
that docs/training.md lists.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from masqclip.data.files import read_bounded
from masqclip.data.toml_files import parse_toml
from masqclip.errors import MasqclipError
from masqclip.training.baseline_settings import (
    LSegSettings,
    MaskClipSettings,
    OpenSegSettings,
    XpmSettings,
)
from masqclip.training.settings import (
    DistillSettings,
    LoopSettings,
    PretrainSettings,
    TeacherSettings,
    TuneSettings,
)

_MAX_RECIPE_BYTES = 1_000_000
SHIPPED = Path(__file__).parent.parent / "recipes"
STAGES: dict[str, type[Any]] = {
    "pretrain": PretrainSettings,
    "teacher": TeacherSettings,
    "distill": DistillSettings,
    "tune": TuneSettings,
    "maskclip": MaskClipSettings,
    "openseg": OpenSegSettings,
    "lseg": LSegSettings,
    "xpm-captions": XpmSettings,
    "xpm-teacher": XpmSettings,
    "xpm-student": XpmSettings,
}


def load_recipe(
    recipe: str | Path, stage: str, overrides: Sequence[str] = ()
) -> tuple[Any, LoopSettings]:
    """The settings of a stage and of its loop.

    Args:
        recipe: the name of a shipped recipe, or a TOML file.
        stage: the table to read.
        overrides: ``key=value`` pairs; a key of the loop may be written ``loop.key`` or plainly.

    Raises:
        MasqclipError: no such recipe, no such stage in it, or a key that the stage does not have,
            named with the nearest right one.
    """
    path = SHIPPED / f"{recipe}.toml"
    if not path.is_file():
        path = Path(recipe)
    if not os.path.exists(path) or os.path.isdir(path):
        shipped = ", ".join(sorted(file.stem for file in SHIPPED.glob("*.toml")))
        raise MasqclipError(
            f"there is no recipe {str(recipe)!r}; shipped are {shipped}, or give a TOML file"
        )
    content = read_bounded(path, max_bytes=_MAX_RECIPE_BYTES, what="the recipe")
    tables = parse_toml(content, source=f"the recipe {path}")
    if not isinstance(tables.get(stage, {}), dict):
        raise MasqclipError(f"the recipe {path.stem} holds no table [{stage}]: it needs one")
    if stage not in tables:
        raise MasqclipError(
            f"the recipe {path.stem} has no stage {stage!r}; it has {_list(tables)}"
        )
    own = dict(tables[stage])
    loop = own.pop("loop", {})
    if not isinstance(loop, dict):
        raise MasqclipError(f"the recipe {path.stem} holds no table [{stage}.loop]: it needs one")
    loop = dict(loop)
    for override in overrides:
        key, value = _parse(override)
        if key.startswith("loop."):
            loop[key.removeprefix("loop.")] = value
        elif key in _names(STAGES[stage]):
            own[key] = value
            if key == "seed":  # one seed for a whole run, unless loop.seed says otherwise
                loop[key] = value
        elif key in _names(LoopSettings):
            loop[key] = value
        else:
            known = [*_names(STAGES[stage]), *_names(LoopSettings)]
            raise MasqclipError(_unknown(key, known, f"--set of the stage {stage}"))
    return _build(STAGES[stage], own, f"[{stage}]"), _build(LoopSettings, loop, f"[{stage}.loop]")


def write_recipe(stage: str, settings: Any, loop: LoopSettings) -> str:
    """The TOML text of a recipe with every setting of one stage and its loop."""
    tables = {stage: asdict(settings), f"{stage}.loop": asdict(loop)}
    return "\n".join(
        "\n".join([f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in table.items()), ""])
        for name, table in tables.items()
    )


def _toml(value: Any) -> str:
    # JSON writes numbers, booleans, lists and strings as TOML reads them.
    return json.dumps(value)


def _build(kind: type[Any], values: Mapping[str, Any], where: str) -> Any:
    """A settings dataclass from a table; types are checked, whole numbers pass as floats."""
    types = {field.name: str(field.type) for field in fields(kind)}
    checked: dict[str, Any] = {}
    for key, value in values.items():
        if key not in types:
            raise MasqclipError(_unknown(key, list(types), where))
        wanted = types[key]
        if wanted == "float" and type(value) is int:
            value = float(value)
        if wanted == "tuple[int, ...]" and isinstance(value, list):
            value, fits = tuple(value), all(type(item) is int for item in value)
        else:
            fits = type(value).__name__ == wanted
        if not fits:
            wanted = "list of whole numbers" if wanted.startswith("tuple") else f"type {wanted}"
            raise MasqclipError(f"{where}: {key} is {value!r}; it must be of {wanted}")
        checked[key] = value
    try:
        return kind(**checked)
    except TypeError as error:
        raise MasqclipError(f"{where} lacks a setting: {error}") from error


def _parse(override: str) -> tuple[str, Any]:
    key, sign, text = override.partition("=")
    if not sign or not key.strip():
        raise MasqclipError(f"--set {override}: write it as key=value")
    try:
        return key.strip(), parse_toml(f"value = {text}", source="the value")["value"]
    except MasqclipError:
        return key.strip(), text.strip()


def _unknown(key: str, known: Sequence[str], where: str) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known)}"
    return f"{where} has no setting {key!r}; {hint}"


def _names(kind: type[Any]) -> list[str]:
    return [field.name for field in fields(kind)]


def _list(tables: Mapping[str, Any]) -> str:
    return ", ".join(tables) or "none"
