"""What EVA02-CLIP and the Perception Encoder have in common: a ViT with two kinds of positions.

Learned positions are added to the tokens, and besides queries and keys of patches are turned by
their place (rotary positions), which the class token's are not. The words are read by OpenAI's text
transformer.

Shapes as in `tower.py`; G is a grid of patches, (rows, columns).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPTextConfig, PreTrainedConfig, PreTrainedModel
from transformers.models.clip.modeling_clip import CLIPTextModel

from masqclip.towers.tower import Block, Part, Turns

_TEMPERATURE = 10_000.0
#: log(1 / 0.07), as OpenAI's CLIP starts.
INITIAL_SCALE = 2.6592


class RotaryTokens(nn.Module):
    """A picture's patches with their learned positions, behind a class token or without.

    Args:
        width: D.
        image_size, patch_size: sides, in pixels.
        class_token: whether there is one.
        bias: of the patches' projection.
    """

    def __init__(
        self, width: int, *, image_size: int, patch_size: int, class_token: bool, bias: bool
    ) -> None:
        super().__init__()
        self.side = image_size // patch_size
        self.prefix = int(class_token)
        self.patch_embedding = nn.Conv2d(3, width, patch_size, stride=patch_size, bias=bias)
        self.class_embedding = nn.Parameter(torch.randn(width) * 0.02) if class_token else None
        places = self.prefix + self.side**2
        self.position_embedding = nn.Parameter(torch.randn(places, width) * 0.02)

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Tokens [B,T,D] of pictures [B,3,H,W], and their grid."""
        patches = self.patch_embedding(pixel_values)
        grid = (int(patches.shape[-2]), int(patches.shape[-1]))
        tokens = patches.flatten(2).transpose(1, 2)
        if self.class_embedding is not None:
            token = self.class_embedding.expand(tokens.shape[0], 1, -1)
            tokens = torch.cat([token, tokens], dim=1)
        return tokens + self.positions(grid), grid

    def positions(self, grid: tuple[int, int]) -> Tensor:
        """[T,D]: the learned ones, for another grid resampled bicubically and without aliasing.

        That is how timm resamples them; the class token keeps its own.
        """
        own = self.position_embedding
        if grid == (self.side, self.side):
            return own
        square = own[self.prefix :].float().unflatten(0, (self.side, self.side))
        resampled = F.interpolate(
            square.permute(2, 0, 1)[None], size=grid, mode="bicubic", antialias=True
        )
        patches = resampled[0].flatten(1).T.to(own.dtype)
        return torch.cat([own[: self.prefix], patches])


def patch_turns(
    grid: tuple[int, int],
    head_width: int,
    *,
    trained: int,
    start: int,
    columns_first: bool,
    prefix: int,
    like: Tensor,
) -> Turns:
    """Cosines and sines [T,D/N] by which the queries and keys of a grid of patches are turned.

    A place is counted in patches and stretched so that every grid ends where the trained one does.
    A half of the angles goes by the row and a half by the column; each turns a pair of neighbours.

    Args:
        grid: of patches.
        head_width: D/N.
        trained: the side of the grid that rotary positions were trained on.
        start: the place of the first patch.
        columns_first: which half comes first.
        prefix: C, tokens before the patches, which are not turned.
        like: whose device and type they have.
    """
    count = head_width // 4
    steps = torch.arange(count, device=like.device, dtype=torch.float32) / count
    bands = 1.0 / _TEMPERATURE**steps
    rows, columns = (
        (torch.arange(side, device=like.device, dtype=torch.float32) + start) / side * trained
        for side in grid
    )
    by_row = (rows[:, None] * bands)[:, None].expand(-1, grid[1], -1)
    by_column = (columns[:, None] * bands)[None].expand(grid[0], -1, -1)
    halves = (by_column, by_row) if columns_first else (by_row, by_column)
    angles = torch.cat(halves, dim=-1).flatten(0, 1).repeat_interleave(2, dim=-1)
    angles = F.pad(angles, (0, 0, prefix, 0))  # an angle of zero turns nothing
    return angles.cos().to(like.dtype), angles.sin().to(like.dtype)


def turned(x: Tensor, turns: Turns | None) -> Tensor:
    """Queries or keys [B,N,T,D/N], each pair of neighbouring numbers turned by its angle."""
    if turns is None:
        return x
    cosines, sines = turns
    crossed = torch.stack([-x[..., 1::2], x[..., ::2]], dim=-1).flatten(-2)
    return x * cosines + crossed * sines


class RotaryAttention(nn.Module):
    """The projections of attention.

    Args:
        width: D.
        key_bias: whether keys have a bias.
        inner_norm: what stands between attention and its output projection.
    """

    def __init__(self, width: int, *, key_bias: bool, inner_norm: nn.Module) -> None:
        super().__init__()
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width, bias=key_bias)
        self.v_proj = nn.Linear(width, width)
        self.norm = inner_norm
        self.out_proj = nn.Linear(width, width)

    def project(self, part: Part, read: Tensor) -> Tensor:
        projected: Tensor = getattr(self, f"{part}_proj")(read)
        return projected

    def weights(self, part: Part) -> tuple[Tensor, Tensor | None]:
        projection: nn.Linear = getattr(self, f"{part}_proj")
        return projection.weight, projection.bias

    def output(self, mixed: Tensor) -> Tensor:
        """[B,T,D] of what attention gave, [B,N,T,D/N]."""
        gathered: Tensor = self.out_proj(self.norm(mixed.transpose(1, 2).flatten(2)))
        return gathered


class RotaryLayer(nn.Module):
    """A block; see `masqclip.towers.tower.Block`. Norms stand before attention and the MLP.

    Args:
        width: D.
        heads: N.
        eps: of the norms.
        attention: of it.
        mlp: of it, [B,T,D] to [B,T,D].
    """

    reads_itself = False

    def __init__(
        self, width: int, heads: int, eps: float, *, attention: RotaryAttention, mlp: nn.Module
    ) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.attention = attention
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.mlp = mlp

    def read(self, hidden: Tensor) -> Tensor:
        normed: Tensor = self.norm1(hidden)
        return normed

    ask = read

    def project(self, part: Part, read: Tensor) -> Tensor:
        return self.attention.project(part, read)

    def weights(self, part: Part) -> tuple[Tensor, Tensor | None]:
        return self.attention.weights(part)

    def turn(self, x: Tensor, turns: Turns | None) -> Tensor:
        return turned(x, turns)

    def finish(self, hidden: Tensor, mixed: Tensor) -> Tensor:
        hidden = hidden + self.attention.output(mixed)
        after: Tensor = hidden + self.mlp(self.norm2(hidden))
        return after


class RotaryTower:
    """A picture tower with a class token; see `masqclip.towers.tower.Tower`.

    Args:
        clip: a `RotaryClipModel`.
    """

    family = ""
    first = 0

    def __init__(self, clip: Any) -> None:
        vision = clip.vision_model
        self.vision: Any = vision
        self.projection: nn.Module = clip.visual_projection
        self.modules: Sequence[nn.Module] = (vision, self.projection)
        self.image_size: int = vision.config.image_size
        self.patch_size: int = vision.config.patch_size
        self.width: int = vision.config.hidden_size
        self.prefix: int = vision.embeddings.prefix
        self.blocks: list[Block] = list(vision.layers)

    def start(self, pixel_values: Tensor) -> tuple[Tensor, Turns | None]:
        """Positions of other grids are resampled (`RotaryTokens`) and stretched (`patch_turns`)."""
        tokens, grid = self.vision.embeddings(pixel_values)
        return self.vision.pre_norm(tokens), self.vision.turns(grid, tokens)

    def own_embedding(self) -> Tensor:
        """The position of the class token."""
        return self._positions()[0]

    def own_start(self, embedding: Tensor) -> Tensor:
        return self.vision.pre_norm(self.vision.embeddings.class_embedding + embedding)

    def embed(self, own: Tensor) -> Tensor:
        return self.projection(self.vision.norm(own))

    def moving(self) -> Mapping[str, Tensor]:
        """The position of the class token, as in `masqclip.towers.clip.ClipTower`."""
        return {"class_position": self._positions()[0]}

    def frozen(self) -> Mapping[str, Tensor]:
        name = "embeddings.position_embedding"
        numbers = dict(self.vision.state_dict())
        return numbers | {name: numbers[name][self.prefix :]}

    def _positions(self) -> Tensor:
        return self.vision.embeddings.position_embedding


class RotaryClipConfig(PreTrainedConfig):
    """Both towers' configurations, and the size of the space that they share.

    Args:
        vision_config, text_config: of the towers; the latter transformers' `CLIPTextConfig`.
        projection_dim: E.
        logit_scale_init_value: what the logarithm of the temperature's inverse starts as.
    """

    def __init__(
        self,
        *,
        vision_config: Any = None,
        text_config: Any = None,
        projection_dim: int = 512,
        logit_scale_init_value: float = INITIAL_SCALE,
        **kwargs: Any,
    ) -> None:
        self.vision_config = _part(vision_config, self.sub_configs["vision_config"])
        self.text_config = _part(text_config, CLIPTextConfig)
        self.projection_dim = projection_dim
        self.logit_scale_init_value = logit_scale_init_value
        super().__init__(**kwargs)


class RotaryClipModel(PreTrainedModel):
    """Two towers, with what masks and vocabularies need of them.

    Attributes:
        vision_model: the picture tower; `visual_projection` stands behind it.
        text_model: the word tower; `text_projection` stands behind it.
        logit_scale: the logarithm of what cosines are multiplied by.
    """

    base_model_prefix = "clip"
    main_input_name = "pixel_values"
    _supports_sdpa = True
    vision_class: ClassVar[Any]

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        vision, text = config.vision_config, config.text_config
        self.vision_model = self.vision_class(vision)
        self.visual_projection = nn.Linear(vision.hidden_size, config.projection_dim)
        self.text_model = CLIPTextModel._from_config(text)
        self.text_projection = nn.Linear(text.hidden_size, config.projection_dim, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(float(config.logit_scale_init_value)))
        self.post_init()

    def _init_weights(self, module: Any) -> None:
        """The picture tower initialises itself, and transformers the word tower."""


def _part(given: Any, config_class: Any) -> Any:
    return given if isinstance(given, PreTrainedConfig) else config_class(**(given or {}))
