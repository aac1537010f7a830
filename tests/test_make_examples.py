"""Examples from a picture: masks, boxes and points; what they find elsewhere; what is refused."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from masqclip.clip.category import Category
from masqclip.clip.vocabulary import Vocabulary, load_builtin
from masqclip.data.images import read_image
from masqclip.encoding import EncodedImage
from masqclip.errors import MasqclipError
from masqclip.segmenter import Segmenter

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def car(segmenter: Segmenter, beach: EncodedImage) -> np.ndarray:
    return segmenter(beach, "car, snake, tulip, rocket", "instance")["car"][0].mask


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.count_nonzero(one & other) / np.count_nonzero(one | other))


@pytest.mark.parametrize("how", ["mask", "box", "point"])
def test_a_thing_without_a_word_is_found_again(
    segmenter: Segmenter, beach: EncodedImage, car: np.ndarray, how: str
) -> None:
    rows, columns = np.nonzero(car)
    box = (columns.min() - 3, rows.min() - 2, columns.max() + 4, rows.max() + 3)
    given = {
        "mask": {"mask": car},
        "box": {"box": box},
        "point": {"point": (int(np.median(columns)), int(np.median(rows)))},
    }[how]
    shown = segmenter.example("zivuko", beach, **given)  # type: ignore[arg-type]
    # The same drawing turned around, in a picture of its own.
    mirrored = np.ascontiguousarray(beach.image.pixels[:, ::-1])
    others = load_builtin("stickers")
    others = others.subset([name for name in others.names if name != "car"])
    words = others.joined(shown)
    found = segmenter(mirrored, words, "instance", min_score=0.5)["zivuko"]
    assert len(found) == 1
    assert iou(found[0].mask, car[:, ::-1]) > 0.8
    unseen = others.joined(Vocabulary.parse(["zivuko"]))
    assert not len(segmenter(mirrored, unseen, "instance", min_score=0.1)["zivuko"])


def test_an_example_has_a_small_picture(
    segmenter: Segmenter, beach: EncodedImage, car: np.ndarray
) -> None:
    (category,) = segmenter.example("car", beach, car).categories
    assert category.examples is not None
    with Image.open(io.BytesIO(category.examples.thumbnails[0])) as thumbnail:
        assert max(thumbnail.size) == 64
        red = np.asarray(thumbnail.convert("RGB"))[20:40, 20:44].reshape(-1, 3).mean(0)
    assert red[0] > red[2] + 50  # the car is


def test_a_file_of_pixels_and_an_encoded_picture_are_one_example(
    segmenter: Segmenter, beach: EncodedImage, car: np.ndarray
) -> None:
    one = segmenter.example("car", beach, car)
    other = segmenter.example("car", read_image(EXAMPLES / "beach.png").pixels, car)
    assert one == other
    bgr = np.ascontiguousarray(beach.image.pixels[:, :, ::-1])
    assert segmenter.example("car", bgr, car, channels="bgr") == one


def test_words_beside_the_example_are_a_choice(
    segmenter: Segmenter, beach: EncodedImage, car: np.ndarray
) -> None:
    (plain,) = segmenter.example("my car", beach, car).categories
    assert plain.prompts == ("my car",)
    (other,) = segmenter.example("my car", beach, car, prompts=["car", "auto"]).categories
    assert other.prompts == ("car", "auto")
    (none,) = segmenter.example("class 7", beach, car, prompts=()).categories
    assert not none.worded
    (region,) = segmenter.example("the car", beach, car, stuff=True).categories
    assert not region.thing


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "give one of a mask, a box and a point"),
        ({"box": (0, 0, 9, 9), "point": (1, 1)}, "give one of a mask, a box and a point"),
        ({"mask": np.zeros((512, 512), bool)}, "mask 1 is empty"),
        ({"mask": np.ones((100, 100), bool)}, "does not fit a picture of 512x512 pixels"),
        ({"mask": np.full((512, 512), 0.5)}, "holds 0.5"),
        ({"box": (0, 0, 2, 2)}, "no proposal fits the box 0, 0, 2, 2: draw it closer"),
        ({"box": (10, 10, 5, 20)}, "the box 10, 10, 5, 20 is none of a picture of 512 x 512"),
        ({"box": (10, 10, 20, 900)}, "the box 10, 10, 20, 900 is none"),
        ({"box": (10, 10, 20)}, "give 4 numbers, x0, y0, x1, y1"),
        ({"box": (10, 10, 20, float("nan"))}, "give 4 numbers"),
        ({"point": (512, 3)}, "the point 512, 3 is outside of the picture of 512 x 512"),
        ({"point": ("a", 3)}, "give 2 numbers, x, y"),
    ],
)
def test_what_shows_nothing_is_refused(
    segmenter: Segmenter, beach: EncodedImage, given: dict[str, object], said: str
) -> None:
    with pytest.raises(MasqclipError, match=said):
        segmenter.example("mug", beach, **given)  # type: ignore[arg-type]


def test_one_picture_and_a_list_of_prompts_are_asked_for(
    segmenter: Segmenter, beach: EncodedImage, car: np.ndarray
) -> None:
    with pytest.raises(MasqclipError, match="the prompts 'mug' are one string"):
        segmenter.example("mug", beach, car, prompts="mug")
    with pytest.raises(MasqclipError, match="an example is of one"):
        segmenter.example("mug", [beach, beach], car)  # type: ignore[arg-type]


def test_a_point_that_nothing_covers_is_refused(segmenter: Segmenter, beach: EncodedImage) -> None:
    from dataclasses import replace

    nothing = replace(beach, mask_logits=beach.mask_logits * 0 - 9)
    with pytest.raises(MasqclipError, match="no proposal covers the point 5, 5"):
        segmenter.example("mug", nothing, point=(5, 5))


def test_a_saved_vocabulary_gives_the_same_masks_in_another_process(
    segmenter: Segmenter, beach: EncodedImage, car: np.ndarray, tmp_path: Path
) -> None:
    words = segmenter.example("zivuko", beach, car).joined(Vocabulary.parse("snake, tulip"))
    words.save(tmp_path / "words.json")
    here = segmenter(EXAMPLES / "beach.png", words, "panoptic")
    code = """
import json, sys
from masqclip import Segmenter
segmenter = Segmenter.from_pretrained("masqclip-mini", device="cpu")
found = segmenter(sys.argv[1], sys.argv[2], "panoptic")
print(json.dumps([[s.name, s.score, int(s.mask.sum())] for s in found]))
"""
    picture, file = EXAMPLES / "beach.png", tmp_path / "words.json"
    command = [sys.executable, "-c", code, str(picture), str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [
        # The last bits of a name's embedding depend on what else was embedded with it.
        [s.name, pytest.approx(s.score, abs=1e-6), int(s.mask.sum())]
        for s in here
    ]


def test_examples_of_another_clip_are_refused(
    segmenter: Segmenter, beach: EncodedImage, car: np.ndarray
) -> None:
    words = segmenter.example("mug", beach, car)
    other = Segmenter.from_pretrained("masqclip-mini", device="cpu", cache=False)
    other.model.clip.text_projection.weight.data.mul_(-1)
    with pytest.raises(MasqclipError, match="'mug' were made with another CLIP, that of 'm"):
        other(beach, words)
    with pytest.raises(MasqclipError, match="another CLIP"):
        other.text.check(words)


def test_half_precision_reads_what_single_precision_made(
    segmenter: Segmenter, beach: EncodedImage, car: np.ndarray
) -> None:
    words = segmenter.example("zivuko", beach, car).joined(Vocabulary.parse("snake, tulip"))
    half = Segmenter.from_pretrained("masqclip-mini", device="cpu", dtype="bfloat16")
    found = half(EXAMPLES / "beach.png", words, "instance")["zivuko"]
    assert iou(found[0].mask, car) > 0.9


def test_examples_compete_as_distractors(
    segmenter: Segmenter, beach: EncodedImage, car: np.ndarray
) -> None:
    """What a broad name takes for its own is left out once it is shown as none of it."""
    broad = Vocabulary.parse("vehicle, snake, tulip")
    (example,) = segmenter.example("not this", beach, car).categories
    before = segmenter(beach, broad, "instance", min_score=0.0)["vehicle"]
    after = segmenter(beach, broad, "instance", min_score=0.0, distractors=Vocabulary((example,)))[
        "vehicle"
    ]

    def on_the_car(result: object) -> float:
        return max((s.score for s in result if iou(s.mask, car) > 0.5), default=0.0)  # type: ignore[attr-defined]

    assert on_the_car(before) > 4 * on_the_car(after)


def test_names_alone_are_as_they_were(segmenter: Segmenter) -> None:
    words = Vocabulary.parse("car, snake")
    rows = segmenter.text.embed_vocabulary(words)
    assert np.allclose(rows.norm(dim=1).numpy(), 1, atol=1e-6)
    again = Vocabulary((Category("car"), Category("snake")))
    assert np.array_equal(segmenter.text.embed_vocabulary(again).numpy(), rows.numpy())
