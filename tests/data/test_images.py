"""Every kind of picture that people have, and every way in which a picture can be bad."""

from __future__ import annotations

import contextlib
import io
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from masqclip.data.images import MAX_PIXELS, LoadedImage, find_images, read_image
from masqclip.errors import MasqclipError


def noise(height: int = 24, width: int = 32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(width: int, height: int, depth: int, colour: int, raw: bytes, extra: bytes = b"") -> bytes:
    """A PNG by hand, for what Pillow does not write (16-bit colour, sizes without pixels)."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(raw))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def refusal(source: object, **options: int) -> str:
    """The one line with which `source` is refused; any warning that leaks fails the test."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(MasqclipError) as caught:
            read_image(source, **options)  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    return message


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
    phone = tmp_path / "phone.HEIC"
    phone.write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    assert "convert it to JPEG" in refusal(phone)
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


# Arrays


@pytest.mark.parametrize("channels", [None, 1])
def test_grey_arrays(channels: int | None) -> None:
    grey = noise()[:, :, 0]
    loaded = read_image(grey if channels is None else grey[:, :, None])
    np.testing.assert_array_equal(loaded.pixels, np.dstack([grey] * 3))


def test_types_of_arrays() -> None:
    values = np.array([[0.0, 0.5, 1.0]])
    for kind in (np.float16, np.float32, np.float64):
        assert read_image(values.astype(kind)).pixels[0, :, 0].tolist() == [0, 128, 255]
    assert read_image(values > 0.4).pixels[0, :, 0].tolist() == [0, 255, 255]
    sixteen = read_image((values * 65535).astype(np.uint16))
    assert sixteen.pixels[0, :, 0].tolist() == [0, 127, 255]
    assert "16-bit" in sixteen.notes[0]


def test_rounding_beyond_one_is_forgiven() -> None:
    assert read_image(np.array([[-1e-6, 1 + 1e-6]])).pixels[0, :, 0].tolist() == [0, 255]


def test_an_array_is_copied_and_may_be_a_view() -> None:
    array = noise()
    loaded = read_image(array[:, ::-1])
    np.testing.assert_array_equal(loaded.pixels, array[:, ::-1])
    assert loaded.pixels.flags.c_contiguous
    assert loaded.pixels.flags.writeable
    whole = read_image(array)
    array[:] = 0
    assert whole.pixels.any()


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((3, 40, 50), np.uint8), "channels first"),
        (np.zeros((1, 40, 50), np.float32), "channels first"),
        (np.zeros((2, 40, 50, 3), np.uint8), "batch"),
        (np.zeros((40, 50, 2), np.uint8), "not a picture"),
        (np.zeros(7, np.uint8), "not a picture"),
        (np.zeros((0, 5, 3), np.uint8), "nothing in it"),
        (np.zeros((4, 5), np.int64), "int64"),
        (np.zeros((4, 5), np.complex64), "complex64"),
        (np.array([["a"]]), "not read"),
        (np.array([[0.0, np.nan]]), "NaN"),
        (np.array([[0.0, np.inf]]), "NaN"),
        (np.array([[0.0, 255.0]]), "divide by 255"),
        (np.array([[-2.1, 2.6]]), "normalised"),
    ],
)
def test_arrays_that_are_mistakes(array: np.ndarray, said: str) -> None:
    assert said in refusal(array)


def test_nan_in_a_float_picture() -> None:
    assert "NaN" in refusal(Image.fromarray(np.array([[np.nan]], dtype=np.float32)))


@pytest.mark.parametrize("source", [None, 7, [1, 2], {"a": 1}])
def test_things_that_are_no_source(source: object) -> None:
    assert "give a path" in refusal(source)


# Tensors


def test_tensors_of_either_layout() -> None:
    array = noise()
    last = torch.from_numpy(array)
    first = last.permute(2, 0, 1)
    floats = first.float() / 255
    for tensor in (last, first, floats, floats.double(), floats.requires_grad_()):
        np.testing.assert_array_equal(read_image(tensor).pixels, array)
    half = read_image(floats.bfloat16()).pixels
    assert np.abs(half.astype(int) - array).max() <= 1
    assert read_image(last[:, :, 0]).pixels.shape == (24, 32, 3)
    assert read_image(first[:1]).pixels.shape == (24, 32, 3)


def test_tensors_that_are_mistakes() -> None:
    assert "batch" in refusal(torch.zeros(2, 3, 8, 8))
    assert "not a picture" in refusal(torch.zeros(5, 8, 8))
    assert "normalised" in refusal(torch.randn(3, 8, 8) - 3)
    assert "int64" in refusal(torch.zeros(3, 8, 8, dtype=torch.int64))


def test_reading_imports_no_torch(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(noise()).save(path)
    code = (
        "import sys; from masqclip.data.images import read_image; "
        f"read_image({str(path)!r}); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Files, folders and globs


@pytest.fixture
def album(tmp_path: Path) -> Path:
    for name in ("a10.png", "a2.JPG", "b.webp", "notes.txt", ".hidden.png", "odd.dat", "x[1].png"):
        (tmp_path / name).touch()
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "c.png").touch()
    (tmp_path / "deep" / "er" / "d.png").touch()
    (tmp_path / "bare").mkdir()
    return tmp_path


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_a_folder_is_listed_naturally(album: Path) -> None:
    assert names(find_images([album])) == ["a2.JPG", "a10.png", "b.webp", "x[1].png"]
    assert names(find_images(album, recursive=True)) == [
        "a2.JPG", "a10.png", "b.webp", "c.png", "d.png", "x[1].png"
    ]  # fmt: skip


def test_globs(album: Path) -> None:
    assert names(find_images([f"{album}/a*"])) == ["a2.JPG", "a10.png"]
    assert names(find_images([f"{album}/**/*.png"])) == ["a10.png", "c.png", "d.png", "x[1].png"]
    assert names(find_images([f"{album}/*.dat"])) == ["odd.dat"]
    assert names(find_images([f"{album}/d*"], recursive=True)) == ["c.png", "d.png"]


def test_a_file_may_have_a_glob_character_or_any_suffix(album: Path) -> None:
    assert names(find_images([f"{album}/x[1].png", f"{album}/notes.txt"])) == [
        "x[1].png",
        "notes.txt",
    ]


def test_the_order_given_is_kept_and_nothing_is_listed_twice(album: Path) -> None:
    found = find_images([album / "b.webp", f"{album}/bare/../a2.JPG", album, f"{album}/*.png"])
    assert names(found) == ["b.webp", "a2.JPG", "a10.png", "x[1].png"]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("gone.png", "gone.png: no such file"),
        ("*.bmp", "*.bmp: no picture matches"),
        ("bare", "no picture in this folder"),
        ("b\0c", "no such file"),
        ("n" * 5000, "cannot be opened"),
    ],
)
def test_what_matches_nothing_is_named(album: Path, source: str, said: str) -> None:
    with pytest.raises(MasqclipError) as caught:
        find_images([album / "a2.JPG", f"{album}/{source}"])
    assert said in str(caught.value)


def test_a_folder_of_folders_hints_at_recursive(album: Path) -> None:
    (album / "deep" / "c.png").unlink()
    with pytest.raises(MasqclipError, match="--recursive"):
        find_images([album / "deep"])
