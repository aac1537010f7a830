"""How far SAM is with its points: told to who listens, without any effect on what it finds."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch
from families import FAMILIES
from PIL import Image
from torch import Tensor
from transformers import CLIPConfig, CLIPModel

from masqclip.cli.main import main
from masqclip.proposals.adapters import load_proposer
from masqclip.proposals.progress import listening, tell
from masqclip.proposals.segmenters import SegmenterProposer
from masqclip.towers.tokenizer import load_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("sam")
    sam = FAMILIES["sam"]()
    sam.config.points_per_side = 9  # 81 points, which go 64 at a time
    sam.save_pretrained(path)
    (path / "preprocessor_config.json").write_text('{"size": {"longest_edge": 64}}')
    return path


@pytest.fixture(scope="module")
def sam(folder: Path) -> SegmenterProposer:
    return load_proposer(folder).eval()


def frames(count: int) -> tuple[Tensor, Tensor]:
    pixels = torch.randn(count, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    return pixels, torch.ones(count, 64, 64, dtype=torch.bool)


def test_points_of_all_pictures_are_counted(sam: SegmenterProposer) -> None:
    told: list[tuple[int, int]] = []
    with torch.no_grad():
        silent = sam(*frames(2))
        with listening(lambda done, total: told.append((done, total))):
            heard = sam(*frames(2))
        sam(*frames(1))
    assert told == [(64, 162), (81, 162), (145, 162), (162, 162)]
    assert torch.equal(heard.mask_logits, silent.mask_logits)
    assert torch.equal(heard.object_logits, silent.object_logits)


def test_a_listener_hears_its_own_thread() -> None:
    heard: dict[str, list[int]] = {"here": [], "there": []}

    def work() -> None:
        tell(1, 9)  # nobody listens
        with listening(lambda done, total: heard["there"].append(done)):
            tell(2, 9)

    with listening(lambda done, total: heard["here"].append(done)):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        with pytest.raises(ZeroDivisionError), listening(lambda done, total: None):
            raise ZeroDivisionError
        tell(3, 9)
    tell(4, 9)
    assert heard == {"here": [3], "there": [2]}


@pytest.mark.parametrize("count", [1, 2])
def test_on_the_command_line(
    folder: Path,
    tmp_path: Path,
    count: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A picture alone has a bar, or a line in a log; several have theirs already."""
    monkeypatch.chdir(tmp_path)
    tower = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1,
             "num_attention_heads": 2}  # fmt: skip
    config = CLIPConfig(
        vision_config=tower | {"image_size": 32, "patch_size": 8},
        text_config=tower | {"vocab_size": 49_408, "eos_token_id": 49_407},
        projection_dim=16,
    )
    CLIPModel(config).save_pretrained("clip")
    load_tokenizer().save_pretrained("clip")
    names = [f"{i}.png" for i in range(count)]
    for name in names:
        Image.new("RGB", (64, 48), (200, 90, 30)).save(name)
    words = ["segment", *names, "-v", "cat", "--clip", "clip", "--proposer", str(folder)]
    words += ["--device", "cpu"]
    assert main(words) == 0
    error = capsys.readouterr().err
    assert ("points: 100 %, 81 of 81" in error) == (count == 1)
    assert main([*words, "-q"]) == 0
    assert "points" not in capsys.readouterr().err
    monkeypatch.setenv("FORCE_COLOR", "1")  # a terminal, to rich
    monkeypatch.setenv("COLUMNS", "200")
    assert main(words) == 0
    shown = capsys.readouterr().err
    assert "points" in shown or count == 2  # a note is drawn only when the bar is redrawn
