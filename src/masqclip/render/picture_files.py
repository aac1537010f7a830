"""Pictures out: which format a name asks for, and the bytes of a file of it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import BinaryIO

from PIL import Image, features

from masqclip.data.files import write_atomically
from masqclip.errors import MasqclipError

# By suffix: Pillow's name of the format, and how it is saved: labels are small letters on colours,
# which the usual settings of JPEG blur.
_JPEG: tuple[str, dict[str, int]] = ("JPEG", {"quality": 95, "subsampling": 0})
_FORMATS: dict[str, tuple[str, dict[str, int]]] = {
    ".png": ("PNG", {}),
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".webp": ("WEBP", {"quality": 95}),
    ".avif": ("AVIF", {"quality": 90}),
    ".tif": ("TIFF", {}),
    ".tiff": ("TIFF", {}),
    ".bmp": ("BMP", {}),
    ".gif": ("GIF", {}),
}
_KNOWN = ", ".join(_FORMATS)


def picture_format(name: str, *, told_as: str) -> str:
    """The suffix of a format that pictures are saved in.

    Args:
        name: a file's name, a suffix, or a suffix without its dot.
        told_as: what it is called in the error.

    Raises:
        MasqclipError: it is none, or this machine's Pillow does not write it.
    """
    name = str(name)  # what is no text names no format
    suffix = (Path(name).suffix or f".{name.lstrip('.')}").lower()
    if suffix not in _FORMATS:
        raise MasqclipError(f"{told_as}: no format that pictures are saved in: {_KNOWN}")
    if suffix == ".avif" and not features.check("avif"):
        raise MasqclipError(f"{told_as}: Pillow here writes no AVIF: save it as .webp or .png")
    return suffix


def picture_bytes(picture: Image.Image, suffix: str, *, told_as: str) -> bytes:
    """A picture as a file.

    Args:
        picture: RGB.
        suffix: of `picture_format`.
        told_as: what the file is called in the error.

    Raises:
        MasqclipError: it is too large for the format.
    """
    name, options = _FORMATS[suffix]
    buffer = io.BytesIO()
    try:
        picture.save(buffer, name, **options)
    except (OSError, ValueError) as error:
        raise MasqclipError(
            f"{told_as}: {picture.width} x {picture.height} pixels cannot be saved as {name} "
            f"({error}): save them as .png"
        ) from error
    return buffer.getvalue()


def checked_target(target: str | Path | BinaryIO, format: str | None) -> tuple[str, str]:
    """What a picture is to be saved as, told before it is drawn; and what that is called in errors.

    Args:
        target: a path, or a file that is open to write bytes.
        format: such as ``jpg``; None = by the name of the path or file, PNG where it has none.

    Returns:
        (suffix, name).

    Raises:
        MasqclipError: there is no such format, the path is a folder, or the target is neither.
    """
    if isinstance(target, str | Path):
        if Path(target).is_dir():
            raise MasqclipError(f"{target}: a folder; give the path of a file, such as a.png")
        if format is None and not Path(target).suffix:
            raise MasqclipError(f"{target}: its name says no format; end it in one of {_KNOWN}")
        return picture_format(format or str(target), told_as=str(target)), str(target)
    if not callable(getattr(target, "write", None)):
        raise MasqclipError(f"{target!r:.80} is no path and no open file: give one to save to")
    known = getattr(target, "name", None)  # of a file without one, or a descriptor's number
    name = known if isinstance(known, str) else "the open file"
    suffix = Path(name).suffix if isinstance(known, str) else ""
    return picture_format(format or suffix or "png", told_as=name), name


def save_bytes(target: str | Path | BinaryIO, content: bytes, *, name: str) -> None:
    """Write to a path, whole or not at all, or to an open file.

    Raises:
        MasqclipError: the file is open for text or to be read, or is closed.
    """
    if isinstance(target, str | Path):
        write_atomically(target, content)
        return
    try:
        target.write(content)
    except TypeError as error:
        raise MasqclipError(f"{name}: it is open for text: open it with mode 'wb'") from error
    except ValueError as error:  # io.UnsupportedOperation is one
        raise MasqclipError(f"{name}: it is not open to write: open it with mode 'wb'") from error
