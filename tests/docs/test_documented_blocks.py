"""Every command and every Python block of README.md and docs/, run as it stands there.

Page by page, in a folder of small stand-ins (`scratch.py`), in this process; what differs from the
page stands in the tables of `shortened.py`.
"""

from __future__ import annotations

import itertools
import runpy
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cyclopts
import pytest
import scratch
from documented import PAGES, Block, blocks, commands, masqclip_words
from hub_server import own_hub
from shortened import NOT_RUN, OPTIONS_ONLY, PROGRAMS, SHORTER, find, put, shorten
from streams import SENTENCES

from masqclip.cli import plan
from masqclip.cli.main import main
from masqclip.clip.vocabulary import Vocabulary
from masqclip.training import captioned

RUN = ("bash", "console", "sh", "python")
#: Pages whose blocks take more than ten seconds of a core.
SLOW = {"docs/scale.md", "docs/training.md", "docs/world.md"}


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory, clip_file: Path) -> Path:
    folder = tmp_path_factory.mktemp("readers")
    scratch.build(folder, clip_file)
    return folder


@pytest.fixture
def here(
    stand_ins: Path, tmp_path: Path, clip_file: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """A reader's folder, with a hub, and with commands that are run in this process."""
    shutil.copytree(stand_ins, tmp_path / "here", symlinks=True)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr("masqclip.data.stickers.sprites.build_sprites", scratch.build_sprites)
    monkeypatch.setattr(plan, "_run", run_step)
    monkeypatch.setattr(captioned, "_SAMPLED_SENTENCES", SENTENCES)
    with own_hub(tmp_path, monkeypatch) as hub:
        scratch.fill(hub, clip_file, tmp_path / "hub")
        yield


def run_step(words: Sequence[str], folder: Path) -> int:
    """A step of a plan, as a command of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return main(shorten(list(words)))


def read_options(command: str) -> None:
    """Read the options of a program of the repository, and do nothing else."""
    _, program, *words = shlex.split(command)

    def parse(function: Any, *_: Any, **__: Any) -> None:
        cyclopts.App(default_command=function).parse_args(
            words, exit_on_error=False, print_error=False
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cyclopts, "run", parse)
        run_program(program, words, patch)


def run_program(program: str, words: list[str], patch: pytest.MonkeyPatch) -> None:
    """``python PROGRAM WORDS...``"""
    patch.setattr(sys, "argv", [program, *words])
    patch.syspath_prepend(str(Path(program).resolve().parent))
    code: object = 0
    try:
        runpy.run_path(program, run_name="__main__")
    except SystemExit as end:
        code = end.code
    assert not code, f"{program} ended with {code}"


def run_command(command: str) -> None:
    if find(NOT_RUN, command) is not None:
        return
    if find(OPTIONS_ONLY, command) is not None:
        read_options(command)
        return
    if (program := find(PROGRAMS, command)) is not None:
        with pytest.MonkeyPatch.context() as patch:
            run_program(shlex.split(command)[1], shlex.split(program.change), patch)
        return
    words = masqclip_words(command)
    assert words is not None, f"{command}: this is no command that is run here (shortened.py)"
    scratch.make_room(words)
    assert main(shorten(words)) == 0, command


def run(block: Block, names: dict[str, Any]) -> None:
    if block.language == "python":
        if find(NOT_RUN, block.text) is None:
            exec(compile(block.text, block.place, "exec"), names)
        return
    for command in commands(block.text):
        run_command(command)


def runnable(page: str) -> list[Block]:
    return [block for block in blocks(page) if block.language in RUN]


@pytest.mark.filterwarnings("ignore:Cyclopts application invoked without tokens")
@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.slow] if page in SLOW else [])
        for page in PAGES
        if runnable(page)
    ],
)
def test_the_blocks_of_a_page_run(page: str) -> None:
    names: dict[str, Any] = {}
    for block in blocks(page):
        if block.language not in RUN:
            scratch.write_data_block(block.text)
            continue
        try:
            run(block, names)
        except BaseException as error:
            error.add_note(f"{block.place} holds:\n{block.text}")
            raise


def test_the_tables_hold_nothing_that_no_page_has() -> None:
    texts: list[str] = []
    for block in itertools.chain.from_iterable(map(runnable, PAGES)):
        texts += [block.text] if block.language == "python" else commands(block.text)
    runs = [
        " ".join(words)
        for text in texts
        if find(NOT_RUN, text) is None and (words := masqclip_words(text)) is not None
    ]
    for name in ("miniature", "world"):
        runs += [step.run for step in plan.load_plan(plan.find_plan(name))]
    others = (*NOT_RUN, *OPTIONS_ONLY, *PROGRAMS)
    idle = [entry for entry in SHORTER if not any(map(entry.holds, runs))]
    idle += [entry for entry in others if not any(map(entry.holds, texts))]
    assert idle == [], "delete them: no page has such a command"
    assert all(entry.reason for entry in (*SHORTER, *others))


def test_the_three_ontologies_of_the_guide_say_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for block in blocks("docs/labelling.md"):
        scratch.write_data_block(block.text)
        if block.language == "json":
            Path("yard.json").write_text(block.text)
    text, toml, json = (Vocabulary.parse(f"./yard.{kind}") for kind in ("txt", "toml", "json"))
    assert text.categories == toml.categories == json.categories


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("bash", "masqclip segment none.png --vocabulary cat"),
        ("bash", "masqclip info && masqclip info --no-such-option"),
        ("bash", "rm -r photos"),
        ("bash", "python benchmarks/speed.py --no-such-option 1"),
        ("python", "from masqclip import Segmentator"),
    ],
)
@pytest.mark.usefixtures("here")
def test_a_block_that_does_not_work_is_noticed(language: str, text: str) -> None:
    with pytest.raises((AssertionError, ImportError, cyclopts.CycloptsError)):
        run(Block("page.md", 1, language, text), {})


def test_options_are_put_in_place_of_the_pages_own() -> None:
    words = ["--images", "500", "--set", "steps=9", "--out", "x"]
    assert put(words, "--images 4 --set steps=2 --size 8") == [
        "--images", "4", "--set", "steps=9", "--out", "x", "--set", "steps=2", "--size", "8"
    ]  # fmt: skip
