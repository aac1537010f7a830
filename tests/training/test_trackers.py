"""Trackers: lines that survive a kill, event files, and the services' calls."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from masqclip.errors import MasqclipError
from masqclip.training.trackers import JsonLines, TensorBoard, open_trackers, read_log


def test_lines_of_undone_steps_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    log = JsonLines(path, 0)
    for step in (1, 2, 3):
        log.log(step, {"loss": 1.0 / step})
    log.close()
    with path.open("a") as file:
        file.write('{"step": 4, "lo')  # a kill in the middle of a line
    JsonLines(path, 2).close()
    assert read_log(path) == [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 0.5}]


def test_tensorboard_gets_figures_and_pictures(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    Image.new("RGB", (4, 4)).save(tmp_path / "sheet.png")
    board = TensorBoard(tmp_path / "board", 0)
    board.log(7, {"loss": 0.5})
    board.picture(7, "sheet", tmp_path / "sheet.png")
    board.close()
    events = EventAccumulator(str(tmp_path / "board"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(7, 0.5)]
    assert events.Tags()["images"] == ["sheet"]


@pytest.mark.parametrize("service", ["wandb", "trackio"])
def test_services_are_told_everything(
    service: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, Any]] = []
    fake = SimpleNamespace(
        init=lambda **options: calls.append(("init", options)),
        log=lambda figures, step: calls.append(("log", (figures, step))),
        finish=lambda: calls.append(("finish", None)),
        Image=lambda path: f"picture {Path(path).name}",
    )
    monkeypatch.setitem(sys.modules, service, fake)
    (tmp_path / "run").mkdir()
    trackers = open_trackers(tmp_path / "run", 0, [service], {"steps": 3})
    for tracker in trackers:
        tracker.log(1, {"loss": 2.0})
    trackers[-1].picture(1, "sheet", tmp_path / "sheet.png")
    for tracker in trackers:
        tracker.close()
    assert [name for name, _ in calls] == ["init", "log", "log", "finish"]
    assert calls[0][1]["config"] == {"steps": 3}
    assert calls[0][1]["name"].endswith("-run")
    assert calls[1][1] == ({"loss": 2.0}, 1)
    assert calls[2][1] == ({"sheet": "picture sheet.png"}, 1)


def test_an_unknown_service_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MasqclipError, match="wandb, trackio"):
        open_trackers(tmp_path, 0, ["mlflow"], {})


def test_a_missing_service_names_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MasqclipError, match=r"masqclip\[track\]"):
        open_trackers(tmp_path, 0, ["wandb"], {})
