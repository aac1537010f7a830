"""Small rules around a run: signals, leftovers, modes of files, forecasts, reports, skips."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_loop import SETTINGS, Line
from torch import distributed, nn

from masqclip.data.coco import CocoInstances, CocoPanoptic, is_base
from masqclip.errors import MasqclipError
from masqclip.segmenter import Segmenter
from masqclip.training import dry_run, held_out, saving
from masqclip.training.curves import write_curves
from masqclip.training.distributed import (
    SynchronisedBatchNorm,
    gather_rows,
    synchronise_batch_norm,
)
from masqclip.training.held_out import held_out_truth, measure_held_out, write_report
from masqclip.training.inputs import claim_inputs
from masqclip.training.loop import Trainer, train
from masqclip.training.proposal_cache import ProposalCache
from masqclip.training.settings import TeacherSettings, TuneSettings
from masqclip.training.signals import leave_signals_to_parent, stop_signals
from masqclip.training.teacher import TeacherStage
from masqclip.training.tune import TuneStage, join
from tiny import tiny_proposer_config

SQUARE = TuneSettings(augmentation="square", image_size=64, shortest_edge=64)


@pytest.fixture
def tuning(tiny_clip: Path, tiny_proposer: Path, tiny_scenes: Path) -> TuneStage:
    model, tokenizer = join(tiny_clip, tiny_proposer, SQUARE)
    return TuneStage(model, tokenizer, CocoPanoptic(tiny_scenes, keep=is_base), SQUARE)


@pytest.fixture
def one_process() -> Iterator[None]:
    """A group of processes with one in it."""
    store = distributed.HashStore()
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def test_a_signal_is_collected_a_second_is_obeyed_and_handlers_come_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with stop_signals() as caught:
        signal.raise_signal(signal.SIGTERM)
        assert caught == [signal.SIGTERM]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert caught == [signal.SIGTERM, signal.SIGINT]
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
    try:
        leave_signals_to_parent(0)
        assert {signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)} == {signal.SIG_IGN}
    finally:
        for number, handler in zip((signal.SIGTERM, signal.SIGINT), before, strict=True):
            signal.signal(number, handler)


@pytest.mark.usefixtures("one_process")
def test_batch_norm_over_all_processes_is_torchs_own_where_there_is_one() -> None:
    torch.manual_seed(0)
    plain, shared = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    with torch.no_grad():
        for norm in (plain, shared):
            norm.weight.copy_(torch.tensor([0.5, 1.0, 2.0]))
            norm.bias.copy_(torch.tensor([0.1, 0.0, -1.0]))
    synchronise_batch_norm(nn.Sequential(shared))
    assert isinstance(shared, SynchronisedBatchNorm)
    for _ in range(2):
        values = torch.randn(2, 3, 4, 5) * 3 + 1
        mine, theirs = values.clone().requires_grad_(), values.clone().requires_grad_()
        torch.testing.assert_close(shared(mine), plain(theirs))
        shared(mine).square().sum().backward()
        plain(theirs).square().sum().backward()
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-4)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(shared.state_dict()[name], value)
    torch.testing.assert_close(shared.eval()(values), plain.eval()(values))
    assert torch.equal(gather_rows(values), values)


def test_a_forecast_takes_eleven_steps_or_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first is not counted: libraries choose their algorithms in it."""
    taken: list[int] = []
    clock = {"now": 0.0}

    def step(self: Trainer, number: int, parts: Any) -> dict[str, float]:
        taken.append(number)
        clock["now"] += 100.0 if number == 0 else 3.0
        return {}

    monkeypatch.setattr(Trainer, "step", step)
    monkeypatch.setattr(dry_run.time, "monotonic", lambda: clock["now"])
    found = dry_run.forecast(Line(), SETTINGS)
    assert taken == list(range(11))
    assert (found.seconds_per_step, found.seconds) == (3.0, 120.0)
    taken.clear()
    assert dry_run.forecast(Line(), replace(SETTINGS, steps=4)).seconds_per_step == 3.0
    assert taken == [0, 1, 2, 3]


def test_a_run_that_does_not_say_what_it_was_trained_on_is_refused(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    claim_inputs(tmp_path, {"--data": "1"})  # no step was taken
    (tmp_path / "inputs.json").unlink()
    (tmp_path / "checkpoints" / "step-00000005.pt").touch()
    with pytest.raises(MasqclipError, match=r"holds a run, but no inputs\.json"):
        claim_inputs(tmp_path, {"--data": "1"})


def test_what_a_kill_left_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "step-00000002.partial").write_bytes(b"half")
    (tmp_path / ".result.partial").mkdir()
    (tmp_path / ".result.partial" / "half").write_bytes(b"half")
    train(Line(), replace(SETTINGS, steps=2), tmp_path)
    assert not list(tmp_path.rglob("*partial*"))
    assert not (tmp_path / "half").exists()


class Written(Line):
    """Saves private files, the weights first."""

    def save(self, folder: Path) -> None:
        for name in ("model.safetensors", "config.json", "zebra.json"):
            (folder / name).touch(0o600)


def test_a_result_is_for_readers_and_its_weights_come_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved: list[str] = []
    replace_file = os.replace

    def note(source: Path, target: Path) -> None:
        moved.append(Path(target).name)
        replace_file(source, target)

    monkeypatch.setattr(saving.os, "replace", note)
    before = os.umask(0o027)
    try:
        saving.save_result(Written(), tmp_path / "run")
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)
    assert sorted(moved[:2]) == ["config.json", "zebra.json"]
    assert moved[2] == "model.safetensors"
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "run").iterdir()}
    assert modes == {0o640}


def test_curves_leave_out_what_is_no_number(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"step": 1, "recall": null}\n')
    write_curves(tmp_path)
    assert not (tmp_path / "curves.png").exists()
    (tmp_path / "log.jsonl").write_text('{"step": 1, "recall": null, "loss": 2}\n')
    write_curves(tmp_path)
    assert (tmp_path / "curves.png").exists()


def test_skipped_pictures_are_named_at_the_end(tuning: TuneStage, tiny_scenes: Path) -> None:
    data = CocoPanoptic(tiny_scenes, keep=is_base)
    settings = TeacherSettings(
        image_size=64, batch_size=1, num_points=16, freeze_batch_norm=False, filter_empty=False
    )
    teacher = TeacherStage(data, tiny_proposer_config(), settings)
    for stage in (teacher, tuning):
        assert stage.remarks == ""
        for _ in range(2):  # each once
            stage.prepare(stage.batch(0) | {"skipped": ["a.png: empty"]})
        assert stage.remarks == "1 of 12 pictures were skipped:\n  a.png: empty"


def test_proposals_of_a_picture_that_cannot_be_read_are_not_stored(
    tuning: TuneStage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = type(tuning.dataset).__getitem__

    def broken(self: Any, row: int) -> Any:
        if row == 1:
            raise MasqclipError("1.png: broken")
        return read(self, row)

    monkeypatch.setattr(type(tuning.dataset), "__getitem__", broken)
    cache, told = ProposalCache(tmp_path, tuning), list[int]()
    cache.fill(tuning, report=told.append)
    assert len(list(tmp_path.rglob("*.npz"))) == len(tuning.dataset) - 1
    assert told == [1, *range(3, len(tuning.dataset) + 1)]
    assert cache.read([(0, True)])["targets"].shape == (1, 10)
    with pytest.raises(MasqclipError, match="lacks picture 1: start again"):
        cache.read([(1, False)])


def test_held_out_pictures_are_measured_in_three_passes(
    tuning: TuneStage, tiny_scenes: Path
) -> None:
    segmenter = Segmenter(tuning.model, tuning.tokenizer, cache=False)
    for data in (CocoPanoptic(tiny_scenes), CocoInstances(tiny_scenes)):
        truth = held_out_truth(data)
        assert {(picture.height, picture.width) for picture in truth.pictures} == {(64, 64)}
        assert [entry.id for entry in truth.classes] == sorted(data.categories.kept)
        told: list[tuple[int, int]] = []
        found = measure_held_out(segmenter, data, lambda *done: told.append(done))  # noqa: B023
        done = [number for number, _ in told]
        assert done == sorted(done)
        assert told[-1] == (36, 36)
        assert set(found) <= set(held_out.FIGURES)
        assert next(iter(found)) == "mask accuracy"


def test_a_report_compares_before_and_after(tmp_path: Path) -> None:
    before, after = {"AP": 0.25, "PQ": math.nan}, {"AP": 0.5, "PQ": 0.125}
    rows = write_report(tmp_path, before, after, 7)
    assert rows[0] == ("7 held-out pictures", "before", "after")
    assert [row[1:] for row in rows[1:]] == [("25.0", "50.0"), ("nan", "12.5")]
    table = (tmp_path / "held-out.md").read_text()
    assert table.splitlines()[0] == "| 7 held-out pictures | before | after |"
    assert table.splitlines()[1] == "| --- | ---: | ---: |"
    assert table.splitlines()[2].endswith("| 25.0 | 50.0 |")
    assert table.splitlines()[3].endswith("| nan | 12.5 |")
    expected = {"pictures": 7, "before": {"AP": 0.25, "PQ": None}, "after": after}
    assert json.loads((tmp_path / "held-out.json").read_text()) == expected
