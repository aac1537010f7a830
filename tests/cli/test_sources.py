"""`masqclip segment` on an address and on standard input, with a model of straw."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from straw_calls import Calls, picture, run, written

from masqclip.data import web_pictures
from masqclip.errors import MasqclipError

pytest_plugins = ("straw_calls",)  # the fixture `calls`

ADDRESS = "https://example.org/photos/my%20cat.jpg?size=large"


def png(colour: str = "teal") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (12, 8), colour).save(buffer, "PNG")
    return buffer.getvalue()


def piped(monkeypatch: pytest.MonkeyPatch, content: bytes, *, terminal: bool = False) -> None:
    stream = SimpleNamespace(buffer=io.BytesIO(content), isatty=lambda: terminal)
    monkeypatch.setattr(sys, "stdin", stream)


def served(monkeypatch: pytest.MonkeyPatch, pages: dict[str, bytes | str]) -> list[str]:
    """Addresses and what is behind them, or why nothing is; returns those that are asked."""
    asked: list[str] = []

    def fetch(address: str) -> bytes:
        asked.append(address)
        found = pages[address]
        if isinstance(found, str):
            raise MasqclipError(f"{address}: {found}")
        return found

    monkeypatch.setattr(web_pictures, "fetch_picture", fetch)
    return asked


def test_an_address(
    calls: Calls, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = served(monkeypatch, {ADDRESS: png()})
    assert run(ADDRESS, ADDRESS, "-v", "cat") == 0
    assert asked == [ADDRESS], "twice the same is once"
    assert written() == ["my cat.panoptic.json", "my cat.panoptic.png"]
    document = json.loads(Path("masqclip-out/my cat.panoptic.json").read_text())
    assert document["source"] == ADDRESS
    assert ADDRESS in capsys.readouterr().out.replace("\n", "")


def test_standard_input(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    piped(monkeypatch, png("red"))
    assert run("-", "-v", "cat", "-t", "semantic", "-q") == 0
    assert written() == ["stdin.semantic.json", "stdin.semantic.png"]
    assert json.loads(Path("masqclip-out/stdin.semantic.json").read_text())["source"] == "-"
    drawn = np.asarray(Image.open("masqclip-out/stdin.semantic.png"))
    assert drawn[0, 0].tolist() == [255, 0, 0]


def test_files_addresses_and_standard_input_together(
    calls: Calls, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    picture("photos/my cat.png")
    other = "http://example.org/stdin.png"
    served(monkeypatch, {ADDRESS: png(), other: "the server answers 404 (Not Found)"})
    piped(monkeypatch, png())
    assert run("photos", ADDRESS, "-", "-", other, "-v", "cat") == 2
    assert calls.batches == [["my cat.png", "my%20cat.jpg?size=large", "-"]]
    errors = capsys.readouterr().err.splitlines()
    assert errors[0] == f"masqclip: error: {other}: the server answers 404 (Not Found)"
    assert "1 of 4 pictures could not be read" in errors[1]
    names = ["my cat", "my cat-2", "stdin"]
    assert written() == sorted(
        f"{name}.panoptic.{kind}" for name in names for kind in ("json", "png")
    )


@pytest.mark.parametrize(
    ("content", "terminal", "said"),
    [
        (b"", False, "-: empty file (0 bytes)"),
        (b"milk", False, "-: not a picture"),
        (png()[:-20], False, "-: broken or cut short"),
        (png(), True, "-: nothing is piped in: give a file, or pipe one in: cat photo.jpg |"),
    ],
)
def test_what_is_piped_in_and_is_no_picture(
    calls: Calls,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    content: bytes,
    terminal: bool,
    said: str,
) -> None:
    piped(monkeypatch, content, terminal=terminal)
    assert run("-", "-v", "cat") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert written() == []


def test_too_much_is_piped_in(
    calls: Calls, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("masqclip.data.images.MAX_FILE_BYTES", 1000)
    piped(monkeypatch, b"x" * 1001)
    assert run("-", "-v", "cat") == 2
    assert "-: larger than the limit of 0.001 MB" in capsys.readouterr().err


def test_a_closed_standard_input(
    calls: Calls, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert run("-", "-v", "cat") == 2
    assert "nothing is piped in" in capsys.readouterr().err
