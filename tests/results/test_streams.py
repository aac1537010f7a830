"""Streams and calls: where each result comes from, bad pictures, colours, times and the bar."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from masqclip import segmenter as segmenting
from masqclip.data.images import read_image
from masqclip.errors import MasqclipError
from masqclip.segmenter import Segmenter
from test_segmenter import NAMES, noise, tiny

__all__ = ["tiny"]  # the fixture


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five files, the second and the fourth of which are no pictures."""
    for number in (1, 3, 5):
        Image.fromarray(noise(20 + number, 30)).save(tmp_path / f"{number}.png")
    (tmp_path / "2.png").write_text("milk")
    (tmp_path / "4.png").write_bytes((tmp_path / "3.png").read_bytes()[:-30])
    return tmp_path


def test_a_result_knows_its_file(tiny: Segmenter, folder: Path) -> None:
    paths = [folder / "1.png", folder / "3.png"]
    assert [r.path for r in tiny.stream(paths, NAMES)] == paths
    assert tiny(str(paths[0]), NAMES).path == paths[0]
    encoded = tiny.encode(paths[0])
    assert tiny(encoded, NAMES, "semantic").path == paths[0]
    with Image.open(paths[0]) as picture:
        assert tiny(picture, NAMES).path == paths[0]
        assert tiny(picture.copy(), NAMES).path is None
    for image in (noise(9, 9), paths[0].read_bytes(), torch.zeros(3, 9, 9)):
        assert tiny(image, NAMES).path is None


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_bad_pictures_are_skipped_and_told(tiny: Segmenter, folder: Path, batch_size: int) -> None:
    with pytest.warns(UserWarning, match="is left out") as told:
        results = list(tiny.stream(folder, NAMES, errors="skip", batch_size=batch_size))
    assert [result.path for result in results] == [folder / f"{n}.png" for n in (1, 3, 5)]
    lines = [str(warning.message) for warning in told]
    assert len(lines) == 2
    assert lines[0].startswith(f"picture 2 is left out: {folder / '2.png'}: not a picture")
    assert lines[1].startswith(f"picture 4 is left out: {folder / '4.png'}: broken or cut short")


def test_the_first_bad_picture_ends_it_by_default(tiny: Segmenter, folder: Path) -> None:
    results = tiny.stream(folder, NAMES, batch_size=1)
    assert next(results).path == folder / "1.png"
    with pytest.raises(MasqclipError, match=r"2\.png: not a picture"):
        next(results)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MasqclipError("too odd"), "picture 3 is left out: too odd"),
        (MemoryError(), "picture 3 is left out: out of memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate"), "3 is left out: out of memory"),
    ],
)
def test_what_the_model_cannot_do_is_skipped_alone(
    tiny: Segmenter, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    pictures = [noise(20 + n, 30) for n in range(5)]
    encode = segmenting.encode_pictures

    def failing(model: Any, batch: Any, **options: float) -> Any:
        if any(image.height == 22 for image in batch):
            raise error
        return encode(model, batch, **options)

    monkeypatch.setattr(segmenting, "encode_pictures", failing)
    with pytest.warns(UserWarning, match=said) as told:
        results = list(tiny.stream(pictures, NAMES, errors="skip"))
    assert [result.size[0] for result in results] == [20, 21, 23, 24]
    assert len(told) == 1
    with pytest.raises(type(error)):
        list(tiny.stream(pictures, NAMES))


def test_a_fault_of_ours_is_never_skipped(tiny: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(segmenting, "encode_pictures", broken)
    with pytest.raises(ZeroDivisionError):
        list(tiny.stream([noise(9, 9)] * 3, NAMES, errors="skip"))


@pytest.mark.parametrize(
    "one",
    [
        noise(9, 8),
        noise(9, 8)[..., 0],
        torch.zeros(3, 9, 8),
        Image.fromarray(noise(9, 8)),
        read_image(noise(9, 8)),
    ],
)
def test_a_stream_of_one_picture(tiny: Segmenter, one: Any) -> None:
    assert [result.size for result in tiny.stream(one, NAMES)] == [(9, 8)]
    assert [r.size for r in tiny.stream(tiny.encode(one), NAMES)] == [(9, 8)]


def test_other_sources(tiny: Segmenter) -> None:
    buffer = io.BytesIO()
    Image.fromarray(noise(9, 8)).save(buffer, "PNG")
    assert [r.size for r in tiny.stream(buffer.getvalue(), NAMES)] == [(9, 8)]
    several = np.stack([noise(9, 8)] * 2)
    assert [r.size for r in tiny.stream(several, NAMES)] == [(9, 8)] * 2
    assert list(tiny.stream([], NAMES)) == []
    with pytest.raises(MasqclipError, match="images are 3: give pictures, or a folder"):
        tiny.stream(3, NAMES)  # type: ignore[arg-type]


def test_blue_first(tiny: Segmenter) -> None:
    rgb = noise(20, 30)
    bgr = rgb[..., ::-1]
    alpha = np.full((20, 30, 1), 255, np.uint8)
    for array in (bgr, torch.tensor(bgr.copy()), np.dstack([bgr, alpha]), bgr / 255.0):
        assert np.array_equal(read_image(array, channels="bgr").pixels, rgb)
        assert np.array_equal(tiny(array, NAMES, channels="bgr").image, rgb)
    (result,) = tiny.stream([bgr], NAMES, channels="bgr")
    assert np.array_equal(result.image, rgb)
    assert np.array_equal(tiny.encode(bgr, channels="bgr").image.pixels, rgb)
    masks = np.ones((1, 20, 30), bool)
    one, other = tiny.embed_masks(rgb, masks), tiny.embed_masks(bgr, masks, channels="bgr")
    assert torch.equal(one, other)
    assert not torch.equal(one, tiny.embed_masks(bgr, masks))
    named = [
        tiny.classify_masks(image, masks, NAMES, channels=order).probs  # type: ignore[arg-type]
        for image, order in ((rgb, "rgb"), (bgr, "bgr"))
    ]
    assert np.array_equal(*named)


def test_what_knows_its_own_colours_keeps_them(tiny: Segmenter, folder: Path) -> None:
    rgb = noise(21, 30)
    for image in (folder / "1.png", (folder / "1.png").read_bytes(), Image.fromarray(rgb)):
        assert np.array_equal(tiny(image, NAMES, channels="bgr").image, rgb)
    grey = rgb[..., 0]
    assert np.array_equal(read_image(grey, channels="bgr").pixels[..., 2], grey)
    for call in (read_image, tiny.encode):
        with pytest.raises(MasqclipError, match="channels 'gbr': give 'rgb', or 'bgr'"):
            call(rgb, channels="gbr")  # type: ignore[operator]


def test_seconds_by_step(tiny: Segmenter, folder: Path) -> None:
    result = tiny(folder / "1.png", NAMES)
    assert result.timing.keys() == {"reading", "encoding", "decoding"}
    assert all(0 < seconds < 60 for seconds in result.timing.values())
    encoded = tiny.encode(folder / "1.png")
    again, once_more = tiny(encoded, NAMES), tiny(encoded, NAMES)
    assert again.timing["encoding"] == once_more.timing["encoding"] == encoded.seconds
    assert again.timing["decoding"] != once_more.timing["decoding"]
    assert "timing" not in result.to_json()
    assert result[:0].timing == result.timing


def test_a_bar_counts_what_is_done(
    tiny: Segmenter, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = list(tiny.stream(folder, NAMES, errors="skip", progress=True, batch_size=2))
    assert len(results) == 3
    assert "5/5" in capsys.readouterr().err

    def without_end() -> Iterator[np.ndarray]:
        yield from (noise(9, 9) for _ in range(2))

    assert len(list(tiny.stream(without_end(), NAMES, progress=True))) == 2
    assert "2/?" in capsys.readouterr().err
    list(tiny.stream([noise(9, 9)], NAMES))
    assert capsys.readouterr().err == ""


def test_one_line_says_what_it_is(tiny: Segmenter, folder: Path) -> None:
    assert repr(tiny) == "<Segmenter: unnamed on cpu, float32>"
    path = folder / "1.png"
    line = repr(tiny.encode(path))
    assert line == f"<EncodedImage: {path}, 30 x 21 pixels, 10 proposals on cpu>"
    assert len(repr(read_image(path))) < 300
    named = tiny.classify_masks(path, np.ones((1, 21, 30), bool), NAMES)
    assert "probs" not in repr(named)
