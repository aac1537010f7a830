"""How pictures are resized and normalised for a proposer, from the files beside its weights.

What a file says is followed, or refused by its name. Two things are deliberately ours: pictures
keep their aspect and are padded (transformers stretches them to multiples of 32, which the models
were not trained with), and sides are rounded as detectron2 rounds them, where transformers cuts.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

from masqclip.configuration import LARGEST_SIZE
from masqclip.errors import MasqclipError
from masqclip.proposals.seen import SQUARE_TYPES, square_side
from masqclip.weights.preprocessing import (
    Channels,
    flag,
    normalisation,
    read_object,
    read_preprocessing,
)

_BILINEAR = 2  # of Pillow's filters
_DIVISOR = 32  # what every backbone needs at least
# What image processors take where a file is silent.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_SHORTEST, _LONGEST = 800, 1333
# Whose image processors have no bound on the longer side; ours is what a machine takes.
_UNBOUNDED = ("oneformer", *SQUARE_TYPES)
# SAM 3 was trained with another normalisation than all others.
_HALVES: tuple[Channels, Channels] = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
# Ways of cutting or turning pictures that no proposer here was trained with.
_REFUSED = {
    "do_split_image": "cuts pictures into windows",
    "do_center_crop": "cuts pictures' edges off",
    "do_flip_channel_order": "turns RGB into BGR",
    "do_align_long_axis": "turns pictures",
    "do_thumbnail": "resizes pictures in another way",
}
_REMEDY = "give the size yourself (--size SHORTEST:LONGEST)"


class PictureSettings(TypedDict, total=False):
    """Settings of `MasQClipConfig`; what is left out stays as published for Mask2Former."""

    shortest_edge: int
    longest_edge: int
    size_divisor: int
    pixel_mean: Channels
    pixel_std: Channels


def picture_settings(folder: Path, *, published: tuple[int, int] | None = None) -> PictureSettings:
    """How pictures are resized and normalised for the proposer in a folder.

    Args:
        folder: with ``preprocessor_config.json`` or ``processor_config.json``, or neither.
        published: (shortest, longest) edge in pixels that is known to be right, whatever the file
            says: published Mask2Formers say 384 x 384, which is a placeholder.

    Raises:
        MasqclipError: a file is damaged, or asks for what is not done here; the message names it.
    """
    told, source = read_preprocessing(folder)
    config = read_object(folder, "config.json")
    _check(told, config, source)
    settings = PictureSettings()
    if edges := published or _edges(told, config, source):
        settings["shortest_edge"], settings["longest_edge"] = edges
    if divisor := _divisor(told, source):
        settings["size_divisor"] = divisor
    halves = str(config.get("model_type")).startswith("sam3")
    if told or halves:
        mean, std = _HALVES if halves else (_MEAN, _STD)
        found = normalisation(told, mean=mean, std=std, source=source)
        settings["pixel_mean"], settings["pixel_std"] = (_times_255(values) for values in found)
    return settings


def _check(told: Mapping[str, Any], config: Mapping[str, Any], source: str) -> None:
    """Refuse what the settings of a model cannot express."""
    for name, what in _REFUSED.items():
        if flag(told, name, False, source=source):
            raise MasqclipError(
                f"{source} says {name}, which {what}: that is not done here; use a proposer of "
                "panoptic or instance segmentation"
            )
    resample = told.get("resample")
    if resample not in (None, _BILINEAR):
        raise MasqclipError(
            f"{source} says resample = {str(resample)[:40]}: pictures are resized bilinearly here "
            f"({_BILINEAR}); if that will do, write so into the file"
        )
    padded = told.get("pad_size")
    side = square_side(str(config.get("model_type")), config)
    if padded is not None and padded != {"height": side, "width": side}:
        raise MasqclipError(
            f"{source} says pad_size = {str(padded)[:60]}: pictures are padded here only as far "
            "as the model needs; delete that line, if that will do"
        )


def _edges(
    told: Mapping[str, Any], config: Mapping[str, Any], source: str
) -> tuple[int, int] | None:
    """(shortest, longest) edge that a picture is resized by; None where nothing is told."""
    kind = str(config.get("model_type"))
    if not flag(told, "do_resize", True, source=source):
        raise MasqclipError(
            f"{source} says do_resize = false, and here pictures are always resized: {_REMEDY}"
        )
    size, most = told.get("size"), _most(told, kind, source)
    if size is None:
        if side := square_side(kind, config):
            return side, side
        return None if told.get("max_size") is None else (_SHORTEST, most)
    if type(size) is int:
        size = {"longest_edge": size} if kind.startswith("sam") else {"shortest_edge": size}
    elif isinstance(size, list) and len(size) == 2:
        size = {"height": size[0], "width": size[1]}
    if not isinstance(size, dict):
        raise MasqclipError(f"{source} says size = {str(size)[:60]!r}, which is none: {_REMEDY}")
    given = {name: _pixels(value, source) for name, value in size.items() if value is not None}
    match sorted(given):
        case ["longest_edge", "shortest_edge"]:
            return given["shortest_edge"], given["longest_edge"]
        case ["shortest_edge"]:
            return given["shortest_edge"], most
        case ["longest_edge"]:
            return given["longest_edge"], given["longest_edge"]
        case ["height", "width"]:
            # A square that pictures were stretched to: they keep their aspect here, and what is
            # inside the square of the larger side is never smaller than what was meant.
            side = max(given.values())
            return side, side
        case ["max_height", "max_width"] if given["max_height"] == given["max_width"]:
            return given["max_height"], given["max_height"]
    raise MasqclipError(
        f"{source} says size = {str(size)[:80]}, which is not done here (shortest_edge and "
        f"longest_edge, or height and width are): {_REMEDY}"
    )


def _most(told: Mapping[str, Any], kind: str, source: str) -> int:
    """The longest side where a file gives the shorter side alone."""
    for name in ("max_size", "_max_size"):  # of earlier versions
        if told.get(name) is not None:
            return _pixels(told[name], source)
    return LARGEST_SIZE if kind in _UNBOUNDED else _LONGEST


def _divisor(told: Mapping[str, Any], source: str) -> int | None:
    """What the frame's sides are multiples of; None = as published."""
    name = "size_divisor" if "size_divisor" in told else "size_divisibility"  # of earlier versions
    value = told.get(name)
    if value is None or (type(value) is int and (value == 0 or (value > 0 and not 32 % value))):
        return None  # padding to a multiple of 32 is one of these, too
    if type(value) is not int or value < 0 or value % _DIVISOR:
        raise MasqclipError(
            f"{source} says {name} = {str(value)[:40]}: it is a multiple of {_DIVISOR}"
        )
    return value


def _pixels(value: object, source: str) -> int:
    if type(value) is int and 1 <= value <= LARGEST_SIZE:
        return value
    raise MasqclipError(
        f"{source} says a size of {str(value)[:40]}: it is a whole number of pixels from 1 to "
        f"{LARGEST_SIZE}"
    )


def _times_255(values: Channels) -> Channels:
    first, second, third = values
    return 255 * first, 255 * second, 255 * third
