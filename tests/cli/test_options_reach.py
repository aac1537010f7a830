"""Every option of a verb reaches what it is for, and so does what stands for one that is left out.

What a verb calls notes its arguments here and does nothing; `test_batch_options.py` and
`test_train_options.py` hold those of large jobs and of training.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from heard import Heard

from masqclip.cli.main import main
from masqclip.data.stickers import source
from masqclip.data.stickers.scenes import SceneSettings
from masqclip.data.stickers.styles import LOOKS
from masqclip.data.stickers.worlds import STUDIO_PACKAGES, UNSEEN_STUDIO, sticker_world
from masqclip.devices import choose_device, choose_dtype
from masqclip.labelling.folder import LabelledFolder
from masqclip.labelling.formats import FormatSettings
from masqclip.segmenter import Segmenter
from masqclip.serve.settings import ServeSettings

CPU = torch.device("cpu")


pytestmark = pytest.mark.usefixtures("here")


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> Heard:
    """What a model is loaded with."""
    config = SimpleNamespace(shortest_edge=96)
    model = SimpleNamespace(config=config, proposer=None)
    heard = Heard(SimpleNamespace(model=model, compile=Heard(), notes_on=lambda *_: ()))
    monkeypatch.setattr(Segmenter, "from_pretrained", heard)
    return heard


# data


def test_sprites_take_their_options(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Made(list[int]):
        studios = ("a", "b", "a")

    build = Heard(Made([1, 2, 3]))
    monkeypatch.setattr("masqclip.data.stickers.sprites.build_sprites", build)
    assert main(["data", "sprites", "-o", "out"]) == 0
    assert (
        main(
            [
                "data",
                "sprites",
                "-o",
                "out",
                "--size",
                "8",
                "--packages",
                "npm",
                "--world",
                "second",
                "--clip-art",
                "png",
                "--symbola",
                "font.ttf",
                "--doodles",
                "drawn",
            ]
        )
        == 0
    )
    assert main(["data", "sprites", "-o", "out", "--size", "1024"]) == 0
    nothing = {"packages": None, "clip_art": None, "symbola": None, "doodles": None}
    assert [named for _, named in build.calls] == [
        {"world": "first", "size": 64, **nothing},
        {
            "world": "second",
            "size": 8,
            "packages": Path("npm"),
            "clip_art": Path("png"),
            "symbola": Path("font.ttf"),
            "doodles": Path("drawn"),
        },
        {"world": "first", "size": 1024, **nothing},
    ]
    assert build.calls[0][0] == (Path("out"),)
    assert "3 drawings by 2 studios and sets of icons are in out" in capsys.readouterr().out
    for size in ("7", "1025"):
        assert main(["data", "sprites", "-o", "out", "--size", size]) == 2
        assert f"--size {size}: give 8 to 1024 pixels" in capsys.readouterr().err


KINDS: dict[str, dict[str, Any]] = {
    "scenes": {},
    "windows": {
        "size": 64, "min_things": 1, "max_things": 3, "min_scale": 0.4, "max_scale": 0.9,
        "max_stuff": 2, "captions": "both",
    },
    "crowds": {
        "size": 256, "min_things": 3, "max_things": 12, "min_scale": 0.08, "max_scale": 0.5,
        "min_visible": 0.0008,
    },
    "portraits": {
        "size": 48, "min_things": 1, "max_things": 1, "min_scale": 0.53, "max_scale": 1.0,
        "max_stuff": 2, "captions": "names", "name_stuff": False,
    },
    "glimpses": {
        "size": 48, "min_things": 0, "max_things": 2, "min_scale": 0.4, "max_scale": 0.9,
        "max_stuff": 2, "captions": "names",
    },
}  # fmt: skip


class Drawings:
    """A sprite cache of the first world."""

    def __init__(self, studios: list[str]) -> None:
        self.studios, self.names, self.world = studios, ["ant"], sticker_world("first")
        self.select = Heard("drawings")


@pytest.mark.parametrize("kind", KINDS)
def test_stickers_take_their_options(
    kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    studios = [*STUDIO_PACKAGES][1:]  # one is missing in this cache
    drawings = Drawings(studios)
    load, world, write = Heard(drawings), Heard("world"), Heard()
    source._cache.cache_clear()
    monkeypatch.setattr("masqclip.data.stickers.source.load_sprites", load)
    monkeypatch.setattr("masqclip.data.stickers.source.StickerWorld", world)
    monkeypatch.setattr("masqclip.data.stickers.files.write_stickers", write)
    words = ["data", "stickers", "-o", "out", "-n", "1", "--kind", kind]
    assert main([*words, "--seed", "0"]) == 0
    options = ["--size", "80", "--studios", " one, two,", "--captions-only", "--sprites", "cache"]
    options += ["--styles", "0.5"]
    assert main([*words, "--seed", "5", *options, "--device", "cpu"]) == 0
    assert [given for given, _ in load.calls] == [(Path("sprites"),), (Path("cache"),)]
    there = [name for name in studios if name != UNSEEN_STUDIO]
    asked_for = [named["studios"] for _, named in drawings.select.calls]
    assert asked_for == [tuple(there), ("one", "two")]
    asked = SceneSettings(**KINDS[kind]), SceneSettings(**KINDS[kind] | {"size": 80})
    assert [given for given, _ in world.calls] == [("drawings", each) for each in asked]
    assert [named for _, named in world.calls] == [
        {"device": CPU, "styles": 0.0, "looks": tuple(LOOKS)},
        {"device": CPU, "styles": 0.5, "looks": tuple(LOOKS)},
    ]
    for (given, named), seed, only in zip(write.calls, (0, 5), (False, True), strict=True):
        assert given == (Path("out"), "world")
        del named["report"]
        assert named == {"images": 1, "seed": seed, "captions_only": only}
    assert "1 scenes are in out" in capsys.readouterr().out
    assert main(["data", "stickers", "-o", "out", "-n", "0", "--seed", "0"]) == 2
    assert "--images 0: give 1 or more" in capsys.readouterr().err


# label


def test_label_takes_its_options(monkeypatch: pytest.MonkeyPatch, loaded: Heard) -> None:
    label = Heard(LabelledFolder())
    monkeypatch.setattr("masqclip.labelling.folder.label_folder", label)
    monkeypatch.setattr("masqclip.hub.model_folders", lambda name: (Path(name),))
    monkeypatch.setattr("masqclip.data.digests.digest_model", lambda folder: f"digest of {folder}")
    checked = Heard()
    monkeypatch.setattr("masqclip.cli.label.check_system", checked)
    assert main(["label", "photos", "-v", "cat, stuff: sky", "-f", "panoptic"]) == 0
    words = shlex.split("label photos -v cat,sky -f yolo -o out --task semantic --model mine")
    words += shlex.split("--min-score 0.25 --not dog --stuff sky --template the_{} --split 0 -q")
    words += ["--level", "0"]
    words += shlex.split("--images link --regions polygon --image-url s3://here --batch-size 1")
    assert main([*words, "--device", "cpu", "--dtype", "bfloat16", "--size", "064:96"]) == 0
    shared = {"names": ("cat", "sky"), "stuff_ids": {1}}
    for (given, named), expected, about, settings, (dtype, size, least, level) in zip(
        label.calls,
        (
            {"out": Path("masqclip-labels"), "kind": "panoptic", "task": None},
            {"out": Path("out"), "kind": "yolo", "task": "semantic"},
        ),
        (
            {**shared, "distractors": (), "templates": None},
            {**shared, "distractors": ("dog",), "templates": ("the_{}",)},
        ),
        (
            FormatSettings(0.2, "copy", "brush", None, "masqclip-mini"),
            FormatSettings(0.0, "link", "polygon", "s3://here", "mine"),
        ),
        ((None, None, None, None), ("bfloat16", "64:96", 0.25, 0)),
        strict=True,
    ):
        assert given[:2] == (Path("photos"), ["a.png", "more/b.png"])
        if about["templates"] is None:
            del about["templates"]
        assert {name: getattr(given[2], name) for name in about} == about
        load, weights = named.pop("load"), named.pop("weights")
        assert weights() == f"digest of {settings.model}"
        assert checked.calls[-1] == ((settings.model, named["task"] or "panoptic"), {})
        load()
        report = named.pop("report")
        report(1, "")
        assert named == expected | {
            "batch_size": 1, "settings": settings, "about": {"dtype": dtype, "size": size},
            "min_score": least, "level": level,
        }  # fmt: skip
    here = choose_device(None)
    assert loaded.calls == [
        (("masqclip-mini",), {"device": here, "dtype": choose_dtype(None, here), "size": None}),
        (("mine",), {"device": CPU, "dtype": torch.bfloat16, "size": "64:96"}),
    ]


@pytest.mark.parametrize("split", ["-0.1", "1", "1.5"])
def test_a_share_to_validate_on_is_less_than_all(
    split: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["label", "photos", "-v", "cat", "-f", "yolo", "--split", split]) == 2
    assert f"--split {split}: give a share from 0 to less than 1" in capsys.readouterr().err


# serve


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> tuple[Heard, ...]:
    create, run, threads = Heard("app"), Heard(), Heard()
    monkeypatch.setattr("masqclip.serve.app.create_app", create)
    monkeypatch.setattr("masqclip.serve.run.run_app", run)
    monkeypatch.setattr(torch, "set_num_threads", threads)
    port = Heard()
    monkeypatch.setattr("masqclip.cli.serve._check_port", port)
    for name in ("MASQCLIP_TOKEN", "LABEL_STUDIO_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    return create, run, threads, port


def test_serve_without_options(
    loaded: Heard, served: tuple[Heard, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    create, run, threads, port = served
    for cores in (8, 1, None):
        monkeypatch.setattr(os, "cpu_count", lambda cores=cores: cores)
        assert main(["serve", "--device", "cpu"]) == 0
    assert port.calls[0][0] == ("127.0.0.1", 8000)
    assert [given for given, _ in threads.calls] == [(4,), (1,), (1,)]
    assert loaded.calls[0] == (
        ("masqclip-mini",), {"device": CPU, "dtype": torch.float32, "size": None},
    )  # fmt: skip
    assert create.calls[0][0] == (
        loaded.answer, ServeSettings(allowed_hosts=("127.0.0.1",)),
    )  # fmt: skip
    assert run.calls[0] == (
        ("app",), {"host": "127.0.0.1", "port": 8000, "max_connections": 512},
    )  # fmt: skip


def test_serve_takes_its_options(
    loaded: Heard, served: tuple[Heard, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    create, run, threads, port = served
    words = shlex.split("serve --model mine --host 0.0.0.0 --port 80 --device cpu --threads 1")
    words += shlex.split("--token secret --cors-origin http://a --cors-origin http://b")
    words += shlex.split("--allowed-host c --max-requests 2 --max-wait 3 --batch-size 4")
    words += shlex.split(
        "--deadline 5 --max-upload-mb 0.5 --max-pixels 6 --max-connections 7 --buffer-mb 8"
    )
    words += shlex.split(
        "--max-vocabularies 9 --max-examples 10 --vocabulary-mb 11 --vocabulary-minutes 0.5"
    )
    words += shlex.split("--store-mb 0 --label-studio-url http://d --label-studio-token key")
    words += shlex.split(
        "--label-studio-storage e --label-studio-storage f:9 --label-studio-timeout 6"
    )
    assert main(words) == 0
    assert create.only[0][1] == ServeSettings(
        max_requests=2, max_wait=3.0, batch_size=4, deadline=5.0, max_upload_bytes=500_000,
        max_pixels=6, store_bytes=0, token="secret", max_connections=7, buffer_bytes=8_000_000,
        cors_origins=("http://a", "http://b"), allowed_hosts=("0.0.0.0", "c"),
        label_studio_url="http://d", label_studio_token="key", label_studio_storage=("e", "f:9"),
        label_studio_timeout=6.0, max_vocabularies=9, max_examples=10,
        vocabulary_bytes=11_000_000, vocabulary_seconds=30.0,
    )  # fmt: skip
    assert run.only == (("app",), {"host": "0.0.0.0", "port": 80, "max_connections": 7})
    assert port.only[0] == ("0.0.0.0", 80)
    assert threads.only[0] == (1,)
    assert loaded.only[0] == ("mine",)
    told = (
        "masqclip: mine on cpu; open http://127.0.0.1:80/ here, or this machine's name or address"
    )
    assert told in capsys.readouterr().err
    assert main(["serve", "--threads", "0"]) == 2
    assert "--threads 0: give 1 or more" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("host", "port", "said"),
    [
        ("127.0.0.1", 0, "--port 0: give a number from 1 to 65535"),
        ("127.0.0.1", 65536, "--port 65536: give a number from 1 to 65535"),
        ("192.0.2.1", 1, "cannot listen on 192.0.2.1:1 (Cannot assign requested address)"),
        ("a..b", 80, "cannot listen on a..b:80 ("),
    ],
)
def test_where_nothing_can_listen_is_told_before_a_model_is_loaded(
    host: str, port: int, said: str, loaded: Heard, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--host", host, "--port", str(port)]) == 2
    assert said in capsys.readouterr().err
    assert loaded.calls == []


# export


def test_exports_take_their_options(
    monkeypatch: pytest.MonkeyPatch, loaded: Heard, capsys: pytest.CaptureFixture[str]
) -> None:
    done = SimpleNamespace(bytes={"image.onnx": 1_500_000}, differences={"image.mask_logits": 2e-5})
    export = Heard(done)
    monkeypatch.setattr("masqclip.graphs.export.export_model", export)
    assert main(["export", "mine", "out"]) == 0
    said = capsys.readouterr().out
    assert "1.50 MB  image.onnx" in said
    assert "at most 2e-05 off the model's (image.mask_logits)" in " ".join(said.split())
    told = ["--frame", "64x96", "--dtype", "int8", "--opset", "21", "--size", "64:96", "--quiet"]
    assert main(["export", "mine", "out", *told]) == 0
    assert main(["export", "mine", "out", "--dynamic", "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    usual = {"opset": 20, "dynamic": False, "storage": "float32", "frame": None}
    for (given, named), changed in zip(
        export.calls,
        ({}, {"opset": 21, "storage": "int8", "frame": (64, 96)}, {"dynamic": True}),
        strict=True,
    ):
        assert given == (loaded.answer, Path("out"))
        assert callable(named.pop("report"))
        assert named == usual | changed
    assert loaded.calls[1][1]["size"] == "64:96"
