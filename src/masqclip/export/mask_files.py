"""Masks as files of their own, one PNG each: 255 inside, 0 outside."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from masqclip.data.files import short_stem, write_atomically
from masqclip.data.label_maps import png_bytes
from masqclip.export.segment import ExportedSegment

# Not a letter or digit of any script, a blank or a dash: file systems and shells take these.
_ODD = re.compile(r"[^\w \-]+")
_LONGEST_NAME = 100  # bytes
_ROOM = len("-1000000")  # bytes of a number that sets two apart


def mask_file_name(segment: ExportedSegment, stem: str) -> str:
    """What a mask's file is called: ``beach-0003-traffic light.png`` is segment 3.

    Args:
        segment: its number and its name, of which what is no letter or digit becomes ``_``.
        stem: what comes first.
    """
    name = _ODD.sub("_", segment.name).encode()[:_LONGEST_NAME].decode("utf-8", "ignore")
    name = name.strip(" _") or "mask"
    end = f"-{segment.id:04d}-{name}.png"
    return f"{short_stem(stem, len(os.fsencode(end)) + _ROOM)}{end}"


def write_mask_files(segments: Iterable[ExportedSegment], folder: Path, *, stem: str) -> list[Path]:
    """Write a PNG for each mask; returns their paths, in order.

    Args:
        segments: of one picture.
        folder: where they go; it is made if need be.
        stem: what the names begin with.
    """
    paths: list[Path] = []
    taken: set[str] = set()
    for segment in segments:
        name = mask_file_name(segment, stem)
        number = 1
        while name.casefold() in taken:  # the same segment twice
            number += 1
            name = f"{Path(mask_file_name(segment, stem)).stem}-{number}.png"
        taken.add(name.casefold())
        mask = segment.mask.astype(np.uint8) * np.uint8(255)
        write_atomically(folder / name, png_bytes(mask))
        paths.append(folder / name)
    return paths
