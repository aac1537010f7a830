"""How a small model tells what lies outside its world: fitted, measured, and written to its card.

    masqclip data sprites --world second --size 128 --out sprites
    python benchmarks/own_world.py sprites PHOTOGRAPHS OTHERS [--write]

Scenes of one seed fit the discriminant, scenes of a second one choose its threshold, and scenes of
others, by the studios of training and by those that no training saw, are reported, large crowds as
well as small scenes; of photographs, those in PHOTOGRAPHS fit it and those in OTHERS are reported.
Scenes and photographs are cut to squares and to other shapes alike, so that a shape tells nothing.
No note may come on the reported scenes.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from masqclip import Segmenter
from masqclip.clip.vocabulary import load_builtin
from masqclip.data.images import find_images, read_image
from masqclip.data.stickers.source import StickerSource
from masqclip.data.stickers.worlds import FAMILIES
from masqclip.hub import model_folders
from masqclip.own_world import OwnWorld, PictureTest
from masqclip.picture_statistics import fit_pictures, own_statistics, patch_statistics
from mistakes import check_count, mistakes_told

ABOUT = "it knows drawn things only. For photographs: --model photo"
FIT, CHOOSE, REPORT, REPORT_UNSEEN = 21, 22, 1000, 1001


def scenes(sources: Sequence[StickerSource], seed: int, number: int) -> Iterator[np.ndarray]:
    """Scenes as pictures [H,W,3], as many of each source."""
    share = number // len(sources)
    for world in (source.world() for source in sources):
        for first in range(0, share, 50):
            for image in world.draw(seed, range(first, min(share, first + 50))).images:
                yield image.permute(1, 2, 0).numpy()


def cut(pictures: Iterable[np.ndarray], seed: int) -> Iterator[np.ndarray]:
    """Pictures cut to a shape of chance: a third of them to squares."""
    chance = np.random.default_rng(seed)
    for picture in pictures:
        height, width = picture.shape[:2]
        aspect = chance.choice([1.0, chance.uniform(0.6, 1.0), chance.uniform(1.0, 1.6)])
        tall, wide = min(height, int(width / aspect)), min(width, int(height * aspect))
        y, x = chance.integers(height - tall + 1), chance.integers(width - wide + 1)
        yield np.ascontiguousarray(picture[y : y + tall, x : x + wide])


def photographs(folder: Path) -> Iterator[np.ndarray]:
    for path in find_images([str(folder)], recursive=True):
        yield read_image(path).pixels


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("sprites", type=Path)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("others", type=Path, nargs="+")
    parser.add_argument("--model", default="masqclip-mini")
    parser.add_argument("--scenes", type=int, default=2000, help="to fit, and to choose by")
    parser.add_argument("--write", action="store_true", help="into the card, if it holds")
    given = parser.parse_args()
    check_count("--scenes", given.scenes, 4)  # two of each kind, that there is a spread
    for folder in (given.photographs, *given.others):
        find_images([str(folder)], recursive=True)  # a wrong one is told before the work
    segmenter = Segmenter.from_pretrained(given.model, device="cpu")
    world = [StickerSource(given.sprites, kind=kind) for kind in ("scenes", "crowds")]
    unseen = {
        family: [replace(one, studios=FAMILIES[family]) for one in world]
        for family in ("fluent", "openmoji")
    }
    block = len(segmenter.model.clip.vision_model.encoder.layers) // 2

    def found(pictures: Iterable[np.ndarray]) -> list[torch.Tensor]:
        return [
            patch_statistics(segmenter.encode(picture).tokens, block)[0] for picture in pictures
        ]

    own = found(cut(scenes(world, FIT, given.scenes), 0))
    strange = [one for n in range(3) for one in found(cut(photographs(given.photographs), 10 + n))]
    weights, _ = fit_pictures(own, strange)
    at_home = [float(one @ weights) for one in found(cut(scenes(world, CHOOSE, given.scenes), 2))]
    abroad = [float(one @ weights) for one in found(cut(photographs(given.photographs), 3))]
    # Above all of its own pictures, by a twentieth of the way to the others.
    threshold = max(at_home) + 0.05 * max(0.0, float(np.median(abroad)) - max(at_home))
    rounded = tuple(float(f"{weight:.4g}") for weight in weights.tolist())
    names = {word for c in load_builtin("stickers2").categories for word in c.prompt_readings}
    test = PictureTest(block, rounded, float(f"{threshold:.5g}"))
    segmenter.world = OwnWorld(given.model, frozenset(names), ABOUT, test)

    print(f"block {block}, threshold {test.threshold:.4f}; {len(names)} names")
    failed = False
    groups = {
        f"scenes of seed {REPORT}": (scenes(world, REPORT, 500), True),
        f"scenes of seed {REPORT}, cut": (cut(scenes(world, REPORT, 500), 4), True),
        **{f"scenes by {family}": (scenes(sources, REPORT_UNSEEN, 500), False)
           for family, sources in unseen.items()},
        **{f"photographs {n}": (photographs(f), False) for n, f in enumerate(given.others)},
        **{f"photographs {n}, cut": (cut(photographs(f), 5), False)
           for n, f in enumerate(given.others)},
    }  # fmt: skip
    for name, (pictures, home) in groups.items():
        noted = [bool(segmenter.encode(picture).image.notes) for picture in pictures]
        failed |= home and any(noted)
        print(f"{name:28} {sum(noted):4} of {len(noted):4} noted")
    words = load_builtin("stickers2")
    failed |= bool(segmenter.notes_on(words, "panoptic"))
    encoded = segmenter.encode(next(scenes(world[:1], REPORT, 1)))
    started = time.perf_counter()
    for _ in range(200):
        segmenter.world.picture_note(own_statistics(segmenter.world, encoded.tokens))
    print(f"a picture's test takes {(time.perf_counter() - started) * 5:.3f} ms")
    if given.write and not failed:
        segmenter.world.save(model_folders(given.model)[0])
    return int(failed)


if __name__ == "__main__":
    with mistakes_told():
        sys.exit(main())
