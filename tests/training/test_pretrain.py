"""Contrastive pretraining with several captions a picture and captions of other pictures."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from streams import read_back

from masqclip.errors import MasqclipError
from masqclip.training.pretrain import PretrainStage
from masqclip.training.settings import PretrainSettings
from masqclip.training.stage import batch_losses
from masqclip.training.windows import normalise, window_features

CAPTIONS = [["red"], ["red", "round"], ["blue"], ["blue", "square"], ["green"], [], ["a red dot"]]
SMALL = PretrainSettings(
    image_size=32, vision_width=16, vision_layers=1, vision_heads=2, text_width=16, text_layers=1,
    text_heads=2, embedding_size=16, merges=20, batch_size=4,
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    (tmp_path / "annotations").mkdir()
    chance = np.random.default_rng(0)
    images, annotations = [], []
    for number, captions in enumerate(CAPTIONS):
        pixels = chance.integers(0, 256, (16, 16, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "height": 16, "width": 16})
        annotations += [{"image_id": number, "caption": caption} for caption in captions]
    content = {"images": images, "annotations": annotations}
    (tmp_path / "annotations" / "captions.json").write_text(json.dumps(content))
    return tmp_path


def stage(folder: Path, **changes: int) -> PretrainStage:
    return PretrainStage([folder], PretrainSettings(**{**vars(SMALL), **changes}))


def test_a_picture_without_caption_is_left_out(folder: Path) -> None:
    assert stage(folder).data == {"pictures": 6, "captions": 8}


def test_every_caption_of_a_picture_is_its_own(folder: Path) -> None:
    made = stage(folder, batch_size=6)
    batch = made.batch(0)
    texts = read_back(made, batch)
    found = [
        {texts[column] for column in row.nonzero().flatten().tolist()} for row in batch["described"]
    ]
    expected = [set(captions) for captions in CAPTIONS if captions]
    assert len(texts) == len({caption for captions in CAPTIONS for caption in captions})
    assert sorted(map(sorted, found)) == sorted(map(sorted, expected))


def test_the_loss_by_hand(folder: Path) -> None:
    made = stage(folder, batch_size=6)
    batch, _ = made.prepare(made.batch(0))
    clip = made.module
    with torch.no_grad():
        images = F.normalize(
            window_features(clip, normalise(batch["pixels"]), batch["corner"]), dim=-1
        )
        pooled = clip.text_model(input_ids=batch["tokens"]).pooler_output
        texts = F.normalize(clip.text_projection(pooled), dim=-1)
        logits = (images @ texts.T * clip.logit_scale.exp()).numpy().astype(float)
    described = batch["described"].numpy()
    rows = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    columns = logits - np.log(np.exp(logits).sum(0, keepdims=True))
    by_image = [-rows[i][described[i]].mean() for i in range(len(rows))]
    by_text = [-columns[:, j][described[:, j]].mean() for j in range(rows.shape[1])]
    expected = (np.mean(by_image) + np.mean(by_text)) / 2
    assert float(made.losses(batch, {})["loss"].detach()) == pytest.approx(expected, rel=1e-5)


def test_extra_captions_are_new_ones_and_only_negatives(folder: Path) -> None:
    plain, more = stage(folder, batch_size=2), stage(folder, batch_size=2, extra_captions=100)
    for step in range(4):
        batch = more.batch(step)
        texts = read_back(more, batch)
        assert len(set(texts)) == len(texts) > batch["described"].shape[1]
        assert torch.equal(batch["described"], plain.batch(step)["described"])
        assert batch_losses(more, batch)["loss"] > batch_losses(plain, plain.batch(step))["loss"]


def test_an_unreadable_picture_is_left_out(folder: Path) -> None:
    (folder / "images" / "0.png").write_bytes(b"no picture")
    made = stage(folder, batch_size=12)  # every picture twice
    batch = made.batch(0)
    assert (~batch["described"].any(dim=1)).sum() == 2
    assert torch.isfinite(made.losses(batch | {"pixels": batch["pixels"] / 255}, {})["loss"])
    with pytest.raises(MasqclipError, match=r"more than a tenth .*0\.png"):
        made.prepare(batch)  # one of six is too many


def test_pairs_start_as_unlikely_as_a_batch_makes_them(folder: Path) -> None:
    """One of its captions fits a picture: with the published bias, of 32,768, none seems to."""
    made = PretrainStage([folder], replace(SMALL, family="siglip", extra_captions=6))
    assert made.module.logit_bias.item() == pytest.approx(-math.log(10))
    assert made.module.logit_scale.exp().item() == pytest.approx(10)
