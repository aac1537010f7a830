"""What a picture costs in multiply-adds, counted, and the parameters that are learned (Table 6).

    python benchmarks/gflops.py                              # published sizes, beside the paper
    python benchmarks/gflops.py --model masqclip-mini        # any system of ours, one picture
    python benchmarks/gflops.py --model FOLDER --size 480 640  # of that height and width

Models are described on PyTorch's meta device: no weights, no arithmetic, a few seconds. Counted
are the matrix products and convolutions of everything that a picture passes, attention's products
included; not norms, activations, softmax, resizing, the samples of deformable attention, nor words,
which are encoded once a vocabulary. A multiply-add is one, as in most published figures (CLIP
ViT-L/14 at 336 pixels is given as 191 in that way); GFLOPs of two each stand beside it.

The paper's own figures follow neither: `papers_rule`.
"""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import cyclopts
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPConfig

from masqclip.baselines.maskclip import MaskClipModel
from masqclip.configuration import MasQClipConfig
from masqclip.encoding import frame_sizes
from masqclip.model import MasQClipModel
from masqclip.proposals.adapters import TRAINABLE
from masqclip.proposals.mask2former import resnet50_mask2former_config
from masqclip.segmenter import Segmenter
from masqclip.weights.configs import describe
from mistakes import check_count, mistakes_told

GIGA = 1e9
# What a counter that looks at modules does not see in the published code: detectron2's convolutions
# are of a class of their own, attention keeps its projections as bare parameters, and so does CLIP
# that to the words.
_UNSEEN = re.compile(
    r"pixel_level_module\.encoder\.|pixel_level_module\.decoder\.(adapter_|layer_|mask_projection)"
    r"|transformer_module\.decoder\.layers\.\d+\.(self|cross)_attn\."
    r"|vision_model\.encoder\.layers\.\d+\.self_attn\.|visual_projection"
)

NOTE = """\
Table 6 counts two operations a multiply-add, but only linear layers and convolutions that are
modules of PyTorch's own classes: no ResNet, and of attention only its MLPs. Its last two lines
include Mask2Former. This is found by arithmetic, and nowhere stated. Lines without a figure of the
paper, and the whole systems, are as they run here: what nobody reads of CLIP's last block is left
out, and Mask2Former's masks are predicted at the size that is asked for."""


@dataclass(frozen=True)
class Part:
    """A line of the table.

    Attributes:
        name: of the part.
        multiply_adds: of one picture.
        rule: operations by `papers_rule`.
        paper: GFLOPs of the paper's Table 6.
        learned: parameters.
    """

    name: str
    multiply_adds: int
    rule: int | None = None
    paper: float | None = None
    learned: int | None = None


def count(model: MasQClipModel, size: tuple[int, int] | None = None) -> float:
    """Thousand millions of multiply-adds, each counted once, from a picture to mask embeddings.

    Args:
        model: of any system; it is only described, and may lie on any device.
        size: (height, width) of the picture, which is resized and padded by the model's own rule;
            None = a square of the model's shortest edge.
    """
    twin = described(model)
    frame, inside = frame_of(twin, size)
    return multiply_adds(lambda: twin.see(frame, inside)) / GIGA


def multiply_adds(run: Callable[[], Any]) -> int:
    """Of all matrix products, convolutions and attention in a call, on any device.

    PyTorch's counter fails at some models whose parameters ask for gradients: freeze them.
    """
    counter = FlopCounterMode(
        display=False,
        custom_mapping={torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention},
    )
    with torch.no_grad(), counter:
        run()
    return int(counter.get_total_flops()) // 2


def _attention(
    query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, **__: Any
) -> int:
    """Operations of fused attention on a processor, which PyTorch does not count, from shapes."""
    *batch, rows, width = query
    pairs = rows * key[-2]
    for size in batch:
        pairs *= size
    return 2 * pairs * (width + value[-1])


@contextmanager
def papers_rule(model: nn.Module) -> Iterator[Counter[str]]:
    """Count operations as Table 6 seems to have: found by arithmetic, nowhere stated.

    Two a multiply-add, but only those of linear layers and convolutions that are modules of
    PyTorch's own classes in the published code. So the whole ResNet is missing, and of attention
    all but MLPs. With this all four figures come out, to 0.3 %.

    Args:
        model: what runs, or what that is a part of.

    Yields:
        The operations of each module, of all that runs meanwhile.
    """
    found: Counter[str] = Counter()

    def add(name: str, module: nn.Module, _: Any, output: Tensor) -> None:
        assert isinstance(module.weight, Tensor)
        found[name] += 2 * output.numel() * module.weight[0].numel()

    hooks = [
        module.register_forward_hook(partial(add, name))
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, nn.Conv2d)) and not _UNSEEN.search(name)
    ]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def described(model: MasQClipModel) -> MasQClipModel:
    """A frozen model of the same sizes on the meta device.

    What a SAM, an EoMT or a OneFormer does depends on numbers: of these it is a copy that computes.
    """
    if model.config.proposer_type not in TRAINABLE:
        return copy.deepcopy(model).float().cpu().requires_grad_(False).eval()
    return _describe(type(model), copy.deepcopy(model.config))


def _describe(system: type[MasQClipModel], config: MasQClipConfig) -> MasQClipModel:
    with torch.device("meta"):
        model: MasQClipModel = system(config)
    return model.to("meta").requires_grad_(False).eval()  # a parameter or two do not hear of it


def frame_of(model: MasQClipModel, size: tuple[int, int] | None) -> tuple[Tensor, Tensor]:
    """A black frame [1,3,H,W] for a picture of that size, all of which counts as the picture."""
    edge = model.config.shortest_edge
    _, frame = frame_sizes(*(size or (edge, edge)), model.config)
    pixels = torch.zeros(1, 3, *frame, device=model.device)
    return pixels, torch.ones_like(pixels[:, 0], dtype=torch.bool)


def halves(model: MasQClipModel, frame: Tensor, masks: Tensor) -> tuple[int, int]:
    """Multiply-adds of CLIP's pass over a picture, and of the mask class tokens' on top of it.

    Args:
        model: a MasQCLIP or MaskCLIP, frozen.
        frame: [1,3,H,W].
        masks: [1,Q,h,w] logits.
    """
    picture = multiply_adds(lambda: model.encode_image(frame))
    return picture, multiply_adds(lambda: read(model, frame, masks)) - picture


def read(model: MasQClipModel, frame: Tensor, masks: Tensor) -> Any:
    """Read masks in a picture as a MasQCLIP or MaskCLIP does; arguments as in `halves`."""
    if isinstance(model, MaskClipModel):
        return model.refine(frame, masks)
    return model.encode_and_embed(frame, masks)


def learned(model: MasQClipModel) -> int:
    """How many parameters training changes."""
    return sum(parameter.numel() for parameter in model.learned.parameters())


def system_parts(model: MasQClipModel, size: tuple[int, int] | None = None) -> Iterator[Part]:
    """What a system's parts cost for one picture, and all of it. Arguments as in `count`."""
    twin = described(model)
    frame, inside = frame_of(twin, size)
    if model.system in ("masqclip", "maskclip"):
        yield Part("proposer", multiply_adds(lambda: twin.propose(frame, inside)))
        picture, tokens = halves(twin, frame, twin.propose(frame, inside).mask_logits)
        yield Part("CLIP, image pass", picture)
        yield Part("CLIP, mask tokens", tokens)
    whole = multiply_adds(lambda: twin.see(frame, inside))
    yield Part(f"{model.system}, whole", whole, learned=learned(model))


def published_parts() -> Iterator[Part]:
    """Table 6: Mask2Former with ResNet-50, CLIP ViT-L/14 at 336 pixels, and 100 masks in it."""
    masqclip = published(MasQClipModel)
    frame, inside = frame_of(masqclip, None)
    segmenter, vision = masqclip.proposer.segmenter, masqclip.clip.vision_model
    with papers_rule(masqclip) as seen:
        exact = multiply_adds(lambda: segmenter(frame))
    proposer = seen.total()
    yield Part("Mask2Former R50, 640 x 640, as published", exact, proposer, 78.9)
    own = multiply_adds(lambda: masqclip.propose(frame, inside))
    yield Part("the same, as it runs here", own)
    square = torch.zeros(1, 3, vision.config.image_size, vision.config.image_size, device="meta")
    with papers_rule(masqclip) as seen:
        exact = multiply_adds(lambda: vision(square))
    yield Part("CLIP ViT-L/14, 336 x 336", exact, seen.total(), 233)
    picture = multiply_adds(lambda: masqclip.encode_image(frame))
    yield Part("the same, as far as masks read it", picture)
    queries = segmenter.config.num_queries
    masks = torch.zeros(1, queries, frame.shape[-2] // 4, frame.shape[-1] // 4, device="meta")
    for model, name, paper in ((published(MaskClipModel), "MaskCLIP", 542),
                               (masqclip, "MasQCLIP", 357)):  # fmt: skip
        with papers_rule(model) as seen:
            both = multiply_adds(partial(read, model, frame, masks))
        yield Part(f"{queries} masks in it: {name}", both - picture)
        rule = proposer + seen.total() + _last_mlp(model)
        yield Part(f"{name} with Mask2Former", own + both, rule, paper, learned(model))


def published(system: type[MasQClipModel]) -> MasQClipModel:
    """A MasQCLIP or MaskCLIP of the published sizes, on the meta device."""
    vision = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
              "num_attention_heads": 16, "image_size": 336, "patch_size": 14}  # fmt: skip
    text = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
            "num_attention_heads": 12}  # fmt: skip
    clip = CLIPConfig(vision_config=vision, text_config=text, projection_dim=768)
    config = MasQClipConfig(
        clip_config=describe(clip),
        proposer_config=describe(resnet50_mask2former_config()),
        shortest_edge=640,
        system=system.system,
    )
    return _describe(system, config)


def _last_mlp(model: MasQClipModel) -> int:
    """Operations of the last block's MLP for a picture's own tokens: nobody reads what comes of
    them, and here they are left out; the published code computes them."""
    vision = model.clip.vision_model
    mlp = vision.encoder.layers[-1].mlp
    tokens = vision.embeddings.num_positions
    return 2 * tokens * (mlp.fc1.weight.numel() + mlp.fc2.weight.numel())


def table(parts: Sequence[Part]) -> str:
    """Markdown; the paper's columns only where it says something."""
    papers = any(part.paper is not None for part in parts)
    heads = ["multiply-adds, G", "GFLOPs at two each"]
    heads += ["by the paper's rule", "Table 6"] if papers else []
    heads.append("learned, M")
    lines = [f"| {' | '.join(['part', *heads])} |", f"| --- |{' ---: |' * len(heads)}"]
    for part in parts:
        cells = [f"{part.multiply_adds / GIGA:#.4g}", f"{2 * part.multiply_adds / GIGA:#.4g}"]
        if papers:
            cells.append("" if part.rule is None else f"{part.rule / GIGA:.1f}")
            cells.append("" if part.paper is None else f"{part.paper:g}")
        cells.append("" if part.learned is None else f"{part.learned / 1e6:.2f}")
        lines.append(f"| {' | '.join([part.name, *cells])} |")
    return "\n".join(lines)


def main(*, model: str | None = None, size: tuple[int, int] | None = None) -> None:
    """Print what a picture costs.

    Args:
        model: A shipped model's name, or a folder of any system; the published sizes by default.
        size: Height and width of the picture; a square of the model's shortest edge by default.
    """
    with mistakes_told():
        for side in size or ():
            check_count("--size", side, 1)
        if model is None:
            parts = list(published_parts())
        else:
            found = Segmenter.from_pretrained(model, device="cpu").model
            parts = list(system_parts(found, size))
        print(table(parts))
        if model is None:
            print(f"\n{NOTE}")


if __name__ == "__main__":
    cyclopts.run(main)
