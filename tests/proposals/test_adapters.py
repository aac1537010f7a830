"""Every family of segmenters as a class-agnostic proposer, end to end from folders made here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from families import FAMILIES
from transformers import (
    CONFIG_MAPPING,
    CLIPConfig,
    CLIPModel,
    Mask2FormerForUniversalSegmentation,
)

from masqclip import MasqclipError, Segmenter
from masqclip.hub.kinds import _DETECTORS, ANY, check_kind
from masqclip.proposals.adapters import ADAPTERS, build_proposer, load_proposer
from masqclip.proposals.mask2former import Mask2FormerProposer
from masqclip.proposals.segmenters import OneFormerProposer
from masqclip.towers.tokenizer import load_tokenizer


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    tower = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2,
             "num_attention_heads": 2}  # fmt: skip
    config = CLIPConfig(
        vision_config=tower | {"image_size": 32, "patch_size": 8},
        text_config=tower | {"vocab_size": 49_408, "eos_token_id": 49_407},
        projection_dim=16,
    )
    folder = tmp_path_factory.mktemp("clip")
    CLIPModel(config).save_pretrained(folder)
    load_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=FAMILIES)
def proposer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp(request.param)
    FAMILIES[request.param]().save_pretrained(folder)
    size = {"size": {"shortest_edge": 64, "longest_edge": 96}}
    (folder / "preprocessor_config.json").write_text(json.dumps(size))
    return folder


def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (60, 90, 3), dtype=np.uint8)


def test_end_to_end(proposer: Path, clip: Path, tmp_path: Path) -> None:
    segmenter = Segmenter.from_parts(clip, proposer)
    config = segmenter.model.config
    assert (config.shortest_edge, config.longest_edge) == (64, 96)
    encoded = segmenter.encode(picture())
    assert encoded.frame_size == (64, 96)
    assert encoded.mask_logits.shape == (7, 16, 24)
    assert encoded.object_logits.shape == (7, 2)
    assert torch.isfinite(encoded.object_logits).all()
    result = segmenter(encoded, ["cat", "sofa"], min_score=0.0)
    assert result.image.shape == (60, 90, 3)
    # The joined model saves and loads as one, and says the same.
    segmenter.save_pretrained(tmp_path / "model")
    loaded = Segmenter.from_pretrained(tmp_path / "model")
    weights = loaded.model.state_dict()
    for name, tensor in segmenter.model.state_dict().items():
        assert torch.equal(weights[name], tensor), name
    again = loaded.encode(picture())
    torch.testing.assert_close(again.mask_logits, encoded.mask_logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(again.object_logits, encoded.object_logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(again.mask_embeddings, encoded.mask_embeddings, atol=1e-4, rtol=1e-4)


def test_batches_do_not_matter(proposer: Path) -> None:
    propose = load_proposer(proposer).eval()
    frames = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(2))
    inside = torch.zeros(2, 64, 96, dtype=torch.bool)
    inside[0, :60, :90], inside[1, :, :64] = True, True
    frames = frames * inside[:, None]
    with torch.no_grad():
        both = propose(frames, inside)
        one = propose(frames[1:], inside[1:])
    torch.testing.assert_close(both.mask_logits[1:], one.mask_logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(both.object_logits[1:], one.object_logits, atol=1e-4, rtol=1e-4)


def test_another_size_than_the_folders(clip: Path, tmp_path: Path) -> None:
    """It counts where the folder's own cannot be followed, if it is whole."""
    FAMILIES["mask2former-swin"]().save_pretrained(tmp_path)
    file = tmp_path / "preprocessor_config.json"
    file.write_text('{"size": {"shortest_edge": 64, "longest_edge": 96}}')
    for size, edges in ((32, (32, 48)), ("32:40", (32, 40)), ((40, 80), (40, 80))):
        config = Segmenter.from_parts(clip, tmp_path, size=size).model.config
        assert (config.shortest_edge, config.longest_edge) == edges
    file.write_text('{"do_resize": false}')
    for size in (None, 32):
        with pytest.raises(MasqclipError, match=r"do_resize = false, .*--size SHORTEST:LONGEST"):
            Segmenter.from_parts(clip, tmp_path, size=size)
    config = Segmenter.from_parts(clip, tmp_path, size="32:40").model.config
    assert (config.shortest_edge, config.longest_edge) == (32, 40)


def test_as_many_queries_as_a_published_one_has(tmp_path: Path) -> None:
    """Those with Swin-B and Swin-L have 200; their names become one object score."""
    config = FAMILIES["mask2former-swin"]().config
    config.num_queries = 200
    config.id2label = {i: f"class {i}" for i in range(133)}
    Mask2FormerForUniversalSegmentation(config).save_pretrained(tmp_path)
    proposer = load_proposer(tmp_path).eval()
    assert isinstance(proposer, Mask2FormerProposer)
    assert proposer.num_queries == 200
    with torch.no_grad():
        found = proposer(torch.zeros(1, 3, 64, 96), torch.ones(1, 64, 96, dtype=torch.bool))
    assert found.mask_logits.shape == (1, 200, 16, 24)
    assert found.object_logits.shape == (1, 200, 2)


def test_black_beside_the_picture(clip: Path, tmp_path: Path) -> None:
    """EoMT sees black there, which depends on how a model normalises."""
    FAMILIES["eomt"]().save_pretrained(tmp_path)
    told = {"image_mean": 0.5, "image_std": 0.25}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(told))
    segmenter = Segmenter.from_parts(clip, tmp_path)
    assert segmenter.model.proposer.black == (-2.0, -2.0, -2.0)
    segmenter.save_pretrained(tmp_path / "model")
    loaded = Segmenter.from_pretrained(tmp_path / "model")
    assert loaded.model.proposer.black == (-2.0, -2.0, -2.0)


def test_the_task_that_oneformer_is_asked_for() -> None:
    tokens = load_tokenizer()("the task is panoptic")["input_ids"]
    assert tuple(tokens) == OneFormerProposer.TASK


def test_every_family_is_tried() -> None:
    assert {name.split("-")[0] for name in FAMILIES} == set(ADAPTERS)


def test_what_is_no_proposer(tmp_path: Path, clip: Path) -> None:
    with pytest.raises(MasqclipError, match="there is no proposer 'nowhere'"):
        load_proposer("nowhere")
    with pytest.raises(MasqclipError, match=r"is a CLIP \(model_type 'clip'\), which proposes no"):
        load_proposer(clip)
    with pytest.raises(MasqclipError, match=r"holds no model: there is no config.json in it"):
        load_proposer(tmp_path)
    with pytest.raises(MasqclipError, match="no proposer of type 'clip' is known"):
        build_proposer("clip", {})
    (tmp_path / "config.json").write_text('{"model_type": "eomt"}')
    with pytest.raises(MasqclipError, match="no EomtForUniversalSegmentation can be loaded"):
        load_proposer(tmp_path)


BOXES, NOTHING = "which makes boxes and no masks", "which proposes no masks here"


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_type": "sam_hq"}, f"a SAM-HQ (model_type 'sam_hq'), {NOTHING}"),
        ({"model_type": "segformer"}, f"a SegFormer (model_type 'segformer'), {NOTHING}"),
        ({"model_type": "upernet"}, f"a UPerNet (model_type 'upernet'), {NOTHING}"),
        ({"model_type": "new_kind"}, f"a new_kind (model_type 'new_kind'), {NOTHING}"),
        ({"model_type": "detr"}, f"a DETR (model_type 'detr'), {BOXES}"),
        ({"model_type": "detr", "architectures": ["DetrForSegmentation"]}, f"'detr'), {NOTHING}"),
        ({"model_type": "rt_detr"}, f"an RT-DETR (model_type 'rt_detr'), {BOXES}"),
        ({"model_type": "yolos"}, f"a YOLOS (model_type 'yolos'), {BOXES}"),
        ({"model_type": "grounding-dino"}, f"(model_type 'grounding-dino'), {BOXES}"),
        ({"model_type": "edgetam"}, "an EdgeTAM (model_type 'edgetam'), which needs"),
    ],
)  # fmt: skip
def test_other_kinds_are_refused_by_name(
    tmp_path: Path, config: dict[str, object], said: str
) -> None:
    """Before a weight is read: there is none in the folder."""
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(MasqclipError) as caught:
        load_proposer(tmp_path)
    line = str(caught.value)
    assert said in line
    assert "use a Mask2Former, MaskFormer, OneFormer, EoMT, SAM, SAM 2 or SAM 3" in line
    # The same where it would be fetched.
    with pytest.raises(MasqclipError) as again:
        check_kind(tmp_path, what="proposer", name=str(tmp_path))
    assert str(again.value) == line


def test_every_named_detector_is_one_of_transformers() -> None:
    assert set(CONFIG_MAPPING) >= _DETECTORS


@pytest.mark.parametrize(
    ("kind", "backbone", "needs"),
    [
        ("oneformer", "dinat", "natten"),
        ("mask2former", "dinat", "natten"),
        ("mask2former", "timm_backbone", "the package timm"),
    ],
)
def test_backbones_that_need_more_than_torch(
    tmp_path: Path, kind: str, backbone: str, needs: str
) -> None:
    config = {"model_type": kind, "backbone_config": {"model_type": backbone}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    for refuse in (
        lambda: load_proposer(tmp_path),
        lambda: check_kind(tmp_path, what="proposer", name="x"),
        lambda: check_kind(tmp_path, what=ANY, name="x"),
    ):
        with pytest.raises(MasqclipError, match=f"{backbone}.*{needs}.*Swin or ResNet"):
            refuse()


def test_a_whole_model_is_no_proposer(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "masqclip"}')
    with pytest.raises(MasqclipError, match=r"whole model of this package .* use it as --model"):
        load_proposer(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(MasqclipError, match=r"its config\.json has no model_type"):
        load_proposer(tmp_path)
