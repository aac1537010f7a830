"""Small models to be exported, and graphs of them ready to be run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from masqclip import Segmenter
from masqclip.graphs.export import graphs_of
from masqclip.graphs.modules import picture_mask
from masqclip.towers.eva02 import Eva02ClipConfig, Eva02ClipModel
from masqclip.towers.pe import PeClipConfig, PeClipModel
from masqclip.towers.tokenizer import load_tokenizer
from tiny import write_tiny_clip

for _room in ("clip", "proposals"):
    sys.path.append(str(Path(__file__).parents[1] / _room))

from families import FAMILIES as SEGMENTERS  # noqa: E402
from family_folders import write_family  # noqa: E402

_VISION = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
           "num_attention_heads": 2, "image_size": 32, "patch_size": 8}  # fmt: skip
_TEXT = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1,
         "num_attention_heads": 2, "vocab_size": 49_408}  # fmt: skip
_POOLING = {"pooling_heads": 2, "pooling_intermediate_size": 48}


#: Of the squares that small EoMTs see, in pixels.
SIDE = 96


def segmenter_of(folder: Path, proposer: str, clip: str, **settings: Any) -> Segmenter:
    """A model of random weights.

    Args:
        folder: for its parts.
        proposer: of `families.FAMILIES`.
        clip: ``clip``, ``eva02``, ``pe``, or of `family_folders.FAMILIES`.
        settings: of `Segmenter.from_parts`.
    """
    write_proposer(folder / proposer, proposer)
    write_clip(folder / clip, clip)
    size = f"{SIDE}:{SIDE}" if proposer.startswith("eomt") else 64
    settings = {"device": "cpu", "size": size} | settings
    return Segmenter.from_parts(folder / clip, folder / proposer, **settings)


def write_proposer(folder: Path, kind: str) -> None:
    torch.manual_seed(3)
    model = SEGMENTERS[kind]()
    if kind.startswith("eomt"):  # three units of frames: less than all, and more than one
        config = type(model.config)(**(model.config.to_dict() | {"image_size": SIDE}))
        model = type(model)(config)
    stirred(model, 0.05).save_pretrained(folder)


def write_clip(folder: Path, kind: str) -> None:
    torch.manual_seed(4)
    if kind == "clip":
        write_tiny_clip(folder)
    elif kind in ("eva02", "pe"):
        config: Any = (
            Eva02ClipConfig(vision_config=_VISION, text_config=_TEXT, projection_dim=16)
            if kind == "eva02"
            else PeClipConfig(
                vision_config=_VISION | _POOLING, text_config=_TEXT, projection_dim=16
            )
        )
        model = stirred((Eva02ClipModel if kind == "eva02" else PeClipModel)(config), 0.1)
        model.save_pretrained(folder)
        load_tokenizer().save_pretrained(folder)
    else:
        write_family(folder, kind)


@torch.no_grad()
def stirred(model: Any, spread: float) -> Any:
    """Weights none of which is zero, so that nothing is left out unseen."""
    for name, parameter in model.named_parameters():
        if "scale" not in name:
            parameter.add_(spread * torch.randn_like(parameter))
    return model.eval()


class Traced:
    """A graph of a model that is traced and not written, with its module.

    Args:
        segmenter: whose.
        name: of the graph.
        frame: (H, W) of the only frame; None = any.
    """

    def __init__(
        self, segmenter: Segmenter, name: str, frame: tuple[int, int] | None = None
    ) -> None:
        import onnx_ir

        graph = graphs_of(segmenter, frame)[name]
        self.module: nn.Module = graph.module
        self.outputs = graph.outputs
        self.model = graph.traced(20)
        content = onnx_ir.to_proto(self.model).SerializeToString()
        self.session = onnxruntime.InferenceSession(content)

    def run(self, **inputs: Tensor) -> list[Tensor]:
        found = self.session.run(self.outputs, {name: x.numpy() for name, x in inputs.items()})
        return [torch.from_numpy(np.asarray(x)) for x in found]


def pictures(
    frame: tuple[int, int], inside: tuple[int, int], count: int = 1
) -> tuple[Tensor, Tensor]:
    """Pictures of noise in a frame: `pixels` and `size` as graphs take them."""
    chance = torch.Generator().manual_seed(frame[0] + 3 * frame[1] + count)
    pixels = torch.rand(count, 3, *frame, generator=chance) * 255
    size = torch.tensor([inside] * count)
    return pixels * picture_mask(pixels, size).unsqueeze(1), size


@torch.inference_mode()
def seen_by_model(segmenter: Segmenter, pixels: Tensor, size: Tensor) -> list[Tensor]:
    """What the model itself gives, which is not traced."""
    seen = segmenter.model.see(pixels, picture_mask(pixels, size))
    return [seen.proposals.mask_logits, seen.proposals.object_logits, seen.mask_embeddings]


def apart(found: list[Tensor], told: list[Tensor]) -> float:
    """The greatest difference."""
    assert [x.shape for x in found] == [x.shape for x in told]
    return max(float((x - y).abs().max()) for x, y in zip(found, told, strict=True))
