"""The authors' checkpoint: from a drive of straw to a model that is asked by its name."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest
from hub_server import Hub

from masqclip import Segmenter
from masqclip.cli.main import main
from masqclip.convert.clip import ClipOptions
from masqclip.convert.files import convert_file
from masqclip.data.files import write_atomically

DATA = Path(__file__).parents[1] / "data"


class Drive:
    """Stands in for gdown."""

    def __init__(self, *names: str, fails: bool = False) -> None:
        self.names, self.fails, self.asked = names, fails, 0

    def module(self) -> types.ModuleType:
        module = types.ModuleType("gdown")
        module.download_folder = self.list  # type: ignore[attr-defined]
        module.download = self.fetch  # type: ignore[attr-defined]
        return module

    def list(self, *, url: str, output: str, quiet: bool, skip_download: bool) -> list[Any]:
        assert skip_download
        if self.fails:
            raise RuntimeError("Cannot retrieve the folder\ninformation")
        return [types.SimpleNamespace(path=name, id=name) for name in self.names]

    def fetch(self, *, id: str, output: str, resume: bool) -> str:
        assert (id, resume) == ("masqclip/model_cross.pth", True)
        self.asked += 1
        write_atomically(output, (DATA / "masqclip_panoptic.pth").read_bytes())
        return output


@pytest.fixture
def clip(hub: Hub, tmp_path: Path, clip_file: Path) -> None:
    """The hub has the CLIP that the checkpoint was tuned on, under the published one's name."""
    folder = tmp_path / "clip"
    convert_file(clip_file, folder, options=ClipOptions(text_heads=2))
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    hub.repositories["openai/clip-vit-large-patch14-336"] = files


def test_it_is_fetched_converted_and_found(
    hub: Hub, clip: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    drive = Drive("masqclip/model_cross.pth", "masqclip/model_base_novel.pth")
    monkeypatch.setitem(sys.modules, "gdown", drive.module())
    assert main(["info", "masqclip-paper"]) == 0
    assert main(["download", "masqclip-paper"]) == 2
    told = capsys.readouterr()
    assert "masqclip-paper is under CC BY-NC 4.0, which forbids some uses" in told.err
    assert (drive.asked, hub.asked) == (0, [])
    with pytest.raises(ValueError, match="'masqclip download masqclip-paper' fetches 3"):
        Segmenter.from_pretrained("masqclip-paper")
    assert main(["download", "masqclip-paper", "--accept-licence"]) == 0
    assert "masqclip segment photo.jpg -v NAMES --model masqclip-paper" in capsys.readouterr().out
    segmenter = Segmenter.from_pretrained("masqclip-paper", device="cpu")
    assert segmenter.model.queries is not None
    assert main(["download", "masqclip-paper"]) == 0, "it is there, and agreed to"
    assert drive.asked == 1


@pytest.mark.parametrize(
    ("drive", "said"),
    [
        (Drive("a.pth", "b.pth"), "0 of its files say 'cross': a.pth, b.pth"),
        (Drive(fails=True), "the drive does not give it .Cannot retrieve the folder information"),
        (None, "needs the package 'gdown': pip install 'masqclip.drive.'; or open https://drive"),
    ],
)
def test_by_hand(
    hub: Hub, drive: Drive | None, said: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setitem(sys.modules, "gdown", drive.module() if drive else None)
    assert main(["download", "masqclip-paper", "--accept-licence"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") <= 2
    import re

    assert re.search(said, error)
    assert "run 'masqclip convert FILE DIR', then --model DIR" in error
