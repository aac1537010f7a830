"""Record what timm's and open_clip's towers answer, for the tests and the benchmark of parity.

COMMAND, in an environment of its own with torch, torchvision, timm and open_clip_torch (1.0.29 and
3.3.0 were recorded with; the package's own environment has none of them):

    python tests/references/record_towers.py small     # tests/data/towers/*.safetensors
    python tests/references/record_towers.py full      # tests/data/towers/full-*.safetensors

No weights are recorded: they follow from the tensors' names (`tower_recipe.py`), which stand with
their shapes in a file's metadata. Its tensors are the answers: ``image-HxW`` for pictures of that
size, ``text`` for the tokens of `TEXTS`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import open_clip
import timm.models.eva
import timm.models.vision_transformer
import torch
from safetensors.torch import save_file
from torch import Tensor

TESTS = Path(__file__).parents[1]
sys.path.insert(0, str(TESTS))
from tower_recipe import picture, tokens, weights  # noqa: E402

DATA = TESTS / "data" / "towers"
TEXTS = (1, 3, 6)  # words of each
TEXT = {"context_length": 12, "vocab_size": 99, "width": 32, "heads": 2, "layers": 2}
SIGLIP_TEXT = {
    "hf_tokenizer_name": "", "no_causal_mask": True, "proj_bias": True, "pool_type": "last",
    "norm_kwargs": {"eps": 1e-6}, "act_kwargs": {"approximate": "tanh"},
}  # fmt: skip
SIZES = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 2}
# Of each small model: the tower of timm's that it is made from, what is changed in it, how it is
# pooled, and its text tower.
SMALL: dict[str, tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "eva02": (
        "eva02_base_patch16_clip_224",
        SIZES,
        {"timm_pool": "token", "timm_proj": None},
        TEXT,
    ),
    "pe": (
        "vit_pe_core_base_patch16_224",
        SIZES | {"ref_feat_shape": (4, 4)},
        {"timm_pool": "map", "timm_proj": None},
        TEXT,
    ),
    "pe-giant": (
        "vit_pe_core_gigantic_patch14_448",
        SIZES | {"ref_feat_shape": (4, 4)},
        {"timm_pool": "map", "timm_proj": None},
        TEXT,
    ),
    "siglip": (
        "vit_base_patch16_siglip_224",
        SIZES,
        {"timm_pool": "map", "timm_proj": "none"},
        TEXT | SIGLIP_TEXT,
    ),
}
OTHER_SIZES = ((48, 48), (40, 24), (16, 56))
FULL = ("EVA02-B-16", "EVA02-L-14-336", "PE-Core-B-16", "PE-Core-L-14-336", "ViT-B-16-SigLIP2")


def small_model(name: str) -> Any:
    """A small model of a family, in open_clip, with a tower of timm's of other sizes."""
    tower, sizes, pooled, text = SMALL[name]
    module = timm.models.vision_transformer if "siglip" in tower else timm.models.eva
    function = getattr(module, tower)
    timm.create_model.__globals__["model_entrypoint"] = lambda *_, **__: (
        lambda pretrained=False, **rest: function(
            pretrained=pretrained,
            **{key: value for key, value in rest.items() if not key.startswith("pretrained")},
            **sizes,
        )
    )
    config = {
        "embed_dim": 32 if name == "siglip" else 24,
        "vision_cfg": {"image_size": 32, "timm_model_name": tower} | pooled,
        "text_cfg": text,
        "custom_text": True,
    }
    if name == "siglip":
        config["init_logit_bias"] = -10
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, f"small-{name}.json").write_text(json.dumps(config))
        open_clip.add_model_config(folder)
        return open_clip.create_model(f"small-{name}", pretrained=None)


@torch.no_grad()
def record(name: str, make: Any, others: Sequence[tuple[int, int]], count: int) -> None:
    """Write one file: a fresh model for each size, so that none is resampled twice."""
    found: dict[str, Tensor] = {}
    model = make()
    own = tuple(model.visual.image_size)
    shapes = {key: list(value.shape) for key, value in model.state_dict().items()}
    for size in (own, *others):
        model = make().eval()
        model.load_state_dict(weights(shapes))
        if size != own:
            model.visual.set_input_size(size)
        found[f"image-{size[0]}x{size[1]}"] = model.encode_image(picture(size, count))
    text = model.text
    found["text"] = model.encode_text(tokens(text.vocab_size, text.context_length, TEXTS))
    DATA.mkdir(parents=True, exist_ok=True)
    tensors = {key: value.contiguous() for key, value in found.items()}
    told = {"shapes": json.dumps(shapes, separators=(",", ":"))}
    save_file(tensors, DATA / f"{name}.safetensors", metadata=told)
    spread = {key: round(float(value.std()), 3) for key, value in tensors.items()}
    print(name, spread, flush=True)


if __name__ == "__main__":
    torch.manual_seed(0)
    if sys.argv[1:] == ["small"]:
        for each in SMALL:  # a SigLIP's positions are resampled as transformers does it
            others = () if each == "siglip" else OTHER_SIZES
            record(each, lambda each=each: small_model(each), others, 2)
    elif sys.argv[1:2] == ["full"]:
        for each in sys.argv[2:] or FULL:
            side = open_clip.get_model_config(each)["vision_cfg"]["image_size"]
            patch = 14 if "-14" in each else 16
            wide = () if "SigLIP" in each else ((side + 2 * patch, side - 4 * patch),)
            record(f"full-{each}", lambda each=each: open_clip.create_model(each), wide, 1)
