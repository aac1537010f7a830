"""The mean of two CLIPs of one training, weight by weight (Izmailov et al., 2018).

    python benchmarks/mean_weights.py clip-long clip-scenes --out clip

It is often better than either, where both go back to the same weights, as the legs of one run do;
of two trainings from nothing it is noise. `portraits.py` says whether it was worth it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import cyclopts
from transformers import CLIPModel

from masqclip.clip.loading import load_clip_and_tokenizer
from masqclip.clip.normalisation import clip_normalisation, write_normalisation
from masqclip.errors import MasqclipError


def mean_weights(first: CLIPModel, second: CLIPModel) -> CLIPModel:
    """The first one, with the mean of both's weights.

    Raises:
        MasqclipError: they are not of the same sizes.
    """
    mine, theirs = first.state_dict(), second.state_dict()
    sizes = [{name: value.shape for name, value in state.items()} for state in (mine, theirs)]
    if sizes[0] != sizes[1]:
        raise MasqclipError("the two CLIPs differ in their sizes: they are not of one training")
    first.load_state_dict(
        {
            name: (value + theirs[name]) / 2 if value.is_floating_point() else value
            for name, value in mine.items()
        }
    )
    return first


def main(
    first: Path, second: Path, *, out: Annotated[Path, cyclopts.Parameter(alias="-o")]
) -> None:
    """Write the mean of two CLIPs.

    Args:
        first: The folder of a CLIP; words and pixels are read as it reads them.
        second: The folder of another one of the same training.
        out: The folder to write.
    """
    one, tokenizer = load_clip_and_tokenizer(first)
    two, other = load_clip_and_tokenizer(second)
    if tokenizer.get_vocab() != other.get_vocab():
        raise MasqclipError(f"{first} and {second} split words differently")
    mean_weights(one, two).save_pretrained(out)
    tokenizer.save_pretrained(out)
    write_normalisation(out, clip_normalisation(first), one.config.vision_config.image_size)


if __name__ == "__main__":
    cyclopts.run(main)
