"""`masqclip label` with a model of straw: what it writes, what a kill leaves, what it refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from straw import Straw
from straw_folder import JOURNAL, LEDGER, NAMES, picture, run, straw, tree

from masqclip.cli.main import main
from masqclip.clip.vocabulary import Vocabulary

__all__ = ["straw"]  # a fixture


@pytest.mark.parametrize(
    ("kind", "files"),
    [
        ("coco", {"annotations.json"}),
        ("label-studio", {"tasks.json", "config.xml"}),
        ("panoptic", {"panoptic.json"} | {f"panoptic/p{n}.png" for n in range(7)}),
        (
            "yolo",
            {"data.yaml"}
            | {f"images/{'val' if n == 6 else 'train'}/p{n}.png" for n in range(7)}
            | {f"labels/{'val' if n == 6 else 'train'}/p{n}.txt" for n in range(7)},
        ),
    ],
)
def test_what_is_written(
    straw: Straw, capsys: pytest.CaptureFixture[str], kind: str, files: set[str]
) -> None:
    assert run("-o", "out", kind=kind) == 0
    written = tree("out")
    own = {LEDGER} if kind in ("panoptic", "yolo") else set()
    assert set(written) == files | own | {JOURNAL, "contact-sheet.png"}
    assert "7 pictures labelled, " in capsys.readouterr().out
    assert straw.options[0]["task"] == ("panoptic" if kind == "panoptic" else "instance")
    if kind == "yolo":
        assert written["images/train/p0.png"] == Path("photos/p0.png").read_bytes()


def test_names_that_no_font_has_are_told_of(
    straw: Straw, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "\U000f0000"
    assert run("-o", "out", vocabulary=f"cat, {name}") == 0
    told = "note: no font here has the letters of some names, which are numbers in the overlay: #2"
    assert told in capsys.readouterr().err
    assert run("-o", "quiet", "-q", vocabulary=f"cat, {name}") == 0
    assert run("-o", "letters") == 0
    assert "no font" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "batch"),
    [("coco", "3"), ("yolo", "3"), ("label-studio", "1"), ("panoptic", "1")],
)
def test_a_kill_and_a_second_run_are_one_run(straw: Straw, kind: str, batch: str) -> None:
    assert run("-o", "one", "--batch-size", batch, kind=kind) == 0
    words = ["label", "photos", "-v", "cat, dog, stuff:sky", "-f", kind, "-o", "two"]
    code = f"from straw import killed_at; killed_at('p4.png', {[*words, '--batch-size', batch]})"
    done = subprocess.run([sys.executable, "-c", code], cwd=".", env=_environment())
    assert done.returncode == -signal.SIGKILL
    assert len(Path("two", JOURNAL).read_text().splitlines()) == 1 + 4
    first_run, straw.batches = straw.batches, []
    assert run("-o", "two", "--batch-size", batch, kind=kind) == 0
    assert tree("two") == tree("one")
    # The same batches as in one run, from the one that holds the fifth picture on.
    assert straw.batches == first_run[4 // int(batch) :]


def _environment() -> dict[str, str]:
    paths = [str(Path(__file__).parent), *sys.path]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def test_what_a_kill_may_leave_is_cleared_away(straw: Straw) -> None:
    assert run("-o", "one", kind="yolo") == 0
    assert run("-o", "two", kind="yolo") == 0
    journal = Path("two", JOURNAL)
    journal.write_bytes(journal.read_bytes()[:-30])  # the last line is torn
    Path("two/labels/train/.p3.txt.abcd_123").write_text("0 0.1")  # a file half written
    Path("two/data.yaml").unlink()
    straw.batches.clear()
    assert run("-o", "two", kind="yolo") == 0
    assert straw.batches == [["p6.png"]]
    assert tree("two") == tree("one")


def test_ctrl_c_keeps_what_is_done(straw: Straw, capsys: pytest.CaptureFixture[str]) -> None:
    def stop(name: str) -> None:
        if name == "p5.png":
            raise KeyboardInterrupt

    assert run("-o", "one") == 0
    straw.at_picture = stop
    assert run("-o", "two") == 130
    assert "interrupted" in capsys.readouterr().err
    straw.at_picture = lambda name: None
    straw.batches.clear()
    assert run("-o", "two") == 0
    assert straw.batches == [["p5.png"], ["p6.png"]]
    assert tree("two") == tree("one")


def test_a_finished_folder_costs_nothing_and_grows(straw: Straw) -> None:
    assert run("-o", "out") == 0
    assert run("-o", "out") == 0
    assert straw.loaded == ["masqclip-mini"]
    picture("photos/p10.png", 10)
    picture("photos/p2.png", 11)  # another picture under an old name
    Path("photos/p2.png").write_bytes(Path("photos/p2.png").read_bytes() + b"more")
    straw.batches.clear()
    assert run("-o", "out") == 0
    assert straw.batches == [["p2.png"], ["p10.png"]]
    document = json.loads(Path("out/annotations.json").read_text())
    assert [image["file_name"] for image in document["images"]] == [*NAMES, "p10.png"]


@pytest.mark.parametrize(
    ("vocabulary", "kind", "words", "said"),
    [
        ("cat, sky", "coco", [], "another vocabulary"),
        ("cat, dog, stuff:sky", "yolo", [], "another format"),
        ("cat, dog, stuff:sky", "coco", ["--model", "mine"], "another model"),
        ("cat, dog, stuff:sky", "coco", ["--min-score", "0.5"], "another least score"),
        ("cat, dog, stuff:sky", "coco", ["-t", "semantic"], "another task"),
    ],
)
def test_other_settings_are_refused(
    straw: Straw,
    capsys: pytest.CaptureFixture[str],
    vocabulary: str,
    kind: str,
    words: list[str],
    said: str,
) -> None:
    assert run("-o", "out") == 0
    before = tree("out")
    assert run("-o", "out", *words, vocabulary=vocabulary, kind=kind) == 2
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert f"out: holds labels made with {said}; name another folder" in line
    assert tree("out") == before


def test_a_bad_picture_is_told_and_tried_again(
    straw: Straw, capsys: pytest.CaptureFixture[str]
) -> None:
    good = Path("photos/p3.png").read_bytes()
    Path("photos/p3.png").write_bytes(good[:-20])
    assert run("-o", "out") == 0
    shown, errors = capsys.readouterr()
    assert "warning: photos/p3.png: broken or cut short" in errors
    assert "6 pictures labelled" in shown
    assert "1 could not be read" in shown
    assert list(json.loads(Path("out/failed.json").read_text())) == ["p3.png"]
    document = json.loads(Path("out/annotations.json").read_text())
    assert [image["file_name"] for image in document["images"]] == NAMES[:3] + NAMES[4:]
    Path("photos/p3.png").write_bytes(good)
    assert run("-o", "out") == 0
    assert run("-o", "whole") == 0
    assert not Path("out/failed.json").exists()
    assert tree("out").keys() == tree("whole").keys()
    assert tree("out")["annotations.json"] == tree("whole")["annotations.json"]


def test_nothing_but_bad_pictures(straw: Straw, capsys: pytest.CaptureFixture[str]) -> None:
    for name in NAMES:
        Path("photos", name).write_text("no picture")
    assert run("-o", "out") == 2
    assert "none of the 7 pictures can be read; the first: " in capsys.readouterr().err
    assert straw.loaded == []
    assert set(tree("out")) == {JOURNAL, "failed.json"}


def test_an_ontology_reaches_the_model(straw: Straw) -> None:
    Path("o.toml").write_text('box = ["shipping container", "freight box"]\n"stuff:sky" = []\n')
    assert run("-o", "out", "--not", "dog", "--template", "a {}", vocabulary="o.toml") == 0
    words = straw.options[0]["words"]
    assert [(c.name, c.prompts, c.thing) for c in words.categories] == [
        ("box", ("shipping container", "freight box"), True), ("sky", ("sky",), False)
    ]  # fmt: skip
    assert (words.distractors, words.templates) == (("dog",), ("a {}",))


def test_sub_folders_and_names_that_collide(straw: Straw) -> None:
    picture("photos/a/p0.jpg", 20)
    picture("photos/a-p0.png", 21)
    picture("photos/P1.jpg", 22)
    assert run("-o", "photos/out", "--split", "0", kind="yolo") == 0
    labels = {path.stem for path in Path("photos/out/labels/train").iterdir()}
    assert len({label.casefold() for label in labels}) == 10
    assert {"a-p0", "a-p0-2", "p0"} < labels
    assert "val: images/train" in Path("photos/out/data.yaml").read_text()
    # The dataset lies among the pictures, and is none of them.
    straw.batches.clear()
    assert run("-o", "photos/out", "--split", "0", kind="yolo") == 0
    assert straw.batches == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["gone", "-v", "cat", "-f", "coco"], "gone: no such folder"),
        (["photos/p0.png", "-v", "cat", "-f", "coco"], "no such folder"),
        (["bare", "-v", "cat", "-f", "coco"], "bare: no picture in this folder"),
        (["photos", "-v", "cat", "-f", "coco", "-o", "photos"], "photos: holds the pictures"),
        (["photos", "-v", "cat", "-f", "coco", "-o", "other"], "other: not empty, and it holds no"),
        (["photos", "-v", "cat", "-f", "coco", "-o", "photos/p0.png"], "is a file; name a folder"),
        (["photos", "-v", "cat", "-f", "panoptic", "-t", "instance"], "ask for task panoptic"),
        (["photos", "-v", "cat", "-f", "voc"], 'Invalid value "voc"'),
        (["photos", "-v", "cat"], "--format"),
        (["photos", "-f", "coco"], "--vocabulary"),
        (["photos", "-v", "cat", "-f", "yolo", "--split", "1"], "--split 1: give a share"),
        (["photos", "-v", "cat", "-f", "coco", "--min-score", "2"], "--min-score 2"),
        (["photos", "-v", "cat", "-f", "coco", "--batch-size", "0"], "--batch-size 0"),
        (["photos", "-v", "cat, cat", "-f", "coco"], "'cat' is given twice"),
    ],
)
def test_a_mistake_is_one_line(
    straw: Straw, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    Path("bare").mkdir()
    picture("other/x.png")
    assert main(["label", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("masqclip: error: ")
    assert said in line
    assert not Path("masqclip-labels").exists()
    assert straw.loaded == []


ODD = [
    "yes", "null", "1e3", "0x10", "~", "a: b", "- a", "# a", "{a}", "[a]", "'", "\\", "%TAG",
    "& <b>", "red, green", 'a "b"', "TCP/IP", "./x", "C:\\x", "names.txt", "\u00e9", "\U0001f431",
    "=", "=A1", "a; b", "St. Bernard", "\u200fx", "1", "stickers",
]  # fmt: skip


def test_odd_names_survive_in_every_format_and_are_read_from_there(straw: Straw) -> None:
    written = ", ".join('"' + name.replace('"', '""') + '"' for name in ODD)
    where = {
        "coco": "annotations.json", "yolo": "data.yaml", "panoptic": "panoptic.json",
        "label-studio": "config.xml",
    }  # fmt: skip
    for kind, file in where.items():
        assert run("-o", kind, "-t", "panoptic", "-q", vocabulary=written, kind=kind) == 0
        assert list(Vocabulary.parse(Path(kind, file)).names) == ODD
    document = json.loads(Path("coco/annotations.json").read_text())
    assert [category["name"] for category in document["categories"]] == ODD
    tasks = json.loads(Path("label-studio/tasks.json").read_text())
    regions = [region for task in tasks for region in task["predictions"][0]["result"]]
    assert {label for region in regions for label in region["value"]["brushlabels"]} <= {*ODD}
    assert regions
    # The same from a file that a tool wrote.
    assert run("-o", "again", "-q", vocabulary="yolo/data.yaml", kind="coco") == 0
    again = json.loads(Path("again/annotations.json").read_text())
    assert [category["name"] for category in again["categories"]] == ODD


@pytest.mark.parametrize("words", ["classes.yaml", "./x", "C:\\x", "lists/classes.xlsx"])
def test_a_missing_file_of_names_is_told(
    straw: Straw, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(vocabulary=words) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1
    assert "there is no vocabulary file" in told[0]
    assert not Path("masqclip-labels").exists()
