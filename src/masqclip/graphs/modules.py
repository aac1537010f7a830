"""The three graphs that a model falls into, as modules that `torch.export` can trace.

    image   pixels -> masks, object scores, mask embeddings     once a picture
    text    tokens -> text embeddings                           once a name
    masks   pixels and given masks -> their embeddings          for masks from elsewhere

A class score is a product of what the first two give, so no list of classes is in any of them.

Shapes: B pictures, H W the padded frame, Q proposals, E embedding size, N texts or given masks,
Hp Wp a picture's own size, T tokens of a text, R C the rows and columns of CLIP's patches.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from masqclip.graphs.square import propose_in_square
from masqclip.model import MasQClipModel
from masqclip.picture_statistics import patch_statistics
from masqclip.proposals.eomt import EomtProposer
from masqclip.towers.tower import Words


class ImageGraph(nn.Module):
    """Pictures to all that is taken from them before any word.

    Args:
        model: of the system masqclip.
        statistics_of: the block whose values tell a picture unlike those of training
            (`masqclip.own_world`); None where nothing does.
    """

    def __init__(self, model: MasQClipModel, statistics_of: int | None = None) -> None:
        super().__init__()
        self.model = model
        self.statistics_of = statistics_of
        mix = model.refinements
        self.mixes = bool(mix.untuned_seen or mix.untuned_unseen)

    @property
    def outputs(self) -> list[str]:
        """The names of what `forward` gives, in order."""
        names = ["mask_logits", "object_logits", "mask_embeddings"]
        names += ["untuned_embeddings"] if self.mixes else []
        return names + (["picture_statistics"] if self.statistics_of is not None else [])

    def forward(self, pixels: Tensor, size: Tensor) -> tuple[Tensor, ...]:
        """See `masqclip.graphs.signature`.

        Args:
            pixels: [B,3,H,W] RGB in 0..255, zero where no picture is.
            size: [B,2] int64, (height, width) of each picture in its frame, at the upper left.
        """
        inside = picture_mask(pixels, size)
        model, proposer = self.model, self.model.proposer
        if isinstance(proposer, EomtProposer):
            normalised = model.normalise(pixels, inside)
            proposals = propose_in_square(proposer, normalised, inside)
        else:
            proposals = model.propose(pixels, inside)
        tokens, embeddings = model.encode_and_embed(pixels, proposals.mask_logits)
        found = [proposals.mask_logits, proposals.object_logits, embeddings]
        if self.mixes:
            found.append(model.embed_untuned(tokens, proposals.mask_logits))
        if self.statistics_of is not None:
            found.append(patch_statistics(tokens, self.statistics_of))
        return tuple(found)


class TextGraph(nn.Module):
    """Tokens to text embeddings.

    Args:
        words: the word tower.
    """

    def __init__(self, words: Words) -> None:
        super().__init__()
        self.words = words
        self.parts = nn.ModuleList(words.modules)  # a view holds no weights itself

    def forward(self, token_ids: Tensor) -> Tensor:
        """[N,E], not normalised, of padded tokens [N,T]."""
        return self.words.embed(token_ids)


class MasksGraph(nn.Module):
    """A picture and masks on it to the masks' embeddings."""

    def __init__(self, model: MasQClipModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor, size: Tensor, masks: Tensor) -> Tensor:
        """[N,E] of length one.

        Args:
            pixels: [1,3,H,W] RGB in 0..255, zero where no picture is.
            size: [1,2] int64, (height, width) of the picture in its frame.
            masks: [N,Hp,Wp] uint8, 0 or 1, on the picture at its own size.
        """
        tokens = self.model.encode_image(pixels)
        weights = self._patch_weights(pixels, size[0], masks)
        return F.normalize(self.model.embed_patches(tokens, weights[None])[0], dim=-1)

    def _patch_weights(self, pixels: Tensor, size: Tensor, masks: Tensor) -> Tensor:
        """[N,R C]: what `masqclip.clip.mask_coverage.patch_weights` gives, in one expression."""
        patch = self.model.tower.patch_size
        grid = [side // patch for side in self.model.clip_size(pixels)]
        down, across = (
            _side_weights(masks.shape[axis + 1], size[axis], pixels.shape[axis + 2], grid[axis])
            for axis in (0, 1)
        )
        shares = down[:, None] @ (masks.float() @ across.transpose(1, 2)[:, None])  # [2,N,R,C]
        filled, near = shares.flatten(2).unbind()
        fullest = filled.amax(dim=1, keepdim=True)
        return near / torch.where(fullest > 0, fullest, torch.ones_like(fullest))


def picture_mask(pixels: Tensor, size: Tensor) -> Tensor:
    """[B,H,W] bool, true where the pictures of frames are; arguments as in `ImageGraph`."""
    rows = torch.arange(pixels.shape[2], device=pixels.device) < size[:, :1]
    columns = torch.arange(pixels.shape[3], device=pixels.device) < size[:, 1:]
    return rows.unsqueeze(2) & columns.unsqueeze(1)


def _side_weights(length: int, resized: Tensor, frame: int, patches: int) -> Tensor:
    """[2,patches,length] along one side, as `masqclip.clip.mask_coverage` has them."""
    edges = torch.arange(length + 1, dtype=torch.float64) * resized * patches / (length * frame)
    centres = torch.arange(patches, dtype=torch.float64)[:, None] + 0.5
    ends = torch.tensor([0.0, patches], dtype=torch.float64)
    offsets = edges - centres
    filled = _steps(_within(offsets, 0.5))
    near = _steps(_tent_below(offsets)) / _steps(_tent_below(ends - centres))
    return torch.stack([filled, near]).float()


def _steps(x: Tensor) -> Tensor:
    return x[:, 1:] - x[:, :-1]


def _tent_below(x: Tensor) -> Tensor:
    x = _within(x, 1.0)
    return x - x * x.abs() / 2


def _within(x: Tensor, most: float) -> Tensor:
    """`clamp(-most, most)`, which the exporter makes wrong of float64."""
    bound = torch.full_like(x, most)
    return torch.maximum(torch.minimum(x, bound), -bound)
