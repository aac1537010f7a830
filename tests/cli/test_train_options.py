"""Every option of `masqclip train` reaches its stage, its data and the loop; nothing is trained."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from heard import Heard

from masqclip.cli.main import main
from masqclip.cli.training import Pictures, Run
from masqclip.data.coco import is_base
from masqclip.errors import MasqclipError
from masqclip.training import recipes
from masqclip.training.dry_run import Forecast
from masqclip.training.loop import Progress
from masqclip.training.settings import ARCHITECTURES

CPU = torch.device("cpu")
STAGE = SimpleNamespace(
    name="teach", notes=("a note",), remarks="a remark", inputs={"--data": "digest"}
)


class Pictured(list[int]):
    """Stands for a dataset; what is held out of it, and kept of that, is told by its name."""

    def __init__(self, name: str) -> None:
        super().__init__(range(3))
        self.name = name

    def hold_out(self, share: float) -> tuple[Pictured, Pictured]:
        return Pictured(f"but {share:g} of {self.name}"), Pictured(f"{share:g} of {self.name}")

    def keeping(self, keep: object) -> Pictured:
        if keep is None:
            return Pictured(f"all of {self.name}")
        return Pictured(f"{'base' if keep is is_base else keep} of {self.name}")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Heard:
    """What datasets are opened with; no stage is loaded or trained."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    heard = Heard()

    def open_coco(data: Path, **named: Any) -> Pictured:
        heard(data, **named)
        return Pictured(str(data))

    monkeypatch.setattr("masqclip.data.open_coco.open_coco", open_coco)
    monkeypatch.setattr("masqclip.data.open_coco.keep_classes", lambda name: f"kept {name}")
    return heard


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Heard:
    heard = Heard(True)
    monkeypatch.setattr("masqclip.training.loop.train", heard)
    return heard


@pytest.fixture
def claimed(monkeypatch: pytest.MonkeyPatch) -> Heard:
    heard = Heard()
    monkeypatch.setattr("masqclip.training.inputs.claim_inputs", heard)
    return heard


# The data


@pytest.mark.parametrize(
    ("given", "open_with", "calls", "names"),
    [
        ({}, {}, [("d", None, is_base)], ("d", None)),
        ({}, {"share": 0.1}, [("d", None, is_base)], ("but 0.1 of d", "base of 0.1 of d")),
        ({}, {"share": 0.1, "judge_all": True}, [("d", None, is_base)],
         ("but 0.1 of d", "all of 0.1 of d")),
        ({"held_out": "0.25"}, {"share": 0.1}, [("d", None, is_base)],
         ("but 0.25 of d", "base of 0.25 of d")),
        ({"held_out": "0"}, {"share": 0.1}, [("d", None, is_base)], ("d", None)),
        ({"classes": "c", "images": Path("i")}, {"share": 0.5}, [("d", Path("i"), "kept c")],
         ("but 0.5 of d", "kept c of 0.5 of d")),
        ({"held_out": "h.json", "images": Path("i")}, {},
         [("d", Path("i"), is_base), ("h.json", Path("i"), is_base)], ("d", "h.json")),
        ({"held_out": "folder", "images": Path("i"), "classes": "c"}, {},
         [("d", Path("i"), "kept c"), ("folder", None, "kept c")], ("d", "folder")),
        ({"held_out": "h.json"}, {"judge_all": True},
         [("d", None, is_base), ("h.json", None, None)], ("d", "h.json")),
    ],
)  # fmt: skip
def test_what_is_trained_on_and_what_is_held_out(
    given: dict[str, Any],
    open_with: dict[str, Any],
    calls: list[tuple[str, Path | None, object]],
    names: tuple[str, str | None],
    opened: Heard,
) -> None:
    Path("folder").mkdir()
    dataset, held_out = Pictures(Path("d"), **given).open(**open_with)
    assert [(str(data), named["images"], named["keep"]) for (data,), named in opened.calls] == calls
    assert dataset.name == names[0]  # type: ignore[attr-defined]
    assert (held_out and held_out.name) == names[1]  # type: ignore[attr-defined]


# The run


def test_a_run_has_the_recipe_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    settings, loop = recipes.load_recipe("miniature", "teacher")
    assert Run(out).settings("teacher") == (settings, loop)
    assert Run(out, max_minutes=0.5).settings("teacher")[1] == replace(loop, max_minutes=0.5)
    assert Run(out, set_=["steps=7"]).settings("teacher")[1].steps == 7
    load = Heard((settings, loop))
    monkeypatch.setattr(recipes, "load_recipe", load)
    Run(out).settings("tune", recipe="own-data")
    Run(out, recipe="mine").settings("tune", recipe="own-data")
    assert [given for given, _ in load.calls] == [("own-data", "tune", []), ("mine", "tune", [])]
    for minutes in (-1.0, math.nan, math.inf):
        said = rf"--max-minutes {minutes:g}: give 0 \(no limit\) or more"
        with pytest.raises(MasqclipError, match=said):
            Run(out, max_minutes=minutes).settings("teacher")
    out.write_text("a file")
    with pytest.raises(MasqclipError, match="is a file"):
        Run(out).settings("teacher")
    Run(out, dry_run=True).settings("teacher")  # writes nothing


def test_the_loop_gets_the_runs_options(
    trained: Heard, claimed: Heard, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loop = recipes.load_recipe("miniature", "teacher")[1]
    stage: Any = STAGE
    assert Run(tmp_path, device="cpu", track=["wandb"]).complete(stage, loop, tmp_path / "x")
    shown, errors = capsys.readouterr()
    assert f"teach is done: the result is in {tmp_path}/x" in shown
    assert errors.splitlines() == [
        "masqclip: note: a note", "a remark",
    ]  # fmt: skip
    given, named = trained.only
    report = named.pop("report")
    assert given == (stage, loop, tmp_path / "x")
    assert named == {"device": "cpu", "track": ["wandb"]}
    report(Progress(1, 2, {"mask": 0.5}, 3.0, 0.25, 1.0, 61.0, 2_500_000_000))
    assert claimed.only[0] == (tmp_path / "x", {"--data": "digest"})

    trained.answer, quiet = False, SimpleNamespace(**vars(STAGE) | {"notes": (), "remarks": ""})
    unsaid: Any = quiet
    assert Run(tmp_path, device="cpu").train(unsaid, loop) == 0
    assert trained.calls[1][1]["track"] == ()
    assert trained.calls[1][0][2] == tmp_path
    shown, errors = capsys.readouterr()
    assert f"teach stopped; the same command goes on from {tmp_path}" in shown
    assert errors == ""


def test_steps_are_told_with_losses_speed_memory_and_time_left(
    trained: Heard, claimed: Heard, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    loop = replace(recipes.load_recipe("miniature", "teacher")[1], steps=4)

    def train(*given: Any, report: Callable[[Progress], None], **named: Any) -> bool:
        report(Progress(1, 4, {"mask": 0.5, "dice": 0.25}, 3.0, 0.25, 1.0, 61.0, 2_500_000_000))
        return True

    monkeypatch.setattr("masqclip.training.loop.train", train)
    stage: Any = STAGE
    Run(tmp_path, device="cpu").complete(stage, loop, tmp_path)
    errors = capsys.readouterr().err
    assert "teach: 25 %, 1 of 4, 0:00:00 elapsed" in errors
    assert "mask 0.500  dice 0.250  3.0 images/s (25% waiting)  2.5 GB  0:01:01 left" in errors


def test_a_dry_run_asks_for_a_forecast_only(
    trained: Heard, claimed: Heard, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    told = Heard(Forecast("[recipe]", 1234, 5678, {"pictures": 1000, "masks": 2}, 2, 0.5, 3661.4))
    monkeypatch.setattr("masqclip.training.dry_run.forecast", told)
    loop = recipes.load_recipe("miniature", "teacher")[1]
    stage: Any = STAGE
    out = tmp_path / "out"
    run = Run(out, device="cpu", dry_run=True)
    with run.folder():
        assert not run.complete(stage, loop, out)
    assert told.only[0] == (stage, loop, "cpu")
    assert (trained.calls, claimed.calls) == ([], [])
    assert not out.exists()
    assert capsys.readouterr().out.splitlines() == [
        "[recipe]",
        "parameters: 1,234 train, 5,678 are frozen",
        "data: 1,000 pictures, 2 masks",
        "time: 1:01:01 on 2 process(es), from 0.500 s a step measured now",
    ]


# The stages


def test_pretrain_hands_on_its_options(
    trained: Heard, claimed: Heard, opened: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Heard(STAGE)
    monkeypatch.setattr("masqclip.training.pretrain.PretrainStage", made)
    words = ["train", "pretrain", "-d", "a", "--data", "b", "-o", "out", "--device", "cpu"]
    assert main(words) == 0
    assert main([*words, "--start", "clip", "--set", "steps=3"]) == 0
    settings, loop = recipes.load_recipe("miniature", "pretrain")
    data = ["a", "b"]
    assert made.calls == [
        ((data, settings), {"start": None, "steps": loop.steps}),
        ((data, settings), {"start": Path("clip"), "steps": 3}),
    ]
    assert trained.calls[1][0][1].steps == 3


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_teacher_hands_on_its_options(
    architecture: str,
    trained: Heard, claimed: Heard, opened: Heard, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    made = Heard(STAGE)
    monkeypatch.setattr("masqclip.training.teacher.TeacherStage", made)
    named_so = {name: Heard(name) for name in ARCHITECTURES}
    monkeypatch.setattr("masqclip.proposals.adapters.ARCHITECTURES", named_so)
    words = ["train", "teacher", "-d", "a", "-o", "out", "--device", "cpu", "--held-out", "0.5"]
    assert main([*words, "--set", f"architecture={architecture}"]) == 0
    (dataset, config, settings), named = made.only
    assert (dataset.name, config) == ("but 0.5 of a", architecture)
    assert settings.architecture == architecture
    assert named["held_out"].name == "all of 0.5 of a", "evaluations look at all classes"


def test_distill_hands_on_its_options(
    trained: Heard, claimed: Heard, opened: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds, wrote = Heard(), Heard()
    monkeypatch.setattr("masqclip.training.distill.distill_rounds", rounds)
    monkeypatch.setattr("masqclip.cli.train.write_pseudo_labels", wrote)
    words = ["train", "distill", "-d", "a", "-o", "out", "--teacher", "t", "--device", "cpu"]
    assert main(words) == 0
    assert wrote.calls == []
    more = ["--rounds", "3", "--save-pseudo-labels", "p.json", "--held-out", "0.5"]
    assert main([*words, *more]) == 0
    (plain, said), (asked, named) = rounds.calls
    settings = recipes.load_recipe("miniature", "distill")[0]
    assert plain[1:4] == (Path("t"), settings, Path("out"))
    assert said == {"held_out": None}
    assert asked[2] == replace(settings, rounds=3)
    assert named["held_out"].name == "all of 0.5 of a"
    plain[4](STAGE, Path("round-1"))
    assert trained.only[0][2] == Path("round-1")
    (teacher, dataset, used, path, device), _ = wrote.only
    assert (teacher, dataset.name, path, device) == (
        Path("t"), "but 0.5 of a", Path("p.json"), "cpu"
    )  # fmt: skip
    assert used.rounds == 3


@pytest.fixture
def tuned(monkeypatch: pytest.MonkeyPatch) -> dict[str, Heard]:
    """What tuning calls."""
    given = SimpleNamespace(model="model", text=SimpleNamespace(tokenizer="tokenizer"))
    heard = {
        "masqclip.segmenter.Segmenter.from_pretrained": Heard(given),
        "masqclip.training.tune.TuneStage": Heard(STAGE),
        "masqclip.training.tune.join": Heard(("joined", "its tokenizer")),
        "masqclip.cli.train.fill_proposals": Heard(),
        "masqclip.cli.train.measured_before": Heard({"accuracy": 0.5}),
        "masqclip.cli.train.report_tuning": Heard(),
    }
    for name, each in heard.items():
        monkeypatch.setattr(name, each)
    monkeypatch.setattr("masqclip.hub.model_folders", lambda name: (Path(name),))
    monkeypatch.setattr("masqclip.hub.find_model", lambda name, **_: Path(name))
    monkeypatch.setattr("masqclip.hub.find_weights", lambda path, what, **_: Path(f"{what} {path}"))
    monkeypatch.setattr("masqclip.data.digests.digest_model", lambda folder: f"digest of {folder}")
    return {name.rpartition(".")[2]: each for name, each in heard.items()}


TUNE = ["train", "tune", "-d", "a", "-o", "out", "--device", "cpu"]


def test_a_finished_model_is_tuned_as_asked(
    tuned: dict[str, Heard], trained: Heard, claimed: Heard, opened: Heard
) -> None:
    assert main([*TUNE, "--model", "m", "--masks", "both", "--store-proposals", "kept"]) == 0
    assert tuned["from_pretrained"].only == (("m",), {"device": "cpu", "cache": False})
    (model, tokenizer, dataset, settings), named = tuned["TuneStage"].only
    assert (model, tokenizer, dataset.name) == ("model", "tokenizer", "but 0.1 of a")
    assert settings == replace(recipes.load_recipe("own-data", "tune")[0], masks="both")
    assert named["sources"] == {"--model": "digest of m"}
    held_out = named["held_out"]
    assert held_out.name == "base of 0.1 of a"
    assert tuned["fill_proposals"].only[0] == (STAGE, Path("kept"), "cpu")
    assert tuned["measured_before"].only[0] == (STAGE, held_out, Path("out"), "cpu")
    assert tuned["report_tuning"].only[0] == ({"accuracy": 0.5}, held_out, Path("out"), "cpu")
    assert claimed.calls[0][0] == (Path("out"), STAGE.inputs)
    trained.answer = False  # stopped: there is nothing to report of yet
    assert main([*TUNE, "--model", "m"]) == 0
    assert len(tuned["report_tuning"].calls) == 1
    assert len(tuned["fill_proposals"].calls) == 1


def test_parts_are_joined_and_tuned_as_asked(
    tuned: dict[str, Heard], trained: Heard, claimed: Heard, opened: Heard
) -> None:
    assert main([*TUNE, "--clip", "c", "--proposer", "p"]) == 0
    settings = recipes.load_recipe("miniature", "tune")[0]
    assert tuned["join"].only[0] == (Path("CLIP c"), Path("proposer p"), settings)
    given, named = tuned["TuneStage"].only
    assert given[:2] == ("joined", "its tokenizer")
    assert given[2].name == "a", "nothing is held out unless asked"
    assert named["held_out"] is None
    assert named["sources"] == {
        "--clip": "digest of CLIP c", "--proposer": "digest of proposer p",
    }  # fmt: skip
    for name in ("measured_before", "report_tuning", "fill_proposals", "from_pretrained"):
        assert tuned[name].calls == []


def test_a_dry_run_of_tuning_measures_nothing(
    tuned: dict[str, Heard], trained: Heard, opened: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Heard(Forecast("", 1, 1, {}, 1, 1.0, 1.0))
    monkeypatch.setattr("masqclip.training.dry_run.forecast", told)
    assert main([*TUNE, "--model", "m", "--dry-run", "--store-proposals", "kept"]) == 0
    for name in ("measured_before", "report_tuning", "fill_proposals"):
        assert tuned[name].calls == []


@pytest.mark.parametrize(
    "words",
    [
        [], ["--clip", "c"], ["--proposer", "p"], ["--model", "m", "--clip", "c"],
        ["--model", "m", "--proposer", "p"], ["--model", "m", "--clip", "c", "--proposer", "p"],
    ],
)  # fmt: skip
def test_a_model_or_both_of_its_parts(
    words: list[str], opened: Heard, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*TUNE, *words]) == 2
    assert "give --model, or else --clip and --proposer" in capsys.readouterr().err


def test_the_miniature_is_its_plan(
    opened: Heard, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    load, run = Heard("steps"), Heard(True)
    monkeypatch.setattr("masqclip.cli.plan.load_plan", load)
    monkeypatch.setattr("masqclip.cli.plan.run_plan", run)
    assert main(["train", "miniature", "-o", "out"]) == 0
    assert capsys.readouterr().out == "all steps are done: the results are in out\n"
    run.answer = False
    words = ["train", "miniature", "-o", "out", "--plan", "p.toml", "--max-minutes", "0.5"]
    assert main(words) == 0
    assert capsys.readouterr().out == "stopped; the same command goes on from out\n"
    assert main([*words[:-1], "nan"]) == 2
    assert "--max-minutes nan: give 0 (no limit) or more" in capsys.readouterr().err
    assert load.calls[0][0][0].parts[-3:] == ("recipes", "plans", "miniature.toml")
    assert load.calls[1][0] == (Path("p.toml"),)
    assert run.calls == [
        (("steps", Path("out")), {"max_minutes": 0.0}),
        (("steps", Path("out")), {"max_minutes": 0.5}),
    ]
