"""`benchmarks/gpu.py`: every part ends in the middle once, and goes on without a loss."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest
from gpu_calls import BENCHMARKS, entries, home, keeps, start, wait_for

import gpu
from gpu_home import CARRIED, MODEL, REPORTS, read_volumes, volumes
from masqclip.segmenter import Segmenter


def carried_step(out: Path) -> int:
    """The step of the checkpoint that was brought home; 0 = there is none."""
    names = read_volumes(out, CARRIED) or {}
    return max((int(name[-11:-3]) for name in names if name.endswith(".pt")), default=0)


def test_the_world_goes_on_after_kills_and_on_another_machine(tmp_path: Path) -> None:
    plan, out = tmp_path / "plan.toml", tmp_path / "out"
    text = (BENCHMARKS / "gpu_tiny.toml").read_text()
    long = "steps=120 --set save_every=5 --set keep_last=999"
    plan.write_text(text.replace("steps=4 --set save_every=1", long, 1))
    options = ("--parts", "world", "--plan", str(plan))

    call = start(out, *options)
    wait_for(lambda: carried_step(out), call)
    call.kill()
    call.wait()
    home(out)
    before, step = entries(out), carried_step(out)
    assert list(before) == ["world/scenes"]

    call = start(out, *options)  # beside the plan of the call before, which is ending
    wait_for(lambda: carried_step(out) > step, call)
    call.send_signal(signal.SIGTERM)
    assert call.wait(60) == 0
    home(out)
    assert keeps(before, entries(out))
    assert "Not done yet: world" in (out / "results.md").read_text()

    # The next machine has nothing but what was brought home.
    step = carried_step(out)
    assert 0 < step < 120
    shutil.rmtree(tmp_path / "out-work")
    other = tmp_path / "other"
    for minutes in (0.05, 3.0):  # runs out, and suffices
        call = start(other, *options, "--carry", str(out), minutes=minutes)
        assert call.wait(240) == 0
        assert keeps(before, entries(other))
        before = entries(other)
        assert ("world/evaluation" in before) == (minutes > 1)
    steps = sorted((tmp_path / "other-work/plan/clip/checkpoints").glob("step-*.pt"))
    assert int(steps[0].stem[-8:]) == step, "it went on from the checkpoint"
    home(other)
    assert volumes(other, CARRIED) == []
    assert before["world/evaluation"]["figures"].keys() >= {"semantic", "instance", "panoptic"}
    assert {"plan.log", "clip/log.jsonl", "evaluation/report.json"} <= read_volumes(
        other, REPORTS
    ).keys()  # type: ignore[union-attr]
    (tmp_path / "model").mkdir()
    for name, content in (read_volumes(other, MODEL) or {}).items():
        (tmp_path / "model" / name).write_bytes(content)
    assert Segmenter.from_pretrained(tmp_path / "model", device="cpu").model.dtype is not None


def test_measured_pieces_are_kept_after_signals_kills_and_the_end_of_time(tmp_path: Path) -> None:
    out = tmp_path / "out"
    chosen = ("--parts", "proposer,speed,tuning")
    call = start(out, *chosen)
    wait_for(lambda: entries(out), call)
    call.send_signal(signal.SIGTERM)
    assert call.wait(30) == 0
    before = entries(out)
    assert len(before) < 3
    assert "Not done yet: speed, tuning, proposer" in (out / "results.md").read_text()

    for parts, reached in ((chosen, "tuning/"), (("--parts", "proposer"), "proposer/")):
        call = start(out, *parts)
        wait_for(lambda: any(key.startswith(reached) for key in entries(out)), call)  # noqa: B023
        call.kill()
        call.wait()
        assert keeps(before, entries(out))
        before = entries(out)

    for minutes in (0.02, 3.0):  # runs out, and suffices
        call = start(out, *chosen, minutes=minutes)
        assert call.wait(240) == 0
        assert keeps(before, entries(out))
        before = entries(out)
        assert ("Not done yet" in (out / "results.md").read_text()) == (minutes < 1)
    assert len(before) == 9
    assert not any("error" in entry for entry in before.values())
    home(out)
    for key, entry in before.items():
        assert entry["seconds"] > 0
        if key.startswith("speed/"):
            assert entry["sides"].keys() == {"ours", "reference"}
            assert entry["ceiling"] > 0
            assert (entry.get("compiling", {}).get("graphs", 0) > 0) == (
                entry["mode"] == "compiled"
            )
            assert min(entry["flops"]["ours"].values()) > 0
    told = (out / "results.md").read_text()
    assert "Nothing yet." in told.split("## Speed")[0]
    assert "Nothing yet." not in told.split("## Speed")[1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"parts": "world,sped"}, "--parts 'sped': there are world, speed, tuning, proposer"),
        ({"device": "cuda:99"}, "device cuda:99: "),
        ({"device": "gpu"}, "there is no device 'gpu'"),
        ({"minutes": 0.0}, "--minutes 0: give more than 0"),
        ({"plan": Path("nowhere.toml")}, "nowhere.toml"),
        ({"sprites": Path("nowhere")}, "--sprites nowhere: there is no index.json in it"),
        ({"carry": Path("nowhere")}, "--carry nowhere: there is no results.json in it"),
        ({"out": "file"}, "is a file; name a folder"),
        ({"out": "other"}, "holds results of {'tiny': False, 'device': 'cuda'}, not of "),
        ({"out": "strange"}, "holds no results of this program"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(
    options: dict[str, object],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    (tmp_path / "file").touch()
    for name, settings in (("other", '{"tiny": false, "device": "cuda"}'), ("strange", "1")):
        (tmp_path / name).mkdir()
        text = f'{{"settings": {settings}, "entries": {{}}, "begun": {{}}}}'
        (tmp_path / name / "results.json").write_text(text if name == "other" else "[]")
    given = {"out": "out", "device": "cpu", "tiny": True} | options
    given["out"] = tmp_path / str(given["out"])
    with pytest.raises(SystemExit) as ended:
        gpu.main(**given)  # type: ignore[arg-type]
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert said in told
    assert told.count("\n") == 1
