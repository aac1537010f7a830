"""The folder that the documented commands run in: small stand-ins for what their readers have."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from documented import ROOT
from PIL import Image

TESTS = ROOT / "tests"
for _room in ("training", "hub", "proposals", "evaluation"):
    sys.path.append(str(TESTS / _room))

from families import FAMILIES  # noqa: E402
from hub_layouts import layout  # noqa: E402
from hub_server import Hub  # noqa: E402
from layouts import ade20k_150, coco  # noqa: E402

from drawings import drawings, write_cache  # noqa: E402
from masqclip.convert.clip import ClipOptions  # noqa: E402
from masqclip.convert.files import convert_file  # noqa: E402
from masqclip.data.stickers.files import write_stickers  # noqa: E402
from masqclip.data.stickers.scenes import SceneSettings, StickerWorld  # noqa: E402
from masqclip.data.stickers.sprites import SpriteSet, load_sprites  # noqa: E402
from masqclip.hub.registry import named_models  # noqa: E402
from tiny import SPRITES, write_tiny_clip, write_tiny_proposer  # noqa: E402

MINI = ROOT / "src/masqclip/models/masqclip-mini"
#: Names that the pages use for a picture of the reader's.
PICTURES = ("beach.png", "a.png", "b.png", "photo.jpg", "street.jpg", "yard.jpg")
#: ... for a model of the reader's,
MODELS = ("MODEL", "DIR", "model")
#: ... and for proposers.
PROPOSERS = ("runs/teacher", "runs/student")


def build(folder: Path, clip_file: Path) -> None:
    """Fill a folder; what lies in it is described in docs/ by its name alone.

    Args:
        folder: an empty one.
        clip_file: the small CLIP that the recorded MasQCLIP was tuned on.
    """
    beach = ROOT / "examples/beach.png"
    (folder / "examples").symlink_to(ROOT / "examples")
    (folder / "benchmarks").symlink_to(ROOT / "benchmarks")
    (folder / "tests").symlink_to(TESTS)
    small = Image.open(beach).convert("RGB").resize((96, 64))
    for name in PICTURES:
        if name.endswith(".jpg"):
            small.save(folder / name)
        else:
            shutil.copyfile(beach, folder / name)
    for name in MODELS:
        (folder / name).symlink_to(MINI)
    (folder / "runs").mkdir()
    write_tiny_clip(folder / "runs/clip")
    for name in PROPOSERS:
        write_tiny_proposer(folder / name)
    shutil.copytree(SPRITES, folder / "sprites")
    first = StickerWorld(load_sprites(SPRITES), SceneSettings(size=64))
    for name, seed in (("scenes", 1), ("heldout", 2)):
        write_stickers(folder / name, first, images=4, seed=seed)
    second = StickerWorld(drawings(), SceneSettings(size=64))
    write_stickers(folder / "unseen", second, images=2, seed=3)
    shutil.copytree(folder / "scenes/images", folder / "photos")
    shutil.copyfile(folder / "scenes/annotations/instances.json", folder / "my_coco.json")
    ade20k_150(folder)
    coco(folder)
    shutil.copyfile(TESTS / "data/masqclip_panoptic.pth", folder / "masqclip_cross_dataset.pth")
    shutil.copyfile(clip_file, folder / "ViT-L-14-336px.pt")


def fill(hub: Hub, clip_file: Path, folder: Path) -> None:
    """The models that the pages fetch, each tiny and in its repository's own layout.

    The CLIP is that of the recorded MasQCLIP, which is compared with it when it is converted.
    """
    folder.mkdir()
    convert_file(clip_file, folder / "clip", options=ClipOptions(text_heads=2))
    files = {path.name: path.read_bytes() for path in (folder / "clip").iterdir()}
    hub.repositories["openai/clip-vit-large-patch14-336"] = files
    for model in named_models():
        if model.name in ("eomt-l-640-coco", "sam2.1-t"):
            hub.repositories[model.repository] = layout(model, FAMILIES)


def build_sprites(out: str | Path, *, world: str = "first", **_: Any) -> SpriteSet:
    """In place of fetching and rendering the drawings: those of the tests."""
    shutil.rmtree(out, ignore_errors=True)
    if world == "second":
        write_cache(Path(out), drawings(studios=("noto", "mdi", "fluent-emoji", "fluent-emoji-flat",
                                                 "openmoji")))  # fmt: skip
    else:
        shutil.copytree(SPRITES, out)
    return load_sprites(Path(out))


def make_room(words: list[str]) -> None:
    """Take away what lies where a command trains or draws: a stand-in, or another run's."""
    if words[0] in ("train", "data") and "--out" in words:
        shutil.rmtree(words[words.index("--out") + 1], ignore_errors=True)


def write_data_block(text: str) -> None:
    """A block of data that begins with ``# NAME`` is that file."""
    name = text.split("\n")[0].removeprefix("# ")
    if text.startswith("# ") and name == Path(name).name and Path(name).suffix:
        Path(name).write_text(text)
