"""Commands that people copy: of the help, the docs and the recipes; none is run, each is parsed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from masqclip.cli.main import VERBS
from masqclip.cli.main import app as masqclip
from masqclip.training.recipes import SHIPPED

ROOT = Path(__file__).parents[2]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]


def commands(text: str) -> Iterator[list[str]]:
    """The words after ``masqclip`` of every command in a text, however it is started."""
    joined = re.sub(r"\\\n[ #]*", " ", text)
    variables = dict(re.findall(r'^[# ]*([A-Z]+)="((?:[^"\n]|\n#)*)"', joined, re.MULTILINE))
    for line in joined.splitlines():
        for name, value in variables.items():
            line = line.replace(f"${name}", re.sub(r"\s*\n#\s*", " ", value))
        for part in re.split(r"\s(?:&&|;)\s", line):
            found = re.match(
                r"[#$> ]*(?:[A-Z_]+=\S+ +)*"
                r"(?:accelerate launch .*-m masqclip\.cli\.main|(?:\S*/)?masqclip) (.*)",
                part,
            )
            if found and "`" not in found[1]:
                # Up to where its output goes; a mark in quotes is part of a name.
                own = re.match(r"""(?:"[^"]*"|'[^']*'|(?!\s[|>]\s|\s2>).)*""", found[1])
                words = shlex.split(own[0] if own else "", comments=True)
                yield [word for word in words if word != "--debug"]


def blocks(text: str) -> str:
    """What stands in a page's code blocks for the shell, and commands between single quotes."""
    # Blocks of other languages are matched as well, or their ends would be taken for beginnings.
    found = re.findall(r"^ *```(\w*)\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    fenced = [code for language, code in found if language in ("", "bash", "text", "console", "sh")]
    spans = re.findall(
        r"(?<!`)`(masqclip [^`\n]*)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    )
    return "\n".join([*fenced, *(f"{span}" for span in spans)])


def helps() -> Iterator[tuple[str, str]]:
    yield "masqclip", str(masqclip.help_epilogue)
    for verb, path, _ in VERBS:
        module, name = path.split(":")
        yield verb, str(getattr(import_module(module), name).help_epilogue)


def examples() -> Iterator[tuple[str, list[str]]]:
    for verb, text in helps():
        yield from ((f"{verb} --help", words) for words in commands(blocks(text)))
    for page in PAGES:
        yield from ((page.name, words) for words in commands(blocks(page.read_text())))
    for recipe in sorted(SHIPPED.glob("*.toml")):
        yield from ((recipe.name, words) for words in commands(recipe.read_text()))


EXAMPLES = list(examples())


def test_examples_are_found() -> None:
    places = {place for place, _ in EXAMPLES}
    assert {f"{verb} --help" for verb, _, _ in VERBS} <= places
    assert {"training.md", "method.md", "README.md", "base-novel.toml", "own-data.toml"} <= places
    # However they are started: by a path, after variables, after another command.
    assert ["segment", "examples/beach.png"] in [words[:2] for _, words in EXAMPLES]
    assert ["serve", "--port"] in [words[:2] for place, words in EXAMPLES if place == "serving.md"]
    own = [words for place, words in EXAMPLES if place == "base-novel.toml"]
    assert [words[:2] for words in own] == [
        ["train", stage] for stage in ("teacher", "distill", "tune")
    ]
    assert all("coco-base-novel" in words for words in own)


@pytest.mark.parametrize(("place", "words"), EXAMPLES)
def test_an_example_is_a_command_with_options_that_exist(place: str, words: list[str]) -> None:
    cut = [word for word in words if word not in ("...", "…")]
    if words == cut and "--help" not in words and len(words) > 2:
        masqclip.parse_args(cut, exit_on_error=False, print_error=False)
    options = {word.split("=")[0] for word in cut if word.startswith("--")} - {"--help"}
    path = [word for word in cut if not word.startswith("-")]
    assert not path or path[0] in {verb for verb, _, _ in VERBS}, place
    _, (*_, app), _ = masqclip.parse_commands(path)
    if app.default_command is None:  # a group of verbs, spoken of as a whole
        assert path[1:] in ([], ["STAGE"]), place
        known = set()
    else:
        known = {name for a in app.assemble_argument_collection() for name in a.names}
    assert options <= known, place


def test_examples_of_the_help_fit_on_a_terminal() -> None:
    """A line of a code block has 78 of 80 columns; a longer one would break inside a command."""
    for verb, text in helps():
        for block in re.findall(r"```text\n(.*?)```", text, re.DOTALL):
            assert [line for line in block.splitlines() if len(line) > 78] == [], verb


@pytest.mark.parametrize(("place", "words"), EXAMPLES)
def test_who_trains_on_coco_uses_a_recipe_of_the_paper(place: str, words: list[str]) -> None:
    """Without one it would be the miniature's architecture at 128 pixels."""
    on_coco = any("train2017" in word or word == "coco-base-novel" for word in words)
    if words[:1] != ["train"] or words[:2] == ["train", "baseline"] or not on_coco:
        return  # a baseline's own recipe, which needs no name, is the paper's
    named = words[words.index("--recipe") + 1] if "--recipe" in words else None
    wanted = "base-novel" if "coco-base-novel" in words else "cross-dataset"
    assert named == wanted, place
