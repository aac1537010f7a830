"""Annotation files in COCO's formats: JSON that may be large, and that anybody wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from masqclip.data.files import read_bounded
from masqclip.data.json_files import parse_json
from masqclip.errors import MasqclipError

#: The largest annotation file that is read; COCO's own are a tenth of it.
MAX_ANNOTATION_BYTES = 4_000_000_000


def read_coco_json(path: Path) -> dict[str, Any]:
    """The content of a COCO annotation file.

    Raises:
        MasqclipError: it is missing, no JSON, or lacks ``images`` or ``annotations``; or what they
            hold are no objects.
    """
    if not path.exists():
        raise MasqclipError(f"cannot read the annotations {path}: no such file; check the path")
    text = read_bounded(path, max_bytes=MAX_ANNOTATION_BYTES, what="the annotations")
    # Whether a key stands twice is not looked at: it would cost half the time again.
    content = parse_json(text, source=f"the annotations {str(path)!r}", unique=False)
    if not isinstance(content, dict) or not {"images", "annotations"} <= content.keys():
        raise MasqclipError(f"{path} is not a COCO file: it needs 'images' and 'annotations'")
    for key in ("images", "annotations", "categories"):
        entries = content.get(key, [])
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise MasqclipError(f"{path} is not a COCO file: {key!r} must be a list of objects")
    return content
