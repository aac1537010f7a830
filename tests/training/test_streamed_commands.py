"""`masqclip train ... --data stickers:...` from the command line, on tiny models."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from streams import SENTENCES

from drawings import drawings, write_cache
from masqclip.cli.main import main
from masqclip.data.open_coco import CocoMasks, open_coco
from masqclip.data.stickers.files import write_stickers
from masqclip.data.stickers.source import StickerSource
from masqclip.proposals.mask2former import Mask2FormerProposer
from masqclip.training import captioned, checkpoint_files

QUICK = ["--device", "cpu", "--set", "steps=2", "--set", "workers=0", "--set", "warmup_steps=0"]
QUICK += ["--set", "batch_size=2"]
FRAME = ["--set", "image_size=64"]


@pytest.fixture(scope="module", autouse=True)
def _quickly() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(captioned, "_SAMPLED_SENTENCES", SENTENCES)
        yield


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Drawings in the folder that is meant where none is named."""
    monkeypatch.chdir(tmp_path)
    return write_cache(tmp_path / "sprites", drawings())


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a command ends with."""
    capsys.readouterr()
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("masqclip: error: ")
    return line


def teacher(*more: str, out: str = "out") -> list[str]:
    return ["train", "teacher", "--data", "stickers:size=48,seed=3", "--out", out, *QUICK, *FRAME,
            *more]  # fmt: skip


# What a run is judged by


def test_what_is_held_out_is_a_folder_of_another_seed(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = StickerSource(cache, size=48).world()
    for seed in (3, 4):
        write_stickers(f"held-{seed}", world, images=2, seed=seed)
    line = refused(teacher("--held-out", "held-3"), capsys)
    assert "held-3 and stickers:size=48,seed=3 are scenes of the same seed" in line
    by_file = ["--held-out", "held-3/annotations/panoptic.json", "--images", "held-3/images"]
    assert "are scenes of the same seed, 3" in refused(teacher(*by_file), capsys)
    Path("link.json").symlink_to("held-3/annotations/panoptic.json")
    by_link = ["--held-out", "link.json", "--images", "held-3/images"]
    assert "are scenes of the same seed, 3" in refused(teacher(*by_link), capsys)
    line = refused(teacher("--images", "held-3/images"), capsys)
    assert "--images held-3/images: stickers:size=48,seed=3 is drawn and has no pictures" in line
    for stream in ("stickers:seed=5", "stickers:sprites=nowhere"):
        line = refused(teacher("--held-out", stream), capsys)
        assert f"--held-out {stream}: evaluation reads files;" in line
    line = refused(teacher("--held-out", "0.1"), capsys)
    assert "--held-out 0.1 of stickers:size=48,seed=3: evaluation reads files;" in line
    assert "of another seed" in line
    assert not Path("out").exists()
    assert main(teacher("--held-out", "held-4")) == 0
    assert len(list(Path("out/evaluation").glob("proposals-*.png"))) == 1
    assert main(teacher("--held-out", "0", out="none")) == 0
    assert not Path("none/evaluation").exists()


def test_of_a_folder_too_a_stream_cannot_be_held_out(
    cache: Path, tiny_scenes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "teacher", "--data", str(tiny_scenes), "--held-out", "stickers:seed=9"]
    assert "evaluation reads files" in refused([*words, "--out", "out", *QUICK], capsys)


# What needs every picture


def test_proposals_are_stored_of_scenes_that_have_an_end(
    cache: Path, tiny_clip: Path, tiny_proposer: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "tune", "--clip", str(tiny_clip), "--proposer", str(tiny_proposer), *QUICK]
    words += ["--set", "shortest_edge=64", "--store-proposals", "stored"]
    line = refused([*words, "--data", "stickers:size=48", "--out", "endless"], capsys)
    assert "stickers:size=48 has no end, and proposals are stored for every picture: add" in line
    assert not Path("stored").exists()
    assert main([*words, "--data", "stickers:size=48,pictures=3", "--out", "out"]) == 0
    assert len(list(Path("stored").rglob("*.npz"))) == 3
    assert main([*words[:-2], "--data", "stickers:size=48", "--out", "free"]) == 0
    assert Path("free/queries.safetensors").is_file()


def test_pseudo_labels_are_written_of_scenes_that_have_an_end(
    cache: Path, tiny_proposer: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "distill", "--teacher", str(tiny_proposer), *QUICK, *FRAME]
    labels = ["--save-pseudo-labels", "found.json"]
    line = refused([*words, *labels, "--data", "stickers:size=48", "--out", "endless"], capsys)
    assert "has no end, and pseudo labels are written for every picture: add pictures=N" in line
    assert not Path("found.json").exists()
    data = ["--data", "stickers:size=48,pictures=3"]
    assert main([*words, *labels, *data, "--out", "out"]) == 0
    images = json.loads(Path("found.json").read_text())["images"]
    assert [image["file_name"] for image in images] == ["000000.png", "000001.png", "000002.png"]
    assert main([*words, "--data", "stickers:size=48", "--out", "student"]) == 0
    assert Path("student/model.safetensors").is_file()


# The teacher's start


def test_a_teacher_goes_on_from_another(
    cache: Path, tiny_proposer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    still = ["--set", "learning_rate=0", "--set", "weight_decay=0"]
    assert main(teacher("--start", str(tiny_proposer), *still)) == 0
    ours, theirs = (load_file(p / "model.safetensors") for p in (Path("out"), tiny_proposer))
    assert ours.keys() == theirs.keys()
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    for name, value in theirs.items():
        if not name.endswith(statistics):
            assert torch.equal(ours[name], value), name
    assert json.loads(Path("out/inputs.json").read_text()).keys() == {"--data", "--start"}
    # One step, then another start.
    assert main(teacher("--start", str(tiny_proposer), "--max-minutes", "1e-9", out="run")) == 0
    other = Mask2FormerProposer.from_pretrained(tiny_proposer)
    with torch.no_grad():
        next(other.parameters()).add_(1)
    other.save_pretrained(tmp_path / "other")
    line = refused(teacher("--start", "other", out="run"), capsys)
    assert "other content of --start" in line
    assert "other content of --start" in refused(teacher(out="run"), capsys)
    assert main(teacher("--start", str(tiny_proposer), out="run")) == 0
    assert json.loads(Path("run/progress.json").read_text())["step"] == 2


@pytest.mark.parametrize("start", ["no/such/folder", "out.txt", "empty", "a clip"])
def test_a_start_that_is_none_is_one_line(
    start: str, cache: Path, tiny_clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("out.txt").write_text("mine")
    Path("empty").mkdir()
    where = str(tiny_clip) if start == "a clip" else start
    line = refused(teacher("--start", where), capsys)
    assert Path(where).name in line
    assert not Path("out").exists()


# Disks, devices, dry runs


def test_a_disk_that_fills_is_one_line_and_the_same_command_goes_on(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write = checkpoint_files.write_checkpoint
    full = True

    def filling(path: Path, state: dict[str, object]) -> None:
        if full and state["step"] == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        write(path, state)

    monkeypatch.setattr("masqclip.training.checkpoints.write_checkpoint", filling)
    words = teacher("--set", "save_every=1")
    assert main(words) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "step-00000002.pt: No space left on device: free some space" in line
    assert "the same command goes on" in line
    full = False
    assert main(words) == 0
    assert Path("out/model.safetensors").is_file()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
@pytest.mark.parametrize("device", ["cuda", "cuda:1", "gpu"])
@pytest.mark.parametrize("verb", ["pretrain", "teacher", "distill", "tune", "stickers"])
def test_a_device_that_is_not_there_is_one_line(
    verb: str, device: str, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = {
        "stickers": ["data", "stickers", "-n", "1", "--seed", "1"],
        "distill": ["train", "distill", "--data", "stickers:", "--teacher", "t"],
        "tune": ["train", "tune", "--data", "stickers:", "--clip", "c", "--proposer", "p"],
    }
    words = more.get(verb, ["train", verb, "--data", "stickers:"])
    line = refused([*words, "--out", "out", "--device", device], capsys)
    assert device in line
    assert "use cpu" in line or "give cpu" in line
    assert not Path("out").exists()


def test_a_dry_run_says_that_scenes_are_drawn(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(teacher("--dry-run")) == 0
    assert "data: 1 sources of drawn scenes" in capsys.readouterr().out
    words = ["train", "pretrain", "--data", "stickers:size=16,last=0.5", "--data",
             "stickers:size=32,first=0.5", *QUICK, "--out", "out", "--dry-run"]  # fmt: skip
    assert main([*words, "--set", "image_size=32", "--set", "merges=20"]) == 0
    assert "data: 2 sources of drawn scenes" in capsys.readouterr().out
    assert not Path("out").exists()


def test_a_clip_is_saved_without_a_word_of_the_library(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "pretrain", "--data", "stickers:size=16", *QUICK, "--out", "out"]
    assert main([*words, "--set", "image_size=16", "--set", "merges=20"]) == 0
    assert "shards" not in capsys.readouterr().err


def test_to_compile_without_a_compiler_is_one_line(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CXX", "/no/such/g++")
    words = ["train", "pretrain", "--data", "stickers:size=16", *QUICK, "--out", "out"]
    words += ["--set", "image_size=16", "--set", "merges=20", "--set", "compile=true"]
    assert main(words) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "compile=true needs a C++ compiler on a CPU, and there is no /no/such/g++" in line


# The folder's command


def test_the_command_writes_what_a_stream_draws(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["data", "stickers", "-n", "2", "--seed", "3", "--styles", "0.5", "--size", "48"]
    assert main([*words, "--out", "scenes"]) == 0
    sources: list[CocoMasks] = [
        open_coco(where) for where in ("scenes", "stickers:seed=3,styles=0.5,size=48")
    ]
    for i in range(2):
        one, other = (source[i] for source in sources)
        assert (one.image == other.image).all()
        assert (one.masks == other.masks).all()
    line = refused([*words, "--studios", " ,", "--out", "new"], capsys)
    assert "--studios ' ,' names none" in line
    assert refused([*words[:-1], "0", "--out", "new"], capsys).endswith("give 16 pixels or more")
    assert "styles=2: it is a share" in refused(
        ["data", "stickers", "-n", "1", "--seed", "3", "--styles", "2", "--out", "new"], capsys
    )
    assert not Path("new").exists()
