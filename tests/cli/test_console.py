"""What is printed: lines that stay lines, tables that stay short, and bars that vanish."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from masqclip.cli.console import (
    MAX_ROWS,
    Phases,
    Steps,
    found_table,
    one_line,
    out_console,
    print_error,
    print_found,
)


def test_one_line_prints_anything() -> None:
    assert one_line("a\nb\tc") == "a b c"
    assert one_line("x\x1b[31m\udcff") == "x?[31m?"
    assert one_line("caf\N{LATIN SMALL LETTER E WITH ACUTE}").endswith("\u00e9")


def test_an_error_is_never_wrapped(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    print_error("word " * 30 + "[bold]")
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert shown.endswith("[bold]\n")


def test_the_best_come_first_and_the_rest_are_counted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    segments = [
        SimpleNamespace(label=f"n{i}", score=i / 100, area=4, box=(0, 0, 2, 2)) for i in range(30)
    ]
    result: Any = SimpleNamespace(image=np.zeros((4, 4, 3), np.uint8), segments=segments)
    out_console().print(found_table("cat.png", result))
    shown = capsys.readouterr().out
    assert shown.index("n29") < shown.index("n28")
    assert "25.0 %" in shown
    assert "n9 " not in shown
    assert f"and {30 - MAX_ROWS} more" in shown


def test_names_that_found_nothing_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    segment = SimpleNamespace(label="cat", score=0.5, area=4, box=(0, 0, 2, 2))
    for missing, expected in (
        ((), ""),
        (("dog", "tree\n"), "not found: dog, tree \n"),
        (tuple(f"n{i}" for i in range(MAX_ROWS + 3)), f"n{MAX_ROWS - 1} and 3 more\n"),
    ):
        image = np.zeros((4, 4, 3), np.uint8)
        result: Any = SimpleNamespace(image=image, segments=[segment], not_found=missing)
        print_found("cat.png", result, ["said"])
        shown = capsys.readouterr().out
        assert shown.endswith(f"{expected}note: said\n")
        assert ("not found" in shown) == bool(missing)
    print_found("cat.png", SimpleNamespace(segments=[], not_found=("cat",)), [])  # type: ignore[arg-type]
    assert capsys.readouterr().out == "cat.png: nothing found\n"


@pytest.mark.parametrize("hidden", [False, True])
def test_the_bar_shows_on_terminals_only(
    hidden: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")

    def work() -> str:
        with Steps("scenes", total=4, hidden=hidden, brief=True) as steps:
            steps.advance()
            steps.show(2, "loss [0.5]")
            with steps.paused():
                pass
        return capsys.readouterr().err

    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes this for a terminal
    shown = work()
    parts = ("scenes", "2/4", "50%", "0:00:00", "loss [0.5]")
    assert [part in shown for part in parts] == [not hidden] * len(parts)
    monkeypatch.delenv("FORCE_COLOR")
    assert work() == ""


class Clock:
    """Seconds that pass when told to."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    clock = Clock()
    monkeypatch.setattr("masqclip.cli.console.time", clock)
    return clock


def test_a_log_gets_a_line_every_half_minute_and_the_last(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with Steps("tune", total=200) as steps:
        for step in range(1, 101):  # a second a step
            clock.now += 1
            steps.show(step, f"loss [{step}]")
    shown, errors = capsys.readouterr()
    assert shown == ""
    assert errors.splitlines() == [
        "tune: 15 %, 30 of 200, 0:00:30 elapsed, 0:02:50 left, 1 a second  loss [30]",
        "tune: 30 %, 60 of 200, 0:01:00 elapsed, 0:02:20 left, 1 a second  loss [60]",
        "tune: 45 %, 90 of 200, 0:01:30 elapsed, 0:01:50 left, 1 a second  loss [90]",
        "tune: 50 %, 100 of 200, 0:01:40 elapsed, 0:01:40 left, 1 a second  loss [100]",
    ]


def test_the_pace_is_that_of_late(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    """What an earlier run did is there at once, and tells nothing of what is left."""
    with Steps("pictures", total=1000) as steps:
        for _ in range(900):
            steps.advance()
        for _ in range(4):  # 20 s each
            clock.now += 20
            steps.advance()
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "pictures: 90 %, 902 of 1000, 0:00:40 elapsed, 0:00:04 left, 22.5 a second",
        "pictures: 90 %, 904 of 1000, 0:01:20 elapsed, 0:32:00 left, 20 s each",
    ]
    with Steps("tune", total=9, pace=False) as steps:
        steps.show(1)
        clock.now += 31
        steps.show(2, "note")
    assert capsys.readouterr().err == "tune: 22 %, 2 of 9, 0:00:31 elapsed  note\n"


def test_short_work_may_stay_without_a_line(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    for seconds, lines in ((29, 0), (31, 2)):
        with Steps("pictures", total=3, brief=True) as steps:
            for pause in (seconds, 0.5):
                clock.now += pause
                steps.advance()
        assert len(capsys.readouterr().err.splitlines()) == lines


def test_a_line_is_not_printed_twice(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Steps("tune", total=1) as steps:
        clock.now += 31
        steps.show(1)
    assert capsys.readouterr().err == "tune: 100 %, 1 of 1, 0:00:31 elapsed\n"


def test_what_stops_the_work_leaves_the_last_line(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> None:
        with Steps("scenes", total=9) as steps:
            steps.show(4)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert "4 of 9" in capsys.readouterr().err


def test_lines_can_be_left_out(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Steps("scenes", total=9, hidden=True) as steps:
        clock.now += 31
        steps.show(4)
    assert capsys.readouterr().err == ""


def test_phases_follow_one_another(capsys: pytest.CaptureFixture[str]) -> None:
    with Phases() as phases:
        for phase, total in (("predicting", 3), ("scoring", 2)):
            for done in range(1, total + 1):
                phases.show(phase, done, total)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == ["predicting: 100 %", "scoring: 100 %"]
    with Phases(hidden=True) as phases:
        phases.show("predicting", 1, 1)
    assert capsys.readouterr().err == ""
