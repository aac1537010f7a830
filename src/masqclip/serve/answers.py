"""A result as the client wants it: JSON, the overlay, or a map as PNG, by its Accept header."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from masqclip.data.label_maps import ids_to_rgb, png_bytes
from masqclip.render.overlay import segment_colours
from masqclip.result import Segmentation
from masqclip.serve.problems import Problem

#: A media type, and what makes an answer of a result.
Form = tuple[str, Callable[[Segmentation], bytes]]

JSON, PNG = "application/json", "image/png"

PNG_HELP = (
    "On `Accept: image/png` the picture with its masks drawn over it; on "
    "`Accept: image/png; profile=\"panoptic\"` the segments' ids as COCO's panoptic PNG."
)


def wanted(accept: str, task: str) -> Form:
    """The media type of the answer, and how it is made of a result.

    The first of the header's types that is known is taken; without any, JSON.

    Raises:
        Problem: 406, nothing of what is accepted is made here, or not of this task.
    """
    for entry in accept.split(",") if accept.strip() else ["*/*"]:
        kind, *parameters = (part.strip().lower() for part in entry.split(";"))
        if kind in (JSON, "application/*", "*/*"):
            return JSON, to_json_bytes
        if kind in (PNG, "image/*"):
            profile = _parameter(parameters, "profile")
            if profile is None:
                return PNG, _overlay
            if profile == "panoptic" and task != "instance":
                return PNG, _ids
            if profile == "panoptic":
                raise Problem(406, "instances may overlap and are no map: ask for task panoptic")
    raise Problem(406, 'accepted are application/json, image/png and image/png;profile="panoptic"')


def _parameter(parameters: list[str], name: str) -> str | None:
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == name:
            return value.strip().strip('"')
    return None


def to_document(result: Segmentation) -> dict[str, Any]:
    """`Segmentation.to_json`, with the colour that the overlay gives each segment."""
    document = result.to_json()
    colours = segment_colours(result.told, result.names)
    segments = [
        {**segment, "colour": f"#{bytes(colour).hex()}"}
        for segment, colour in zip(document["segments"], colours, strict=True)
    ]
    return {**document, "segments": segments}


def to_json_bytes(result: Segmentation) -> bytes:
    """`to_document` as it is sent."""
    return json.dumps(to_document(result), separators=(",", ":")).encode()


def _overlay(result: Segmentation) -> bytes:
    return png_bytes(result.plot())


def _ids(result: Segmentation) -> bytes:
    # A semantic result is a map of segments as well: one for each name that is there.
    labels = np.zeros(result.image.shape[:2], np.int32)
    for segment in result.segments:
        labels[segment.mask] = segment.id
    return png_bytes(ids_to_rgb(labels))
