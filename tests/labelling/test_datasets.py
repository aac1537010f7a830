"""Datasets of the shipped model's masks, read by the tools that they are for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import supervision as sv
from PIL import Image
from pycocotools.coco import COCO

from masqclip.clip.vocabulary import Vocabulary
from masqclip.data.digests import digest_file
from masqclip.data.images import read_image
from masqclip.data.label_maps import rgb_to_ids
from masqclip.data.stickers.scenes import SceneSettings, StickerWorld
from masqclip.data.stickers.sprites import load_sprites
from masqclip.labelling.folder import find_pictures, label_folder
from masqclip.labelling.formats import (
    Format,
    FormatSettings,
    Images,
    dataset_writer,
    flat_stems,
)
from masqclip.result import Segmentation
from masqclip.segmenter import Segmenter

SPRITES = Path(__file__).parents[1] / "data" / "sprites"
WORDS = Vocabulary.parse("cat, car, dog, banana, grass, sky, water", stuff="grass, sky, water")


@dataclass
class Scenes:
    """Pictures in a folder, and the model that labels them."""

    folder: Path
    segmenter: Segmenter

    def label(self, out: Path, kind: Format, settings: FormatSettings | None = None) -> Path:
        done = label_folder(
            self.folder,
            find_pictures(self.folder, out),
            WORDS,
            out=out,
            load=lambda: self.segmenter,
            kind=kind,
            min_score=0.1,
            settings=settings,
        )
        assert done.pictures == 6
        assert done.dataset is not None
        return done.dataset

    def results(self, task: str) -> dict[str, Segmentation]:
        """What the model says of each picture, by its path in the folder."""
        names = find_pictures(self.folder, self.folder / "none")
        return {
            name: self.segmenter(self.folder / name, WORDS, task, min_score=0.1)  # type: ignore[arg-type]
            for name in names
        }


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Scenes:
    folder = tmp_path_factory.mktemp("scenes")
    world = StickerWorld(load_sprites(SPRITES), SceneSettings(size=128))
    (folder / "more").mkdir()
    for i, pixels in enumerate(world.draw(99, range(6)).images.permute(0, 2, 3, 1).numpy()):
        Image.fromarray(pixels).save(folder / ("more" if i > 3 else ".") / f"{i}.png")
    return Scenes(folder, Segmenter.from_pretrained("masqclip-mini", device="cpu"))


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_pycocotools_and_supervision_read_coco(scenes: Scenes, tmp_path: Path) -> None:
    path = scenes.label(tmp_path, "coco")
    coco = COCO(str(path))
    dataset = sv.DetectionDataset.from_coco(str(scenes.folder), str(path), force_masks=True)
    assert dataset.classes == list(WORDS.names)
    read = {Path(p).relative_to(scenes.folder).as_posix(): d for p, _, d in dataset}
    results = scenes.results("instance")
    assert sum(map(len, results.values())) > 5
    assert [entry["file_name"] for entry in coco.loadImgs(coco.getImgIds())] == list(results)
    for image, (name, result) in zip(coco.getImgIds(), results.items(), strict=True):
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=[image]))
        for entry, segment in zip(annotations, result.segments, strict=True):
            assert np.array_equal(coco.annToMask(entry).astype(bool), segment.mask)
            assert coco.cats[entry["category_id"]]["name"] == segment.name
            assert (entry["area"], entry["iscrowd"]) == (segment.area, 0)
        if len(result):
            assert np.array_equal(read[name].mask, [s.mask for s in result.segments])
            assert read[name].class_id.tolist() == [s.class_id for s in result.segments]


def test_supervision_reads_yolo(scenes: Scenes, tmp_path: Path) -> None:
    path = scenes.label(tmp_path, "yolo", FormatSettings(validation=0.3))
    results = scenes.results("instance")
    by_stem = {stem: results[name] for name, stem in flat_stems(list(results)).items()}
    seen, overlaps = [], []
    for part in ("train", "val"):
        dataset = sv.DetectionDataset.from_yolo(
            str(tmp_path / "images" / part),
            str(tmp_path / "labels" / part),
            str(path),
            force_masks=True,
        )
        assert dataset.classes == list(WORDS.names)
        for file, _, detections in dataset:
            segments = by_stem[Path(file).stem].segments
            seen.append(Path(file).stem)
            assert len(detections) == len(segments)
            if segments:
                assert detections.class_id.tolist() == [s.class_id for s in segments]
                pairs = zip(detections.mask, segments, strict=True)
                overlaps += [iou(mask, segment.mask) for mask, segment in pairs]
    assert sorted(seen) == sorted(by_stem)
    assert len(list((tmp_path / "images" / "val").iterdir())) == 2
    assert np.mean(overlaps) > 0.97


# What Ultralytics' trainers of all versions look for in a folder, and find in a file by Pillow.
TRAINER_SUFFIXES = {".bmp", ".dng", ".jpeg", ".jpg", ".mpo", ".png", ".tif", ".tiff", ".webp"}
TRAINER_FORMATS = {"BMP", "JPEG", "MPO", "PNG", "TIFF", "WEBP"}

# Pictures as people have them, by their suffixes, and their formats.
KINDS = {
    "jpg": "JPEG", "JPG": "JPEG", "jpeg": "JPEG", "jpe": "JPEG", "jfif": "JPEG", "png": "PNG",
    "apng": "PNG", "webp": "WEBP", "gif": "GIF", "bmp": "BMP", "dib": "BMP", "tif": "TIFF",
    "tiff": "TIFF", "avif": "AVIF", "jp2": "JPEG2000", "j2k": "JPEG2000", "jpx": "JPEG2000",
    "ppm": "PPM", "pgm": "PPM", "pbm": "PPM", "pnm": "PPM", "tga": "TGA", "qoi": "QOI",
}  # fmt: skip


@pytest.mark.parametrize("images", ["copy", "link"])
def test_yolo_folders_hold_what_trainers_open(tmp_path: Path, images: Images) -> None:
    folder, out = tmp_path / "photos", tmp_path / "out"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    for suffix, kind in KINDS.items():
        picture = Image.fromarray(pixels).convert({"pbm": "1", "pgm": "L"}.get(suffix, "RGB"))
        picture.save(folder / f"{suffix}-picture.{suffix}", kind)
    Image.fromarray(pixels).save(folder / "in-truth-a-gif.png", "GIF")
    upright = Image.Exif()
    upright[0x0112] = 6
    Image.fromarray(pixels).save(folder / "turned.avif", exif=upright)
    names = find_pictures(folder, out)
    assert len(names) == len(KINDS) + 2
    settings = FormatSettings(validation=0, images=images)
    writer = dataset_writer(
        "yolo", folder=folder, out=out, names=names, words=WORDS, settings=settings
    )
    for _ in range(2):  # by a second call as well
        for name in names:
            loaded = read_image(folder / name)
            digest = digest_file(folder / name)
            writer.add(name, digest, Segmentation(loaded.pixels, "instance", WORDS.names, ()))
    stems = flat_stems(names)
    written = {path.stem: path for path in (out / "images" / "train").iterdir()}
    assert set(written) == set(stems.values())
    for name in names:
        path = written[stems[name]]
        assert path.suffix in TRAINER_SUFFIXES
        with Image.open(path) as picture:
            assert picture.format in TRAINER_FORMATS
        assert np.array_equal(read_image(path).pixels, read_image(folder / name).pixels)
        same = path.read_bytes() == (folder / name).read_bytes()
        with Image.open(folder / name) as picture:
            assert same == (picture.format in TRAINER_FORMATS)  # nothing is encoded without need
        assert path.is_symlink() == (same and images == "link")
    assert {path.stem for path in (out / "labels" / "train").iterdir()} == set(written)


def test_panoptic_maps_hold_every_segment(scenes: Scenes, tmp_path: Path) -> None:
    document = json.loads(scenes.label(tmp_path, "panoptic").read_text())
    assert {c["name"]: c["isthing"] for c in document["categories"]} == {
        category.name: int(category.thing) for category in WORDS.categories
    }
    results = scenes.results("panoptic")
    for entry, result in zip(document["annotations"], results.values(), strict=True):
        pixels = np.asarray(Image.open(tmp_path / "panoptic" / entry["file_name"]))
        ids = rgb_to_ids(pixels)
        assert np.array_equal(ids, result.label_map)
        assert {s["id"] for s in entry["segments_info"]} == set(np.unique(ids).tolist()) - {0}


def test_label_studio_tasks_name_the_pictures(scenes: Scenes, tmp_path: Path) -> None:
    tasks = json.loads(scenes.label(tmp_path / "a", "label-studio").read_text())
    results = scenes.results("instance")
    served = f"/data/local-files/?d={scenes.folder.name}/"
    assert [task["data"]["image"] for task in tasks] == [served + name for name in results]
    for task, result in zip(tasks, results.values(), strict=True):
        (prediction,) = task["predictions"]
        assert prediction["result"] == result.to_label_studio()
    settings = FormatSettings(regions="polygon", image_url="https://host/")
    tasks = json.loads(scenes.label(tmp_path / "b", "label-studio", settings).read_text())
    assert tasks[4]["data"]["image"] == "https://host/more/4.png"
    kinds = {region["type"] for task in tasks for region in task["predictions"][0]["result"]}
    assert kinds == {"polygonlabels"}


def test_label_studio_tasks_hold_keys_as_they_are(tmp_path: Path) -> None:
    writer = dataset_writer(
        "label-studio",
        folder=tmp_path,
        out=tmp_path / "out",
        names=["a b/50%.png"],
        words=WORDS,
        settings=FormatSettings(image_url="s3://bucket/photos/"),
    )
    picture = np.zeros((4, 6, 3), np.uint8)
    writer.add("a b/50%.png", "", Segmentation(picture, "instance", WORDS.names, ()))
    (task,) = json.loads(writer.finish().read_text())
    assert task["data"]["image"] == "s3://bucket/photos/a b/50%.png"
