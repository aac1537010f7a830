"""Runs on scenes drawn as needed go on exactly, whoever draws and whatever ended them."""

from __future__ import annotations

import errno
import json
import os
import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from streams import loop, losses, stage

from drawings import drawings, write_cache
from forked import Forked
from masqclip.errors import MasqclipError
from masqclip.training import checkpoint_files
from masqclip.training.loop import Progress, train

SCRIPT = "import sys; sys.path[:0] = sys.argv[1:3]; import streams; streams.main(*sys.argv[3:])"

pytestmark = pytest.mark.usefixtures("few_sentences")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cache(tmp_path_factory.mktemp("cache"), drawings())


@pytest.fixture(scope="module")
def straight(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs that nothing ever happened to."""
    folder = tmp_path_factory.mktemp("straight")
    for kind in ("pretrain", "muon", "teacher"):
        assert train(stage(kind, cache), loop(kind), folder / kind, device="cpu")
    return folder


def assert_same(folder: Path, other: Path) -> None:
    """To the bit."""
    assert losses(folder) == losses(other)
    ours, theirs = (load_file(path / "model.safetensors") for path in (folder, other))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("kind", ["pretrain", "muon", "teacher"])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(
    kind: str, cache: Path, straight: Path, tmp_path: Path
) -> None:
    out, steps = tmp_path / "run", loop(kind).steps
    here = Path(__file__).parent
    words = [str(here), str(here.parent), kind, str(cache), str(out)]
    process = Forked(SCRIPT, *words, out=tmp_path / "said.txt")
    progress, deadline = out / "progress.json", time.monotonic() + 120
    while not progress.exists() or json.loads(progress.read_text())["step"] < steps // 2:
        assert process.poll() is None, (tmp_path / "said.txt").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (out / "model.safetensors").exists()
    assert json.loads(progress.read_text())["step"] < steps
    assert train(stage(kind, cache), loop(kind), out, device="cpu")
    assert_same(out, straight / kind)


@pytest.mark.parametrize("kind", ["pretrain", "teacher"])
def test_whoever_draws_the_scenes_they_are_the_same(
    kind: str, cache: Path, straight: Path, tmp_path: Path
) -> None:
    train(stage(kind, cache), loop(kind, workers=1), tmp_path, device="cpu")
    assert_same(tmp_path, straight / kind)


@pytest.mark.parametrize("workers", [0, 1])
def test_the_share_of_time_that_was_waited_is_told(
    workers: int, cache: Path, tmp_path: Path
) -> None:
    seen: list[Progress] = []
    train(
        stage("pretrain", cache), loop("pretrain", workers=workers), tmp_path, device="cpu",
        report=seen.append,
    )  # fmt: skip
    logged = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["waiting"] for line in logged] == [now.waiting for now in seen]
    assert all(0 < now.waiting < 1 for now in seen)


def test_waiting_is_the_time_that_batches_took(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that goes three seconds a batch and one second a step."""
    clock = {"now": 50.0}
    monkeypatch.setattr("masqclip.training.loop.time.monotonic", lambda: clock["now"])
    made = stage("pretrain", cache)
    batch, compute = made.batch, made.losses

    def waited(*given: object) -> object:
        clock["now"] += 3.0
        return batch(*given)  # type: ignore[arg-type]

    def computed(*given: object) -> object:
        clock["now"] += 1.0
        return compute(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(made, "batch", waited)
    monkeypatch.setattr(made, "losses", computed)
    seen: list[Progress] = []
    train(made, loop("pretrain"), tmp_path, device="cpu", report=seen.append)
    assert {now.waiting for now in seen} == {0.75}


@pytest.mark.parametrize("after", [0, 30_000])
def test_a_disk_that_fills_keeps_the_last_checkpoint(
    after: int, cache: Path, straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half way through the third checkpoint of four there is no space left."""
    write = checkpoint_files._Writer.write
    state = {"left": 10**9}

    def full(self: checkpoint_files._Writer, content: bytes) -> int:
        state["left"] -= len(content)
        if state["left"] < 0:
            self.error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            raise self.error
        return write(self, content)

    monkeypatch.setattr(checkpoint_files._Writer, "write", full)

    def report(now: Progress) -> None:
        if now.step == 30:
            state["left"] = after

    with pytest.raises(OSError, match="No space left on device") as caught:
        train(stage("pretrain", cache), loop("pretrain"), tmp_path, device="cpu", report=report)
    assert "step-00000030.pt" in str(caught.value.filename)
    kept = sorted(path.name for path in (tmp_path / "checkpoints").glob("*.p*"))
    assert kept == ["step-00000010.pt", "step-00000020.pt"]
    assert json.loads((tmp_path / "progress.json").read_text())["step"] == 20
    state["left"] = 10**9
    begun: list[int] = []
    train(
        stage("pretrain", cache), loop("pretrain"), tmp_path, device="cpu",
        report=lambda now: begun.append(now.step),
    )  # fmt: skip
    assert begun == list(range(21, 41))
    assert_same(tmp_path, straight / "pretrain")


@pytest.mark.parametrize("kind", ["pretrain", "teacher"])
def test_a_run_goes_on_with_its_own_scenes_only(kind: str, cache: Path, tmp_path: Path) -> None:
    hasty = loop(kind, max_minutes=1e-9)
    assert not train(stage(kind, cache), hasty, tmp_path / "run", device="cpu")
    other = write_cache(tmp_path / "other", drawings(every=9))
    with pytest.raises(MasqclipError, match="other content of --data"):
        train(stage(kind, other), hasty, tmp_path / "run", device="cpu")
    moved = write_cache(tmp_path / "moved", drawings())  # the same drawings, in another place
    assert not train(stage(kind, moved), hasty, tmp_path / "run", device="cpu")
    assert len(losses(tmp_path / "run")) == 2
