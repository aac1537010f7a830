"""What is printed: lines that stay lines, tables that stay short, and bars that vanish."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from masqclip.cli.console import MAX_ROWS, Steps, found_table, one_line, out_console, print_error


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
        SimpleNamespace(name=f"n{i}", score=i / 100, area=4, box=(0, 0, 2, 2)) for i in range(30)
    ]
    result: Any = SimpleNamespace(image=np.zeros((4, 4, 3), np.uint8), segments=segments)
    out_console().print(found_table("cat.png", result))
    shown = capsys.readouterr().out
    assert shown.index("n29") < shown.index("n28")
    assert "25.0 %" in shown
    assert "n9 " not in shown
    assert f"and {30 - MAX_ROWS} more" in shown


@pytest.mark.parametrize("hidden", [False, True])
def test_the_bar_shows_on_terminals_only(
    hidden: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")

    def work() -> str:
        with Steps("scenes", total=3, hidden=hidden) as steps:
            steps.advance()
            steps.show(2, "loss 0.5")
            with steps.paused():
                pass
        return capsys.readouterr().err

    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes this for a terminal
    shown = work()
    assert ("scenes" in shown and "2/3" in shown and "loss 0.5" in shown) != hidden
    monkeypatch.delenv("FORCE_COLOR")
    assert work() == ""
