"""A job on a small local Ray, from the command line: once undisturbed, once with a lost worker."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from masqclip.batch import job
from masqclip.batch.job import Machines, Pools, connected
from masqclip.cli.main import main
from masqclip.data.stickers.scenes import SceneSettings, StickerWorld
from masqclip.data.stickers.sprites import load_sprites
from masqclip.errors import MasqclipError

SPRITES = Path(__file__).parents[1] / "data" / "sprites"
NUMBER = 6


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    world = StickerWorld(load_sprites(SPRITES), SceneSettings(size=128))
    for n, picture in enumerate(world.draw(7, range(NUMBER - 1)).images):
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(folder / f"{n}.png")
    (folder / "broken.png").write_bytes(b"")
    return folder


@pytest.fixture(scope="module", autouse=True)
def quiet_ray() -> None:
    os.environ["RAY_memory_monitor_refresh_ms"] = "0"  # noqa: SIM112  a full machine is not this test's matter


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def encoders() -> list[int]:
    """Process numbers of this process's encoding workers."""
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            if b"Encoder" in Path(f"/proc/{entry}/cmdline").read_bytes():
                session = os.getsid(int(entry))
                found += [int(entry)] * (session == os.getsid(0))
        except OSError:
            continue
    return found


@pytest.fixture
def one_ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Ray takes long to start: a second job on as many machines finds the first one's."""
    with ExitStack() as stack:
        started: dict[Machines, Pools] = {}

        @contextmanager
        def once(machines: Machines, most: int) -> Iterator[Pools]:
            if machines not in started:
                started[machines] = stack.enter_context(connected(machines, most))
            yield started[machines]

        monkeypatch.setattr(job, "connected", once)
        yield


@pytest.mark.usefixtures("one_ray")
def test_a_job_survives_a_lost_worker_and_a_rerun_gives_the_same_bytes(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["batch", str(photos), "-v", "stickers", "-o", str(out), "--shard-size", "2"]
    killed: list[int] = []

    def kill_one() -> None:
        while not killed:
            for victim in encoders():
                os.kill(victim, signal.SIGKILL)
                killed.append(victim)
                return
            time.sleep(0.05)

    watcher = threading.Thread(target=kill_one, daemon=True)
    watcher.start()
    assert main([*words, "--workers", "1"]) == 0
    assert killed
    assert "3 of 3 shards: 6 of 6 pictures, 1 of them could not be read" in capsys.readouterr().out
    rows = pq.read_table(out / "shards").to_pylist()
    assert [Path(row["key"]).name for row in rows] == [
        *(f"{n}.png" for n in range(5)),
        "broken.png",
    ]
    assert "broken.png: empty" in rows[-1]["error"]
    before = digests(out)

    (out / "_manifest" / "00000001.json").unlink()  # as if the driver had died before it
    (out / "_work").mkdir(exist_ok=True)
    (out / "_work" / "torn").write_bytes(b"half a sh")
    assert main([*words, "--status"]) == 0
    assert "2 of 3 shards" in capsys.readouterr().out
    started = time.time()
    assert main([*words, "--workers", "1", "-q"]) == 0
    assert digests(out) == before
    changed = [p.name for p in (out / "shards").iterdir() if p.stat().st_mtime > started]
    assert changed == ["00000001.parquet"]


def test_another_job_in_the_folder_is_refused(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from masqclip.batch.inputs import list_items
    from masqclip.batch.shards import JobFolder, JobSettings
    from masqclip.clip.vocabulary import Vocabulary

    kind, items = list_items([str(photos)])
    settings = JobSettings((str(photos),), kind, "masqclip-mini", Vocabulary.parse("cat"))
    JobFolder(str(tmp_path)).plan(settings, items)
    for options, message in [
        (["-v", "dog"], "another vocabulary"),
        (["-v", "cat", "--shard-size", "3"], "another shard_size"),
        (["-v", "cat", "--memory", "0"], "--memory 0: give"),
        ([], "no names given"),
    ]:
        assert main(["batch", str(photos), "-o", str(tmp_path), *options]) == 2
        assert message in capsys.readouterr().err


def test_nothing_to_do_starts_no_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from masqclip.batch.inputs import Item
    from masqclip.batch.shards import JobFolder, JobSettings
    from masqclip.clip.vocabulary import Vocabulary

    folder = JobFolder(str(tmp_path))
    folder.plan(JobSettings(("x",), "files", "m", Vocabulary.parse("cat")), [Item("x", "x")])
    folder.give_up(0, "no luck")
    monkeypatch.setattr(job, "connected", None)
    assert job.run_job(folder).failed == {0: "no luck"}
    assert main(["batch", "-o", str(tmp_path)]) == 2


def test_a_model_that_is_not_there_is_told_in_a_line(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["batch", str(photos), "-v", "cat", "-o", str(tmp_path), "--workers", "1"]
    shutil.rmtree(tmp_path)
    assert main([*words, "-m", "nothing"]) == 2
    assert "there is no model 'nothing'" in capsys.readouterr().err


def test_no_cluster_at_the_address() -> None:
    with (
        pytest.raises(MasqclipError, match="no Ray cluster answers"),
        connected(Machines("127.0.0.1:1"), most=1),
    ):
        pass


def test_ray_notes_a_command_line_that_is_not_utf_8(monkeypatch: pytest.MonkeyPatch) -> None:
    """`masqclip batch caf\\xe9` ended as if no cluster answered."""
    from ray._private import utils

    monkeypatch.setattr(utils, "get_entrypoint_name", lambda: os.fsdecode(b"batch caf\xe9"))
    with job._text_of_command_line():
        assert utils.get_entrypoint_name() == "batch caf%E9"
    assert utils.get_entrypoint_name() == os.fsdecode(b"batch caf\xe9")


def test_pools_share_cores_and_gpus() -> None:
    cpu = Pools.fit(Machines(), cpus=8, gpus=0, most=100)
    assert (cpu.workers, cpu.threads, cpu.device) == (8, 1, "cpu")
    few = Pools.fit(Machines(workers=2), cpus=8, gpus=0, most=100)
    assert (few.workers, few.threads) == (2, 4)
    box = Pools.fit(Machines(), cpus=96, gpus=8, most=1000)
    assert (box.workers, box.readers, box.device) == (8, 80, "cuda")
    assert box.name is not None
    assert box.encode["num_gpus"] + box.name["num_gpus"] == 1
    forced = Pools.fit(Machines(device="cpu"), cpus=4, gpus=8, most=2)
    assert (forced.workers, forced.device) == (2, "cpu")
    for pools in (cpu, few, forced):
        assert pools.name is None
        assert (pools.read["num_cpus"] + pools.encode["num_cpus"]) * pools.workers <= 8
    crowded = Pools.fit(Machines(workers=16), cpus=96, gpus=8, most=1000)  # two on a GPU
    assert crowded.name is not None
    assert (crowded.encode["num_gpus"], crowded.name["num_gpus"]) == (0.375, 0.125)
