"""Every kind of picture that people have, and every way in which a picture can be bad."""

from __future__ import annotations

import contextlib
import io
import struct
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from masqclip.data.images import MAX_PIXELS, LoadedImage, image_size, read_image
from masqclip.errors import MasqclipError
from pictures import chunk, encode, noise, png, refusal

# What a picture may be


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "TGA"])
def test_lossless_formats_come_back_exactly(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "picture.bin"  # the content decides, not the suffix
    path.write_bytes(encode(Image.fromarray(noise()), kind))
    loaded = read_image(path)
    np.testing.assert_array_equal(loaded.pixels, noise())
    assert loaded.pixels.dtype == np.uint8
    assert (loaded.height, loaded.width) == (24, 32)
    assert loaded.notes == ()
    assert loaded.source == str(path)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF", "JPEG2000"])
def test_lossy_formats_come_back_nearly(kind: str) -> None:
    smooth = np.broadcast_to(np.linspace(0, 255, 32, dtype=np.uint8)[None, :, None], (24, 32, 3))
    loaded = read_image(encode(Image.fromarray(np.ascontiguousarray(smooth)), kind))
    assert np.abs(loaded.pixels.astype(int) - smooth).mean() < 6


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "LAB", "HSV", "LA", "RGBX"])
def test_every_mode_keeps_its_colours(mode: str) -> None:
    source = Image.new("RGB", (6, 4), (200, 60, 30))
    if mode in ("1", "L", "LA"):
        source = Image.new("RGB", (6, 4), (255, 255, 255))
    if mode == "LAB":
        from PIL import ImageCms

        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        image = ImageCms.profileToProfile(source, *profiles, outputMode="LAB")
    elif mode == "P":
        image = source.quantize(8)
    elif mode == "RGBX":
        image = Image.merge("RGBX", [*source.split(), Image.new("L", source.size, 7)])
    else:
        image = source.convert(mode)
    loaded = read_image(image)
    assert loaded.pixels.shape == (4, 6, 3)
    assert np.abs(loaded.pixels.astype(int) - np.asarray(source)).max() <= 4
    assert loaded.notes == ()


def test_cmyk_jpeg_is_not_inverted() -> None:
    data = encode(Image.new("RGB", (16, 16), (220, 40, 40)).convert("CMYK"), "JPEG")
    pixel = read_image(data).pixels[8, 8].astype(int)
    assert np.abs(pixel - [220, 40, 40]).max() <= 8


def test_a_single_pixel() -> None:
    loaded = read_image(encode(Image.new("RGB", (1, 1), (1, 2, 3)), "PNG"))
    assert loaded.pixels.tolist() == [[[1, 2, 3]]]


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I"])
def test_sixteen_bits_are_scaled_not_clipped(mode: str) -> None:
    values = np.array([[0, 256, 257, 32768, 65535]])
    kind = {"I;16": "<u2", "I;16B": ">u2", "I": "<i4"}[mode]
    image = Image.frombytes(mode, (5, 1), values.astype(kind).tobytes())
    loaded = read_image(image)
    assert loaded.pixels[0, :, 0].tolist() == [0, 1, 1, 128, 255]
    assert any("16-bit" in note for note in loaded.notes)


def test_a_sixteen_bit_png_file() -> None:
    grey = Image.fromarray(np.array([[0, 257 * 9, 65535]], dtype=np.uint16))
    assert read_image(encode(grey, "PNG")).pixels[0, :, 1].tolist() == [0, 9, 255]
    colour = png(1, 1, 16, 2, b"\0" + struct.pack(">3H", 65535, 0, 32768))
    assert read_image(colour).pixels[0, 0].tolist() == [255, 0, 128]
    keyed = png(1, 1, 16, 0, b"\0" + struct.pack(">H", 65535), chunk(b"tRNS", b"\0\1"))
    assert read_image(keyed).pixels[0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize(
    ("values", "expected"),
    [([0, 0.5, 1], [0, 128, 255]), ([0, 99.6, 255], [0, 100, 255]), ([-1, 0, 1], [0, 128, 255])],
)
def test_float_pictures(values: list[float], expected: list[int]) -> None:
    image = Image.fromarray(np.array([values], dtype=np.float32))
    assert image.mode == "F"
    loaded = read_image(image)
    assert loaded.pixels[0, :, 2].tolist() == expected
    assert len(loaded.notes) == 1


def test_a_constant_wide_integer_picture_does_not_divide_by_zero() -> None:
    loaded = read_image(Image.fromarray(np.full((2, 2), 1_000_000, dtype=np.int32)))
    assert loaded.pixels.max() == 0
    assert "stretched" in loaded.notes[0]


def test_transparency_is_composited_on_white_and_said() -> None:
    rgba = np.zeros((1, 3, 4), dtype=np.uint8)
    rgba[0, :, 3] = [0, 128, 255]
    for source in (encode(Image.fromarray(rgba), "PNG"), Image.fromarray(rgba), rgba):
        loaded = read_image(source)
        assert loaded.pixels[0, :, 0].tolist() == [255, 127, 0]
        assert "transparency composited on white" in loaded.notes


def test_opaque_alpha_is_not_worth_a_note() -> None:
    rgba = np.dstack([noise(), np.full((24, 32), 255, dtype=np.uint8)])
    for source in (Image.fromarray(rgba), rgba):
        loaded = read_image(source)
        np.testing.assert_array_equal(loaded.pixels, noise())
        assert loaded.notes == ()


@pytest.mark.parametrize("mode", ["LA", "La", "PA", "RGBa", "RGBA"])
def test_every_mode_with_alpha(mode: str) -> None:
    clear = Image.new(mode, (3, 2))
    loaded = read_image(clear)
    assert (loaded.pixels == 255).all()
    assert loaded.notes == ("transparency composited on white",)


def test_palette_with_transparency() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = read_image(encode(image, "PNG", transparency=0))
        as_bytes = read_image(encode(image, "PNG", transparency=b"\x00\xff"))
    assert loaded.pixels[0].tolist() == [[255, 255, 255], [200, 100, 50]]
    np.testing.assert_array_equal(loaded.pixels, as_bytes.pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    from PIL import ImageOps

    image = Image.fromarray(noise())
    exif = image.getexif()
    exif[0x0112] = orientation
    data = encode(image, "PNG", exif=exif)
    loaded = read_image(data)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    np.testing.assert_array_equal(loaded.pixels, expected)
    assert (loaded.height > loaded.width) == (orientation >= 5)
    assert bool(loaded.notes) == (orientation != 1)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
@pytest.mark.parametrize("orientation", [None, 1, 3, 6, 8, 9])
def test_the_size_of_a_file_is_that_of_its_picture(
    tmp_path: Path, kind: str, orientation: int | None
) -> None:
    image = Image.fromarray(noise())
    exif = image.getexif()
    options = {}
    if orientation is not None and kind in ("JPEG", "PNG", "WEBP", "TIFF"):
        exif[0x0112] = orientation
        options["exif"] = exif
    path = tmp_path / "picture"
    path.write_bytes(encode(image, kind, **options))
    loaded = read_image(path)
    assert image_size(path) == (loaded.height, loaded.width)


def test_the_size_of_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    for content in (b"", b"text", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n broken"):
        (tmp_path / "picture").write_bytes(content)
        with pytest.raises(MasqclipError, match="picture: "):
            image_size(tmp_path / "picture")


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_broken_exif_block_does_not_spoil_the_picture() -> None:
    data = encode(
        Image.fromarray(noise()), "PNG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"9" * 30
    )
    np.testing.assert_array_equal(read_image(data).pixels, noise())


@pytest.mark.parametrize(("kind", "said"), [("GIF", "GIF"), ("PNG", "PNG"), ("WEBP", "WebP")])
def test_the_first_frame_of_an_animation(kind: str, said: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    loaded = read_image(encode(frames[0], kind, save_all=True, append_images=frames[1:]))
    assert np.abs(loaded.pixels[4, 4].astype(int) - [255, 0, 0]).max() <= 2
    assert loaded.notes == (f"animated {said}: the first frame is used",)


def test_the_first_page_of_a_tiff() -> None:
    pages = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    loaded = read_image(encode(pages[0], "TIFF", save_all=True, append_images=pages[1:]))
    assert loaded.pixels[0, 0].tolist() == [255, 0, 0]
    assert loaded.notes == ("several pages: the first is used",)


def test_a_still_gif_has_no_note() -> None:
    assert read_image(encode(Image.new("RGB", (8, 8), "red"), "GIF")).notes == ()


def test_a_loaded_image_passes_through() -> None:
    loaded = LoadedImage(pixels=noise(), notes=("seen",), source="x.png")
    assert read_image(loaded) is loaded


# What a picture may not be


def test_missing_folder_and_empty(tmp_path: Path) -> None:
    empty = tmp_path / "empty.png"
    empty.touch()
    assert "nowhere.png: no such file" in refusal(tmp_path / "nowhere.png")
    assert "a folder" in refusal(tmp_path)
    assert "empty file" in refusal(str(empty))
    assert "empty" in refusal(b"")
    assert "cannot be opened" in refusal("a\0b.png")
    assert "cannot be opened" in refusal("a" * 5000)
    assert "download" in refusal("https://example.org/cat.jpg")
    assert "regular file" in refusal("/dev/null")


def test_what_is_not_a_picture(tmp_path: Path) -> None:
    notes = tmp_path / "notes.jpg"
    notes.write_text("buy milk")
    assert f"{notes}: not a picture" in refusal(notes)
    drawing = tmp_path / "drawing.svg"
    drawing.write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    assert "render it to PNG" in refusal(drawing)
    raw = tmp_path / "raw.CR3"
    raw.write_bytes(b"\0\0\0\x18ftypcrx " + bytes(100))
    assert "convert it to JPEG" in refusal(raw)
    assert "0x" not in refusal(b"not a picture")  # no object addresses of Pillow's


def test_vector_art_is_never_handed_to_another_program() -> None:
    postscript = (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
    )
    assert "EPS is vector art" in refusal(postscript)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "AVIF"])
@pytest.mark.parametrize("kept", [0.2, 0.6, 0.95])
def test_truncated_files(kind: str, kept: float, tmp_path: Path) -> None:
    data = encode(Image.fromarray(noise(64, 64)), kind)
    path = tmp_path / "cut.img"
    path.write_bytes(data[: int(len(data) * kept)])
    assert str(path) in refusal(path)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "TIFF"])
def test_corrupted_bytes_raise_nothing_but_our_error(kind: str) -> None:
    data = encode(Image.fromarray(noise(64, 64)), kind)
    rng = np.random.default_rng(1)
    for _ in range(40):
        spoilt = np.frombuffer(data, dtype=np.uint8).copy()
        spoilt[rng.integers(0, len(spoilt), 12)] = rng.integers(0, 256, 12)
        with contextlib.suppress(MasqclipError):  # damage that shows; any other error fails
            assert read_image(spoilt.tobytes(), max_pixels=1_000_000).pixels.ndim == 3


def test_a_closed_pil_image() -> None:
    image = Image.fromarray(noise())
    image.close()
    assert "<PIL image>" in refusal(image)


# Size


@pytest.mark.parametrize(("width", "height"), [(12_000, 9_000), (100_000, 100_000)])
def test_a_huge_picture_is_refused_before_it_is_decoded(
    width: int, height: int, tmp_path: Path
) -> None:
    path = tmp_path / "huge.png"
    path.write_bytes(png(width, height, 8, 2, b""))  # no pixels: decoding would say "truncated"
    message = refusal(path)
    assert f"{width} x {height}" in message
    assert f"{MAX_PIXELS:,}" in message


def test_pillow_keeps_its_own_limit() -> None:
    before = Image.MAX_IMAGE_PIXELS
    refusal(png(12_000, 9_000, 8, 2, b""))
    refusal(b"not a picture")
    assert before == Image.MAX_IMAGE_PIXELS


def test_the_limit_is_an_argument() -> None:
    data = encode(Image.fromarray(noise()), "PNG")
    assert read_image(data, max_pixels=24 * 32).width == 32
    assert "limit of 767" in refusal(data, max_pixels=767)
    assert "limit of 767" in refusal(noise(), max_pixels=767)
    assert "limit of 767" in refusal(torch.from_numpy(noise()), max_pixels=767)


def test_reading_imports_no_torch(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(noise()).save(path)
    code = (
        "import sys; from masqclip.data.images import read_image; "
        f"read_image({str(path)!r}); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
