"""What `benchmarks/gpu.py` is made of: its record, its processes, and what it brings home."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gpu_calls  # noqa: F401  # where the benchmarks are
import pytest
import torch

import gpu
import gpu_home
import gpu_report
import gpu_worker
from gpu_record import Record
from gpu_worker import Piece, Worker, measure_part, pieces_of
from masqclip.cli.plan import PlanStep
from masqclip.training.checkpoint_files import read_checkpoint, write_checkpoint

SETTINGS = {"tiny": True, "device": "cpu"}


# The record


def test_a_piece_that_never_ends_is_given_up(tmp_path: Path) -> None:
    for _ in range(3):
        assert Record(tmp_path, SETTINGS).begin("a")  # and the call is killed
    record = Record(tmp_path, SETTINGS)
    assert not record.begin("a")
    assert record.entries["a"]["error"] == "began 3 times and never ended"
    for _ in range(5):
        assert record.begin("b")
        record.leave("b")  # for want of time
    assert not record.is_done("b")


def test_failures_are_measured_again_when_asked(tmp_path: Path) -> None:
    record = Record(tmp_path, SETTINGS)
    record.finish("good", {"seconds": 1.0})
    record.finish("full", {"error": "CUDA out of memory", "out of memory": True})
    record.finish("bad", {"error": "RuntimeError: x", "out of memory": False})
    assert Record(tmp_path, SETTINGS).is_done("bad")
    again = Record(tmp_path, SETTINGS, retry_failed=True)
    assert [again.is_done(key) for key in ("good", "full", "bad")] == [True, True, False]


# Processes


def test_a_process_that_ends_or_takes_too_long_is_an_error() -> None:
    worker = Worker("nothing", "cpu", tiny=True)
    later = time.monotonic() + 60
    try:
        slow = worker.measure(Piece("a", limit=0.2), later, [])
        assert slow is not None
        assert slow["error"] == "took longer than 0 s"
        assert worker.measure(Piece("b"), time.monotonic(), []) is None
        assert worker.measure(Piece("b"), later, [signal.SIGTERM]) is None
        assert worker._process.pid is not None
        os.kill(worker._process.pid, signal.SIGKILL)
        dead = worker.measure(Piece("b"), later, [])
        assert dead is not None
        assert dead["error"] == "its process ended (exit code -9)"
    finally:
        worker.close()


def test_processes_are_kept_and_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    answers: dict[str, dict[str, Any] | None] = {
        "full": {"error": "out of memory", "out of memory": True, "seconds": 1.0},
        "bad": {"error": "RuntimeError: CUDA error", "seconds": 1.0},
        "late": None,
    }

    class Straw:
        def __init__(self, part: str, device: str, *, tiny: bool) -> None:
            told.append("start")

        def measure(
            self, piece: Piece, deadline: float, stopped: Sequence[int]
        ) -> dict[str, Any] | None:
            told.append(piece.key)
            return answers.get(piece.key, {"seconds": 1.0})

        def close(self) -> None:
            told.append("close")

    names = ("a", "full", "b", "bad", "c", "fresh", "d", "late", "e")
    pieces = [Piece(name, fresh=name == "fresh") for name in names]
    monkeypatch.setattr(gpu_worker, "Worker", Straw)
    monkeypatch.setattr(gpu_worker, "pieces_of", lambda part, tiny: pieces)
    record = Record(tmp_path, SETTINGS)

    def measure() -> bool:
        return measure_part(
            "p", record, device="cpu", tiny=True, deadline=time.monotonic() + 60, stopped=[]
        )

    assert not measure()
    assert " ".join(told) == (
        "start a full b bad close start c close start fresh close start d late close"
    )
    told.clear()
    answers.clear()
    assert measure()
    assert " ".join(told) == "start late e close"
    assert list(record.part("p")) == list(names)


def test_pieces_come_in_order_of_worth() -> None:
    speed = [piece.key for piece in pieces_of("speed", tiny=False)]
    assert len(speed) == len(set(speed)) == 24
    assert speed[0] == "bfloat16/batch-1/eager"
    assert speed[10:12] == ["bfloat16/batch-1/compiled", "bfloat16/batch-8/compiled"]
    assert len(pieces_of("tuning", tiny=False)) == 20
    assert len(pieces_of("proposer", tiny=False)) == 10


def test_time_that_a_part_leaves_goes_to_the_others() -> None:
    given: list[tuple[str, float]] = []

    def part(name: str, needs: int) -> gpu.Part:
        calls = [0]

        def run(deadline: float, stopped: Sequence[int]) -> bool:
            given.append((name, deadline - time.monotonic()))
            calls[0] += 1
            return calls[0] == needs

        return run

    parts = {"world": part("world", 2), "speed": part("speed", 1), "proposer": part("proposer", 1)}
    assert gpu.run_parts(parts, 900.0, []) == []
    assert [name for name, _ in given] == ["world", "speed", "proposer", "world"]
    assert [round(time) for _, time in given] == [500, 562, 900, 900]
    assert gpu.run_parts(parts, 900.0, [signal.SIGTERM]) == list(parts)


# What is brought home

STEPS = [
    PlanStep("scenes", "data stickers --out scenes", "scenes/annotations.json"),
    PlanStep("clip", "train pretrain --out clip", "clip/model.safetensors"),
    PlanStep("teacher", "train teacher --out teacher", "teacher/model.safetensors"),
    PlanStep("evaluation", "evaluate --out evaluation", "evaluation/report.json"),
]


def made(folder: Path) -> dict[str, Any]:
    """A plan's folder: a CLIP that is done, and a teacher's training that is not."""
    for name in ("plan.json", "scenes/annotations.json", "clip/model.safetensors",
                 "clip/checkpoints/step-00000009.pt", "clip/config.json", "teacher/log.jsonl",
                 "teacher/checkpoints/step-00000003.pt", "clip/.x.partial"):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    (folder / "plan.json").write_text('{"scenes": "1", "clip": "2"}')
    moments = torch.rand(20_000, generator=torch.Generator().manual_seed(0))
    state = {
        "model": {"w": moments * 3},
        "optimizer": {"state": {"w": {"exp_avg": moments, "step": torch.tensor(301.0)}}},
    }
    write_checkpoint(folder / "teacher/checkpoints/step-00000004.pt", state)
    return state


@pytest.mark.parametrize(
    ("room", "said", "rounded"),
    [
        (220_000, "", False),
        (160_000, "carry.tar holds the moments of the unfinished run in bfloat16", True),
        (60_000, "carry.tar holds no checkpoint of the unfinished run", None),
        (3_000, "carry.tar is left out", None),
    ],
)
def test_what_is_carried_fits(
    room: int, said: str, rounded: bool | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out, there = tmp_path / "plan", tmp_path / "out", tmp_path / "there"
    state = made(folder)
    out.mkdir()
    monkeypatch.setattr(gpu_home, "VOLUME_BYTES", room // 2)
    paths = gpu_home.carried_paths(folder, STEPS)
    told = gpu_home.carry(folder, paths, out, tmp_path, most=2)
    assert told.startswith(said)
    assert bool(told) == bool(said)
    assert all(path.stat().st_size <= room // 2 for path in out.iterdir())
    gpu_home.restore(out, there)
    found = {path.relative_to(there).as_posix() for path in there.rglob("*") if path.is_file()}
    kept = {"plan.json", "clip/model.safetensors", "clip/config.json", "teacher/log.jsonl"}
    name = "teacher/checkpoints/step-00000004.pt"
    if rounded is None:
        assert found == (set() if "left out" in said else kept)
        return
    assert found == kept | {name}
    again = read_checkpoint(there / name)
    assert torch.equal(again["model"]["w"], state["model"]["w"])
    one, other = again["optimizer"]["state"]["w"], state["optimizer"]["state"]["w"]
    assert one["step"] == 301
    assert one["exp_avg"].dtype == torch.float32
    assert torch.equal(one["exp_avg"], other["exp_avg"]) != rounded
    torch.testing.assert_close(one["exp_avg"], other["exp_avg"], rtol=4e-3, atol=0)


def test_a_result_that_the_plan_has_not_noted_is_not_alone(tmp_path: Path) -> None:
    made(tmp_path)
    (tmp_path / "teacher/model.safetensors").touch()
    newest = tmp_path / "teacher/checkpoints/step-00000004.pt"
    assert newest in gpu_home.carried_paths(tmp_path, STEPS)
    (tmp_path / "plan.json").write_text('{"clip": "2", "teacher": "3"}')
    assert newest not in gpu_home.carried_paths(tmp_path, STEPS)


def test_a_set_of_volumes_that_is_not_whole_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_home, "VOLUME_BYTES", 8000)
    old, new = {"a": os.urandom(9000)}, {"a": os.urandom(9000)}
    assert gpu_home.write_volumes(tmp_path, "x", gpu_home.pack(old), most=3)
    assert [path.name for path in gpu_home.volumes(tmp_path, "x")] == ["x.1", "x.2", "x.3"]
    assert gpu_home.read_volumes(tmp_path, "x") == old
    first = (tmp_path / "x.1").read_bytes()
    assert gpu_home.write_volumes(tmp_path, "x", gpu_home.pack(new), most=3)
    (tmp_path / "x.1").write_bytes(first)
    assert gpu_home.read_volumes(tmp_path, "x") is None
    assert not gpu_home.write_volumes(tmp_path, "x", os.urandom(99_000), most=3)
    assert gpu_home.write_volumes(tmp_path, "x", gpu_home.pack({"b": b"1"}, squeeze=True), most=3)
    assert [path.name for path in gpu_home.volumes(tmp_path, "x")] == ["x"]
    assert gpu_home.read_volumes(tmp_path, "x") == {"b": b"1"}
    assert gpu_home.read_volumes(tmp_path, "nothing") is None
    assert gpu_home.unpack(b"no archive") is None


def test_what_is_too_much_is_told(tmp_path: Path) -> None:
    assert gpu_home.beyond_limits(tmp_path) == ""
    for number in range(9):
        (tmp_path / str(number)).touch()
    os.truncate(tmp_path / "0", 16_000_000)
    assert "9 files, of them too large: 0;" in gpu_home.beyond_limits(tmp_path)


def test_tables_tell_of_failures(tmp_path: Path) -> None:
    record = Record(tmp_path, SETTINGS)
    start = {"dtype": "bfloat16", "batch": 16, "mode": "eager", "seconds": 1.0}
    stages = ("proposer", "masked CLIP", "semantic", "instance", "panoptic")
    ours = {"seconds": dict.fromkeys(stages, 0.5), "peak": 2e9}
    record.finish("speed/whole", start | {"error": "x | y"})
    record.finish(
        "speed/half",
        start
        | {
            "sides": {"ours": ours, "reference": {"error": "out of memory"}},
            "ceiling": 1e12,
            "flops": {"ours": {"proposer": 1e11, "masked CLIP": 2e11}},
        },
    )
    record.finish(
        "proposer/a", {"precision": "float32", "batch": 16, "error": "full", "seconds": 1.0}
    )
    record.finish("world/plan", {"error": "npm is missing", "seconds": 1.0})
    record.finish("world/left out", {"lines": ["carry.tar is left out"], "seconds": 0.0})
    gpu_report.write_tables(record, tmp_path, ["Not done yet: world"])
    told = (tmp_path / "results.md").read_text()
    for line in (
        "Not done yet: world.",
        "| plan | 1 |  | npm is missing |",
        "carry.tar is left out.",
        "| bfloat16 | 16 | eager | - | - | - | - | - | - | - | x / y |",
        "| bfloat16 | 16 | eager | 1500.0 | - | - | 10.7 | 20% | 40% | 2.00 / - | "
        "published: out of memory |",
        "| float32 | 16 | - | - | - | full |",
    ):
        assert line in told.splitlines()
