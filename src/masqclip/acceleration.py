"""Compiling a model: `torch.compile`, and on CUDA its graphs, over shapes that stay.

What is compiled are the proposer, masked CLIP, and the path of masks that come later. Each distinct
frame size is compiled once, which takes minutes, so this pays where many pictures of few sizes
come. Masks are padded to a multiple of `MASK_STEP`, because their number changes from picture to
picture and every new number would be a new shape.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from masqclip.baselines.lseg import LSegModel
from masqclip.baselines.openseg import OpenSegModel
from masqclip.clip.masked_vision import ImageTokens
from masqclip.errors import MasqclipError
from masqclip.model import MasQClipModel
from masqclip.proposals.base import Proposals

MASK_STEP = 20


def compile_model(model: MasQClipModel, *, backend: str = "inductor") -> None:
    """Compile a model's inference in place; results stay the same up to rounding.

    Args:
        model: on the device that it is to run on.
        backend: of `torch.compile`. On CUDA the default records graphs as well.

    Raises:
        MasqclipError: its system runs none of these.
    """
    if isinstance(model, LSegModel | OpenSegModel):
        raise MasqclipError(
            f"a model of the system {model.system!r} has no proposer and no masked CLIP to "
            "compile: run it as it is"
        )
    graphs = backend == "inductor" and model.device.type == "cuda"
    options: dict[str, Any] = {"backend": backend, "dynamic": False}
    if graphs:
        options["mode"] = "reduce-overhead"
    propose: Any = torch.compile(model.propose, **options)
    encode: Any = torch.compile(model.encode_and_embed, **options)
    embed: Any = torch.compile(model.embed_patches, **options)

    def embed_padded(tokens: ImageTokens, visible: Tensor) -> Tensor:
        found = embed(tokens, F.pad(visible, (0, 0, 0, -visible.shape[1] % MASK_STEP)))
        return _kept(found, graphs)[:, : visible.shape[1]]

    def encode_padded(pixel_values: Tensor, mask_logits: Tensor) -> tuple[ImageTokens, Tensor]:
        tokens, found = encode(pixel_values, _padded(mask_logits))
        kept = ImageTokens(
            tuple(_kept(key, graphs) for key in tokens.keys),
            tuple(_kept(value, graphs) for value in tokens.values),
        )
        return kept, _kept(found, graphs)[:, : mask_logits.shape[1]]

    def propose_kept(pixel_values: Tensor, pixel_mask: Tensor) -> Proposals:
        proposals: Proposals = propose(pixel_values, pixel_mask)
        proposals.mask_logits = _kept(proposals.mask_logits, graphs)
        proposals.object_logits = _kept(proposals.object_logits, graphs)
        return proposals

    model.propose = propose_kept  # type: ignore[method-assign]
    model.encode_and_embed = encode_padded  # type: ignore[method-assign]
    model.embed_patches = embed_padded  # type: ignore[method-assign]


def _padded(mask_logits: Tensor) -> Tensor:
    """With empty masks beside them, of logits of 0: mask class tokens do not see one another."""
    return F.pad(mask_logits, (0, 0, 0, 0, 0, -mask_logits.shape[1] % MASK_STEP))


def _kept(result: Tensor, graphs: bool) -> Tensor:
    """A graph writes its next results over these, so they are copied out of it."""
    return result.clone() if graphs else result
