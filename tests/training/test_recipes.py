"""Recipes: what is written is what is used, and a misspelt key is refused."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from masqclip.errors import MasqclipError
from masqclip.training.recipes import SHIPPED, STAGES, load_recipe
from masqclip.training.settings import TuneSettings


@pytest.mark.parametrize("recipe", [file.stem for file in SHIPPED.glob("*.toml")])
def test_shipped_recipes_load(recipe: str) -> None:
    tables = tomllib.loads((SHIPPED / f"{recipe}.toml").read_text())
    assert set(tables) <= set(STAGES)
    for stage in tables:
        settings, loop = load_recipe(recipe, stage)
        assert type(settings) is STAGES[stage]
        assert loop.steps > 0


def test_overrides_reach_the_stage_and_the_loop(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[tune]\nbatch_size = 3\n[tune.loop]\nsteps = 5\n")
    settings, loop = load_recipe(file, "tune", ["learning_rate=1", "steps=9", "seed=4"])
    assert settings == TuneSettings(batch_size=3, learning_rate=1.0, seed=4)
    assert (loop.steps, loop.seed) == (9, 4)
    assert load_recipe(file, "tune", ["query_start=random"])[0].query_start == "random"


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("[tune]\nbatch_sise = 3\n[tune.loop]\nsteps = 5", [], "did you mean 'batch_size'"),
        ("[tune.loop]\nsteps = 5", ["stepz=3"], "did you mean 'steps'"),
        ("[tune.loop]\nsteps = 5", ["steps"], "key=value"),
        ("[tune.loop]\nsteps = 5", ["steps=many"], "must be of type int"),
        ("[tune]\nbatch_size = 3", [], "steps"),
        ("[teacher]\n", [], "has no stage 'tune'"),
        ("[tune", [], "is not TOML"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, overrides: list[str], message: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(MasqclipError, match=message):
        load_recipe(file, "tune", overrides)


def test_an_unknown_recipe_names_the_shipped_ones() -> None:
    with pytest.raises(MasqclipError, match="miniature"):
        load_recipe("minature", "tune")
