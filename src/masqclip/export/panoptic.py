"""Class maps as PNG bytes."""

from __future__ import annotations

import numpy as np

from masqclip.data.label_maps import png_bytes
from masqclip.errors import MasqclipError

#: What unlabelled pixels are in a semantic PNG.
IGNORE_LABEL = 255


def semantic_png(class_map: np.ndarray, num_classes: int) -> bytes:
    """A class map [H,W] (-1 = unlabelled) as a greyscale PNG, 255 = unlabelled.

    With more than 255 classes it is a 16-bit PNG, 65535 = unlabelled.

    Raises:
        MasqclipError: more classes than 16 bits can tell apart.
    """
    if num_classes <= IGNORE_LABEL:
        return png_bytes(np.where(class_map < 0, IGNORE_LABEL, class_map).astype(np.uint8))
    if num_classes > 65535:
        raise MasqclipError(f"{num_classes} classes do not fit a 16-bit PNG; save the JSON instead")
    return png_bytes(np.where(class_map < 0, 65535, class_map).astype(np.uint16))
