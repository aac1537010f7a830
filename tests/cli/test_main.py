"""The frame of the command line: help, mistakes, exit codes."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import warnings

import pytest
from cyclopts import CycloptsError

import masqclip
from masqclip.cli import main as command
from masqclip.cli.main import VERBS, main
from masqclip.errors import MasqclipError


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


@pytest.mark.parametrize("verb", [*(verb for verb, _, _ in VERBS), "data check"])
def test_help_is_what_was_written(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*verb.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    assert "\u2022" not in shown, "a dash became a bullet"
    assert not re.search(r" ([A-Z]+) --\1 ", shown, re.IGNORECASE), "a place is no option"
    assert '[default: ""]' not in shown


def test_the_dash_of_a_picture_that_is_piped_in_is_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["segment", "--help"]) == 0
    assert "a dash (-) is a picture that is piped in" in " ".join(
        capsys.readouterr().out.replace("\u2502", " ").split()
    )


def test_a_name_that_the_terminal_cannot_show_is_shown_as_well_as_it_can(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(shown, encoding="ascii"))
    assert main(["segment", "caf\u00e9.png", "-v", "cat"]) == 2
    sys.stderr.flush()
    assert b"caf?.png" in shown.getvalue()


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


def test_the_words_of_the_process_are_taken_unless_others_are_given(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["masqclip", "--version"])
    assert main() == 0
    assert capsys.readouterr().out.strip() == masqclip.__version__
    assert main([]) == 0
    assert "Open-vocabulary" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (MasqclipError("a mistake"), 2, "masqclip: error: a mistake"),
        (MemoryError(), 2, "masqclip: error: out of memory: give smaller pictures"),
        (KeyboardInterrupt(), 130, "masqclip: interrupted; the files written so far are complete"),
    ],
)
def test_what_ends_a_command_is_told_or_shown_whole(
    error: BaseException,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr("masqclip.cli.info.collect_facts", fail)
    assert main(["info"]) == code
    assert capsys.readouterr().err.startswith(said)
    with pytest.raises(type(error)):
        main(["--debug", "info"])


def test_what_a_command_gives_is_the_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    for given, code in ((3, 3), (None, 0), ("done", 0)):
        monkeypatch.setattr(command, "app", lambda *words, given=given, **named: given)
        assert main(["info"]) == code


def test_warnings_of_pillow_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        assert main(["--version"]) == 0
        for module in ("PIL.Image", "PIL", "PILOT", "other"):
            warnings.warn_explicit("odd", UserWarning, "file", 1, module=module)
        assert len(shown) == 2


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


@pytest.mark.parametrize(
    ("asked", "spins"),
    [({}, "2000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")],
)
def test_the_command_alone_says_how_long_openmp_looks_for_work(
    asked: dict[str, str], spins: str
) -> None:
    code = """
import os, sys, masqclip
print(os.environ.get("GOMP_SPINCOUNT"))
from masqclip.cli.main import main
main(["--version"])
assert "torch" not in sys.modules  # which reads it
print(os.environ.get("GOMP_SPINCOUNT"))
"""
    mine = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    environment = {key: value for key, value in os.environ.items() if key not in mine} | asked
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.stdout.split() == [asked.get("GOMP_SPINCOUNT", "None"), masqclip.__version__, spins]
