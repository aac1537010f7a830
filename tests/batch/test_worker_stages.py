"""The stages' rules with no model behind them: what they ask it for, and what they say."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from masqclip.batch import worker
from masqclip.batch.shards import JobSettings
from masqclip.batch.worker import FLOATS_PER_PIXEL, Encoder, EncoderAndNamer, Namer, batch_size
from masqclip.clip.vocabulary import Vocabulary
from masqclip.errors import MasqclipError
from masqclip.refinements import Refinements
from masqclip.segmenter import least_object_score

WORDS = Vocabulary.parse("cat, dog")


def settings(**changes: Any) -> JobSettings:
    given = {"inputs": ("x",), "kind": "files", "model": "m", "vocabulary": WORDS}
    return JobSettings(**(given | changes))


class Model:
    """Encodes whatever fits: so many pictures of so many pixels."""

    def __init__(self, pictures: int = 99, pixels: int = 10**9) -> None:
        self.pictures, self.pixels = pictures, pixels
        self.asked: list[tuple[int, float]] = []
        self.read: list[Any] = []
        self.text = SimpleNamespace(embed_vocabulary=self.read.append)
        self.model = SimpleNamespace(refinements=Refinements())

    def encode(self, images: list[Any], *, min_object_score: float = -1.0) -> list[Any]:
        self.asked.append((len(images), min_object_score))
        arrays = [getattr(image, "pixels", image) for image in images]
        if len(images) > self.pictures or any(array.size > self.pixels for array in arrays):
            raise MemoryError("no room")
        return [getattr(image, "source", "array") for image in images]


def encoder(model: Model, **changes: Any) -> Encoder:
    return Encoder(SimpleNamespace(), settings(**changes), "cpu", 1, model)  # type: ignore[arg-type]


def pictures(count: int, side: int = 4) -> pa.Table:
    rows = [
        {"key": str(i), "height": side, "width": side + i, "notes": ["n"],
         "pixels": np.full((side, side + i, 3), i, np.uint8).tobytes()}
        for i in range(count)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=worker.PICTURES)


def config(layers: int = 2, image: int = 32, patch: int = 16, hidden: int = 8) -> Any:
    vision = {
        "num_hidden_layers": layers, "image_size": image, "patch_size": patch, "hidden_size": hidden
    }  # fmt: skip
    return SimpleNamespace(clip_config={"vision_config": vision})


def test_the_size_of_a_batch_is_counted_in_floats() -> None:
    frame = (3, 5)
    # 2 * 2 blocks, 2 * 2 patches and one more, of 8 numbers; and the frame's own.
    floats = 2 * 2 * (2 * 2 + 1) * 8 + FLOATS_PER_PIXEL * 15
    for number in (1, 2, 3, 100):
        enough = number * 4 * floats / 1e9 * (1 + 1e-9)
        assert batch_size(config(), frame, enough) == number
        assert batch_size(config(), frame, enough * (1 - 1e-6)) == max(1, number - 1)
    assert batch_size(config(), frame, 0.0) == 1


def test_the_last_table_is_marked() -> None:
    assert list(worker._mark_last(iter("a"))) == [("a", True)]  # type: ignore[arg-type]
    assert list(worker._mark_last(iter("abc"))) == [  # type: ignore[arg-type]
        ("a", False), ("b", False), ("c", True)
    ]  # fmt: skip


def test_whatever_a_picture_is_it_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    row = worker._picture_row("k", MasqclipError("k: gone"))
    assert (row["key"], row["error"]) == ("k", "k: gone")
    assert worker._picture_row("k", b"")["error"].startswith("k: empty")

    def fail(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("by\nnought")

    monkeypatch.setattr(worker, "read_image", fail)
    row = worker._picture_row("k", b"x")
    assert row["error"] == "k: cannot be read: ZeroDivisionError: by nought"


def test_pictures_come_out_of_a_table_as_they_went_in() -> None:
    image = worker._loaded(pictures(3), 2)
    assert image.pixels.shape == (4, 6, 3)
    assert (image.pixels == 2).all()
    assert (image.notes, image.source) == (("n",), "2")


def test_a_batch_too_large_is_halved_in_order() -> None:
    model = Model(pictures=2)
    found = encoder(model)._encode_batch(pictures(6), [0, 1, 2, 4, 5])
    assert found == ["0", "1", "2", "4", "5"]
    assert [number for number, _ in model.asked] == [5, 2, 3, 1, 2]


def test_one_picture_too_large_is_its_own_fault_if_a_small_one_fits() -> None:
    model = Model(pixels=32 * 32 * 3)
    (found,) = encoder(model)._encode_batch(pictures(1, side=40), [0])
    assert str(found) == "0: too large for this machine's memory; make it smaller first"
    with pytest.raises(MemoryError, match="no room"):
        encoder(Model(pixels=32 * 32 * 3 - 1))._encode_batch(pictures(1, side=40), [0])


def test_other_errors_are_not_taken_for_too_little_memory() -> None:
    model = Model()

    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("shapes do not match")

    model.encode = fail  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="shapes do not match"):
        encoder(model)._encode_batch(pictures(2), [0, 1])


def test_masks_that_cannot_matter_are_left_out_unless_embeddings_are_kept() -> None:
    for task in ("panoptic", "instance", "semantic"):
        for least in (None, 0.3):
            given = {"task": task, "min_score": least}
            model = Model()
            encoder(model, **given)._encode_batch(pictures(1), [0])
            assert model.asked == [(1, least_object_score(task, least))]  # type: ignore[arg-type]
            model = Model()
            encoder(model, **given, save_embeddings=True)._encode_batch(pictures(1), [0])
            assert model.asked == [(1, 0.0)]


def test_names_are_read_before_the_first_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[Any] = []

    def load(asked: JobSettings, device: str | None) -> Model:
        loaded.append((asked, device, Model()))
        return loaded[-1][2]

    monkeypatch.setattr(worker, "load_segmenter", load)
    asked = settings()
    both = EncoderAndNamer(SimpleNamespace(), asked, "cpu", 1)  # type: ignore[arg-type]
    ((found, device, model),) = loaded  # one model for both
    assert (found, device) == (asked, "cpu")
    assert both._encode.segmenter is both._name.segmenter is model
    assert model.read == [WORDS]
    namer = Namer(SimpleNamespace(), asked, None, 1)
    assert namer.segmenter is loaded[1][2]
    assert loaded[1][:2] == (asked, None)


def test_a_model_of_other_files_is_refused() -> None:
    from masqclip.batch.worker import load_segmenter

    with pytest.raises(MasqclipError) as caught:
        load_segmenter(settings(model="masqclip-mini", weights="0" * 64), "cpu")
    assert str(caught.value) == (
        "the model 'masqclip-mini' has other files on this machine than where the job was "
        "planned: copy them, or name another folder for --out"
    )
