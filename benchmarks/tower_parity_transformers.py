"""Full-size towers of random weights against transformers, on a picture of 640 x 480.

    python benchmarks/tower_parity_transformers.py [NAME ...]

A mask that covers everything, untuned, must read what transformers' own image features are, at the
tower's square and at a size of another aspect. Weights are drawn on the spot: none is downloaded.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import cyclopts
import torch
from torch import Tensor
from transformers import (
    MetaClip2Config,
    MetaClip2Model,
    SiglipConfig,
    SiglipModel,
    Tipsv2Config,
    Tipsv2Model,
)

from masqclip.clip.masked_vision import MaskQueries, encode_and_embed
from masqclip.clip.patches import input_size
from masqclip.towers.families import tower_of
from masqclip.towers.tower import Tower

SMALL_TEXT = {"num_hidden_layers": 1, "vocab_size": 1_000}


def _siglip(image: int, patch: int, width: int, mlp: int, layers: int) -> Any:
    sizes = {"hidden_size": width, "intermediate_size": mlp, "num_attention_heads": 16}
    vision = sizes | {"image_size": image, "patch_size": patch, "num_hidden_layers": layers}
    return SiglipModel(SiglipConfig(vision_config=vision, text_config=sizes | SMALL_TEXT))


def _metaclip2() -> Any:
    vision = {
        "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32,
        "num_attention_heads": 16, "image_size": 224, "patch_size": 14,
    }  # fmt: skip
    text = {"hidden_size": 1024, "num_attention_heads": 16, "eos_token_id": 2} | SMALL_TEXT
    return MetaClip2Model(
        MetaClip2Config(vision_config=vision, text_config=text, projection_dim=1024)
    )


def _tips() -> Any:
    vision = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}
    text = {"hidden_size": 1024, "num_attention_heads": 16} | SMALL_TEXT
    return Tipsv2Model(Tipsv2Config(vision_config=vision, text_config=text))


MODELS = {
    "siglip-so400m-patch14-384": lambda: _siglip(384, 14, 1152, 4304, 27),
    "siglip2-large-patch16-384": lambda: _siglip(384, 16, 1024, 4096, 24),
    "metaclip-2-huge-14": _metaclip2,
    "tipsv2-l14": _tips,
}


def compare(name: str) -> None:
    """Print the largest difference, of what size numbers are, seconds and parameters."""
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    tower = tower_of(model)
    queries = MaskQueries(tower)
    queries.start(tower)
    picture = torch.randn(1, 3, 480, 640)
    parameters = sum(p.numel() for module in tower.modules for p in module.parameters())
    square = (tower.image_size // tower.patch_size * tower.patch_size,) * 2
    for how, size in (("square", square), ("aspect", input_size(tower, (480, 640), "aspect"))):
        pixels = torch.nn.functional.interpolate(picture, size=size, mode="bicubic")
        theirs, seconds = _timed(_features, model, pixels)
        patches = size[0] // tower.patch_size * (size[1] // tower.patch_size)
        whole = torch.ones(1, 1, patches, dtype=torch.bool)
        ours, own = _timed(_read, tower, queries, pixels, whole)
        print(
            f"{name} {how} {size[0]}x{size[1]}: max error {(ours - theirs).abs().max():.1e} of "
            f"{theirs.abs().max():.2f}, {own:.1f} s (transformers {seconds:.1f} s), "
            f"{parameters / 1e6:.0f} M parameters"
        )


def _features(model: Any, pixels: Tensor) -> Tensor:
    more = {} if model.config.model_type == "tipsv2" else {"interpolate_pos_encoding": True}
    found: Tensor = model.get_image_features(pixel_values=pixels, **more).pooler_output
    return found


def _read(tower: Tower, queries: MaskQueries, pixels: Tensor, visible: Tensor) -> Tensor:
    return encode_and_embed(tower, queries, pixels, visible)[1][:, 0]


def _timed(run: Callable[..., Tensor], *given: Any) -> tuple[Tensor, float]:
    with torch.no_grad():
        start = time.perf_counter()
        return run(*given), time.perf_counter() - start


def main(*names: str) -> None:
    """Compare the towers that are named, or all."""
    for name in names or MODELS:
        compare(name)


if __name__ == "__main__":
    cyclopts.run(main)
