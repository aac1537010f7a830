"""The authors' checkpoint, which lies in a folder of a drive and is converted here.

The drive's pages are nobody's interface: gdown knows how to read them, and where it fails, or is
not installed, a person with a browser does as well.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from masqclip.data.files import shared
from masqclip.errors import MasqclipError, require
from masqclip.hub.download import Tell, check_room, shown_size
from masqclip.hub.registry import Preset


def fetch_checkpoint(preset: Preset, folder: Path, *, tell: Tell) -> Path:
    """Fetch a preset's checkpoint from its drive.

    Args:
        preset: with a `drive`.
        folder: for what is fetched; a checkpoint that lies there already is taken.
        tell: hears of it.

    Returns:
        The checkpoint.

    Raises:
        MasqclipError: gdown is not installed, or the drive does not give it; the line says how to
            fetch it by hand.
    """
    checkpoint = folder / str(preset.checkpoint)
    if checkpoint.is_file():
        return checkpoint
    by_hand = (
        f"open {preset.drive} in a browser, fetch the cross-dataset checkpoint, and run "
        f"'masqclip convert FILE DIR', then --model DIR"
    )
    try:
        gdown: Any = require("gdown", extra="drive", purpose=f"masqclip download {preset.name}")
    except MasqclipError as error:
        raise MasqclipError(f"{error}; or {by_hand}") from error
    size = preset.drive_megabytes * 10**6
    check_room(size, folder, name=preset.name)
    tell(f"fetching {preset.name}: about {shown_size(size)} to {folder}")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        listed = gdown.download_folder(
            url=preset.drive, output=str(folder), quiet=True, skip_download=True
        )
        paths = [str(file.path) for file in listed or ()]
        found = [file for file in listed or () if "cross" in file.path.lower()]
        if len(found) != 1:
            raise MasqclipError(f"{len(found)} of its files say 'cross': {', '.join(paths)[:200]}")
        with shared(folder):
            got = gdown.download(id=found[0].id, output=str(checkpoint), resume=True)
    except MasqclipError as error:
        raise MasqclipError(f"which file it is cannot be told ({error}): {by_hand}") from error
    except Exception as error:  # whatever a web page, or a network, can do
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise MasqclipError(f"the drive does not give it ({reason}): {by_hand}") from error
    if not got or not checkpoint.is_file():
        raise MasqclipError(f"the drive does not give it: {by_hand}")
    return checkpoint
