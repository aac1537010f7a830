"""What of other libraries would bind a graph to the traced picture, made open while one is traced.

Nothing here changes what a model computes, and all of it is undone afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import EomtDinov3ForUniversalSegmentation, EomtForUniversalSegmentation
from transformers.models.mask2former import modeling_mask2former
from transformers.models.swin import modeling_swin

_EOMT = (EomtForUniversalSegmentation, EomtDinov3ForUniversalSegmentation)


@contextmanager
def traceable(module: nn.Module) -> Iterator[None]:
    """Have a module traced with sizes left open.

    Args:
        module: in evaluation mode, with the models that it is made of.
    """
    with ExitStack() as stack:
        stack.enter_context(_positions_not_kept())
        stack.enter_context(_windows_always_cut())
        stack.enter_context(patch.object(nn.BatchNorm2d, "forward", _scaled))
        # The exporter writes attention as its plain products, whose result lies otherwise in
        # memory than that of the fast kernels; a view that fits one does not fit the other.
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        for part in module.modules():
            if isinstance(part, _EOMT):
                stack.enter_context(_known_mask_shares(part))
        yield


@contextmanager
def _positions_not_kept() -> Iterator[None]:
    """transformers keeps Mask2Former's position encodings of the last size in a cache, which asks
    an open size for its value: every other size would then get those of the traced one."""
    embedding: Any = modeling_mask2former.Mask2FormerSinePositionEmbedding
    name = "build_sine_position_embedding"
    with patch.object(embedding, name, staticmethod(getattr(embedding, name).__wrapped__)):
        yield


def _scaled(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Batch norm in evaluation as a product and a sum.

    The exporter would multiply the weights of the convolution before it by its own, and what a
    model stores in half precision would be so no more. Runtimes join the three when they load them.
    """
    assert norm.running_var is not None
    assert norm.running_mean is not None
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    shift = norm.bias - norm.running_mean * scale
    return x * scale.view(-1, 1, 1) + shift.view(-1, 1, 1)


@contextmanager
def _windows_always_cut() -> Iterator[None]:
    """Swin cuts off what filled its windows up only if something did, which depends on the size.
    Told that something always does, it cuts at the picture's own size, which is right of all."""
    layer: Any = modeling_swin.SwinLayer
    pad = layer.maybe_pad

    def padded(self: Any, hidden: Tensor, height: int, width: int) -> tuple[Tensor, list[int]]:
        return pad(self, hidden, height, width)[0], [1] * 6

    with patch.object(layer, "maybe_pad", padded):
        yield


@contextmanager
def _known_mask_shares(segmenter: Any) -> Iterator[None]:
    """EoMT asks a tensor which of its blocks mask their attention: as numbers they are known."""
    shares: Tensor = segmenter.attn_mask_probs
    kept = "attn_mask_probs" in segmenter._non_persistent_buffers_set
    del segmenter.attn_mask_probs
    segmenter.attn_mask_probs = shares.tolist()
    try:
        yield
    finally:
        del segmenter.attn_mask_probs
        segmenter.register_buffer("attn_mask_probs", shares, persistent=not kept)


def masks_by_chance(module: nn.Module) -> bool:
    """Whether an EoMT is among its models that masks some of its attention by chance, as while it
    is trained: no graph gives what it gives, and neither does it twice."""
    shares = [part.attn_mask_probs for part in module.modules() if isinstance(part, _EOMT)]
    return any(bool(((share > 0) & (share < 1)).any()) for share in map(torch.as_tensor, shares))
