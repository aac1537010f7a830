"""How a published proposer's pictures are prepared, from the file that says it.

transformers writes an image processor's settings as ``preprocessor_config.json``, or within
``processor_config.json``. What the frames here can do (a picture is resized with its aspect kept,
normalised, and padded at the bottom right) is taken over in our own terms; what they cannot do is
refused by its name. Nothing that changes the picture is passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from masqclip.errors import MasqclipError
from masqclip.weights.processors import normalisation, processor_document

_BILINEAR = 2
# transformers' own longest edge where a file names the shortest alone.
_LONGEST = 1333


def picture_settings(
    folder: Path,
    *,
    published: tuple[int, int] | None = None,
    sized: bool = False,
) -> dict[str, Any]:
    """How pictures are resized and normalised for a proposer, as `MasQClipConfig` says it.

    What the folder's files leave open, or all where there are none, is left out, and so stays as
    published for Mask2Former.

    Args:
        folder: of the proposer.
        published: (shortest, longest) edge at which its figures were published, if they are known:
            they go before what the files say.
        sized: whether another size is asked for than either, so that a file may do without one.

    Raises:
        MasqclipError: the files ask for what is not done here; the line names it.
    """
    told = processor_document(folder)
    source = f"the image processor of {str(folder)!r}"
    _refuse_others(told, source)
    settings: dict[str, Any] = {**normalisation(told, source=source)}
    edges = published
    if edges is None:
        if told.get("do_resize") is False and not sized:
            raise MasqclipError(
                f"{source} says do_resize = false, and pictures of any size are not taken here: "
                "say at which size (--size SHORTEST:LONGEST)"
            )
        edges = _edges(told, source)
    if edges is not None:
        settings["shortest_edge"], settings["longest_edge"] = edges
    return settings


def _edges(told: Mapping[str, Any], source: str) -> tuple[int, int] | None:
    """(shortest, longest) edge to which the files say that pictures are resized."""
    size = told.get("size")
    longest = told.get("max_size", told.get("_max_size"))
    if size is None:
        return None
    if isinstance(size, int) and not isinstance(size, bool):  # older files
        size = {"shortest_edge": size, "longest_edge": longest}
    if not isinstance(size, dict):
        raise MasqclipError(f"{source} has size = {str(size)[:60]}: a number, or edges by name")
    named = {key: value for key, value in size.items() if value is not None}
    for key, value in named.items():
        if not isinstance(value, int) or isinstance(value, bool):
            raise MasqclipError(f"{source} has size.{key} = {str(value)[:40]}: a whole number")
    keys = {*named}
    if keys == {"shortest_edge", "longest_edge"}:
        return named["shortest_edge"], max(named["shortest_edge"], named["longest_edge"])
    if keys == {"shortest_edge"}:
        shortest = named["shortest_edge"]
        if isinstance(longest, int):
            return shortest, max(shortest, longest)
        return shortest, shortest if _is_square(told) else max(shortest, _LONGEST)
    if keys == {"longest_edge"}:
        return named["longest_edge"], named["longest_edge"]
    # Where a picture would be stretched to a fixed size, it is fitted into the square about that.
    for pair in ({"height", "width"}, {"max_height", "max_width"}):
        if keys == pair:
            side = max(named.values())
            return side, side
    raise MasqclipError(
        f"{source} has a size by {', '.join(sorted(keys)) or 'nothing'}: known are shortest_edge "
        "and longest_edge, height and width, max_height and max_width (or say --size)"
    )


def _is_square(told: Mapping[str, Any]) -> bool:
    """Whether a processor's pictures become squares: EoMT's, SAM's."""
    return str(told.get("image_processor_type")).startswith(("Eomt", "Sam"))


def _refuse_others(told: Mapping[str, Any], source: str) -> None:
    """What changes a picture and is not done here."""
    if told.get("do_split_image"):
        raise MasqclipError(
            f"{source} says do_split_image = true, for models of semantic segmentation that see a "
            "picture in pieces: take a panoptic or an instance one"
        )
    if told.get("do_center_crop"):
        raise MasqclipError(f"{source} says do_center_crop = true: a proposer sees whole pictures")
    resample = told.get("resample")
    if resample not in (None, _BILINEAR):
        raise MasqclipError(
            f"{source} says resample = {str(resample)[:20]}: pictures are resized bilinearly here "
            f"({_BILINEAR}); change the file if that will do"
        )
    if told.get("pad_size") is not None and not _is_square(told):
        raise MasqclipError(
            f"{source} says pad_size = {str(told['pad_size'])[:60]}: frames are padded to a "
            "multiple of 32 here; take it out of the file if that will do"
        )
