"""MasQ-Tuning's loss and gradients, against what the authors' code computed on the same model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig

from masqclip.clip.classifier import clip_logits
from masqclip.convert.mask2former import mask2former_to_transformers
from masqclip.model import MasQClipModel
from masqclip.proposals.mask2former import Mask2FormerProposer
from masqclip.towers.openai_clip import vision_tower_to_transformers
from masqclip.training.naming import assign_labels, tuning_loss
from masqclip.weights.checkpoint import read_state_dict

DATA = Path(__file__).parent.parent / "data"


def published_model(setting: str) -> MasQClipModel:
    """The recorded checkpoint; its text tower is not part of it, and plays no part here."""
    weights = read_state_dict(DATA / f"masqclip_{setting}.pth")
    config, proposing = mask2former_to_transformers(
        {name: t for name, t in weights.items() if not name.startswith("masqclip.")}
    )
    proposer = Mask2FormerProposer(config)
    proposer.segmenter.load_state_dict(proposing)
    tower = vision_tower_to_transformers(weights)
    size = tower.config.projection_dim
    text = CLIPTextConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=1, intermediate_size=16,
        vocab_size=16, bos_token_id=0, eos_token_id=1, projection_dim=size,
    )  # fmt: skip
    clip = CLIPModel(
        CLIPConfig(
            text_config=text.to_dict(), vision_config=tower.config.to_dict(), projection_dim=size
        )
    )
    clip.load_state_dict(tower.state_dict, strict=False)
    model = MasQClipModel.from_parts(clip, proposer, logit_scale=100.0)
    with torch.no_grad():
        for layer, (weight, bias) in zip(
            model.queries.projections, tower.query_projections, strict=True
        ):
            layer.load_state_dict({"weight": weight, "bias": bias})
        model.queries.embedding.copy_(tower.mask_embedding)
    return model.requires_grad_(False)


@pytest.mark.parametrize("setting", ["instance", "panoptic"])
def test_loss_and_gradients(setting: str) -> None:
    path = DATA / f"masq_tuning_loss_{setting}.safetensors"
    with safe_open(path, "pt") as file:
        recorded = {name: json.loads(value) for name, value in file.metadata().items()}
    golden = load_file(path)
    text = load_file(DATA / f"masqclip_{setting}.safetensors")["text_embeddings"]
    model = published_model(setting)
    queries = model.queries.requires_grad_(True)

    height, width = golden["images"].shape[-2:]
    edges = (0, -width % 32, 0, -height % 32)
    pixels = F.pad(golden["images"], edges).float()
    inside = F.pad(torch.ones(2, height, width, dtype=torch.bool), edges)
    # The published code compares proposals of the padded frame with annotations without padding,
    # which is right only for frames that need none. `TuneStage` pads both; this recording does not.
    masks = golden["gt_masks"].bool()
    with torch.no_grad():
        proposals = model.propose(pixels, inside)
        tokens = model.encode_image(pixels)
        targets = torch.stack([
            assign_labels(
                logits, found, labels,
                background=len(text) - 1,
                threshold=recorded["dice_cost_threshold"],
                size=recorded["target_resolution"],
            )
            for logits, found, labels in zip(
                proposals.mask_logits, masks, golden["gt_classes"], strict=True
            )
        ])  # fmt: skip
    embeddings = model.embed_masks(tokens, proposals.mask_logits)
    loss = recorded["class_weight"] * tuning_loss(
        clip_logits(embeddings, text), targets, background_weight=recorded["no_object_weight"]
    )
    loss.backward()

    torch.testing.assert_close(loss.detach().view(1), golden["loss_ce"], rtol=1e-4, atol=0)
    close(queries.embedding.grad, golden["grad.masqclip.mask_embeddings"])
    for i, layer in enumerate(queries.projections):
        name = f"grad.masqclip.visual.transformer.resblocks.{i}.attn.new_q_proj"
        close(layer.weight.grad, golden[f"{name}.weight"])
        close(layer.bias.grad, golden[f"{name}.bias"])


def close(ours: Tensor | None, theirs: Tensor) -> None:
    """Within a thousandth of the gradient's size."""
    assert ours is not None
    assert (ours - theirs).norm() <= 1e-3 * theirs.norm()
