"""`masqclip segment` with a model of straw: what it reads, writes, prints and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from straw_calls import Calls, picture, run, written

from masqclip.errors import MasqclipError

pytest_plugins = ("straw_calls",)  # the fixture `calls`


def test_one_picture(calls: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    picture("cat.png")
    assert run("cat.png", "--vocabulary", "cat, sofa") == 0
    shown, errors = capsys.readouterr()
    assert "cat.png" in shown
    assert "sofa" in shown
    assert "0.90" in shown
    assert "6.2 %" in shown  # 6 of 96 pixels
    assert "0 0 3 2" in shown
    assert "written: masqclip-out/cat.panoptic.png and masqclip-out/cat.panoptic.json" in shown
    assert errors == ""
    assert written() == ["cat.panoptic.json", "cat.panoptic.png"]
    document = json.loads(Path("masqclip-out/cat.panoptic.json").read_text())
    assert document == {
        "source": "cat.png",
        "model": "masqclip-mini",
        "task": "panoptic",
        "segments": [{"name": "cat"}, {"name": "sofa"}],
        "notes": [],
        "overlay": "masqclip-out/cat.panoptic.png",
    }
    assert Image.open("masqclip-out/cat.panoptic.png").size == (12, 8)


def test_options_reach_the_model(calls: Calls) -> None:
    import torch

    picture("a.png")
    words = ["-v", "cat,grass", "--stuff", "grass", "--not", "dog,cow", "--template"]
    more = ["a {}", "--template", "the {}", "-t", "semantic", "--min-score", "0.25", "-q"]
    more += ["--refine", "prune=0.05"]
    rest = ["--model", "mine", "--device", "cpu", "--dtype", "bfloat16", "--out", "there"]
    rest += ["--size", "64:96"]
    assert run("a.png", *words, *more, *rest) == 0
    assert calls.loaded == [
        {
            "name": "mine",
            "device": torch.device("cpu"),
            "dtype": torch.bfloat16,
            "size": "64:96",
            "refined": {"prune": 0.05},
        }
    ]
    (options,) = calls.options
    vocabulary = options["vocabulary"]
    assert vocabulary.names == ("cat", "grass")
    assert vocabulary.stuff_ids == {1}
    assert vocabulary.distractors == ("dog", "cow")
    assert vocabulary.templates == ("a {}", "the {}")
    assert (options["task"], options["min_score"]) == ("semantic", 0.25)
    assert written("there") == ["a.semantic.json", "a.semantic.png"]


def test_no_overlay(calls: Calls) -> None:
    picture("a.png")
    assert run("a.png", "-v", "cat", "--no-overlay") == 0
    assert written() == ["a.panoptic.json"]
    assert json.loads(Path("masqclip-out/a.panoptic.json").read_text())["overlay"] is None


def test_many_in_batches_from_folders_and_globs(
    calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one/p1.png", "one/p10.png", "one/p2.png", "two/x.png", "two/deep/y.png"):
        picture(name)
    assert run("one", "two/*.png", "one/p2.png", "-v", "cat", "--batch-size", "3") == 0
    assert calls.batches == [["p1.png", "p2.png", "p10.png"], ["x.png"]]
    assert len(calls.loaded) == 1
    assert "4 pictures segmented; overlays and JSON in masqclip-out" in capsys.readouterr().out
    assert run("two", "-v", "cat", "--recursive", "--quiet") == 0
    assert sorted(calls.batches[-1]) == ["x.png", "y.png"]
    assert capsys.readouterr() == ("", "")


def test_json_and_nothing_else_on_stdout(calls: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    picture("a.png")
    picture("b.png")
    assert run("a.png", "b.png", "-v", "cat", "--json") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["source"] for line in lines] == ["a.png", "b.png"]


def test_notes_are_shown_and_kept(calls: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGBA", (4, 4), (0, 0, 0, 9)).save("glass.png")
    assert run("glass.png", "-v", "cat") == 0
    assert "note: transparency composited on white" in capsys.readouterr().out
    document = json.loads(Path("masqclip-out/glass.panoptic.json").read_text())
    assert document["notes"] == ["transparency composited on white"]


def test_what_is_left_out_of_a_folder_is_said(
    calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    picture("a/_MG_1.png")
    picture("a/sub/b.png")
    Path("a/c.dng").touch()
    assert run("a", "-v", "cat") == 0
    notes = [line for line in capsys.readouterr().err.splitlines() if "left out" in line]
    assert len(notes) == 2
    assert "a/c.dng" in notes[0]
    assert "--recursive" in notes[1]
    assert calls.batches == [["_MG_1.png"]]


def test_colliding_stems_get_names_of_their_own(calls: Calls) -> None:
    for name in ("a/cat.png", "b/cat.jpg", "c/CAT.png", "c/cat-2.png"):
        picture(name)
    assert run("a/cat.png", "b/cat.jpg", "c/CAT.png", "c/cat-2.png", "-v", "x", "-q") == 0
    documents = [json.loads(path.read_text()) for path in Path("masqclip-out").glob("*.json")]
    assert sorted(document["source"] for document in documents) == [
        "a/cat.png", "b/cat.jpg", "c/CAT.png", "c/cat-2.png"
    ]  # fmt: skip
    assert len({name.casefold() for name in written()}) == 8


def test_a_picture_is_never_overwritten(calls: Calls) -> None:
    picture("cat.png")
    before = picture("cat.panoptic.png", (5, 5)).read_bytes()
    assert run("cat.png", "cat.panoptic.png", "-v", "x", "-o", ".", "-q") == 0
    assert Path("cat.panoptic.png").read_bytes() == before
    assert Path("cat-2.panoptic.png").exists()


def test_earlier_results_are_not_pictures(calls: Calls) -> None:
    picture("a.png")
    for _ in range(2):
        assert run(".", "--recursive", "-v", "cat", "-q") == 0
    assert calls.batches == [["a.png"], ["a.png"]]
    assert run("masqclip-out", "-v", "cat", "-q") == 0  # asked for outright, they are
    assert calls.batches[-1] == ["a.panoptic.png"]


# Mistakes


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["gone.png", "-v", "cat"], "gone.png: no such file"),
        (["a.png", "-v", "cat", "--min-score", "7"], "--min-score 7: give a number from 0 to 1"),
        (["a.png", "-v", "cat", "--min-score", "nan"], "--min-score nan"),
        (["a.png", "-v", "cat", "--batch-size", "0"], "--batch-size 0"),
        (["a.png", "-v", "cat", "--out", "a.png"], "--out a.png: a.png is a file"),
        (["a.png", "-v", "cat", "--out", "a.png/x"], "--out a.png/x: a.png is a file"),
        (["a.png", "-v", "cat", "--device", "abacus"], "there is no device 'abacus'"),
        (["a.png", "-v", "cat", "--dtype", "int4"], "--dtype"),
        (["a.png", "-v", "cat", "--task", "magic"], "--task"),
        (["a.png", "-v", "cat", "--tsak", "semantic"], "Did you mean --task?"),
        (["a.png", "-v", ""], "empty"),
        (["a.png", "-v", " ,, "], "empty"),
        (["a.png", "-v", "cat, cat"], "'cat' is given twice"),
        (["a.png", "-v", "cat", "--stuff", "sky"], "sky"),
        (["a.png"], "--vocabulary"),
        (["-v", "cat"], "no IMAGE is given"),
        ([], "no IMAGE is given"),
        (["a.png", "-v", "cat", "dog"], "2 pictures"),
        (["broken.png", "-v", "cat"], "broken.png: broken or cut short"),
        (["empty.png", "-v", "cat"], "empty.png: empty file"),
        (["notes.txt", "-v", "cat"], "notes.txt: not a picture"),
        (["text.png", "-v", "cat"], "text.png: not a picture"),
        (["bare", "-v", "cat"], "bare: no picture in this folder"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    calls: Calls, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    Path("broken.png").write_bytes(picture("a.png").read_bytes()[:-20])
    Path("empty.png").touch()
    for name in ("notes.txt", "text.png"):
        Path(name).write_text("milk")
    Path("bare").mkdir()
    assert run(*words) == 2
    shown, errors = capsys.readouterr()
    lines = errors.splitlines()
    assert said in lines[-1]
    assert all(line.startswith("masqclip: error: ") for line in lines)
    if "dog" not in words:  # there, the first picture is good
        assert len(lines) == 1
        assert shown == ""
        assert written() == []


def test_a_name_taken_for_a_picture_is_explained(
    calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    picture("a.png")
    assert run("a.png", "-v", "cat", "dog") == 2
    assert "-v 'cat, dog'" in capsys.readouterr().err


def test_a_bad_picture_among_many(calls: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    picture("a.png")
    picture("c.png")
    Path("b.png").write_text("no picture")
    assert run("a.png", "gone.png", "b.png", "c.png", "-v", "cat", "--json") == 2
    shown, errors = capsys.readouterr()
    documents = [json.loads(line) for line in shown.splitlines()]
    failed = {document["source"]: "error" in document for document in documents}
    assert failed == {"gone.png": True, "a.png": False, "b.png": True, "c.png": False}
    lines = errors.splitlines()
    assert "gone.png" in lines[0]
    assert "b.png" in lines[1]
    assert "2 of 4 pictures could not be read: gone.png, b.png; the other 2 in" in lines[2]
    assert len(lines) == 3
    assert len(written()) == 4


def test_a_folder_with_one_bad_picture(calls: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.png", "c.png"):
        picture(f"photos/{name}")
    Path("photos/b.png").write_text("no picture")
    assert run("photos", "-v", "cat") == 2
    errors = capsys.readouterr().err.splitlines()
    assert "photos/b.png: not a picture" in errors[0]
    assert "1 of 3 pictures could not be read: photos/b.png; the other 2 in" in errors[1]
    assert len(errors) == 2
    assert [name for name in written() if name.endswith("json")] == [
        "a.panoptic.json", "c.panoptic.json"
    ]  # fmt: skip


def test_nothing_but_bad_pictures_loads_no_model(calls: Calls) -> None:
    Path("a.png").touch()
    Path("b.png").touch()
    assert run("a.png", "b.png", "-v", "cat") == 2
    assert calls.loaded == []
    assert written() == []


def test_a_mistake_that_the_model_finds(calls: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(name: str) -> None:
        raise MasqclipError("a name of more than 77 tokens: 'cat cat ...'\nuse fewer words")

    calls.at_picture = refuse
    picture("a.png")
    assert run("a.png", "-v", "cat") == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert written() == []


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "masqclip: interrupted"),
        (MemoryError(), 2, "out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 2, "out of memory"),
    ],
)
def test_what_stops_it_leaves_complete_files_only(
    calls: Calls, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, said: str
) -> None:
    def stop(name: str) -> None:
        if name == "b.png":
            raise error

    calls.at_picture = stop
    picture("a.png")
    picture("b.png")
    assert run("a.png", "b.png", "-v", "cat", "-q") == code
    assert said in capsys.readouterr().err
    assert written() == ["a.panoptic.json", "a.panoptic.png"]


def test_a_stop_while_writing_leaves_no_half_file(
    calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    def stop(*paths: object) -> None:
        raise KeyboardInterrupt

    picture("a.png")
    monkeypatch.setattr(os, "replace", stop)
    assert run("a.png", "-v", "cat", "-q") == 130
    assert written() == []


def test_a_disk_that_is_full(
    calls: Calls, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import os

    def full(*paths: object) -> None:
        raise OSError(28, "No space left on device")

    picture("a.png")
    monkeypatch.setattr(os, "replace", full)
    assert run("a.png", "-v", "cat", "-q") == 2
    assert "cannot be written (No space left on device)" in capsys.readouterr().err


def test_awkward_file_names(calls: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    picture("[bold] a\nb.png")
    assert run("[bold] a\nb.png", "-v", "cat") == 0
    assert "[bold] a b.png" in capsys.readouterr().out
    assert run("[red]\nc", "-v", "cat") == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
