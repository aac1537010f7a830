"""The loop's arithmetic: schedules, clipping, what is said when, and which weights are the best."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_loop import SETTINGS, Line, losses

from masqclip.errors import MasqclipError
from masqclip.training import loop
from masqclip.training.checkpoints import Checkpoints, Position
from masqclip.training.loop import Progress, Trainer, train
from masqclip.training.settings import (
    ARCHITECTURES,
    DistillSettings,
    FrameSettings,
    LoopSettings,
    PretrainSettings,
    TeacherSettings,
    TuneSettings,
)
from masqclip.training.stage import WHOLE, Counts, Share

SHORT = LoopSettings(steps=7, save_every=3, log_every=3, keep_last=9, workers=0)


@pytest.mark.parametrize("warmup", [0, 1, 4])
def test_rates_climb_evenly_and_then_follow_the_schedule(warmup: int) -> None:
    """From 1/W in the first step to the whole rate in step W; cosine is half way half way."""
    common = {"steps": 12, "warmup_steps": warmup}
    constant = LoopSettings(**common, schedule="constant")
    cosine = LoopSettings(**common, schedule="cosine")
    falling = LoopSettings(**common, schedule="step", milestones=(6, 9))
    for step in range(12):
        if step < warmup:
            expected = dict.fromkeys((constant, cosine, falling), (step + 1) / warmup)
        else:
            part = (step - warmup) / (12 - warmup)
            falls = (step >= 6) + (step >= 9)
            expected = {
                constant: 1.0,
                cosine: math.cos(math.pi / 2 * part) ** 2,
                falling: 10.0**-falls,
            }
        for settings, factor in expected.items():
            assert settings.learning_rate_factor(step) == pytest.approx(factor)
    assert cosine.learning_rate_factor(12) == cosine.learning_rate_factor(15) == 0
    # A schedule that is all warm-up divides by nothing.
    assert replace(cosine, warmup_steps=12).learning_rate_factor(12) == 1.0


def gradient(clip_norm: float) -> float:
    """The norm of all gradients together that the optimizer was given."""
    stage = Line()
    trainer = Trainer(stage, replace(SETTINGS, clip_norm=clip_norm), device="cpu")
    trainer.step(0, [stage.batch(0)])
    parts = [parameter.grad for parameter in stage.module.parameters()]
    return float(torch.cat([part.flatten() for part in parts if part is not None]).norm())


def test_gradients_are_clipped_to_one_norm_of_all() -> None:
    whole = gradient(0)
    assert whole > 2
    for norm in (0.01, 0.5, 1.0, 2.0):
        assert gradient(norm) == pytest.approx(norm, rel=1e-3)
    assert gradient(2 * whole) == pytest.approx(whole)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_stay_as_they_were_when_a_loss_is_no_number(value: float) -> None:
    stage = Line()
    stage.losses = lambda *_: {"loss": stage.module.weight.sum() * value}  # type: ignore[method-assign]
    trainer = Trainer(stage, SETTINGS, device="cpu")
    before = stage.module.weight.detach().clone()
    with pytest.raises(MasqclipError, match=r"line: the loss is (nan|-?inf) at step 6; lower"):
        trainer.step(5, [stage.batch(5)])
    assert torch.equal(stage.module.weight, before)


class Rooted(Line):
    """The last gradient is that of a root at zero: none, of a loss that is a number."""

    def batch(self, step: int, share: Share = WHOLE) -> dict[str, torch.Tensor]:
        found = super().batch(step, share)
        return found | {"scale": torch.tensor(0.0 if step == 6 else 1.0)}

    def losses(self, batch: dict[str, torch.Tensor], totals: Counts) -> dict[str, torch.Tensor]:
        return {"loss": (super().losses(batch, totals)["loss"] * batch["scale"]).sqrt()}


def test_weights_that_are_no_numbers_are_not_kept(tmp_path: Path) -> None:
    with pytest.raises(MasqclipError, match="line: weights are no longer numbers after step 7"):
        train(Rooted(), SHORT, tmp_path)
    kept = sorted(path.name for path in (tmp_path / "checkpoints").glob("step-*"))
    assert kept == ["step-00000003.pt", "step-00000006.pt"]
    assert not (tmp_path / "line.pt").exists()


def test_a_run_in_half_precision_goes_on_with_its_scale(tmp_path: Path) -> None:
    """Gradients are scaled so that none is lost below the smallest number of float16."""
    scales = []
    for scale in (64.0, 2.0):
        trainer = Trainer(Line(), SETTINGS, device="cpu")
        trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        kept = Checkpoints(tmp_path, Line(), SETTINGS, trainer.accelerator)
        assert kept.resume(trainer.model, trainer.optimizer).step == (0 if scale == 64.0 else 3)
        kept.save(trainer.model, trainer.optimizer, Position(3, 1.0))
        scales.append(trainer.accelerator.scaler.get_scale())
    assert scales == [64.0, 64.0]


class Scored(Line):
    """Evaluates to figures that are given, one a time."""

    def __init__(self, *figures: float) -> None:
        super().__init__()
        self.figures = list(figures)
        self.asked: list[int] = []

    def evaluate(self, folder: Path, step: int) -> dict[str, float]:
        self.asked.append(step)
        return {"good": self.figures.pop(0), "other": 9.0 - step}


def test_everything_has_its_steps(tmp_path: Path) -> None:
    """Every so many steps, and at the end in any case."""
    stage = Scored(1, 2, 3, 4)
    assert train(stage, replace(SHORT, eval_every=2), tmp_path)
    assert stage.asked == [2, 4, 6, 7]
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [3, 6, 7]
    kept = sorted(path.name for path in (tmp_path / "checkpoints").glob("step-*"))
    assert kept == ["step-00000003.pt", "step-00000006.pt", "step-00000007.pt"]
    progress = json.loads((tmp_path / "progress.json").read_text())
    assert progress | {"seconds": 0} == {"stage": "line", "step": 7, "steps": 7, "seconds": 0}


def test_without_an_interval_the_end_alone_is_evaluated(tmp_path: Path) -> None:
    stage = Scored(1)
    train(stage, SHORT, tmp_path)
    assert stage.asked == [7]


@pytest.mark.parametrize(
    ("figures", "best"),
    [((1, 3, 2, 0), 4), ((1, 3, 3, 0), 4), ((5, 5, 5, 5), 2), ((math.nan, 1, math.nan, 2), 7)],
)
def test_the_first_of_the_best_is_kept(
    figures: tuple[float, ...], best: int, tmp_path: Path
) -> None:
    """By the first figure; an equal one later is no better, and no number is never better."""
    train(Scored(*figures), replace(SHORT, eval_every=2), tmp_path)
    about = json.loads((tmp_path / "best" / "best.json").read_text())
    assert about == {"step": best, "figure": "good", "value": figures[{2: 0, 4: 1, 7: 3}[best]]}


def test_progress_is_told_in_pictures_and_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that goes two seconds a step; time of earlier calls counts, their steps do not."""
    clock = {"now": 100.0}
    monkeypatch.setattr(loop.time, "monotonic", lambda: clock["now"])
    step = Trainer.step

    def slow(self: Trainer, *args: Any) -> dict[str, float]:
        clock["now"] += 2.0
        return step(self, *args)

    monkeypatch.setattr(Trainer, "step", slow)
    seen: list[Progress] = []
    tenth = 0.1  # of a minute: six seconds, three steps
    assert not train(Line(), replace(SHORT, max_minutes=tenth), tmp_path, report=seen.append)
    assert train(Line(), SHORT, tmp_path, report=seen.append)
    assert [now.step for now in seen] == [1, 2, 3, 4, 5, 6, 7]
    assert [now.seconds for now in seen] == [2, 4, 6, 8, 10, 12, 14]
    assert [now.seconds_left for now in seen] == [12, 10, 8, 6, 4, 2, 0]
    assert {now.images_per_second for now in seen} == {4.0}  # eight pictures in two seconds
    assert {now.steps for now in seen} == {7}


def test_parts_of_a_batch_give_its_losses_and_gradients(tmp_path: Path) -> None:
    for parts in (1, 2, 4):
        settings = replace(SHORT, accumulate=parts, log_every=1)
        train(Line(), settings, tmp_path / str(parts))
    # Each part draws its own noise, of a hundredth.
    assert losses(tmp_path / "2") == pytest.approx(losses(tmp_path / "1"), rel=0.05)
    assert losses(tmp_path / "4") == pytest.approx(losses(tmp_path / "1"), rel=0.05)


@pytest.mark.parametrize("name", ["steps", "accumulate", "save_every", "keep_last", "log_every"])
def test_counts_begin_at_one(name: str) -> None:
    assert getattr(LoopSettings(**{"steps": 5} | {name: 1}), name) == 1
    for wrong in (0, -1):
        with pytest.raises(MasqclipError, match=f"{name} is {wrong}; it must be 1 or more"):
            LoopSettings(**{"steps": 5} | {name: wrong})


@pytest.mark.parametrize(
    ("kind", "name", "least"),
    [
        *((PretrainSettings, name, 1) for name in ("batch_size", "patch_size", "embedding_size")),
        *((PretrainSettings, f"vision_{name}", 1) for name in ("width", "layers", "heads")),
        *((PretrainSettings, f"text_{name}", 1) for name in ("width", "layers", "heads")),
        *((PretrainSettings, name, 0) for name in ("seed", "merges", "extra_captions")),
        *((PretrainSettings, name, 0) for name in ("learning_rate", "muon_rate", "weight_decay")),
        *((TeacherSettings, name, 1) for name in ("batch_size", "num_points", "image_size")),
        *((TeacherSettings, name, 0) for name in ("muon_rate", "class_weight", "seed")),
        *((TuneSettings, name, 1) for name in ("batch_size", "assign_size", "shortest_edge")),
        *((LoopSettings, name, 0) for name in ("warmup_steps", "workers", "clip_norm", "seed")),
        *((LoopSettings, name, 0) for name in ("eval_every", "max_minutes")),
    ],
)
def test_numbers_have_a_least(kind: type[Any], name: str, least: int) -> None:
    common = {"steps": 5} if kind is LoopSettings else {}
    fitting = least if least == 0 else getattr(PretrainSettings(), name, 8)
    assert getattr(kind(**common | {name: fitting}), name) == fitting
    for wrong in (least - 1, math.nan, math.inf):
        with pytest.raises(MasqclipError, match=f"{name} is {wrong}; it must be {least} or more"):
            kind(**common | {name: wrong})


def test_numbers_that_need_one_another() -> None:
    for name in ("seed", "steps", "workers"):
        with pytest.raises(MasqclipError, match=f"{name} is {2**32}; it must be below {2**32}"):
            LoopSettings(**{"steps": 5} | {name: 2**32})
    for name in ("learning_rate", "muon_rate", "weight_decay"):
        with pytest.raises(MasqclipError, match=rf"{name} is 1e\+38; it must be below {2**32}"):
            PretrainSettings(**{name: 1e38})
    with pytest.raises(MasqclipError, match="second_moment is 1; it is 0 or more, below 1"):
        PretrainSettings(second_moment=1.0)
    with pytest.raises(MasqclipError, match="image_size is 4; it must be patch_size, 8, or more"):
        PretrainSettings(image_size=4)
    for part in ("vision", "text"):
        with pytest.raises(MasqclipError, match=f"{part}_width is 20, which {part}_heads = 3 do"):
            PretrainSettings(**{f"{part}_width": 20, f"{part}_heads": 3})
    for least, most in ((0.0, 1.0), (-1.0, 1.0), (2.0, 1.0), (math.nan, 1.0), (1.0, math.inf)):
        with pytest.raises(MasqclipError, match="the first is not the larger one"):
            FrameSettings(min_scale=least, max_scale=most)


@pytest.mark.parametrize(
    ("kind", "name", "allowed"),
    [
        (LoopSettings, "schedule", ("constant", "cosine", "poly", "step")),
        (LoopSettings, "precision", ("no", "bf16", "fp16")),
        (FrameSettings, "augmentation", ("jitter", "square", "none")),
        (TuneSettings, "augmentation", ("jitter", "square", "none")),
        (TeacherSettings, "augmentation", ("jitter", "square", "none")),
        (DistillSettings, "augmentation", ("jitter", "square", "none")),
        (TuneSettings, "masks", ("proposals", "ground-truth", "both")),
        (TeacherSettings, "architecture", ARCHITECTURES),
        (DistillSettings, "architecture", ARCHITECTURES),
    ],
)
def test_a_word_is_one_of_few(kind: type[Any], name: str, allowed: tuple[str, ...]) -> None:
    common = {"steps": 5, "milestones": (3,)} if kind is LoopSettings else {}
    for word in allowed:
        assert getattr(kind(**common | {name: word}), name) == word
    with pytest.raises(MasqclipError, match=f"{name} is 'other'.*{', '.join(allowed)}"):
        kind(**common | {name: "other"})


def test_settings_that_need_one_another() -> None:
    with pytest.raises(MasqclipError, match="needs milestones"):
        LoopSettings(5, schedule="step")
    assert DistillSettings(rounds=1).rounds == 1
    with pytest.raises(MasqclipError, match="rounds is 0; it must be 1 or more"):
        DistillSettings(rounds=0)
