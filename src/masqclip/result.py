"""What comes out: masks with names, to look at, to pick from, and to hand on.

A `Segmentation` holds what was found in one picture, at the picture's own size. It knows its
vocabulary, so a name always follows its mask, whatever was asked in whatever order. It is a
sequence of `Segment`, of which parts are results again; the formats of other tools are in
`masqclip.export`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, TypedDict, overload

import numpy as np
from numpy.typing import NDArray

from masqclip.clip.name_limits import one_line
from masqclip.data.pixels import Channels, check_channels
from masqclip.data.rle import decode_rle
from masqclip.errors import MasqclipError
from masqclip.export.exports import Exports
from masqclip.export.own_json import SegmentationJson
from masqclip.export.polygons import TOLERANCE
from masqclip.segment import Segment
from masqclip.selection import Selection, picked_place, picked_places, single_place

if TYPE_CHECKING:
    from PIL import Image

Task = Literal["instance", "semantic", "panoptic"]

_SHOWN_NAMES = 6  # of a result, where it is shown in a line


class Timing(TypedDict, total=False):
    """Seconds that a result took, by step; what nobody measured is left out.

    A picture's file is read, decoded from its format and turned upright beside the model's work on
    others (``reading``). Pictures that go through the model together share its time (``encoding``).
    Of an `EncodedImage` both are what it once took. ``decoding`` compares masks with names and
    makes the segments, for this result alone.
    """

    reading: float
    encoding: float
    decoding: float


@dataclass(frozen=True, eq=False, repr=False)
class Segmentation(Exports):
    """What was found in one picture: a sequence of segments, of which parts are results again.

        result[0], result[-1]              # a Segment
        result[:3], result[[0, 2]]         # a Segmentation
        result["car"], result[["car", "bus"]]
        result[result.scores > 0.5]

    Attributes:
        image: [H,W,3] uint8 RGB, the picture itself.
        task: ``instance`` (masks may overlap), ``semantic`` or ``panoptic`` (they do not).
        names: the vocabulary that was asked for, in its order. The name of each segment stands in
            `labels`.
        segments: the masks; for ``semantic`` one for each name that is there.
        notes: what was done to the picture to read it ("transparency put on white").
        path: the file that the picture came from; None of an array, bytes and the like.
        timing: seconds by step, see `Timing`.
        kinds: for each name with parents in the vocabulary what it is a kind of, the widest first.
    """

    image: NDArray[np.uint8]
    task: Task
    names: tuple[str, ...]
    segments: tuple[Segment, ...]
    notes: tuple[str, ...] = ()
    path: Path | None = None
    timing: Timing = field(default_factory=Timing)
    kinds: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    # A sequence

    def __len__(self) -> int:
        """Number of segments."""
        return len(self.segments)

    def __iter__(self) -> Iterator[Segment]:
        """The segments, in order."""
        return iter(self.segments)

    def __contains__(self, item: object) -> bool:
        """Whether something of this name was found, or this very segment."""
        if isinstance(item, str):
            return any(segment.name == item for segment in self.segments)
        return any(segment is item for segment in self.segments)

    @overload
    def __getitem__(self, key: int | np.integer) -> Segment: ...

    @overload
    def __getitem__(self, key: Selection) -> Segmentation: ...

    def __getitem__(self, key: object) -> Segment | Segmentation:
        """A segment by its place, or a result with some of them.

        Args:
            key: a place; or a slice, a name, or a list, array, tensor or column of places, of
                names, or of true and false for each segment. The segments keep their ids.

        Raises:
            IndexError: there is no such place.
            MasqclipError: the name is none of the vocabulary, there are not as many truths as
                segments, or it is nothing of these.
        """
        if (place := single_place(key)) is not None:
            return self.segments[picked_place(place, len(self))]
        places = picked_places(key, self.labels, self.names)
        return replace(self, segments=tuple(self.segments[place] for place in places))

    # All segments at once

    @property
    def labels(self) -> tuple[str, ...]:
        """The name of each segment."""
        return tuple(segment.name for segment in self.segments)

    @property
    def masks(self) -> NDArray[np.bool_]:
        """[N,H,W], made anew at each look."""
        masks = np.empty((len(self), *self.size), bool)
        for place, segment in enumerate(self.segments):
            masks[place] = segment.mask
        return masks

    @property
    def boxes(self) -> NDArray[np.int64]:
        """[N,4]: x0, y0, x1, y1 in pixels, ends exclusive; zeros for an empty mask."""
        return np.array([segment.box for segment in self.segments], np.int64).reshape(-1, 4)

    @property
    def scores(self) -> NDArray[np.float64]:
        """[N], 0..1."""
        return np.array([segment.score for segment in self.segments], np.float64)

    @property
    def class_ids(self) -> NDArray[np.int64]:
        """[N]: the place of each segment's name in the vocabulary."""
        return np.array([segment.class_id for segment in self.segments], np.int64)

    @property
    def not_found(self) -> tuple[str, ...]:
        """The names of which there is no segment, in the vocabulary's order."""
        found = set(self.labels)
        return tuple(name for name in self.names if name not in found)

    def polygons(self, *, tolerance: float = TOLERANCE) -> list[list[NDArray[np.float64]]]:
        """The outlines of each segment: see `Segment.polygons`."""
        return [segment.polygons(tolerance=tolerance) for segment in self.segments]

    def summary(self) -> str:
        """What is there, in words: "tiger x2, grass"."""
        return ", ".join(self._counted()) or "nothing found"

    def _counted(self) -> list[str]:
        counts = Counter(segment.label for segment in self.segments)
        return [name if count == 1 else f"{name} x{count}" for name, count in counts.items()]

    def __repr__(self) -> str:
        """One line: the task, the size, how many segments, and what they are."""
        words = self._counted()
        more = ", ..." if len(words) > _SHOWN_NAMES else ""
        found = ", ".join(map(one_line, words[:_SHOWN_NAMES])) + more or "nothing found"
        height, width = self.size
        count = f"{len(self)} segment{'' if len(self) == 1 else 's'}"
        return f"<Segmentation: {self.task}, {width} x {height} pixels, {count}: {found}>"

    # Pictures

    @property
    def told(self) -> tuple[Segment, ...]:
        """The segments by what people are told of them: see `Segment.label`."""
        return tuple(s if s.suggestion is None else s.called(s.label) for s in self.segments)

    def plot(self, *, opacity: float = 0.55, labels: bool = True) -> Image.Image:
        """The picture with its masks and names drawn over it. Small pictures are enlarged."""
        from masqclip.render.overlay import draw_overlay

        return draw_overlay(self.image, self.told, names=self.names, opacity=opacity, labels=labels)

    def show(self, *, opacity: float = 0.55, labels: bool = True) -> None:
        """Show the overlay (`plot`): in a notebook below its cell, else in a window.

        Raises:
            MasqclipError: there is neither.
        """
        from masqclip.render.show import show_picture

        title = "masqclip" if self.path is None else self.path.name
        show_picture(self.plot(opacity=opacity, labels=labels), title=title)

    def _repr_png_(self) -> bytes:
        """The overlay, as a notebook shows a result that ends a cell."""
        from masqclip.data.label_maps import png_bytes

        return png_bytes(self.plot())

    @overload
    def save(
        self,
        path: str | Path,
        *,
        format: str | None = None,
        opacity: float = 0.55,
        labels: bool = True,
    ) -> Path: ...

    @overload
    def save(
        self,
        path: BinaryIO,
        *,
        format: str | None = None,
        opacity: float = 0.55,
        labels: bool = True,
    ) -> None: ...

    def save(
        self,
        path: str | Path | BinaryIO,
        *,
        format: str | None = None,
        opacity: float = 0.55,
        labels: bool = True,
    ) -> Path | None:
        """Write the overlay (`plot`), whole or not at all.

        Args:
            path: of a file, in the format of its suffix: png, jpg, webp, avif, tif, bmp or gif; or
                a file that is open to write bytes.
            format: such as ``jpg``, in place of the suffix; by default that of an open file's name,
                else PNG.
            opacity, labels: as in `plot`.

        Returns:
            The path; None of an open file.

        Raises:
            MasqclipError: there is no such format, or the path is a folder; nothing is drawn then.
        """
        from masqclip.render.picture_files import checked_target, picture_bytes, save_bytes

        suffix, name = checked_target(path, format)
        picture = self.plot(opacity=opacity, labels=labels)
        save_bytes(path, picture_bytes(picture, suffix, told_as=name), name=name)
        return Path(path) if isinstance(path, str | Path) else None

    def crop(self, *, margin: int = 0) -> list[Image.Image]:
        """The part of the picture in each segment's box, RGB; of an empty mask 0 x 0 pixels.

        Args:
            margin: pixels around the box, as far as the picture goes.

        Raises:
            MasqclipError: the margin is no whole number of pixels.
        """
        from masqclip.render.crops import crop

        return [crop(self.image, segment, margin) for segment in self.segments]

    def cut_outs(self, *, margin: int = 0) -> list[Image.Image]:
        """Each segment alone, RGBA: its box, transparent outside of the mask. As in `crop`."""
        from masqclip.render.crops import cut_out

        return [cut_out(self.image, segment, margin) for segment in self.segments]

    @classmethod
    def from_json(
        cls,
        document: SegmentationJson,
        image: NDArray[np.uint8] | None = None,
        *,
        channels: Channels = "rgb",
    ) -> Segmentation:
        """What `to_json` wrote, as it was.

        Args:
            document: the JSON, parsed.
            image: [H,W,3] uint8, the picture, which the JSON does not hold; black unless given.
            channels: the order of its colours: ``rgb``, or ``bgr`` as OpenCV has them.

        Raises:
            MasqclipError: it is no such document, or of a picture of another size.
        """
        reverse = check_channels(channels) == "bgr"
        try:
            shape = (document["height"], document["width"], 3)
            if image is None:
                image = np.broadcast_to(np.uint8(0), shape)
            elif image.shape != shape:
                raise MasqclipError(f"the picture has the shape {image.shape}, this result {shape}")
            segments = tuple(
                Segment(
                    s["id"],
                    s["name"],
                    s["class_id"],
                    s["score"],
                    s["thing"],
                    decode_rle(s["segmentation"]),
                    s.get("suggestion"),
                )
                for s in document["segments"]
            )
            return cls(
                image=image[..., ::-1] if reverse else image,
                task=document["task"],  # type: ignore[arg-type]  # of a file: as it says
                names=tuple(document["vocabulary"]),
                segments=segments,
                notes=tuple(document["notes"]),
                kinds={name: tuple(above) for name, above in document.get("kinds", {}).items()},
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise MasqclipError(
                f"this is nothing that Segmentation.to_json wrote ({error!r:.80})"
            ) from error
