"""The main job end to end, on the shipped model and on a tiny random one."""

from __future__ import annotations

import copy
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from masqclip.configuration import MasQClipConfig
from masqclip.data.stickers.scenes import Scenes, SceneSettings, StickerWorld
from masqclip.data.stickers.sprites import load_sprites
from masqclip.encoding import EncodedImage
from masqclip.errors import MasqclipError
from masqclip.model import MasQClipModel
from masqclip.proposals.mask2former import Mask2FormerProposer, miniature_mask2former_config
from masqclip.result import Task
from masqclip.segmenter import Segmenter
from tiny import SPRITES, tiny_clip

NAMES = ["cat", "dog", "car", "grass", "sky"]


@pytest.fixture(scope="module")
def mini() -> Segmenter:
    return Segmenter.from_pretrained("masqclip-mini", device="cpu")


@pytest.fixture(scope="module")
def tiny() -> Segmenter:
    """Random weights, 64-pixel pictures: quick, and as good as any for what must always hold."""
    clip, tokenizer = tiny_clip()
    proposer = Mask2FormerProposer(miniature_mask2former_config(num_queries=10)).eval()
    model = MasQClipModel.from_parts(clip, proposer, shortest_edge=64, longest_edge=128)
    return Segmenter(model, tokenizer)


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    settings = SceneSettings(size=128, min_things=2, max_things=4)
    return StickerWorld(load_sprites(SPRITES), settings).draw(4242, range(24))


def pixels(scenes: Scenes, i: int) -> np.ndarray:
    return scenes.images[i].permute(1, 2, 0).numpy()


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 255, (height, width, 3), dtype=np.uint8)


def test_the_shipped_model_finds_what_stands_in_its_world(mini: Segmenter, scenes: Scenes) -> None:
    """Of the things in held-out scenes most are found: right mask, right name of the 26 drawn."""
    names = sorted({region.name for regions in scenes.regions for region in regions})
    hits = total = 0
    for i, regions in enumerate(scenes.regions):
        result = mini(pixels(scenes, i), names, task="instance", min_score=0.05)
        for region in regions:
            if not region.thing or region.area < 200:
                continue
            truth = scenes.id_maps[i].numpy() == region.id
            total += 1
            hits += any(
                segment.name == region.name
                and (segment.mask & truth).sum() / (segment.mask | truth).sum() > 0.5
                for segment in result.segments
            )
    assert total > 40
    assert hits / total > 0.5


@pytest.mark.parametrize("task", ["instance", "semantic", "panoptic"])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (50, 90), (300, 40)])
def test_masks_have_the_pictures_own_size(
    tiny: Segmenter, task: Task, height: int, width: int
) -> None:
    result = tiny(noise(height, width), NAMES, task=task, min_score=0.0)
    assert result.task == task
    assert result.names == tuple(NAMES)
    for segment in result.segments:
        assert segment.mask.shape == (height, width)
        assert segment.name == NAMES[segment.class_id]
        assert 0 <= segment.score <= 1
    if task != "instance":
        assert sum(segment.area for segment in result.segments) <= height * width


def test_a_new_vocabulary_needs_no_new_encoding(tiny: Segmenter) -> None:
    image = noise(60, 70)
    encoded = tiny.encode(image)
    for names in (NAMES, ["dog", "sky"]):
        direct, reused = tiny(image, names, min_score=0.0), tiny(encoded, names, min_score=0.0)
        assert np.array_equal(direct.label_map, reused.label_map)


def test_results_do_not_depend_on_the_batch(tiny: Segmenter) -> None:
    images = [noise(64, 64), noise(64, 100), noise(80, 64), noise(65, 65)]
    together = tiny(images, NAMES, min_score=0.0)
    streamed = list(tiny.stream(iter(images), NAMES, batch_size=3, min_score=0.0))
    for image, a, b in zip(images, together, streamed, strict=True):
        alone = tiny(image, NAMES, min_score=0.0)
        assert np.mean(alone.label_map == a.label_map) > 0.999
        assert np.mean(alone.label_map == b.label_map) > 0.999
        assert np.array_equal(a.image, image)


def test_a_folder_is_a_stream_of_pictures(tiny: Segmenter, tmp_path: Path) -> None:
    for i in (2, 10, 1):
        Image.fromarray(noise(40 + i, 50)).save(tmp_path / f"{i}.png")
    results = list(tiny.stream(tmp_path, NAMES, batch_size=2))
    assert [result.image.shape[0] for result in results] == [41, 42, 50]


def test_names_follow_when_the_list_is_reordered_or_cut(tiny: Segmenter) -> None:
    encoded = tiny.encode(noise(64, 64))
    forward = tiny(encoded, NAMES, "semantic", min_score=0.0)
    backward = tiny(encoded, NAMES[::-1], "semantic", min_score=0.0)
    by_name = {segment.name: segment.mask for segment in backward.segments}
    assert by_name.keys() == {segment.name for segment in forward.segments}
    for segment in forward.segments:
        assert np.array_equal(segment.mask, by_name[segment.name])
    only = tiny(encoded, NAMES[-1:], "semantic", min_score=0.0)
    assert {segment.name for segment in only.segments} == {NAMES[-1]}


def test_threads_share_a_segmenter(tiny: Segmenter) -> None:
    """Pictures, encoded ones, words and tasks of eight threads do not mix."""
    pictures = [noise(40 + i, 60) for i in range(4)]
    images = [*pictures, *(tiny.encode(picture) for picture in pictures)]
    tasks: tuple[Task, ...] = ("instance", "semantic", "panoptic")
    calls = [
        (images[i % 8], [f"dog {i % 5}", "cat", f"sky {i % 11}"], tasks[i % 3]) for i in range(80)
    ]

    def found(call: tuple[object, list[str], Task]) -> list[tuple[str, float, float]]:
        image, words, task = call
        result = tiny(image, words, task, min_score=0.01)
        return [(s.name, s.area / 100, s.score) for s in result.segments]

    tiny.text.clear()
    alone = [found(call) for call in calls]
    tiny.text.clear()
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(found, calls))
    for one, other in zip(alone, together, strict=True):
        assert [name for name, *_ in one] == [name for name, *_ in other]
        for (_, *numbers), (_, *others) in zip(one, other, strict=True):
            assert numbers == pytest.approx(others, abs=0.05)


def test_distractors_compete_and_are_never_reported(mini: Segmenter, scenes: Scenes) -> None:
    encoded = mini.encode(pixels(scenes, 0))
    thing = max((r for r in scenes.regions[0] if r.thing), key=lambda r: r.area).name
    wrong = "key" if thing != "key" else "bell"
    truth = scenes.id_maps[0].numpy()[None] == [
        [[region.id]] for region in scenes.regions[0] if region.name == thing
    ]
    alone = mini.classify_masks(encoded, truth, [wrong])
    against = mini.classify_masks(encoded, truth, [wrong], distractors=[thing])
    assert against.scores[0] <= alone.scores[0]
    result = mini(encoded, [wrong], min_score=0.0, distractors=[thing])
    assert {segment.name for segment in result.segments} <= {wrong}


def test_masks_from_elsewhere_are_named(mini: Segmenter, scenes: Scenes) -> None:
    names = sorted({region.name for regions in scenes.regions for region in regions})
    right = total = 0
    for i, regions in enumerate(scenes.regions):
        things = [region for region in regions if region.thing and region.area > 200]
        truth = scenes.id_maps[i].numpy()
        masks = np.stack([truth == region.id for region in things])
        found = mini.classify_masks(pixels(scenes, i), masks, names)
        assert found.probs.shape == (len(things), len(names))
        right += sum(name == r.name for name, r in zip(found.names, things, strict=True))
        total += len(things)
    assert right / total > 10 / len(names)  # ten times chance


def test_mask_embeddings_are_unit_vectors_and_fit_the_picture(tiny: Segmenter) -> None:
    masks = np.zeros((3, 50, 60), bool)
    masks[0, 5:30, 5:30], masks[1, 40, 7] = True, True  # a single pixel, and an empty mask
    embeddings = tiny.embed_masks(noise(50, 60), masks)
    torch.testing.assert_close(embeddings.norm(dim=-1), torch.ones(3))
    assert not torch.allclose(embeddings[0], embeddings[1])
    assert tiny.embed_masks(noise(50, 60), masks[:0]).shape[0] == 0
    with pytest.raises(MasqclipError, match="do not fit"):
        tiny.embed_masks(noise(60, 50), masks)


def test_ten_thousand_names(tiny: Segmenter) -> None:
    names = [f"thing number {i}" for i in range(10_000)]
    result = tiny(noise(64, 64), names, "semantic", min_score=0.0)
    assert len(result.names) == 10_000


def test_a_model_survives_its_folder(tiny: Segmenter, tmp_path: Path) -> None:
    tiny.model.save_pretrained(tmp_path)
    tiny.text.tokenizer.save_pretrained(tmp_path)
    again = Segmenter.from_pretrained(tmp_path, device="cpu", dtype="float32")
    image = noise(64, 80)
    first = tiny(image, NAMES, min_score=0.0)
    assert np.array_equal(first.label_map, again(image, NAMES, min_score=0.0).label_map)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "masqclip"


def test_untuned_queries_start_as_the_configuration_says(tiny: Segmenter) -> None:
    config = tiny.model.config.to_dict()
    vision = tiny.model.clip.vision_model
    first = vision.encoder.layers[0].self_attn.q_proj.weight
    assert torch.equal(tiny.model.queries.projections[0].weight, first)
    random = MasQClipModel(MasQClipConfig(**(config | {"query_start": "random"})))
    own = random.clip.vision_model.encoder.layers[0].self_attn.q_proj.weight
    assert not torch.allclose(random.queries.projections[0].weight, own)


def test_post_processing_as_in_transformers(tiny: Segmenter) -> None:
    batch = torch.from_numpy(np.stack([noise(64, 64), noise(65, 64)[:64]])).permute(0, 3, 1, 2)
    words = tiny.text.embed_strings(NAMES)
    rows = torch.nn.functional.normalize(torch.cat([words, words[:1]]), dim=-1)
    with torch.no_grad():
        outputs = tiny.model(batch.float(), text_embeddings=rows)
    sizes = [(64, 64), (100, 120)]
    semantic = tiny.model.post_process_semantic_segmentation(outputs, target_sizes=sizes)
    assert [tuple(one.shape) for one in semantic] == sizes
    panoptic = tiny.model.post_process_panoptic_segmentation(
        outputs, threshold=0.0, label_ids_to_fuse={3, 4}, target_sizes=sizes
    )
    for one, size in zip(panoptic, sizes, strict=True):
        assert tuple(one["segmentation"].shape) == size
        ids = set(one["segmentation"].unique().tolist()) - {0}
        assert ids <= {info["id"] for info in one["segments_info"]}
        for info in one["segments_info"]:
            assert info["was_fused"] == (info["label_id"] in (3, 4))
    instances = tiny.model.post_process_instance_segmentation(
        outputs, threshold=0.0, target_sizes=sizes, return_binary_maps=True
    )
    assert len(instances[0]["segments_info"]) == len(instances[0]["segmentation"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "segmentic"}, "'instance', 'semantic' or 'panoptic'"),
        ({"min_score": 2.0}, "0 to 1"),
        ({"vocabulary": []}, "name"),
        ({"vocabulary": ["cat", "cat"]}, "cat"),
        ({"vocabulary": ["word " * 90]}, "77"),
    ],
)
def test_mistakes_are_told(tiny: Segmenter, arguments: dict[str, object], message: str) -> None:
    call = {"vocabulary": NAMES} | arguments
    with pytest.raises(MasqclipError, match=message):
        tiny(noise(20, 20), **call)  # type: ignore[arg-type]


def test_a_missing_model_names_the_shipped_ones(tmp_path: Path) -> None:
    with pytest.raises(MasqclipError, match="masqclip-mini"):
        Segmenter.from_pretrained("masqclip-maxi")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(MasqclipError, match="cannot be loaded"):
        Segmenter.from_pretrained(tmp_path)
    Image.new("RGB", (4, 4)).save(tmp_path / "picture.png")
    with pytest.raises(MasqclipError):
        Segmenter.from_pretrained(tmp_path / "picture.png")


def test_broken_weights_are_refused(tiny: Segmenter, tmp_path: Path) -> None:
    tiny.model.save_pretrained(tmp_path)
    tiny.text.tokenizer.save_pretrained(tmp_path)
    weights = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(MasqclipError, match="cannot be loaded"):
        Segmenter.from_pretrained(tmp_path)


def test_an_encoded_picture_can_be_given_in_a_list(tiny: Segmenter) -> None:
    encoded = tiny.encode(noise(40, 40))
    assert isinstance(encoded, EncodedImage)
    results = tiny([encoded, noise(40, 40)], NAMES, min_score=0.0)
    assert len(results) == 2


def test_a_saved_model_is_for_its_readers(tiny: Segmenter, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        tiny.save_pretrained(tmp_path / "whole")
        tiny.model.save_pretrained(tmp_path / "model")
    finally:
        os.umask(before)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"model.safetensors", "config.json"} <= {path.name for path in files}
    assert {path.stat().st_mode & 0o777 for path in files} == {0o640}


def test_an_incomplete_model_is_refused(tiny: Segmenter, tmp_path: Path) -> None:
    tiny.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["queries.embedding"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(MasqclipError, match=r"is incomplete: it has no 'queries\.embedding'"):
        Segmenter.from_pretrained(tmp_path)


def test_queries_go_from_one_model_to_another(tiny: Segmenter, tmp_path: Path) -> None:
    """The halves on their own and an add-on make the same model again."""
    tiny.model.clip.save_pretrained(tmp_path / "clip")
    tiny.text.tokenizer.save_pretrained(tmp_path / "clip")
    tiny.model.proposer.save_pretrained(tmp_path / "proposer")
    tuned = Segmenter(copy.deepcopy(tiny.model), tiny.text.tokenizer)
    with torch.no_grad():
        tuned.model.queries.embedding.normal_()
    tuned.model.save_queries(tmp_path / "queries.safetensors")
    parts = (tmp_path / "clip", tmp_path / "proposer")
    joined = Segmenter.from_parts(*parts, tmp_path / "queries.safetensors")
    for field in ("shortest_edge", "longest_edge"):
        setattr(joined.model.config, field, getattr(tuned.model.config, field))
    expected = tuned.encode(noise(64, 80)).mask_embeddings
    assert torch.equal(joined.encode(noise(64, 80)).mask_embeddings, expected)
    untuned = Segmenter.from_parts(*parts)
    assert not torch.equal(untuned.model.queries.embedding, joined.model.queries.embedding)
