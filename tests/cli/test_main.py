"""The frame of the command line: help, mistakes, exit codes."""

from __future__ import annotations

import subprocess
import sys

import pytest
from cyclopts import CycloptsError

import masqclip
from masqclip.cli.main import VERBS, main


@pytest.mark.parametrize("words", [["--help"], []])
def test_help_names_every_verb(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    shown = capsys.readouterr().out
    for verb, _, line in VERBS:
        assert verb in shown
        assert line in shown


@pytest.mark.parametrize("verb", [verb for verb, _, _ in VERBS])
def test_every_verb_explains_itself_with_examples(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([verb, "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.count(f"masqclip {verb}") >= 3


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == masqclip.__version__


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["segmnt", "a.png"], 'Did you mean "segment"?'),
        (["info", "--jsno"], "Did you mean --json?"),
        (["info", "more"], "more"),
        (["--bogus"], "--bogus"),
    ],
)
def test_a_mistyped_word_is_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    shown, errors = capsys.readouterr()
    assert shown == ""
    assert errors.startswith("masqclip: error: ")
    assert said in errors
    assert errors.count("\n") == 1


def test_debug_shows_the_traceback() -> None:
    with pytest.raises(CycloptsError):
        main(["segmnt", "--debug"])


def test_a_defect_is_not_taken_for_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("a defect of ours")

    monkeypatch.setattr("masqclip.cli.info.collect_facts", broken)
    with pytest.raises(RuntimeError, match="defect"):
        main(["info"])


def test_a_reader_that_leaves_early_is_no_error() -> None:
    code = "import sys; from masqclip.cli.main import main; sys.exit(main(['--help']))"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.wait()
    process.stderr.close()
