"""`masqclip train tune` and `miniature`, disturbed."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from unittest import mock

from damage import Cases, copy, cut, flip, refuse, run, succeed
from train_damage import LOOP, as_if_nothing, change, inputs, whole_and_stopped

from masqclip.cli import plan
from masqclip.cli.main import main
from masqclip.data.locks import lock_folder
from masqclip.training.settings import TuneSettings
from masqclip.training.tune import join
from tiny import write_tiny_clip

CASES = Cases()
TUNE = (
    "train tune --data scenes --model model --held-out 0.1 --set batch_size=2 --set "
    f"augmentation=square --set image_size=64 {LOOP} --out out"
).split()


@cache
def model() -> Path:
    """A model, and a whole tuning of it and one stopped after a step."""
    folder = Path(inputs().name)
    with contextlib.chdir(folder):
        write_tiny_clip(Path("clip"), vision_layers=1)
        joined, tokenizer = join(
            "clip", "teacher", TuneSettings(shortest_edge=64, longest_edge=128)
        )
        joined.save_pretrained("model")
        tokenizer.save_pretrained("model")
        whole_and_stopped(TUNE)
    return folder


def tuning() -> None:
    """Let ``out`` be a tuning that was stopped."""
    shutil.rmtree("out")
    copy(model() / "model", "model")
    copy(model() / "tune-stopped", "out")


@CASES.add("a bit of the best weights is flipped", slow=True)
def _best() -> None:
    tuning()
    succeed([*TUNE, "--set", "eval_every=1", "--max-minutes", "1e-9"])
    flip("out/checkpoints/best.pt", 0.6)
    refuse([*TUNE, "--set", "eval_every=1"], "best.pt cannot be read", "delete it")


@CASES.add("another --model under the same name", slow=True)
def _model() -> None:
    tuning()
    before = Path("out/before.json").read_bytes()
    change("model/model.safetensors")
    refuse(TUNE, "other content of --model")
    assert Path("out/before.json").read_bytes() == before


@CASES.add("another --model before the first checkpoint", slow=True)
def _model_early() -> None:
    tuning()
    shutil.rmtree("out/checkpoints")
    change("model/model.safetensors")
    refuse(TUNE, "other content of --model")


@CASES.add("the figures from before are damaged", slow=True)
def _before() -> None:
    tuning()
    cut("out/before.json")
    refuse(TUNE, "before.json", "no valid JSON")
    Path("out/before.json").unlink()
    as_if_nothing(TUNE)


for _what in ("cut", "flip"):

    @CASES.add(f"stored proposals are damaged ({_what})", slow=True)
    def _proposals(what: str = _what) -> None:
        tuning()
        shutil.rmtree("out")
        words = [*TUNE[:-2], "--store-proposals", "stored", *TUNE[-2:]]
        succeed([*words, "--max-minutes", "1e-9"])
        for path in Path("stored").rglob("*.npz"):
            cut(path) if what == "cut" else flip(path, 0.3)
        refuse(words, "are damaged", "delete that file and start again")
        shutil.rmtree("stored")
        as_if_nothing(words)


def _planned() -> list[str]:
    steps = [("a", "info"), ("b", "info --models")]
    Path("plan.toml").write_text(
        "".join(
            f'[[step]]\nname = "{name}"\nrun = "{words}"\nmakes = "{name}.txt"\n'
            for name, words in steps
        )
    )
    return ["train", "miniature", "--plan", "plan.toml", "--out", "made"]


@contextlib.contextmanager
def _steps(ran: list[str]) -> Iterator[None]:
    def make(words: list[str], folder: Path) -> int:
        name = "b.txt" if len(words) > 1 else "a.txt"
        ran.append(name)
        (folder / name).write_text(name)
        return main(words)

    with mock.patch.object(plan, "_run", make):
        yield


@CASES.add("what a step of a plan was made from has changed")
def _plan() -> None:
    words, ran = _planned(), list[str]()
    with _steps(ran):
        run(words)
        Path("made/a.txt").write_text("other")
        run(words)
        assert ran == ["a.txt", "b.txt", "a.txt"]
        run(words)
        assert ran == ["a.txt", "b.txt", "a.txt"]


@CASES.add("the record of a plan is damaged, or another process is at it")
def _plan_record() -> None:
    words = _planned()
    with _steps([]):
        run(words)
        with lock_folder("made"):
            assert run(words)[0] == 2
        cut("made/plan.json")
        code, said = run(words)
        assert (code, "no valid JSON" in said, "Traceback" in said) == (2, True, False)
