"""Commands of benchmarks that the documentation prints are whole: each is parsed, none is run."""

from __future__ import annotations

import argparse
import re
import runpy
import shlex
import sys
from collections.abc import Callable
from typing import Any

import cyclopts
import pytest
import torch
from gpu_calls import BENCHMARKS

ROOT = BENCHMARKS.parent
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]


def documented() -> list[tuple[str, ...]]:
    found = []
    for page in PAGES:
        text = re.sub(r"\\\n *", " ", page.read_text())
        for program, rest in re.findall(r"python (benchmarks/\w+\.py)([^\n`]*)", text):
            found.append((program, *shlex.split(re.split(r"\s[|>]", rest)[0], comments=True)))
    return found


class ParsedError(Exception):
    """A command line was read, and nothing was done."""


def test_commands_are_found() -> None:
    assert len({words[0] for words in documented()}) > 10


@pytest.mark.filterwarnings("ignore:Cyclopts application invoked without tokens")
@pytest.mark.parametrize("words", documented(), ids=" ".join)
def test_a_documented_command_is_whole(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(main: Callable[..., Any]) -> None:
        app = cyclopts.App(default_command=main, exit_on_error=False, print_error=False)
        app.parse_args(words[1:])
        raise ParsedError

    parse = argparse.ArgumentParser.parse_args

    def parse_args(self: argparse.ArgumentParser, *given: Any) -> None:
        parse(self, *given)
        raise ParsedError

    monkeypatch.setattr(cyclopts, "run", run)
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
    # Some choose their threads first; with others, later tests would add in another order.
    monkeypatch.setattr(torch, "set_num_threads", lambda number: None)
    monkeypatch.setattr(sys, "argv", list(words))
    with pytest.raises(ParsedError):
        runpy.run_path(str(ROOT / words[0]), run_name="__main__")
