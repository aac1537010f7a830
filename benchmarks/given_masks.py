"""How annotated masks are named by what CLIP's patches count to them: three rules, by size.

    python benchmarks/given_masks.py --root heldout

- `hidden`: a patch is seen or not, by the rule for proposals on the mask as logits (published).
- `touched`: seen where any covered pixel falls into it.
- `weights`: counts by how much of the mask is in and beside it (`clip/mask_coverage.py`).

Each rule names every mask of the folder among all its categories, by the model as it is and
untuned. The share that gets the right name is printed, by the masks' area in pixels.
"""

from __future__ import annotations

import math
from pathlib import Path

import cyclopts
import torch
import torch.nn.functional as F
from torch import Tensor

from masqclip.cli.console import Steps
from masqclip.data.open_coco import open_coco
from masqclip.encoding import EncodedImage
from masqclip.segmenter import Segmenter
from masqclip.training.tune import dataset_vocabulary

AREAS = {"below 16²": (0, 256), "16² to 32²": (256, 1024), "32² and more": (1024, math.inf)}


def rules(segmenter: Segmenter, encoded: EncodedImage, masks: Tensor) -> dict[str, Tensor]:
    """What each rule lets masks [N,H,W] see of CLIP's patches, [N,P]."""
    size = (encoded.image.height, encoded.image.width)
    weights = segmenter.model.patch_weights(
        masks, size=size, resized=encoded.resized, frame=encoded.frame_size
    )
    inside = F.interpolate(masks[None].float(), encoded.resized, mode="bilinear", antialias=True)[0]
    right, below = (encoded.frame_size[axis] - encoded.resized[axis] for axis in (1, 0))
    logits = F.pad(inside - 0.5, (0, right, 0, below), value=-1.0)
    # At least the smallest number above the threshold where anything is covered at all.
    touched = torch.where(logits > -0.5, logits.clamp(min=1e-6), logits)
    visible = segmenter.model.visible_patches
    return {
        "hidden": visible(logits[None])[0],
        "touched": visible(touched[None])[0],
        "weights": weights,
    }


def main(root: Path, *, model: str = "masqclip-mini", images: int = 0) -> None:
    """Measure.

    Args:
        root: a folder or file of COCO annotations.
        model: a model of this package, a folder or a Hub name.
        images: the first so many pictures; all by default.
    """
    torch.set_grad_enabled(False)
    dataset = open_coco(root)
    words = dataset_vocabulary(dataset)
    row = {number: i for i, number in enumerate(sorted(dataset.categories.kept))}
    kept = {"tuned": Segmenter.from_pretrained(model), "untuned": Segmenter.from_pretrained(model)}
    kept["untuned"].model.queries.start(kept["untuned"].model.clip.vision_model, "clip")
    right: dict[tuple[str, str], list[Tensor]] = {}
    areas: list[Tensor] = []
    number = min(images or len(dataset), len(dataset))
    with Steps("naming", total=number) as steps:
        for index in range(number):
            sample = dataset[index]
            masks, truth = torch.from_numpy(sample.masks), sample.category_ids.tolist()
            wanted = torch.tensor([row[category] for category in truth])
            if len(masks) == 0:
                continue
            areas.append(masks.flatten(1).sum(1))
            encoded = kept["tuned"].encode(sample.image)
            found = rules(kept["tuned"], encoded, masks)
            for state, segmenter in kept.items():
                text = segmenter.text.embed_vocabulary(words)
                for rule, patches in found.items():
                    embeddings = segmenter.model.embed_patches(encoded.tokens, patches[None])
                    named = segmenter.model.classify(embeddings, text, len(words))[0].argmax(-1)
                    right.setdefault((state, rule), []).append(named == wanted)
            steps.show(index + 1)
    size = torch.cat(areas)
    print(f"| rule | all | {' | '.join(AREAS)} |\n| --- | ---: | {'---: | ' * len(AREAS)}")
    for (state, rule), hits in right.items():
        share = torch.cat(hits).float()
        parts = [share[(size >= low) & (size < high)].mean() for low, high in AREAS.values()]
        figures = " | ".join(f"{100 * float(part):.1f}" for part in (share.mean(), *parts))
        print(f"| {state}, {rule} | {figures} |")


if __name__ == "__main__":
    cyclopts.run(main)
