"""Small pictures as a CLIP in training reads them: windows of its square, alone or laid together.

Laid together they teach a CLIP to tell apart what stands side by side (CLIM, Wu et al., 2024): four
pictures become one, a *mosaic*; each is read under its own patches, as a mask is, and has its own
captions. Nothing is annotated for it. A tower without a class token needs it most: there masks read
patches that have all looked at the whole picture (`masqclip.towers.siglip`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from masqclip.clip.masked_vision import embed_masks, encode_tokens, read_picture
from masqclip.towers.families import tower_of
from masqclip.towers.normalisation import OPENAI, ClipNormalisation

#: Along each side of a mosaic stand so many pictures.
SIDE = 2


def normalise(pixels: Tensor, scale: ClipNormalisation = OPENAI) -> Tensor:
    """Pixels in 0..1 to a CLIP's own scale."""
    mean = pixels.new_tensor(scale["clip_mean"]).view(3, 1, 1)
    std = pixels.new_tensor(scale["clip_std"]).view(3, 1, 1)
    return (pixels - mean) / std


def window_features(
    clip: Any, pixel_values: Tensor, corner: Tensor, kept: Tensor | None = None
) -> Tensor:
    """Image features [B,D] of pictures that are windows of CLIP's input.

    Args:
        clip: the model.
        pixel_values: [B,3,h,w], normalised, sides multiples of the patch size and at most the
            model's image size. At the full size this is CLIP's own forward pass.
        corner: [2] row and column, in patches, of the window's first patch.
        kept: [B,k], the window's patches that are looked at; all unless given.
    """
    tower: Any = tower_of(clip)
    hidden = tower.run(tower.start_window(pixel_values, corner, kept))
    return read_picture(tower, hidden)


def mosaic_features(clip: Any, pixel_values: Tensor, corner: Tensor, kept: Tensor) -> Tensor:
    """Image features [B,D] of pictures that four and four are laid together to a window.

    Args:
        clip: the model.
        pixel_values: [B,3,h,w], normalised, sides multiples of the patch size and at most half of
            the model's image size; B a multiple of four. Four that follow each other are a mosaic:
            the first two above, the others below.
        corner: [2] row and column, in patches, of the mosaic's first patch.
        kept: [B,k], the patches of each picture that are looked at.
    """
    tower: Any = tower_of(clip)
    count, _, height, width = pixel_values.shape
    mosaics = pixel_values.unflatten(0, (-1, SIDE, SIDE))  # [M,2,2,3,h,w]
    mosaics = mosaics.permute(0, 3, 1, 4, 2, 5).reshape(-1, 3, SIDE * height, SIDE * width)
    rows, columns = height // tower.patch_size, width // tower.patch_size
    places = torch.arange(count, device=kept.device).unsqueeze(-1) % SIDE**2
    y = places // SIDE * rows + kept // columns
    x = places % SIDE * columns + kept % columns
    hidden = tower.start_window(mosaics, corner, (y * SIDE * columns + x).view(len(mosaics), -1))
    # A mosaic's patches stand picture by picture, so each picture's are a run of them.
    whose = torch.arange(SIDE**2, device=kept.device)
    visible = whose.unsqueeze(-1) == whose.repeat_interleave(kept.shape[1])
    tokens = encode_tokens(tower, hidden)
    return embed_masks(tower, None, tokens, visible.expand(len(mosaics), -1, -1)).flatten(0, 1)
