"""Pictures of a result: saved in every format, to open files, cut out, and shown."""

from __future__ import annotations

import io
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageShow, features
from result_samples import empty, sample, with_empty_mask

from masqclip.errors import MasqclipError
from masqclip.render import show

FORMATS = {
    "png": "PNG", "jpg": "JPEG", "jpeg": "JPEG", "webp": "WEBP", "tif": "TIFF", "tiff": "TIFF",
    "bmp": "BMP", "gif": "GIF",
}  # fmt: skip
if features.check("avif"):
    FORMATS["avif"] = "AVIF"


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_suffix_says_the_format(tmp_path: Path, suffix: str) -> None:
    result = sample()
    target = result.save(tmp_path / f"a.{suffix.upper()}")
    with Image.open(target) as saved:
        assert saved.format == FORMATS[suffix]
        pixels = np.asarray(saved.convert("RGB"), float)
    plain = np.asarray(result.plot(), float)
    lossy = {"jpg": 4, "jpeg": 4, "webp": 8, "avif": 8, "gif": 25}.get(suffix, 0)
    assert np.abs(pixels - plain).mean() <= lossy


def test_open_files(tmp_path: Path) -> None:
    result = sample()
    buffer = io.BytesIO()
    assert result.save(buffer) is None
    assert Image.open(buffer).format == "PNG"
    buffer = io.BytesIO()
    result.save(buffer, format="jpg")
    assert Image.open(buffer).format == "JPEG"
    with (tmp_path / "named.webp").open("wb") as file:
        result.save(file)
        result.save(io.BytesIO(), format=".PNG")
    assert Image.open(tmp_path / "named.webp").format == "WEBP"
    with (
        (tmp_path / "a.png").open("w") as text,
        pytest.raises(MasqclipError, match="open for text: open it with mode 'wb'"),
    ):
        result.save(text)  # type: ignore[call-overload]
    with pytest.raises(MasqclipError, match="3 is no path and no open file"):
        result.save(3)  # type: ignore[call-overload]


def test_a_file_that_takes_nothing_is_one_line(tmp_path: Path) -> None:
    target = tmp_path / "a.png"
    with target.open("wb") as file:
        pass
    with pytest.raises(MasqclipError, match=r"a\.png: it is not open to write.*'wb'"):
        sample().save(file)
    with (
        target.open("rb") as file,
        pytest.raises(MasqclipError, match=r"a\.png: it is not open to write.*'wb'"),
    ):
        sample().save(file)
    with pytest.raises(MasqclipError, match="the open file: no format that pictures are saved in"):
        sample().save(io.BytesIO(), format=3)  # type: ignore[call-overload]


def test_a_format_in_place_of_the_suffix(tmp_path: Path) -> None:
    target = sample().save(str(tmp_path / "picture"), format="png")
    assert Image.open(target).format == "PNG"


def test_what_a_format_cannot_hold_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = Image.new("RGB", (17_000, 2))  # WebP ends at 16,383
    monkeypatch.setattr("masqclip.result.Segmentation.plot", lambda *_, **__: wide)
    with pytest.raises(MasqclipError, match=r"17000 x 2 pixels cannot be saved as WEBP .*\.png"):
        sample().save(io.BytesIO(), format="webp")


def test_crops_are_boxes() -> None:
    result = sample()
    for segment, picture in zip(result, result.crop(), strict=True):
        x0, y0, x1, y1 = segment.box
        assert picture.mode == "RGB"
        assert np.array_equal(np.asarray(picture), result.image[y0:y1, x0:x1])
    assert [picture.size for picture in result.crop(margin=3)] == [(12, 14), (16, 13), (30, 4)]


@pytest.mark.parametrize("margin", [-1, 1.5, "3", None, True])
def test_a_margin_that_is_none_is_one_line(margin: Any) -> None:
    for cut in (sample().crop, sample().cut_outs, with_empty_mask().crop):
        with pytest.raises(MasqclipError, match=r"margin .*: give a whole number of pixels"):
            cut(margin=margin)


def test_cut_outs_are_transparent_beside_the_mask() -> None:
    result = sample()
    parts, ring, _ = result.cut_outs()
    assert (ring.mode, ring.size) == ("RGBA", (10, 7))
    pixels = np.asarray(ring)
    assert np.array_equal(pixels[..., :3], result.image[3:10, 12:22])
    assert np.array_equal(pixels[..., 3] == 255, result[1].mask[3:10, 12:22])
    assert set(np.unique(pixels[..., 3])) == {0, 255}
    assert np.asarray(parts)[..., 3].sum() == 28 * 255
    assert np.asarray(result.cut_outs(margin=2)[1])[..., 3].shape == (11, 14)


def test_an_empty_mask_is_a_picture_of_no_pixels() -> None:
    for pictures in (with_empty_mask().crop(margin=5), with_empty_mask().cut_outs()):
        assert [picture.size for picture in pictures][1] == (0, 0)


def test_a_notebook_shows_a_result_as_png() -> None:
    for result in (sample(), empty()):
        picture = Image.open(io.BytesIO(result._repr_png_()))
        assert np.array_equal(np.asarray(picture), np.asarray(result.plot()))


def test_show_in_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Image.Image] = []
    ipython: Any = types.ModuleType("IPython")
    ipython.get_ipython = lambda: types.SimpleNamespace(kernel=object())
    display: Any = types.ModuleType("IPython.display")
    display.display = shown.append
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    sample().show(labels=False)
    assert np.array_equal(np.asarray(shown[0]), np.asarray(sample().plot(labels=False)))
    ipython.get_ipython = lambda: types.SimpleNamespace()  # a shell in a terminal
    assert not show.in_notebook()


def test_show_in_a_window_or_say_that_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ImageShow, "show", lambda picture, title: shown.append(title) or True)
    monkeypatch.setenv("DISPLAY", ":0")
    sample(path=Path("photos/a.png")).show()
    sample().show()
    assert shown == ["a.png", "masqclip"]
    monkeypatch.setattr(ImageShow, "show", lambda picture, title: False)
    with pytest.raises(MasqclipError, match=r"no notebook here and no window .*\.save"):
        sample().show()
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(ImageShow, "show", pytest.fail)
    with pytest.raises(MasqclipError, match="no notebook here"):
        sample().show()
