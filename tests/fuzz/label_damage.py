"""`masqclip label`, disturbed: 34 cases. The model is of straw, so they are quick."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
from damage import (
    Cases,
    copy,
    cut,
    failing_writes,
    flip,
    refuse,
    run,
    small_disk,
    started,
    succeed,
    tree,
)
from PIL import Image
from straw import Straw

from masqclip.data.locks import lock_folder
from masqclip.labelling import folder as labelling

CASES = Cases()
JOURNAL = ".masqclip-labels.jsonl"
WORDS = ["label", "photos", "-v", "cat, dog, stuff:sky", "-m", "./model", "--batch-size", "3"]
LABEL = [*WORDS, "-f", "coco", "-o", "out"]
YOLO = [*WORDS, "-f", "yolo", "-o", "out"]


@contextlib.contextmanager
def prepared(scratch: Path) -> Iterator[Straw]:
    """A folder to stand in with seven pictures, a model, and its labels in ``out``."""
    straw, here = Straw(), Path.cwd()
    os.chdir(scratch)
    with (
        mock.patch.dict(sys.modules, {"masqclip.segmenter": straw.module()}),
        mock.patch.object(labelling, "SHEET_PICTURES", 1),
    ):
        for seed in range(7):
            blocks = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
            Path("photos").mkdir(exist_ok=True)
            Image.fromarray(blocks).resize((24, 16), Image.Resampling.NEAREST).save(
                f"photos/p{seed}.bmp"
            )
        Path("model").mkdir()
        Path("model/config.json").write_text("{}")
        Path("model/model.safetensors").write_bytes(bytes(1000))
        succeed(LABEL)
        copy("out", "whole")
        try:
            yield straw
        finally:
            os.chdir(here)


def equal(words: list[str] = LABEL, *, without: tuple[str, ...] = ()) -> None:
    """The command ends well, and the files are those of one run of today's pictures."""
    succeed(words)
    succeed([*words[:-1], "again"])
    assert tree("out", without=without) == tree("again", without=without)


def lines() -> list[bytes]:
    return Path("out", JOURNAL).read_bytes().splitlines(keepends=True)


def write_lines(content: list[bytes]) -> None:
    Path("out", JOURNAL).write_bytes(b"".join(content))


def killed(picture: str, words: list[str], number: int = signal.SIGKILL) -> None:
    """Another process labels, and is sent a signal when it comes to a picture."""
    code = f"from straw import killed_at; killed_at({picture!r}, {words!r}, {int(number)})"
    process = started(code)
    said = process.communicate()[1]
    assert process.returncode == -number, said.decode()
    assert b"Traceback" not in said


for _picture, _words in (("p0.bmp", LABEL), ("p4.bmp", LABEL), ("p5.bmp", YOLO)):

    @CASES.add(f"kill -9 at {_picture} ({_words[_words.index('-f') + 1]})", slow=True)
    def _killed(picture: str = _picture, words: list[str] = _words) -> None:
        shutil.rmtree("out")
        killed(picture, words)
        equal(words)


@CASES.add("SIGTERM at a picture", slow=True)
def _terminated() -> None:
    shutil.rmtree("out")
    killed("p4.bmp", LABEL, signal.SIGTERM)
    equal()


def _at(picture: str, error: BaseException) -> mock._patch[object]:
    straw = sys.modules["masqclip.segmenter"].Segmenter

    def fail(name: str) -> None:
        if name == picture:
            raise error

    return mock.patch.object(straw, "at_picture", fail)


@CASES.add("Ctrl-C at a picture", slow=True)
def _interrupted() -> None:
    shutil.rmtree("out")
    with _at("p4.bmp", KeyboardInterrupt()):
        assert run(LABEL)[0] == 130
    equal()


@CASES.add("drawing a picture takes too much memory")
def _memory() -> None:
    shutil.rmtree("out")
    with _at("p4.bmp", MemoryError()):
        succeed(LABEL)
    assert "MemoryError" in json.loads(Path("out/failed.json").read_text())["p4.bmp"]
    equal(without=(JOURNAL,))


@CASES.add("drawing a picture ends in an error that nobody thought of", slow=True)
def _odd_error() -> None:
    shutil.rmtree("out")
    with _at("p0.bmp", ZeroDivisionError("x\ny")):
        succeed(LABEL)
    assert list(json.loads(Path("out/failed.json").read_text())) == ["p0.bmp"]
    equal(without=(JOURNAL,))


@CASES.add("reading a picture ends in an error that nobody thought of")
def _odd_picture() -> None:
    shutil.rmtree("out")
    real = labelling.read_image

    def fail(content: object, *, name: str = "") -> object:
        if name.endswith("p2.bmp"):
            raise RecursionError("deep")
        return real(content, name=name) if name else real(content)

    with mock.patch.object(labelling, "read_image", fail):
        succeed(LABEL)
    assert "RecursionError" in json.loads(Path("out/failed.json").read_text())["p2.bmp"]
    equal(without=(JOURNAL,))


@CASES.add("the journal's last line is torn")
def _torn() -> None:
    cut(Path("out", JOURNAL), 0.95)
    equal()


@CASES.add("a bit of the journal is flipped")
def _flipped() -> None:
    flip(Path("out", JOURNAL), 0.5)
    said = refuse(LABEL, "is damaged", "delete that line")
    number = int(said.split("line ")[1].split()[0])
    content = lines()
    del content[number - 1]
    write_lines(content)
    equal(without=(JOURNAL,))


@CASES.add("a bit of the journal's first line is flipped")
def _header_flipped() -> None:
    flip(Path("out", JOURNAL), 0.01)
    refuse(LABEL, "line 1 is damaged", "delete the folder")


@CASES.add("two lines of the journal are one")
def _joined() -> None:
    content = lines()
    write_lines([*content[:3], content[3].rstrip(b"\n"), *content[4:]])
    refuse(LABEL, "line 4 is damaged")


@CASES.add("a line of the journal is nested deeply")
def _deep() -> None:
    write_lines([*lines(), b"[" * 100_000 + b"\n"])
    refuse(LABEL, "is damaged")


@CASES.add("the journal is empty")
def _emptied() -> None:
    cut(Path("out", JOURNAL), 0)
    refuse(LABEL, "holds no labels to go on with")


@CASES.add("the journal is gone")
def _gone() -> None:
    Path("out", JOURNAL).unlink()
    refuse(LABEL, "holds no labels to go on with")


@CASES.add("the journal is noise")
def _noise() -> None:
    noise = np.random.default_rng(0).integers(0, 256, 5000, dtype=np.uint8).tobytes()
    Path("out", JOURNAL).write_bytes(noise)
    refuse(LABEL, "line 1 is damaged")


@CASES.add("the journal is of an earlier masqclip")
def _earlier() -> None:
    write_lines([b'{"folder": "photos"}\n', b'{"file_name": "p0.bmp", "bytes": 9, "result": {}}\n'])
    refuse(LABEL, "of an earlier masqclip")


@CASES.add("other weights under the same name")
def _weights() -> None:
    flip("model/model.safetensors")
    before = tree("out")
    refuse(LABEL, "weights have changed")
    assert tree("out") == before
    flip("model/model.safetensors")
    equal()


@CASES.add("another configuration of the same weights")
def _configuration() -> None:
    Path("model/config.json").write_text('{"logit_scale": 1}')
    refuse(LABEL, "weights have changed")


@CASES.add("the model is gone")
def _no_model() -> None:
    shutil.rmtree("model")
    refuse(LABEL, "'./model'")


@CASES.add("a picture changed, at the same size")
def _changed() -> None:
    shutil.copyfile("photos/p6.bmp", "photos/p1.bmp")
    equal(without=(JOURNAL,))
    assert tree("out")["annotations.json"] != tree("whole")["annotations.json"]


@CASES.add("a picture changed, at the same size, and was copied (yolo)")
def _changed_copy() -> None:
    shutil.rmtree("out")
    succeed(YOLO)
    shutil.copyfile("photos/p6.bmp", "photos/p1.bmp")
    equal(YOLO, without=(JOURNAL,))


@CASES.add("pictures have new times only")
def _touched() -> None:
    straw = sys.modules["masqclip.segmenter"].Segmenter
    straw.batches.clear()
    for path in Path("photos").iterdir():
        os.utime(path, (1, 1))
    succeed(LABEL)
    assert straw.batches == []
    assert tree("out") == tree("whole")


@CASES.add("a picture is gone", slow=True)
def _removed() -> None:
    Path("photos/p3.bmp").unlink()
    equal(without=(JOURNAL,))


@CASES.add("a picture is cut short, then restored")
def _cut_short() -> None:
    content = Path("photos/p3.bmp").read_bytes()
    cut("photos/p3.bmp", 0.3)
    succeed(LABEL)
    assert list(json.loads(Path("out/failed.json").read_text())) == ["p3.bmp"]
    Path("photos/p3.bmp").write_bytes(content)
    equal(without=(JOURNAL,))


@CASES.add("another threshold")
def _threshold() -> None:
    refuse([*LABEL, "--min-score", "0.5"], "another least score")


@CASES.add("another vocabulary")
def _vocabulary() -> None:
    refuse([*LABEL[:3], "cat", *LABEL[4:]], "another vocabulary")


@CASES.add("two runs at once")
def _twice() -> None:
    with lock_folder("out"):
        refuse(LABEL, f"process {os.getpid()} on ", "is at work in this folder")
    equal()


@CASES.add("a kill left its lock and files half written")
def _left() -> None:
    Path("out/.masqclip.lock").write_text("process 1 on nowhere")
    Path("out/.annotations.json.abcd_123").write_text('{"images": [')
    Path("out/failed.json").write_text("{")
    equal()


@CASES.add("the dataset is damaged")
def _dataset() -> None:
    cut("out/annotations.json")
    flip("out/contact-sheet.png")
    equal()


@CASES.add("a copied picture of the dataset is damaged (yolo)", slow=True)
def _copied() -> None:
    shutil.rmtree("out")
    succeed(YOLO)
    flip(min(Path("out/images/train").iterdir()))
    equal(YOLO)


@CASES.add("the disk is full at the journal")
def _full_journal() -> None:
    shutil.rmtree("out")
    with failing_writes(JOURNAL):
        refuse(LABEL, "No space left", "free some space")
    equal()


@CASES.add("the disk is full at the dataset", slow=True)
def _full_dataset() -> None:
    Path("out/annotations.json").unlink()
    with failing_writes(".annotations.json"):
        refuse(LABEL, "out/annotations.json", "No space left")
    assert not Path("out/annotations.json").exists()
    equal()


@CASES.add("a disk of 40 kB", slow=True)
def _small_disk() -> None:
    shutil.rmtree("out")
    with small_disk(Path("out"), 0.04) as mounted:
        if mounted:
            refuse(YOLO, "No space left", "free some space")
            files = tree("out")
    if mounted:
        shutil.rmtree("out")
        equal(YOLO)
        whole = tree("out")
        assert all(whole[name] == files[name] for name in files if name != JOURNAL)


@CASES.add("the folder may only be read")
def _read_only() -> None:
    def refused(*_: object, **__: object) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), "out/.masqclip.lock")

    with mock.patch("masqclip.data.locks._acquire", refused):
        refuse(LABEL, "out: cannot be written to", "Read-only")
    equal()


@CASES.add("a name with a control character (label-studio)")
def _control() -> None:
    words = [*WORDS[:3], "cat, do\x07g", *WORDS[4:], "-f", "label-studio", "-o", "new"]
    refuse(words, "U+0007")
    assert not Path("new").exists()


@CASES.add("a name with half a character (yolo)")
def _half() -> None:
    words = [*WORDS[:3], "cat, do\udc80g", *WORDS[4:], "-f", "yolo", "-o", "new"]
    refuse(words, "U+DC80")
    assert not Path("new").exists()
