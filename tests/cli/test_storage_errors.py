"""Full disks and folders that may only be read: one line, from whatever verb."""

from __future__ import annotations

import errno
import os

import pytest

from masqclip.cli import main as command
from masqclip.cli.main import main


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
