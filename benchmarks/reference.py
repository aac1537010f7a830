"""The published formulation of MasQCLIP, written plainly: what `speed.py` measures against.

It shares the weights of the model under test and computes the same results in the way that the
paper's equations and its published code are laid out:

- proposer: every decoder layer predicts full masks at stride 4 and shrinks them to its attention
  mask; deformable attention lines the samples of all levels up in one tensor;
- CLIP: all tokens in one sequence (class token, patches, mask class tokens), explicit attention
  matrices, and a full-size float mask that says who may attend to whom;
- decoding: all masks at the picture's size at once, all class scores as one K x H x W tensor.

Shapes: B pictures, Q proposals, P patches, D width, N heads, K classes, H x W pixels.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Collection
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.mask2former import modeling_mask2former

from masqclip.encoding import EncodedImage, frame_picture
from masqclip.model import MasQClipModel
from masqclip.proposals.base import Proposals, object_log_scores

_Attention = modeling_mask2former.Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention


class PublishedFormulation:
    """The plain reference of a model, on the model's own weights.

    Args:
        model: a MasQCLIP with a Mask2Former proposer.
    """

    def __init__(self, model: MasQClipModel) -> None:
        self.model = model
        self.mask2former = plain_mask2former(model.proposer.segmenter)

    def propose(self, pixels: Tensor) -> Proposals:
        """Masks and object scores of frames [B,3,H,W] in 0..255."""
        config = self.model.config
        mean = pixels.new_tensor(config.pixel_mean).view(3, 1, 1)
        std = pixels.new_tensor(config.pixel_std).view(3, 1, 1)
        frames = ((pixels - mean) / std).to(self.model.dtype)
        output = self.mask2former(pixel_values=frames, output_auxiliary_logits=True)
        return Proposals(output.masks_queries_logits, output.class_queries_logits)

    def embed(self, pixels: Tensor, mask_logits: Tensor) -> Tensor:
        """Mask embeddings [B,Q,E]: CLIP over patches and mask class tokens as one sequence."""
        model, clip = self.model, self.model.clip
        vision, settings = clip.vision_model, clip.config.vision_config
        side, patch = settings.image_size, settings.patch_size
        stretched = F.interpolate(pixels / 255, (side, side), mode="bicubic", align_corners=False)
        mean = pixels.new_tensor(model.config.clip_mean).view(3, 1, 1)
        std = pixels.new_tensor(model.config.clip_std).view(3, 1, 1)
        image = vision.embeddings(((stretched - mean) / std).to(model.dtype))
        token = vision.embeddings.class_embedding + model.queries.embedding
        batch, queries = mask_logits.shape[:2]
        hidden = torch.cat([image, token.expand(batch, queries, -1)], dim=1)
        hidden = vision.pre_layrnorm(hidden)
        bias = attention_bias(mask_logits, side, patch, settings.num_attention_heads)
        bias = bias.to(hidden.dtype)
        for layer, projection in zip(vision.encoder.layers, model.queries.projections, strict=True):
            hidden = _block(layer, projection, hidden, image.shape[1], bias)
        return clip.visual_projection(vision.post_layernorm(hidden[:, image.shape[1] :]))

    def log_probs(self, object_logits: Tensor, embeddings: Tensor, rows: Tensor) -> Tensor:
        """[Q,K] of one picture; `rows` are K classes and "background"."""
        classes = self.model.classify(embeddings[None], rows, len(rows) - 1)[0]
        return object_log_scores(object_logits).unsqueeze(-1) + classes

    def encode(self, picture: Any) -> EncodedImage:
        """What `Segmenter.encode` does: the picture's proposals and their embeddings.

        Args:
            picture: a `LoadedImage`.
        """
        frame, inside = frame_picture(picture.pixels, self.model.config)
        pixels = frame[None].to(self.model.device)
        proposals = self.propose(pixels)
        return EncodedImage(
            image=picture,
            mask_logits=proposals.mask_logits[0].float(),
            object_logits=proposals.object_logits[0].float(),
            mask_embeddings=self.embed(pixels, proposals.mask_logits)[0].float(),
            tokens=None,  # type: ignore[arg-type]  # its one sequence leaves none for later masks
            frame_size=(pixels.shape[2], pixels.shape[3]),
            resized=inside,
        )


def plain_mask2former(segmenter: nn.Module) -> Any:
    """transformers' own Mask2Former around the same parameters, without this package's changes."""
    shared = [*segmenter.parameters(), *segmenter.buffers()]
    plain = copy.deepcopy(segmenter, memo={id(tensor): tensor for tensor in shared})
    for module in plain.modules():
        if isinstance(module, _Attention):
            module.__class__ = _Attention
    return plain


def attention_bias(mask_logits: Tensor, side: int, patch: int, heads: int) -> Tensor:
    """0 where a token may attend and -inf elsewhere: [B*N, 1+P+Q, 1+P+Q] float."""
    batch, queries = mask_logits.shape[:2]
    resized = F.interpolate(mask_logits.float(), (side, side), mode="bilinear", align_corners=False)
    covered = F.max_pool2d(resized, patch).flatten(2) > 0
    tokens = 1 + covered.shape[-1]
    bias = mask_logits.new_zeros(batch, tokens + queries, tokens + queries)
    bias[:, :, tokens:] = -math.inf  # nobody attends to a mask class token
    bias[:, tokens:, 1:tokens].masked_fill_(~covered, -math.inf)
    return bias.repeat_interleave(heads, dim=0)


def _block(layer: Any, own_query: nn.Module, hidden: Tensor, tokens: int, bias: Tensor) -> Tensor:
    """A CLIP block over all tokens; those after the first `tokens` have queries of their own."""
    attention = layer.self_attn
    normed = layer.layer_norm1(hidden)
    query = torch.cat([attention.q_proj(normed[:, :tokens]), own_query(normed[:, tokens:])], dim=1)
    heads = attention.num_heads
    query, key, value = (
        x.unflatten(-1, (heads, -1)).transpose(1, 2).flatten(0, 1)
        for x in (query, attention.k_proj(normed), attention.v_proj(normed))
    )
    scores = query @ key.transpose(1, 2) / math.sqrt(query.shape[-1]) + bias
    mixed = scores.softmax(dim=-1) @ value
    mixed = mixed.unflatten(0, (-1, heads)).transpose(1, 2).flatten(2)
    hidden = hidden + attention.out_proj(mixed)
    return hidden + layer.mlp(layer.layer_norm2(hidden))


# Decoding


def full_masks(encoded: EncodedImage) -> Tensor:
    """All masks at the picture's size: [Q,H,W] logits, by way of the padded frame."""
    frame = F.interpolate(
        encoded.mask_logits[None], encoded.frame_size, mode="bilinear", align_corners=False
    )
    inside = frame[:, :, : encoded.resized[0], : encoded.resized[1]]
    size = (encoded.image.height, encoded.image.width)
    return F.interpolate(inside, size, mode="bilinear", align_corners=False)[0]


def semantic(masks: Tensor, log_probs: Tensor) -> Tensor:
    """Class map [H,W], out of scores K x H x W."""
    return torch.einsum("qk,qhw->khw", log_probs.exp(), masks.sigmoid()).argmax(dim=0)


def instance(masks: Tensor, log_probs: Tensor, top_k: int = 100) -> tuple[Tensor, Tensor, Tensor]:
    """Masks [N,H,W], scores [N] and classes [N] of the best pairs."""
    scores, pairs = log_probs.exp().flatten().topk(min(top_k, log_probs.numel()))
    chosen = masks[pairs // log_probs.shape[1]]
    binary = (chosen > 0).float()
    inside = (chosen.sigmoid() * binary).flatten(1).sum(1) / (binary.flatten(1).sum(1) + 1e-6)
    return binary, scores * inside, pairs % log_probs.shape[1]


def panoptic(
    masks: Tensor,
    log_probs: Tensor,
    stuff_ids: Collection[int],
    object_threshold: float = 0.3,
    overlap_threshold: float = 0.3,
) -> Tensor:
    """Segment map [H,W], 0 where nobody is."""
    scores, labels = log_probs.exp().max(dim=1)
    keep = scores > object_threshold
    scores, labels, probs = scores[keep], labels[keep], masks.sigmoid()[keep]
    result = torch.zeros(masks.shape[1:], dtype=torch.int32, device=masks.device)
    if len(scores) == 0:
        return result
    owner = (scores.view(-1, 1, 1) * probs).argmax(dim=0)
    segments, stuff = 0, {}
    for query, label in enumerate(labels.tolist()):
        mask = (owner == query) & (probs[query] >= 0.5)
        own, whole = (owner == query).sum().item(), (probs[query] >= 0.5).sum().item()
        if mask.sum().item() == 0 or own / whole < overlap_threshold:
            continue
        if label in stuff:
            result[mask] = stuff[label]
            continue
        segments += 1
        if label in stuff_ids:
            stuff[label] = segments
        result[mask] = segments
    return result
