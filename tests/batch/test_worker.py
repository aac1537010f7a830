"""The stages by themselves, without Ray: what they hand on, what they make of what is broken."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from masqclip.batch import worker
from masqclip.batch.inputs import list_items
from masqclip.batch.shards import JobFolder, JobSettings
from masqclip.batch.worker import Encoder, Namer, Part, batch_size, read_shard
from masqclip.clip.vocabulary import Vocabulary
from masqclip.data.rle import decode_rle
from masqclip.data.stickers.scenes import SceneSettings, StickerWorld
from masqclip.data.stickers.sprites import load_sprites
from masqclip.segmenter import Segmenter

SPRITES = Path(__file__).parents[1] / "data" / "sprites"
WORDS = Vocabulary.parse("stickers")
NUMBER = 5


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter.from_pretrained("masqclip-mini", device="cpu", dtype="float32")


@pytest.fixture
def one_segmenter(segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "load_segmenter", lambda *given: segmenter)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes of two sizes, and one file that is no picture."""
    folder = tmp_path_factory.mktemp("photos")
    world = StickerWorld(load_sprites(SPRITES), SceneSettings(size=128))
    for n, picture in enumerate(world.draw(7, range(NUMBER - 1)).images):
        array = picture.permute(1, 2, 0).numpy()[: 96 if n == 2 else 128]
        Image.fromarray(array).save(folder / f"{n}.png")
    (folder / "3a.png").write_text("no picture")
    return folder


def job(folder: Path, photos: Path | str, **changes: Any) -> tuple[JobFolder, JobSettings]:
    kind, items = list_items([str(photos)])
    given = {"inputs": (str(photos),), "kind": kind, "model": "masqclip-mini", "vocabulary": WORDS}
    settings = JobSettings(**(given | changes))
    made = JobFolder(str(folder))
    made.plan(settings, items)
    return made, settings


def run(folder: JobFolder, settings: JobSettings) -> list[dict[str, Any]]:
    """What Ray does, in this process; the rows of the first shard."""
    encoder = None if settings.kind == "embeddings" else Encoder(folder, settings, "cpu", 1)
    namer = Namer(folder, settings, "cpu", 1)
    parts = 0
    for row in read_shard(pa.table({"shard": [0]}), folder=folder, settings=settings):
        done = Part.from_row(namer(row if encoder is None else encoder(row)))
        assert (done.part, done.failure, done.table) == (parts, None, None)
        parts += 1
    folder.commit(0, parts, settings)
    return pq.read_table(f"{folder.store.uri}/shards").to_pylist()


def test_results_are_those_of_the_segmenter(
    one_segmenter: None, segmenter: Segmenter, photos: Path, tmp_path: Path
) -> None:
    rows = run(*job(tmp_path, photos))
    assert [Path(row["key"]).name for row in rows] == ["0.png", "1.png", "2.png", "3.png", "3a.png"]
    assert "3a.png: not a picture" in rows[-1]["error"]
    assert rows[-1]["segments"] == []
    for row in rows[:-1]:
        direct = segmenter(row["key"], WORDS)
        assert (row["height"], row["width"]) == direct.image.shape[:2]
        assert [s["name"] for s in row["segments"]] == [s.name for s in direct.segments]
        for found, segment in zip(row["segments"], direct.segments, strict=True):
            assert found["score"] == pytest.approx(segment.score, abs=1e-4)
            # Another batch sums in another order: a pixel on a mask's edge may turn.
            assert np.mean(decode_rle(found["segmentation"]) != segment.mask) < 1e-3


def test_a_level_is_what_is_reported(
    one_segmenter: None, segmenter: Segmenter, photos: Path, tmp_path: Path
) -> None:
    words = Vocabulary.parse(f"any > {', '.join(WORDS.names)}")
    folder, settings = job(tmp_path, photos, vocabulary=words, level=0, format="coco")
    encoder, namer = Encoder(folder, settings, "cpu", 1), Namer(folder, settings, "cpu", 1)
    parts = [
        namer(encoder(row))
        for row in read_shard(pa.table({"shard": [0]}), folder=folder, settings=settings)
    ]
    folder.commit(0, len(parts), settings)
    document = json.loads(folder.store.read("shards/00000000.json"))
    assert [category["name"] for category in document["categories"]] == ["any"]
    direct = [segmenter(photos / f"{n}.png", words, level=0) for n in range(NUMBER - 1)]
    assert len(document["annotations"]) == sum(map(len, direct)) > 0
    assert {annotation["category_id"] for annotation in document["annotations"]} == {1}


def test_everything_is_found_by_jobs_too(
    one_segmenter: None, segmenter: Segmenter, photos: Path, tmp_path: Path
) -> None:
    rows = run(*job(tmp_path, photos, vocabulary=Vocabulary.parse("everything")))
    for row in rows[:-1]:
        direct = segmenter(row["key"], "everything")
        assert [s["name"] for s in row["segments"]] == ["object"] * len(direct)


def test_one_picture_a_batch_gives_the_very_numbers(
    one_segmenter: None, segmenter: Segmenter, photos: Path, tmp_path: Path
) -> None:
    for row in run(*job(tmp_path, photos, memory=1e-6))[:-1]:
        direct = segmenter(row["key"], WORDS)
        assert [s["score"] for s in row["segments"]] == [
            np.float32(segment.score) for segment in direct.segments
        ]
        for found, segment in zip(row["segments"], direct.segments, strict=True):
            assert np.array_equal(decode_rle(found["segmentation"]), segment.mask)


def test_the_same_bytes_again_in_whatever_parts(
    one_segmenter: None, photos: Path, tmp_path: Path
) -> None:
    contents = []
    for name in ("one", "two"):
        folder, settings = job(tmp_path / name, photos, save_embeddings=True)
        run(folder, settings)
        names = ("shards/00000000.parquet", "embeddings/00000000.parquet")
        contents.append([folder.store.read(file) for file in names])
    assert contents[0] == contents[1]


def test_names_from_kept_embeddings_are_those_from_the_pictures(
    one_segmenter: None, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "PART_IMAGES", 2)
    run(*job(tmp_path / "first", photos, save_embeddings=True))
    other = Vocabulary.parse("car, snake, stuff: sand")
    for task in ("panoptic", "instance", "semantic"):
        asked = {"vocabulary": other, "task": task}
        folder, settings = job(tmp_path / f"a-{task}", tmp_path / "first", **asked)
        assert settings.kind == "embeddings"
        assert folder.read()[2] == NUMBER
        found = run(folder, settings)
        again = run(*job(tmp_path / f"b-{task}", photos, **asked, save_embeddings=True))
        assert found == again
        # Where embeddings are not kept, fewer masks go through CLIP together, and some processors
        # add up in another order then.
        for a, b in zip(found, run(*job(tmp_path / f"c-{task}", photos, **asked)), strict=True):
            assert [s["name"] for s in a["segments"]] == [s["name"] for s in b["segments"]]
            scores = [[s["score"] for s in row["segments"]] for row in (a, b)]
            assert scores[0] == pytest.approx(scores[1], abs=1e-5)


def test_parts_are_bounded_and_the_last_one_says_so(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, settings = job(tmp_path, photos)
    monkeypatch.setattr(worker, "PART_BYTES", 2 * 128 * 128 * 3)
    rows = read_shard(pa.table({"shard": [0]}), folder=folder, settings=settings)
    parts = [Part.from_row(row) for row in rows]
    assert [(p.part, p.last, len(p.table or ())) for p in parts] == [(0, False, 2), (1, True, 3)]
    assert folder.attempts(0, 0, "read") == 0


def test_overlays_are_drawn_on_request(one_segmenter: None, photos: Path, tmp_path: Path) -> None:
    run(*job(tmp_path, photos, overlay=True))
    overlays = sorted((tmp_path / "overlays" / "00000000").iterdir())
    assert [path.name for path in overlays] == [f"00000-{n:05d}.png" for n in range(4)]
    with Image.open(overlays[0]) as drawn, Image.open(photos / "0.png") as picture:
        assert np.asarray(drawn).std() > 0
        assert drawn.width / drawn.height == picture.width / picture.height


class Bad(Exception):
    pass


def test_what_fails_three_times_is_given_up(
    one_segmenter: None, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, settings = job(tmp_path, photos)
    calls = []

    def fail(*given: object) -> Part:
        calls.append(given)
        raise Bad("no\nluck")

    monkeypatch.setattr(Encoder, "_work", fail)
    encoder, namer = Encoder(folder, settings, "cpu", 1), Namer(folder, settings, "cpu", 1)
    (row,) = read_shard(pa.table({"shard": [0]}), folder=folder, settings=settings)
    end = Part.from_row(namer(encoder(row)))
    assert end.failure == "encode: Bad: no luck, 3 times (part 0)"
    assert len(calls) == 3


def test_a_part_that_ended_its_process_three_times_is_not_begun_again(
    one_segmenter: None, photos: Path, tmp_path: Path
) -> None:
    folder, settings = job(tmp_path, photos)
    (row,) = read_shard(pa.table({"shard": [0]}), folder=folder, settings=settings)
    for number in range(3):
        folder.begin_attempt(0, 0, "encode", number)
    end = Part.from_row(Encoder(folder, settings, "cpu", 1)(row))
    assert end.failure == "encode ended its process, 3 times (part 0)"


def test_a_shard_whose_reading_fails_goes_on_where_it_was(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, settings = job(tmp_path, photos)
    monkeypatch.setattr(worker, "PART_IMAGES", 2)
    real, failures = worker.read_items, iter([3, 3, 9])

    def shaky(*given: Any) -> Iterator[Any]:
        stop = next(failures)
        for n, found in enumerate(real(*given)):
            if n == stop:
                raise OSError("the network is gone")
            yield found

    monkeypatch.setattr(worker, "read_items", shaky)
    rows = read_shard(pa.table({"shard": [0]}), folder=folder, settings=settings)
    parts = [Part.from_row(row) for row in rows]
    assert [(part.part, part.last) for part in parts] == [(0, False), (1, False), (2, True)]
    keys = [os.path.basename(key) for part in parts for key in part.table["key"].to_pylist()]
    assert keys == ["0.png", "1.png", "2.png", "3.png", "3a.png"]


def test_too_large_a_batch_is_halved(
    one_segmenter: None,
    segmenter: Segmenter,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, sizes = segmenter.encode, []

    def encode(images: list[Any], **settings: Any) -> Any:
        sizes.append(len(images))
        if len(images) > 1:
            raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate")
        return real(images, **settings)

    monkeypatch.setattr(segmenter, "encode", encode)
    rows = run(*job(tmp_path, photos))
    assert [row["error"] is None for row in rows] == [True] * 4 + [False]
    assert max(sizes) > 1


def test_the_batch_grows_with_the_memory_and_shrinks_with_the_frame(segmenter: Segmenter) -> None:
    config = segmenter.model.config
    sizes = [batch_size(config, (128, 128), gigabytes) for gigabytes in (1e-6, 0.5, 1, 2)]
    assert sizes[0] == 1
    assert sizes[1] < sizes[2] < sizes[3]
    assert batch_size(config, (256, 256), 1) < sizes[2]
