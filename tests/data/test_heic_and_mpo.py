"""What telephones and cameras write: HEIC by a library of its own, MPO, raw files."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from masqclip.data.image_decoding import decode_image
from masqclip.data.images import read_image
from masqclip.errors import MasqclipError
from pictures import encode, noise, refusal

BLOCKS = np.repeat(np.repeat(noise(6, 8), 16, axis=0), 16, axis=1)  # 96 x 128


def heic(*pictures: np.ndarray, **options: object) -> bytes:
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    first, *others = (Image.fromarray(picture) for picture in pictures)
    return encode(first, "HEIF", quality=95, save_all=True, append_images=others, **options)


def test_heic_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.HEIC").write_bytes(heic(BLOCKS))
    image = read_image(tmp_path / "a.HEIC")
    assert image.pixels.shape == BLOCKS.shape
    assert np.abs(image.pixels.astype(int) - BLOCKS).mean() < 12
    assert image.notes == ()


def test_heic_is_turned_upright_once() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = read_image(heic(BLOCKS, exif=exif.tobytes())).pixels
    upright = np.rot90(BLOCKS, -1)
    assert pixels.shape == upright.shape
    assert np.abs(pixels.astype(int) - upright).mean() < 12


def test_of_several_pictures_the_main_one_is_taken_and_said() -> None:
    image = read_image(heic(BLOCKS, BLOCKS[:32]))
    assert image.pixels.shape == BLOCKS.shape
    assert image.notes == ("several pictures (HEIC): the main one is used",)


def test_heic_is_guarded_like_any_picture() -> None:
    data = heic(BLOCKS)
    assert "more than the limit of 100" in refusal(data, max_pixels=100)
    assert "broken or cut short" in refusal(data[: len(data) // 2])
    assert "too damaged" in refusal(data[:40])


def test_without_its_library_heic_is_refused_with_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = heic(BLOCKS)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(MasqclipError, match=r"a\.heic: HEIC .*pip install 'masqclip\[heic\]'"):
        decode_image(data, "a.heic", 10**6)


def test_avif_needs_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    data = encode(Image.fromarray(BLOCKS), "AVIF")
    assert decode_image(data, "a.avif", 10**6).pixels.shape == BLOCKS.shape


def test_mpo_is_read_by_its_first_picture(tmp_path: Path) -> None:
    other = Image.fromarray(BLOCKS[::-1].copy())
    options = {"save_all": True, "append_images": [other], "quality": 95}
    (tmp_path / "a.MPO").write_bytes(encode(Image.fromarray(BLOCKS), "MPO", **options))
    image = read_image(tmp_path / "a.MPO")
    assert np.abs(image.pixels.astype(int) - BLOCKS).mean() < 12
    assert image.notes == ("several pictures (MPO): the first is used",)


@pytest.mark.parametrize(("name", "tags"), [("a.tif", {0xC612: b"\1\4\0\0"}), ("a.NEF", {})])
def test_the_preview_in_a_raw_file_is_not_taken_for_the_picture(
    tmp_path: Path, name: str, tags: dict[int, bytes]
) -> None:
    data = encode(Image.fromarray(BLOCKS), "TIFF", tiffinfo=tags)
    (tmp_path / name).write_bytes(data)
    assert f"{name}: a camera's raw file is not read; convert it" in refusal(tmp_path / name)
