"""`masqclip segment` where something goes wrong with one picture, and where with all of them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from straw_calls import Calls, Segmentation, picture, run, written

from masqclip.errors import MasqclipError

pytest_plugins = ("straw_calls",)  # the fixture `calls`


def fail_at(calls: Calls, name: str, error: Exception) -> None:
    def fail(source: str) -> None:
        if source == name:
            raise error

    calls.at_picture = fail


@pytest.mark.parametrize("bad", ["a.png", "b.png", "d.png"])
def test_a_picture_that_the_model_fails_at(
    calls: Calls, capsys: pytest.CaptureFixture[str], bad: str
) -> None:
    names = ["a.png", "b.png", "c.png", "d.png"]
    for name in names:
        picture(name)
    fail_at(calls, bad, RuntimeError("a tensor of\nno shape"))
    assert run(*names, "-v", "cat", "--json", "--batch-size", "3") == 2
    shown, errors = capsys.readouterr()
    lines = errors.splitlines()
    assert f"{bad}: cannot be segmented (RuntimeError: a tensor of no shape)" in lines[0]
    assert f"1 of 4 pictures could not be segmented: {bad}; the other 3 in" in lines[1]
    assert len(lines) == 2
    documents = [json.loads(line) for line in shown.splitlines()]
    assert {d["source"]: "error" in d for d in documents} == {n: n == bad for n in names}
    assert len(written()) == 6


@pytest.mark.parametrize("method", ["plot", "to_json"])
def test_a_picture_that_cannot_be_drawn_or_written(
    calls: Calls,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    method: str,
) -> None:
    good = getattr(Segmentation, method)

    def fail(self: Segmentation) -> Any:
        if self.image.shape[1] == 50:
            raise OSError("execution context too long")
        return good(self)

    monkeypatch.setattr(Segmentation, method, fail)
    for name, width in (("a.png", 9), ("b.png", 50), ("c.png", 9)):
        picture(f"photos/{name}", (width, 8))
    assert run("photos", "-v", "cat", "-q") == 2
    lines = capsys.readouterr().err.splitlines()
    assert "photos/b.png: cannot be segmented (OSError: execution context too long)" in lines[0]
    assert len(lines) == 2
    assert [name for name in written() if name.endswith("json")] == [
        "a.panoptic.json", "c.panoptic.json"
    ]  # fmt: skip
    assert run("photos/b.png", "-v", "cat", "-q") == 2  # alone it is one line as well
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_reader_that_breaks(
    calls: Calls, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from masqclip.data import images

    read = images.read_image

    def fail(path: Path, **options: Any) -> Any:
        if path.name == "b.png":
            raise ZeroDivisionError("division by zero")
        return read(path, **options)

    monkeypatch.setattr(images, "read_image", fail)
    for name in ("a.png", "b.png", "c.png"):
        picture(name)
    assert run("a.png", "b.png", "c.png", "-v", "cat", "-q") == 2
    lines = capsys.readouterr().err.splitlines()
    assert "b.png: cannot be segmented (ZeroDivisionError: division by zero)" in lines[0]
    assert "could not be read: b.png" in lines[1]
    assert len(written()) == 4


@pytest.mark.parametrize("code", [28, 30])
def test_what_no_picture_can_be_written_for_ends_it(
    calls: Calls, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: int
) -> None:
    def full(*paths: object) -> None:
        raise OSError(code, os.strerror(code))

    for i in range(9):
        picture(f"photos/{i}.png")
    monkeypatch.setattr(os, "replace", full)
    assert run("photos", "-v", "cat", "-q", "--batch-size", "1") == 2
    assert capsys.readouterr().err.count("cannot be written") == 1
    assert len(calls.batches) < 9


def test_names_that_cannot_be_used_end_it(
    calls: Calls, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is wrong with the names is said once, not for every picture."""

    def refuse(self: object, images: Iterable[Any], *_: Any, **__: Any) -> Iterator[Any]:
        raise MasqclipError("the name 'cat cat ...' is 80 tokens long")

    module = sys.modules["masqclip.segmenter"]
    monkeypatch.setattr(module.Segmenter, "stream", refuse)  # type: ignore[attr-defined]
    for i in range(5):
        picture(f"photos/{i}.png")
    assert run("photos", "-v", "cat") == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_large_pictures_are_not_read_far_ahead(
    calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    from masqclip.cli import pictures

    monkeypatch.setattr(pictures, "MAX_WAITING_PIXELS", 300)
    for i in range(7):
        picture(f"photos/{i}.png")  # 96 pixels each
    assert run("photos", "-v", "cat", "-q") == 0
    assert sum(map(len, calls.batches)) == 7
    assert max(map(len, calls.batches)) == 2
