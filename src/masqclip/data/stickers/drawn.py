"""Scenes with masks that are drawn as they are needed, for every stage that trains on masks.

A `DrawnScenes` is used as a COCO folder of the same scenes would be: `masqclip data stickers` and
this give the same pictures and masks for the same seed. It has no end unless it is given a number
of pictures, and no files: what is measured on is written to a folder first.
"""

from __future__ import annotations

from copy import copy
from pathlib import Path
from typing import Any, Self

import numpy as np

from masqclip.data.coco import Categories, Keep, Sample
from masqclip.data.digests import combine_digests
from masqclip.data.json_files import read_json
from masqclip.data.stickers.files import sticker_categories
from masqclip.data.stickers.source import StickerSource
from masqclip.errors import MasqclipError

#: Stands for the number of pictures where there is no end of them.
_ENDLESS = 10**12


class DrawnScenes:
    """Scenes of the miniature world, with masks of the kept categories.

    Args:
        source: which scenes.
        keep: which categories are annotated, by their JSON entry; all by default.

    Raises:
        MasqclipError: there is no sprite cache, none of its things or stuff is kept, or the source
            has settings of captions, or such as several sources of one run have.
    """

    notes: tuple[str, ...] = ()

    def __init__(self, source: StickerSource, *, keep: Keep | None = None) -> None:
        if (source.weight, source.first, source.last) != (1, 0, 1):
            raise MasqclipError(
                f"{source.address}: weight, first and last are of pretraining, which may have "
                "several sources; masks are of one"
            )
        if source.name_stuff is not None:
            raise MasqclipError(
                f"{source.address}: name_stuff is of captions; what has masks is not captioned: "
                "leave it out"
            )
        self.source = source
        self._world = source.world()
        self.folder = Path(source.address)  # what messages call it
        there = {*self._world.sprites.names, *self._world.stuff}
        known = [c for c in sticker_categories(self._world.sprites.world) if c["name"] in there]
        self.categories = Categories(
            known, ({"category_id": category["id"], "iscrowd": 0} for category in known)
        )
        self._ids = {category["name"]: category["id"] for category in known}
        self.categories.keep(keep)
        if not self.categories.kept:
            raise MasqclipError(f"{self.folder}: none of its things and stuff is kept")

    @property
    def endless(self) -> bool:
        """Whether there are always more."""
        return self.source.pictures == 0

    def __len__(self) -> int:
        return self.source.pictures or _ENDLESS

    def __getitem__(self, index: int) -> Sample:
        """Draw a scene."""
        scenes = self._world.draw(self.source.seed, [index])
        ids = scenes.id_maps[0].numpy()
        shown = [r for r in scenes.regions[0] if self._ids[r.name] in self.categories.kept]
        numbers = np.array([region.id for region in shown], np.uint8)
        return Sample(
            image=scenes.images[0].permute(1, 2, 0).numpy(),
            masks=ids[None] == numbers[:, None, None],
            category_ids=np.array([self._ids[region.name] for region in shown], np.int64),
            is_thing=np.array([region.thing for region in shown], bool),
            image_id=index,
        )

    def fingerprint(self) -> str:
        """By the settings and the drawings themselves, wherever they lie."""
        world, kept = self._world, sorted(self.categories.kept)
        about = (world.settings, world.styles, self.source.seed, self.source.pictures, kept)
        looks = self.source.looks
        return combine_digests([repr(about), *looks, world.sprites.digest()])

    def annotated(self) -> Self:
        """All of them: what a scene shows is known when it is drawn."""
        return self

    def keeping(self, keep: Keep | None) -> Self:
        """The same scenes with another choice of categories."""
        other = copy(self)
        other.categories = copy(self.categories)
        other.categories.keep(keep)
        return other

    def entry(self, index: int) -> dict[str, Any]:
        """``id``, ``height`` and ``width`` of a scene, and what its file would be called."""
        side = self._world.settings.size
        return {"id": index, "file_name": f"{index:06d}.png", "height": side, "width": side}

    def check_apart(self, held_out: Path) -> None:
        """See that what a run is judged by is not what it trains on.

        Raises:
            MasqclipError: the folder holds scenes of the same seed.
        """
        # A file of annotations lies in such a folder, or in its folder of them.
        homes = [held_out] if held_out.is_dir() else [*held_out.resolve().parents][:2]
        for about in (home / "scenes.json" for home in homes):
            known = read_json(about, what="the description of scenes") if about.is_file() else {}
            if isinstance(known, dict) and known.get("seed") == self.source.seed:
                raise MasqclipError(
                    f"{held_out} and {self.folder} are scenes of the same seed, "
                    f"{self.source.seed}: what is trained on cannot be tested on; give another seed"
                )

    def check_finite(self, purpose: str) -> None:
        """Refuse what needs all pictures of a source that has no end.

        Raises:
            MasqclipError: it has none.
        """
        if self.endless:
            raise MasqclipError(f"{self.folder} has no end, and {purpose}: add pictures=N to it")
