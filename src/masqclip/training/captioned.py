"""Where pictures with captions come from: a COCO captions folder, or scenes drawn as needed.

Both give the batch of a step as a pure function of (seed, step): a folder in epochs, each in an
order of its own; drawn scenes one after the other and none twice, numbered step x batch + place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from masqclip.data.coco import CocoCaptions
from masqclip.data.digests import combine_digests
from masqclip.data.stickers.plans import Plans
from masqclip.data.stickers.source import (
    StickerSource,
    is_sticker_address,
    parse_sticker_address,
)
from masqclip.errors import MasqclipError
from masqclip.training.sampling import step_indices

#: Scenes whose sentences the tokenizer is learned from.
_SAMPLED_SENTENCES = 4000


@dataclass(frozen=True)
class Captioned:
    """Pictures of a step, and what is written under all of the step's.

    Attributes:
        pictures: [n,3,h,w] uint8, those of the places that were asked for; or the plan of them, to
            be painted where the model trains.
        captions: for every place of the whole batch.
        unread: of the pictures that cannot be read, which are gray: their place among those asked
            for, and why.
    """

    pictures: Tensor | Plans
    captions: list[tuple[str, ...]]
    unread: dict[int, str]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of pictures that are there."""
        assert isinstance(self.pictures, Tensor)
        return self.pictures.shape[-2], self.pictures.shape[-1]


class CaptionedPictures(Protocol):
    """Pictures of one size with captions.

    Attributes:
        weight: how often they are taken, beside others of the same run.
        first, last: the share of a run at which they come in and go out.
        count: how many pictures there are; 0 where they are drawn without end.
        notes: what was left out of the annotations or read in another way.
        size: height and width in pixels; None where they are read with the pictures.
    """

    @property
    def weight(self) -> float: ...

    @property
    def first(self) -> float: ...

    @property
    def last(self) -> float: ...

    @property
    def count(self) -> int: ...

    @property
    def notes(self) -> tuple[str, ...]: ...

    @property
    def size(self) -> tuple[int, int] | None: ...

    def take(self, step: int, places: Sequence[int], batch_size: int, seed: int) -> Captioned:
        """The pictures at some places of a step's batch, and the captions of all of it."""

    def some_captions(self, count: int, chance: np.random.Generator) -> list[str]:
        """Captions of other pictures."""

    def all_captions(self) -> list[str]:
        """Captions to learn words from, repeated as often as they occur."""

    def fingerprint(self) -> str:
        """What pictures these are, in a word."""

    def place(self, device: torch.device) -> None:
        """Say where the model trains; drawn pictures are painted there if it is a GPU."""

    def paint(self, plans: Plans) -> Tensor:
        """[n,3,h,w] uint8 of a plan that `take` handed out."""


def open_captioned(data: str | Path) -> CaptionedPictures:
    """A folder of captioned pictures, or ``stickers:...``.

    Raises:
        MasqclipError: it is empty or cannot be read.
    """
    if is_sticker_address(data):
        return DrawnCaptions(parse_sticker_address(data))
    return FolderCaptions(data)


class FolderCaptions:
    """The pictures of a COCO captions folder."""

    first, last, size = 0.0, 1.0, None

    def __init__(self, folder: str | Path) -> None:
        self.dataset = CocoCaptions(folder)
        if len(self.dataset) == 0:
            raise MasqclipError(
                f"pretraining needs folders with captioned pictures; {folder} is empty"
            )
        self.count = len(self.dataset)
        self.weight = float(self.count)
        self.notes = self.dataset.notes

    def take(self, step: int, places: Sequence[int], batch_size: int, seed: int) -> Captioned:
        """The pictures at some places of a step's batch, and the captions of all of it."""
        rows = step_indices(self.count, batch_size, seed, step)
        captions = [self.dataset.captions(row) for row in rows]
        images, unread = [], {}
        for i, place in enumerate(places):
            try:
                images.append(self.dataset[rows[place]].image)
            except MasqclipError as error:
                unread[i] = str(error)
        if not images:
            raise MasqclipError(f"not one picture of a batch can be read; {unread[0]}")
        gray = np.full_like(images[0], 127)
        found = iter(images)
        pixels = np.stack([gray if i in unread else next(found) for i in range(len(places))])
        return Captioned(torch.from_numpy(pixels).permute(0, 3, 1, 2), captions, unread)

    def some_captions(self, count: int, chance: np.random.Generator) -> list[str]:
        """Captions of other pictures."""
        rows = chance.choice(self.count, min(count, self.count))
        return [text for row in rows for text in self.dataset.captions(row)]

    def all_captions(self) -> list[str]:
        """Every caption of every picture."""
        return self.dataset.all_captions()

    def fingerprint(self) -> str:
        """By the content of all files."""
        return self.dataset.fingerprint()

    def place(self, device: torch.device) -> None:
        """Files are read by the workers, wherever the model trains."""

    def paint(self, plans: Plans) -> Tensor:
        """Never called: nothing here is planned."""
        raise MasqclipError("a folder's pictures are read, not painted")


class DrawnCaptions:
    """Scenes of the miniature world, drawn as they are needed."""

    count, notes = 0, ()

    def __init__(self, source: StickerSource) -> None:
        if source.pictures:
            raise MasqclipError(
                f"{source.address}: captioned scenes have no end; leave out pictures"
            )
        self._source = source
        self._world = source.world()
        self.weight, self.first, self.last = source.weight, source.first, source.last
        side = self._world.settings.size
        self.size = (side, side)
        self._names = [*sorted(set(self._world.sprites.names)), *self._world.stuff]

    def take(self, step: int, places: Sequence[int], batch_size: int, seed: int) -> Captioned:
        """The scenes at some places of a step's batch, and the captions of all of it."""
        world, seed = self._world, self._source.seed  # the run's own is for weights and windows
        numbers = range(step * batch_size, (step + 1) * batch_size)
        plans = world.plan(seed, numbers)
        captions = [
            world.meant_captions(seed, number, plan)
            for number, plan in zip(numbers, plans.scenes, strict=True)
        ]
        wanted = plans.part(places)
        if world.device.type != "cpu":
            return Captioned(wanted, captions, {})
        return Captioned(world.paint(wanted)[0], captions, {})

    def some_captions(self, count: int, chance: np.random.Generator) -> list[str]:
        """Names of the world."""
        return [self._names[i] for i in chance.choice(len(self._names), count)]

    def all_captions(self) -> list[str]:
        """All names, and what is written under some thousand scenes."""
        world, numbers = self._world, range(_SAMPLED_SENTENCES)
        sentences = [
            text
            for number, plan in zip(numbers, world.plan(-1, numbers).scenes, strict=True)
            for text in world.meant_captions(-1, number, plan)
        ]
        return [*self._names, *sentences]

    def fingerprint(self) -> str:
        """By the settings, and the drawings themselves, wherever they lie."""
        source = self._source
        about = (source.kind, self._world.settings, source.styles, source.seed, source.weight)
        phase = (source.first, source.last, *source.looks)
        return combine_digests([repr(about), repr(phase), self._world.sprites.digest()])

    def place(self, device: torch.device) -> None:
        """Paint there, if it is a GPU."""
        if device.type != "cpu":
            self._world = self._source.world(device)

    def paint(self, plans: Plans) -> Tensor:
        """[n,3,h,w] uint8 of a plan that `take` handed out."""
        return self._world.paint(plans)[0]
