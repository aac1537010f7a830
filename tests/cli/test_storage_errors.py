"""Full disks and folders that may only be read: one line, from whatever verb."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from masqclip.cli import main as command
from masqclip.cli.main import main
from masqclip.data.files import writing
from masqclip.errors import MasqclipError, storage_error


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "out/a.json: No space left on device: free some space"),
        (errno.EDQUOT, "free some space"),
        (errno.EROFS, "name a folder that may be written to"),
        (errno.EACCES, "Permission denied: name a folder"),
        (errno.ENAMETOOLONG, "give a shorter name"),
    ],
)
def test_a_disk_that_refuses_is_one_line(
    number: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), "out/a.json")

    monkeypatch.setattr(command, "app", fail)
    assert main(["info"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("masqclip: error: out/a.json: ")
    assert said in line
    with pytest.raises(OSError, match=r"out/a\.json"):
        main(["info", "--debug"])


def test_other_errors_of_the_system_are_defects(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ECHILD, "no child")

    monkeypatch.setattr(command, "app", fail)
    with pytest.raises(OSError, match="no child"):
        main(["info"])


# Before the work: what can be foreseen, by every command that writes


def _blocked(kind: str, tmp_path: Path) -> Path:
    """A path that nothing can be written to, and that may be asked for."""
    if kind == "a file":
        (tmp_path / "file").write_text("mine")
        return tmp_path / "file"
    if kind == "below a file":
        (tmp_path / "file").write_text("mine")
        return tmp_path / "file" / "sub"
    if kind == "a link to itself":
        (tmp_path / "loop").symlink_to("loop")
        return tmp_path / "loop"
    if kind == "a name too long":
        return tmp_path / "new" / ("n" * 300)
    return tmp_path.joinpath(*["n" * 200] * 25)


COMMANDS = {
    "segment": "segment photos/p.png -v cat --out OUT",
    "label": "label photos -v cat -f coco --out OUT",
    "batch": "batch photos -v cat --out OUT",
    "sprites": "data sprites --packages photos --out OUT",
    "stickers": "data stickers --images 1 --seed 1 --out OUT",
    "pretrain": "train pretrain --data photos --out OUT",
    "teacher": "train teacher --data photos --out OUT",
    "distill": "train distill --data photos --teacher photos --out OUT",
    "pseudo labels": "train distill --data photos --teacher photos --out new "
    "--save-pseudo-labels OUT/x.json",
    "tune": "train tune --data photos --model masqclip-mini --out OUT",
    "proposals": "train tune --data photos --model masqclip-mini --out new --store-proposals OUT",
    "miniature": "train miniature --out OUT",
    "evaluate": "evaluate --dataset stickers --root photos --out OUT",
    "predictions": "evaluate --dataset stickers --root photos --save-predictions OUT",
    "convert": "convert weights.pth OUT",
}


@pytest.mark.parametrize(
    "kind", ["a file", "below a file", "a link to itself", "a name too long", "a path too long"]
)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_place_that_cannot_be_written_is_refused_before_the_work(
    command: str,
    kind: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    out = _blocked(kind, tmp_path)
    before = sorted(tmp_path.iterdir())
    words = [word.replace("OUT", str(out)) for word in COMMANDS[command].split()]
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    option = "OUT" if command == "convert" else "--"
    assert line.startswith(f"masqclip: error: {option}"), line
    assert "name" in line
    assert len(line) < 1000
    assert sorted(tmp_path.iterdir()) == before
    assert not (tmp_path / "file").exists() or (tmp_path / "file").read_text() == "mine"


# While it is written


class SafetensorError(Exception):
    """As the library's: none of the system's."""


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), errno.ENOSPC),
        (SafetensorError("Error: I/O error: No space left on device (os error 28)"), errno.ENOSPC),
        (SafetensorError("Error: I/O error: Read-only file system (os error 30)"), errno.EROFS),
        (RuntimeError("PytorchStreamWriter failed: No space left on device"), errno.ENOSPC),
    ],
)
def test_what_libraries_say_of_a_disk_names_the_file(
    error: Exception, number: int, tmp_path: Path
) -> None:
    target = tmp_path / "out/model.safetensors"
    with pytest.raises(OSError, match=r"out/model\.safetensors") as caught, writing(target):
        raise error
    assert caught.value.errno == number
    assert storage_error(caught.value) is not None


def test_what_is_no_error_of_a_disk_stays(tmp_path: Path) -> None:
    for error in (RuntimeError("shapes differ"), MasqclipError("a mistake")):
        with pytest.raises(type(error), match=str(error)), writing(tmp_path):
            raise error


@pytest.mark.parametrize("verb", ["label", "batch", "segment", "evaluate"])
def test_a_path_of_a_thousand_folders_is_one_line(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    deep = "d/" * 1500 + "x"
    words = [verb, "-d", "stickers"] if verb == "evaluate" else [verb, ".", "-v", "cat"]
    words += ["-f", "coco"] if verb == "label" else []
    assert main([*words, "--out", deep]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "folders deep; give a shorter path" in line
