"""The world that the poster's systems are trained and measured in, and its scenes.

Pictures of training are scenes by one studio of the first world's things, on all kinds of stuff of
the second. As in the paper there are two settings. *Base and novel*: annotated are 48 things, drawn
by chance, and the first world's stuff, the base names; novel are its 30 novel things, of which no
training of any part here ever had a mask. *Across datasets*: annotated are the 133 names that stand
for COCO panoptic, and what is measured are scenes by strangers, studios that no part, CLIP
included, has ever seen, with four vocabularies. Captions name all that is there.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from masqclip.data.class_lists import read_class_list
from masqclip.data.coco import Keep
from masqclip.data.files import read_bounded
from masqclip.data.open_coco import keep_classes
from masqclip.data.published import load_truth
from masqclip.data.stickers.files import write_stickers
from masqclip.data.stickers.source import StickerSource
from masqclip.data.toml_files import parse_toml
from masqclip.data.truth import GroundTruth
from masqclip.errors import MasqclipError

#: The lists that stand for Pascal Context 59, ADE20K 150, Pascal Context 459 and ADE20K 847.
VOCABULARIES = {
    "59": "stickers2-59",
    "150": "stickers2-150",
    "459": "stickers2-459",
    "644": "stickers2",
}
#: Seeds of scenes; those of the settings' choice are 1000 higher.
_SEEDS = {"scenes": 501, "captioned": 502, "heldout": 503, "trained": 504}
#: What is annotated in either setting.
SETTINGS = ("novel", "across")
_ACROSS = "stickers2-133"
#: What the table ``world`` of the settings has to say.
_SETTINGS = ("base_things", "studios", "strangers", "scenes", "captioned", "heldout",
             "stranger_scenes", "size")  # fmt: skip
_MAX_BYTES = 1_000_000


def read_settings(file: Path) -> dict[str, Any]:
    """A file of settings.

    Raises:
        MasqclipError: there is none, or it is no TOML.
    """
    content = read_bounded(file, max_bytes=_MAX_BYTES, what="--settings")
    return parse_toml(content, source=f"--settings {file}")


@dataclass(frozen=True)
class Names:
    """Which names are annotated, and which are novel."""

    things: tuple[str, ...]
    stuff: tuple[str, ...]
    novel: tuple[str, ...]

    @property
    def base(self) -> tuple[str, ...]:
        """All that is annotated."""
        return (*self.things, *self.stuff)

    def keep(self) -> Keep:
        """Of a dataset's categories the annotated ones."""
        base = set(self.base)
        return lambda category: str(category["name"]) in base


def choose_names(base_things: int) -> Names:
    """The split of the first world's names."""
    classes = read_class_list("stickers").classes
    things = sorted(entry.name for entry in classes if entry.thing and entry.split == "base")
    return Names(
        tuple(sorted(random.Random(0).sample(things, base_things))),
        tuple(entry.name for entry in classes if not entry.thing),
        tuple(sorted(entry.name for entry in classes if entry.split == "novel")),
    )


@dataclass(frozen=True)
class PosterWorld:
    """The scenes of one run, drawn when they are first asked for.

    Attributes:
        folder: where they are.
        sprites: the cache of the second world's drawings.
        settings: the table ``world`` of the settings.
        seed_offset: added to all seeds: 0 for what is reported.
    """

    folder: Path
    sprites: Path
    settings: dict[str, Any]
    seed_offset: int = 0

    @classmethod
    def read(cls, file: Path, folder: Path, sprites: Path, seed_offset: int) -> PosterWorld:
        """By a file of settings.

        Raises:
            MasqclipError: there is none, it is no TOML, or its table ``world`` lacks something.
        """
        world = read_settings(file).get("world", {})
        if missing := [key for key in _SETTINGS if key not in world]:
            raise MasqclipError(f"--settings {file}: its table [world] lacks {', '.join(missing)}")
        return cls(folder, sprites, world, seed_offset)

    @cached_property
    def names(self) -> Names:
        """The split."""
        return choose_names(self.settings["base_things"])

    def keep(self, setting: str) -> Keep:
        """Which categories are annotated in one of `SETTINGS`."""
        return self.names.keep() if setting == "novel" else keep_classes(_ACROSS)

    def draw(self) -> None:
        """Draw all scenes that are not drawn yet."""
        for make in (self.scenes, self.captioned, self.heldout, self.trained):
            make()
        for vocabulary in VOCABULARIES:
            self.strangers(vocabulary)

    def scenes(self) -> Path:
        """What is annotated and captioned: the training of all systems."""
        names = tuple(entry.name for entry in read_class_list("stickers").classes if entry.thing)
        return self._draw("scenes", names, "studios", _SEEDS["scenes"])

    def captioned(self) -> Path:
        """Pictures with captions alone, of all things of the second world."""
        return self._draw("captioned", (), "studios", _SEEDS["captioned"], captions_only=True)

    def heldout(self) -> GroundTruth:
        """Scenes by the studios of training, of base and novel things."""
        names = (*self.names.things, *self.names.novel)
        folder = self._draw("heldout", names, "studios", _SEEDS["heldout"])
        truth = load_truth("stickers", folder)
        splits = {
            **dict.fromkeys(self.names.base, "base"),
            **dict.fromkeys(self.names.novel, "novel"),
        }
        kept = tuple(
            replace(entry, split=splits[entry.name])
            for entry in truth.classes
            if entry.name in splits
        )
        return replace(truth, classes=kept, split="poster")

    def constrained(self, split: str) -> GroundTruth:
        """The held-out scenes in which there is a thing of a split; only its names compete."""
        truth = self.heldout()
        kept = tuple(entry for entry in truth.classes if entry.split == split)
        cut = replace(truth, classes=kept, split=f"poster {split}")
        return replace(cut, pictures=tuple(p for p in cut.pictures if cut.instances_of(p)))

    def trained(self) -> GroundTruth:
        """Scenes by the studios of training, of what is annotated across datasets."""
        classes = read_class_list(_ACROSS).classes
        names = tuple(entry.name for entry in classes if entry.thing)
        folder = self._draw("trained", names, "studios", _SEEDS["trained"], count="heldout")
        return load_truth("stickers", folder).only(_ACROSS)

    def strangers(self, vocabulary: str) -> GroundTruth:
        """Scenes by studios that nothing was trained on, of one of `VOCABULARIES`."""
        listed = VOCABULARIES[vocabulary]
        names = tuple(entry.name for entry in read_class_list(listed).classes if entry.thing)
        seed = 510 + list(VOCABULARIES).index(vocabulary)
        name = f"strangers-{vocabulary}"
        folder = self._draw(name, names, "strangers", seed, count="stranger_scenes")
        truth = load_truth("stickers", folder)
        return truth if listed == "stickers2" else truth.only(listed)

    def _draw(
        self,
        name: str,
        names: tuple[str, ...],
        studios: str,
        seed: int,
        *,
        captions_only: bool = False,
        count: str = "",
    ) -> Path:
        folder = self.folder / name
        last = "captions" if captions_only else "panoptic"  # of what is written
        if (folder / f"annotations/{last}.json").exists():
            return folder
        source = StickerSource(
            sprites=self.sprites,
            size=self.settings["size"],
            names=names,
            studios=tuple(self.settings[studios]),
            seed=seed + self.seed_offset,
        )
        write_stickers(
            folder,
            source.world(),
            images=self.settings[count or name],
            seed=source.seed,
            captions_only=captions_only,
        )
        return folder
