"""Does a CLIP of the miniature world name single things, by studios it knows and by strangers?

    python benchmarks/portraits.py CLIP --sprites sprites
    python benchmarks/portraits.py CLIP --sprites sprites --size 48 --count 2000 --names stickers

A portrait is one thing on one or two kinds of stuff, drawn from a seed that no training used; it is
shown as a window in the middle of CLIP's input, and CLIP chooses among the names of the whole
world, things and stuff, as bare words. Studios are told apart: those of the training together, and
each family that was held out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import cyclopts
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPModel, PreTrainedTokenizerBase

from masqclip.data.files import write_atomically
from masqclip.data.stickers.source import StickerSource, list_of
from masqclip.data.stickers.worlds import FAMILIES
from masqclip.errors import MasqclipError
from masqclip.towers.loading import load_clip_and_tokenizer
from masqclip.towers.normalisation import OPENAI, ClipNormalisation, clip_normalisation
from masqclip.training.windows import normalise, window_features
from mistakes import check_count, mistakes_told

#: No training on the worlds uses this seed.
SEED = 1000


@torch.inference_mode()
def embed_names(
    clip: CLIPModel, tokenizer: PreTrainedTokenizerBase, names: Sequence[str]
) -> Tensor:
    """[K,D] unit vectors of bare names."""
    tokens = tokenizer(list(names), padding=True, return_tensors="pt")["input_ids"]
    pooled = clip.text_model(input_ids=tokens.to(clip.device)).pooler_output
    return F.normalize(clip.text_projection(pooled).float(), dim=-1)


@torch.inference_mode()
def portrait_ranks(
    clip: CLIPModel,
    tokenizer: PreTrainedTokenizerBase,
    source: StickerSource,
    *,
    count: int,
    scale: ClipNormalisation = OPENAI,
) -> Tensor:
    """How many names score higher than the right one, for each portrait; 0 is named rightly.

    Args:
        clip: in inference mode.
        tokenizer: its own.
        source: which portraits; its names are the choice, and all stuff of its world.
        count: how many.
        scale: CLIP's own of pixels.

    Raises:
        MasqclipError: portraits are larger than what CLIP sees, or no whole number of its patches.
    """
    world = source.world(clip.device)
    choice = StickerSource(sprites=source.sprites, names=source.names).drawings()
    names = [*sorted(set(choice.names)), *world.stuff]
    words = embed_names(clip, tokenizer, names)
    vision = clip.config.vision_config
    if world.settings.size > vision.image_size:
        raise MasqclipError(
            f"--size {world.settings.size}: this CLIP sees {vision.image_size} pixels; give no more"
        )
    if world.settings.size % vision.patch_size:  # what is over would be cut off
        raise MasqclipError(
            f"--size {world.settings.size}: give a multiple of {vision.patch_size}, the side of "
            "this CLIP's patches"
        )
    place = (vision.image_size - world.settings.size) // 2 // vision.patch_size
    ranks = []
    for first in range(0, count, 200):
        plans = world.plan(source.seed, range(first, min(first + 200, count)))
        pixels = normalise(world.paint(plans)[0].float() / 255, scale)
        seen = window_features(clip, pixels, torch.tensor([place, place]))
        scores = F.normalize(seen.float(), dim=-1) @ words.T
        right = torch.tensor(
            [names.index(world.sprites.names[plan.sprites[0]]) for plan in plans.scenes],
            device=scores.device,
        )
        ranks.append((scores > scores.gather(1, right[:, None])).sum(1))
    return torch.cat(ranks).cpu()


def accuracies(ranks: Tensor) -> dict[str, float]:
    """Top 1 and top 5, in percent."""
    return {f"top {k}": round(100 * float((ranks < k).float().mean()), 1) for k in (1, 5)}


def strangers(source: StickerSource) -> Mapping[str, StickerSource]:
    """The families that the sprite cache holds and no training does unless it is told to."""
    there = StickerSource(sprites=source.sprites).drawings().world
    return {
        family: replace(source, studios=studios)
        for family, studios in FAMILIES.items()
        if set(studios) <= set(there.unseen)
    }


def main(
    clips: list[Path],
    *,
    sprites: Path = Path("sprites"),
    names: str = "",
    studios: str = "",
    size: int = 48,
    count: int = 1000,
    out: Annotated[Path | None, cyclopts.Parameter(alias="-o")] = None,
) -> None:
    """Print the accuracy of CLIPs on portraits.

    Args:
        clips: Folders of CLIPs.
        sprites: The sprite cache of the second world, or the first.
        names: The things to choose among; all of the world unless given.
        studios: The studios of training, between commas; the world's own unless given.
        size: The side of a portrait in pixels.
        count: Portraits of each kind.
        out: A JSON file to write.
    """
    check_count("--count", count, 1)
    check_count("--size", size, 16)
    known = StickerSource(
        sprites=sprites,
        kind="portraits",
        size=size,
        names=list_of(names),
        studios=list_of(studios),
        seed=SEED,
    )
    groups = {"studios of training": known, **strangers(known)}
    found = {}
    for folder in clips:
        clip, tokenizer = load_clip_and_tokenizer(folder)
        scale = clip_normalisation(folder)
        found[str(folder)] = {
            group: accuracies(
                portrait_ranks(clip.eval(), tokenizer, source, count=count, scale=scale)
            )
            for group, source in groups.items()
        }
        print(folder, json.dumps(found[str(folder)]))
    if out is not None:
        write_atomically(out, (json.dumps(found, indent=1) + "\n").encode())


if __name__ == "__main__":
    with mistakes_told():
        cyclopts.run(main)
