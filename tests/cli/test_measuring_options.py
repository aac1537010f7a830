"""Every option of evaluate, bench and convert reaches what it is for; nothing is measured here."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from heard import Heard

from masqclip.cli import bench
from masqclip.cli.main import main
from masqclip.convert.clip import ClipOptions
from masqclip.evaluation.protocol import published_protocol
from masqclip.model import MasQClipModel
from masqclip.own_world import OwnWorld
from masqclip.refinements import Refinements
from masqclip.segmenter import Segmenter

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")


class Truth(SimpleNamespace):
    """Stands for a dataset; what is left of it is told by its ``asked``."""

    asked: tuple[object, ...] = ()

    def only(self, split: str) -> Truth:
        return Truth(**vars(self) | {"asked": (*self.asked, split)})

    def first(self, limit: int) -> Truth:
        return Truth(**vars(self) | {"asked": (*self.asked, limit)})


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Heard]:
    """What evaluating calls."""
    truth = Truth(name="stickers", pictures=[1], notes=("a note",), tasks=("instance",))
    model = SimpleNamespace(
        name="straw",
        model=SimpleNamespace(
            proposer=None,
            queries=SimpleNamespace(start=Heard()),
            tower="tower",
            system=MasQClipModel.system,
            tasks=MasQClipModel.tasks,
            takes_masks=MasQClipModel.takes_masks,
        ),
        refine=Heard(),
        world=OwnWorld("straw", frozenset({"cat"}), "look elsewhere"),
    )
    heard = {
        "masqclip.data.published.load_truth": Heard(truth),
        "masqclip.segmenter.Segmenter.from_pretrained": Heard(model),
        "masqclip.evaluation.evaluate.evaluate": Heard("report"),
        "masqclip.evaluation.evaluate.score": Heard("scored"),
        "masqclip.evaluation.report.read_column": Heard("column"),
        "masqclip.cli.evaluate._write": Heard(),
        "masqclip.evaluation.vocabularies.dataset_vocabulary": Heard("cat, dog"),
        "masqclip.evaluation.vocabularies.match_vocabulary": Heard("cat, dog, cow"),
    }
    for name, each in heard.items():
        monkeypatch.setattr(name, each)
    monkeypatch.setattr("masqclip.hub.find_model", lambda name, **_: Path(name))
    return {name.rpartition(".")[2]: each for name, each in heard.items()}


def test_evaluate_without_options(
    asked: dict[str, Heard], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "-d", "stickers", "--device", "cpu"]) == 0
    assert asked["load_truth"].only == (("stickers", Path()), {"tasks": (), "images": None})
    assert asked["from_pretrained"].only == (
        ("masqclip-mini",), {"device": CPU, "dtype": torch.float32, "size": None},
    )  # fmt: skip
    (segmenter, truth, tasks), named = asked["evaluate"].only
    assert (segmenter.name, truth.asked, tasks) == ("straw", (), ("instance",))
    assert segmenter.model.queries.start.calls == []
    assert named["words"].names == ("cat", "dog")
    assert named["protocol"] == published_protocol("stickers")
    assert named["folder"] == Path("masqclip-evaluation/predictions")
    named["report"]("predicted", 1, 4)
    assert asked["dataset_vocabulary"].only[1] == {"readable": False}
    assert asked["match_vocabulary"].calls == []
    (report, _, folder, out, columns), _ = asked["_write"].only
    assert (report, out, columns) == ("report", Path("masqclip-evaluation"), [])
    assert folder.path == named["folder"]
    errors = capsys.readouterr().err
    assert "masqclip: note: a note" in errors
    assert "masqclip: note: straw has never read: dog; look elsewhere" in errors
    assert main(["evaluate"]) == 2
    assert "no dataset is given" in capsys.readouterr().err


def test_evaluate_takes_its_options(
    asked: dict[str, Heard], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = Heard(SimpleNamespace(__enter__=None, __exit__=None, show=None))
    monkeypatch.setattr("masqclip.cli.console.Steps", steps)
    words = shlex.split("evaluate -d stickers --root there -t semantic --task panoptic -q")
    words += shlex.split("--oracle masks --model mine --out out --split novel --limit 1")
    words += shlex.split("--template the_{} --readable --images pictures --vocabulary a,b")
    words += shlex.split("--save-predictions kept --beside one --beside two --untuned")
    words += shlex.split("--no-object-score --size 64:96 --top-k 7 --refine prune=0.05")
    words += shlex.split("--refine mask_from_block=2")
    words += shlex.split("--object-threshold 0 --overlap-threshold 0.5 --semantic-resize scores")
    assert main([*words, "--device", "cpu", "--dtype", "bfloat16"]) == 0
    assert asked["load_truth"].only == (
        ("stickers", Path("there")),
        {"tasks": ("semantic", "panoptic"), "images": Path("pictures")},
    )
    assert asked["from_pretrained"].only == (
        ("mine",), {"device": CPU, "dtype": torch.bfloat16, "size": None},
    )  # fmt: skip
    (segmenter, truth, tasks), named = asked["evaluate"].only
    assert (truth.asked, tasks) == (("novel", 1), ("semantic", "panoptic", "masks"))
    assert segmenter.name == "straw (prune=0.05, mask_from_block=2) (untuned)"
    assert segmenter.refine.only == ((Refinements(prune=0.05, mask_from_block=2),), {})
    assert segmenter.model.queries.start.only[0] == ("tower", "clip")
    assert (named["words"].names, named["words"].templates) == (("cat", "dog", "cow"), ("the_{}",))
    assert named["protocol"] == replace(
        published_protocol("stickers"), object_score=False, shortest_edge=64, longest_edge=96,
        top_k=7, object_threshold=0.0, overlap_threshold=0.5, semantic_resize="scores",
    )  # fmt: skip
    assert named["folder"] == Path("kept")
    assert asked["dataset_vocabulary"].only[1] == {"readable": True}
    assert asked["match_vocabulary"].only[0][1].names == ("a", "b")
    assert [given for given, _ in asked["read_column"].calls] == [(Path("one"),), (Path("two"),)]
    (_, _, folder, out, columns), _ = asked["_write"].only
    assert (folder.path, out, columns) == (Path("kept"), Path("out"), ["column"] * 2)
    errors = capsys.readouterr().err
    assert [line.partition(" note: ")[2] for line in errors.splitlines()] == [
        "a note", "straw has never read: dog, cow; look elsewhere",
    ]  # fmt: skip


def test_predictions_that_are_there_are_scored(
    asked: dict[str, Heard], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = {"dataset": "stickers", "split": "base", "pictures": 3}
    monkeypatch.setattr(
        "masqclip.evaluation.predictions.PredictionFolder.manifest", lambda folder: manifest
    )
    words = ["evaluate", "--predictions", "kept", "-o", "out"]
    assert main(words) == 0
    (folder, truth, tasks), named = asked["score"].only
    assert (folder.path, truth.asked, tasks) == (Path("kept"), ("base", 3), ())
    assert named.keys() == {"processes", "report"}
    named["report"]("scored", 1, 4)
    assert asked["evaluate"].calls == asked["from_pretrained"].calls == []
    assert asked["_write"].only[0][0] == "scored"
    more = ["-d", "other", "--split", "novel", "--limit", "2", "-t", "semantic"]
    assert main([*words, *more]) == 0
    assert asked["load_truth"].calls[1][0][0] == "other"
    (_, truth, tasks), _ = asked["score"].calls[1]
    assert (truth.asked, tasks) == (("novel", 2), ("semantic",))


def test_a_dataset_has_pictures(
    asked: dict[str, Heard], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "-d", "stickers", "--limit", "0"]) == 2
    assert "--limit 0: give 1 or more" in capsys.readouterr().err
    asked["load_truth"].answer.pictures = []
    assert main(["evaluate", "-d", "stickers", "--root", "there"]) == 2
    assert "stickers in there has no picture" in capsys.readouterr().err


# bench


ROW = {"encode": 0.1, "panoptic": 0.02, "semantic": 0.03, "pictures_per_second": 8.333}


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> tuple[Heard, Any]:
    config = SimpleNamespace(shortest_edge=96)
    segmenter = SimpleNamespace(
        model=SimpleNamespace(config=config, proposer=None), compile=Heard()
    )
    loaded = Heard(segmenter)
    monkeypatch.setattr(Segmenter, "from_pretrained", loaded)
    measure = Heard()

    def run(*given: Any) -> dict[str, Any]:
        measure(*given)
        return {"batch_size": given[3], **ROW}

    monkeypatch.setattr(bench, "measure", run)
    monkeypatch.setattr("masqclip.hub.find_model", lambda name, **_: Path(name))
    return measure, loaded


def test_bench_takes_its_options(
    timed: tuple[Heard, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("masqclip.cli.bench.machine_load", lambda: 0.25)
    measure, loaded = timed
    segmenter = loaded.answer
    assert main(["bench", "--device", "cpu"]) == 0
    shown = capsys.readouterr().out.splitlines()
    threads = torch.get_num_threads()
    assert shown[0] == f"masqclip-mini, 96 x 96, float32, cpu, {threads} threads"
    assert shown[1].split() == [
        "pictures", "at", "a", "time", "encode", "panoptic", "semantic", "pictures/s"
    ]  # fmt: skip
    assert [line.split() for line in shown[2:]] == [
        [size, "100.0", "ms", "20.0", "ms", "30.0", "ms", "8.3"] for size in "14"
    ]
    assert loaded.only == (
        ("masqclip-mini",),
        {"device": CPU, "dtype": torch.float32, "size": None},
    )
    assert segmenter.compile.calls == []
    words = shlex.split(
        "bench -m mine -v a,b --picture 3X1 --size 64 --batch-size 1 --rounds 1 --compile"
    )
    assert main([*words, "--json", "--device", "cpu", "--dtype", "bfloat16"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "model": "mine", "device": "cpu", "dtype": "bfloat16", "height": 3, "width": 1,
        "compiled": True, "threads": threads, "load": 0.25,
        "results": [{"batch_size": 1, **ROW}],
    }  # fmt: skip
    assert loaded.calls[1] == (("mine",), {"device": CPU, "dtype": torch.bfloat16, "size": "64"})
    assert len(segmenter.compile.calls) == 1
    assert [given for given, _ in measure.calls] == [
        (segmenter, (96, 96), "stickers", 1, 5),
        (segmenter, (96, 96), "stickers", 4, 5),
        (segmenter, (3, 1), "a,b", 1, 1),
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rounds", "0"], "give 1 or more"),
        (["--batch-size", "2", "--batch-size", "0"], "give 1 or more"),
        (["--picture", "0x3"], "--picture 0x3: give height x width in pixels"),
        (["--picture", "3x0"], "--picture 3x0"),
        (["--picture", "3"], "--picture 3"),
        (["--picture", "3x4x5"], "--picture 3x4x5"),
        (["--picture", "3x-4"], "--picture 3x-4"),
        (["--size", "3x4"], "--size '3x4': give the shorter side in pixels"),
    ],
)
def test_bench_refuses_what_cannot_be_timed(
    words: list[str], said: str, timed: tuple[Heard, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *words, "--device", "cpu"]) == 2
    assert said in capsys.readouterr().err


def test_the_first_of_the_rounds_warms_up_and_the_median_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = iter([0, 100, 100, 101, 101, 105, 105, 107])
    monkeypatch.setattr("time.perf_counter", lambda: next(now))
    ran = Heard()
    segmenter: Any = SimpleNamespace(device=CPU)
    assert bench._median(segmenter, ran, 3) == 2
    assert len(ran.calls) == 4


def test_seconds_are_of_a_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    medians, encoded = [], Heard(["encoded", "second"])

    def median(segmenter: Any, run: Any, rounds: int) -> float:
        run()
        medians.append(rounds)
        return [0.8, 0.3, 0.5][len(medians) - 1]

    monkeypatch.setattr(bench, "_median", median)
    monkeypatch.setattr("masqclip.encoding.encode_pictures", encoded)

    class Segments(Heard):
        model = SimpleNamespace(tasks=MasQClipModel.tasks)

    segmenter: Any = Segments()
    row = bench.measure(segmenter, (3, 5), "cat", 4, 7)
    assert row == {
        "batch_size": 4, "encode": 0.2, "panoptic": 0.3, "semantic": 0.5, "pictures_per_second": 2,
    }  # fmt: skip
    assert medians == [7, 7, 7]
    assert [(given[0], given[2]) for given, _ in segmenter.calls] == [
        ("encoded", "panoptic"), ("encoded", "semantic"),
    ]  # fmt: skip
    assert segmenter.calls[0][0][1].names == ("cat",)
    for (model, images), _ in encoded.calls:
        assert model is segmenter.model
        assert [image.pixels.shape for image in images] == [(3, 5, 3)] * 4
        assert (images[0].pixels.min(), images[0].pixels.max()) >= (0, 200), "noise"


# convert


def test_convert_takes_its_options(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    heard = Heard(
        SimpleNamespace(found=["a CLIP", "[b]"], result="load it\nso", dropped={"x": "not\nneeded"})
    )
    monkeypatch.setattr("masqclip.convert.files.convert_file", heard)
    assert main(["convert", "a.pt", "out"]) == 0
    words = shlex.split("convert b.pt there --clip ViT.pt --vision-heads 2 --text-heads 3")
    words += shlex.split("--activation gelu --mean 0.5 --std 0.1,0.2,0.3 --tokenizer .")
    assert main(words) == 0
    options = ClipOptions(2, 3, "gelu", (0.5, 0.5, 0.5), (0.1, 0.2, 0.3), Path("."))
    assert heard.calls == [
        ((Path("a.pt"), Path("out")), {"clip": None, "options": ClipOptions()}),
        (
            (Path("b.pt"), Path("there")),
            {"clip": "ViT.pt", "options": options},
        ),
    ]
    assert capsys.readouterr().out.splitlines()[:4] == [
        "found    a CLIP", "found    [b]", "dropped  x: not needed", "written  out, load it so",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--mean", "x"], "--mean x: give a number of 0 to 1, or three between commas"),
        (["--mean", "0.1,0.2"], "--mean 0.1,0.2: give"),
        (["--mean", "123.675"], "--mean 123.675: give"),
        (["--mean", "nan"], "--mean nan: give"),
        (["--std", "0"], "--std 0: give"),
        (["--std", ""], "--std : give"),
        (["--tokenizer", "nowhere"], "--tokenizer nowhere: there is no such folder"),
    ],
)
def test_convert_refuses_what_no_clip_has(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", "a.pt", "out", *words]) == 2
    assert said in capsys.readouterr().err
