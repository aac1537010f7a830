"""Pictures that are built to take all memory, all time, or the process: each is one quick line."""

from __future__ import annotations

import io
import os
import signal
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from masqclip.data import images
from masqclip.data.image_readers import ImageReaders
from masqclip.data.images import MAX_SIDE, LoadedImage, read_image
from masqclip.errors import MasqclipError
from pictures import chunk, encode, noise, png, refusal

# The most memory that this process had since it began; getrusage tells its parent's as well.
PRINT_PEAK = (
    "print([line.split()[1] for line in open('/proc/self/status') if line[:5] == 'VmHWM'][0])"
)


def flat_png(width: int, height: int) -> bytes:
    """A PNG of zeros: some kilobytes for any number of pixels."""
    packer = zlib.compressobj(1)
    row = bytes(1 + 3 * width)
    body = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def scanned(scans: int) -> bytes:
    """A progressive JPEG with so many passes that hold nothing."""
    data = encode(Image.fromarray(noise(64, 64)), "JPEG", progressive=True)
    end = data.rindex(b"\xff\xd9")
    return data[:end] + b"\xff\xda\0\x08\1\1\x11\1\x3f\x10\0" * scans + data[end:]


def icon() -> bytes:
    inside = png(20_000, 20_000, 8, 6, b"")
    entry = struct.pack("<BBBBHHII", 0, 0, 0, 0, 1, 32, len(inside), 22)
    return struct.pack("<HHH", 0, 1, 1) + entry + inside


def empty_chunks() -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"aaAa", b"") * 500_000 + chunk(b"IEND", b"")


BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "icon": (icon, "not a picture"),
    "passes": (lambda: scanned(50_000), "built to take long"),
    "chunks": (empty_chunks, "built to take long"),
    "fill": (lambda: b"\xff\xd8" + b"\xff" * 5_000_000, "built to take long"),
    "junk": (lambda: b"\xff\xd8\xff\xe0\0\2" + b"a" * 5_000_000, "built to take long"),
    "segments": (lambda: b"\xff\xd8" + b"\xff\xe5\0\2" * 1_000_000, "built to take long"),
    "comments": (lambda: b"P6\n" + b"#\n" * 2_000_000 + b"8 8 255\n", "does not end"),
    "column": (lambda: flat_png(1, 40_000), f"limit of {MAX_SIDE:,}"),
    "strip": (lambda: flat_png(30_000, 100), "250 times as long"),
    "postscript": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n" + b"%%x\n" * 1_000_000, "vector art"),
    "qoi": (lambda: b"qoif" + struct.pack(">IIBB", 60_000, 60_000, 3, 0), "far more pixels"),
    "tiff": (lambda: encode(Image.new("1", (8000, 7000)), "TIFF"), "limit of 50,000,000"),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_is_refused_at_once(kind: str) -> None:
    make, reason = BOMBS[kind]
    data = make()
    started = time.perf_counter()
    with pytest.raises(MasqclipError, match=reason):
        read_image(data)
    assert time.perf_counter() - started < 60  # minutes, where a decoder does what it is told


def test_what_decoders_of_other_formats_would_do_is_not_done() -> None:
    # Pillow decodes an icon, and many a rare format, when it is opened.
    Image.init()
    for kind in ("ICO", "PCX", "SGI", "IM", "ICNS", "DDS"):
        assert refusal(encode(Image.new("RGB", (16, 16)), kind)).startswith("<bytes>: not a pic")


def test_icons_are_refused_without_being_decoded() -> None:
    code = (
        "import sys; from masqclip.data.images import read_image\n"
        "try: read_image(sys.stdin.buffer.read())\n"
        "except ValueError as error: print(error)\n"
        f"{PRINT_PEAK}"
    )
    inside = flat_png(12_000, 12_000)
    entry = struct.pack("<BBBBHHII", 0, 0, 0, 0, 1, 32, len(inside), 22)
    data = struct.pack("<HHH", 0, 1, 1) + entry + inside
    done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=True)
    message, kilobytes = done.stdout.decode().splitlines()
    assert "not a picture" in message
    assert int(kilobytes) < 200_000  # 576 MB, decoded


def test_passes_that_pictures_have_are_read() -> None:
    assert read_image(scanned(40)).width == 64


# Processes that decode


def test_every_format_is_the_same_in_a_process() -> None:
    readers = ImageReaders(1)
    try:
        for kind in ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM"):
            data = encode(Image.fromarray(noise()), kind)
            here, there = read_image(data), read_image(data, isolated=readers)
            np.testing.assert_array_equal(here.pixels, there.pixels)
            assert here.notes == there.notes
        rgba = np.zeros((3, 3, 4), np.uint8)
        found = read_image(encode(Image.fromarray(rgba), "PNG"), isolated=readers)
        assert found.notes == ("transparency composited on white",)
        with pytest.raises(MasqclipError, match="limit of 10"):
            read_image(encode(Image.fromarray(noise()), "PNG"), isolated=readers, max_pixels=10)
    finally:
        readers.close()


def test_larger_pictures_than_are_decoded_here_are_decoded_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    apart = []

    class Readers:
        def read(self, data: bytes, name: str, max_pixels: int) -> LoadedImage:
            apart.append(name)
            return LoadedImage(noise(), (), name)

    monkeypatch.setattr(images, "shared_readers", Readers)
    for kind in ("PNG", "JPEG", "WEBP", "BMP"):
        data = encode(Image.fromarray(noise()), kind)
        pixels = noise().shape[0] * noise().shape[1]
        read_image(data)
        read_image(data, max_pixels_here=pixels)
        assert not apart
        read_image(data, max_pixels_here=pixels - 1)
        assert apart.pop() == "<bytes>"


def slow_gif() -> bytes:
    """A comment in a million pieces, which Pillow joins one by one."""
    return b"GIF89a\x08\0\x08\0\0\0\0" + b"!\xfe" + (b"\xff" + b"a" * 255) * 150_000 + b"\0;"


def slow_qoi(side: int) -> bytes:
    """Runs of one pixel: Pillow's decoder of this format is Python."""
    return b"qoif" + struct.pack(">IIBB", side, side, 3, 0) + b"\xc0" * (side * side) + b"\0" * 8


def test_a_picture_that_takes_too_long_ends_its_process_and_no_other() -> None:
    readers = ImageReaders(1, seconds=1)
    try:
        with pytest.raises(MasqclipError, match="takes more than 1 s to decode"):
            read_image(slow_qoi(3000), isolated=readers)
        data = encode(Image.fromarray(noise()), "PNG")
        np.testing.assert_array_equal(read_image(data, isolated=readers).pixels, noise())
    finally:
        readers.close()


def test_a_picture_that_takes_too_much_memory_is_refused() -> None:
    readers = ImageReaders(1, memory=100_000_000)
    try:
        with pytest.raises(MasqclipError, match=r"more than 0\.1 GB to decode|broken"):
            read_image(flat_png(6000, 6000), isolated=readers)
        assert read_image(encode(Image.fromarray(noise()), "PNG"), isolated=readers).width == 32
    finally:
        readers.close()


def test_a_killed_process_is_replaced_and_closing_ends_what_goes_on() -> None:
    readers = ImageReaders(2, seconds=20)
    data = encode(Image.fromarray(noise()), "PNG")
    assert read_image(data, isolated=readers).width == 32
    (reader,) = readers._all
    os.kill(reader._popen.pid, signal.SIGKILL)
    time.sleep(0.2)
    assert read_image(data, isolated=readers).width == 32
    said: list[str] = []

    def read_slowly() -> None:
        try:
            read_image(slow_qoi(4000), isolated=readers)
        except MasqclipError as error:
            said.append(str(error))

    thread = threading.Thread(target=read_slowly)
    thread.start()
    time.sleep(0.3)
    started = time.perf_counter()
    readers.close()
    thread.join()
    assert time.perf_counter() - started < 60
    assert "the program ends" in said[0]


def test_a_fork_has_readers_of_its_own() -> None:
    data = encode(Image.fromarray(noise()), "TIFF")
    assert read_image(data).width == 32  # in the shared process
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if read_image(data).width == 32 else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert read_image(data).width == 32


def test_a_fifo_and_a_device_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", Path("/dev/zero")):
        assert "not a regular file" in refusal(path)


def test_large_pictures_take_little_more_than_their_pixels() -> None:
    code = (
        "import sys; from masqclip.data.images import read_image\n"
        "print(read_image(sys.stdin.buffer.read()).notes)\n"
        f"{PRINT_PEAK}"
    )
    buffer = io.BytesIO()
    Image.new("RGBA", (5000, 5000), (1, 2, 3, 4)).save(buffer, "PNG")
    done = subprocess.run(
        [sys.executable, "-c", code], input=buffer.getvalue(), capture_output=True, check=True
    )
    notes, kilobytes = done.stdout.decode().splitlines()
    assert "composited" in notes
    assert int(kilobytes) < 300_000  # 100 MB decoded, 75 MB of result; 570 MB before
