"""`masqclip train`, disturbed: a distillation of a very small proposer on a dozen scenes."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import pickle
import shutil
import signal
import tempfile
import time
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from unittest import mock

import torch
from damage import Cases, copy, cut, failing_writes, flip, refuse, small_disk, started, succeed
from safetensors.torch import load_file, save_file

from masqclip.data.locks import lock_folder
from masqclip.proposals.mask2former import Mask2FormerProposer, miniature_mask2former_config
from masqclip.training.checkpoint_files import read_checkpoint, write_checkpoint

CASES = Cases()
SPRITES = Path(__file__).parents[1] / "data" / "sprites"
LOOP = "--set steps=3 --set save_every=1 --set workers=0 --set precision=no --device cpu"
FRAMES = "--set image_size=64 --set batch_size=2 --set num_points=32"
DISTILL = f"train distill --data scenes --teacher teacher {FRAMES} {LOOP} --out out".split()
STOPPED = "out/checkpoints/step-00000001.pt"


@cache
def inputs() -> tempfile.TemporaryDirectory[str]:
    """Scenes, a teacher, and a whole distillation by it and one stopped after a step."""
    folder = tempfile.TemporaryDirectory()
    with contextlib.chdir(folder.name):
        succeed(
            f"data stickers --sprites {SPRITES} --size 64 --images 12 --seed 1 -o scenes".split()
        )
        torch.manual_seed(5)
        config = miniature_mask2former_config(
            num_queries=10, width=32, backbone_widths=(8, 8, 16, 16),
            backbone_depths=(1, 1, 1, 1), encoder_layers=1, decoder_layers=2,
        )  # fmt: skip
        Mask2FormerProposer(config).save_pretrained("teacher")
        whole_and_stopped(DISTILL)
    return folder


def whole_and_stopped(words: list[str]) -> None:
    """A whole run of a stage, and one stopped after a step."""
    succeed([*words[:-1], f"{words[1]}-whole"])
    succeed([*words[:-1], f"{words[1]}-stopped", "--max-minutes", "1e-9"])


@contextlib.contextmanager
def prepared(scratch: Path) -> Iterator[None]:
    """A folder to stand in with copies of `inputs`; ``out`` is a distillation that was stopped."""
    here, source = Path.cwd(), Path(inputs().name)
    for name in ("scenes", "teacher", "distill-stopped"):
        copy(source / name, scratch / name.replace("distill-stopped", "out"))
    os.chdir(scratch)
    try:
        yield
    finally:
        os.chdir(here)


def as_if_nothing(words: list[str] = DISTILL) -> None:
    """The command ends well, and what it made and learned is, bit by bit, as in a whole run."""
    succeed(words)
    whole = Path(inputs().name, f"{words[1]}-whole")
    for name in ("model.safetensors", "config.json", "recipe.toml", "inputs.json"):
        assert Path("out", name).read_bytes() == (whole / name).read_bytes(), name
    losses = [
        [line["loss"] for line in map(json.loads, (run / "log.jsonl").open()) if "loss" in line]
        for run in (Path("out"), whole)
    ]
    assert losses[0] == losses[1]
    assert not list(Path("out").rglob("*.partial"))
    assert not list(Path("out").rglob(".masqclip.lock"))


@CASES.add("stopped for time after every step", slow=True)
def _stopped() -> None:
    for _ in range(3):
        succeed([*DISTILL, "--max-minutes", "1e-9"])
    as_if_nothing()


for _number in (signal.SIGKILL, signal.SIGTERM):

    @CASES.add(f"{signal.Signals(_number).name} in the middle", slow=True)
    def _signalled(number: int = _number) -> None:
        shutil.rmtree("out")
        slow = "import time, torch; step = torch.optim.AdamW.step\n"
        slow += "torch.optim.AdamW.step = lambda *a, **k: (time.sleep(0.3), step(*a, **k))[1]\n"
        slow += f"import sys; from masqclip.cli.main import main; sys.exit(main({DISTILL!r}))"
        process = started(slow)
        deadline = time.monotonic() + 120
        while not Path(STOPPED).exists() and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(number)
        said = process.communicate()[1]
        assert process.returncode == (-number if number == signal.SIGKILL else 0), said.decode()
        assert b"Traceback" not in said
        as_if_nothing()


@CASES.add("a bit of the newest checkpoint is flipped")
def _flipped() -> None:
    flip(STOPPED, 0.6, 6)
    refuse(DISTILL, "step-00000001.pt cannot be read (it is damaged); delete it")
    Path(STOPPED).unlink()
    as_if_nothing()


@CASES.add("a bit is flipped at any place of a checkpoint")
def _flipped_anywhere() -> None:
    whole = Path(STOPPED).read_bytes()
    for place in (0.0, 0.001, 0.3, 0.99, 0.99999):
        flip(STOPPED, place)
        try:
            read_checkpoint(Path(STOPPED))
        except ValueError as error:
            assert "delete it" in str(error)  # noqa: PT017
        else:
            raise AssertionError(place)
        Path(STOPPED).write_bytes(whole)


for _what, _share in (("cut short", 0.5), ("empty", 0.0)):

    @CASES.add(f"the newest checkpoint is {_what}")
    def _cut(share: float = _share) -> None:
        cut(STOPPED, share)
        refuse(DISTILL, "cannot be read (it does not end with a digest); delete it")


@CASES.add("a checkpoint without a digest, as torch or an earlier masqclip wrote it")
def _earlier() -> None:
    torch.save(read_checkpoint(Path(STOPPED)), STOPPED)
    refuse(DISTILL, "it does not end with a digest")


for _key in ("optimizer", "settings", "step"):

    @CASES.add(f"a checkpoint that lacks {_key}")
    def _lacking(key: str = _key) -> None:
        state = read_checkpoint(Path(STOPPED))
        del state[key]
        write_checkpoint(Path(STOPPED), state)
        refuse(DISTILL, f"it lacks {key}")


@CASES.add("a checkpoint of a network of other sizes")
def _sizes() -> None:
    state = read_checkpoint(Path(STOPPED))
    name = next(iter(state["model"]))
    state["model"][name] = torch.zeros(3, 3)
    write_checkpoint(Path(STOPPED), state)
    refuse(DISTILL, "do not fit this model")


class _Attack:
    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return os.mkdir, ("attacked",)


@CASES.add("a checkpoint that would run code")
def _attack() -> None:
    with zipfile.ZipFile(STOPPED, "w") as archive:
        archive.writestr("step/data.pkl", pickle.dumps(_Attack()))
        archive.writestr("step/version", "3")
    content = bytearray(Path(STOPPED).read_bytes())
    content[-2:] = (9 + 32).to_bytes(2, "little")
    digest = hashlib.blake2b(content, digest_size=16).hexdigest()
    Path(STOPPED).write_bytes(bytes(content) + b"masqclip:" + digest.encode())
    refuse(DISTILL, "cannot be read", "delete it")
    assert not Path("attacked").exists()


@CASES.add("what a kill leaves of a checkpoint, and of a result", slow=True)
def _left() -> None:
    Path("out/checkpoints/step-00000002.partial").write_bytes(b"half")
    Path("out/.result.partial").mkdir()
    Path("out/.masqclip.lock").write_text("process 1 on nowhere")
    succeed(DISTILL)
    Path("out/checkpoints/step-00000002.partial").unlink(missing_ok=True)
    as_if_nothing()


for _name, _content in (("recipe.toml", b"[distill"), ("progress.json", b"{"), ("log.jsonl", b"")):

    @CASES.add(f"{_name} is damaged", slow=_name != "log.jsonl")
    def _record(name: str = _name, content: bytes = _content) -> None:
        if content:
            Path("out", name).write_bytes(content)
        else:
            with Path("out", name).open("ab") as file:
                file.write(b'{"step": 2, "lo')
        as_if_nothing()


@CASES.add("a line of log.jsonl is damaged")
def _log() -> None:
    log = Path("out/log.jsonl")
    log.write_bytes(b'{"step": nine}\n' + log.read_bytes())
    refuse(DISTILL, "log.jsonl, line 1", "delete that line")
    log.write_bytes(log.read_bytes().split(b"\n", 1)[1])
    as_if_nothing()


@CASES.add("inputs.json is damaged")
def _inputs() -> None:
    cut("out/inputs.json")
    refuse(DISTILL, "inputs.json", "no valid JSON")


@CASES.add("inputs.json is gone")
def _no_inputs() -> None:
    Path("out/inputs.json").unlink()
    refuse(DISTILL, "no inputs.json", "choose another --out")


@CASES.add("other annotations in --data")
def _annotations() -> None:
    path = Path("scenes/annotations/panoptic.json")
    document = json.loads(path.read_text())
    document["annotations"].pop()
    path.write_text(json.dumps(document))
    refuse(DISTILL, "other content of --data")


@CASES.add("another picture in --data")
def _picture() -> None:
    shutil.copyfile("scenes/images/000001.png", "scenes/images/000000.png")
    refuse(DISTILL, "other content of --data")


@CASES.add("another map in --data")
def _map() -> None:
    shutil.copyfile("scenes/panoptic/000001.png", "scenes/panoptic/000000.png")
    refuse(DISTILL, "other content of --data")


@CASES.add("another teacher under the same name")
def _teacher() -> None:
    change("teacher/model.safetensors")
    refuse(DISTILL, "other content of --teacher")


def change(path: str) -> None:
    tensors = load_file(path)
    for value in tensors.values():
        if value.is_floating_point():
            value += 0.01
    save_file(tensors, path, {"format": "pt"})


@CASES.add("another setting")
def _setting() -> None:
    refuse([*DISTILL, "--set", "learning_rate=0.5"], "learning_rate = ")


@CASES.add("another stage in the same folder")
def _stage() -> None:
    words = [word for word in DISTILL if word not in ("--teacher", "teacher")]
    refuse([word.replace("distill", "teacher") for word in words], "choose another --out")


@CASES.add("two runs at once")
def _twice() -> None:
    with lock_folder("out"):
        refuse(DISTILL, f"process {os.getpid()} on ", "is at work in this folder")
    with lock_folder("out/checkpoints"):  # as a program of one's own holds it
        refuse(DISTILL, "is at work in this folder")
    as_if_nothing()


@CASES.add("the disk is full at a checkpoint")
def _full_checkpoint() -> None:
    before = Path(STOPPED).read_bytes()
    with failing_writes("step-00000002"):
        refuse(DISTILL, "step-00000002.pt: No space left", "free some space")
    assert [path.name for path in Path("out/checkpoints").iterdir()] == ["step-00000001.pt"]
    assert Path(STOPPED).read_bytes() == before
    as_if_nothing()


@CASES.add("the disk is full at the result", slow=True)
def _full_result() -> None:
    with failing_writes("model.safetensors"):
        refuse(DISTILL, "No space left", "free some space")
    assert not Path("out/model.safetensors").exists()
    as_if_nothing()


@CASES.add("the quota is used up at the log", slow=True)
def _quota() -> None:
    with failing_writes("log.jsonl", errno.EDQUOT):
        refuse(DISTILL, "free some space")
    as_if_nothing()


@CASES.add("a disk of 400 kB", slow=True)
def _small_disk() -> None:
    shutil.rmtree("out")
    with small_disk(Path("out"), 0.4) as mounted:
        if mounted:
            refuse(DISTILL, "No space left", "free some space")
            assert not list(Path("out/checkpoints").glob("*.pt"))
    shutil.rmtree("out")
    as_if_nothing()


@CASES.add("the folder may only be read", slow=True)
def _read_only() -> None:
    def refused(*_: object, **__: object) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), "out/.masqclip.lock")

    with mock.patch("masqclip.data.locks._acquire", refused):
        refuse(DISTILL, "out: cannot be written to", "Read-only")
    as_if_nothing()


@CASES.add("no picture can be read, in a worker of its own", slow=True)
def _worker() -> None:
    shutil.rmtree("out")
    for path in Path("scenes/images").iterdir():
        cut(path, 0.3)
    words = [word.replace("workers=0", "workers=1") for word in DISTILL]
    code = f"import sys; from masqclip.cli.main import main; sys.exit(main({words!r}))"
    process = started(code)
    try:  # it ends, and its worker too
        said = process.communicate(timeout=120)[1].decode()
    finally:
        process.kill()
    assert process.returncode == 2, said
    assert said.startswith("masqclip: error: more than a tenth of the 12 pictures"), said
    assert said.count("\n") == 1
